//! What an operator sets: the network on and off, addresses, single connections.

use std::net::SocketAddr;

use super::{AddAddressError, AtCapacity, Effect, PeerTable};
use crate::address_book::{Group, Source, canonical};
use crate::lifecycle::{Direction, DoneReason};
use crate::session::full_node;
use crate::time::Now;

impl PeerTable {
    /// Whether the operator did not switch the network off.
    #[must_use]
    pub fn network_active(&self) -> bool {
        self.network_active
    }

    /// Off: every peer is told to go. Whoever completes a handshake later is refused, and
    /// what was to be dialled waits until the network is on again. Core `SetNetworkActive`.
    pub(super) fn set_network_active(&mut self, active: bool, effects: &mut Vec<Effect>) {
        if std::mem::replace(&mut self.network_active, active) == active {
            return;
        }
        tracing::debug!(active, "the operator switched the network");
        if !active {
            for id in self.ids() {
                self.close(id, DoneReason::Requested, effects);
            }
        }
    }

    /// Learns an address as if it had announced itself.
    pub(super) fn add_address(
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
        self.dials.hurry(now);
        Ok(())
    }

    /// Dials an address once, as one that was chosen automatically. Nothing is done about one
    /// that we are connected to, or while the network is off.
    pub(super) fn connect(
        &mut self,
        now: Now,
        addr: SocketAddr,
        effects: &mut Vec<Effect>,
    ) -> Result<(), AtCapacity> {
        let addr = canonical(addr);
        if !self.has_outbound_room() {
            return Err(AtCapacity);
        }
        let unwelcome = self.bans.is_banned(addr.ip(), now);
        if self.network_active && !self.draining && !unwelcome && !self.is_outgoing_to(addr) {
            self.dial(now, addr, Direction::Outbound, None, effects);
        }
        Ok(())
    }
}
