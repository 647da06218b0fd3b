//! Headers that went along with blocks which were refused before the kernel had them.
//!
//! Blocks that build on a refused one may wait behind it, and were handed over without its
//! header, since that was on its way. One bad copy of a block must not cost those behind it.

use std::collections::HashMap;

use bitcoin::BlockHash;
use bitcoin::block::Header;

/// Headers remembered: two windows of download. With one more all are forgotten, and the
/// blocks behind them are refused because their parent is missing, and fetched again.
const MOST: usize = 2_048;

/// Headers by hash. See the module.
#[derive(Default)]
pub(crate) struct Skipped {
    headers: HashMap<BlockHash, Header>,
}

impl Skipped {
    pub(crate) fn remember(&mut self, headers: impl IntoIterator<Item = Header>) {
        for header in headers {
            if self.headers.len() >= MOST {
                self.headers.clear();
            }
            self.headers.insert(header.block_hash(), header);
        }
    }

    /// The headers that lead to `to`, itself included, oldest first; remembered no more.
    pub(crate) fn take_way_to(&mut self, to: &BlockHash) -> Vec<Header> {
        let mut way = Vec::new();
        let mut at = *to;
        while let Some(header) = self.headers.remove(&at) {
            at = header.prev_blockhash;
            way.push(header);
        }
        way.reverse();
        way
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::block::Version;
    use bitcoin::hashes::Hash;
    use bitcoin::{CompactTarget, TxMerkleNode};

    use super::*;

    fn chain(count: u32) -> Vec<Header> {
        let mut prev = BlockHash::all_zeros();
        let headers = (0..count).map(|nonce| {
            let header = Header {
                version: Version::TWO,
                prev_blockhash: prev,
                merkle_root: TxMerkleNode::all_zeros(),
                time: 0,
                bits: CompactTarget::from_consensus(0),
                nonce,
            };
            prev = header.block_hash();
            header
        });
        headers.collect()
    }

    #[test]
    fn the_way_to_a_block_is_given_once_and_in_order() {
        let headers = chain(5);
        let mut skipped = Skipped::default();
        skipped.remember([headers[3], headers[1], headers[2]]);
        assert_eq!(skipped.take_way_to(&headers[4].block_hash()), []);
        assert_eq!(skipped.take_way_to(&headers[2].block_hash()), headers[1..3]);
        assert_eq!(skipped.take_way_to(&headers[3].block_hash()), headers[3..4]);
        assert_eq!(skipped.take_way_to(&headers[3].block_hash()), []);
    }

    #[test]
    fn no_more_than_the_bound_is_remembered() {
        let mut skipped = Skipped::default();
        for header in chain(3 * MOST as u32) {
            skipped.remember([header]);
            assert!(skipped.headers.len() <= MOST);
        }
    }
}
