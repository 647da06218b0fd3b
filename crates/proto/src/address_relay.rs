//! Address relay between peers, and the announcement of our own address.
//!
//! It lets other nodes find a node that accepts connections: the node sends its address to its
//! peers, and each of them relays it to two others. As in Bitcoin Core:
//!
//! * A fresh address of a short message is relayed to two peers ([`AddressRelay::relay`]); which
//!   ones is secret and stays the same for a day, so that sending an address again spreads it no
//!   further. One on a network that we do not reach is relayed to one or two.
//! * A peer is sent addresses that it is not known to know, together, about every 30 s.
//! * Our own address is announced when a connection begins, alone, and about once a day; not while
//!   we do not accept connections, nor during initial block download. Which one: [`OwnAddresses`].
//! * An inbound peer takes part once it has sent an address message.
//!
//! # Bounds
//!
//! For each peer 5,000 addresses are remembered, and [`MAX_QUEUED`] wait to be sent. A peer makes
//! us relay no faster than its addresses are processed, one in ten seconds ([`crate::peer_table`]).

mod known;
mod own;
mod reach;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bitcoin::p2p::ServiceFlags;
use bitcoin::p2p::address::{AddrV2, AddrV2Message, Address};
use handfast_wire::Message;
use handfast_wire::limits::MAX_ADDR;

use crate::lifecycle::{ConnId, Direction, VersionInfo};
use crate::random::{Random, keyed};
use crate::time::Now;

use known::Known;
pub use own::{Origin, OwnAddress, OwnAddresses};

/// Mean time between two messages with addresses to one peer. 30 s; Core
/// `AVG_ADDRESS_BROADCAST_INTERVAL`.
pub const SEND_INTERVAL: Duration = Duration::from_secs(30);
/// Mean time between two announcements of our own address to one peer. 24 h; Core
/// `AVG_LOCAL_ADDRESS_BROADCAST_INTERVAL`.
pub const OWN_INTERVAL: Duration = Duration::from_secs(24 * 3_600);
/// How long the same peers are chosen for an address. 24 h; Core
/// `ROTATE_ADDR_RELAY_DEST_INTERVAL`.
pub const ROTATION: Duration = Duration::from_secs(24 * 3_600);
/// Most addresses that wait to be sent to one peer. Core `MAX_ADDR_TO_SEND`.
pub const MAX_QUEUED: usize = MAX_ADDR;

/// The state of a peer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Peer {
    version_info: VersionInfo,
    /// It is sent addresses.
    takes_part: bool,
    known: Known,
    queue: Vec<AddrV2Message>,
    /// When the queue may be sent, time since node start.
    send_at: Duration,
    /// When our own address is announced next.
    own_at: Duration,
    /// It was announced before.
    announced: bool,
    /// Its entry in [`AddressRelay::schedule`].
    wakes_at: Option<Duration>,
}

/// The relay of addresses. See the module.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AddressRelay {
    seed: u64,
    random: Random,
    own: OwnAddresses,
    /// Our services, sent with our own address.
    services: ServiceFlags,
    initial_download: bool,
    peers: BTreeMap<ConnId, Peer>,
    /// When a peer needs attention; at most one entry for each.
    schedule: BTreeSet<(Duration, ConnId)>,
}

impl AddressRelay {
    /// The relay of a node in initial block download, without peers.
    #[must_use]
    pub fn new(own: OwnAddresses, services: ServiceFlags, seed: u64) -> Self {
        Self {
            seed,
            random: Random::new(keyed(seed, *b"addrrely", b"random")),
            own,
            services,
            initial_download: true,
            peers: BTreeMap::new(),
            schedule: BTreeSet::new(),
        }
    }

    /// When [`AddressRelay::due`] has something to send, time since node start.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        self.schedule.first().map(|(at, _)| *at)
    }

    /// Our own addresses, to be shown.
    pub fn own(&self) -> impl Iterator<Item = OwnAddress> + '_ {
        self.own.rows()
    }

    /// Whether an address is our own.
    #[must_use]
    pub fn is_own(&self, addr: SocketAddr) -> bool {
        self.own.contains(addr)
    }

    /// Sets whether the node is in initial block download, during which it announces nothing.
    pub fn set_initial_download(&mut self, initial_download: bool) {
        if std::mem::replace(&mut self.initial_download, initial_download) == initial_download {
            return;
        }
        let ids: Vec<ConnId> = self.peers.keys().copied().collect();
        for id in ids {
            self.reschedule(id);
        }
    }

    /// A peer was admitted. If it dialled us, the address that it used is known to work.
    pub fn connected(&mut self, now: Now, version_info: &VersionInfo) {
        let id = version_info.id;
        if version_info.direction == Direction::Inbound
            && let Some(addr) = version_info.sees_us_at
        {
            self.own.seen(addr);
        }
        let peer = Peer {
            version_info: version_info.clone(),
            takes_part: version_info.direction.is_outgoing(),
            known: Known::default(),
            queue: Vec::new(),
            send_at: now.mono,
            own_at: now.mono,
            announced: false,
            wakes_at: None,
        };
        self.peers.insert(id, peer);
        self.reschedule(id);
    }

    /// A peer disconnected: all its state is removed.
    pub fn disconnected(&mut self, id: ConnId) {
        if let Some(at) = self.peers.remove(&id).and_then(|peer| peer.wakes_at) {
            self.schedule.remove(&(at, id));
        }
    }

    /// A peer sent an address message: it is sent addresses from now on.
    pub fn takes_part(&mut self, id: ConnId) {
        if let Some(peer) = self.peers.get_mut(&id)
            && !std::mem::replace(&mut peer.takes_part, true)
        {
            self.reschedule(id);
        }
    }

    /// Whether a peer is sent addresses.
    #[must_use]
    pub fn is_taking_part(&self, id: ConnId) -> bool {
        self.peers.get(&id).is_some_and(|peer| peer.takes_part)
    }

    /// A peer sent this address, or was sent it.
    pub fn knows(&mut self, id: ConnId, entry: &AddrV2Message) {
        let hash = self.hash(entry);
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.known.insert(hash);
        }
    }

    /// A peer is sent its answer to `getaddr` now: its queued addresses are dropped, as in Core.
    pub fn answered<'a>(
        &mut self,
        id: ConnId,
        entries: impl IntoIterator<Item = &'a AddrV2Message>,
    ) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.queue = Vec::new();
        }
        for entry in entries {
            self.knows(id, entry);
        }
        self.reschedule(id);
    }

    /// Relays a fresh address to two peers other than `originator`. Core `RelayAddress`.
    ///
    /// An address of a network that we do not reach is relayed to one peer or to two.
    pub fn relay(&mut self, now: Now, originator: ConnId, entry: &AddrV2Message) {
        let Some(reachable) = reachable(&entry.addr) else {
            return;
        };
        let hash = self.hash(entry);
        // The day begins at another time for each address.
        let period = u64::from(now.unix).wrapping_add(hash) / ROTATION.as_secs();
        let choice = |id: Option<ConnId>| {
            let id = id.map_or(u64::MAX, |id| id.0);
            let data = [hash, period, id].map(u64::to_le_bytes).concat();
            keyed(self.seed, *b"addrdest", &data)
        };
        let count = if reachable || choice(None) & 1 == 1 {
            2
        } else {
            1
        };
        let takes = |(id, peer): &(&ConnId, &Peer)| {
            **id != originator && peer.takes_part && is_understood(peer, entry)
        };
        let chosen = self.peers.iter().filter(takes);
        let mut chosen: Vec<(u64, ConnId)> =
            chosen.map(|(id, _)| (choice(Some(*id)), *id)).collect();
        chosen.sort_unstable_by(|a, b| b.cmp(a));
        for (_, id) in chosen.into_iter().take(count) {
            self.push(id, entry.clone());
        }
    }

    /// The messages that are due now.
    pub fn due(&mut self, now: Now) -> Vec<(ConnId, Message)> {
        let mut sent = Vec::new();
        while let Some(&(at, id)) = self.schedule.first()
            && at <= now.mono
        {
            sent.extend(self.announce(now, id).map(|message| (id, message)));
            sent.extend(self.send_queue(now, id).map(|message| (id, message)));
            self.reschedule(id);
        }
        sent
    }

    /// Our own address, if its announcement is due: alone the first time, later among others.
    fn announce(&mut self, now: Now, id: ConnId) -> Option<Message> {
        if !self.announces() {
            return None;
        }
        let peer = self.peers.get_mut(&id)?;
        if !peer.takes_part || now.mono < peer.own_at {
            return None;
        }
        let pause = self.random.exponential(OWN_INTERVAL);
        peer.own_at = now.mono.saturating_add(pause);
        let again = std::mem::replace(&mut peer.announced, true);
        let own = self.own.for_peer(&peer.version_info, &mut self.random)?;
        let entry = AddrV2Message {
            time: now.unix,
            services: self.services,
            addr: match own.ip() {
                IpAddr::V4(ip) => AddrV2::Ipv4(ip),
                IpAddr::V6(ip) => AddrV2::Ipv6(ip),
            },
            port: own.port(),
        };
        tracing::debug!(%id, %own, "announcing our address");
        if again {
            // The peer is sent again what it was sent a day ago.
            peer.known.clear();
            self.push(id, entry);
            return None;
        }
        let message = written(peer, vec![entry.clone()]);
        self.knows(id, &entry);
        Some(message)
    }

    fn send_queue(&mut self, now: Now, id: ConnId) -> Option<Message> {
        let peer = self.peers.get_mut(&id)?;
        if peer.queue.is_empty() || now.mono < peer.send_at {
            return None;
        }
        let pause = self.random.exponential(SEND_INTERVAL);
        peer.send_at = now.mono.saturating_add(pause);
        let mut entries = std::mem::take(&mut peer.queue);
        entries.retain(|entry| peer.known.insert(hash(self.seed, entry)));
        (!entries.is_empty()).then(|| written(peer, entries))
    }

    fn push(&mut self, id: ConnId, entry: AddrV2Message) {
        let hash = self.hash(&entry);
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        if peer.known.contains(hash) || !is_understood(peer, &entry) {
            return;
        }
        if peer.queue.len() < MAX_QUEUED {
            peer.queue.push(entry);
        } else {
            let place = self.random.index(MAX_QUEUED);
            peer.queue[place] = entry;
        }
        self.reschedule(id);
    }

    /// Whether our own address is announced at present.
    fn announces(&self) -> bool {
        self.own.accepts() && !self.initial_download
    }

    /// Sets the peer's entry in the schedule.
    fn reschedule(&mut self, id: ConnId) {
        let announces = self.announces();
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let own = (announces && peer.takes_part).then_some(peer.own_at);
        let queue = (!peer.queue.is_empty()).then_some(peer.send_at);
        let at = crate::time::earliest(own, queue);
        let before = std::mem::replace(&mut peer.wakes_at, at);
        if before == at {
            return;
        }
        if let Some(before) = before {
            self.schedule.remove(&(before, id));
        }
        if let Some(at) = at {
            self.schedule.insert((at, id));
        }
    }

    fn hash(&self, entry: &AddrV2Message) -> u64 {
        hash(self.seed, entry)
    }
}

/// Hash of address and port only.
fn hash(seed: u64, entry: &AddrV2Message) -> u64 {
    let (network, bytes): (u8, &[u8]) = match &entry.addr {
        AddrV2::Ipv4(ip) => (1, &ip.octets()),
        AddrV2::Ipv6(ip) => (2, &ip.octets()),
        AddrV2::TorV2(bytes) => (3, bytes),
        AddrV2::TorV3(bytes) => (4, bytes),
        AddrV2::I2p(bytes) => (5, bytes),
        AddrV2::Cjdns(ip) => (6, &ip.octets()),
        AddrV2::Unknown(network, bytes) => (*network, bytes),
    };
    let mut data = vec![network];
    data.extend_from_slice(&entry.port.to_le_bytes());
    data.extend_from_slice(bytes);
    keyed(seed, *b"addrhash", &data)
}

/// Whether we could dial an address of this kind; `None`: it is not relayed.
fn reachable(addr: &AddrV2) -> Option<bool> {
    match addr {
        AddrV2::Ipv4(_) | AddrV2::Ipv6(_) => Some(true),
        AddrV2::TorV3(_) | AddrV2::I2p(_) | AddrV2::Cjdns(_) => Some(false),
        AddrV2::TorV2(_) | AddrV2::Unknown(..) => None,
    }
}

/// Whether the peer can be sent the address: `addr` has only IP addresses.
fn is_understood(peer: &Peer, entry: &AddrV2Message) -> bool {
    peer.version_info.wants_addrv2 || entry.socket_addr().is_ok()
}

/// The message for this peer.
fn written(peer: &Peer, entries: Vec<AddrV2Message>) -> Message {
    if peer.version_info.wants_addrv2 {
        return Message::AddrV2(entries);
    }
    Message::Addr(entries.iter().filter_map(in_v1).collect())
}

/// An address in the older form, which has only IP.
#[must_use]
pub fn in_v1(entry: &AddrV2Message) -> Option<(u32, Address)> {
    let addr = entry.socket_addr().ok()?;
    Some((entry.time, Address::new(&addr, entry.services)))
}

#[cfg(test)]
mod tests;
