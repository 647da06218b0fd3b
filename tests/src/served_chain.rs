//! A chain as a scripted peer serves it.

use std::collections::BTreeMap;

use bitcoin::BlockHash;
use bitcoin::block::Header;
use bitcoin::hashes::Hash;
use handfast_wire::limits::MAX_HEADERS;
use handfast_wire::{Locator, Network, RawBlock};

/// Headers from genesis on and the blocks of those that have one.
#[derive(Clone, Debug)]
pub struct ServedChain {
    headers: Vec<Header>,
    heights: BTreeMap<BlockHash, usize>,
    blocks: BTreeMap<BlockHash, RawBlock>,
}

impl ServedChain {
    /// Genesis and the blocks from height 1 on.
    pub fn new(network: &Network, blocks: impl IntoIterator<Item = RawBlock>) -> Self {
        let mut chain = Self::of_headers(vec![network.genesis()]);
        chain.extend(blocks);
        chain
    }

    /// Headers without blocks, genesis first.
    pub fn of_headers(headers: Vec<Header>) -> Self {
        let heights = headers
            .iter()
            .enumerate()
            .map(|(height, header)| (header.block_hash(), height))
            .collect();
        Self {
            headers,
            heights,
            blocks: BTreeMap::new(),
        }
    }

    /// Adds blocks on top. They need not be valid.
    pub fn extend(&mut self, blocks: impl IntoIterator<Item = RawBlock>) {
        for block in blocks {
            self.heights.insert(block.hash, self.headers.len());
            self.headers.push(block.header);
            self.blocks.insert(block.hash, block);
        }
    }

    /// Takes off what is above `height`. The blocks remain to be had.
    pub fn truncate(&mut self, height: usize) {
        for header in self.headers.drain(height + 1..) {
            self.heights.remove(&header.block_hash());
        }
    }

    /// Height of the last header.
    pub fn height(&self) -> usize {
        self.headers.len() - 1
    }

    /// Hash of the last header.
    pub fn tip(&self) -> BlockHash {
        self.headers.last().expect("genesis is there").block_hash()
    }

    /// The last header.
    pub fn tip_header(&self) -> Header {
        *self.headers.last().expect("genesis is there")
    }

    /// A block.
    pub fn block(&self, hash: &BlockHash) -> Option<&RawBlock> {
        self.blocks.get(hash)
    }

    /// What answers a `getheaders`: after the first hash that is known, at most 2,000.
    pub fn headers_after(&self, locator: &Locator) -> Vec<Header> {
        let start = locator
            .hashes
            .iter()
            .find_map(|hash| self.heights.get(hash))
            .map_or(1, |height| height + 1);
        let stop = match self.heights.get(&locator.stop) {
            Some(height) if locator.stop != BlockHash::all_zeros() => height + 1,
            _ => self.headers.len(),
        };
        let end = stop.min(start + MAX_HEADERS).max(start);
        self.headers.get(start..end).unwrap_or_default().to_vec()
    }
}
