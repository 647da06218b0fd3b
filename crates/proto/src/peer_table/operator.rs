//! The operator's calls that have an answer: nodes, disconnecting, bans, addresses, single
//! connections. Each is a step of the table as [`PeerTable::step`] is.

use std::net::SocketAddr;

use super::{
    AddAddressError, AddNodeCommand, AddNodeError, AtCapacity, DisconnectTarget, Effect,
    NotConnected, PeerTable,
};
use crate::address_book::{Group, Source, canonical};
use crate::bans::{BanCommand, BanError};
use crate::lifecycle::{Direction, DoneReason};
use crate::session::full_node;
use crate::time::Now;

impl PeerTable {
    /// Whether the operator did not switch the network off.
    #[must_use]
    pub fn network_active(&self) -> bool {
        self.admission.network().active
    }

    /// Off: every peer is disconnected. A peer that completes a handshake later is refused, and
    /// what was to be dialled waits until the network is on again. Core `SetNetworkActive`.
    pub(super) fn set_network_active(&mut self, active: bool, effects: &mut Vec<Effect>) {
        if !self.admission.set_active(active) {
            return;
        }
        tracing::debug!(active, "the operator switched the network");
        if !active {
            let all = self.ids();
            self.peers.close_all(all, &DoneReason::Requested, effects);
        }
    }

    /// One step that has an answer.
    fn answer<A>(
        &mut self,
        now: Now,
        call: impl FnOnce(&mut Self, &mut Vec<Effect>) -> A,
    ) -> (A, Vec<Effect>) {
        let mut effects = Vec::new();
        let answer = call(self, &mut effects);
        self.plan(now, &mut effects);
        (answer, effects)
    }

    /// `addnode`. `name`: address or host, with or without a port.
    ///
    /// # Errors
    /// See [`AddNodeError`]; the list of added nodes is unchanged then.
    pub fn add_node(
        &mut self,
        now: Now,
        name: String,
        command: AddNodeCommand,
    ) -> (Result<(), AddNodeError>, Vec<Effect>) {
        self.answer(now, |table, _| table.manual.change(now, name, command))
    }

    /// `disconnectnode`: the matching admitted peers are disconnected.
    ///
    /// # Errors
    /// No admitted peer is meant.
    pub fn disconnect(
        &mut self,
        now: Now,
        target: DisconnectTarget,
    ) -> (Result<(), NotConnected>, Vec<Effect>) {
        self.answer(now, |table, effects| {
            let meant = table.peers.ids_where(|peer| target.means(peer));
            let found = !meant.is_empty();
            table
                .peers
                .close_all(meant, &DoneReason::Requested, effects);
            found.then_some(()).ok_or(NotConnected)
        })
    }

    /// `setban` and `clearbanned`. Who is banned is disconnected.
    ///
    /// # Errors
    /// See [`BanError`]; the list of bans is unchanged then.
    pub fn ban(&mut self, now: Now, order: BanCommand) -> (Result<(), BanError>, Vec<Effect>) {
        self.answer(now, |table, effects| {
            let banned = table.bans.change(now, order, &table.peers)?;
            effects.push(Effect::BansChanged);
            table.peers.close_all(banned, &DoneReason::Banned, effects);
            Ok(())
        })
    }

    /// `addpeeraddress`; with `tried` as if we had been connected to it.
    ///
    /// # Errors
    /// See [`AddAddressError`].
    pub fn add_address(
        &mut self,
        now: Now,
        addr: SocketAddr,
        tried: bool,
    ) -> (Result<(), AddAddressError>, Vec<Effect>) {
        self.answer(now, |table, _| table.learn_address(now, addr, tried))
    }

    /// `addconnection`: dials this address like one that was chosen automatically.
    ///
    /// # Errors
    /// All slots for automatic outbound connections are taken.
    pub fn connect(&mut self, now: Now, addr: SocketAddr) -> (Result<(), AtCapacity>, Vec<Effect>) {
        self.answer(now, |table, effects| table.dial_once(now, addr, effects))
    }

    /// Learns an address as if it had announced itself.
    fn learn_address(
        &mut self,
        now: Now,
        addr: SocketAddr,
        tried: bool,
    ) -> Result<(), AddAddressError> {
        let addr = canonical(addr);
        let source = Source::Gossip(Group::of(addr.ip()));
        let services = full_node();
        let random = &mut self.random;
        if !self
            .book
            .learn(addr, services, now.unix, source, now, random)
        {
            return Err(AddAddressError::New);
        }
        if tried {
            self.book.succeeded(addr, services, now, random);
            if !self.book.is_tried(addr) {
                return Err(AddAddressError::Tried);
            }
        }
        self.dialer.hurry(now);
        Ok(())
    }

    /// Dials an address once, as one that was chosen automatically. Nothing is done about one
    /// that we are connected to, or while the network is off.
    fn dial_once(
        &mut self,
        now: Now,
        addr: SocketAddr,
        effects: &mut Vec<Effect>,
    ) -> Result<(), AtCapacity> {
        let addr = canonical(addr);
        if !self
            .dialer
            .has_free_slot(&self.peers, self.outbound_limit())
        {
            return Err(AtCapacity);
        }
        let unwelcome = self.bans.is_banned(addr.ip(), now);
        let connected = self.dialer.is_outgoing_to(addr, &self.peers);
        if self.admission.network().is_open() && !unwelcome && !connected {
            effects.push(self.dialer.dial(now, addr, Direction::Outbound, None));
        }
        Ok(())
    }
}
