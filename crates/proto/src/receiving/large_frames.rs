//! Permits for large frames: memory that all connections share.
//!
//! A frame of up to [`SMALL_FRAME`] is always read: each connection has that much for
//! itself. A longer one is read while its connection holds a permit for it. There are
//! four pools, so that those who were not asked take nothing from those who were, and
//! strangers nothing from peers that we chose:
//!
//! | pool | for | bytes in all | one group |
//! |---|---|---|---|
//! | [`Pool::Outgoing`] | what we asked of peers that we chose and dialled | 40 MB | all |
//! | [`Pool::Manual`] | what we asked of peers that the operator named | 32 MB | all |
//! | [`Pool::Inbound`] | what we asked of inbound peers | 16 MB | all |
//! | [`Pool::Unasked`] | everything else | 8 MB | one frame |
//!
//! # Holding without sending
//!
//! A permit is held from the header of a frame to its last byte, and on until it was
//! handled. Who sends a header and all bytes but one would hold it for ever, and some
//! of these would hold all. So *while another connection waits*, the holder that sends
//! slowest loses its connection, once it had time to show how fast it is: the permit
//! goes on to who waits. Slow is what is below [`Pool::slow`]; nobody loses
//! anything while there is enough for all, and a peer that the operator named never. A frame that is complete waits for us, and
//! loses nothing.
//!
//! Bitcoin Core has no such bound: each connection may hold 4 MB.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::address_book::Group;

/// Longest payload that needs no permit, bytes: each connection may hold that much.
pub const SMALL_FRAME: usize = 32 << 10;
/// [`Pool::Outgoing`] in all, bytes: the longest block of each of ten peers.
pub const MAX_OUTGOING_BYTES: usize = 40_000_000;
/// [`Pool::Manual`] in all, bytes: the longest block of each of eight peers.
pub const MAX_MANUAL_BYTES: usize = 32_000_000;
/// [`Pool::Inbound`] in all, bytes: the longest blocks of four peers.
pub const MAX_INBOUND_BYTES: usize = 16_000_000;
/// [`Pool::Unasked`] in all, bytes.
pub const MAX_UNASKED_BYTES: usize = 8_000_000;
/// How often [`LargeFrames::check`] is to be called while somebody waits.
pub const RECHECK: Duration = Duration::from_millis(100);

/// Time that a holder has to show how fast it sends, also the span over which that is
/// measured.
const SPAN: Duration = Duration::from_millis(500);

/// Whose memory a frame takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pool {
    /// An answer to what we asked of a peer that we chose and dialled.
    Outgoing,
    /// The same of a peer that the operator named. However slow it is, it stays: others are
    /// asked for what it does not bring in time.
    Manual,
    /// An answer to what we asked of an inbound peer.
    Inbound,
    /// What nobody asked for.
    Unasked,
}

impl Pool {
    const ALL: [Self; 4] = [Self::Outgoing, Self::Manual, Self::Inbound, Self::Unasked];

    /// Bytes in all.
    fn bytes(self) -> usize {
        match self {
            Self::Outgoing => MAX_OUTGOING_BYTES,
            Self::Manual => MAX_MANUAL_BYTES,
            Self::Inbound => MAX_INBOUND_BYTES,
            Self::Unasked => MAX_UNASKED_BYTES,
        }
    }

    /// Bytes a second below which a holder is slow. We dialled few and chose them, so
    /// that a bad line is borne longer there. At the others' limit, 1 Mbit/s, the longest
    /// frame takes half a minute.
    #[must_use]
    pub fn slow(self) -> u64 {
        match self {
            Self::Outgoing => 32_000,
            Self::Manual => 0,
            Self::Inbound | Self::Unasked => 125_000,
        }
    }

    /// Whether one address group holds one permit at most.
    fn one_for_each_group(self) -> bool {
        self == Self::Unasked
    }
}

/// Names one claim; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClaimId(pub u64);

/// A large frame that is about to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Claim {
    /// Its name.
    pub id: ClaimId,
    /// The address group of its remote end.
    pub group: Group,
    /// Whose memory it takes.
    pub pool: Pool,
    /// Length of its payload.
    pub bytes: usize,
}

/// What became of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// The frame may be read.
    Granted(ClaimId),
    /// The permit was taken back, since others waited for it: the connection must end.
    Lost(ClaimId),
}

/// How fast the bytes of a frame come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Speed {
    /// Start of the span before the current one, and what had come then.
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

    /// Begins a new span when the current one is over.
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

/// The permits. See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LargeFrames {
    holders: BTreeMap<ClaimId, Holder>,
    /// In the order in which they came.
    waiting: Vec<Claim>,
}

impl LargeFrames {
    /// A frame is about to be read. It may be when [`Event::Granted`] says so, which may
    /// be at once.
    ///
    /// # Panics
    /// When the id was used before: the caller's bug.
    pub fn claim(&mut self, now: Duration, claim: Claim) -> Vec<Event> {
        let is_new = !self.holders.contains_key(&claim.id)
            && !self.waiting.iter().any(|other| other.id == claim.id);
        assert!(is_new, "a claim is made once");
        self.waiting.push(claim);
        let mut events = Vec::new();
        self.grant(now, &mut events);
        events
    }

    /// So much of the frame has come in all, bytes.
    pub fn progress(&mut self, now: Duration, id: ClaimId, received: usize) {
        if let Some(holder) = self.holders.get_mut(&id) {
            holder.speed.look(now);
            holder.speed.received = received;
        }
    }

    /// The frame is complete. What it holds is not the remote's doing any more.
    pub fn complete(&mut self, id: ClaimId) {
        if let Some(holder) = self.holders.get_mut(&id) {
            holder.complete = true;
        }
    }

    /// The frame was handled, or its connection is gone. Harmless when it has no permit.
    pub fn release(&mut self, now: Duration, id: ClaimId) -> Vec<Event> {
        let mut events = Vec::new();
        self.waiting.retain(|claim| claim.id != id);
        if self.holders.remove(&id).is_some() {
            self.grant(now, &mut events);
        }
        events
    }

    /// Takes permits from those who hold them up. To be called every [`RECHECK`] while a
    /// claim waits.
    pub fn check(&mut self, now: Duration) -> Vec<Event> {
        let mut events = Vec::new();
        for holder in self.holders.values_mut() {
            holder.speed.look(now);
        }
        for pool in Pool::ALL {
            if self.waiting.iter().any(|claim| claim.pool == pool)
                && let Some(slowest) = self.slowest(now, pool)
            {
                self.holders.remove(&slowest);
                events.push(Event::Lost(slowest));
            }
        }
        if !events.is_empty() {
            self.grant(now, &mut events);
        }
        events
    }

    /// Bytes of frames that hold a permit.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.holders.values().map(|holder| holder.claim.bytes).sum()
    }

    /// Who is in the way of those who wait, if anybody is.
    fn slowest(&self, now: Duration, pool: Pool) -> Option<ClaimId> {
        // Where a group holds one permit at most, who waits for that is held up by its own
        // group alone; everybody else is held up by all.
        let waiting = || self.waiting.iter().filter(|claim| claim.pool == pool);
        let groups: BTreeSet<Group> = waiting().map(|claim| claim.group).collect();
        let holding = self.holding(pool);
        let by_its_own =
            |claim: &Claim| pool.one_for_each_group() && holding.contains(&claim.group);
        let all_are = waiting().any(|claim| !by_its_own(claim));
        self.holders
            .values()
            .filter(|holder| holder.claim.pool == pool && !holder.complete)
            .filter(|holder| all_are || groups.contains(&holder.claim.group))
            .filter(|holder| now.saturating_sub(holder.since) >= SPAN)
            .map(|holder| (holder.speed.rate(now), holder.claim.id))
            .filter(|(rate, _)| *rate < pool.slow())
            .min()
            .map(|(_, id)| id)
    }

    fn used(&self, pool: Pool) -> usize {
        let of_pool = self.holders.values().map(|holder| &holder.claim);
        of_pool
            .filter(|claim| claim.pool == pool)
            .map(|claim| claim.bytes)
            .sum()
    }

    /// The groups that hold a permit.
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

    /// The claim that is granted next: the first of a group that holds nothing here, else
    /// the first. It waits when there is not enough left for it; none overtakes it then.
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
        (self.used(pool) + claim.bytes <= pool.bytes()).then_some(at)
    }
}

#[cfg(test)]
mod tests;
