//! Who is in the table, and what its messages are worth.

use handfast_wire::Message;

use super::gossip::{Context, from_v1};
use super::roster::Peer;
use super::{Effect, HistoryRow, MAX_HISTORY, PeerTable, dialer};
use crate::lifecycle::{AssertHeld, ConnId, Direction, DoneReason, Ending, Introduction, Reached};
use crate::time::Now;

impl PeerTable {
    pub(super) fn add(&mut self, now: Now, peer: Introduction, effects: &mut Vec<Effect>) {
        let id = peer.id;
        self.ledger.peer_add(id).assert_held();
        let dialled_for = self.dial_connected(now, &peer);
        let verdict = self
            .objection(now, &peer)
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
        self.ledger.admitted(id).assert_held();
        let outgoing = peer.direction.is_outgoing();
        self.peers.insert(Peer::new(peer.clone(), dialled_for, now));
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
        self.ledger.refused(id).assert_held();
        tracing::debug!(%id, remote = %peer.remote, %reason, "refused");
        if let Some(name) = dialled_for {
            let why = reason.to_string();
            self.manual.lost(now, name, id, &why, &mut self.random);
        }
        self.refused.insert(id, peer.user_agent);
        effects.push(Effect::Disconnect { id, reason });
    }

    /// Why this newcomer is not admitted, however much room there is.
    fn objection(&self, now: Now, newcomer: &Introduction) -> Option<DoneReason> {
        if self.draining {
            return Some(DoneReason::Shutdown);
        }
        if !self.network_active {
            return Some(DoneReason::Requested);
        }
        if self.bans.is_banned(newcomer.remote.ip(), now) {
            return Some(DoneReason::Banned);
        }
        let same =
            |peer: &Peer| peer.introduction().remote == newcomer.remote && peer.is_outgoing();
        let duplicate = newcomer.direction.is_outgoing() && self.peers.values().any(same);
        // The remote port of an inbound connection says nothing about who it is.
        duplicate.then_some(DoneReason::DuplicateConnection)
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
                let full = || format!("all {slots} outbound slots are taken");
                room.then_some(None)
                    .ok_or_else(|| DoneReason::Refused(full()))
            }
            // The operator's wish; their number was limited when they were dialled.
            Direction::Manual => Ok(None),
        }
    }

    pub(super) fn done(&mut self, now: Now, ending: Ending, effects: &mut Vec<Effect>) {
        let Ending {
            id,
            direction,
            remote,
            connected_at,
            reached,
            reason,
        } = ending;
        self.ledger.peer_done(id).assert_held();
        let admitted = self.peers.remove(id);
        let (reached, user_agent) = match (admitted, self.refused.remove(&id)) {
            (Some(peer), _) => {
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
                self.dialer.ended(peer.introduction(), &reason, context);
                (
                    Reached::Admitted,
                    Some(peer.introduction().user_agent.clone()),
                )
            }
            (None, Some(user_agent)) => (Reached::Handshake, Some(user_agent)),
            (None, None) => {
                if direction.is_outgoing() {
                    self.handshake_failed(now, remote, &reason);
                }
                (reached, None)
            }
        };
        tracing::debug!(%id, %remote, %direction, %reason, "connection ended");
        if direction != Direction::Manual && reason.discourages(reached) {
            let gone = self.bans.discourage(now, remote.ip(), &self.peers);
            self.peers
                .close_all(gone, &DoneReason::Discouraged, effects);
        }
        if direction == Direction::Inbound && self.unrecorded == Some(remote.ip()) {
            return;
        }
        if self.history.len() == MAX_HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(HistoryRow {
            id,
            remote,
            direction,
            user_agent,
            reached,
            reason,
            connected_at: connected_at.unix,
            lasted: now.mono.saturating_sub(connected_at.mono),
            ended_at: now.unix,
        });
    }

    /// Connections that have not completed their handshake are not in this table;
    /// the node closes them together with its intake.
    pub(super) fn drain(&mut self, effects: &mut Vec<Effect>) {
        self.draining = true;
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
            Message::Headers(_)
            | Message::Inv(_)
            | Message::Block(_)
            | Message::NotFound(_)
            | Message::GetHeaders(_)
            | Message::GetBlocks(_)
            | Message::GetData(_)
            | Message::SendHeaders => effects.push(Effect::Forward { id, message }),
            // We have no compact blocks and want no transactions, and said so.
            Message::SendCmpct { .. } | Message::Tx(_) => {}
            // The session's, never delivered.
            Message::Version(_)
            | Message::Verack
            | Message::Ping(_)
            | Message::Pong(_)
            | Message::SendAddrV2
            | Message::WtxidRelay
            | Message::Mempool
            | Message::Unknown { .. } => {}
        }
    }
}
