//! The way of a connection through the parts of the table: its beginning, messages and end.

use handfast_wire::{HandledBy, Kind, Message};

use super::admission::Ended;
use super::gossip::{Context, from_v1};
use super::roster::Peer;
use super::{Effect, PeerTable, dialer};
use crate::lifecycle::{ConnId, Direction, DoneReason, Ending, Introduction, Reached, SlotRefusal};
use crate::time::Now;

impl PeerTable {
    pub(super) fn add(&mut self, now: Now, peer: Introduction, effects: &mut Vec<Effect>) {
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
                return self.refuse(now, peer, dialled_for.as_deref(), reason, effects);
            }
        };
        if let Some(victim) = victim {
            tracing::debug!(%id, %victim, "evicted for a newcomer");
            self.peers.close(victim, DoneReason::Evicted, effects);
        }
        let outgoing = peer.direction.is_outgoing();
        let admitted = Peer::new(peer.clone(), dialled_for, now);
        self.admission.admit(admitted, &mut self.peers);
        let context = dialer::Context {
            now,
            peers: &self.peers,
            book: &mut self.book,
            random: &mut self.random,
        };
        self.dialer.admitted(&peer, context);
        self.gossip.admitted(now, &peer);
        self.eviction.admitted(id);
        effects.push(Effect::Admit(peer));
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
        peer: Introduction,
        dialled_for: Option<&str>,
        reason: DoneReason,
        effects: &mut Vec<Effect>,
    ) {
        let id = peer.id;
        tracing::debug!(%id, remote = %peer.remote, %reason, "refused");
        if let Some(name) = dialled_for {
            let why = reason.to_string();
            self.manual.lost(now, name, id, &why, &mut self.random);
        }
        self.admission.refuse(peer);
        effects.push(Effect::Disconnect { id, reason });
    }

    /// Who has to go for this newcomer, or why there is no room.
    fn room_for(
        &mut self,
        now: Now,
        newcomer: &Introduction,
    ) -> Result<Option<ConnId>, DoneReason> {
        match newcomer.direction {
            Direction::Inbound => {
                let ip = newcomer.remote.ip();
                self.eviction.make_room(now, ip, &self.peers, &self.bans)
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

    pub(super) fn done(&mut self, now: Now, ending: Ending, effects: &mut Vec<Effect>) {
        let (id, direction, remote) = (ending.id, ending.direction, ending.remote);
        let reason = &ending.reason;
        let (reached, user_agent) = match self.admission.ended(id, &mut self.peers) {
            Ended::Peer(peer) => {
                self.gossip.ended(id);
                self.eviction.ended(id);
                effects.push(Effect::Retire { id });
                if let Some(name) = peer.name() {
                    let why = reason.to_string();
                    self.manual.lost(now, name, id, &why, &mut self.random);
                }
                let context = dialer::Context {
                    now,
                    peers: &self.peers,
                    book: &mut self.book,
                    random: &mut self.random,
                };
                self.dialer.ended(peer.introduction(), reason, context);
                (
                    Reached::Admitted,
                    Some(peer.introduction().user_agent.clone()),
                )
            }
            Ended::Refused(user_agent) => (Reached::Handshake, Some(user_agent)),
            Ended::Unknown => {
                if direction.is_outgoing() {
                    self.handshake_failed(now, remote, reason);
                }
                (ending.reached, None)
            }
        };
        tracing::debug!(%id, %remote, %direction, %reason, "connection ended");
        if direction != Direction::Manual && reason.discourages(reached) {
            let gone = self.bans.discourage(now, remote.ip(), &self.peers);
            self.peers
                .close_all(gone, &DoneReason::Discouraged, effects);
        }
        self.admission.record(now, ending, reached, user_agent);
    }

    /// Connections that have not completed their handshake are not in this table;
    /// the node closes them together with its intake.
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
        message: Message,
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
        match message {
            Message::GetAddr => {
                effects.extend(self.gossip.answer(peer.introduction(), context));
            }
            Message::Addr(addrs) => self
                .gossip
                .hear(peer.introduction(), from_v1(&addrs), context),
            Message::AddrV2(addrs) => self.gossip.hear(peer.introduction(), addrs, context),
            Message::FeeFilter(rate) => peer.set_fee_filter(rate),
            // The session's are never delivered; of the others there is nothing to do.
            message => {
                if message.kind().map(Kind::handled_by) == Some(HandledBy::SyncManager) {
                    effects.push(Effect::Forward { id, message });
                }
            }
        }
    }
}
