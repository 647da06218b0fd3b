//! Blocks and headers that RPC and the miner offer. They go the same road as those of
//! peers; the kernel's verdict is the answer.

use std::time::Duration;

use bitcoin::BlockHash;
use bitcoin::block::Header;
use handfast_wire::RawBlock;

use crate::headers::{Status, check_pow};
use crate::lifecycle::ConnId;

use super::manager::{Step, SyncManager};
use super::{BlockOutcome, Effect, Kept, Reject, RejectKind, SubmitResult};

/// A block that is with the kernel.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    pub(super) header: Header,
    pub(super) bytes: usize,
    /// When it was handed over, monotonic.
    pub(super) since: Duration,
    /// We offered it ourselves.
    own: bool,
    /// The kernel was asked to keep it.
    keep: bool,
    /// The first header that goes along with it and that the kernel had not been given
    /// before.
    pub(super) brings: Option<BlockHash>,
    /// Who waits for the verdict.
    pub(super) tickets: Vec<u64>,
    /// Submitted while the kernel has it as one that is not to be kept.
    pub(super) again: Option<RawBlock>,
    /// What another peer sent meanwhile, should this be bad data.
    pub(super) copy: Option<(ConnId, RawBlock)>,
}

impl Pending {
    pub(super) fn new(
        origin: Option<ConnId>,
        header: Header,
        bytes: usize,
        since: Duration,
        keep: bool,
    ) -> Self {
        Self {
            header,
            bytes,
            since,
            own: origin.is_none(),
            keep,
            brings: None,
            tickets: Vec::new(),
            again: None,
            copy: None,
        }
    }
}

fn refused(kind: RejectKind, reason: &str) -> SubmitResult {
    SubmitResult::Rejected(Reject {
        kind,
        reason: reason.to_owned(),
    })
}

impl SyncManager {
    fn answer(&mut self, step: &mut Step, ticket: u64, result: SubmitResult) {
        // Who asked must see in the snapshot what the answer says.
        if std::mem::take(&mut self.tree_changed) {
            step.effects.push(Effect::TreeChanged);
        }
        step.effects.push(Effect::Answer { ticket, result });
    }

    /// What can be said of a header without the kernel: `None` when it must judge.
    fn judge_header(&self, hash: &BlockHash, header: &Header) -> Option<SubmitResult> {
        let Some(parent) = self.tree.get(&header.prev_blockhash) else {
            return Some(refused(RejectKind::MissingPrev, "prev-blk-not-found"));
        };
        if self.tree.contains(hash) {
            return None;
        }
        if check_pow(header, self.config.pow.limit()).is_err() {
            return Some(refused(RejectKind::InvalidHeader, "high-hash"));
        }
        let invalid = parent.status == Status::Invalid;
        invalid.then(|| refused(RejectKind::InvalidPrev, "bad-prevblk"))
    }

    /// Offers a block. What is known of it already is answered at once, as Core does:
    /// on disk is `duplicate`, whether it was ever connected or not. But that answer too
    /// acknowledges it: while not all blocks are kept the kernel is asked first.
    pub(super) fn submit(&mut self, step: &mut Step, ticket: u64, block: RawBlock) {
        let hash = block.hash;
        if let Some(pending) = self.download.pending_mut(&hash) {
            pending.tickets.push(ticket);
            if !pending.keep {
                pending.again = Some(block);
            }
            return;
        }
        let known = match self.tree.get(&hash).map(|entry| entry.status) {
            Some(Status::Connected | Status::Stored) => {
                self.kept.then_some(SubmitResult::Duplicate)
            }
            Some(Status::Invalid) => Some(SubmitResult::DuplicateInvalid),
            Some(Status::Header) | None => self.judge_header(&hash, &block.header),
        };
        if let Some(result) = known {
            return self.answer(step, ticket, result);
        }
        self.give_to_kernel(step, block, None);
        self.wait_for_verdict(hash, vec![ticket]);
    }

    /// These wait for the verdict about a block that was given to the kernel just now.
    pub(super) fn wait_for_verdict(&mut self, hash: BlockHash, tickets: Vec<u64>) {
        let pending = self.download.pending_mut(&hash);
        pending.expect("just given").tickets.extend(tickets);
    }

    /// Whether a block with this header would be the next one. What was mined is stale else.
    #[must_use]
    pub fn is_on_tip(&self, header: &Header) -> bool {
        self.tree.tip().hash == header.prev_blockhash
    }

    /// The verdict about a block that somebody waits for. Core `submitblock`.
    pub(super) fn answer_submitted(
        &mut self,
        step: &mut Step,
        hash: BlockHash,
        pending: &Pending,
        outcome: &BlockOutcome,
        kept: &Kept,
    ) {
        let connected = self.tree.in_active_chain(&hash);
        for (at, ticket) in pending.tickets.iter().enumerate() {
            let first = pending.own && at == 0;
            let result = match outcome {
                BlockOutcome::Stored | BlockOutcome::Duplicate if let Kept::Failed(why) = kept => {
                    SubmitResult::Failed(why.clone())
                }
                BlockOutcome::Stored if connected && first => SubmitResult::Accepted,
                BlockOutcome::Stored if first => SubmitResult::Inconclusive,
                // Another brought it at the same time.
                BlockOutcome::Stored if !connected => SubmitResult::DuplicateInconclusive,
                BlockOutcome::Stored | BlockOutcome::Duplicate => SubmitResult::Duplicate,
                BlockOutcome::Rejected(reject) => match reject.kind {
                    RejectKind::CachedInvalid => SubmitResult::DuplicateInvalid,
                    _ => SubmitResult::Rejected(reject.clone()),
                },
                BlockOutcome::Failed(why) => SubmitResult::Failed(why.clone()),
            };
            self.answer(step, *ticket, result);
        }
    }

    /// Offers a header.
    pub(super) fn submit_header(&mut self, step: &mut Step, ticket: u64, header: Header) {
        let hash = header.block_hash();
        let known = match self.tree.get(&hash).map(|entry| entry.status) {
            Some(Status::Invalid) => Some(SubmitResult::DuplicateInvalid),
            Some(Status::Header | Status::Stored | Status::Connected) => {
                Some(SubmitResult::Accepted)
            }
            None => self.judge_header(&hash, &header),
        };
        if let Some(result) = known {
            return self.answer(step, ticket, result);
        }
        let result = match self.store_headers(step, &[header], &[hash]) {
            Ok(_) => SubmitResult::Accepted,
            Err(reject) => SubmitResult::Rejected(reject),
        };
        self.answer(step, ticket, result);
    }
}
