//! Headers of blocks that were refused before the kernel got them.
//!
//! Queued blocks may build on a refused one, and were submitted without its header, since that
//! was queued already. One mutated copy of a block must not cost its descendants.

use std::collections::HashMap;

use bitcoin::BlockHash;
use bitcoin::block::Header;

/// Stored headers at most: two download windows. With one more all are dropped, and their
/// descendants are refused because their parent is missing, and downloaded again.
const MAX_HEADERS: usize = 2_048;

/// Headers by hash. See the module.
#[derive(Default)]
pub(crate) struct Skipped {
    headers: HashMap<BlockHash, Header>,
}

impl Skipped {
    pub(crate) fn add(&mut self, headers: impl IntoIterator<Item = Header>) {
        for header in headers {
            if self.headers.len() >= MAX_HEADERS {
                self.headers.clear();
            }
            self.headers.insert(header.block_hash(), header);
        }
    }

    /// Removes and returns the headers up to `to`, oldest first.
    pub(crate) fn take_ancestors(&mut self, to: &BlockHash) -> Vec<Header> {
        let mut ancestors = Vec::new();
        let mut at = *to;
        while let Some(header) = self.headers.remove(&at) {
            at = header.prev_blockhash;
            ancestors.push(header);
        }
        ancestors.reverse();
        ancestors
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
    fn the_ancestors_of_a_block_are_returned_once_and_in_order() {
        let headers = chain(5);
        let mut skipped = Skipped::default();
        skipped.add([headers[3], headers[1], headers[2]]);
        assert_eq!(skipped.take_ancestors(&headers[4].block_hash()), []);
        assert_eq!(
            skipped.take_ancestors(&headers[2].block_hash()),
            headers[1..3]
        );
        assert_eq!(
            skipped.take_ancestors(&headers[3].block_hash()),
            headers[3..4]
        );
        assert_eq!(skipped.take_ancestors(&headers[3].block_hash()), []);
    }

    #[test]
    fn no_more_headers_than_the_bound_are_stored() {
        let mut skipped = Skipped::default();
        for header in chain(3 * MAX_HEADERS as u32) {
            skipped.add([header]);
            assert!(skipped.headers.len() <= MAX_HEADERS);
        }
    }
}
