//! The way to one chain that peers have shown, and the window on it.

use std::collections::{BTreeSet, VecDeque};

use bitcoin::BlockHash;

use crate::headers::{HeaderTree, Status};

use super::super::known_work::Known;

/// Blocks beyond the last one without a gap that may be asked for. Core
/// `BLOCK_DOWNLOAD_WINDOW`.
pub(in crate::sync) const WINDOW: usize = 1_024;
/// The window is extended by that many blocks at a time (or to the plan's end).
const WINDOW_CHUNK: usize = 64;

/// Tells plans apart; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::sync) struct PlanId(pub(super) u64);

/// The way to a block that a live peer has shown.
#[derive(Clone, Debug)]
pub(in crate::sync) struct Plan {
    target: Known,
    /// Height of the last block before the window; it and all before it are here.
    base: u32,
    /// The blocks after it, in order.
    window: VecDeque<BlockHash>,
    /// Heights in the window that are neither here nor asked for.
    missing: BTreeSet<u32>,
}

impl Plan {
    /// A plan from the last block that `target` and the active chain share. Its window is
    /// empty until it is [advanced](Plan::advance).
    pub(super) fn new(tree: &HeaderTree, target: Known) -> Self {
        let tip = tree.tip().hash;
        let fork = tree
            .fork_point(&target.hash, &tip)
            .expect("both are in the tree");
        Self {
            target,
            base: fork.height,
            window: VecDeque::new(),
            missing: BTreeSet::new(),
        }
    }

    /// The block that it leads to.
    pub(in crate::sync) fn target(&self) -> Known {
        self.target
    }

    /// The plan leads on to this block, which builds on its target.
    pub(super) fn retarget(&mut self, target: Known) {
        self.target = target;
    }

    /// Height of the last block before the window.
    pub(in crate::sync) fn base(&self) -> u32 {
        self.base
    }

    /// The height after the window.
    pub(in crate::sync) fn end(&self) -> u32 {
        self.base + 1 + self.window.len() as u32
    }

    /// The block at `height`, if that lies in the window.
    pub(super) fn at(&self, height: u32) -> Option<BlockHash> {
        let at = height.checked_sub(self.base + 1)?;
        self.window.get(at as usize).copied()
    }

    /// Whether a block lies in the window.
    pub(in crate::sync) fn has(&self, height: u32, hash: &BlockHash) -> bool {
        self.at(height).is_some_and(|at| at == *hash)
    }

    /// Heights that are neither here nor asked for.
    pub(in crate::sync) fn missing(&self) -> &BTreeSet<u32> {
        &self.missing
    }

    #[cfg(test)]
    pub(super) fn forget_missing(&mut self) {
        self.missing.clear();
    }

    /// A block of the window is to be asked for.
    pub(super) fn put_back(&mut self, height: u32, hash: &BlockHash) {
        if self.has(height, hash) {
            self.missing.insert(height);
        }
    }

    /// A block is not to be asked for any more.
    pub(super) fn take_out(&mut self, height: u32, hash: &BlockHash) {
        if self.has(height, hash) {
            self.missing.remove(&height);
        }
    }

    /// Whether the window begins with this block.
    pub(super) fn begins_with(&self, hash: &BlockHash) -> bool {
        self.window.front() == Some(hash)
    }

    /// Moves the window past blocks whose data is here, and extends it towards the target.
    /// `is_wanted`: whether a block that is not here is to be asked for.
    pub(super) fn advance(&mut self, tree: &HeaderTree, is_wanted: &dyn Fn(&BlockHash) -> bool) {
        loop {
            while let Some(hash) = self.window.front() {
                if tree.get(hash).is_none_or(|entry| is_open(entry.status)) {
                    break;
                }
                self.window.pop_front();
                self.base += 1;
                self.missing.remove(&self.base);
            }
            self.extend(tree, is_wanted);
            // A long stretch that is all here may fill more than one window.
            let first = self.window.front().and_then(|hash| tree.get(hash));
            if first.is_none_or(|entry| is_open(entry.status)) {
                return;
            }
        }
    }

    fn extend(&mut self, tree: &HeaderTree, is_wanted: &dyn Fn(&BlockHash) -> bool) {
        let left = (self.target.height + 1).saturating_sub(self.end()) as usize;
        let space = left.min(WINDOW - self.window.len());
        if space == 0 || (space < WINDOW_CHUNK && space < left) {
            return;
        }
        for entry in tree.branch(&self.target.hash, self.end(), space) {
            self.window.push_back(entry.hash);
            if is_open(entry.status) && is_wanted(&entry.hash) {
                self.missing.insert(entry.height);
            }
        }
    }
}

/// Whether the data of a block with this status is not here.
fn is_open(status: Status) -> bool {
    match status {
        Status::Header | Status::Invalid => true,
        Status::Stored | Status::Connected => false,
    }
}
