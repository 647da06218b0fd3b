//! The way to the chain that is being downloaded, and the window on it.
//!
//! # Which chain
//!
//! The one with most work that a peer has shown, as long as somebody gives its blocks. A
//! header costs its sender nothing once the block was found, so that blocks can be shown
//! and kept. Hence the order of [`SyncManager::plan_downloads`], and the account of blocks
//! that somebody was *late* with: a chain whose next block is one of them comes after
//! any other that has more work than ours, whoever shows it. Asking the peers that are
//! late is not enough: others can come and show the same. (Core asks each peer for the
//! blocks of its own best chain, and so asks for both.)

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use bitcoin::BlockHash;

use crate::headers::{Entry, HeaderTree, Status};

use super::manager::SyncManager;
use super::peer::{Known, Peer};

/// Late blocks remembered; with more, some are forgotten.
const MAX_LATE: usize = 64;

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

impl SyncManager {
    /// Follows what peers have shown: the plan leads to the most work among it. A chain
    /// whose next block somebody was late with, a peer that keeps us waiting for its blocks,
    /// or that no longer keeps the first that we lack, counts only if nobody else has shown
    /// more than we have, so that blocks withheld or pruned never keep us from an honest chain.
    pub(super) fn plan_downloads(&mut self, now: Duration) {
        if !std::mem::take(&mut self.download.retarget) {
            return;
        }
        let tree = &self.tree;
        let late = &mut self.download.late;
        late.retain(|hash| tree.get(hash).is_some_and(|at| at.status == Status::Header));
        let tip = self.tree.tip();
        let current = self.download.plan.as_ref().map(|plan| plan.target.hash);
        let best = self
            .peers
            .values()
            .filter(|peer| peer.serves_blocks())
            .filter_map(|peer| peer.known.best.map(|best| (peer, best)))
            .filter(|(_, best)| best.work > tip.work && best.work >= self.config.minimum_work)
            .max_by_key(|(peer, best)| {
                let keeps = self.keeps_first_missing(peer, best);
                let prompt = !peer.blocks.overdue;
                let on_time = !self.is_withheld(best);
                (
                    keeps,
                    on_time,
                    prompt,
                    best.work,
                    Some(best.hash) == current,
                )
            })
            .map(|(_, best)| best);
        match (&mut self.download.plan, best) {
            (plan, None) => *plan = None,
            (Some(plan), Some(best)) if plan.target.hash == best.hash => {}
            (Some(plan), Some(best)) if self.tree.is_ancestor(&plan.target.hash, &best.hash) => {
                plan.target = best;
            }
            (plan, Some(best)) => *plan = Some(Plan::new(&self.tree, best)),
        }
        self.download.advance(&self.tree);
        self.measure_reach();
        if self.peers.values().any(|peer| peer.blocks.overdue) {
            // Somebody may be able now to give what another is late with.
            self.wake_at(now);
        }
    }

    /// Whether the peer can give the next block on the way to its best one. A pruned peer
    /// that cannot would lead us to where nobody may be able to.
    fn keeps_first_missing(&self, peer: &Peer, best: &Known) -> bool {
        let lowest = peer.lowest_kept();
        lowest == 0
            || self
                .first_missing(best)
                .is_none_or(|first| lowest <= first.height)
    }

    /// Whether somebody was late with the next block on the way there.
    fn is_withheld(&self, best: &Known) -> bool {
        let late = &self.download.late;
        let first = || self.first_missing(best);
        !late.is_empty() && first().is_some_and(|first| late.contains(&first.hash))
    }

    /// Somebody was late with this block.
    pub(super) fn note_late(&mut self, hash: BlockHash) {
        let late = &mut self.download.late;
        late.insert(hash);
        if late.len() > MAX_LATE {
            late.pop_first();
        }
        self.download.retarget = true;
    }

    /// How far along the plan each peer can give blocks.
    fn measure_reach(&mut self) {
        self.download.capable = 0;
        let plan = self.download.plan.as_ref();
        for peer in self.peers.values_mut() {
            let best = peer.known.best.filter(|_| peer.serves_blocks());
            let shared = plan
                .zip(best)
                .and_then(|(plan, best)| self.tree.fork_point(&plan.target.hash, &best.hash));
            peer.blocks.reach = shared.map_or(0, |shared| shared.height);
            peer.blocks.floor = peer.lowest_kept();
            if plan.is_some_and(|plan| peer.blocks.reach > plan.base) {
                self.download.capable += 1;
            }
        }
    }

    /// The first block on the way from our chain to this one that is not here.
    pub(super) fn first_missing(&self, best: &Known) -> Option<Entry> {
        let tip = self.tree.tip().hash;
        let mut height = self.tree.fork_point(&best.hash, &tip)?.height + 1;
        loop {
            let chunk = self.tree.branch(&best.hash, height, 64);
            height = chunk.last()?.height + 1;
            let mut chunk = chunk.into_iter();
            if let Some(entry) = chunk.find(|entry| entry.status == Status::Header) {
                return Some(entry);
            }
        }
    }
}
