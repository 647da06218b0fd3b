//! The way of a connection through the parts of the table: its beginning, messages and end.

use std::sync::Arc;

use handfast_wire::Message;

use super::admission::Ended;
use super::admitted_peers::Peer;
use super::gossip::{Context, from_v1};
use super::{Effect, Order, PeerTable, dialer};
use crate::lifecycle::{
    ConnId, Direction, Disconnection, DoneReason, Reached, Role, Roles, SlotRefusal, VersionInfo,
};
use crate::time::Now;

impl PeerTable {
    pub(super) fn add(&mut self, now: Now, peer: VersionInfo, effects: &mut Vec<Effect>) {
        let id = peer.id;
        self.admission.began(id);
        let dialled_for = self.dial_connected(now, &peer);
        let verdict = self
            .admission
            .objection(now, &peer, &self.peers, &self.bans)
            .map_or_else(|| self.room_for(now, &peer), Err);
        let victim = match verdict {
            Ok(victim) => victim,
            Err(reason) => {
                return self.refuse(now, peer, reason, effects);
            }
        };
        if let Some(victim) = victim {
            tracing::debug!(%id, %victim, "evicted for a newcomer");
            self.peers.close(victim, DoneReason::Evicted, effects);
        }
        let outgoing = peer.direction.is_outgoing();
        let roles = self.config.subscribers.wanting_peer(&peer);
        let admitted = Peer::new(peer.clone(), dialled_for, roles, now);
        self.admission.admit(admitted, &mut self.peers);
        self.manual.adopt(&self.peers);
        let context = dialer::Context {
            now,
            peers: &self.peers,
            book: &mut self.book,
            random: &mut self.random,
        };
        self.dialer.admitted(&peer, context);
        self.gossip.admitted(now, &peer);
        self.eviction.admitted(id);
        effects.push(Effect::Admit { peer, roles });
        if outgoing {
            effects.push(Effect::Send {
                id,
                message: Message::GetAddr,
            });
        }
    }

    fn refuse(
        &mut self,
        now: Now,
        peer: VersionInfo,
        reason: DoneReason,
        effects: &mut Vec<Effect>,
    ) {
        let id = peer.id;
        tracing::debug!(%id, remote = %peer.remote, %reason, "refused");
        let why = reason.to_string();
        self.manual.lost(now, id, &why, false, &mut self.random);
        self.manual.adopt(&self.peers);
        self.admission.refuse(peer);
        effects.push(Effect::Disconnect { id, reason });
    }

    /// Who has to go for this newcomer, or why there is no room.
    fn room_for(&mut self, now: Now, newcomer: &VersionInfo) -> Result<Option<ConnId>, DoneReason> {
        match newcomer.direction {
            Direction::Inbound => {
                let ip = newcomer.remote.ip();
                self.eviction.free_slot(now, ip, &self.peers, &self.bans)
            }
            Direction::Outbound => {
                let slots = self.outbound_limit();
                let room = self.peers.count(Direction::Outbound) < slots;
                let full = SlotRefusal::OutboundFull { slots };
                room.then_some(None).ok_or(DoneReason::Refused(full))
            }
            // The operator's wish; their number was limited when they were dialled.
            Direction::Manual => Ok(None),
        }
    }

    pub(super) fn done(
        &mut self,
        now: Now,
        disconnection: Disconnection,
        effects: &mut Vec<Effect>,
    ) {
        let (id, direction, remote) = (
            disconnection.id,
            disconnection.direction,
            disconnection.remote,
        );
        let reason = &disconnection.reason;
        let (reached, user_agent) = match self.admission.ended(id, &mut self.peers) {
            Ended::Peer(peer) => {
                self.gossip.ended(id);
                self.eviction.ended(id);
                let roles = peer.roles();
                effects.push(Effect::Retire { id, roles });
                let why = reason.to_string();
                let network_down = self.peers.is_alone() && reason.class().may_be_the_network();
                self.manual
                    .lost(now, id, &why, network_down, &mut self.random);
                self.manual.adopt(&self.peers);
                let context = dialer::Context {
                    now,
                    peers: &self.peers,
                    book: &mut self.book,
                    random: &mut self.random,
                };
                self.dialer.ended(peer.version_info(), reason, context);
                (
                    Reached::Admitted,
                    Some(peer.version_info().user_agent.clone()),
                )
            }
            Ended::Refused(user_agent) => (Reached::Handshake, Some(user_agent)),
            Ended::Unknown => {
                if direction.is_outgoing() {
                    self.handshake_failed(now, remote, reason);
                }
                (disconnection.reached, None)
            }
        };
        tracing::debug!(%id, %remote, %direction, %reason, "connection ended");
        if direction != Direction::Manual && reason.discourages(reached) {
            let gone = self.bans.discourage(now, remote.ip(), &self.peers);
            self.peers
                .close_all(gone, &DoneReason::Discouraged, effects);
        }
        self.admission
            .record(now, disconnection, reached, user_agent);
    }

    /// Connections that have not completed their handshake are not in this table;
    /// the node closes them together with its acceptor.
    pub(super) fn drain(&mut self, effects: &mut Vec<Effect>) {
        self.admission.drain();
        self.manual.clear();
        self.dialer.stop();
        let all = self.ids();
        self.peers.close_all(all, &DoneReason::Shutdown, effects);
    }

    pub(super) fn message(
        &mut self,
        now: Now,
        id: ConnId,
        message: Arc<Message>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(peer) = self.peers.get_mut(id) else {
            return;
        };
        if peer.closing() {
            return;
        }
        let context = Context {
            now,
            bans: &self.bans,
            book: &mut self.book,
            random: &mut self.random,
        };
        match &*message {
            Message::GetAddr => {
                effects.extend(self.gossip.answer(peer.version_info(), context));
            }
            Message::Addr(addrs) => {
                self.gossip
                    .receive(peer.version_info(), from_v1(addrs), context)
            }
            Message::AddrV2(_) => {
                // Moved out, not copied: it has no other holder.
                if let Message::AddrV2(addrs) = Arc::unwrap_or_clone(message) {
                    self.gossip.receive(peer.version_info(), addrs, context);
                }
            }
            Message::FeeFilter(rate) => peer.set_fee_filter(*rate),
            // The session's are never delivered; of the others there is nothing to do.
            _ => {
                let roles = peer.roles() & Roles::that_want(&message);
                if !roles.is_empty() {
                    effects.push(Effect::Forward { id, message, roles });
                }
            }
        }
    }

    /// Does what a subscriber wants.
    pub(super) fn order(&mut self, now: Now, from: Role, order: Order, effects: &mut Vec<Effect>) {
        // The subscriber may not have handled its Done yet (L4).
        let knows = |id: ConnId| self.peers.get(&id).is_some_and(|it| it.is_known_to(from));
        if !order.peer().is_none_or(knows) {
            return;
        }
        match order {
            Order::Send { id, message } => effects.push(Effect::Send { id, message }),
            Order::Disconnect { id, reason } => self.peers.close(id, reason, effects),
            Order::MorePeers => self.look_for_more_peers(now),
            Order::Useful { id } => self.eviction.received_block(now, id),
        }
    }
}
