//! Blocks that come though nobody was asked for them.

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

/// Whether a block that nobody was asked for is worth looking at.
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
