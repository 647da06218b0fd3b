//! Which addresses to dial, and what follows from a failure.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use super::admitted_peers::AdmittedPeers;
use super::{DialFailure, Effect, PeerTableConfig};
use crate::address_book::{AddressBook, Group, canonical};
use crate::lifecycle::{BackOff, Direction, DoneReason, VersionInfo};
use crate::random::Random;
use crate::time::Now;

/// Time between two automatic dials. 500 ms, as Core.
const DIAL_INTERVAL: Duration = Duration::from_millis(500);
/// Pause before the book is searched again when it had no address to dial.
const EMPTY_SEARCH_INTERVAL: Duration = Duration::from_secs(5);
/// Failures count against addresses while at least this many other peers are connected.
const PROOF_OF_NETWORK: usize = 2;

/// Longest pause of an address that failed while no address of the book was connected: most likely
/// our own network was down, and its return must be noticed at once.
const RETRY_ALONE: Duration = Duration::from_secs(15);

/// Most lost addresses that are remembered: more than we dial.
const MAX_LOST: usize = 32;

/// Pause before a peer whose connection ended is dialled again.
const COOL_DOWN: Duration = Duration::from_secs(120);
/// The same for a peer that was too slow.
const COOL_DOWN_SLOW: Duration = Duration::from_secs(30 * 60);
/// The same for a peer that broke a rule, or lacks required services.
const COOL_DOWN_FAULT: Duration = Duration::from_secs(24 * 3_600);

/// A dial in flight: until its connection completed the handshake or failed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Dial {
    direction: Direction,
    name: Option<String>,
    until: Duration,
}

/// The state that a dial depends on, and that its result changes.
pub(super) struct Context<'a> {
    pub(super) now: Now,
    pub(super) peers: &'a AdmittedPeers,
    pub(super) book: &'a mut AddressBook,
    pub(super) random: &'a mut Random,
}

impl Context<'_> {
    /// A second borrow of the same.
    fn again(&mut self) -> Context<'_> {
        Context {
            now: self.now,
            peers: self.peers,
            book: self.book,
            random: self.random,
        }
    }

    /// Whether no address of the book is connected. Manual peers are no proof of a network: they
    /// may be on the local one.
    fn is_alone(&self) -> bool {
        self.peers.count(Direction::Outbound) == 0
    }
}

/// The dials in flight, and when the next automatic one may start.
///
/// Invariant: an address is dialled once at a time, and not while it is connected by an outgoing
/// connection; every dial ends, at the latest at its timeout.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Dialer {
    /// Peers are dialled automatically.
    automatic: bool,
    one_per_group: bool,
    timeout: Duration,
    pending: BTreeMap<SocketAddr, Dial>,
    next: Duration,
    /// The last search found no address to dial.
    idle: bool,
    /// Failed dials to addresses of the book since an outgoing connection was last up.
    failure: Option<DialFailure>,
    /// Addresses in a cool-down that our own network may have caused: the last [`MAX_LOST`], each
    /// once, none that was connected since or that broke a rule.
    lost: VecDeque<SocketAddr>,
}

impl Dialer {
    pub(super) fn new(config: &PeerTableConfig, now: Now) -> Self {
        Self {
            automatic: config.dial && config.connect_only.is_empty(),
            one_per_group: !config.allow_private_addresses,
            timeout: config.dial_timeout,
            pending: BTreeMap::new(),
            next: now.mono,
            idle: false,
            failure: None,
            lost: VecDeque::new(),
        }
    }

    /// Stops automatic dialling: the node stops.
    pub(super) fn stop(&mut self) {
        self.automatic = false;
    }

    /// Whether it dials automatically.
    pub(super) fn is_automatic(&self) -> bool {
        self.automatic
    }

    pub(super) fn failure(&self) -> Option<&DialFailure> {
        self.failure.as_ref()
    }

    /// When the first dial without a result times out.
    pub(super) fn expiry(&self) -> Option<Duration> {
        self.pending.values().map(|dial| dial.until).min()
    }

    /// A slot is not free yet, or none was free: the next automatic dial waits.
    fn pace(&mut self, now: Now) {
        self.next = self.next.max(now.mono.saturating_add(DIAL_INTERVAL));
    }

    /// There is a new address to dial: a search that found none need not wait.
    pub(super) fn hurry(&mut self, now: Now) {
        if self.idle {
            self.idle = false;
            self.next = now.mono;
        }
    }

    /// When the next automatic dial may start; `None` while none is wanted.
    pub(super) fn due(&self, peers: &AdmittedPeers, limit: usize) -> Option<Duration> {
        (self.automatic && self.has_free_slot(peers, limit)).then_some(self.next)
    }

    /// When an address of the address book is dialled next, of those that are not `never`
    /// dialled; `None` while one is being dialled.
    pub(super) fn next_dial(
        &self,
        peers: &AdmittedPeers,
        limit: usize,
        book: &AddressBook,
        never: impl Fn(SocketAddr) -> bool,
    ) -> Option<Duration> {
        let due = self
            .due(peers, limit)
            .filter(|_| self.automatic_dials() == 0)?;
        // Addresses in a cool-down count, and are not dialled.
        let first = book.first_retry(|addr| !never(addr))?;
        Some(due.max(first))
    }

    /// Whether one more automatic outbound connection may be opened, of `limit`.
    pub(super) fn has_free_slot(&self, peers: &AdmittedPeers, limit: usize) -> bool {
        peers.count(Direction::Outbound) + self.automatic_dials() < limit
    }

    fn automatic_dials(&self) -> usize {
        let automatic = |dial: &&Dial| dial.direction == Direction::Outbound;
        self.pending.values().filter(automatic).count()
    }

    /// Dials an address of the book that is `welcome`, if a dial is due.
    pub(super) fn plan(
        &mut self,
        context: Context<'_>,
        limit: usize,
        welcome: impl Fn(SocketAddr) -> bool,
    ) -> Option<Effect> {
        let Context {
            now,
            peers,
            book,
            random,
        } = context;
        if self.due(peers, limit).is_none_or(|due| now.mono < due) {
            return None;
        }
        let busy: BTreeSet<SocketAddr> = self.outgoing_addresses(peers).collect();
        let groups: BTreeSet<Group> = busy.iter().map(|addr| Group::of(addr.ip())).collect();
        let allowed = |addr: SocketAddr| {
            let same_group = self.one_per_group && groups.contains(&Group::of(addr.ip()));
            !same_group && !busy.contains(&addr) && welcome(addr)
        };
        let picked = book.pick(now, random, allowed);
        self.idle = picked.is_none();
        let wait = if picked.is_some() {
            DIAL_INTERVAL
        } else {
            EMPTY_SEARCH_INTERVAL
        };
        self.next = now.mono.saturating_add(wait);
        picked.map(|addr| self.dial(now, addr, Direction::Outbound, None))
    }

    pub(super) fn dial(
        &mut self,
        now: Now,
        addr: SocketAddr,
        direction: Direction,
        name: Option<String>,
    ) -> Effect {
        let dial = Dial {
            direction,
            name: name.clone(),
            until: now.mono.saturating_add(self.timeout),
        };
        self.pending.insert(addr, dial);
        Effect::Dial {
            addr,
            direction,
            name,
        }
    }

    /// Addresses of outgoing connections and of dials in flight.
    fn outgoing_addresses<'a>(
        &'a self,
        peers: &'a AdmittedPeers,
    ) -> impl Iterator<Item = SocketAddr> + 'a {
        let connected = peers
            .values()
            .filter(|peer| peer.is_outgoing())
            .map(|peer| canonical(peer.version_info().remote));
        self.pending.keys().copied().chain(connected)
    }

    /// Whether dialling `addr` would make a second connection to it.
    pub(super) fn is_outgoing_to(&self, addr: SocketAddr, peers: &AdmittedPeers) -> bool {
        self.outgoing_addresses(peers).any(|other| other == addr)
    }

    /// An outgoing connection completed its handshake: its dial has ended. Returns the manual peer
    /// that it was for.
    pub(super) fn connected(&mut self, peer: &VersionInfo) -> Option<String> {
        if !peer.direction.is_outgoing() {
            return None;
        }
        self.pending.remove(&canonical(peer.remote))?.name
    }

    /// An outbound peer is admitted.
    pub(super) fn admitted(&mut self, peer: &VersionInfo, context: Context<'_>) {
        if peer.direction.is_outgoing() {
            self.failure = None;
            self.forget_lost(peer.remote);
            let Context { now, random, .. } = context;
            context
                .book
                .succeeded(peer.remote, peer.services, now, random);
        }
    }

    /// A dial ended without a connection. Returns the manual peer that it was for.
    pub(super) fn failed(
        &mut self,
        addr: SocketAddr,
        name: Option<&str>,
        error: &str,
        context: Context<'_>,
    ) -> Option<String> {
        tracing::debug!(%addr, name, error, "dial failed");
        let now = context.now;
        let manual = self.end(canonical(addr), context);
        // With a name and no dial it is the late result of a dial that timed out.
        if manual.is_none() && name.is_none() {
            self.note_failure(now, addr, error);
        }
        manual
    }

    fn note_failure(&mut self, now: Now, addr: SocketAddr, error: &str) {
        let error = format!("{addr}: {error}");
        let earlier = self.failure.take();
        self.failure = Some(DialFailure::after(earlier, &error, now));
    }

    /// A dial was not tried: it is no failure, and is tried again.
    pub(super) fn not_dialled(&mut self, now: Now, addr: SocketAddr) {
        self.pending.remove(&canonical(addr));
        self.pace(now);
    }

    /// An outgoing connection ended before its handshake was complete. Returns the manual peer that
    /// it was for.
    pub(super) fn handshake_failed(
        &mut self,
        remote: SocketAddr,
        reason: &DoneReason,
        mut context: Context<'_>,
    ) -> Option<String> {
        let (now, addr) = (context.now, canonical(remote));
        self.pace(now);
        let manual = self.end(addr, context.again());
        if manual.is_none() {
            self.note_failure(now, addr, &reason.to_string());
        }
        self.cool_down(addr, reason, context);
        manual
    }

    /// The dial to `addr` ended. Returns the manual peer that it was for.
    fn end(&mut self, addr: SocketAddr, context: Context<'_>) -> Option<String> {
        let dial = self.pending.remove(&addr)?;
        let counts = context.peers.outgoing() >= PROOF_OF_NETWORK;
        let alone = context.is_alone();
        let Context {
            now, book, random, ..
        } = context;
        book.failed(addr, counts, now, random);
        if alone {
            book.retry_within(addr, RETRY_ALONE, now);
        }
        dial.name
    }

    /// Ends the dials that timed out. Returns the manual peers that they were for.
    pub(super) fn expire(&mut self, mut context: Context<'_>) -> Vec<String> {
        let now = context.now.mono;
        let expired = self.pending.iter().filter(|(_, dial)| dial.until <= now);
        let expired: Vec<SocketAddr> = expired.map(|(addr, _)| *addr).collect();
        let mut manual = Vec::new();
        for addr in expired {
            tracing::warn!(%addr, "a dial returned no result in time");
            manual.extend(self.end(addr, context.again()));
        }
        manual
    }

    /// A peer that we had dialled disconnected.
    pub(super) fn ended(&mut self, peer: &VersionInfo, reason: &DoneReason, context: Context<'_>) {
        if peer.direction.is_outgoing() {
            self.pace(context.now);
            self.cool_down(peer.remote, reason, context);
        }
    }

    /// Puts an address into a cool-down that depends on the reason of its disconnection. While no
    /// address of the book is connected, most likely our own network is or was down: then silence
    /// and closed connections say little about a peer, nor about those that were lost shortly
    /// before.
    fn cool_down(&mut self, addr: SocketAddr, reason: &DoneReason, context: Context<'_>) {
        let class = reason.class();
        context
            .book
            .pause_for(addr, cool_down(class.back_off()), context.now);
        self.forget_lost(addr);
        if class.may_be_the_network() {
            if self.lost.len() == MAX_LOST {
                self.lost.pop_front();
            }
            self.lost.push_back(canonical(addr));
        }
        if context.is_alone() {
            for addr in self.lost.drain(..) {
                context.book.retry_within(addr, RETRY_ALONE, context.now);
            }
        }
    }

    /// The address answered, or rests for another reason than its loss. What it was lost for
    /// before says nothing any more: it must not cut the new rest short.
    fn forget_lost(&mut self, addr: SocketAddr) {
        let addr = canonical(addr);
        self.lost.retain(|lost| *lost != addr);
    }
}

/// The cool-down of automatic dialling.
fn cool_down(back_off: BackOff) -> Duration {
    match back_off {
        BackOff::Short => COOL_DOWN,
        BackOff::Slow => COOL_DOWN_SLOW,
        BackOff::Fault => COOL_DOWN_FAULT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer_table::admitted_peers::testing::peers;

    #[test]
    fn a_dial_without_a_result_times_out() {
        let config = PeerTableConfig::new(8333, 1);
        let (book, random) = (&mut AddressBook::new(false), &mut Random::new(1));
        let (now, peers) = (Now::default(), &peers([]));
        let mut dialer = Dialer::new(&config, now);
        let addr = SocketAddr::from(([9, 1, 1, 1], 8333));
        dialer.dial(now, addr, Direction::Manual, Some("name".to_owned()));
        assert!(dialer.is_outgoing_to(addr, peers));
        let mut context = Context {
            now,
            peers,
            book,
            random,
        };
        assert_eq!(dialer.expire(context.again()), [""; 0]);
        assert_eq!(dialer.expiry(), Some(config.dial_timeout));
        context.now = now.after(config.dial_timeout);
        assert_eq!(dialer.expire(context), ["name"]);
        assert_eq!(
            (dialer.expiry(), dialer.is_outgoing_to(addr, peers)),
            (None, false)
        );
    }
}
