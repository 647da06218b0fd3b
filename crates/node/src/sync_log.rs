//! Tells the log where headers come from, and new tips of the chain.
//!
//! While the chain is far behind, progress lines show its growth; blocks are logged one
//! by one when it has caught up. Peers decide how often either happens, so each has
//! [`PER_MINUTE`] lines a minute, and what was left out is counted.

use std::time::Duration;

use bitcoin::BlockHash;
use handfast_proto::Now;
use handfast_proto::headers::HeaderTree;
use handfast_proto::lifecycle::ConnId;
use handfast_proto::sync::{SourceChange, SyncManager as Machine};
use handfast_proto::text::count;

use crate::peer_log::{MINUTE, PER_MINUTE};

/// Headers without their blocks with which a node still follows its chain.
const NEW_BLOCKS: u32 = 3;

/// See the module.
#[derive(Debug)]
pub(crate) struct SyncLog {
    source: Option<ConnId>,
    /// Of the active chain, when it was looked at last.
    tip: (BlockHash, u32),
    since: Duration,
    sources: u32,
    tips: u32,
    left_out: (u64, u64),
}

impl SyncLog {
    pub(crate) fn new(machine: &Machine) -> Self {
        Self {
            source: machine.sync_peer(),
            tip: tip(machine.tree()),
            since: Duration::ZERO,
            sources: 0,
            tips: 0,
            left_out: (0, 0),
        }
    }

    /// Looks at the machine after a step.
    pub(crate) fn stepped(&mut self, now: Now, machine: &Machine) {
        let (source, new) = (machine.sync_peer(), tip(machine.tree()));
        if source == self.source && new == self.tip {
            return;
        }
        self.tick(now.mono);
        if source != self.source {
            self.source = source;
            self.source_changed(now, machine);
        }
        if new != self.tip {
            let old = std::mem::replace(&mut self.tip, new);
            // The progress lines tell of the rest.
            let behind = machine.tree().best_header().height.saturating_sub(new.1);
            if !machine.initial_block_download(now) && behind <= NEW_BLOCKS {
                self.tip_changed(machine.tree(), old);
            }
        }
    }

    /// When [`SyncLog::tick`] is due.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        (self.left_out != (0, 0)).then_some(self.since + MINUTE)
    }

    /// Begins a new minute when the last one is over, and tells what it left out.
    pub(crate) fn tick(&mut self, mono: Duration) {
        if mono < self.since + MINUTE {
            return;
        }
        self.since = mono;
        (self.sources, self.tips) = (0, 0);
        if let (blocks, changes) = std::mem::take(&mut self.left_out)
            && (blocks, changes) != (0, 0)
        {
            let height = self.tip.1;
            let parts = [
                (blocks, "new tip"),
                (changes, "change of the headers' source"),
            ];
            let parts = parts.into_iter().filter(|(left_out, _)| *left_out > 0);
            let parts: Vec<String> = parts
                .map(|(left_out, what)| count_of(left_out, what))
                .collect();
            let text = parts.join(", ");
            tracing::info!(height, "left out in the last minute: {text}");
        }
    }

    fn source_changed(&mut self, now: Now, machine: &Machine) {
        if self.sources == PER_MINUTE {
            self.left_out.1 += 1;
            return;
        }
        self.sources += 1;
        let state = machine.state(now);
        let reason = state.source_changes.last();
        let reason = reason.map_or("", |SourceChange { reason, .. }| reason.as_str());
        match &state.source {
            Some(source) => {
                tracing::info!(peer = source.id.0, remote = %source.remote, "headers come from this peer now ({reason})");
            }
            None => tracing::info!("headers come from no peer now ({reason})"),
        }
    }

    fn tip_changed(&mut self, tree: &HeaderTree, old: (BlockHash, u32)) {
        if self.tips == PER_MINUTE {
            self.left_out.0 += 1;
            return;
        }
        self.tips += 1;
        let (hash, height) = self.tip;
        let left = tree
            .fork_point(&old.0, &hash)
            .map_or(0, |fork| old.1.saturating_sub(fork.height));
        if left > 0 {
            let left = count(left, "block");
            tracing::info!(height, %hash, "new tip on another branch; {left} left the chain");
        } else {
            tracing::info!(height, %hash, "new tip");
        }
    }
}

/// `1 change of the headers' source`, `2 changes of the headers' source`.
fn count_of(number: u64, what: &str) -> String {
    match what.split_once(" of ") {
        Some((noun, whose)) => format!("{} of {whose}", count(number, noun)),
        None => count(number, what),
    }
}

fn tip(tree: &HeaderTree) -> (BlockHash, u32) {
    let tip = tree.tip();
    (tip.hash, tip.height)
}
