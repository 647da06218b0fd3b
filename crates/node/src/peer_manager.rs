//! `PeerManager`: owns the peer table. Everything about a connection passes here,
//! in the order in which the connection sent it, and in turns with the others
//! ([`crate::turns`]).

pub(crate) mod messages;
mod queue;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actix::{Actor, ActorContext, Addr, Context, Handler, MessageResult};
use handfast_proto::address_relay::OwnAddress;
use handfast_proto::fair_queue::FairQueue;
use handfast_proto::lifecycle::{ConnId, Direction, DoneReason, VersionInfo};
use handfast_proto::peer_table::{Effect, Input, PeerTable};
use handfast_proto::time::Now;
use handfast_wire::Message;
use tokio::time::Instant;

use crate::alarm::{self, Timed};
use crate::audit::Handled;
use crate::connector::Connector;
use crate::connector::messages::{Dial, Resolve};
use crate::credit::Credit;
use crate::critical_guard::CriticalGuard;
use crate::outlook_log;
use crate::peer::link::PeerLink;
use crate::peer::messages::{Disconnect, ServeBlock};
use crate::peer_log::PeerLog;
use crate::peer_manager::messages::{
    Command, DialFailed, Drain, NotDialled, Resolved, Served, StopPeers,
};
use crate::post::{Question, post, post_to};
use crate::shared::Shared;
use crate::slots::{Queued, Slot};
use crate::subscribers::Subscribers;
use crate::turns;

/// See the module.
#[derive(Debug)]
pub(crate) struct PeerManager {
    pub(crate) table: PeerTable,
    /// The way to each connection that completed its handshake, admitted or not.
    pub(crate) links: BTreeMap<ConnId, PeerLink>,
    peer_counters: PeerCounters,
    handled: Handled,
    pub(crate) log: PeerLog,
    queue: FairQueue<queue::FromPeer>,
    subscribers: Subscribers,
    connector: Addr<Connector>,
    pub(crate) shared: Arc<Shared>,
    critical_guard: CriticalGuard,
}

/// What the input of a step carried, to be passed on with an effect. What is left
/// after the step has been handled here, and is returned.
#[derive(Debug, Default)]
struct EffectPermits {
    credit: Option<Credit>,
    /// Of a lifecycle message. Goes before the slot.
    queued: Option<Queued>,
    slot: Option<Slot>,
}

impl PeerManager {
    pub(crate) fn new(
        table: PeerTable,
        subscribers: Subscribers,
        connector: Addr<Connector>,
        shared: Arc<Shared>,
    ) -> Self {
        let critical_guard = CriticalGuard::new("PeerManager", shared.node.died.clone());
        Self {
            table,
            links: BTreeMap::new(),
            peer_counters: PeerCounters::default(),
            handled: Handled::default(),
            log: PeerLog::default(),
            queue: FairQueue::default(),
            subscribers,
            connector,
            shared,
            critical_guard,
        }
    }

    pub(crate) fn step(&mut self, input: Input) {
        self.step_with(input, EffectPermits::default());
    }

    /// One step of the table, and its effects.
    fn step_with(&mut self, input: Input, permits: EffectPermits) {
        self.prepare();
        let effects = self.table.step(self.shared.clock.now(), input);
        self.perform(effects, permits);
    }

    /// A call that the table answers, and its effects.
    pub(crate) fn answer<A>(
        &mut self,
        call: impl FnOnce(&mut PeerTable, Now) -> (A, Vec<Effect>),
    ) -> A {
        self.prepare();
        let (answer, effects) = call(&mut self.table, self.shared.clock.now());
        self.perform(effects, EffectPermits::default());
        answer
    }

    /// Tells the table before a step what it cannot know.
    fn prepare(&mut self) {
        let initial_download = self.shared.view.load().initial_block_download;
        self.table.set_initial_download(initial_download);
    }

    fn perform(&mut self, effects: Vec<Effect>, mut permits: EffectPermits) {
        for effect in effects {
            match effect {
                Effect::Admit { peer, roles } => {
                    self.log.connected(self.shared.clock.now().mono, &peer);
                    self.peer_counters.admitted(&peer);
                    let half_open = &self.shared.half_open;
                    half_open.admitted(peer.id, || self.publish_counts());
                    let queued = permits
                        .queued
                        .take()
                        .expect("L3: a peer is admitted by its own Add");
                    self.subscribers.added(roles, peer, queued);
                }
                Effect::Retire { id, roles } => {
                    let (queued, slot) = permits
                        .queued
                        .take()
                        .zip(permits.slot.take())
                        .expect("L3: a peer is retired by its own Done");
                    self.peer_counters.retired(id);
                    self.publish_counts();
                    self.subscribers.ended(roles, id, queued, slot);
                }
                Effect::Forward { id, message, roles } => {
                    if matches!(*message, Message::Block(_)) {
                        self.shared.events.block(self.peer_counters.direction(id));
                    }
                    let credit = permits
                        .credit
                        .take()
                        .expect("a message is forwarded once, when it arrives");
                    self.subscribers.received(roles, id, message, credit);
                }
                Effect::Send { id, message } => self.send(id, message),
                Effect::Disconnect { id, reason } => self.disconnect(id, reason),
                Effect::Dial {
                    addr,
                    direction,
                    name,
                } => post(
                    &self.connector,
                    Dial {
                        addr,
                        direction,
                        name,
                    },
                ),
                Effect::Resolve {
                    name,
                    host,
                    port,
                    seeds,
                } => {
                    post(
                        &self.connector,
                        Resolve {
                            name,
                            host,
                            port,
                            seeds,
                        },
                    );
                }
                Effect::BansChanged => self.publish_bans(),
                Effect::Notice(notice) => tracing::info!("{notice}"),
            }
        }
    }

    /// The shortest round trips that were measured.
    fn round_trips(&self) -> Vec<(ConnId, Duration)> {
        let measured = |(id, link): (&ConnId, &PeerLink)| Some((*id, link.counters.min_ping()?));
        self.links.iter().filter_map(measured).collect()
    }

    /// Sends to a connection that may have ended already.
    fn send(&mut self, id: ConnId, message: Message) {
        let Some(link) = self.links.get(&id) else {
            return;
        };
        if link.outbox.push(message).is_err() {
            self.disconnect(id, DoneReason::SlowReader);
        }
    }

    fn disconnect(&self, id: ConnId, reason: DoneReason) {
        if let Some(link) = self.links.get(&id) {
            tracing::debug!(peer = id.0, %reason, "disconnecting");
            post_to(&link.actor.disconnect, Disconnect(reason));
        }
    }

    /// Ends connections whose handshake is not complete. Whether there is one that is `meant`.
    pub(crate) fn disconnect_half_open(
        &self,
        meant: impl Fn(&VersionInfo) -> bool,
        reason: DoneReason,
    ) -> bool {
        self.shared.half_open.disconnect(meant, &reason)
    }

    /// Publishes and logs what keeps us from peers, after a step that may have changed it.
    pub(crate) fn publish_outlook(&self) {
        let now = self.shared.clock.now();
        let new = self.table.outlook();
        let old = self.shared.outlook.load_full();
        if *old == new {
            return;
        }
        for line in outlook_log::news(&old, &new, now) {
            tracing::warn!("{line}");
        }
        self.shared.set_outlook(new);
    }

    /// Publishes the bans, for those that accept connections.
    fn publish_bans(&self) {
        self.shared.bans.store(Arc::new(self.table.bans().clone()));
    }

    /// Publishes how many were evicted or refused because no slot was free.
    fn publish_displaced(&self) {
        let displaced = self.table.displaced();
        let published = &self.shared.published;
        published
            .evicted
            .store(displaced.evicted, Ordering::Relaxed);
        let turned_away = displaced.refused;
        published.turned_away.store(turned_away, Ordering::Relaxed);
    }

    /// Publishes where peers can reach us, if that has changed.
    fn publish_own_addresses(&self) {
        let own: Vec<OwnAddress> = self.table.own_addresses().collect();
        if *self.shared.own.load_full() != own {
            self.shared.own.store(Arc::new(own));
        }
    }

    /// Publishes how many peers there are, for those who do not want to ask.
    fn publish_counts(&self) {
        let PeerCounters { inbound, outgoing } = &self.peer_counters;
        // As in Core, only outgoing peers count for the network time.
        let offsets = outgoing.values().map(|(_, offset)| *offset);
        let mut offsets: Vec<i64> = offsets.collect();
        offsets.sort_unstable();
        let median = offsets.get(offsets.len() / 2).copied().unwrap_or(0);
        let published = &self.shared.published;
        published.inbound.store(*inbound, Ordering::Relaxed);
        published.outgoing.store(outgoing.len(), Ordering::Relaxed);
        published.time_offset.store(median, Ordering::Relaxed);
    }
}

/// The admitted peers, counted.
#[derive(Debug, Default)]
struct PeerCounters {
    inbound: usize,
    /// Their direction, and their clocks minus ours, seconds.
    outgoing: BTreeMap<ConnId, (Direction, i64)>,
}

impl PeerCounters {
    fn admitted(&mut self, peer: &VersionInfo) {
        if peer.direction.is_outgoing() {
            let about = (peer.direction, peer.time_offset);
            self.outgoing.insert(peer.id, about);
        } else {
            self.inbound += 1;
        }
    }

    /// Of an admitted peer.
    fn direction(&self, id: ConnId) -> Direction {
        let outgoing = self.outgoing.get(&id);
        outgoing.map_or(Direction::Inbound, |(direction, _)| *direction)
    }

    fn retired(&mut self, id: ConnId) {
        if self.outgoing.remove(&id).is_none() {
            self.inbound -= 1;
        }
    }
}

impl Actor for PeerManager {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(0);
        turns::start(ctx);
        alarm::start(ctx);
        // The table may want to dial at once.
        self.step(Input::Tick);
        self.publish_outlook();
        self.publish_own_addresses();
    }
}

impl Timed for PeerManager {
    fn deadline(&self) -> Option<Instant> {
        handfast_proto::time::earliest(self.table.deadline(), self.log.deadline())
            .map(|mono| self.shared.clock.instant(mono))
    }

    fn on_deadline(&mut self, _: &mut Self::Context) {
        self.log.tick(self.shared.clock.now().mono);
        self.step(Input::Tick);
        self.publish_outlook();
    }
}

impl Handler<Command> for PeerManager {
    type Result = ();
    fn handle(&mut self, Command { from, order }: Command, _: &mut Self::Context) {
        self.step(Input::Order { from, order });
    }
}

impl Handler<ServeBlock> for PeerManager {
    type Result = ();
    fn handle(&mut self, order: ServeBlock, _: &mut Self::Context) {
        // Without a link its Done is on the way to the subscriber, which forgets the order then.
        if let Some(link) = self.links.get(&order.id) {
            post_to(&link.actor.serve, order);
        }
    }
}

impl Handler<Served> for PeerManager {
    type Result = ();
    fn handle(&mut self, served: Served, _: &mut Self::Context) {
        if self.links.contains_key(&served.id) {
            self.subscribers.served(served);
        }
    }
}

impl Handler<DialFailed> for PeerManager {
    type Result = ();
    fn handle(&mut self, DialFailed { addr, name, error }: DialFailed, _: &mut Self::Context) {
        if name.is_none() {
            self.log
                .dial_failed(self.shared.clock.now().mono, addr, &error);
        }
        self.step(Input::DialFailed { addr, name, error });
        self.publish_outlook();
    }
}

impl Handler<NotDialled> for PeerManager {
    type Result = ();
    fn handle(&mut self, NotDialled { addr, name }: NotDialled, _: &mut Self::Context) {
        self.step(Input::NotDialled { addr, name });
        self.publish_outlook();
    }
}

impl Handler<Resolved> for PeerManager {
    type Result = ();
    fn handle(&mut self, Resolved { name, addrs }: Resolved, _: &mut Self::Context) {
        self.step(match addrs {
            Ok(addrs) => Input::Resolved { name, addrs },
            Err(error) => Input::ResolveFailed { name, error },
        });
        self.publish_outlook();
    }
}

impl Handler<Question<PeerManager>> for PeerManager {
    type Result = ();
    fn handle(&mut self, question: Question<PeerManager>, _: &mut Self::Context) {
        question.put_to(self);
        self.publish_outlook();
    }
}

impl Handler<Drain> for PeerManager {
    type Result = ();
    fn handle(&mut self, _: Drain, _: &mut Self::Context) {
        self.step(Input::Drain);
        self.publish_outlook();
    }
}

impl Handler<StopPeers> for PeerManager {
    type Result = MessageResult<StopPeers>;
    fn handle(
        &mut self,
        StopPeers { slots_free }: StopPeers,
        ctx: &mut Self::Context,
    ) -> Self::Result {
        if slots_free {
            self.table.assert_all_free();
            assert!(
                self.links.is_empty(),
                "L6: all slots are free and PeerManager still has links"
            );
        }
        self.critical_guard.disarm();
        ctx.stop();
        MessageResult((self.table.book().rows().collect(), self.handled))
    }
}
