//! The observations of an outside observer of a node, and its checks at every step.

mod s1;
mod wire;

use std::collections::BTreeSet;
use std::time::Duration;

use bitcoin::BlockHash;
use handfast_proto::address_book::MAX_ADDRESSES;
use handfast_proto::lifecycle::{
    Class, ConnId, Disconnection, DoneReason, Ledger, Role, Violation,
};
use handfast_proto::peer_table::MAX_HISTORY;
use handfast_proto::sync::SyncState;
use handfast_proto::time::Now;
use handfast_wire::Message;

use super::Running;
use super::peer::{MAX_BYTES, MAX_FRAMES, MAX_MESSAGES};
use crate::sim::engine::Engine;
use wire::Wire;

/// A stall this long ago may still be why a peer was late: headers may take two minutes, blocks of
/// the only peer that has them ten.
const TROUBLE_LASTS: Duration = Duration::from_secs(15 * 60);
/// The observer's records.
#[derive(Debug, Default)]
pub(super) struct Watch {
    wire: Wire,
    /// Headers and blocks that the kernel marked invalid.
    refused: BTreeSet<BlockHash>,
    /// How often the watchdog of sync had fired at the last look.
    fired: u64,
}

impl Watch {
    pub(super) fn begins(&mut self, id: ConnId, engine: &Engine) {
        self.wire.begins(id, engine.now);
    }

    pub(super) fn ends(&mut self, id: ConnId) {
        self.wire.ends(id);
    }

    pub(super) fn sent(&mut self, id: ConnId, message: &Message, engine: &Engine) {
        self.wire.sent(id, message, engine.now);
    }

    /// A `getheaders` to the peer is outstanding.
    pub(super) fn awaits_headers(&self, id: ConnId) -> bool {
        let peer = self.wire.peers.get(&id);
        // A received message is recorded before it is handled.
        peer.is_some_and(|peer| {
            peer.headers_asked
                .is_some_and(|asked| Some(asked) > peer.headers_before)
        })
    }

    /// A `getdata` to the peer is outstanding.
    pub(super) fn has_getdata_outstanding(&self, id: ConnId) -> bool {
        let peer = self.wire.peers.get(&id);
        peer.is_some_and(|peer| peer.block_asked.is_some())
    }

    /// Another peer has been stalling a block for so long.
    pub(super) fn another_stalls(&self, id: ConnId, now: Duration, long: Duration) -> bool {
        let mut others = self.wire.peers.iter().filter(|(other, _)| **other != id);
        others.any(|(_, peer)| peer.outstanding.values().any(|at| *at + long < now))
    }

    /// This block was requested from another peer that has not sent it.
    pub(super) fn another_was_asked(&self, id: ConnId, hash: &BlockHash) -> bool {
        let mut others = self.wire.peers.iter().filter(|(other, _)| **other != id);
        others.any(|(_, peer)| peer.outstanding.contains_key(hash))
    }

    pub(super) fn received(&mut self, id: ConnId, message: &Message, engine: &mut Engine) {
        let now = engine.now;
        self.wire.received(id, message, &mut engine.seen, now);
    }
}

impl Running {
    /// Records in the observer's ledger what was posted or handled.
    pub(super) fn observe(
        &mut self,
        engine: &mut Engine,
        tell: impl FnOnce(&mut Ledger) -> Result<(), Violation>,
    ) {
        let told = tell(&mut self.ledger);
        self.judge(engine, told);
    }

    /// What a ledger said.
    pub(super) fn judge(&mut self, engine: &mut Engine, said: Result<(), Violation>) {
        if let Err(violation) = said {
            let text = format!("n{}: {violation}", self.host.node);
            engine.breach(violation.invariant, text);
        }
    }

    /// L3, L4, L5: the managers' tables equal what the ledger saw them handle.
    pub(super) fn compare_tables(&mut self, engine: &mut Engine) {
        let node = self.host.node;
        let (table, sync) = (self.table.ids(), self.sync.ids());
        if !self.ledger.at_peers().eq(table.iter().copied()) {
            engine.breach(
                "L3",
                format!("n{node}: the peer table is not what was admitted: {table:?}"),
            );
        }
        if !self.ledger.at(Role::Sync).eq(sync.iter().copied()) {
            engine.breach(
                "L4",
                format!("n{node}: SyncManager knows other peers than were added: {sync:?}"),
            );
        }
        if !self
            .ledger
            .at(Role::Test)
            .eq(self.second.peers.iter().copied())
        {
            let known = &self.second.peers;
            engine.breach(
                "L4",
                format!("n{node}: the second knows others than it was notified of: {known:?}"),
            );
        }
        let (queued, taken) = (self.ledger.queued(), self.slots.taken());
        if queued > 2 * self.profile.subscribers.len() * taken {
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

    /// An honest peer is never disconnected for a rule that it did not break; one whose line or
    /// machine was stalled may be disconnected for lateness.
    pub(super) fn judge_ending(
        &self,
        engine: &mut Engine,
        disconnection: &Disconnection,
        other: usize,
        trouble: Duration,
    ) {
        engine
            .counts
            .count(&format!("end: {}", kind(&disconnection.reason)));
        if engine.healthy && is_trouble(&disconnection.reason) {
            let text = format!(
                "n{}: {}: {}",
                self.host.node, disconnection.id, disconnection.reason
            );
            engine.breach("health", text);
        }
        if !engine.honest.contains(&other) {
            return;
        }
        let class = disconnection.reason.class();
        let by_us = class != Class::Lost && disconnection.reason != DoneReason::Shutdown;
        if engine.siege && by_us {
            let text = format!(
                "n{} ended its honest peer: {}",
                self.host.node, disconnection.reason
            );
            return engine.breach("honesty", text);
        }
        if !class.breaks_rules() {
            return;
        }
        let excused = match &disconnection.reason {
            DoneReason::HeadersTimeout | DoneReason::BlockStalled { .. } => {
                trouble > Duration::ZERO && trouble.saturating_add(TROUBLE_LASTS) > engine.now
            }
            DoneReason::LowWorkChain => self.profile.minimum_work.is_some(),
            _ => false,
        };
        if excused {
            return engine.counts.count("honest peer given up after trouble");
        }
        let text = format!(
            "n{} disconnected honest machine {other} ({}): {}",
            self.host.node, disconnection.id, disconnection.reason
        );
        engine.breach("honesty", text);
    }

    /// The checks of every few seconds.
    pub(crate) fn look(&mut self, engine: &mut Engine) {
        if self.stage != super::Stage::Open {
            return;
        }
        let now = self.now(engine);
        let state = self.sync.state(now);
        self.look_at_verdicts(engine);
        self.look_at_s1(engine, now);
        self.look_at_watchdog(engine, &state);
        self.look_at_discouraged(engine, now);
        if self.table.history().len() > MAX_HISTORY {
            engine.breach("bounds", "the history is over its bound".into());
        }
    }

    fn look_at_watchdog(&mut self, engine: &mut Engine, state: &SyncState) {
        let fired = state.watchdog.fired;
        if fired > self.watch.fired {
            engine
                .counts
                .add("watchdog fired", fired - self.watch.fired);
            self.watch.fired = fired;
            let text = format!("n{}: it fired: {:?}", self.host.node, state.watchdog);
            engine.line(format_args!("watchdog: {text}"));
            if engine.healthy {
                engine.breach("watchdog", text);
            }
        }
    }

    /// No honest machine is discouraged.
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

    /// Whether its handshake with a machine is complete.
    pub(crate) fn has_met(&self, machine: usize) -> bool {
        let mut met = self.peers.values().filter(|peer| peer.other == machine);
        met.any(|peer| !peer.session.awaiting_handshake())
    }

    /// Nothing is queued, and all tables have the same connections.
    pub(crate) fn is_quiet(&self) -> bool {
        let (table, sync) = (self.table.ids(), self.sync.ids());
        let sockets = self
            .peers
            .iter()
            .filter(|(_, peer)| !peer.session.awaiting_handshake());
        self.ledger.queued() == 0
            && table == sync
            && self.table.ids_of(Role::Test) == self.second.peers
            && sockets.map(|(id, _)| *id).eq(table)
    }

    /// The whole state of the sync machine.
    pub(crate) fn dump(&self, engine: &Engine) -> String {
        format!(
            "n{}: {:#?}",
            self.host.node,
            self.sync.state(self.now(engine))
        )
    }

    /// One line about the managers' state, for a failure.
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

/// Whether it never happens without faults.
fn is_trouble(reason: &DoneReason) -> bool {
    match reason.class() {
        Class::Silent | Class::Bug => true,
        Class::Ours | Class::Slow => {
            matches!(reason, DoneReason::Evicted | DoneReason::SlowReader)
        }
        class => class.breaks_rules(),
    }
}

/// A reason without the details of a case.
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
