//! What a freshly opened chain holds.

use bitcoin::BlockHash;
use bitcoin::block::Header;
use bitcoinkernel::{BlockTreeEntry, ChainstateManager};

use crate::{convert, record, stored};

/// Blocks of the best branch whose presence on disk is told at the start: one
/// download window.
pub const STORED_WINDOW: usize = 1_024;

/// The kernel's knowledge at the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitialChain {
    /// Headers of the active chain, from height 0 to its tip.
    pub active: Vec<Header>,
    /// Headers after [`fork_height`](Self::fork_height) up to the best header;
    /// empty when that is the tip. They follow `active[fork_height]`.
    pub best_branch: Vec<Header>,
    /// Height of the last active block that the best header descends from.
    pub fork_height: u32,
    /// Those of the first [`STORED_WINDOW`] blocks of `best_branch` whose data is
    /// on disk. After a crash it may miss some.
    pub stored: Vec<BlockHash>,
    /// Headers of blocks on disk beside these two, as far as the journal has them, a
    /// parent before its children. Nobody relied on a parent that is not among these.
    pub beside: Vec<Header>,
}

impl InitialChain {
    /// Blocks on disk that are not in the active chain, as far as is known.
    pub(crate) fn on_disk(&self) -> impl Iterator<Item = BlockHash> {
        let beside = self.beside.iter().map(Header::block_hash);
        self.stored.iter().copied().chain(beside)
    }

    pub(crate) fn read(
        dir: &std::path::Path,
        manager: &ChainstateManager,
        journaled: &[BlockHash],
    ) -> InitialChain {
        let tip = manager.active_chain().tip();
        let active = ending_at(&tip, -1);
        let best = manager.best_entry().unwrap_or(tip);
        let fork = stored::fork_height(manager, &best);
        InitialChain {
            active,
            best_branch: ending_at(&best, fork),
            fork_height: u32::try_from(fork).expect("heights are not negative"),
            stored: stored::load(dir, manager),
            beside: beside(manager, &best, journaled),
        }
    }
}

/// Headers of those blocks that the kernel has, and that are neither in the active chain
/// nor on the way to `best`, lowest first.
fn beside(
    manager: &ChainstateManager,
    best: &BlockTreeEntry<'_>,
    journaled: &[BlockHash],
) -> Vec<Header> {
    let active = manager.active_chain();
    let mut found = vec![];
    for hash in journaled {
        let (entry, _) =
            record::during(|| manager.get_block_tree_entry(&convert::kernel_hash(hash)));
        let Some(entry) = entry else { continue };
        let there = best.ancestor(entry.height());
        let on_best = there.is_some_and(|there| convert::hash(&there.block_hash()) == *hash);
        if !on_best && !active.contains(&entry) {
            found.push((entry.height(), convert::header(&entry)));
        }
    }
    found.sort_by_key(|(height, _)| *height);
    found.into_iter().map(|(_, header)| header).collect()
}

/// Headers of the entries from above height `below` up to `end`, lowest first.
fn ending_at(end: &BlockTreeEntry<'_>, below: i32) -> Vec<Header> {
    let count = usize::try_from(end.height() - below).expect("`below` is an ancestor's height");
    let mut headers = Vec::with_capacity(count);
    let mut entry = *end;
    while entry.height() > below {
        headers.push(convert::header(&entry));
        // Not asked of the genesis block: the kernel logs that it has none.
        match entry.height() {
            0 => break,
            _ => entry = entry.prev().expect("only the genesis block has no parent"),
        }
    }
    headers.reverse();
    headers
}
