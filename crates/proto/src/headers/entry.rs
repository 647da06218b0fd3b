//! One header of the tree: as it is shown, and as it is stored.

use bitcoin::block::{Header, Version};
use bitcoin::{BlockHash, CompactTarget, TxMerkleNode, Work};

/// The status of the block of a header.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Status {
    /// Only the header; no block data.
    Header,
    /// The data is on disk; the block is not connected (yet).
    Stored,
    /// In the active chain, or once in it: fully validated.
    Connected,
    /// The kernel refused this block or header, or one of its ancestors.
    Invalid,
}

/// A header of the tree, with its height and work.
///
/// A copy, not a view into the tree: the tree stores headers packed (no previous hash, a short
/// work) because a mainnet node holds 900,000 of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Hash of the header.
    pub hash: BlockHash,
    /// The header as received.
    pub header: Header,
    /// Number of blocks before this one; 0 for genesis.
    pub height: u32,
    /// Work of this block and all before it. Saturates at 2^128 - 1, which no real chain can reach.
    pub work: Work,
    /// The status of the block.
    pub status: Status,
}

/// Position of a record in the tree, in the order of arrival: a parent's is
/// always below its children's.
pub(super) type Slot = u32;

/// A header as stored. 112 bytes; the status is stored elsewhere, so that changing it never copies
/// a chunk of these.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    pub(super) hash: BlockHash,
    merkle_root: TxMerkleNode,
    pub(super) work: u128,
    version: Version,
    pub(super) time: u32,
    pub(super) bits: CompactTarget,
    nonce: u32,
    pub(super) height: u32,
    pub(super) parent: Slot,
    /// An ancestor further back (itself for genesis); see `walk`.
    pub(super) jump: Slot,
}

const _: () = assert!(size_of::<Record>() == 112);

impl Record {
    pub(super) fn new(
        hash: BlockHash,
        header: &Header,
        height: u32,
        work: u128,
        parent: Slot,
        jump: Slot,
    ) -> Self {
        Self {
            hash,
            merkle_root: header.merkle_root,
            work,
            version: header.version,
            time: header.time,
            bits: header.bits,
            nonce: header.nonce,
            height,
            parent,
            jump,
        }
    }

    pub(super) fn header(&self, prev_blockhash: BlockHash) -> Header {
        Header {
            version: self.version,
            prev_blockhash,
            merkle_root: self.merkle_root,
            time: self.time,
            bits: self.bits,
            nonce: self.nonce,
        }
    }
}

/// `work` as the type the rest of the node compares.
pub(super) fn to_work(work: u128) -> Work {
    let mut bytes = [0u8; 32];
    bytes[16..].copy_from_slice(&work.to_be_bytes());
    Work::from_be_bytes(bytes)
}

/// `work` as the tree stores it, saturating at 2^128 - 1.
pub(super) fn from_work(work: Work) -> u128 {
    let bytes = work.to_be_bytes();
    let (high, low) = bytes.split_at(16);
    if high.iter().any(|byte| *byte != 0) {
        return u128::MAX;
    }
    u128::from_be_bytes(low.try_into().expect("the lower half of 32 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_survives_the_short_form_and_saturates_above_it() {
        for work in [0, 1, 0x0001_0001_0001_0001, u128::MAX] {
            assert_eq!(from_work(to_work(work)), work);
        }
        let mut bytes = [0u8; 32];
        bytes[15] = 1;
        assert_eq!(from_work(Work::from_be_bytes(bytes)), u128::MAX);
    }
}
