//! Blocks that come though no peer was asked for them.

use handfast_wire::RawBlock;

use crate::headers::{HeaderTree, Status, check_pow};
use crate::lifecycle::{DoneReason, Misbehavior};
use crate::time::Now;

use super::SyncConfig;
use super::chain::is_from_the_future;

/// An unasked block is taken only up to that many blocks above the tip. Core
/// `MIN_BLOCKS_TO_KEEP`.
const MAX_UNASKED_HEIGHT: u32 = 288;
/// An unasked block is dropped when that many blocks wait for the engine.
pub(super) const MAX_UNASKED_BACKLOG: usize = 16;

/// Whether a block that no peer was asked for is worth looking at.
///
/// # Errors
/// What its sender is disconnected for. A header without proof of work costs the sender the
/// connection, like one in `headers`: making it costs nothing, and no honest node has it.
pub(super) fn is_worth_looking_at(
    config: &SyncConfig,
    tree: &HeaderTree,
    now: Now,
    block: &RawBlock,
) -> Result<bool, DoneReason> {
    if let Err(error) = check_pow(&block.header, config.pow.limit()) {
        return Err(DoneReason::InvalidHeader(error.into()));
    }
    let Some(parent) = tree.get(&block.header.prev_blockhash) else {
        let block = block.hash;
        return Err(DoneReason::Misbehaving(Misbehavior::UnaskedOrphan {
            block,
        }));
    };
    let tip = tree.tip();
    // Its header would be refused: it is no offence, and may come again later.
    let too_new = is_from_the_future(now, block.header.time);
    let work = parent.work + block.header.work();
    Ok(parent.status != Status::Invalid
        && !too_new
        && work > tip.work
        && work >= config.minimum_work
        && parent.height < tip.height + MAX_UNASKED_HEIGHT)
}

#[cfg(test)]
mod tests {
    use handfast_wire::Network;

    use super::*;
    use crate::headers::HeaderError;
    use crate::testing::chains::{Blocks, mine};

    /// The tree of a chain of ten blocks, and the chain.
    fn ours() -> (HeaderTree, Blocks) {
        let blocks = Blocks::new(10, 1);
        (blocks.tree(), blocks)
    }

    fn config() -> SyncConfig {
        SyncConfig::new(&Network::Regtest, None, 1)
    }

    /// The block, judged when it is `age` seconds old.
    fn judged(tree: &HeaderTree, block: &RawBlock, age: i64) -> Result<bool, DoneReason> {
        let unix = i64::from(block.header.time) + age;
        let now = Now {
            unix: u32::try_from(unix).expect("a time of the test"),
            ..Now::default()
        };
        is_worth_looking_at(&config(), tree, now, block)
    }

    #[test]
    fn only_a_block_with_more_work_than_the_tip_and_of_no_future_time_is_looked_at() {
        let (mut tree, blocks) = ours();
        let next = blocks.fork(10, 1, 2);
        assert_eq!(judged(&tree, next.at(11), 0), Ok(true));
        assert_eq!(judged(&tree, next.at(11), -7_300), Ok(false), "too new");
        let beside = blocks.fork(9, 1, 2);
        assert_eq!(judged(&tree, beside.at(10), 0), Ok(false), "no more work");
        let behind_an_invalid_one = blocks.fork(10, 2, 3);
        let (bad, after) = (behind_an_invalid_one.at(11), behind_an_invalid_one.at(12));
        tree.insert(bad.header).expect("its parent is known");
        tree.mark_invalid(&bad.hash);
        assert_eq!(judged(&tree, after, 0), Ok(false), "on an invalid block");
    }

    #[test]
    fn a_chain_with_less_work_than_the_minimum_is_not_looked_at() {
        let (tree, blocks) = ours();
        let next = blocks.fork(10, 2, 2);
        let block = next.at(11);
        let work = tree.tip().work + block.header.work();
        let judged = |minimum_work| {
            let config = SyncConfig {
                minimum_work,
                ..config()
            };
            let unix = block.header.time;
            let now = Now {
                unix,
                ..Now::default()
            };
            is_worth_looking_at(&config, &tree, now, block)
        };
        assert_eq!(judged(work), Ok(true));
        assert_eq!(judged(work + next.at(12).header.work()), Ok(false));
    }

    #[test]
    fn a_block_far_above_the_tip_is_not_looked_at() {
        let (mut tree, blocks) = ours();
        let far = blocks.fork(10, 289, 2);
        for header in &far.headers()[10..] {
            tree.insert(*header).expect("its parent is known");
        }
        assert_eq!(judged(&tree, far.at(10 + 288), 0), Ok(true));
        assert_eq!(judged(&tree, far.at(10 + 289), 0), Ok(false));
    }

    #[test]
    fn an_orphan_and_a_header_without_proof_of_work_cost_the_connection() {
        let (tree, blocks) = ours();
        let orphan = blocks.fork(10, 2, 2).at(12).clone();
        let block = orphan.hash;
        assert_eq!(
            judged(&tree, &orphan, 0),
            Err(DoneReason::Misbehaving(Misbehavior::UnaskedOrphan {
                block
            }))
        );
        let mut header = mine(&orphan.header, orphan.header.time + 1, 2);
        while check_pow(&header, config().pow.limit()).is_ok() {
            header.nonce += 1;
        }
        let unsolved = crate::testing::chains::block(header, 300);
        let judged = judged(&tree, &unsolved, 0);
        assert!(
            matches!(
                judged,
                Err(DoneReason::InvalidHeader(HeaderError::ProofOfWork(_)))
            ),
            "its proof of work comes first: {judged:?}"
        );
    }
}
