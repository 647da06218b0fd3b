//! What the kernel's answers do to the tree and to peers.
//!
//! # A verdict about data is none about a hash
//!
//! A hash commits to a block's header, not to the bytes that somebody sends under it. So a
//! block that is refused says that *these bytes* are bad: their sender pays, and the block
//! is asked of another. Only the kernel's own mark of its block index makes a hash invalid:
//! [`Change::Invalid`], which tells of a new mark, and the two refusals by which it reads a
//! mark that it has, `CachedInvalid` and `InvalidPrev`. What it says of its active chain
//! and of marks is adopted as it is; there is no second source of truth.

use std::time::Duration;

use bitcoin::BlockHash;
use bitcoin::block::Header;

use handfast_wire::RawBlock;

use crate::headers::{Connected, Inserted, Status};
use crate::lifecycle::{ConnId, DoneReason};

use super::manager::{Step, SyncManager};
use super::submit::Pending;
use super::{BlockOutcome, Change, Effect, Kept, Reject, RejectKind};

/// Pause after a block could not be judged for a reason that is not its sender's.
const HOLD: Duration = Duration::from_secs(10);

/// Between two times that a peer is called useful: in bulk it brings hundreds of blocks
/// a second, and PeerManager orders peers by when they did so last.
pub const USEFUL_INTERVAL: Duration = Duration::from_secs(10);

/// Whether a refusal is held against the sender. Core `MaybePunishNodeForBlock`. Where Core
/// blames a sender for a missing parent we do not: the header went before the block, so it
/// would be our own fault.
fn is_punished(kind: RejectKind, sender_is_inbound: bool) -> bool {
    match kind {
        RejectKind::Consensus
        | RejectKind::InvalidHeader
        | RejectKind::InvalidPrev
        | RejectKind::Mutated => true,
        RejectKind::CachedInvalid => !sender_is_inbound,
        RejectKind::MissingPrev
        | RejectKind::TimeFuture
        | RejectKind::HeaderLowWork
        | RejectKind::Unknown => false,
    }
}

impl SyncManager {
    pub(super) fn block_checked(
        &mut self,
        step: &mut Step,
        hash: BlockHash,
        outcome: BlockOutcome,
        origin: Option<ConnId>,
        changes: Vec<Change>,
        kept: &Kept,
    ) {
        let mut pending = self.download.judged(&hash);
        let copy = pending.as_mut().and_then(|pending| pending.copy.take());
        if let Some(pending) = &pending {
            let stored = matches!(outcome, BlockOutcome::Stored | BlockOutcome::Duplicate);
            if let Some(first) = pending.brings.filter(|_| !stored) {
                // What is refused for its data leaves no header behind.
                self.tree.mark_unsent(&first);
            }
            self.adopt_header(hash, pending, &outcome, &changes);
        }
        if matches!(outcome, BlockOutcome::Stored | BlockOutcome::Duplicate) {
            self.tree.mark_stored(&hash);
            self.tree_changed = true;
            self.download.cancel(&hash);
        }
        if let Some(origin) = origin.filter(|_| outcome == BlockOutcome::Stored) {
            self.senders.remember(hash, origin);
            self.tell_useful(step, origin);
        }
        for change in changes {
            self.apply(step, change);
        }
        match &outcome {
            BlockOutcome::Stored | BlockOutcome::Duplicate => {}
            BlockOutcome::Rejected(reject) => self.block_rejected(step, hash, reject, origin),
            BlockOutcome::Failed(why) => {
                tracing::warn!(%hash, why, "a block could not be judged");
                self.hold(step.now.mono, hash, why.clone());
            }
        }
        if let Some(pending) = pending {
            self.answer_or_keep(step, hash, pending, &outcome, kept);
        }
        self.download.advance(&self.tree, &hash);
        self.try_copy(step, hash, copy);
    }

    /// Looks at a second copy of a block whose first was bad data.
    fn try_copy(&mut self, step: &mut Step, hash: BlockHash, copy: Option<(ConnId, RawBlock)>) {
        let entry = self.tree.get(&hash);
        let wanted = entry.is_some_and(|entry| entry.status == Status::Header);
        let busy = self.download.with_kernel().contains_key(&hash);
        if let Some((origin, block)) = copy.filter(|_| wanted && !busy) {
            self.give_to_kernel(step, block, Some(origin));
        }
    }

    /// The header of a submitted block enters the tree when the kernel has it too.
    fn adopt_header(
        &mut self,
        hash: BlockHash,
        pending: &Pending,
        outcome: &BlockOutcome,
        changes: &[Change],
    ) {
        let kept = match outcome {
            BlockOutcome::Stored | BlockOutcome::Duplicate => true,
            BlockOutcome::Rejected(_) | BlockOutcome::Failed(_) => changes.iter().any(|change| {
                let (Change::Connected(of, _) | Change::Disconnected(of) | Change::Invalid(of, _)) =
                    change;
                *of == hash
            }),
        };
        if kept {
            self.adopt(hash, pending.header);
        }
    }

    /// The kernel has this header.
    fn adopt(&mut self, hash: BlockHash, header: Header) {
        match self.tree.adopt(hash, header) {
            Ok(Inserted::Known) => {}
            Ok(Inserted::New) => {
                self.tree_changed = true;
                self.learn_announced();
            }
            // Its parent is one that the kernel had before the start and that we do not
            // know; a peer that has the chain will show it.
            Err(error) => tracing::debug!(%hash, %error, "the kernel knows more than we do"),
        }
    }

    fn apply(&mut self, step: &mut Step, change: Change) {
        self.tree_changed = true;
        match change {
            Change::Connected(hash, header) => {
                // It may have been on disk since before the start, on a branch that nobody
                // told us of since.
                self.adopt(hash, header);
                match self.tree.connect(&hash) {
                    Connected::AsExpected => {}
                    Connected::Adopted => {
                        tracing::warn!(%hash, "the kernel's chain is not what we took it for; its own word counts");
                        self.forget_invalid();
                    }
                    Connected::Unknown => {
                        tracing::error!(%hash, "the kernel's chain has a block that we cannot place; restart to read it anew");
                    }
                }
                self.senders.take(&hash);
                self.tip_moved = true;
                self.download.tip_moved();
            }
            Change::Disconnected(hash) => {
                self.tree.disconnect(&hash);
                self.tip_moved = true;
                self.download.replan();
            }
            Change::Invalid(hash, reject) => {
                self.mark_invalid(&hash);
                if let Some(sender) = self.senders.take(&hash) {
                    self.punish_for_block(step, sender, hash, &reject);
                }
            }
        }
    }

    /// The kernel has refused a block or header because of a mark that it has: on itself, or
    /// on what it builds on.
    pub(super) fn adopt_mark(&mut self, hash: &BlockHash, kind: RejectKind) {
        let parent = self.tree.parent(hash).map(|parent| parent.hash);
        match (kind, parent) {
            (RejectKind::InvalidPrev, Some(parent)) => self.mark_invalid(&parent),
            _ => self.mark_invalid(hash),
        }
    }

    pub(super) fn mark_invalid(&mut self, hash: &BlockHash) {
        if self.tree.contains(hash) && self.tree.mark_invalid(hash) > 0 {
            self.tree_changed = true;
            self.forget_invalid();
            if self.tree.is_ancestor(hash, &self.announced) {
                self.announced = self.tree.tip().hash;
            }
        }
    }

    fn block_rejected(
        &mut self,
        step: &mut Step,
        hash: BlockHash,
        reject: &Reject,
        origin: Option<ConnId>,
    ) {
        self.senders.take(&hash);
        match reject.kind {
            RejectKind::CachedInvalid | RejectKind::InvalidPrev => {
                self.adopt_mark(&hash, reject.kind);
            }
            // Bad data, unless a change has marked the hash.
            RejectKind::Consensus | RejectKind::Mutated => self.want_again(&hash),
            // A verdict about a header is one about its hash. Only headers that keep the same
            // rules are stored, so that one of the two is wrong about them.
            RejectKind::InvalidHeader => {
                if self.tree.contains(&hash) {
                    tracing::error!(%hash, %reject, "the consensus engine refuses a header that Handfast holds for valid");
                }
                self.mark_invalid(&hash);
            }
            // The headers before it went along with another block, which was refused.
            RejectKind::MissingPrev => {
                self.give_again(&hash);
                self.want_again(&hash);
            }
            // Nothing is wrong with other blocks: no hold. It is tried again later; one
            // that is too new, when our clock allows it.
            RejectKind::TimeFuture | RejectKind::HeaderLowWork | RejectKind::Unknown => {
                self.unlearn_for_now(step.now.mono, hash, reject.kind);
            }
        }
        if let Some(origin) = origin {
            self.punish_for_block(step, origin, hash, reject);
        }
    }

    fn punish_for_block(&mut self, step: &mut Step, id: ConnId, hash: BlockHash, reject: &Reject) {
        let Some(peer) = self.peers.get(&id) else {
            return;
        };
        if is_punished(reject.kind, !peer.direction.is_outgoing()) {
            let reason = reject.reason.clone();
            self.disconnect(step, id, DoneReason::InvalidBlock { hash, reason });
        }
    }

    /// The block is to be had again, if it is not marked.
    fn want_again(&mut self, hash: &BlockHash) {
        if let Some(entry) = self.tree.get(hash)
            && entry.status == Status::Header
        {
            self.download.put_back(entry.height, hash);
        }
    }

    /// The block could not be judged, and that is no peer's fault: it is fetched again
    /// after a pause, so that trouble of ours does not become traffic.
    fn hold(&mut self, now: Duration, hash: BlockHash, why: String) {
        self.want_again(&hash);
        self.download.hold_until(now + HOLD, why);
    }

    /// The block's sender may still be connected.
    fn tell_useful(&mut self, step: &mut Step, id: ConnId) {
        let Some(peer) = self.peers.get_mut(&id).filter(|peer| !peer.leaving) else {
            return;
        };
        let told = &mut peer.told_useful;
        let again = |at: Duration| at.saturating_add(USEFUL_INTERVAL) <= step.now.mono;
        if told.is_none_or(again) {
            *told = Some(step.now.mono);
            step.effects.push(Effect::Useful { id });
        }
    }
}
