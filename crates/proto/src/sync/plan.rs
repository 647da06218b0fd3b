//! The way to the chain that is being downloaded, and the window on it.

use std::collections::{BTreeSet, VecDeque};

use bitcoin::BlockHash;

use crate::headers::HeaderTree;

use super::peer::Known;

/// The way to the block with most work that a live peer has shown.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) target: Known,
    /// Height of the last block before the window; it and all before it are here.
    pub(super) base: u32,
    /// The blocks after it, in order.
    pub(super) window: VecDeque<BlockHash>,
    /// Heights in the window that are neither here nor asked for.
    pub(super) missing: BTreeSet<u32>,
}

impl Plan {
    /// A plan from the last block that `target` and the active chain share.
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

    /// The height after the window.
    pub(super) fn end(&self) -> u32 {
        self.base + 1 + self.window.len() as u32
    }

    /// The height of a block if it lies in the window.
    pub(super) fn position(&self, height: u32, hash: &BlockHash) -> bool {
        height > self.base
            && self
                .window
                .get((height - self.base - 1) as usize)
                .is_some_and(|at| at == hash)
    }

    /// Whether blocks remain beyond the window.
    pub(super) fn goes_on(&self) -> bool {
        self.end() <= self.target.height
    }
}
