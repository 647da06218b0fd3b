//! The tips of all branches, as `getchaintips` shows them.

use bitcoin::BlockHash;

use super::entry::{Slot, Status};
use super::tree::HeaderTree;

/// The status of a branch. The names are those of Core's `getchaintips`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum TipStatus {
    /// The tip of the active chain.
    Active,
    /// Fully validated, but not (any more) in the active chain.
    ValidFork,
    /// All blocks are on disk, but were never connected.
    ValidHeaders,
    /// Not all blocks of the branch are on disk.
    HeadersOnly,
    /// The branch contains at least one invalid block.
    Invalid,
}

impl TipStatus {
    /// The word that `getchaintips` answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::ValidFork => "valid-fork",
            Self::ValidHeaders => "valid-headers",
            Self::HeadersOnly => "headers-only",
            Self::Invalid => "invalid",
        }
    }
}

/// The tip of a branch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChainTip {
    /// Its last header.
    pub hash: BlockHash,
    /// Height of the last header.
    pub height: u32,
    /// Number of headers that are not in the active chain; 0 for the active tip.
    pub branch_len: u32,
    /// The status of the branch.
    pub status: TipStatus,
}

impl HeaderTree {
    /// All headers without children, and the tip of the active chain; the highest first, among
    /// equals the one seen first. Scans every header.
    pub fn chain_tips(&self) -> Vec<ChainTip> {
        let mut has_child = vec![false; self.len()];
        for record in self.records.iter().skip(1) {
            has_child[record.parent as usize] = true;
        }
        has_child[self.tip_slot() as usize] = false;
        let mut tips: Vec<_> = (0..self.len() as Slot)
            .filter(|slot| !has_child[*slot as usize])
            .map(|slot| self.chain_tip(slot))
            .collect();
        tips.sort_by_key(|tip| std::cmp::Reverse(tip.height));
        tips
    }

    fn chain_tip(&self, slot: Slot) -> ChainTip {
        let record = self.record(slot);
        let fork = self.record(self.fork_slot(slot, self.tip_slot()));
        ChainTip {
            hash: record.hash,
            height: record.height,
            branch_len: record.height - fork.height,
            status: self.tip_status(slot),
        }
    }

    fn tip_status(&self, slot: Slot) -> TipStatus {
        if slot == self.tip_slot() {
            return TipStatus::Active;
        }
        match self.status(slot) {
            Status::Invalid => TipStatus::Invalid,
            Status::Connected => TipStatus::ValidFork,
            Status::Header => TipStatus::HeadersOnly,
            Status::Stored if self.all_stored(slot) => TipStatus::ValidHeaders,
            Status::Stored => TipStatus::HeadersOnly,
        }
    }

    /// Whether no block between here and the last connected one is missing.
    fn all_stored(&self, mut slot: Slot) -> bool {
        loop {
            match self.status(slot) {
                Status::Connected => return true,
                Status::Stored => slot = self.record(slot).parent,
                Status::Header | Status::Invalid => return false,
            }
        }
    }
}
