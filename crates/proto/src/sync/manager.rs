//! [`SyncManager`]: takes an input apart and leads it through the parts.

mod blocks;
mod time;

use std::collections::BTreeSet;
use std::time::Duration;

use bitcoin::BlockHash;
use bitcoin::block::Header;
use handfast_wire::{Locator, Message};

use crate::headers::HeaderTree;
use crate::lifecycle::ledger::{AssertHeld, Ledger, Scope};
use crate::lifecycle::{ConnId, DoneReason, Role, VersionInfo};
use crate::time::Now;

use super::block_serving;
use super::download::{Action, BlockDownload, View};
use super::fetch::{self, FetchRefusal};
use super::header_sync::{self, HeaderSync};
use super::parts::Parts;
use super::report;
use super::state::SyncState;
use super::step::Step;
use super::timers::{SyncTimer, Timers};
use super::watchdog::{CHECK, Remedy, Watchdog};
use super::{Effect, Input, KernelEvent, SyncConfig};

/// Header and block sync over all peers. See [`crate::sync`].
///
/// `step` never waits and never fails; `deadline` says when it wants
/// [`Input::Tick`] at the latest.
#[derive(Clone, Debug)]
pub struct SyncManager {
    pub(super) parts: Parts,
    pub(super) watchdog: Watchdog,
    pub(super) ledger: Ledger,
}

/// The machine from outside.
impl SyncManager {
    /// A machine without peers. `tree` is what the kernel has on disk.
    #[must_use]
    pub fn new(config: SyncConfig, tree: HeaderTree) -> Self {
        Self {
            parts: Parts::new(config, tree),
            watchdog: Watchdog::default(),
            ledger: Ledger::new(Scope::Subscriber(Role::Sync)),
        }
    }

    /// Takes one input and returns what is to be done, in order.
    ///
    /// # Panics
    ///
    /// When L2-L4 of [`crate::lifecycle`] are broken, or when the kernel reports
    /// a change of the active chain that is none: our own bugs.
    pub fn step(&mut self, now: Now, input: Input) -> Vec<Effect> {
        let mut step = Step::new(now);
        self.look_at_the_clock(now);
        self.opened(now);
        self.take(&mut step, input);
        let check = self.run_timers(&mut step);
        self.settle(&mut step);
        if check && self.watch(&mut step) {
            self.settle(&mut step);
        }
        step.effects
    }

    /// When the next [`Input::Tick`] is wanted, on the monotonic clock.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        self.parts.timers.next()
    }

    /// All headers, and the active chain among them.
    #[must_use]
    pub fn tree(&self) -> &HeaderTree {
        self.parts.tree()
    }

    /// The connections it knows.
    #[must_use]
    pub fn ids(&self) -> BTreeSet<ConnId> {
        self.parts.peers.iter().map(|(id, _)| id).collect()
    }

    /// The peer that headers are synced from.
    #[must_use]
    pub fn sync_peer(&self) -> Option<ConnId> {
        self.parts.headers.source_id()
    }

    /// What is being done, and why.
    #[must_use]
    pub fn state(&self, now: Now) -> SyncState {
        report::state(&self.parts, self.watchdog.state(), now)
    }

    /// Whether we are far behind, as Bitcoin Core reports it: true until the tip
    /// has once had the minimum work and been younger than a day; then never again.
    #[must_use]
    pub fn initial_block_download(&self, now: Now) -> bool {
        self.parts.chain.is_initial_download(now)
    }

    /// The chain has been opened. Every step does this, if it was not done before.
    pub fn opened(&mut self, now: Now) {
        self.parts.chain.opened(now);
    }

    /// Whether a block with this header would be the next one. What was mined is stale else.
    #[must_use]
    pub fn is_on_tip(&self, header: &Header) -> bool {
        self.tree().tip().hash == header.prev_blockhash
    }

    /// Whether [`Input::Fetch`] would ask `id` for this block now.
    ///
    /// # Errors
    /// Why not.
    pub fn may_fetch(&self, id: ConnId, hash: &BlockHash) -> Result<(), FetchRefusal> {
        let parts = &self.parts;
        fetch::may_fetch(parts.tree(), &parts.peers, &parts.download, id, hash)
    }
}

/// Inputs.
impl SyncManager {
    fn take(&mut self, step: &mut Step, input: Input) {
        match input {
            Input::Added(intro) => self.added(step, &intro),
            Input::Done { id } => self.done(step, id),
            Input::Message { id, message } => self.message(step, id, &message),
            Input::Kernel(event) => self.kernel_event(step, event),
            Input::Served { id, ticket } => {
                let parts = &mut self.parts;
                parts.serving.served(step, parts.chain.tree(), id, ticket);
            }
            Input::Submit { ticket, block } => self.submit(step, ticket, block),
            Input::SubmitHeader { ticket, header } => self.submit_header(step, ticket, header),
            Input::Fetch { id, hash } => self.fetch(step, id, hash),
            Input::Tick => {}
        }
    }

    fn added(&mut self, step: &mut Step, intro: &VersionInfo) {
        let id = intro.id;
        self.ledger.add(Role::Sync, id).assert_held();
        let parts = &mut self.parts;
        parts.peers.added(intro);
        parts.known.added(id);
        parts.download.added(id);
        // Without peers a node is not woken.
        if parts.timers.at(&SyncTimer::Watchdog).is_none() {
            let now = step.now.mono;
            parts.timers.set(SyncTimer::Watchdog, now + CHECK);
            self.watchdog.start(now);
        }
        self.with_headers(step, |headers, cx| headers.added(cx, id));
    }

    fn done(&mut self, step: &mut Step, id: ConnId) {
        self.ledger.done(Role::Sync, id).assert_held();
        let parts = &mut self.parts;
        parts.peers.removed(id);
        parts.known.removed(id);
        parts.download.removed(id);
        parts.chain_sync.removed(id);
        parts.serving.removed(id);
        parts.announcer.removed(id);
        parts.verdicts.removed(id);
        self.with_headers(step, |headers, cx| headers.removed(cx, id));
    }

    /// Orders the end of a connection. From here on nothing is asked of it.
    fn disconnect(&mut self, step: &mut Step, id: ConnId, reason: DoneReason) {
        self.with_headers(step, |headers, cx| headers.disconnect(cx, id, reason));
    }

    fn message(&mut self, step: &mut Step, id: ConnId, message: &Message) {
        if !self.parts.peers.is_live(id) {
            return;
        }
        self.watchdog.hear(step.now.mono);
        if !self.handle(step, id, message) {
            tracing::debug!(%id, command = message.command(), "a message that sync does not handle");
        }
    }

    /// Handles a message of those whose row in the table of messages names
    /// [`HandledBy::SyncManager`](handfast_wire::HandledBy). False: it is another, which
    /// PeerManager does not forward.
    pub(super) fn handle(&mut self, step: &mut Step, id: ConnId, message: &Message) -> bool {
        let parts = &mut self.parts;
        match message {
            Message::Headers(headers) => {
                self.with_headers(step, |sync, cx| sync.headers(cx, id, headers));
            }
            // Its bytes are shared.
            Message::Block(block) => self.block_received(step, id, block.clone()),
            Message::Inv(items) => {
                self.with_headers(step, |headers, cx| headers.inv(cx, id, items));
            }
            Message::NotFound(items) => self.not_found(step.now.mono, id, items),
            Message::SendHeaders => parts.announcer.sendheaders(id),
            Message::GetHeaders(locator) => self.getheaders(step, id, locator),
            Message::GetBlocks(locator) => {
                let tree = parts.chain.tree();
                parts.serving.getblocks(step, tree, id, locator);
            }
            Message::GetData(items) => {
                let tree = parts.chain.tree();
                parts.serving.getdata(step, tree, id, items);
            }
            _ => return false,
        }
        true
    }

    fn getheaders(&mut self, step: &mut Step, id: ConnId, locator: &Locator) {
        let Parts { chain, config, .. } = &self.parts;
        let (tree, minimum) = (chain.tree(), config.minimum_work);
        let Some(headers) = block_serving::headers_after(tree, minimum, locator) else {
            return;
        };
        if tree.tip().work >= minimum {
            let last = headers.last().map(Header::block_hash);
            let last = last.unwrap_or(tree.tip().hash);
            self.parts.announcer.headers_sent(id, last);
        }
        step.send(id, Message::Headers(headers));
    }

    fn kernel_event(&mut self, step: &mut Step, event: KernelEvent) {
        match event {
            KernelEvent::HeadersChecked {
                count_ok: _,
                rejected,
                origin,
                busy: _,
            } => self.headers_checked(step, rejected, origin),
            KernelEvent::BlockChecked {
                hash,
                outcome,
                origin,
                changes,
                durability,
                busy: _,
            } => {
                self.parts.submissions.set_durable(&durability);
                self.block_checked(step, hash, (&outcome, changes), origin, &durability);
            }
            KernelEvent::Durable => self.parts.submissions.set_durable(&super::Durability::Yes),
        }
    }
}

/// Parts that need others.
impl SyncManager {
    /// Has header sync act with what it needs of the rest.
    fn with_headers<T>(
        &mut self,
        step: &mut Step,
        act: impl FnOnce(&mut HeaderSync, &mut header_sync::Context<'_>) -> T,
    ) -> T {
        let parts = &mut self.parts;
        let mut context = header_sync::Context {
            step,
            config: &parts.config,
            chain: &mut parts.chain,
            peers: &mut parts.peers,
            known: &mut parts.known,
            timers: &mut parts.timers,
        };
        let answer = act(&mut parts.headers, &mut context);
        for id in parts.peers.take_disconnected() {
            parts.download.removed(id);
            parts.serving.removed(id);
        }
        answer
    }

    /// Has download look at what it needs of the rest.
    fn with_download<T>(
        &mut self,
        now: Duration,
        act: impl FnOnce(&mut BlockDownload, &View<'_>, &mut Timers) -> T,
    ) -> T {
        let parts = &mut self.parts;
        let view = View {
            tree: parts.chain.tree(),
            peers: &parts.peers,
            known: &parts.known,
            minimum_work: parts.config.minimum_work,
            now,
        };
        act(&mut parts.download, &view, &mut parts.timers)
    }

    /// Does what download wants done.
    fn perform(&mut self, step: &mut Step, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Ask(id, hashes) => ask_for_blocks(step, id, hashes),
                Action::Probe(id, block) => self.probe(step, id, block),
                Action::Disconnect(id, hash) => {
                    self.disconnect(step, id, DoneReason::BlockStalled { hash });
                }
            }
        }
    }

    /// Asks the peer whether it has this block, unless it is being asked something.
    fn probe(&mut self, step: &mut Step, id: ConnId, block: BlockHash) {
        let parts = &mut self.parts;
        if parts.headers.is_idle(id) && parts.peers.serves_headers(id) {
            let (timers, tree) = (&mut parts.timers, parts.chain.tree());
            parts
                .known
                .ask_whether_it_has(step, timers, tree, id, block);
        }
    }
}

/// What every step ends with.
impl SyncManager {
    /// There is a source, the plan follows what was learnt, requests go out, a new tip is
    /// announced, the ledger gets the event.
    fn settle(&mut self, step: &mut Step) {
        self.parts.chain.latch_initial_download(step.now);
        self.with_headers(step, HeaderSync::fill_source);
        self.settle_download(step);
        self.announce(step);
        if self.parts.chain.take_changed() {
            step.effects.push(Effect::TreeChanged);
        }
        self.ledger.sync_peer(self.sync_peer()).assert_held();
    }

    fn settle_download(&mut self, step: &mut Step) {
        for id in self.parts.known.take_changed() {
            self.parts.download.shown(id);
        }
        let mut actions = Vec::new();
        self.with_download(step.now.mono, |download, view, timers| {
            download.settle(view, timers, &mut actions);
        });
        self.perform(step, actions);
    }

    /// What peers hear of must not be forgotten: the tip waits until it is durable.
    fn announce(&mut self, step: &mut Step) {
        let parts = &mut self.parts;
        if parts.submissions.is_durable() {
            let tree = parts.chain.tree();
            let behind = parts.download.blocks_behind(&tree.tip());
            parts
                .announcer
                .announce(step, tree, &parts.peers, &parts.known, behind);
        }
    }

    /// The watchdog looks. True when something was changed.
    fn watch(&mut self, step: &mut Step) -> bool {
        let now = step.now.mono;
        let next = (!self.parts.peers.is_empty()).then_some(now + CHECK);
        self.parts.timers.put(SyncTimer::Watchdog, next);
        let Some(finding) = self.watchdog.check(&self.parts, now) else {
            return false;
        };
        let action = match finding.remedy() {
            Remedy::Repair => self.repair(step, &finding.to_string()),
            Remedy::AskEverybody => {
                self.with_headers(step, HeaderSync::ask_everybody);
                "asked all for headers; more peers wanted".to_owned()
            }
            Remedy::MorePeers => "more peers wanted".to_owned(),
        };
        step.effects.push(Effect::WantPeers);
        self.watchdog.acted(step.now, finding, action);
        true
    }

    /// Puts sync on its feet without relying on what brought it down: requests that
    /// no peer can answer are dropped, no peer counts as late, plans are made again, another
    /// source is chosen. `settle` then asks.
    fn repair(&mut self, step: &mut Step, why: &str) -> String {
        self.parts.download.repair();
        self.parts.known.probe_at_once();
        let before = self.sync_peer();
        self.with_headers(step, |headers, cx| headers.repair(cx, why));
        match (before, self.sync_peer()) {
            (Some(before), Some(after)) if before != after => {
                format!("replanned; source {before} -> {after}; more peers wanted")
            }
            (_, Some(source)) => format!("replanned; asked {source}; more peers wanted"),
            (_, None) => "replanned; more peers wanted".to_owned(),
        }
    }
}

fn ask_for_blocks(step: &mut Step, id: ConnId, hashes: Vec<BlockHash>) {
    use bitcoin::p2p::message_blockdata::Inventory;
    let items = hashes.into_iter().map(Inventory::WitnessBlock).collect();
    step.send(id, Message::GetData(items));
}
