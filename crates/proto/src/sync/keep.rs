//! Which blocks are to survive the end of the process, and what waits for that.
//!
//! The kernel forgets what it stored since its last flush, up to 70 minutes, when the
//! process is killed. So a block that somebody may rely on is *to be kept*: written to
//! the journal before its verdict is reported. That is
//!
//! * a block that we offer ourselves (RPC, miner): its answer acknowledges it;
//! * a block near the tip: initial block download is over, or the block is among the
//!   last [`MAX_BLOCKS_TO_ANNOUNCE`] of the chain that is being downloaded, so that it
//!   may be announced when it becomes our tip.
//!
//! Blocks of initial sync can be had again, and are not. What follows:
//!
//! * No tip is announced unless everything that the kernel has stored is kept. The
//!   kernel's thread tells with every verdict, and when that changes without one.
//! * No submission is answered with success before its block is kept.

use bitcoin::BlockHash;

use crate::lifecycle::ConnId;
use crate::time::Now;

use super::announce::MAX_BLOCKS_TO_ANNOUNCE;
use super::manager::{Step, SyncManager};
use super::submit::Pending;
use super::{BlockOutcome, Kept};

impl SyncManager {
    /// Whether a block that is given to the kernel now is to be kept. See the module.
    pub(super) fn is_to_be_kept(&self, now: Now, hash: &BlockHash, origin: Option<ConnId>) -> bool {
        if origin.is_none() || !self.initial_block_download(now) {
            return true;
        }
        let height = self.tree.get(hash).map_or(0, |entry| entry.height);
        let plan = self.download.main_plan();
        plan.is_none_or(|plan| plan.target.height <= height + MAX_BLOCKS_TO_ANNOUNCE)
    }

    /// A verdict told whether all blocks are kept.
    pub(super) fn now_kept(&mut self, kept: &Kept) {
        self.kept = *kept == Kept::Yes;
    }

    /// All blocks are kept now, without a verdict: the tip may be announced.
    pub(super) fn all_kept(&mut self) {
        self.kept = true;
    }

    /// Answers those who submitted the block. One that was submitted while the kernel had
    /// it as a block of initial sync goes to the kernel once more, to be kept.
    pub(super) fn answer_or_keep(
        &mut self,
        step: &mut Step,
        hash: BlockHash,
        mut pending: Pending,
        outcome: &BlockOutcome,
        kept: &Kept,
    ) {
        let has_it = matches!(outcome, BlockOutcome::Stored | BlockOutcome::Duplicate);
        match pending
            .again
            .take()
            .filter(|_| has_it && *kept != Kept::Yes)
        {
            Some(block) => {
                self.give_to_kernel(step, block, None);
                self.wait_for_verdict(hash, pending.tickets);
            }
            None => self.answer_submitted(step, hash, &pending, outcome, kept),
        }
    }
}
