//! Whom to dial, and what a failure teaches.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use super::named::RECONNECT_LONGEST;
use super::roster::Peer;
use super::{DialFailure, Effect, PeerTable};
use crate::address_book::{Group, canonical};
use crate::lifecycle::{Direction, DoneReason, Introduction};
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

/// The dials in flight, and when the next automatic one may start.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Dials {
    pending: BTreeMap<SocketAddr, Dial>,
    next: Duration,
    /// The last search found nobody to dial.
    idle: bool,
}

impl Dials {
    pub(super) fn new(now: Now) -> Self {
        Self {
            pending: BTreeMap::new(),
            next: now.mono,
            idle: false,
        }
    }

    /// When the first dial that nobody answers for is forgotten.
    pub(super) fn expiry(&self) -> Option<Duration> {
        self.pending.values().map(|dial| dial.until).min()
    }

    /// A slot is on its way home, or none was free: the next automatic dial waits.
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
}

impl PeerTable {
    /// Starts whatever is due.
    pub(super) fn plan(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if self.draining {
            return;
        }
        self.expire_dials(now);
        if !self.network_active {
            return;
        }
        self.plan_named(now, effects);
        if self.peers.count(Direction::Outbound) > 0 {
            self.lonely_since = None;
        } else {
            self.lonely_since.get_or_insert(now.mono);
        }
        self.plan_seeds(now, effects);
        self.plan_more_peers(now, effects);
        self.plan_outbound(now, effects);
        self.gossip.send_due(now, &self.peers, effects);
    }

    /// Whether we look for peers by ourselves.
    pub(super) fn dials_automatically(&self) -> bool {
        self.config.dial && self.config.connect_only.is_empty() && !self.draining
    }

    /// When the next automatic dial may start; `None` while none is wanted.
    pub(super) fn outbound_due(&self) -> Option<Duration> {
        (self.dials_automatically() && self.has_outbound_room()).then_some(self.dials.next)
    }

    /// When an address of the address book is dialled next; `None` while one is being dialled.
    pub(super) fn next_dial(&self) -> Option<Duration> {
        let automatic = |dial: &Dial| dial.direction == Direction::Outbound;
        let dialling = self.dials.pending.values().any(automatic);
        let due = self.outbound_due().filter(|_| !dialling)?;
        // Addresses that rest are looked at, and not dialled.
        let first = self.book.first_rested(|addr| !self.gossip.is_own(addr))?;
        Some(due.max(first))
    }

    /// Whether one more automatic outbound connection may be opened.
    pub(super) fn has_outbound_room(&self) -> bool {
        let dialling = self
            .dials
            .pending
            .values()
            .filter(|dial| dial.direction == Direction::Outbound);
        let taken = self.peers.count(Direction::Outbound) + dialling.count();
        taken < self.outbound_limit()
    }

    fn plan_outbound(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if self.outbound_due().is_none_or(|due| now.mono < due) {
            return;
        }
        let busy: BTreeSet<SocketAddr> = self.outgoing_addresses().collect();
        let groups: BTreeSet<Group> = busy.iter().map(|addr| Group::of(addr.ip())).collect();
        let one_per_group = !self.config.allow_private_addresses;
        let allowed = |addr: SocketAddr| {
            let same_group = one_per_group && groups.contains(&Group::of(addr.ip()));
            !same_group
                && !self.gossip.is_own(addr)
                && !busy.contains(&addr)
                && !self.bans.is_unwelcome(addr.ip(), now)
        };
        let picked = self.book.pick(now, &mut self.random, allowed);
        self.dials.idle = picked.is_none();
        let wait = if picked.is_some() {
            DIAL_INTERVAL
        } else {
            NOBODY_INTERVAL
        };
        self.dials.next = now.mono.saturating_add(wait);
        if let Some(addr) = picked {
            self.dial(now, addr, Direction::Outbound, None, effects);
        }
    }

    pub(super) fn dial(
        &mut self,
        now: Now,
        addr: SocketAddr,
        direction: Direction,
        name: Option<String>,
        effects: &mut Vec<Effect>,
    ) {
        let until = now.mono.saturating_add(self.config.dial_timeout);
        self.dials.pending.insert(
            addr,
            Dial {
                direction,
                name: name.clone(),
                until,
            },
        );
        effects.push(Effect::Dial {
            addr,
            direction,
            name,
        });
    }

    /// Addresses that we are connected to by a dial of ours, or dial right now.
    fn outgoing_addresses(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        let connected = self
            .peers
            .values()
            .filter(|peer| peer.is_outgoing())
            .map(|peer| canonical(peer.introduction().remote));
        self.dials.pending.keys().copied().chain(connected)
    }

    /// Whether dialling `addr` would make a second connection to it.
    pub(super) fn is_outgoing_to(&self, addr: SocketAddr) -> bool {
        self.outgoing_addresses().any(|other| other == addr)
    }

    /// An outgoing connection completed its handshake: its dial is over. Returns the
    /// named node that it was for.
    pub(super) fn dial_connected(&mut self, now: Now, peer: &Introduction) -> Option<String> {
        if !peer.direction.is_outgoing() {
            return None;
        }
        let name = self.dials.pending.remove(&canonical(peer.remote))?.name?;
        self.named_connected(now, &name, peer.id);
        Some(name)
    }

    /// A dial ended without a connection.
    pub(super) fn dial_failed(
        &mut self,
        now: Now,
        addr: SocketAddr,
        name: Option<&str>,
        error: &str,
    ) {
        tracing::debug!(%addr, name, error, "dial failed");
        match (self.end_dial(now, canonical(addr)), name) {
            (Some(name), _) => self.named_unreachable(now, &name, error),
            // The answer to a named dial that had been given up.
            (None, Some(_)) => {}
            (None, None) => self.note_failure(now, addr, error),
        }
    }

    fn note_failure(&mut self, now: Now, addr: SocketAddr, error: &str) {
        let error = format!("{addr}: {error}");
        let earlier = self.dial_failure.take();
        self.dial_failure = Some(DialFailure::after(earlier, &error, now));
    }

    /// Leaves an address alone for as long as the end of its connection asks for. While no
    /// address of the book is connected, most likely our own network is or was down: then what
    /// it looks like from outside, silence and closed connections, says little about a peer.
    fn rest(&mut self, now: Now, addr: SocketAddr, reason: &DoneReason) {
        let rest = match self.is_alone() && may_be_the_network(reason) {
            true => RETRY_ALONE,
            false => rest_after(reason),
        };
        self.book.rest(addr, rest, now);
    }

    /// Whether no address of the book is connected. Manual peers are no proof of a network:
    /// they may be in the next room.
    fn is_alone(&self) -> bool {
        self.peers.count(Direction::Outbound) == 0
    }

    /// A dial was not tried: nobody is to blame, and it is tried again.
    pub(super) fn not_dialled(&mut self, now: Now, addr: SocketAddr, name: Option<&str>) {
        self.dials.pending.remove(&canonical(addr));
        self.dials.pace(now);
        if let Some(name) = name {
            self.named_busy(now, name);
        }
    }

    /// A connection of ours ended before its handshake was complete.
    pub(super) fn handshake_failed(&mut self, now: Now, remote: SocketAddr, reason: &DoneReason) {
        let addr = canonical(remote);
        self.dials.pace(now);
        match self.end_dial(now, addr) {
            Some(name) => self.named_failed(now, &name, &reason.to_string(), RECONNECT_LONGEST),
            None => self.note_failure(now, addr, &reason.to_string()),
        }
        self.rest(now, addr, reason);
    }

    /// The dial to `addr` came to nothing. Returns the named node that it was for.
    fn end_dial(&mut self, now: Now, addr: SocketAddr) -> Option<String> {
        let dial = self.dials.pending.remove(&addr)?;
        let connected = self.peers.values().filter(|p| p.is_outgoing());
        let connected = connected.count();
        let counts = connected >= PROOF_OF_NETWORK;
        self.book.failed(addr, counts, now, &mut self.random);
        if self.is_alone() {
            self.book.retry_within(addr, RETRY_ALONE, now);
        }
        dial.name
    }

    fn expire_dials(&mut self, now: Now) {
        let expired = |(_, dial): &(&SocketAddr, &Dial)| dial.until <= now.mono;
        while let Some(addr) = self
            .dials
            .pending
            .iter()
            .find(expired)
            .map(|(addr, _)| *addr)
        {
            tracing::warn!(%addr, "nobody answered for a dial");
            if let Some(name) = self.end_dial(now, addr) {
                self.named_unreachable(now, &name, "the dial was never answered");
            }
        }
    }

    /// A peer that we had dialled is gone.
    pub(super) fn outgoing_ended(&mut self, now: Now, peer: &Peer, reason: &DoneReason) {
        let introduction = peer.introduction();
        let why = reason.to_string();
        self.named_lost(now, peer.name(), introduction.id, &why);
        if introduction.direction.is_outgoing() {
            self.dials.pace(now);
            self.rest(now, introduction.remote, reason);
        }
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
