//! What a freshly opened chain holds.

use bitcoin::BlockHash;
use bitcoin::block::Header;
use bitcoinkernel::{BlockTreeEntry, ChainstateManager};

use crate::{convert, stored};

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
}

impl InitialChain {
    pub(crate) fn read(dir: &std::path::Path, manager: &ChainstateManager) -> InitialChain {
        let tip = manager.active_chain().tip();
        let active = ending_at(&tip, -1);
        let best = manager.best_entry().unwrap_or(tip);
        let fork = stored::fork_height(manager, &best);
        InitialChain {
            active,
            best_branch: ending_at(&best, fork),
            fork_height: u32::try_from(fork).expect("heights are not negative"),
            stored: stored::load(dir, manager),
        }
    }
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
