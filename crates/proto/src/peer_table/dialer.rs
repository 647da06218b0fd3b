//! Whom to dial, and what a failure teaches.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use super::roster::Roster;
use super::{DialFailure, Effect, PeerTableConfig};
use crate::address_book::{AddressBook, Group, canonical};
use crate::lifecycle::{Direction, DoneReason, Introduction};
use crate::random::Random;
use crate::time::Now;

/// Between two automatic dials. 500 ms, as Core.
const DIAL_INTERVAL: Duration = Duration::from_millis(500);
/// Before the book is searched again when it had nobody to dial.
const NOBODY_INTERVAL: Duration = Duration::from_secs(5);
/// Failures say something about addresses while at least this many others are connected.
const PROOF_OF_NETWORK: usize = 2;

/// Longest before an address is dialled again that failed while no address of the book was
/// connected: most likely our own network was down, and its return is to be noticed at once.
const RETRY_ALONE: Duration = Duration::from_secs(15);

/// Most lost addresses that are remembered: as many as we dial, and more.
const MAX_LOST: usize = 32;

/// Before a peer whose connection ended is dialled again.
const REST: Duration = Duration::from_secs(120);
/// The same for one that was too slow.
const REST_SLOW: Duration = Duration::from_secs(30 * 60);
/// The same for one that broke a rule, or is not what we look for.
const REST_FAULT: Duration = Duration::from_secs(24 * 3_600);

/// A dial in flight: until its connection completed the handshake, or failed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Dial {
    direction: Direction,
    name: Option<String>,
    until: Duration,
}

/// What a dial is judged by, and what it teaches.
pub(super) struct Context<'a> {
    pub(super) now: Now,
    pub(super) peers: &'a Roster,
    pub(super) book: &'a mut AddressBook,
    pub(super) random: &'a mut Random,
}

impl Context<'_> {
    /// The same, for one more use.
    fn again(&mut self) -> Context<'_> {
        Context {
            now: self.now,
            peers: self.peers,
            book: self.book,
            random: self.random,
        }
    }

    /// Whether no address of the book is connected. Manual peers are no proof of a network:
    /// they may be in the next room.
    fn is_alone(&self) -> bool {
        self.peers.count(Direction::Outbound) == 0
    }
}

/// The dials in flight, and when the next automatic one may start.
///
/// Invariant: an address is dialled once at a time, and not while we are connected to it by a
/// dial of ours; every dial ends, at the latest when its time is up.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Dialer {
    /// Peers are looked for without being named.
    automatic: bool,
    one_per_group: bool,
    timeout: Duration,
    pending: BTreeMap<SocketAddr, Dial>,
    next: Duration,
    /// The last search found nobody to dial.
    idle: bool,
    /// Failed dials to addresses of the book since a peer was connected that we dialled.
    failure: Option<DialFailure>,
    /// Addresses that rest, though it may have been our own network that went down: the last
    /// [`MAX_LOST`], each once, none that was connected since or that rests for a fault.
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

    /// Dials no longer by itself: the node stops.
    pub(super) fn stop(&mut self) {
        self.automatic = false;
    }

    /// Whether it looks for peers by itself.
    pub(super) fn is_automatic(&self) -> bool {
        self.automatic
    }

    pub(super) fn failure(&self) -> Option<&DialFailure> {
        self.failure.as_ref()
    }

    /// When the first dial that nobody answers for is forgotten.
    pub(super) fn expiry(&self) -> Option<Duration> {
        self.pending.values().map(|dial| dial.until).min()
    }

    /// A slot is not free yet, or none was free: the next automatic dial waits.
    fn pace(&mut self, now: Now) {
        self.next = self.next.max(now.mono.saturating_add(DIAL_INTERVAL));
    }

    /// There is somebody new to dial: a search that found nobody need not wait.
    pub(super) fn hurry(&mut self, now: Now) {
        if self.idle {
            self.idle = false;
            self.next = now.mono;
        }
    }

    /// When the next automatic dial may start; `None` while none is wanted.
    pub(super) fn due(&self, peers: &Roster, limit: usize) -> Option<Duration> {
        (self.automatic && self.has_room(peers, limit)).then_some(self.next)
    }

    /// When an address of the address book is dialled next, of those that are not `never`
    /// dialled; `None` while one is being dialled.
    pub(super) fn next_dial(
        &self,
        peers: &Roster,
        limit: usize,
        book: &AddressBook,
        never: impl Fn(SocketAddr) -> bool,
    ) -> Option<Duration> {
        let due = self
            .due(peers, limit)
            .filter(|_| self.automatic_dials() == 0)?;
        // Addresses that rest are looked at, and not dialled.
        let first = book.first_rested(|addr| !never(addr))?;
        Some(due.max(first))
    }

    /// Whether one more automatic outbound connection may be opened, of `limit`.
    pub(super) fn has_room(&self, peers: &Roster, limit: usize) -> bool {
        peers.count(Direction::Outbound) + self.automatic_dials() < limit
    }

    fn automatic_dials(&self) -> usize {
        let automatic = |dial: &&Dial| dial.direction == Direction::Outbound;
        self.pending.values().filter(automatic).count()
    }

    /// Dials an address of the book, if that is due and there is one that is `welcome`.
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
            NOBODY_INTERVAL
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

    /// Addresses that we are connected to by a dial of ours, or dial right now.
    fn outgoing_addresses<'a>(
        &'a self,
        peers: &'a Roster,
    ) -> impl Iterator<Item = SocketAddr> + 'a {
        let connected = peers
            .values()
            .filter(|peer| peer.is_outgoing())
            .map(|peer| canonical(peer.introduction().remote));
        self.pending.keys().copied().chain(connected)
    }

    /// Whether dialling `addr` would make a second connection to it.
    pub(super) fn is_outgoing_to(&self, addr: SocketAddr, peers: &Roster) -> bool {
        self.outgoing_addresses(peers).any(|other| other == addr)
    }

    /// An outgoing connection completed its handshake: its dial is over. Returns the manual
    /// peer that it was for.
    pub(super) fn connected(&mut self, peer: &Introduction) -> Option<String> {
        if !peer.direction.is_outgoing() {
            return None;
        }
        self.pending.remove(&canonical(peer.remote))?.name
    }

    /// A peer that we dialled is admitted.
    pub(super) fn admitted(&mut self, peer: &Introduction, context: Context<'_>) {
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
        // With a name and no dial it is the answer to a dial that had been given up.
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

    /// A dial was not tried: nobody is to blame, and it is tried again.
    pub(super) fn not_dialled(&mut self, now: Now, addr: SocketAddr) {
        self.pending.remove(&canonical(addr));
        self.pace(now);
    }

    /// A connection of ours ended before its handshake was complete. Returns the manual peer
    /// that it was for.
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
        self.rest(addr, reason, context);
        manual
    }

    /// The dial to `addr` came to nothing. Returns the manual peer that it was for.
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

    /// Gives up the dials whose time is up. Returns the manual peers that they were for.
    pub(super) fn expire(&mut self, mut context: Context<'_>) -> Vec<String> {
        let now = context.now.mono;
        let expired = self.pending.iter().filter(|(_, dial)| dial.until <= now);
        let expired: Vec<SocketAddr> = expired.map(|(addr, _)| *addr).collect();
        let mut manual = Vec::new();
        for addr in expired {
            tracing::warn!(%addr, "nobody answered for a dial");
            manual.extend(self.end(addr, context.again()));
        }
        manual
    }

    /// A peer that we had dialled is gone.
    pub(super) fn ended(&mut self, peer: &Introduction, reason: &DoneReason, context: Context<'_>) {
        if peer.direction.is_outgoing() {
            self.pace(context.now);
            self.rest(peer.remote, reason, context);
        }
    }

    /// Leaves an address alone for as long as the end of its connection asks for. While no
    /// address of the book is connected, most likely our own network is or was down: then what
    /// it looks like from outside, silence and closed connections, says little about a peer,
    /// nor about those that were lost shortly before.
    fn rest(&mut self, addr: SocketAddr, reason: &DoneReason, context: Context<'_>) {
        context.book.rest(addr, rest_after(reason), context.now);
        self.forget_lost(addr);
        if may_be_the_network(reason) {
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

/// Whether a connection may have ended so because our own network went down.
fn may_be_the_network(reason: &DoneReason) -> bool {
    matches!(
        reason,
        DoneReason::RemoteClosed
            | DoneReason::RemoteReset(_)
            | DoneReason::HandshakeTimeout
            | DoneReason::PingTimeout
            | DoneReason::Inactive
            | DoneReason::HeadersTimeout
            | DoneReason::BlockStalled { .. }
    )
}

/// How long a peer whose connection ended so is left alone by automatic dialling.
fn rest_after(reason: &DoneReason) -> Duration {
    match reason {
        DoneReason::RemoteClosed
        | DoneReason::RemoteReset(_)
        | DoneReason::DuplicateConnection
        | DoneReason::Refused(_)
        | DoneReason::Evicted
        | DoneReason::Banned
        | DoneReason::Discouraged
        | DoneReason::Requested
        | DoneReason::Shutdown
        | DoneReason::Panicked => REST,
        DoneReason::HandshakeTimeout
        | DoneReason::PingTimeout
        | DoneReason::Inactive
        | DoneReason::SlowReader
        | DoneReason::SlowSender
        | DoneReason::HeadersTimeout
        | DoneReason::StaleChain
        | DoneReason::BlockStalled { .. } => REST_SLOW,
        DoneReason::SelfConnection
        | DoneReason::ObsoleteVersion { .. }
        | DoneReason::MissingServices
        | DoneReason::Undecodable(_)
        | DoneReason::MalformedFlood(_)
        | DoneReason::Misbehaving(_)
        | DoneReason::ServiceNotOffered(_)
        | DoneReason::ProtocolViolation(_)
        | DoneReason::InvalidHeader(_)
        | DoneReason::InvalidBlock { .. }
        | DoneReason::LowWorkChain => REST_FAULT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer_table::roster::testing::peers;

    #[test]
    fn a_dial_that_nobody_answers_for_ends_when_its_time_is_up() {
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
