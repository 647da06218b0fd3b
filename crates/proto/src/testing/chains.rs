//! Chains with trivial proof of work.

use bitcoin::block::{Header, Version};
use bitcoin::consensus::serialize;
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, CompactTarget, TxMerkleNode};
use bytes::Bytes;
use handfast_wire::{Network, RawBlock};

use crate::headers::HeaderTree;

/// The bits of regtest: every second hash suffices.
pub const EASY: u32 = 0x207f_ffff;

/// Blocks from genesis on, in order.
#[derive(Clone, Debug)]
pub struct Blocks {
    /// Regtest's.
    pub genesis: Header,
    /// From height 1 on.
    pub blocks: Vec<RawBlock>,
}

/// A header on `parent` that meets its target; `salt` makes it differ from others.
#[must_use]
pub fn mine(parent: &Header, time: u32, salt: u64) -> Header {
    mine_at(parent, time, salt, EASY)
}

/// The same with these bits, whatever the chain requires.
#[must_use]
pub fn mine_at(parent: &Header, time: u32, salt: u64, bits: u32) -> Header {
    let mut root = [0; 32];
    root[..8].copy_from_slice(&salt.to_le_bytes());
    let mut header = Header {
        version: Version::NO_SOFT_FORK_SIGNALLING,
        prev_blockhash: parent.block_hash(),
        merkle_root: TxMerkleNode::from_byte_array(root),
        time,
        bits: CompactTarget::from_consensus(bits),
        nonce: 0,
    };
    while !header.target().is_met_by(header.block_hash()) {
        header.nonce += 1;
    }
    header
}

/// Where the data of a block of these chains is marked: the byte after the header.
const MARK: usize = 80;

/// Whether the data of a block is valid, apart from its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Data {
    /// The data that the header commits to.
    True = 0,
    /// Other transactions than the header commits to: the merkle root differs.
    Mutated = 0xf1,
    /// Bad in a way that the engine finds before it checks the merkle root, so that nothing ties it
    /// to the header: `bad-signet-blksig`, `bad-cb-missing` of a 64-byte transaction.
    BadBeforeMerkleRoot = 0xf2,
}

/// The same header with other data. It needs no other proof of work, which is the point.
#[must_use]
pub fn forge(block: &RawBlock, data: Data) -> RawBlock {
    let mut bytes = block.bytes.to_vec();
    bytes[MARK] = data as u8;
    RawBlock {
        bytes: Bytes::from(bytes),
        ..block.clone()
    }
}

/// The mark of this block's data.
#[must_use]
pub fn data_of(block: &RawBlock) -> Data {
    match block.bytes.get(MARK) {
        Some(0xf1) => Data::Mutated,
        Some(0xf2) => Data::BadBeforeMerkleRoot,
        Some(_) | None => Data::True,
    }
}

/// A block of `size` bytes; the fake kernel checks its header, and the byte after it.
#[must_use]
pub fn block(header: Header, size: usize) -> RawBlock {
    let mut bytes = serialize(&header);
    bytes.resize(size.max(81), 0);
    RawBlock {
        hash: header.block_hash(),
        header,
        bytes: Bytes::from(bytes),
    }
}

impl Blocks {
    /// `count` blocks on regtest's genesis, ten minutes apart from its time on.
    #[must_use]
    pub fn new(count: usize, salt: u64) -> Self {
        let genesis = Network::Regtest.genesis();
        let mut chain = Self {
            genesis,
            blocks: Vec::new(),
        };
        chain.grow(count, salt);
        chain
    }

    /// `count` more blocks.
    pub fn grow(&mut self, count: usize, salt: u64) {
        for _ in 0..count {
            let parent = self.tip();
            let header = mine(&parent, parent.time + 600, salt);
            self.blocks.push(block(header, 240));
        }
    }

    /// A branch from `height` on, `count` blocks long.
    #[must_use]
    pub fn fork(&self, height: usize, count: usize, salt: u64) -> Self {
        let blocks = self.blocks[..height].to_vec();
        let mut chain = Self {
            genesis: self.genesis,
            blocks,
        };
        chain.grow(count, salt);
        chain
    }

    /// The last header.
    #[must_use]
    pub fn tip(&self) -> Header {
        self.blocks
            .last()
            .map_or(self.genesis, |block| block.header)
    }

    /// Its hash.
    #[must_use]
    pub fn tip_hash(&self) -> BlockHash {
        self.tip().block_hash()
    }

    /// The block at this height, from 1 on.
    #[must_use]
    pub fn at(&self, height: u32) -> &RawBlock {
        &self.blocks[height as usize - 1]
    }

    /// All headers except that of genesis.
    #[must_use]
    pub fn headers(&self) -> Vec<Header> {
        self.blocks.iter().map(|block| block.header).collect()
    }

    /// A tree in which this chain is the active one.
    #[must_use]
    pub fn tree(&self) -> HeaderTree {
        let mut tree = HeaderTree::new(self.genesis);
        for block in &self.blocks {
            tree.insert_hashed(block.hash, block.header).unwrap();
            tree.mark_stored(&block.hash);
            tree.connect(&block.hash);
        }
        tree
    }
}
