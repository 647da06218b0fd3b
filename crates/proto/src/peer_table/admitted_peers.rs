//! The admitted peers, and how many there are of each direction.
//!
//! How many is asked in every step, so it is counted as peers come and go instead of
//! by looking at each of them: with 300 peers that was a third of a step's work.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Deref;

use super::{Effect, PeerRow};
use crate::lifecycle::{ConnId, Direction, DoneReason, Role, Roles, VersionInfo};
use crate::time::Now;

/// An admitted peer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Peer {
    version_info: VersionInfo,
    admitted_at: Now,
    /// The manual peer that it is.
    name: Option<String>,
    /// It is being disconnected. Set by [`AdmittedPeers::close`], which counts it.
    closing: bool,
    fee_filter: Option<u64>,
    /// The subscribers that were notified of it.
    roles: Roles,
}

impl Peer {
    pub(super) fn new(
        version_info: VersionInfo,
        name: Option<String>,
        roles: Roles,
        now: Now,
    ) -> Self {
        Self {
            version_info,
            admitted_at: now,
            name,
            closing: false,
            fee_filter: None,
            roles,
        }
    }

    pub(super) fn version_info(&self) -> &VersionInfo {
        &self.version_info
    }

    pub(super) fn id(&self) -> ConnId {
        self.version_info.id
    }

    pub(super) fn ip(&self) -> IpAddr {
        self.version_info.remote.ip()
    }

    pub(super) fn is_outgoing(&self) -> bool {
        self.version_info.direction.is_outgoing()
    }

    pub(super) fn admitted_at(&self) -> Now {
        self.admitted_at
    }

    /// The subscribers that were notified of it.
    pub(super) fn roles(&self) -> Roles {
        self.roles
    }

    /// Whether this subscriber was notified of it.
    pub(super) fn is_known_to(&self, role: Role) -> bool {
        self.roles.contains(role)
    }

    /// It sent `feefilter`.
    pub(super) fn set_fee_filter(&mut self, rate: u64) {
        self.fee_filter = Some(rate);
    }

    /// Whether it is being disconnected.
    pub(super) fn closing(&self) -> bool {
        self.closing
    }

    pub(super) fn row(&self, addresses: AddressCounts) -> PeerRow {
        PeerRow {
            id: self.version_info.id,
            remote: self.version_info.remote,
            direction: self.version_info.direction,
            name: self.name.clone(),
            version_info: self.version_info.clone(),
            admitted_at: self.admitted_at,
            closing: self.closing,
            fee_filter: self.fee_filter,
            relays_addresses: addresses.takes_part,
            addresses_processed: addresses.processed,
            addresses_rate_limited: addresses.rate_limited,
        }
    }
}

/// How many addresses a peer sent, and whether it is sent some.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct AddressCounts {
    pub(super) takes_part: bool,
    pub(super) processed: u64,
    pub(super) rate_limited: u64,
}

/// Peers of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Count {
    all: usize,
    closing: usize,
}

/// The admitted peers, and no others. Reads as the map that it keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct AdmittedPeers {
    peers: BTreeMap<ConnId, Peer>,
    inbound: Count,
    outbound: Count,
    manual: Count,
}

impl Deref for AdmittedPeers {
    type Target = BTreeMap<ConnId, Peer>;

    fn deref(&self) -> &Self::Target {
        &self.peers
    }
}

impl AdmittedPeers {
    /// Adds a peer that is not in the table.
    pub(super) fn insert(&mut self, peer: Peer) {
        self.count_mut(peer.version_info.direction).all += 1;
        let id = peer.version_info.id;
        let before = self.peers.insert(id, peer);
        assert!(before.is_none(), "L2: {id} is admitted once");
    }

    pub(super) fn remove(&mut self, id: ConnId) -> Option<Peer> {
        let peer = self.peers.remove(&id)?;
        let count = self.count_mut(peer.version_info.direction);
        count.all -= 1;
        count.closing -= usize::from(peer.closing);
        Some(peer)
    }

    pub(super) fn get_mut(&mut self, id: ConnId) -> Option<&mut Peer> {
        self.peers.get_mut(&id)
    }

    /// Tells a peer to go, once; the first reason stands.
    pub(super) fn close(&mut self, id: ConnId, reason: DoneReason, effects: &mut Vec<Effect>) {
        if self.begin_closing(id) {
            effects.push(Effect::Disconnect { id, reason });
        }
    }

    /// Tells peers to go, all for one reason.
    pub(super) fn close_all(
        &mut self,
        ids: impl IntoIterator<Item = ConnId>,
        reason: &DoneReason,
        effects: &mut Vec<Effect>,
    ) {
        for id in ids {
            self.close(id, reason.clone(), effects);
        }
    }

    /// The peers that are `meant`.
    pub(super) fn ids_where(&self, meant: impl Fn(&VersionInfo) -> bool) -> Vec<ConnId> {
        let meant = self.values().filter(|peer| meant(&peer.version_info));
        meant.map(Peer::id).collect()
    }

    /// Whether no peer that we dialled is connected.
    pub(super) fn is_alone(&self) -> bool {
        self.outgoing() == 0
    }

    /// Peers whose connection we opened, closing ones included.
    pub(super) fn outgoing(&self) -> usize {
        self.count(Direction::Outbound) + self.count(Direction::Manual)
    }

    /// Marks a peer as being disconnected. False when it already is, or is not here.
    fn begin_closing(&mut self, id: ConnId) -> bool {
        let Some(peer) = self.peers.get_mut(&id).filter(|peer| !peer.closing) else {
            return false;
        };
        peer.closing = true;
        let direction = peer.version_info.direction;
        self.count_mut(direction).closing += 1;
        true
    }

    /// Peers of this direction, closing ones included: their slots are not home yet.
    pub(super) fn count(&self, direction: Direction) -> usize {
        self.counted(direction).all
    }

    /// Peers of this direction that are not being disconnected.
    pub(super) fn count_staying(&self, direction: Direction) -> usize {
        let count = self.counted(direction);
        count.all - count.closing
    }

    /// Those peers themselves.
    pub(super) fn staying(&self, direction: Direction) -> impl Iterator<Item = &Peer> {
        self.peers
            .values()
            .filter(move |peer| peer.version_info.direction == direction && !peer.closing)
    }

    fn counted(&self, direction: Direction) -> Count {
        match direction {
            Direction::Inbound => self.inbound,
            Direction::Outbound => self.outbound,
            Direction::Manual => self.manual,
        }
    }

    fn count_mut(&mut self, direction: Direction) -> &mut Count {
        match direction {
            Direction::Inbound => &mut self.inbound,
            Direction::Outbound => &mut self.outbound,
            Direction::Manual => &mut self.manual,
        }
    }
}

#[cfg(test)]
pub(super) mod testing {
    use std::net::SocketAddr;
    use std::time::Duration;

    use super::*;
    use crate::session::full_node;

    /// Of a connection to or from group `n`.
    pub(in super::super) fn version_info(id: u64, direction: Direction, n: u8) -> VersionInfo {
        VersionInfo {
            id: ConnId(id),
            direction,
            remote: SocketAddr::from(([n, 1, 1, 1], 8333)),
            version: 70_016,
            services: full_node(),
            user_agent: "/Satoshi:29.0.0/".to_owned(),
            claimed_height: Some(1),
            relay: true,
            wants_addrv2: true,
            wtxid_relay: true,
            connected_at: Now::default(),
            time_offset: 0,
            sees_us_at: None,
            handshake: Duration::ZERO,
        }
    }

    /// Admitted peers with the ids 0, 1, 2 and so on, of these directions and groups.
    pub(in super::super) fn peers(of: impl IntoIterator<Item = (Direction, u8)>) -> AdmittedPeers {
        let mut peers = AdmittedPeers::default();
        for (id, (direction, n)) in (0..).zip(of) {
            peers.insert(Peer::new(
                version_info(id, direction, n),
                None,
                Role::Sync.into(),
                Now::default(),
            ));
        }
        peers
    }
}
