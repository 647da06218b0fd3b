//! The contents of a newly opened chain.

use std::collections::BTreeSet;

use bitcoin::BlockHash;
use bitcoin::block::Header;
use bitcoinkernel::BlockTreeEntry;

use crate::branches::{self, SideHeader};
use crate::convert;
use crate::kernel::Manager;
use crate::stored::{self, OnDisk};

/// Blocks of the best branch that are looked up on disk at the start: one download window.
pub const STORED_WINDOW: usize = 1_024;

/// The kernel's headers and stored blocks at the start.
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
    /// on disk. After a crash some may be missing.
    pub stored: Vec<BlockHash>,
    /// The headers of side branches, a parent before its children. Some may be missing, which the
    /// kernel may still report.
    pub side_branches: Vec<SideHeader>,
}

impl InitialChain {
    /// Blocks on disk that are not in the active chain, as far as is known.
    pub(crate) fn on_disk(&self) -> impl Iterator<Item = BlockHash> {
        let side_branches = self.side_branches.iter().filter(|side| side.stored);
        let side_branches = side_branches.map(|side| side.header.block_hash());
        self.stored.iter().copied().chain(side_branches)
    }

    /// `journaled`: blocks of the journal; `tips`: tips of side branches.
    pub(crate) fn read(
        dir: &std::path::Path,
        manager: &Manager<'_>,
        journaled: &[BlockHash],
        tips: &[BlockHash],
    ) -> InitialChain {
        let tip = manager.active_chain().tip();
        let active = ending_at(&tip, -1);
        let best = manager.best_entry().unwrap_or(tip);
        let fork = stored::fork_height(manager, &best);
        let OnDisk { ahead, all } = stored::load(dir, manager);
        let journaled = journaled.iter().copied();
        let on_disk: BTreeSet<BlockHash> = journaled.chain(all).collect();
        let ends = on_disk.iter().chain(tips).copied();
        InitialChain {
            active,
            best_branch: ending_at(&best, fork),
            fork_height: u32::try_from(fork).unwrap_or(0),
            stored: ahead,
            side_branches: branches::read(manager, ends, &on_disk),
        }
    }
}

/// Headers of the entries from above height `below` up to `end`, lowest first.
fn ending_at(end: &BlockTreeEntry<'_>, below: i32) -> Vec<Header> {
    let count = usize::try_from(end.height() - below).unwrap_or(0);
    let mut headers = Vec::with_capacity(count);
    let mut entry = *end;
    while entry.height() > below {
        headers.push(convert::header(&entry));
        // Not for the genesis block: the kernel logs an error that it has no parent.
        let parent = (entry.height() > 0).then(|| entry.prev());
        let Some(parent) = parent.flatten() else {
            break;
        };
        entry = parent;
    }
    headers.reverse();
    headers
}
