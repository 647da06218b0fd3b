//! The address manager: addresses of other nodes.
//!
//! An address is *tried* when an outgoing connection to it once completed, *new* until then. New
//! addresses are gossip: a peer that sends addresses may lie, and may send many.
//!
//! # Security
//!
//! One liar must not fill the book, nor displace what others sent. So every new address belongs to
//! the network group (IPv4 /16, IPv6 /32) of the peer that sent it first, and:
//!
//! * a group owns at most [`MAX_PER_SOURCE`] new addresses; one more replaces one of the same
//!   group;
//! * when the book is full ([`MAX_ADDRESSES`]), the group that owns most loses one, so
//!   groups end up with equal shares;
//! * gossip never displaces a tried address, and never changes what we know of it from an outgoing
//!   connection.
//!
//! Addresses that are not routable are never added, except private and loopback ones on a network
//! that has no others (regtest). Tor, I2P and CJDNS addresses (BIP155) are not stored: we could not
//! dial them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bitcoin::p2p::ServiceFlags;

use crate::random::Random;
use crate::session::full_node;
use crate::time::Now;

mod overlay;
mod routable;
mod spelling;

pub use overlay::{Overlay, OverlayError};
pub use routable::{canonical, is_local, is_routable};
pub use spelling::{is_peer_name, overlay_network, read_ip};

/// Most addresses in the book.
pub const MAX_ADDRESSES: usize = 16_384;
/// Most new addresses that one source group owns.
pub const MAX_PER_SOURCE: usize = 512;
/// Most tried addresses; beyond it the one whose last success is oldest becomes new again.
pub const MAX_TRIED: usize = 4_096;
/// Most addresses sent in one answer to `getaddr`. Core `MAX_ADDR_TO_SEND`.
pub const MAX_SAMPLE: usize = 1_000;
/// Most of the book sent in one answer, per cent. Core `MAX_PCT_ADDR_TO_SEND`.
pub const MAX_SAMPLE_PERCENT: usize = 23;
/// An address not seen for this long is not sent. 30 days; Core `ADDRMAN_HORIZON`.
pub const HORIZON: Duration = Duration::from_secs(30 * 24 * 3_600);
/// A new address is removed after this many failures. Core `ADDRMAN_RETRIES`.
pub const NEW_FAILURES: u32 = 3;
/// A tried address is removed after this many failures, ... Core `ADDRMAN_MAX_FAILURES`.
pub const TRIED_FAILURES: u32 = 10;
/// ... if the last success is this long ago. 7 days; Core `ADDRMAN_MIN_FAIL`.
pub const TRIED_GRACE: Duration = Duration::from_secs(7 * 24 * 3_600);
/// Subtracted from the time at which gossip claims to have seen an address. 2 h, as Core.
pub const GOSSIP_PENALTY: Duration = Duration::from_secs(2 * 3_600);
/// First pause before an address that failed is dialled again; doubles.
pub const RETRY_FIRST: Duration = Duration::from_secs(60);
/// Longest such pause.
pub const RETRY_LONGEST: Duration = Duration::from_secs(4 * 3_600);

const _: () = assert!(MAX_TRIED < MAX_ADDRESSES && MAX_PER_SOURCE < MAX_ADDRESSES);

/// Addresses that one operator of a network probably holds together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Group {
    /// An IPv4 /16.
    V4([u8; 2]),
    /// An IPv6 /32.
    V6([u8; 4]),
}

impl Group {
    /// The group of an address.
    #[must_use]
    pub fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => {
                let [a, b, ..] = ip.octets();
                Self::V4([a, b])
            }
            IpAddr::V6(ip) => {
                let [a, b, c, d, ..] = ip.octets();
                Self::V6([a, b, c, d])
            }
        }
    }
}

/// Where an address first came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// A DNS seed, the operator, or an outgoing connection.
    Own,
    /// A peer of this group.
    Gossip(Group),
}

/// One address as it is saved and shown. All times in Unix seconds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Row {
    /// The address.
    pub addr: SocketAddr,
    /// The services that it is claimed (new) or was seen (tried) to offer.
    pub services: u64,
    /// When a node was last connected to it.
    pub last_seen: u32,
    /// When we were last connected to it; `None` for a new address.
    pub last_success: Option<u32>,
    /// Failures since then.
    pub failures: u32,
    /// Where it first came from.
    pub source: Source,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Entry {
    services: ServiceFlags,
    last_seen: u32,
    last_success: Option<u32>,
    failures: u32,
    /// Attempts without success, counted or not; sets the pause.
    attempts: u32,
    /// Not dialled before this time since node start.
    paused_until: Duration,
    source: Source,
}

impl Entry {
    /// Not worth dialling or sending any more. Core `AddrInfo::IsTerrible`.
    fn is_terrible(&self, unix: u32) -> bool {
        match self.last_success {
            None => self.failures >= NEW_FAILURES || age(self.last_seen, unix) > HORIZON,
            Some(success) => self.failures >= TRIED_FAILURES && age(success, unix) > TRIED_GRACE,
        }
    }
}

/// The book. See the module.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AddressBook {
    allow_private: bool,
    entries: BTreeMap<SocketAddr, Entry>,
    /// The new addresses of each source; tried ones are in none.
    owned: BTreeMap<Source, BTreeSet<SocketAddr>>,
    tried: usize,
}

impl AddressBook {
    /// An empty book. `allow_private`: also add private and loopback addresses (regtest).
    #[must_use]
    pub fn new(allow_private: bool) -> Self {
        Self {
            allow_private,
            entries: BTreeMap::new(),
            owned: BTreeMap::new(),
            tried: 0,
        }
    }

    /// The book that was saved as `rows`, without rows that break a bound or rule.
    #[must_use]
    pub fn from_rows(
        allow_private: bool,
        rows: impl IntoIterator<Item = Row>,
        random: &mut Random,
    ) -> Self {
        let mut book = Self::new(allow_private);
        for row in rows {
            let Some(addr) = book.acceptable(row.addr) else {
                continue;
            };
            let entry = Entry {
                services: ServiceFlags::from(row.services),
                last_seen: row.last_seen,
                last_success: row.last_success,
                failures: row.failures,
                attempts: 0,
                paused_until: Duration::ZERO,
                source: row.source,
            };
            if !book.entries.contains_key(&addr) {
                book.put(addr, entry, random);
            }
        }
        book
    }

    /// All addresses, to be saved.
    pub fn rows(&self) -> impl Iterator<Item = Row> + '_ {
        self.entries.iter().map(|(addr, entry)| Row {
            addr: *addr,
            services: entry.services.to_u64(),
            last_seen: entry.last_seen,
            last_success: entry.last_success,
            failures: entry.failures,
            source: entry.source,
        })
    }

    /// Number of addresses.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no address is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Number of tried addresses.
    #[must_use]
    pub fn tried(&self) -> usize {
        self.tried
    }

    /// Whether the address is known.
    #[must_use]
    pub fn contains(&self, addr: SocketAddr) -> bool {
        self.entries.contains_key(&canonical(addr))
    }

    /// Whether an outgoing connection to the address once completed.
    #[must_use]
    pub fn is_tried(&self, addr: SocketAddr) -> bool {
        let entry = self.entries.get(&canonical(addr));
        entry.is_some_and(|entry| entry.last_success.is_some())
    }

    /// Addresses worth sending and dialling, to be shown.
    pub fn good_rows(&self, now: Now) -> impl Iterator<Item = Row> + '_ {
        self.rows()
            .filter(move |row| !self.entries[&row.addr].is_terrible(now.unix))
    }

    /// Adds one address that `source` sent, last seen at `claimed_seen`.
    ///
    /// Returns whether it was new. A claim from the future or from before
    /// Bitcoin existed counts as five days old, as in Core.
    pub fn learn(
        &mut self,
        addr: SocketAddr,
        services: ServiceFlags,
        claimed_seen: u32,
        source: Source,
        now: Now,
        random: &mut Random,
    ) -> bool {
        let Some(addr) = self.acceptable(addr) else {
            return false;
        };
        let last_seen = believable(claimed_seen, source, now.unix);
        if let Some(entry) = self.entries.get_mut(&addr) {
            if entry.last_success.is_none() {
                entry.services |= services;
                entry.last_seen = entry.last_seen.max(last_seen);
            }
            return false;
        }
        let entry = Entry {
            services,
            last_seen,
            last_success: None,
            failures: 0,
            attempts: 0,
            paused_until: Duration::ZERO,
            source,
        };
        if entry.is_terrible(now.unix) {
            return false;
        }
        self.put(addr, entry, random);
        true
    }

    /// An outgoing connection to `addr` completed its handshake: it is tried.
    pub fn succeeded(
        &mut self,
        addr: SocketAddr,
        services: ServiceFlags,
        now: Now,
        random: &mut Random,
    ) {
        let Some(addr) = self.acceptable(addr) else {
            return;
        };
        let source = self.remove(addr).map_or(Source::Own, |entry| entry.source);
        let entry = Entry {
            services,
            last_seen: now.unix,
            last_success: Some(now.unix),
            failures: 0,
            attempts: 0,
            paused_until: Duration::ZERO,
            source,
        };
        self.put(addr, entry, random);
    }

    /// A dial, or the handshake after it, failed.
    ///
    /// `counts`: whether the failure counts against the address. It does not when the network
    /// itself may be down; a book must survive an unplugged cable.
    pub fn failed(&mut self, addr: SocketAddr, counts: bool, now: Now, random: &mut Random) {
        let addr = canonical(addr);
        let Some(entry) = self.entries.get_mut(&addr) else {
            return;
        };
        entry.attempts = entry.attempts.saturating_add(1);
        entry.failures = entry.failures.saturating_add(u32::from(counts));
        let pause = backoff(RETRY_FIRST, RETRY_LONGEST, entry.attempts, random);
        entry.paused_until = now.mono.saturating_add(pause);
        if entry.is_terrible(now.unix) {
            self.remove(addr);
        }
    }

    /// Limits the pause of `addr` to `pause`: the failure says nothing about it.
    pub fn retry_within(&mut self, addr: SocketAddr, pause: Duration, now: Now) {
        if let Some(entry) = self.entries.get_mut(&canonical(addr)) {
            entry.paused_until = entry.paused_until.min(now.mono.saturating_add(pause));
        }
    }

    /// Does not dial `addr` for `pause`.
    pub fn pause_for(&mut self, addr: SocketAddr, pause: Duration, now: Now) {
        if let Some(entry) = self.entries.get_mut(&canonical(addr)) {
            entry.paused_until = entry.paused_until.max(now.mono.saturating_add(pause));
        }
    }

    /// When the first of the addresses that `allowed` accepts may be dialled, time since node
    /// start; `None`: there is none.
    #[must_use]
    pub fn first_retry(&self, allowed: impl Fn(SocketAddr) -> bool) -> Option<Duration> {
        let rested = self.entries.iter().filter_map(|(addr, entry)| {
            let known = entry.services.has(full_node()) && allowed(*addr);
            known.then_some(entry.paused_until)
        });
        rested.min()
    }

    /// An address to dial now, among those that `allowed` accepts.
    ///
    /// Tried and new ones with equal probability: most tried ones answer, and new ones are how the
    /// book grows.
    pub fn pick(
        &self,
        now: Now,
        random: &mut Random,
        allowed: impl Fn(SocketAddr) -> bool,
    ) -> Option<SocketAddr> {
        let eligible = |(addr, entry): &(&SocketAddr, &Entry)| {
            entry.services.has(full_node())
                && entry.paused_until <= now.mono
                && !entry.is_terrible(now.unix)
                && allowed(**addr)
        };
        let (mut tried, mut new) = (0, 0);
        for (_, entry) in self.entries.iter().filter(eligible) {
            *(if entry.last_success.is_some() {
                &mut tried
            } else {
                &mut new
            }) += 1;
        }
        let want_tried = match (tried, new) {
            (0, 0) => return None,
            (_, 0) => true,
            (0, _) => false,
            (_, _) => random.below(2) == 0,
        };
        let nth = random.index(if want_tried { tried } else { new });
        self.entries
            .iter()
            .filter(eligible)
            .filter(|(_, entry)| entry.last_success.is_some() == want_tried)
            .nth(nth)
            .map(|(addr, _)| *addr)
    }

    /// Addresses for an answer to `getaddr`: a random choice of at most
    /// [`MAX_SAMPLE`] and [`MAX_SAMPLE_PERCENT`] of the book.
    pub fn sample(&self, now: Now, random: &mut Random) -> Vec<Row> {
        let count = MAX_SAMPLE.min(self.len() * MAX_SAMPLE_PERCENT / 100);
        let mut rows: Vec<Row> = self.good_rows(now).collect();
        random.shuffle_front(&mut rows, count);
        rows.truncate(count);
        rows
    }

    /// Whether an address may be dialled at all.
    #[must_use]
    pub fn may_hold(&self, addr: SocketAddr) -> bool {
        self.acceptable(addr).is_some()
    }

    /// The canonical form of the address, if it may be in the book at all.
    fn acceptable(&self, addr: SocketAddr) -> Option<SocketAddr> {
        let addr = canonical(addr);
        let may_be = self.allow_private && is_local(addr.ip()) || is_routable(addr.ip());
        (addr.port() != 0 && may_be).then_some(addr)
    }

    /// Inserts an absent address, and evicts by the rules of the module.
    fn put(&mut self, addr: SocketAddr, entry: Entry, random: &mut Random) {
        if entry.last_success.is_some() {
            self.tried += 1;
        } else {
            let owned = self.owned.entry(entry.source).or_default();
            owned.insert(addr);
        }
        let source = entry.source;
        self.entries.insert(addr, entry);
        let demoted = if self.tried > MAX_TRIED {
            self.demote_oldest()
        } else {
            None
        };
        for source in [Some(source), demoted].into_iter().flatten() {
            if self
                .owned
                .get(&source)
                .is_some_and(|owned| owned.len() > MAX_PER_SOURCE)
            {
                self.evict_from(source, addr, random);
            }
        }
        if self.entries.len() > MAX_ADDRESSES {
            let most = self.owned.iter().max_by_key(|(_, owned)| owned.len());
            let (&source, _) = most.expect("a full book holds more than the tried addresses");
            self.evict_from(source, addr, random);
        }
    }

    /// Removes a random new address of `source`, but not `keep` while there is another.
    fn evict_from(&mut self, source: Source, keep: SocketAddr, random: &mut Random) {
        let Some(owned) = self.owned.get(&source) else {
            return;
        };
        let others = owned.len() - usize::from(owned.contains(&keep));
        let nth = random.index(others);
        let victim = owned
            .iter()
            .copied()
            .filter(|addr| *addr != keep)
            .nth(nth)
            .unwrap_or(keep);
        self.remove(victim);
    }

    /// The tried address whose last success is oldest becomes new again; returns its source.
    fn demote_oldest(&mut self) -> Option<Source> {
        let (&addr, entry) = self
            .entries
            .iter_mut()
            .filter(|(_, entry)| entry.last_success.is_some())
            .min_by_key(|(_, entry)| entry.last_success)?;
        entry.last_success = None;
        let source = entry.source;
        self.owned.entry(source).or_default().insert(addr);
        self.tried -= 1;
        Some(source)
    }

    fn remove(&mut self, addr: SocketAddr) -> Option<Entry> {
        let entry = self.entries.remove(&addr)?;
        if entry.last_success.is_some() {
            self.tried -= 1;
        } else if let Some(owned) = self.owned.get_mut(&entry.source) {
            owned.remove(&addr);
            if owned.is_empty() {
                self.owned.remove(&entry.source);
            }
        }
        Some(entry)
    }
}

/// `first` doubled with every attempt after the first, up to `longest`, plus up to a fifth.
///
/// The jitter keeps nodes that lost the same peer from reconnecting at once.
#[must_use]
pub(crate) fn backoff(
    first: Duration,
    longest: Duration,
    attempts: u32,
    random: &mut Random,
) -> Duration {
    let doublings = attempts.saturating_sub(1).min(20);
    let pause = first.saturating_mul(1 << doublings).min(longest);
    let fifth = u64::try_from(pause.as_millis() / 5).unwrap_or(u64::MAX);
    pause + Duration::from_millis(random.below(fifth))
}

fn age(then: u32, unix: u32) -> Duration {
    Duration::from_secs(unix.saturating_sub(then).into())
}

/// `claimed`, limited to plausible times.
fn believable(claimed: u32, source: Source, unix: u32) -> u32 {
    const BEFORE_BITCOIN: u32 = 100_000_000;
    const SLACK: u32 = 10 * 60;
    const FIVE_DAYS: u32 = 5 * 24 * 3_600;
    if claimed <= BEFORE_BITCOIN || claimed > unix.saturating_add(SLACK) {
        return unix.saturating_sub(FIVE_DAYS);
    }
    let penalty = match source {
        Source::Own => 0,
        Source::Gossip(_) => u32::try_from(GOSSIP_PENALTY.as_secs()).unwrap_or(u32::MAX),
    };
    claimed.min(unix).saturating_sub(penalty)
}

#[cfg(test)]
mod tests;
