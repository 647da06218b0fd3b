//! `getaddr`, `addr` and `addrv2`.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bitcoin::p2p::ServiceFlags;
use bitcoin::p2p::address::{AddrV2, AddrV2Message, Address};
use handfast_wire::Message;

use super::admitted_peers::{AddressCounts, AdmittedPeers};
use super::bans::Bans;
use super::{Effect, PeerTableConfig};
use crate::address_book::{
    AddressBook, Group, MAX_SAMPLE, Overlay, Row, Source, canonical, is_local, is_routable,
};
use crate::address_relay::{AddressRelay, OwnAddress, in_v1};
use crate::lifecycle::{ConnId, Direction, VersionInfo};
use crate::random::Random;
use crate::time::Now;

/// Time after which one more address of a peer is processed. Core `MAX_ADDR_RATE_PER_SECOND` 0.1.
const PER_ADDRESS: Duration = Duration::from_secs(10);
/// Most addresses that a silent peer may accumulate. Core `MAX_ADDR_PROCESSING_TOKEN_BUCKET`.
const BURST: u64 = 1_000;
/// How long all peers get the same answer to `getaddr`. 21 to 27 h, as Core: repeated requests
/// learn nothing new, so the book cannot be read out.
const ANSWER_FOR: Duration = Duration::from_secs(21 * 3_600);
const ANSWER_FOR_MORE: Duration = Duration::from_secs(6 * 3_600);
/// Cached answers, one for each network and local address; beyond it the others share one for each
/// network.
const MAX_ANSWERS: usize = 16;
/// An address is relayed when it was seen so recently, and ... 10 min, as Core.
const FRESH_SECONDS: u32 = 10 * 60;
/// ... its message has at most this many. As Core.
const FEW: usize = 10;

/// How many addresses of a peer may be processed: a token bucket, counted in the time that the
/// tokens took to grow.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Allowance {
    saved: Duration,
    counted_at: Duration,
    processed: u64,
    rate_limited: u64,
}

impl Allowance {
    /// One address at once, for peers that announce themselves; a full answer from those that we
    /// sent `getaddr`.
    fn new(now: Now, asked: bool) -> Self {
        let tokens = if asked { BURST as u32 + 1 } else { 1 };
        Self {
            saved: PER_ADDRESS * tokens,
            counted_at: now.mono,
            processed: 0,
            rate_limited: 0,
        }
    }

    fn grow(&mut self, now: Now) {
        let full = PER_ADDRESS * BURST as u32;
        if self.saved < full {
            let grown = self
                .saved
                .saturating_add(now.mono.saturating_sub(self.counted_at));
            self.saved = grown.min(full);
        }
        self.counted_at = now.mono;
    }

    /// Takes one token.
    fn take(&mut self) -> bool {
        match self.saved.checked_sub(PER_ADDRESS) {
            Some(rest) => {
                self.saved = rest;
                true
            }
            None => {
                self.rate_limited += 1;
                false
            }
        }
    }
}

/// The network over which a peer reaches us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Network {
    V4,
    V6,
    Unroutable,
}

impl Network {
    fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            ip if !is_routable(ip) => Self::Unroutable,
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

/// An answer to `getaddr`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Answer {
    entries: Vec<AddrV2Message>,
    until: Duration,
}

/// The answers to `getaddr` that are given for about a day: one for each network and address of
/// ours, since a peer that reaches us at two of them would see from equal answers that they are one
/// node. As Core's `m_addr_response_caches`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Answers(BTreeMap<(Network, Option<SocketAddr>), Answer>);

impl Answers {
    /// The cache key of a peer's answer.
    fn key(&self, remote: IpAddr, local: Option<SocketAddr>) -> (Network, Option<SocketAddr>) {
        let key = (Network::of(remote), local.map(canonical));
        match self.0.len() < MAX_ANSWERS || self.0.contains_key(&key) {
            true => key,
            false => (key.0, None),
        }
    }

    /// The cached answer, renewed if it expired; `None` while no address is known, which is not
    /// cached.
    fn of(&mut self, key: (Network, Option<SocketAddr>), context: Context<'_>) -> Option<&Answer> {
        let Context {
            now,
            bans,
            book,
            random,
        } = context;
        let kept = self.0.get(&key);
        if kept.is_none_or(|answer| answer.until <= now.mono) {
            let mut rows = book.sample(now, random);
            rows.retain(|row| !bans.is_unwelcome(row.addr.ip(), now));
            let more = random.below(ANSWER_FOR_MORE.as_secs());
            let until = now.mono + ANSWER_FOR + Duration::from_secs(more);
            let entries: Vec<_> = rows.iter().map(row_v2).collect();
            if entries.is_empty() {
                self.0.remove(&key);
            } else {
                self.0.insert(key, Answer { entries, until });
            }
        }
        self.0.get(&key)
    }
}

/// Address state of an admitted peer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Talk {
    allowance: Allowance,
    getaddr_answered: bool,
    /// We sent it `getaddr`, and its answer is not complete.
    getaddr_pending: bool,
    /// Our end of its socket.
    local: Option<SocketAddr>,
}

/// The state that an address message depends on.
pub(super) struct Context<'a> {
    pub(super) now: Now,
    pub(super) bans: &'a Bans,
    pub(super) book: &'a mut AddressBook,
    pub(super) random: &'a mut Random,
}

/// Answers to `getaddr`, received addresses, and their relay.
///
/// Invariant: it knows the admitted peers and no others, and processes no more addresses of one
/// than its allowance.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Gossip {
    allow_private_addresses: bool,
    answers: Answers,
    relay: AddressRelay,
    peers: BTreeMap<ConnId, Talk>,
}

impl Gossip {
    pub(super) fn new(config: &PeerTableConfig) -> Self {
        Self {
            allow_private_addresses: config.allow_private_addresses,
            answers: Answers::default(),
            relay: AddressRelay::new(config.own.clone(), config.services, config.seed),
            peers: BTreeMap::new(),
        }
    }

    pub(super) fn admitted(&mut self, now: Now, peer: &VersionInfo) {
        let outgoing = peer.direction.is_outgoing();
        let talk = Talk {
            allowance: Allowance::new(now, outgoing),
            getaddr_answered: false,
            getaddr_pending: outgoing,
            local: None,
        };
        self.peers.insert(peer.id, talk);
        self.relay.connected(now, peer);
    }

    pub(super) fn ended(&mut self, id: ConnId) {
        self.peers.remove(&id);
        self.relay.disconnected(id);
    }

    pub(super) fn set_local_address(&mut self, id: ConnId, local: SocketAddr) {
        if let Some(talk) = self.peers.get_mut(&id) {
            talk.local = Some(local);
        }
    }

    pub(super) fn set_initial_download(&mut self, initial_download: bool) {
        self.relay.set_initial_download(initial_download);
    }

    pub(super) fn is_own(&self, addr: SocketAddr) -> bool {
        self.relay.is_own(addr)
    }

    pub(super) fn own(&self) -> impl Iterator<Item = OwnAddress> + '_ {
        self.relay.own()
    }

    /// When peers must be sent addresses.
    pub(super) fn due(&self) -> Option<Duration> {
        self.relay.deadline()
    }

    pub(super) fn counts(&self, id: ConnId) -> AddressCounts {
        let Some(Talk { allowance, .. }) = self.peers.get(&id) else {
            return AddressCounts::default();
        };
        AddressCounts {
            takes_part: self.relay.is_taking_part(id),
            processed: allowance.processed,
            rate_limited: allowance.rate_limited,
        }
    }

    /// Answers `getaddr`: inbound peers only (a peer that we dialled could plant addresses and
    /// recognise us by them), once per connection.
    pub(super) fn answer(&mut self, peer: &VersionInfo, context: Context<'_>) -> Option<Effect> {
        let id = peer.id;
        let talk = self.peers.get_mut(&id)?;
        if peer.direction != Direction::Inbound || talk.getaddr_answered {
            return None;
        }
        talk.getaddr_answered = true;
        self.relay.takes_part(id);
        let key = self.answers.key(peer.remote.ip(), talk.local);
        let answer = self.answers.of(key, context)?;
        self.relay.answered(id, &answer.entries);
        let message = if peer.wants_addrv2 {
            Message::AddrV2(answer.entries.clone())
        } else {
            Message::Addr(answer.entries.iter().filter_map(in_v1).collect())
        };
        Some(Effect::Send { id, message })
    }

    /// Adds addresses and relays fresh ones, up to the peer's allowance. If there are too many, the
    /// selection is random, so that their order means nothing.
    pub(super) fn receive(
        &mut self,
        peer: &VersionInfo,
        mut received: Vec<AddrV2Message>,
        context: Context<'_>,
    ) {
        let Context {
            now,
            bans,
            book,
            random,
        } = context;
        let id = peer.id;
        let Some(talk) = self.peers.get_mut(&id) else {
            return;
        };
        self.relay.takes_part(id);
        let source = Source::Gossip(Group::of(peer.remote.ip()));
        let count = received.len();
        random.shuffle_front(&mut received, count);
        talk.allowance.grow(now);
        let passed_on = !talk.getaddr_pending && count <= FEW;
        let mut learned = 0usize;
        for entry in received {
            if !talk.allowance.take() || !is_useful(entry.services) {
                continue;
            }
            self.relay.knows(id, &entry);
            let addr = entry.socket_addr().ok().map(canonical);
            let unwelcome = addr.is_some_and(|addr| bans.is_unwelcome(addr.ip(), now));
            let banned = Overlay::of(&entry.addr)
                .is_some_and(|address| bans.is_overlay_banned(address, now));
            if unwelcome || banned {
                continue;
            }
            talk.allowance.processed += 1;
            // On regtest there may be only private ones.
            let private = self.allow_private_addresses;
            let routable = addr.is_none_or(|addr| {
                let ip = addr.ip();
                is_routable(ip) || private && is_local(ip)
            });
            if passed_on && routable && is_fresh(entry.time, now.unix) {
                self.relay.relay(now, id, &entry);
            }
            // Only IP addresses can be dialled.
            let Some(addr) = addr else { continue };
            let (services, seen) = (entry.services, entry.time);
            let new = book.learn(addr, services, seen, source, now, random);
            learned += usize::from(new);
        }
        if count < MAX_SAMPLE {
            talk.getaddr_pending = false;
        }
        tracing::debug!(%id, count, learned, "received addresses");
    }

    /// Sends peers the addresses that are due.
    pub(super) fn send_due(&mut self, now: Now, peers: &AdmittedPeers, effects: &mut Vec<Effect>) {
        for (id, message) in self.relay.due(now) {
            let stays = peers.get(&id).is_some_and(|peer| !peer.closing());
            if stays {
                effects.push(Effect::Send { id, message });
            }
        }
    }
}

/// Whether it was seen a moment ago. A time in the future, or before Bitcoin existed, does not
/// count.
fn is_fresh(seen: u32, unix: u32) -> bool {
    seen > unix.saturating_sub(FRESH_SECONDS) && seen <= unix.saturating_add(FRESH_SECONDS)
}

/// Only nodes that serve blocks are stored.
fn is_useful(services: ServiceFlags) -> bool {
    services.has(ServiceFlags::NETWORK) || services.has(ServiceFlags::NETWORK_LIMITED)
}

fn row_v2(row: &Row) -> AddrV2Message {
    AddrV2Message {
        time: row.last_seen,
        services: ServiceFlags::from(row.services),
        addr: in_v2(row.addr.ip()),
        port: row.addr.port(),
    }
}

fn in_v2(ip: IpAddr) -> AddrV2 {
    match ip.to_canonical() {
        IpAddr::V4(ip) => AddrV2::Ipv4(ip),
        IpAddr::V6(ip) => AddrV2::Ipv6(ip),
    }
}

/// The addresses of an `addr`, without those that are not IP.
pub(super) fn from_v1(entries: &[(u32, Address)]) -> Vec<AddrV2Message> {
    let entry = |(time, address): &(u32, Address)| {
        let addr = address.socket_addr().ok()?;
        Some(AddrV2Message {
            time: *time,
            services: address.services,
            addr: in_v2(addr.ip()),
            port: addr.port(),
        })
    };
    entries.iter().filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer_table::admitted_peers::testing::version_info;
    use crate::session::full_node;

    const NOW: Now = Now {
        mono: Duration::from_secs(100),
        unix: 1_700_000_000,
    };

    fn addresses(count: u8) -> Vec<AddrV2Message> {
        let entry = |n: u8| AddrV2Message {
            time: NOW.unix,
            services: full_node(),
            addr: AddrV2::Ipv4([20 + n, 1, 1, 1].into()),
            port: 8333,
        };
        (0..count).map(entry).collect()
    }

    #[test]
    fn addresses_of_a_peer_that_is_not_admitted_are_ignored_and_it_gets_no_answer() {
        let (mut book, mut random) = (AddressBook::new(false), Random::new(1));
        let bans = Bans::default();
        let mut gossip = Gossip::new(&PeerTableConfig::new(8333, 1));
        let peer = version_info(0, Direction::Inbound, 9);
        let mut receive = |gossip: &mut Gossip, count| {
            let (book, random, bans, now) = (&mut book, &mut random, &bans, NOW);
            let context = Context {
                now,
                bans,
                book,
                random,
            };
            gossip.receive(&peer, addresses(count), context);
            book.len()
        };
        assert_eq!(receive(&mut gossip, 3), 0);
        gossip.admitted(NOW, &peer);
        assert_eq!(
            receive(&mut gossip, 3),
            1,
            "its allowance is one address at first"
        );
        assert_eq!(gossip.counts(peer.id).rate_limited, 2);
        gossip.ended(peer.id);
        assert_eq!(gossip.counts(peer.id), AddressCounts::default());
        let context = Context {
            now: NOW,
            bans: &bans,
            book: &mut book,
            random: &mut random,
        };
        assert_eq!(gossip.answer(&peer, context), None);
    }
}
