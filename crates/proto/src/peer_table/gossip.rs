//! `getaddr`, `addr` and `addrv2`.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bitcoin::p2p::ServiceFlags;
use bitcoin::p2p::address::{AddrV2, AddrV2Message, Address};
use handfast_wire::Message;

use super::bans::is_unwelcome;
use super::{Effect, PeerTable};
use crate::address_book::{Group, Row, Source};
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
                self.processed += 1;
                true
            }
            None => {
                self.rate_limited += 1;
                false
            }
        }
    }
}

/// The answer to `getaddr`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Told {
    rows: Vec<Row>,
    until: Duration,
}

impl PeerTable {
    /// Answers `getaddr`: inbound peers only (who we dial could plant addresses and
    /// recognise us by them), once per connection.
    pub(super) fn tell_addresses(&mut self, now: Now, id: ConnId, effects: &mut Vec<Effect>) {
        let Some(peer) = self.peers.get_mut(id) else {
            return;
        };
        if peer.introduction.direction != Direction::Inbound || peer.getaddr_answered {
            return;
        }
        peer.getaddr_answered = true;
        let v2 = peer.introduction.wants_addrv2;
        if self.told.as_ref().is_none_or(|told| told.until <= now.mono) {
            let mut rows = self.book.sample(now, &mut self.random);
            rows.retain(|row| !is_unwelcome(&self.bans, &self.discouraged, row.addr.ip(), now));
            let more = self.random.below(ANSWER_FOR_MORE.as_secs());
            let until = now.mono + ANSWER_FOR + Duration::from_secs(more);
            // An empty book is not worth remembering.
            self.told = (!rows.is_empty()).then_some(Told { rows, until });
        }
        let Some(told) = &self.told else { return };
        let message = if v2 {
            Message::AddrV2(told.rows.iter().map(row_v2).collect())
        } else {
            Message::Addr(told.rows.iter().map(row_v1).collect())
        };
        effects.push(Effect::Send { id, message });
    }

    /// Learns addresses, as many as the peer's allowance holds. Which of too many
    /// is left to chance, so that their order says nothing.
    pub(super) fn hear_addresses(
        &mut self,
        now: Now,
        id: ConnId,
        mut heard: Vec<(SocketAddr, ServiceFlags, u32)>,
    ) {
        let Some(peer) = self.peers.get_mut(id) else {
            return;
        };
        let source = Source::Gossip(Group::of(peer.introduction.remote.ip()));
        let count = heard.len();
        self.random.shuffle_front(&mut heard, count);
        peer.allowance.grow(now);
        let mut learned = 0usize;
        for (addr, services, seen) in heard {
            let unwelcome = is_unwelcome(&self.bans, &self.discouraged, addr.ip(), now);
            if !peer.allowance.take() || !is_useful(services) || unwelcome {
                continue;
            }
            let new = self
                .book
                .learn(addr, services, seen, source, now, &mut self.random);
            learned += usize::from(new);
        }
        tracing::debug!(%id, count, learned, "heard addresses");
    }
}

/// Only nodes that serve blocks are worth keeping.
fn is_useful(services: ServiceFlags) -> bool {
    services.has(ServiceFlags::NETWORK) || services.has(ServiceFlags::NETWORK_LIMITED)
}

fn row_v1(row: &Row) -> (u32, Address) {
    (
        row.last_seen,
        Address::new(&row.addr, ServiceFlags::from(row.services)),
    )
}

fn row_v2(row: &Row) -> AddrV2Message {
    AddrV2Message {
        time: row.last_seen,
        services: ServiceFlags::from(row.services),
        addr: match row.addr.ip() {
            IpAddr::V4(ip) => AddrV2::Ipv4(ip),
            IpAddr::V6(ip) => AddrV2::Ipv6(ip),
        },
        port: row.addr.port(),
    }
}
