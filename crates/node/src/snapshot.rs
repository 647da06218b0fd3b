//! Publishing the chain to readers that never wait.

use std::sync::Arc;
use std::time::Duration;

use handfast_proto::Now;
use handfast_proto::sync::SyncManager as Machine;

use crate::shared::Shared;
use crate::view::ChainView;

/// Least time between two snapshots, unless a caller waits for the answer of a
/// submission. A snapshot shares its nodes with the tree, and the tree copies
/// those it changes next: cheap, but not at every one of 14,000 blocks a second.
const LEAST: Duration = Duration::from_millis(10);

/// Publishes the tree after it changed, at most every [`LEAST`].
#[derive(Debug)]
pub(crate) struct Publisher {
    shared: Arc<Shared>,
    /// When the change that is not published yet is to be.
    due: Option<Duration>,
    last: Duration,
}

impl Publisher {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            due: None,
            last: Duration::ZERO,
        }
    }

    /// The tree changed; publishes now if the last time is long enough ago.
    pub(crate) fn changed(&mut self, now: Now, machine: &Machine) {
        if self.due.is_none() {
            self.due = Some(now.mono.max(self.last + LEAST));
        }
        self.tick(now, machine);
    }

    /// When [`Publisher::tick`] is due.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.due
    }

    pub(crate) fn tick(&mut self, now: Now, machine: &Machine) {
        if self.due.is_some_and(|due| due <= now.mono) {
            self.publish(now, machine);
        }
    }

    /// Publishes a change that is not published yet: an answer is about to tell of it.
    pub(crate) fn flush(&mut self, now: Now, machine: &Machine) {
        if self.due.is_some() {
            self.publish(now, machine);
        }
    }

    /// Publishes whatever there is.
    pub(crate) fn publish(&mut self, now: Now, machine: &Machine) {
        self.due = None;
        self.last = now.mono;
        let tree = machine.tree().clone();
        self.shared.tip_moved(tree.tip().height);
        let initial_block_download = machine.initial_block_download(now);
        // Only SyncManager writes the tree; phase and warnings have other writers.
        self.shared.publish(|old| ChainView {
            tree: tree.clone(),
            open: true,
            initial_block_download,
            size_on_disk: self.shared.size_on_disk(),
            ..ChainView::clone(old)
        });
    }
}
