//! What the kernel's answers do to the tree and to peers.

use std::time::Duration;

use bitcoin::BlockHash;
use bitcoin::block::Header;

use crate::headers::Inserted;
use crate::lifecycle::{ConnId, DoneReason};

use super::manager::{Step, SyncManager};
use super::submit::Pending;
use super::{BlockOutcome, Change, Effect, Kept, Reject, RejectKind};

/// Pause after a block could not be judged for a reason that is not its sender's.
const HOLD: Duration = Duration::from_secs(10);
/// Blocks on disk, not connected, whose sender is remembered. Four windows.
const MAX_BLOCK_SOURCES: usize = 4_096;

/// Between two times that a peer is called useful: in bulk it brings hundreds of blocks
/// a second, and PeerManager orders peers by when they did so last.
pub const USEFUL_INTERVAL: Duration = Duration::from_secs(10);

/// What follows from a refusal.
struct Consequence {
    /// The block is invalid for good.
    invalid: bool,
    /// The sender is to blame; when it dialled us it may be forgiven.
    punish: bool,
}

/// Core `MaybePunishNodeForBlock`. Where Core blames a sender for a missing parent we
/// do not: the header went before the block, so it would be our own fault.
fn consequence(kind: RejectKind, sender_is_inbound: bool) -> Consequence {
    let (invalid, punish) = match kind {
        RejectKind::Consensus | RejectKind::InvalidHeader | RejectKind::InvalidPrev => (true, true),
        RejectKind::Mutated => (false, true),
        RejectKind::CachedInvalid => (true, !sender_is_inbound),
        RejectKind::MissingPrev
        | RejectKind::TimeFuture
        | RejectKind::HeaderLowWork
        | RejectKind::Unknown => (false, false),
    };
    Consequence { invalid, punish }
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
        let pending = self.download.with_kernel.remove(&hash);
        let bytes = pending.as_ref().map_or(0, |pending| pending.bytes);
        self.download.kernel_bytes -= bytes;
        self.download.judged();
        if let Some(pending) = &pending {
            self.adopt_header(hash, pending, &outcome, &changes);
        }
        if matches!(outcome, BlockOutcome::Stored | BlockOutcome::Duplicate) {
            self.tree.mark_stored(&hash);
            self.tree_changed = true;
        }
        if let Some(origin) = origin.filter(|_| outcome == BlockOutcome::Stored) {
            self.remember_sender(hash, origin);
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
        self.download.advance(&self.tree);
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
        if kept && !self.tree.contains(&hash) {
            // An invalid parent is refused by the kernel too; then nothing was kept.
            let inserted = self.tree.insert_hashed(hash, pending.header);
            assert!(
                inserted.is_ok(),
                "the kernel keeps no block without its parent: {hash}"
            );
            self.tree_changed = true;
            self.learn_announced();
        }
    }

    /// A block pushed to us brought a new header: into the tree, and to the kernel first.
    pub(super) fn store_announced_header(
        &mut self,
        step: &mut Step,
        id: ConnId,
        hash: BlockHash,
        header: Header,
    ) {
        let inserted = self.tree.insert_hashed(hash, header);
        assert_eq!(
            inserted,
            Ok(Inserted::New),
            "the caller looked: new, with a valid parent"
        );
        self.tree_changed = true;
        self.headers.batches_with_kernel += 1;
        step.effects.push(Effect::CheckHeaders {
            headers: vec![header],
            origin: Some(id),
        });
        self.learn_announced();
    }

    /// The kernel has connected a block that it had before we started, and whose header
    /// nobody has sent us since: the tree of a start holds the active chain and the best
    /// branch, not what lies beside them on disk.
    fn adopt_connected(&mut self, hash: BlockHash, header: Header) {
        if !self.tree.contains(&hash) {
            let inserted = self.tree.insert_hashed(hash, header);
            assert!(
                inserted.is_ok(),
                "the kernel connects a block to the tip: {hash}"
            );
            self.learn_announced();
        }
    }

    fn apply(&mut self, step: &mut Step, change: Change) {
        self.tree_changed = true;
        match change {
            Change::Connected(hash, header) => {
                self.adopt_connected(hash, header);
                self.tree.connect(&hash);
                self.download.senders.remove(&hash);
                self.shorten_timeout();
                self.tip_moved = true;
                let reached = self.download.plan.as_ref().is_some_and(|plan| {
                    plan.target.hash == hash || plan.target.height <= self.tree.tip().height
                });
                self.download.retarget |= reached;
            }
            Change::Disconnected(hash) => {
                self.tree.disconnect(&hash);
                self.tip_moved = true;
                self.download.retarget = true;
            }
            Change::Invalid(hash, reject) => {
                self.mark_invalid(&hash);
                if let Some(sender) = self.download.senders.remove(&hash) {
                    self.punish_for_block(step, sender, hash, &reject);
                }
            }
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
        self.download.senders.remove(&hash);
        if consequence(reject.kind, false).invalid {
            self.mark_invalid(&hash);
        } else if reject.kind == RejectKind::Mutated {
            self.want_again(&hash);
        } else if reject.kind == RejectKind::TimeFuture {
            // Nothing is wrong with other blocks: no hold. It is tried again when our
            // clock allows it.
            self.unlearn_too_new(step.now.mono, hash);
        } else {
            self.hold(step.now.mono, hash, reject.reason.clone());
        }
        if let Some(origin) = origin {
            self.punish_for_block(step, origin, hash, reject);
        }
    }

    fn punish_for_block(&mut self, step: &mut Step, id: ConnId, hash: BlockHash, reject: &Reject) {
        let Some(peer) = self.peers.get(&id) else {
            return;
        };
        if consequence(reject.kind, !peer.direction.is_outgoing()).punish {
            let reason = reject.reason.clone();
            self.disconnect(step, id, DoneReason::InvalidBlock { hash, reason });
        }
    }

    fn want_again(&mut self, hash: &BlockHash) {
        if let Some(entry) = self.tree.get(hash) {
            self.download.put_back(entry.height, hash);
        }
    }

    /// The block could not be judged, and that is no peer's fault: it is fetched again
    /// after a pause, so that trouble of ours does not become traffic.
    fn hold(&mut self, now: Duration, hash: BlockHash, why: String) {
        self.want_again(&hash);
        let until = now + HOLD;
        self.download.hold = Some((until, why));
        self.wake_at(until);
    }

    /// The block's sender may still be connected.
    fn tell_useful(&mut self, step: &mut Step, id: ConnId) {
        let Some(peer) = self.peers.get_mut(&id).filter(|peer| !peer.leaving) else {
            return;
        };
        let told = &mut peer.blocks.told_useful;
        let again = |at: Duration| at.saturating_add(USEFUL_INTERVAL) <= step.now.mono;
        if told.is_none_or(again) {
            *told = Some(step.now.mono);
            step.effects.push(Effect::Useful { id });
        }
    }

    fn remember_sender(&mut self, hash: BlockHash, id: ConnId) {
        self.download.senders.insert(hash, id);
        if self.download.senders.len() > MAX_BLOCK_SOURCES {
            self.download.senders.pop_first();
        }
    }
}
