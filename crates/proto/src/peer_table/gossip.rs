//! `getaddr`, `addr` and `addrv2`.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bitcoin::p2p::ServiceFlags;
use bitcoin::p2p::address::{AddrV2, AddrV2Message, Address};
use handfast_wire::Message;

use super::{Effect, PeerTable};
use crate::address_book::{
    Group, MAX_SAMPLE, Overlay, Row, Source, canonical, is_local, is_routable,
};
use crate::address_relay::in_v1;
use crate::lifecycle::{ConnId, Direction};
use crate::time::Now;

/// One more address of a peer is looked at after this. Core `MAX_ADDR_RATE_PER_SECOND` 0.1.
const PER_ADDRESS: Duration = Duration::from_secs(10);
/// Most addresses that a silent peer saves up. Core `MAX_ADDR_PROCESSING_TOKEN_BUCKET`.
const BURST: u64 = 1_000;
/// How long one answer to `getaddr` is given to everybody. 21 to 27 h, as Core: who
/// asks again learns nothing new, so the book cannot be read out.
const ANSWER_FOR: Duration = Duration::from_secs(21 * 3_600);
const ANSWER_FOR_MORE: Duration = Duration::from_secs(6 * 3_600);
/// Answers that are kept, for so many networks and local addresses; beyond it the others
/// share one for each network.
const MAX_ANSWERS: usize = 16;
/// An address is passed on when it was seen so lately, and ... 10 min, as Core.
const FRESH_SECONDS: u32 = 10 * 60;
/// ... comes with so few others. As Core.
const FEW: usize = 10;

/// How many addresses of a peer are still looked at: a token bucket, counted in the
/// time that the tokens took to grow.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Allowance {
    saved: Duration,
    counted_at: Duration,
    pub(super) processed: u64,
    pub(super) rate_limited: u64,
}

impl Allowance {
    /// One address at once, for those who announce themselves; a full answer from
    /// those whom we ask.
    pub(super) fn new(now: Now, asked: bool) -> Self {
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

/// The network of a peer, as far as it reaches us.
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

/// The answers to `getaddr` that are given for about a day: one for each network and address
/// of ours, since who reaches us by two of them would see from equal answers that they are one
/// node. As Core's `m_addr_response_caches`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Answers(BTreeMap<(Network, Option<SocketAddr>), Answer>);

impl Answers {
    /// Where the answer for such a peer is kept.
    fn key(&self, remote: IpAddr, local: Option<SocketAddr>) -> (Network, Option<SocketAddr>) {
        let key = (Network::of(remote), local.map(canonical));
        match self.0.len() < MAX_ANSWERS || self.0.contains_key(&key) {
            true => key,
            false => (key.0, None),
        }
    }
}

impl PeerTable {
    /// Answers `getaddr`: inbound peers only (who we dial could plant addresses and
    /// recognise us by them), once per connection.
    pub(super) fn tell_addresses(&mut self, now: Now, id: ConnId, effects: &mut Vec<Effect>) {
        let Some(peer) = self.peers.get_mut(id) else {
            return;
        };
        if peer.introduction().direction != Direction::Inbound || peer.getaddr_answered {
            return;
        }
        peer.getaddr_answered = true;
        self.relay.takes_part(id);
        let v2 = peer.introduction().wants_addrv2;
        let key = self.answers.key(peer.ip(), peer.local);
        let kept = self.answers.0.get(&key);
        if kept.is_none_or(|answer| answer.until <= now.mono) {
            let mut rows = self.book.sample(now, &mut self.random);
            rows.retain(|row| !self.bans.is_unwelcome(row.addr.ip(), now));
            let more = self.random.below(ANSWER_FOR_MORE.as_secs());
            let until = now.mono + ANSWER_FOR + Duration::from_secs(more);
            let entries: Vec<_> = rows.iter().map(row_v2).collect();
            // An empty book is not worth remembering.
            if entries.is_empty() {
                self.answers.0.remove(&key);
                return;
            }
            self.answers.0.insert(key, Answer { entries, until });
        }
        let Some(answer) = self.answers.0.get(&key) else {
            return;
        };
        self.relay.answered(id, &answer.entries);
        let message = if v2 {
            Message::AddrV2(answer.entries.clone())
        } else {
            Message::Addr(answer.entries.iter().filter_map(in_v1).collect())
        };
        effects.push(Effect::Send { id, message });
    }

    /// Learns addresses and passes fresh ones on, as many as the peer's allowance holds. Which
    /// of too many is left to chance, so that their order says nothing.
    pub(super) fn hear_addresses(&mut self, now: Now, id: ConnId, mut heard: Vec<AddrV2Message>) {
        let Some(peer) = self.peers.get_mut(id) else {
            return;
        };
        self.relay.takes_part(id);
        let source = Source::Gossip(Group::of(peer.ip()));
        let count = heard.len();
        self.random.shuffle_front(&mut heard, count);
        peer.allowance.grow(now);
        let passed_on = !peer.getaddr_pending && count <= FEW;
        let mut learned = 0usize;
        for entry in heard {
            if !peer.allowance.take() || !is_useful(entry.services) {
                continue;
            }
            self.relay.knows(id, &entry);
            let addr = entry.socket_addr().ok().map(canonical);
            let unwelcome = addr.is_some_and(|addr| self.bans.is_unwelcome(addr.ip(), now));
            let banned = Overlay::of(&entry.addr)
                .is_some_and(|address| self.bans.is_overlay_banned(address, now));
            if unwelcome || banned {
                continue;
            }
            peer.allowance.processed += 1;
            // On regtest there may be none but private ones.
            let private = self.config.allow_private_addresses;
            let routable = addr.is_none_or(|addr| {
                let ip = addr.ip();
                is_routable(ip) || private && is_local(ip)
            });
            if passed_on && routable && is_fresh(entry.time, now.unix) {
                self.relay.relay(now, id, &entry);
            }
            // Others than IP could not be dialled.
            let Some(addr) = addr else { continue };
            let (services, seen) = (entry.services, entry.time);
            let new = self
                .book
                .learn(addr, services, seen, source, now, &mut self.random);
            learned += usize::from(new);
        }
        if count < MAX_SAMPLE {
            peer.getaddr_pending = false;
        }
        tracing::debug!(%id, count, learned, "heard addresses");
    }

    /// Sends peers the addresses that are due.
    pub(super) fn send_addresses(&mut self, now: Now, effects: &mut Vec<Effect>) {
        for (id, message) in self.relay.due(now) {
            let stays = self.peers.get(&id).is_some_and(|peer| !peer.closing());
            if stays {
                effects.push(Effect::Send { id, message });
            }
        }
    }
}

/// Whether somebody saw it a moment ago. A time in the future, or before there were nodes,
/// says nothing.
fn is_fresh(seen: u32, unix: u32) -> bool {
    seen > unix.saturating_sub(FRESH_SECONDS) && seen <= unix.saturating_add(FRESH_SECONDS)
}

/// Only nodes that serve blocks are worth keeping.
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

/// The addresses of an `addr`; what is none of IP is left out.
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
