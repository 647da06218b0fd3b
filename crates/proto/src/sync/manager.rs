//! [`SyncManager`]: takes an input apart, runs the rules, keeps the invariants.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bitcoin::BlockHash;
use handfast_wire::Message;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::headers::HeaderTree;
use crate::lifecycle::ledger::{AssertHeld, Ledger, Scope};
use crate::lifecycle::{ConnId, DoneReason, Introduction};
use crate::time::{Now, earliest};

use super::download::BlockDownload;
use super::engine_headers::EngineHeaders;
use super::header_sync::HeaderSync;
use super::known_work::FIRST_PROBE_PAUSE;
use super::peer::Peer;
use super::senders::Senders;
use super::watchdog::Watchdog;
use super::{Effect, Input, KernelEvent, SourceChange, SyncConfig, SyncLifecycle};

/// A tip younger than this ends initial block download, seconds. Core `DEFAULT_MAX_TIP_AGE`.
const MAX_TIP_AGE: u32 = 24 * 60 * 60;

/// A timer that fires this much late was held up by us; peers are not blamed for it.
const OVERSLEPT: Duration = Duration::from_secs(1);

/// Header and block sync over all peers. See [`crate::sync`].
///
/// `step` never waits and never fails; `deadline` says when it wants
/// [`Input::Tick`] at the latest.
#[derive(Clone, Debug)]
pub struct SyncManager {
    pub(super) config: SyncConfig,
    pub(super) tree: HeaderTree,
    pub(super) peers: BTreeMap<ConnId, Peer>,
    pub(super) headers: HeaderSync,
    pub(super) engine_headers: EngineHeaders,
    pub(super) download: BlockDownload,
    pub(super) random: ChaCha8Rng,
    /// Who sent the blocks that are on disk and were not connected yet.
    pub(super) senders: Senders,
    /// The last 50 changes of the sync peer.
    pub(super) source_changes: VecDeque<SourceChange>,
    pub(super) next_ticket: u64,
    /// The tip that was announced last.
    pub(super) announced: BlockHash,
    /// Core's latch: whether initial block download goes on, and the tip that this was judged
    /// by. `None`: not judged yet.
    initial_download: Option<(bool, BlockHash)>,
    pub(super) watchdog: Watchdog,
    ledger: Ledger,
    /// No later than the first timer (monotonic); timers that moved are found when it fires.
    pub(super) wake: Option<Duration>,
    pub(super) tree_changed: bool,
    /// The tip has changed, and no peer was told of it yet.
    pub(super) tip_moved: bool,
    /// Everything that the kernel has stored survives the end of the process.
    pub(super) kept: bool,
}

/// Where a step collects its effects, with the moment it happens at.
pub(super) struct Step {
    pub(super) now: Now,
    pub(super) effects: Vec<Effect>,
}

impl Step {
    pub(super) fn send(&mut self, id: ConnId, message: Message) {
        self.effects.push(Effect::Send { id, message });
    }
}

impl SyncManager {
    /// A machine without peers. `tree` is what the kernel has on disk.
    #[must_use]
    pub fn new(config: SyncConfig, tree: HeaderTree) -> Self {
        let announced = tree.tip().hash;
        let random = ChaCha8Rng::seed_from_u64(config.seed);
        Self {
            config,
            tree,
            peers: BTreeMap::new(),
            headers: HeaderSync::default(),
            engine_headers: EngineHeaders::default(),
            download: BlockDownload::default(),
            random,
            senders: Senders::default(),
            source_changes: VecDeque::new(),
            next_ticket: 0,
            announced,
            initial_download: None,
            watchdog: Watchdog::default(),
            ledger: Ledger::new(Scope::SyncManager),
            wake: None,
            tree_changed: false,
            tip_moved: false,
            kept: true,
        }
    }

    /// Takes one input and returns what is to be done, in order.
    ///
    /// # Panics
    ///
    /// When L2-L4 of [`crate::lifecycle`] are broken, or when the kernel reports
    /// a change of the active chain that is none: our own bugs.
    pub fn step(&mut self, now: Now, input: Input) -> Vec<Effect> {
        let mut step = Step {
            now,
            effects: Vec::new(),
        };
        self.look_at_the_clock(now);
        self.opened(now);
        match input {
            Input::Added(intro) => self.added(&mut step, &intro),
            Input::Done { id } => self.done(&mut step, id),
            Input::Message { id, message } => self.message(&mut step, id, message),
            Input::Kernel(event) => self.kernel_event(&mut step, event),
            Input::Served { id, ticket } => self.served(&mut step, id, ticket),
            Input::Submit { ticket, block } => self.submit(&mut step, ticket, block),
            Input::SubmitHeader { ticket, header } => {
                self.submit_header(&mut step, ticket, header);
            }
            Input::Fetch { id, hash } => self.fetch(&mut step, id, hash),
            Input::Tick => {}
        }
        if self.wake.is_some_and(|wake| wake <= now.mono) {
            self.run_timers(&mut step);
        }
        if self.download.wake().is_some_and(|wake| wake <= now.mono) {
            self.download_timers(&mut step);
        }
        if self.watchdog.is_due(now.mono) {
            self.consider_evictions(&mut step);
        }
        self.settle(&mut step);
        if self.watch(&mut step) {
            self.settle(&mut step);
        }
        step.effects
    }

    /// When the next [`Input::Tick`] is wanted, on the monotonic clock.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        // The watchdog's own: it must wake though a rule forgot to set `wake`.
        let wake = earliest(self.wake, self.download.wake());
        earliest(wake, self.watchdog.next_check())
    }

    /// All headers, and the active chain among them.
    #[must_use]
    pub fn tree(&self) -> &HeaderTree {
        &self.tree
    }

    /// The connections it knows.
    #[must_use]
    pub fn ids(&self) -> BTreeSet<ConnId> {
        self.peers.keys().copied().collect()
    }

    /// The peer that headers are synced from.
    #[must_use]
    pub fn sync_peer(&self) -> Option<ConnId> {
        self.headers.source.as_ref().map(|source| source.id)
    }

    /// The part of the state that the lifecycle invariants are about.
    #[must_use]
    pub fn lifecycle(&self) -> SyncLifecycle {
        let ids = |which: &dyn Fn(&Peer) -> bool| {
            let chosen = self.peers.iter().filter(|(_, peer)| which(peer));
            chosen.map(|(id, _)| *id).collect()
        };
        SyncLifecycle {
            live: ids(&|peer| !peer.leaving),
            leaving: ids(&|peer| peer.leaving),
            ineligible: ids(&|peer| !peer.leaving && !peer.eligible()),
            answered: ids(&|peer| !peer.leaving && peer.headers.answered),
            asked: ids(&|peer| !peer.leaving && peer.headers.ask.is_some()),
            source: self.sync_peer(),
            ledger: self.ledger.clone(),
        }
    }

    /// Whether we are far behind, as Bitcoin Core reports it: true until the tip
    /// has once had the minimum work and been younger than a day; then never again.
    ///
    /// As in Core (`UpdateIBDStatus`) that is judged when the chain has been opened and when
    /// there is a new tip, not by the clock alone: a tip that has grown old is no reason to
    /// begin again, nor is a clock that was put back one to end.
    #[must_use]
    pub fn initial_block_download(&self, now: Now) -> bool {
        match self.initial_download {
            Some((goes_on, _)) => goes_on,
            None => !self.tip_is_recent(now),
        }
    }

    /// The chain has been opened. Every step does this, if nobody did before.
    pub fn opened(&mut self, now: Now) {
        if self.initial_download.is_none() {
            self.judge_initial_download(now);
        }
    }

    fn tip_is_recent(&self, now: Now) -> bool {
        let tip = self.tree.tip();
        tip.work >= self.config.minimum_work
            && tip.header.time >= now.unix.saturating_sub(MAX_TIP_AGE)
    }

    fn judge_initial_download(&mut self, now: Now) {
        self.initial_download = Some((!self.tip_is_recent(now), self.tree.tip().hash));
    }

    /// Judges a new tip, until there was a recent one.
    fn latch_initial_download(&mut self, now: Now) {
        let tip = self.tree.tip().hash;
        if matches!(self.initial_download, Some((true, judged)) if judged != tip) {
            self.judge_initial_download(now);
        }
    }

    /// Asks to be woken no later than at `at`.
    pub(super) fn wake_at(&mut self, at: Duration) {
        if self.wake.is_none_or(|wake| at < wake) {
            self.wake = Some(at);
        }
    }

    /// A timer that fires late was held up by our own thread, during which answers
    /// may have piled up unread: such time is no peer's fault.
    fn look_at_the_clock(&mut self, now: Now) {
        let Some(due) = self.deadline() else { return };
        let late = now.mono.saturating_sub(due);
        if late < OVERSLEPT {
            return;
        }
        for peer in self.peers.values_mut() {
            peer.pardon(late);
        }
        // A second more, in which what lies unread is read.
        self.download.extend_deadlines(late + OVERSLEPT);
        self.headers.pardon(late);
        self.watchdog.pardon(late);
    }

    fn run_timers(&mut self, step: &mut Step) {
        self.wake = None;
        self.header_timers(step);
        self.known_work_timers(step);
    }

    fn added(&mut self, step: &mut Step, intro: &Introduction) {
        let id = intro.id;
        self.ledger.sync_add(id).assert_held();
        let before = self.peers.insert(id, Peer::new(intro, FIRST_PROBE_PAUSE));
        assert!(before.is_none(), "L2: {id} is added once");
        self.download.added(id);
        self.watchdog.start(step.now.mono);
        self.meet_for_headers(step, id);
    }

    fn done(&mut self, step: &mut Step, id: ConnId) {
        self.ledger.sync_done(id).assert_held();
        self.download.removed(id);
        let peer = self.peers.remove(&id);
        assert!(peer.is_some(), "L3: {id} was added before it is done");
        self.lose_source(step, id, "it left");
    }

    /// Orders the end of a connection. From here on nothing is asked of it; S3
    /// holds at once, not only when its `Done` comes.
    pub(super) fn disconnect(&mut self, step: &mut Step, id: ConnId, reason: DoneReason) {
        let Some(peer) = self.peers.get_mut(&id).filter(|peer| !peer.leaving) else {
            return;
        };
        tracing::debug!(%id, %reason, "disconnecting");
        peer.leaving = true;
        peer.headers.ask = None;
        peer.headers.low_work = None;
        peer.known.probe = None;
        peer.serving.queue.clear();
        let why = reason.to_string();
        step.effects.push(Effect::Disconnect { id, reason });
        self.download.removed(id);
        self.lose_source(step, id, &why);
    }

    fn message(&mut self, step: &mut Step, id: ConnId, message: Message) {
        if self.peers.get(&id).is_none_or(|peer| peer.leaving) {
            return;
        }
        self.watchdog.hear(step.now.mono);
        match message {
            Message::Headers(headers) => self.headers_received(step, id, headers),
            Message::Block(block) => self.block_received(step, id, block),
            Message::Inv(items) => self.inv_received(step, id, &items),
            Message::NotFound(items) => self.not_found(step.now.mono, id, &items),
            Message::SendHeaders => self.live(id).headers.wants_headers = true,
            Message::GetHeaders(locator) => self.serve_headers(step, id, &locator),
            Message::GetBlocks(locator) => self.serve_inventory(step, id, &locator),
            Message::GetData(items) => self.serve_data(step, id, &items),
            // Not about sync; PeerManager does not forward these.
            Message::Version(_)
            | Message::Verack
            | Message::Ping(_)
            | Message::Pong(_)
            | Message::SendAddrV2
            | Message::WtxidRelay
            | Message::SendCmpct { .. }
            | Message::FeeFilter(_)
            | Message::GetAddr
            | Message::Addr(_)
            | Message::AddrV2(_)
            | Message::Tx(_)
            | Message::Mempool
            | Message::Unknown { .. } => {}
        }
    }

    fn kernel_event(&mut self, step: &mut Step, event: KernelEvent) {
        match event {
            KernelEvent::HeadersChecked {
                count_ok: _,
                rejected,
                origin,
            } => self.headers_checked(step, rejected, origin),
            KernelEvent::BlockChecked {
                hash,
                outcome,
                origin,
                changes,
                kept,
                busy: _,
            } => {
                self.now_kept(&kept);
                self.block_checked(step, hash, outcome, origin, changes, &kept);
            }
            KernelEvent::Kept => self.all_kept(),
        }
    }

    /// A peer that is in the table.
    pub(super) fn live(&mut self, id: ConnId) -> &mut Peer {
        self.peers
            .get_mut(&id)
            .expect("the caller looked it up in this step")
    }

    /// What every step ends with: there is a source, the plan follows what was learnt, requests go
    /// out, a new tip is announced, the ledger is told.
    fn settle(&mut self, step: &mut Step) {
        self.latch_initial_download(step.now);
        self.fill_source(step);
        self.settle_downloads(step);
        self.announce(step);
        if std::mem::take(&mut self.tree_changed) {
            step.effects.push(Effect::TreeChanged);
        }
        self.ledger.sync_peer(self.sync_peer()).assert_held();
    }
}
