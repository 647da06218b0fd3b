//! What the kernel's answers do to the tree and to peers.
//!
//! # A verdict about data is none about a hash
//!
//! A hash commits to a block's header, not to the bytes that a peer sends under it. So a
//! block that is refused says that *these bytes* are bad: their sender pays, and the block
//! is asked of another. Only the kernel's own mark of its block index makes a hash invalid:
//! [`Change::Invalid`], which tells of a new mark, and the two refusals by which it reads a
//! mark that it has, `CachedInvalid` and `InvalidPrev`. What it says of its active chain
//! and of marks is adopted as it is; there is no second source of truth.

use std::collections::BTreeMap;
use std::time::Duration;

use bitcoin::BlockHash;

use crate::headers::{Connected, Status};
use crate::lifecycle::{ConnId, DoneReason};

use super::announcer::Announcer;
use super::chain::Chain;
use super::download::{BlockDownload, Pending};
use super::known_work::KnownWork;
use super::peers::Peers;
use super::senders::Senders;
use super::step::Step;
use super::timers::Timers;
use super::{BlockOutcome, Change, Effect, Reject, RejectKind};

/// Pause after a block could not be judged for a reason that is not its sender's.
const HOLD: Duration = Duration::from_secs(10);

/// Between two times that a peer is called useful: in bulk it brings hundreds of blocks
/// a second, and PeerManager orders peers by when they did so last.
pub const USEFUL_INTERVAL: Duration = Duration::from_secs(10);

/// Whether a refusal is held against the sender. Core `MaybePunishNodeForBlock`. Where Core
/// blames a sender for a missing parent we do not: the header went before the block, so it
/// would be our own fault.
pub(super) fn is_punished(kind: RejectKind, sender_is_dialled: bool) -> bool {
    match kind {
        RejectKind::Consensus
        | RejectKind::InvalidHeader
        | RejectKind::InvalidPrev
        | RejectKind::Mutated => true,
        RejectKind::CachedInvalid => sender_is_dialled,
        RejectKind::MissingPrev
        | RejectKind::TimeFuture
        | RejectKind::HeaderLowWork
        | RejectKind::Unknown => false,
    }
}

/// What a verdict changes.
pub(super) struct Context<'a> {
    pub(super) step: &'a mut Step,
    pub(super) chain: &'a mut Chain,
    pub(super) peers: &'a Peers,
    pub(super) known: &'a mut KnownWork,
    pub(super) download: &'a mut BlockDownload,
    pub(super) announcer: &'a mut Announcer,
    pub(super) timers: &'a mut Timers,
}

impl Context<'_> {
    /// The engine has refused a block or header because of a mark that it has: on itself, or
    /// on what it builds on.
    fn adopt_mark(&mut self, hash: &BlockHash, kind: RejectKind) {
        let parent = self.chain.tree().parent(hash).map(|parent| parent.hash);
        match (kind, parent) {
            (RejectKind::InvalidPrev, Some(parent)) => self.mark_invalid(&parent),
            _ => self.mark_invalid(hash),
        }
    }

    fn mark_invalid(&mut self, hash: &BlockHash) {
        if self.chain.mark_invalid(hash) {
            self.forget_invalid();
            self.announcer.marked_invalid(self.chain.tree(), hash);
        }
    }

    fn forget_invalid(&mut self) {
        self.known.forget_invalid(self.chain.tree());
        self.download.replan();
    }

    /// The block is to be had again, if it is not marked.
    fn want_again(&mut self, hash: &BlockHash) {
        if let Some(entry) = self.chain.tree().get(hash)
            && entry.status == Status::Header
        {
            self.download.put_back(entry.height, hash);
        }
    }

    /// The block cannot be had now of any peer, which is no fault of theirs.
    fn unlearn_for_now(&mut self, hash: BlockHash, kind: RejectKind) {
        let now = self.step.now.mono;
        let tree = self.chain.tree();
        self.known
            .unlearn_for_now(self.timers, tree, now, hash, kind);
    }

    /// The block's header enters the tree when the engine has it too.
    fn adopt_header(
        &mut self,
        hash: BlockHash,
        pending: &Pending,
        outcome: &BlockOutcome,
        changes: &[Change],
    ) {
        let kept = match outcome {
            BlockOutcome::Stored | BlockOutcome::Duplicate => true,
            BlockOutcome::Rejected(_) | BlockOutcome::Failed(_) => {
                changes.iter().any(|change| change.hash() == hash)
            }
        };
        if kept && self.chain.adopt(hash, pending.header()) {
            self.known.learn_announced(self.chain.tree());
        }
    }
}

/// A peer that is to be disconnected for a block.
pub(super) type Offence = (ConnId, DoneReason);

/// What the engine's verdicts are held against or credited to.
///
/// Invariant: a sender is punished for a block once, and only for one that it sent.
#[derive(Clone, Debug, Default)]
pub(super) struct Verdicts {
    /// Who sent the blocks that are on disk and were not connected yet.
    senders: Senders,
    /// When PeerManager last heard of each peer that it brought a new block, monotonic.
    useful: BTreeMap<ConnId, Duration>,
}

impl Verdicts {
    pub(super) fn removed(&mut self, id: ConnId) {
        self.useful.remove(&id);
    }

    /// The engine's verdict about a block. `pending`: the block, if it was waited for. Returns
    /// who pays for it.
    pub(super) fn block(
        &mut self,
        cx: &mut Context<'_>,
        hash: BlockHash,
        (outcome, changes): (&BlockOutcome, Vec<Change>),
        pending: Option<&Pending>,
        origin: Option<ConnId>,
    ) -> Vec<Offence> {
        let stored = matches!(outcome, BlockOutcome::Stored | BlockOutcome::Duplicate);
        if let Some(pending) = pending {
            if let Some(first) = pending.brings().filter(|_| !stored) {
                // What is refused for its data leaves no header behind.
                cx.chain.mark_unsent(&first);
            }
            cx.adopt_header(hash, pending, outcome, &changes);
        }
        if stored {
            cx.chain.mark_stored(&hash);
            cx.download.cancel(&hash);
        }
        if let Some(origin) = origin.filter(|_| *outcome == BlockOutcome::Stored) {
            self.senders.remember(hash, origin);
            self.report_useful(cx, origin);
        }
        let mut offences: Vec<Offence> = Vec::new();
        for change in changes {
            offences.extend(self.apply(cx, change));
        }
        match outcome {
            BlockOutcome::Stored | BlockOutcome::Duplicate => {}
            BlockOutcome::Rejected(reject) => {
                self.refused(cx, hash, reject);
                offences.extend(origin.and_then(|id| offence(cx.peers, id, hash, reject)));
            }
            BlockOutcome::Failed(why) => {
                // It is fetched again after a pause, so that trouble of ours does not become
                // traffic.
                tracing::warn!(%hash, why, "a block could not be judged");
                cx.want_again(&hash);
                let until = cx.step.now.mono + HOLD;
                cx.download.hold_until(cx.timers, until, why.clone());
            }
        }
        offences
    }

    fn apply(&mut self, cx: &mut Context<'_>, change: Change) -> Option<Offence> {
        match change {
            Change::Connected(hash, header) => {
                // It may have been on disk since before the start, on a branch that no peer
                // showed us since.
                if cx.chain.adopt(hash, header) {
                    cx.known.learn_announced(cx.chain.tree());
                }
                match cx.chain.connect(&hash) {
                    Connected::AsExpected => {}
                    Connected::Adopted => {
                        tracing::warn!(%hash, "the kernel's chain is not what we took it for; its own word counts");
                        cx.forget_invalid();
                    }
                    Connected::Unknown => {
                        tracing::error!(%hash, "the kernel's chain has a block that we cannot place; restart to read it anew");
                    }
                }
                self.senders.take(&hash);
                cx.announcer.tip_moved();
                cx.download.tip_moved();
                None
            }
            Change::Disconnected(hash, _) => {
                cx.chain.disconnect(&hash);
                cx.announcer.tip_moved();
                cx.download.replan();
                None
            }
            Change::Invalid(hash, _, reject) => {
                cx.mark_invalid(&hash);
                let sender = self.senders.take(&hash)?;
                offence(cx.peers, sender, hash, &reject)
            }
        }
    }

    fn refused(&mut self, cx: &mut Context<'_>, hash: BlockHash, reject: &Reject) {
        self.senders.take(&hash);
        match reject.kind {
            RejectKind::CachedInvalid | RejectKind::InvalidPrev => {
                cx.adopt_mark(&hash, reject.kind);
            }
            // Bad data, unless a change has marked the hash.
            RejectKind::Consensus | RejectKind::Mutated => cx.want_again(&hash),
            // A verdict about a header is one about its hash. Only headers that keep the same
            // rules are stored, so that one of the two is wrong about them.
            RejectKind::InvalidHeader => {
                if cx.chain.tree().contains(&hash) {
                    tracing::error!(%hash, %reject, "the consensus engine refuses a header that Handfast holds for valid");
                }
                cx.mark_invalid(&hash);
            }
            // The headers before it went along with another block, which was refused.
            RejectKind::MissingPrev => {
                cx.chain.give_again(&hash);
                cx.want_again(&hash);
            }
            // Nothing is wrong with other blocks: no hold. It is tried again later; one
            // that is too new, when our clock allows it.
            RejectKind::TimeFuture | RejectKind::HeaderLowWork | RejectKind::Unknown => {
                cx.unlearn_for_now(hash, reject.kind);
            }
        }
    }

    /// The engine has refused a header that no block needed yet. It refuses none that keeps the
    /// rules, but for marks of its own that we do not know, and clocks that were set. Whether
    /// it is held against its sender.
    pub(super) fn header_refused(
        &self,
        cx: &mut Context<'_>,
        hash: BlockHash,
        reject: &Reject,
    ) -> bool {
        let for_good = matches!(
            reject.kind,
            RejectKind::Consensus
                | RejectKind::InvalidHeader
                | RejectKind::InvalidPrev
                | RejectKind::CachedInvalid
        );
        if for_good {
            cx.adopt_mark(&hash, reject.kind);
        } else {
            cx.chain.give_again(&hash);
        }
        if reject.kind == RejectKind::MissingPrev {
            // What leads to it went along with a block that was refused.
            return false;
        }
        if !for_good {
            cx.unlearn_for_now(hash, reject.kind);
        }
        true
    }

    /// The peer, which may have left, has brought a new block.
    fn report_useful(&mut self, cx: &mut Context<'_>, id: ConnId) {
        if !cx.peers.is_live(id) {
            return;
        }
        let now = cx.step.now.mono;
        let last = self.useful.get(&id);
        if last.is_none_or(|last| last.saturating_add(USEFUL_INTERVAL) <= now) {
            self.useful.insert(id, now);
            cx.step.effects.push(Effect::Useful { id });
        }
    }
}

/// What a peer pays for a block that was refused, if it is held against it.
fn offence(peers: &Peers, id: ConnId, hash: BlockHash, reject: &Reject) -> Option<Offence> {
    let peer = peers.get(id)?;
    let punished = is_punished(reject.kind, peer.is_dialled());
    let reject = reject.clone();
    punished.then_some((id, DoneReason::InvalidBlock { hash, reject }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::header_sync::tests::version_info;
    use crate::testing::chains::Blocks;
    use crate::testing::kernel::reject;
    use crate::time::Now;

    const SENDER: ConnId = ConnId(1);

    struct Alone {
        chain: Chain,
        peers: Peers,
        known: KnownWork,
        download: BlockDownload,
        announcer: Announcer,
        timers: Timers,
        verdicts: Verdicts,
    }

    impl Alone {
        /// A peer has shown `theirs`, whose headers we have.
        fn with(ours: &Blocks, theirs: &Blocks) -> Self {
            let mut tree = ours.tree();
            for header in theirs.headers() {
                tree.insert(header).expect("its parent is known");
            }
            let (mut peers, mut known) = (Peers::default(), KnownWork::default());
            peers.added(&version_info(SENDER, crate::lifecycle::Direction::Inbound));
            known.added(SENDER);
            known.learn(&tree, SENDER, theirs.tip_hash());
            let none = bitcoin::Work::from_be_bytes([0; 32]);
            Self {
                chain: Chain::new(tree, none),
                peers,
                known,
                download: BlockDownload::default(),
                announcer: Announcer::new(ours.tip_hash()),
                timers: Timers::default(),
                verdicts: Verdicts::default(),
            }
        }

        fn act<T>(
            &mut self,
            seconds: u64,
            act: impl FnOnce(&mut Verdicts, &mut Context<'_>) -> T,
        ) -> (T, Vec<Effect>) {
            let mono = Duration::from_secs(seconds);
            let mut step = Step::new(Now { mono, unix: 0 });
            let mut context = Context {
                step: &mut step,
                chain: &mut self.chain,
                peers: &self.peers,
                known: &mut self.known,
                download: &mut self.download,
                announcer: &mut self.announcer,
                timers: &mut self.timers,
            };
            let answer = act(&mut self.verdicts, &mut context);
            (answer, step.effects)
        }

        fn block(
            &mut self,
            hash: BlockHash,
            outcome: &BlockOutcome,
            changes: Vec<Change>,
        ) -> Vec<Offence> {
            let verdict = (outcome, changes);
            let act = |verdicts: &mut Verdicts, cx: &mut Context<'_>| {
                verdicts.block(cx, hash, verdict, None, Some(SENDER))
            };
            self.act(0, act).0
        }

        fn status(&self, hash: &BlockHash) -> Option<Status> {
            Some(self.chain.tree().get(hash)?.status)
        }
    }

    #[test]
    fn bad_data_costs_its_sender_and_marks_no_hash() {
        let ours = Blocks::new(5, 1);
        let theirs = ours.fork(5, 2, 1);
        let mut alone = Alone::with(&ours, &theirs);
        let hash = theirs.at(6).hash;
        let outcome = BlockOutcome::Rejected(reject(RejectKind::Consensus));
        let offences = alone.block(hash, &outcome, vec![]);
        assert!(matches!(
            &offences[..],
            [(SENDER, DoneReason::InvalidBlock { .. })]
        ));
        assert_eq!(alone.status(&hash), Some(Status::Header));
    }

    #[test]
    fn the_sender_of_a_block_pays_once_when_it_is_found_invalid_only_later() {
        let ours = Blocks::new(5, 1);
        let theirs = ours.fork(5, 2, 1);
        let mut alone = Alone::with(&ours, &theirs);
        let (hash, next) = (theirs.at(6).hash, theirs.at(7).hash);
        assert!(alone.block(hash, &BlockOutcome::Stored, vec![]).is_empty());
        let invalid = || {
            vec![Change::Invalid(
                hash,
                theirs.at(6).header,
                reject(RejectKind::Consensus),
            )]
        };
        let offences = alone.block(next, &BlockOutcome::Duplicate, invalid());
        assert_eq!(offences.len(), 1);
        assert_eq!(alone.status(&hash), Some(Status::Invalid));
        assert_eq!(alone.known.best(SENDER).map(|best| best.height), Some(5));
        let offences = alone.block(next, &BlockOutcome::Duplicate, invalid());
        assert!(offences.is_empty());
    }

    #[test]
    fn a_header_that_lacks_its_parent_is_given_again_and_blames_nobody() {
        let ours = Blocks::new(5, 1);
        let theirs = ours.fork(5, 2, 1);
        let mut alone = Alone::with(&ours, &theirs);
        let hash = theirs.at(7).hash;
        for (kind, blamed) in [
            (RejectKind::MissingPrev, false),
            (RejectKind::TimeFuture, true),
            (RejectKind::InvalidPrev, true),
        ] {
            let refused = reject(kind);
            let act = |verdicts: &mut Verdicts, cx: &mut Context<'_>| {
                verdicts.header_refused(cx, hash, &refused)
            };
            assert_eq!(alone.act(0, act).0, blamed, "{kind:?}");
        }
        assert!(alone.chain.tree().is_unsent(&theirs.at(6).hash));
        assert_eq!(alone.status(&theirs.at(6).hash), Some(Status::Invalid));
    }

    #[test]
    fn a_peer_that_brings_block_after_block_is_reported_once_in_ten_seconds() {
        let ours = Blocks::new(5, 1);
        let theirs = ours.fork(5, 2, 1);
        let mut alone = Alone::with(&ours, &theirs);
        let mut reported = Vec::new();
        for second in 0..21 {
            let act = |verdicts: &mut Verdicts, cx: &mut Context<'_>| {
                verdicts.report_useful(cx, SENDER);
            };
            if !alone.act(second, act).1.is_empty() {
                reported.push(second);
            }
        }
        assert_eq!(reported, [0, 10, 20]);
        alone.verdicts.removed(SENDER);
        assert!(alone.verdicts.useful.is_empty());
    }
}
