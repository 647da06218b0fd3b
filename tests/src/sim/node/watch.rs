//! What an outside observer notes of a node, and what it asks at every step.

use std::collections::BTreeMap;
use std::time::Duration;

use bitcoin::BlockHash;
use bitcoin::p2p::message_blockdata::Inventory;
use handfast_proto::address_book::MAX_ADDRESSES;
use handfast_proto::headers::{Entry, HeaderTree, Status};
use handfast_proto::lifecycle::{ConnId, DoneReason, Ending, Ledger, Violation};
use handfast_proto::peer_table::MAX_HISTORY;
use handfast_proto::sync::{Phase, SyncState};
use handfast_proto::time::Now;
use handfast_wire::Message;

use super::Running;
use super::peer::{MAX_BYTES, MAX_FRAMES, MAX_MESSAGES};
use crate::sim::engine::Engine;

/// S1: within this time a request is outstanding, or a reason queryable.
const S1_PATIENCE: Duration = Duration::from_secs(120);
/// Trouble this long ago may still be why a peer was late: headers may take two minutes,
/// blocks of the only peer that has them ten.
const TROUBLE_LASTS: Duration = Duration::from_secs(15 * 60);
/// Seconds that a header may lie ahead of the clock.
const MAX_FUTURE: u32 = 2 * 60 * 60;
/// What `why` says when nothing can be asked for, and rightly so.
const GOOD_REASONS: [&str; 4] = [
    "trouble of our own",
    "below the minimum work",
    "serves no blocks",
    "pruned",
];

/// The observer's notes.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// The best header that each live peer has shown.
    shown: BTreeMap<ConnId, BlockHash>,
    /// Since when somebody has shown more, nothing is asked for and no reason is given.
    idle_since: Option<Duration>,
    /// How often the watchdog over sync has fired, as seen last.
    fired: u64,
}

/// What a message shows of its sender's chain.
pub(super) enum Showing {
    Has(Vec<BlockHash>),
    HasNot(Vec<BlockHash>),
    Nothing,
}

impl Watch {
    pub(super) fn before(&self, _: ConnId, message: &Message) -> Showing {
        match message {
            Message::Headers(headers) => Showing::Has(
                headers
                    .last()
                    .map(|last| last.block_hash())
                    .into_iter()
                    .collect(),
            ),
            Message::Inv(items) => Showing::Has(blocks(items)),
            Message::Block(block) => Showing::Has(vec![block.hash]),
            Message::NotFound(items) => Showing::HasNot(blocks(items)),
            _ => Showing::Nothing,
        }
    }

    pub(super) fn shows(&mut self, id: ConnId, showing: Showing, tree: &HeaderTree) {
        match showing {
            Showing::Has(hashes) => {
                for hash in hashes {
                    let work = tree.get(&hash).map(|entry| entry.work);
                    let before = self.shown.get(&id).and_then(|before| tree.get(before));
                    if work > before.map(|entry| entry.work) {
                        self.shown.insert(id, hash);
                    }
                }
            }
            // It takes back what it has shown.
            Showing::HasNot(hashes) if !hashes.is_empty() => {
                self.shown.remove(&id);
            }
            Showing::HasNot(_) | Showing::Nothing => {}
        }
    }

    pub(super) fn forget(&mut self, id: ConnId) {
        self.shown.remove(&id);
    }
}

fn blocks(items: &[Inventory]) -> Vec<BlockHash> {
    let block = |item: &Inventory| match item {
        Inventory::Block(hash) | Inventory::WitnessBlock(hash) => Some(*hash),
        _ => None,
    };
    items.iter().filter_map(block).collect()
}

impl Running {
    /// Tells the observer's ledger what was posted or handled.
    pub(super) fn observe(
        &mut self,
        engine: &mut Engine,
        tell: impl FnOnce(&mut Ledger) -> Result<(), Violation>,
    ) {
        if let Err(violation) = tell(&mut self.ledger) {
            let text = format!("n{}: {violation}", self.host.node);
            engine.breach(violation.invariant, text);
        }
    }

    /// L3, L4, L5: what the managers know is what the ledger saw them handle.
    pub(super) fn compare_tables(&mut self, engine: &mut Engine) {
        let node = self.host.node;
        let (table, sync) = (self.table.ids(), self.sync.ids());
        if !self.ledger.at_peers().eq(table.iter().copied()) {
            engine.breach(
                "L3",
                format!("n{node}: the peer table is not what was admitted: {table:?}"),
            );
        }
        if !self.ledger.at_sync().eq(sync.iter().copied()) {
            engine.breach(
                "L4",
                format!("n{node}: SyncManager knows others than it was told of: {sync:?}"),
            );
        }
        let (queued, taken) = (self.ledger.queued(), self.slots.taken());
        if queued > 2 * taken {
            engine.breach(
                "L5",
                format!("n{node}: {queued} lifecycle messages are queued for {taken} slots"),
            );
        }
    }

    /// The bounds, after every turn of an actor.
    pub(super) fn check(&mut self, engine: &mut Engine) {
        let node = self.host.node;
        for (id, peer) in &self.peers {
            let over = peer.frames > MAX_FRAMES
                || peer.outbox.len() > MAX_MESSAGES
                || peer.outbox.bytes() > MAX_BYTES;
            if over {
                return engine.breach(
                    "bounds",
                    format!("n{node} {id}: queues are over their bounds"),
                );
            }
        }
        if self.links.len() > self.slots.taken() || self.peers.len() > self.slots.taken() {
            engine.breach("bounds", format!("n{node}: more connections than slots"));
        }
        if self.table.book().len() > MAX_ADDRESSES {
            engine.breach(
                "bounds",
                format!("n{node}: the address book is over its bound"),
            );
        }
    }

    /// An honest peer is never ended for a rule that it did not break; one that was held
    /// up by its line or its machine may be given up for lateness.
    pub(super) fn judge_ending(
        &self,
        engine: &mut Engine,
        ending: &Ending,
        other: usize,
        trouble: Duration,
    ) {
        engine
            .tally
            .count(&format!("end: {}", kind(&ending.reason)));
        if engine.healthy && is_trouble(&ending.reason) {
            let text = format!("n{}: {}: {}", self.host.node, ending.id, ending.reason);
            engine.breach("health", text);
        }
        if !engine.honest.contains(&other) || !ending.reason.breaks_rules() {
            return;
        }
        let excused = match &ending.reason {
            DoneReason::HeadersTimeout | DoneReason::BlockStalled { .. } => {
                trouble > Duration::ZERO && trouble.saturating_add(TROUBLE_LASTS) > engine.now
            }
            DoneReason::LowWorkChain => self.profile.minimum_work.is_some(),
            _ => false,
        };
        if excused {
            return engine.tally.count("honest peer given up after trouble");
        }
        let text = format!(
            "n{} cut off honest machine {other} ({}): {}",
            self.host.node, ending.id, ending.reason
        );
        engine.breach("honesty", text);
    }

    /// What is asked every few seconds.
    pub(crate) fn look(&mut self, engine: &mut Engine) {
        if self.stage != super::Stage::Open {
            return;
        }
        let now = self.now(engine);
        let state = self.sync.state(now);
        self.look_at_s1(engine, now, &state);
        self.look_at_watchdog(engine, &state);
        self.look_at_discouraged(engine, now);
        if self.table.history().len() > MAX_HISTORY {
            engine.breach("bounds", "the history is over its bound".into());
        }
    }

    fn look_at_watchdog(&mut self, engine: &mut Engine, state: &SyncState) {
        let fired = state.watchdog.fired;
        if fired > self.watch.fired {
            engine.tally.add("watchdog fired", fired - self.watch.fired);
            self.watch.fired = fired;
            let text = format!("n{}: it fired: {:?}", self.host.node, state.watchdog);
            engine.line(format_args!("watchdog: {text}"));
            if engine.healthy {
                engine.breach("watchdog", text);
            }
        }
    }

    /// Nobody honest is discouraged.
    fn look_at_discouraged(&self, engine: &mut Engine, now: Now) {
        let discouraged = self.table.discouraged();
        if discouraged.is_empty() {
            return;
        }
        let honest = engine.net.hosts.iter().find(|(addr, host)| {
            engine.honest.contains(host) && discouraged.contains(addr.ip(), now)
        });
        if let Some((addr, host)) = honest {
            let text = format!(
                "n{} discourages honest machine {host} at {addr}",
                self.host.node
            );
            engine.breach("honesty", text);
        }
    }

    /// The live peer that has shown a chain with more work than the tip that is good, as
    /// far as this node can tell by its clock.
    fn who_is_ahead(&self, now: Now) -> Option<(ConnId, BlockHash)> {
        let tree = self.sync.tree();
        let tip = tree.tip();
        let latest = now.unix.saturating_add(MAX_FUTURE);
        let is_good = |end: &Entry| {
            let fork = tree.fork_point(&end.hash, &tip.hash);
            let first = fork.expect("both are in the tree").height + 1;
            let branch = tree.branch(&end.hash, first, usize::MAX);
            branch.iter().all(|entry| entry.header.time <= latest)
        };
        let live = self.sync.ids();
        let shown = self.watch.shown.iter().filter(|(id, _)| live.contains(id));
        let mut better = shown
            .filter_map(|(id, hash)| Some((*id, tree.get(hash)?)))
            .filter(|(_, entry)| entry.status != Status::Invalid && entry.work > tip.work);
        let ahead = better.find(|(_, entry)| is_good(entry))?;
        Some((ahead.0, ahead.1.hash))
    }

    fn look_at_s1(&mut self, engine: &mut Engine, now: Now, state: &SyncState) {
        let live = self.sync.ids();
        let asked = state
            .requests
            .iter()
            .any(|request| live.contains(&request.peer));
        let judging = state.backlog.with_kernel > 0
            || state.backlog.header_batches > 0
            || self.kernel_is_busy();
        let said = state.phase == Phase::Stalled
            && GOOD_REASONS.iter().any(|reason| state.why.contains(reason));
        let ahead = self.who_is_ahead(now);
        let Some((id, hash)) = ahead.filter(|_| !asked && !judging && !said) else {
            self.watch.idle_since = None;
            return;
        };
        let since = *self.watch.idle_since.get_or_insert(engine.now);
        let patience = S1_PATIENCE + Duration::from_secs(10);
        if engine.now - since > patience && !engine.had_trouble(self.host.node, patience) {
            let text = format!(
                "n{}: {id} has shown more work, {hash}, for {:?}, nothing is asked for; phase {}, why: {}",
                self.host.node,
                engine.now - since,
                state.phase,
                state.why
            );
            engine.breach("S1", text);
        }
    }

    /// Nothing is queued, and everybody knows of the same connections.
    pub(crate) fn is_quiet(&self) -> bool {
        let (table, sync) = (self.table.ids(), self.sync.ids());
        let sockets = self
            .peers
            .iter()
            .filter(|(_, peer)| !peer.session.awaiting_handshake());
        self.ledger.queued() == 0 && table == sync && sockets.map(|(id, _)| *id).eq(table)
    }

    /// Everything that the sync machine says of itself.
    pub(crate) fn dump(&self, engine: &Engine) -> String {
        format!(
            "n{}: {:#?}",
            self.host.node,
            self.sync.state(self.now(engine))
        )
    }

    /// One line about what the managers know, for a failure.
    pub(crate) fn describe(&self, engine: &Engine) -> String {
        let state = self.sync.state(self.now(engine));
        let tip = self.sync.tree().tip();
        format!(
            "n{} height {} best header {}, {} peers, sync knows {}, {} queued, {}: {}",
            self.host.node,
            tip.height,
            self.sync.tree().best_header().height,
            self.table.ids().len(),
            self.sync.ids().len(),
            self.ledger.queued(),
            state.phase,
            state.why
        )
    }
}

/// Whether it never happens while nothing goes wrong.
fn is_trouble(reason: &DoneReason) -> bool {
    match reason {
        DoneReason::HandshakeTimeout
        | DoneReason::PingTimeout
        | DoneReason::Inactive
        | DoneReason::SlowReader
        | DoneReason::Panicked
        | DoneReason::Evicted => true,
        other => other.breaks_rules(),
    }
}

/// A reason without what differs from case to case.
fn kind(reason: &DoneReason) -> String {
    let text = reason.to_string();
    let end = text.find(':').unwrap_or(text.len());
    let text = &text[..end];
    match reason {
        DoneReason::BlockStalled { .. } => "a block was not delivered in time".into(),
        DoneReason::InvalidBlock { .. } => "invalid block".into(),
        _ => text.to_owned(),
    }
}
