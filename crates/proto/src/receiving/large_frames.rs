//! Memory for large frames, which all connections share.
//!
//! A frame of up to [`SMALL_FRAME`] is always read into memory: each connection has that much. A
//! longer one claims memory of one of four pools:
//!
//! | pool | for | bytes in all | when it is full |
//! |---|---|---|---|
//! | [`Pool::Chosen`] | requested from outbound and manual peers | 40 MB | the frame is [spilled](Event::Spill) |
//! | [`Pool::Inbound`] | requested from inbound peers | 16 MB | the same |
//! | [`Pool::Returned`] | spilled frames that are complete, until they are handled | 8 MB | the frame waits for others to be handled |
//! | [`Pool::Unasked`] | unsolicited, one frame of an address group at a time | 8 MB | the frame waits, and the slowest holder may be disconnected |
//!
//! # No frame waits for another remote
//!
//! Memory is held from the header of a frame to its last byte, and on until it was handled. The
//! remote decides how long that takes, so no frame may wait for memory that another remote holds. A
//! requested frame therefore never waits: when its pool is full, its bytes go to a file, where each
//! connection has a separate slot, and claim memory of [`Pool::Returned`] when it is complete.
//! Frames of that pool are complete: they wait only for us.
//!
//! Unsolicited frames may wait. *While another connection waits*, the holder that sends slowest,
//! below [`SLOW_UNASKED`], is disconnected, once it had time to show its speed.
//!
//! Bitcoin Core has no such bound: each connection may hold 4 MB.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::address_book::Group;

/// Longest payload that needs no permit, bytes: each connection may hold that much.
pub const SMALL_FRAME: usize = 32 << 10;
/// [`Pool::Chosen`] in all, bytes: the longest block of each of ten peers.
pub const MAX_CHOSEN_BYTES: usize = 40_000_000;
/// [`Pool::Inbound`] in all, bytes: the longest blocks of four peers.
pub const MAX_INBOUND_BYTES: usize = 16_000_000;
/// [`Pool::Returned`] in all, bytes: the longest blocks of two peers.
pub const MAX_RETURNED_BYTES: usize = 8_000_000;
/// [`Pool::Unasked`] in all, bytes.
pub const MAX_UNASKED_BYTES: usize = 8_000_000;
/// Bytes a second below which a holder of [`Pool::Unasked`] is disconnected while others wait: 1
/// Mbit/s, at which the longest frame takes half a minute.
pub const SLOW_UNASKED: u64 = 125_000;
/// How often [`LargeFrames::check`] must be called while a claim waits.
pub const RECHECK: Duration = Duration::from_millis(100);

/// Time that a holder has to show its speed, and the span over which that is measured.
const SPAN: Duration = Duration::from_millis(500);

/// The pool whose memory a frame takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pool {
    /// An answer to a request to a peer that we dialled or that the operator added.
    Chosen,
    /// An answer to a request to an inbound peer.
    Inbound,
    /// A spilled frame that is complete.
    Returned,
    /// An unsolicited frame.
    Unasked,
}

impl Pool {
    const ALL: [Self; 4] = [Self::Chosen, Self::Inbound, Self::Returned, Self::Unasked];

    /// Size of the pool, bytes.
    fn bytes(self) -> usize {
        match self {
            Self::Chosen => MAX_CHOSEN_BYTES,
            Self::Inbound => MAX_INBOUND_BYTES,
            Self::Returned => MAX_RETURNED_BYTES,
            Self::Unasked => MAX_UNASKED_BYTES,
        }
    }

    /// Whether a frame without memory goes to disk instead of waiting.
    fn spills(self) -> bool {
        match self {
            Self::Chosen | Self::Inbound => true,
            Self::Returned | Self::Unasked => false,
        }
    }

    /// Whether an address group holds at most one frame.
    fn one_for_each_group(self) -> bool {
        self == Self::Unasked
    }
}

/// Identifies one claim; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClaimId(pub u64);

/// A large frame that is about to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Claim {
    /// Its id.
    pub id: ClaimId,
    /// The address group of its remote end.
    pub group: Group,
    /// The pool whose memory it takes.
    pub pool: Pool,
    /// Length of its payload.
    pub bytes: usize,
}

/// The result of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// The frame may be read into memory.
    Granted(ClaimId),
    /// There is no memory now: the frame may be read, to disk. The claim has ended.
    Spill(ClaimId),
    /// The memory was revoked, since others waited for it: the connection must end.
    Lost(ClaimId),
}

/// How fast the bytes of a frame are received.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Speed {
    /// Start of the span before the current one, and the bytes received by then.
    before: (Duration, usize),
    /// The same of the current span.
    current: (Duration, usize),
    received: usize,
}

impl Speed {
    fn new(now: Duration) -> Self {
        Self {
            before: (now, 0),
            current: (now, 0),
            received: 0,
        }
    }

    /// Begins a new span when the current one has ended.
    fn look(&mut self, now: Duration) {
        if now.saturating_sub(self.current.0) >= SPAN {
            self.before = self.current;
            self.current = (now, self.received);
        }
    }

    /// Bytes a second since the start of the span before.
    fn rate(&self, now: Duration) -> u64 {
        let bytes = u128::try_from(self.received.saturating_sub(self.before.1)).unwrap_or(0);
        let micros = now.saturating_sub(self.before.0).as_micros().max(1);
        u64::try_from(bytes * 1_000_000 / micros).unwrap_or(u64::MAX)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Holder {
    claim: Claim,
    since: Duration,
    speed: Speed,
    complete: bool,
}

/// The holders of memory, and the claims that wait for it. See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LargeFrames {
    holders: BTreeMap<ClaimId, Holder>,
    /// In order of arrival.
    waiting: Vec<Claim>,
}

impl LargeFrames {
    /// A frame is about to be read. It may be read once an event grants that: at once for a
    /// requested frame.
    ///
    /// # Panics
    /// When the id was used before: the caller's bug.
    pub fn claim(&mut self, now: Duration, claim: Claim) -> Vec<Event> {
        let is_new = !self.holders.contains_key(&claim.id)
            && !self.waiting.iter().any(|other| other.id == claim.id);
        assert!(is_new, "a claim is made once");
        if claim.pool.spills() && !self.fits(&claim) {
            return vec![Event::Spill(claim.id)];
        }
        self.waiting.push(claim);
        let mut events = Vec::new();
        self.grant(now, &mut events);
        events
    }

    /// So many bytes of the frame were received in all.
    pub fn progress(&mut self, now: Duration, id: ClaimId, received: usize) {
        if let Some(holder) = self.holders.get_mut(&id) {
            holder.speed.look(now);
            holder.speed.received = received;
        }
    }

    /// The frame is complete. It does not depend on the remote any more.
    pub fn complete(&mut self, id: ClaimId) {
        if let Some(holder) = self.holders.get_mut(&id) {
            holder.complete = true;
        }
    }

    /// The frame was handled, or its connection is gone. No effect if it holds nothing.
    pub fn release(&mut self, now: Duration, id: ClaimId) -> Vec<Event> {
        let mut events = Vec::new();
        self.waiting.retain(|claim| claim.id != id);
        if self.holders.remove(&id).is_some() {
            self.grant(now, &mut events);
        }
        events
    }

    /// Revokes the memory of a holder that blocks others. To be called every [`RECHECK`] while a
    /// claim waits.
    pub fn check(&mut self, now: Duration) -> Vec<Event> {
        let mut events = Vec::new();
        for holder in self.holders.values_mut() {
            holder.speed.look(now);
        }
        if let Some(slowest) = self.slowest(now) {
            self.holders.remove(&slowest);
            events.push(Event::Lost(slowest));
            self.grant(now, &mut events);
        }
        events
    }

    /// Bytes of frames that hold memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.holders.values().map(|holder| holder.claim.bytes).sum()
    }

    /// The slowest holder that unsolicited frames wait for, if there is one.
    fn slowest(&self, now: Duration) -> Option<ClaimId> {
        let pool = Pool::Unasked;
        let waiting = || self.waiting.iter().filter(|claim| claim.pool == pool);
        let groups: BTreeSet<Group> = waiting().map(|claim| claim.group).collect();
        // A claim that waits for a frame of its group is blocked only by that, any other by all.
        let holding = self.holding(pool);
        let all_are = !groups.is_subset(&holding);
        self.holders
            .values()
            .filter(|holder| holder.claim.pool == pool && !holder.complete)
            .filter(|holder| all_are || groups.contains(&holder.claim.group))
            .filter(|holder| now.saturating_sub(holder.since) >= SPAN)
            .map(|holder| (holder.speed.rate(now), holder.claim.id))
            .filter(|(rate, _)| *rate < SLOW_UNASKED)
            .min()
            .map(|(_, id)| id)
    }

    fn fits(&self, claim: &Claim) -> bool {
        self.used(claim.pool) + claim.bytes <= claim.pool.bytes()
    }

    fn used(&self, pool: Pool) -> usize {
        let of_pool = self.holders.values().map(|holder| &holder.claim);
        of_pool
            .filter(|claim| claim.pool == pool)
            .map(|claim| claim.bytes)
            .sum()
    }

    /// The groups that hold memory of a pool.
    fn holding(&self, pool: Pool) -> BTreeSet<Group> {
        let of_pool = self.holders.values().map(|holder| &holder.claim);
        of_pool
            .filter(|claim| claim.pool == pool)
            .map(|claim| claim.group)
            .collect()
    }

    fn grant(&mut self, now: Duration, events: &mut Vec<Event>) {
        for pool in Pool::ALL {
            while let Some(at) = self.next(pool) {
                let claim = self.waiting.remove(at);
                let holder = Holder {
                    claim,
                    since: now,
                    speed: Speed::new(now),
                    complete: false,
                };
                self.holders.insert(claim.id, holder);
                events.push(Event::Granted(claim.id));
            }
        }
    }

    /// The claim that is granted next: the first of a group that holds nothing here, else the
    /// first. It waits when the pool has too little left for it; no claim overtakes it then.
    fn next(&self, pool: Pool) -> Option<usize> {
        let holding = self.holding(pool);
        let mut waiting = self.waiting.iter().enumerate();
        let first = |(_, claim): &(usize, &Claim)| claim.pool == pool;
        let of_new_group = self
            .waiting
            .iter()
            .enumerate()
            .find(|(_, claim)| claim.pool == pool && !holding.contains(&claim.group));
        let next = match of_new_group {
            None if pool.one_for_each_group() => None,
            None => waiting.find(first),
            found => found,
        };
        let (at, claim) = next?;
        self.fits(claim).then_some(at)
    }
}

#[cfg(test)]
mod tests;
