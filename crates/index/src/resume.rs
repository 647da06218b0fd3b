//! The height at which indexing continues.

use bitcoin::BlockHash;

use crate::store::{Numbered, StoreError};

/// A snapshot of the active chain.
pub trait ActiveChain {
    /// The height of the tip.
    fn tip_height(&self) -> u32;
    /// The block at this height.
    fn at_height(&self, height: u32) -> Option<BlockHash>;
    /// Whether the chain has this block.
    fn contains(&self, hash: &BlockHash) -> bool;
}

/// The height of the first block to be indexed: all below it are indexed, and lookups return
/// them and not disconnected blocks. `last`: the block that was indexed last; `earlier` returns
/// the block with a number.
///
/// A block is indexed after all its ancestors. Of a transaction that two branches share the
/// index has the block that was indexed last, so blocks at the heights of all blocks
/// disconnected since are indexed again.
pub(crate) fn resume(
    chain: &impl ActiveChain,
    last: Option<Numbered>,
    earlier: impl Fn(u32) -> Result<Numbered, StoreError>,
) -> Result<u32, StoreError> {
    /// The genesis block's transaction is not indexed, since it cannot be spent.
    const FIRST: u32 = 1;
    let Some(mut block) = last else {
        return Ok(FIRST);
    };
    let mut lowest_left = u32::MAX;
    while !chain.contains(&block.hash) {
        lowest_left = lowest_left.min(block.height);
        if block.number == 0 {
            return Ok(FIRST);
        }
        block = earlier(block.number - 1)?;
    }
    let next = block.height.saturating_add(1);
    Ok(next.min(lowest_left).max(FIRST))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::hash;

    struct Chain(Vec<u8>);

    impl ActiveChain for Chain {
        fn tip_height(&self) -> u32 {
            self.0.len() as u32
        }
        fn at_height(&self, height: u32) -> Option<BlockHash> {
            let index = (height as usize).checked_sub(1)?;
            self.0.get(index).map(|id| hash(*id))
        }
        fn contains(&self, wanted: &BlockHash) -> bool {
            self.0.iter().any(|id| hash(*id) == *wanted)
        }
    }

    /// An index: ids and heights in the order of indexing.
    #[derive(Default)]
    struct Indexed(Vec<(u8, u32)>);

    impl Indexed {
        fn numbered(&self, number: usize) -> Numbered {
            let (id, height) = self.0[number];
            Numbered {
                number: number as u32,
                hash: hash(id),
                height,
            }
        }

        fn resume(&self, chain: &Chain) -> u32 {
            let last = self.0.len().checked_sub(1).map(|last| self.numbered(last));
            resume(chain, last, |number| Ok(self.numbered(number as usize))).expect("no disk")
        }

        fn follow(&mut self, chain: &Chain) {
            for height in self.resume(chain)..=chain.tip_height() {
                self.0.push((chain.0[height as usize - 1], height));
            }
        }
    }

    #[test]
    fn an_empty_index_begins_above_genesis_and_a_complete_one_continues_at_its_end() {
        let mut index = Indexed::default();
        assert_eq!(index.resume(&Chain(vec![1, 2])), 1);
        index.follow(&Chain(vec![1, 2]));
        assert_eq!(index.resume(&Chain(vec![1, 2])), 3);
        assert_eq!(index.resume(&Chain(vec![9, 8])), 1);
    }

    #[test]
    fn after_a_reorganization_and_back_the_blocks_of_both_heights_are_indexed_again() {
        let mut index = Indexed::default();
        index.follow(&Chain(vec![1, 2, 30]));
        index.follow(&Chain(vec![1, 2, 31, 41]));
        // What 30 and 31 share was last found in 31.
        assert_eq!(index.resume(&Chain(vec![1, 2, 30, 40, 50])), 3);
    }

    proptest! {
        /// `chains`: each is truncated at a height and extended by new blocks.
        #[test]
        fn the_active_block_of_a_height_is_the_last_one_indexed_at_that_height(
            chains in prop::collection::vec((0_usize..6, 1_usize..6), 1..8),
        ) {
            let (mut index, mut next) = (Indexed::default(), 0_u8);
            let mut earlier: Vec<Vec<u8>> = vec![vec![]];
            for (number, (cut, grow)) in chains.into_iter().enumerate() {
                // Every second time an earlier branch continues.
                let mut chain = earlier[number / 2].clone();
                if number % 2 == 0 {
                    chain.truncate(cut);
                }
                for _ in 0..grow {
                    next += 1;
                    chain.push(next);
                }
                index.follow(&Chain(chain.clone()));
                for (id, height) in chain.iter().zip(1_u32..) {
                    let last = index.0.iter().rev().find(|(_, at)| *at == height);
                    prop_assert_eq!(last, Some(&(*id, height)));
                }
                earlier.push(chain);
            }
        }
    }
}
