//! Which peer is evicted when every inbound slot is taken and another one connects.
//!
//! Refusing new peers would let the first ones hold every slot for ever; always evicting for them
//! would let the most frequent callers win. As in Bitcoin Core's `SelectNodeToEvict`, peers are
//! protected by several measures, each of which costs an attacker something else, and among the
//! rest the largest group loses its youngest.
//!
//! | protected, in this order | at most | an attacker would need |
//! |---|---|---|
//! | the oldest of each of the groups with the highest keyed hash | 4, an eighth | to know our key |
//! | the shortest measured round trips | 8, a quarter | to be near us |
//! | the last ones that sent us a new block | 4, an eighth | to mine, or to be fast |
//! | half of the rest: first the oldest of every group, then the second, … | | to be early, in many groups |
//!
//! A discouraged host's peers are protected only by the blocks that they sent. A share is of the
//! inbound peers, rounded down; the last half is rounded up. So of 115 peers 66 are protected, of 8
//! 6, of 2 the older one. A single slot is never taken from its peer.
//!
//! # Grace period
//!
//! A new peer is the youngest of its group, and so the first to be evicted for the next one: with
//! all slots taken, a stream of connections from one group would be admitted and evicted one by
//! one, and none of them would be useful. So a peer within [`NEWCOMER_GRACE`] of its admission is
//! not evicted for a group as large as its own or larger: such connections are refused. A new peer
//! of a smaller group is admitted as usual.
//!
//! # Where this differs from Core
//!
//! * Core evicts, or refuses, when it accepts a connection, which is a peer from then on. Here a
//!   slot is taken once the handshake is complete, so that silent connections cost no peer a slot;
//!   before that a connection holds a permit of the handshake limiter ([`crate::handshake_limiter`]).
//!   So a new peer without a victim is refused after its handshake and not at accept: it costs us
//!   the few hundred bytes of that, and is counted ([`Displaced`]) and in the history with the
//!   reason.
//! * A group's size counts all its inbound peers, protected or not, and the new peer itself. A new
//!   peer of a group that is larger than any group with a possible victim is refused: a flood from
//!   one group displaces the flood, and at most one peer of others.
//! * One peer per group, not four peers, is protected by the keyed hash, and uptime protects the
//!   groups in rounds: no group owns either measure.
//! * Only a measured round trip and a received block protect.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use super::PeerTableConfig;
use super::admitted_peers::{AdmittedPeers, Peer};
use super::bans::Bans;
use crate::address_book::Group;
use crate::lifecycle::{ConnId, Direction, DoneReason, SlotRefusal};
use crate::random;
use crate::time::Now;

/// Groups of which one peer is protected. Core: 4 peers.
const GROUPS: usize = 4;
/// Peers protected by their round trip. Core: 8.
const NEAREST: usize = 8;
/// Peers protected by the blocks that they sent. Core: 4.
const USEFUL: usize = 4;

/// How long an admitted peer is not evicted for similar ones. Core has no such time.
pub const NEWCOMER_GRACE: Duration = Duration::from_secs(10);

/// Inbound connections since start that found all slots taken, by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Displaced {
    /// Peers that were evicted for others.
    pub evicted: u64,
    /// New peers that were refused.
    pub refused: u64,
}

/// Why no peer is evicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NoVictim {
    /// Every peer is better protected.
    AllSafe,
    /// The victim was admitted less than [`NEWCOMER_GRACE`] ago.
    JustCame,
}

/// An inbound peer that could be evicted.
#[derive(Clone, Debug)]
struct Candidate {
    id: ConnId,
    group: Group,
    /// Hash of the group under this process's key.
    keyed_group: u64,
    since: Duration,
    /// It was admitted less than [`NEWCOMER_GRACE`] ago.
    just_came: bool,
    round_trip: Option<Duration>,
    useful_at: Option<Duration>,
    discouraged: bool,
}

/// Takes the first `count` by `measure` out of `rest`; a peer without a measure stays.
fn protect<M: Ord>(
    rest: &mut Vec<Candidate>,
    count: usize,
    measure: impl Fn(&Candidate) -> Option<M>,
) {
    let mut measured: Vec<(M, Duration, ConnId)> = rest
        .iter()
        .filter_map(|peer| Some((measure(peer)?, peer.since, peer.id)))
        .collect();
    measured.sort();
    measured.truncate(count);
    let safe: BTreeSet<ConnId> = measured.into_iter().map(|(_, _, id)| id).collect();
    rest.retain(|peer| !safe.contains(&peer.id));
}

/// The rank of each peer in its group by age, the oldest being number 0.
fn seniority(peers: &[Candidate]) -> BTreeMap<ConnId, usize> {
    let mut by_age: Vec<&Candidate> = peers.iter().collect();
    by_age.sort_by_key(|peer| (peer.since, peer.id));
    let mut seen = BTreeMap::<Group, usize>::new();
    let place = |peer: &Candidate| {
        let count = seen.entry(peer.group).or_default();
        *count += 1;
        (peer.id, *count - 1)
    };
    by_age.into_iter().map(place).collect()
}

/// The peers without protection.
fn unprotected(candidates: &[Candidate]) -> Vec<Candidate> {
    let count = candidates.len();
    let mut rest = candidates.to_vec();
    let ranks = seniority(&rest);
    let decent = |peer: &Candidate| !peer.discouraged;
    protect(&mut rest, GROUPS.min(count / 8), |peer| {
        let oldest = ranks[&peer.id] == 0;
        (oldest && decent(peer)).then_some(std::cmp::Reverse(peer.keyed_group))
    });
    protect(&mut rest, NEAREST.min(count / 4), |peer| {
        peer.round_trip.filter(|_| decent(peer))
    });
    protect(&mut rest, USEFUL.min(count / 8), |peer| {
        peer.useful_at.map(std::cmp::Reverse)
    });
    let ranks = seniority(&rest);
    let half = rest.len().div_ceil(2);
    protect(&mut rest, half, |peer| {
        decent(peer).then_some(ranks[&peer.id])
    });
    rest
}

/// The victim for a new peer of `newcomer`, or why it is refused.
fn victim(candidates: &[Candidate], newcomer: Group) -> Result<ConnId, NoVictim> {
    let rest = unprotected(candidates);
    // A discouraged host's peers are evicted first, for any new peer.
    if let Some(discouraged) = youngest(rest.iter().filter(|peer| peer.discouraged)) {
        return Ok(discouraged.id);
    }
    let mut sizes = BTreeMap::from([(newcomer, 1usize)]);
    for peer in candidates {
        *sizes.entry(peer.group).or_default() += 1;
    }
    // Of two equal groups the new peer's, else that of the youngest.
    let rank = |peer: &&Candidate| {
        let own = peer.group == newcomer;
        (sizes[&peer.group], own, peer.since, peer.id)
    };
    let loser = rest.iter().max_by_key(rank).ok_or(NoVictim::AllSafe)?.group;
    if sizes[&newcomer] > sizes[&loser] {
        return Err(NoVictim::AllSafe);
    }
    let chosen = youngest(rest.iter().filter(|peer| peer.group == loser));
    let chosen = chosen.ok_or(NoVictim::AllSafe)?;
    if chosen.just_came && sizes[&newcomer] == sizes[&loser] {
        return Err(NoVictim::JustCame);
    }
    Ok(chosen.id)
}

fn youngest<'a>(peers: impl Iterator<Item = &'a Candidate>) -> Option<&'a Candidate> {
    peers.max_by_key(|peer| (peer.since, peer.id))
}

/// Most inbound peers that may be disconnecting while others have their slots.
///
/// Their connections hold slots of the node until their `Done` is handled; the inbound pool of
/// those includes handshakes, whose share they must not use up.
#[must_use]
pub fn max_leaving(max_inbound: usize) -> usize {
    (max_inbound / 8).clamp(1, 8)
}

/// The measures that protect a peer from eviction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Merit {
    /// The shortest round trip when it was last read.
    round_trip: Option<Duration>,
    /// When it last sent a block that was new to us.
    useful_at: Option<Duration>,
}

/// Selects the peer to evict, and holds the measures for it.
///
/// Invariant: it has measures of the admitted peers and of no others.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Eviction {
    max_inbound: usize,
    newcomer_grace: Duration,
    seed: u64,
    merits: BTreeMap<ConnId, Merit>,
    displaced: Displaced,
}

impl Eviction {
    pub(super) fn new(config: &PeerTableConfig) -> Self {
        Self {
            max_inbound: config.max_inbound,
            newcomer_grace: config.newcomer_grace,
            seed: config.seed,
            merits: BTreeMap::new(),
            displaced: Displaced::default(),
        }
    }

    pub(super) fn admitted(&mut self, id: ConnId) {
        self.merits.insert(id, Merit::default());
    }

    pub(super) fn ended(&mut self, id: ConnId) {
        self.merits.remove(&id);
    }

    pub(super) fn displaced(&self) -> Displaced {
        self.displaced
    }

    /// The measured round trips of peers.
    pub(super) fn record_round_trips(&mut self, round_trips: Vec<(ConnId, Duration)>) {
        for (id, took) in round_trips {
            if let Some(merit) = self.merits.get_mut(&id) {
                merit.round_trip = Some(took);
            }
        }
    }

    /// A peer sent a block that was new to us.
    pub(super) fn received_block(&mut self, now: Now, id: ConnId) {
        if let Some(merit) = self.merits.get_mut(&id) {
            merit.useful_at = Some(now.mono);
        }
    }

    /// All inbound slots are taken by peers that are not disconnecting.
    pub(super) fn inbound_is_full(&self, peers: &AdmittedPeers) -> bool {
        peers.count_staying(Direction::Inbound) >= self.max_inbound
    }

    /// The peer to evict for an inbound connection from `ip`, or why that is refused.
    ///
    /// Inbound peers that are disconnecting do not count: otherwise an evicted peer would hold the
    /// slot that it lost. They are [`max_leaving`] at most.
    pub(super) fn free_slot(
        &mut self,
        now: Now,
        ip: IpAddr,
        peers: &AdmittedPeers,
        bans: &Bans,
    ) -> Result<Option<ConnId>, DoneReason> {
        let full = || {
            let slots = self.max_inbound;
            DoneReason::Refused(SlotRefusal::InboundFull { slots })
        };
        let taken = peers.count(Direction::Inbound);
        let verdict = if taken >= self.max_inbound + max_leaving(self.max_inbound) {
            Err(full())
        } else if !self.inbound_is_full(peers) {
            Ok(None)
        } else if bans.is_discouraged(ip, now) {
            Err(DoneReason::Discouraged)
        } else {
            let victim = self.pick_victim(now, Group::of(ip), peers, bans);
            victim.map(Some).map_err(|why| match why {
                NoVictim::AllSafe => full(),
                NoVictim::JustCame => DoneReason::Refused(SlotRefusal::JustCame),
            })
        };
        match verdict {
            Ok(Some(_)) => self.displaced.evicted += 1,
            Err(DoneReason::Refused(_)) => self.displaced.refused += 1,
            Ok(None) | Err(_) => {}
        }
        verdict
    }

    /// The peer to evict for this group, or why there is none.
    fn pick_victim(
        &self,
        now: Now,
        newcomer: Group,
        peers: &AdmittedPeers,
        bans: &Bans,
    ) -> Result<ConnId, NoVictim> {
        let candidate = |peer: &Peer| {
            let merit = self.merit(peer.id());
            let group = Group::of(peer.ip());
            let admitted_for = now.mono.saturating_sub(peer.admitted_at().mono);
            Candidate {
                id: peer.id(),
                group,
                keyed_group: keyed(self.seed, group),
                since: peer.version_info().connected_at.mono,
                just_came: admitted_for < self.newcomer_grace,
                round_trip: merit.round_trip,
                useful_at: merit.useful_at,
                discouraged: bans.is_discouraged(peer.ip(), now),
            }
        };
        let inbound = peers.staying(Direction::Inbound);
        let candidates: Vec<Candidate> = inbound.map(candidate).collect();
        victim(&candidates, newcomer)
    }

    /// The outbound peer to disconnect when there is one too many: one that never sent a new block
    /// before one that did, one that did long ago before one that did lately, and of equals the
    /// youngest.
    pub(super) fn least_useful_outbound(&self, peers: &AdmittedPeers) -> Option<ConnId> {
        let measure = |peer: &Peer| {
            let age = std::cmp::Reverse((peer.admitted_at().mono, peer.id()));
            (self.merit(peer.id()).useful_at, age, peer.id())
        };
        let outbound = peers.staying(Direction::Outbound).map(measure);
        outbound.min().map(|(_, _, id)| id)
    }

    fn merit(&self, id: ConnId) -> Merit {
        self.merits.get(&id).copied().unwrap_or_default()
    }
}

fn keyed(seed: u64, group: Group) -> u64 {
    match group {
        Group::V4(bits) => random::keyed(seed, *b"netgrp-4", &bits),
        Group::V6(bits) => random::keyed(seed, *b"netgrp-6", &bits),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer_table::admitted_peers::testing::peers;
    use Direction::{Inbound, Outbound};

    fn eviction(max_inbound: usize) -> Eviction {
        Eviction::new(&PeerTableConfig {
            max_inbound,
            newcomer_grace: Duration::ZERO,
            ..PeerTableConfig::new(8333, 1)
        })
    }

    #[test]
    fn merits_are_those_of_admitted_peers_and_end_with_them() {
        let mut eviction = eviction(1);
        let took = Duration::from_millis(5);
        eviction.record_round_trips(vec![(ConnId(0), took)]);
        eviction.received_block(Now::default(), ConnId(0));
        assert_eq!(eviction.merits.len(), 0, "it is not admitted");
        eviction.admitted(ConnId(0));
        eviction.record_round_trips(vec![(ConnId(0), took)]);
        assert_eq!(eviction.merit(ConnId(0)).round_trip, Some(took));
        eviction.ended(ConnId(0));
        assert_eq!(eviction.merits.len(), 0);
    }

    #[test]
    fn outcomes_of_new_peers_without_a_free_slot_are_counted_by_kind() {
        let (mut eviction, bans) = (eviction(1), Bans::default());
        let ip = IpAddr::from([9, 1, 1, 1]);
        let free = eviction.free_slot(Now::default(), ip, &peers([]), &bans);
        assert_eq!(
            (free, eviction.displaced()),
            (Ok(None), Displaced::default())
        );
        let taken = peers([(Inbound, 9)]);
        let refused = eviction.free_slot(Now::default(), ip, &taken, &bans);
        assert!(
            matches!(refused, Err(DoneReason::Refused(_))),
            "{refused:?}"
        );
        assert_eq!(eviction.displaced().refused, 1);
        eviction.max_inbound = 2;
        let taken = peers([(Inbound, 9), (Inbound, 9)]);
        let victim = eviction.free_slot(Now::default(), ip, &taken, &bans);
        assert_eq!(victim, Ok(Some(ConnId(1))), "the younger one");
        assert_eq!(eviction.displaced().evicted, 1);
    }

    #[test]
    fn the_evicted_outbound_peer_is_the_youngest_without_a_new_block() {
        let (mut eviction, peers) = (eviction(1), peers([(Outbound, 1), (Outbound, 2)]));
        assert_eq!(eviction.least_useful_outbound(&peers), Some(ConnId(1)));
        eviction.admitted(ConnId(1));
        eviction.received_block(Now::default(), ConnId(1));
        assert_eq!(eviction.least_useful_outbound(&peers), Some(ConnId(0)));
    }
}
