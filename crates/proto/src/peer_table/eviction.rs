//! Who goes when every inbound slot is taken and somebody new is at the door.
//!
//! Refusing newcomers would let whoever came first hold every slot for ever; letting
//! the newcomer win would let whoever comes most often. As in Bitcoin Core's
//! `SelectNodeToEvict`, peers are protected by several measures, each of which costs
//! an attacker something else, and of the rest the largest group loses its youngest.
//!
//! | protected, in this order | at most | an attacker would need |
//! |---|---|---|
//! | the oldest of each of the groups with the highest keyed hash | 4, an eighth | to know our key |
//! | the shortest measured round trips | 8, a quarter | to be near us |
//! | who last brought a block that was new to us | 4, an eighth | to mine, or to be fast |
//! | half of the rest: first the oldest of every group, then the second, … | | to be early, in many groups |
//!
//! Of those whose host is discouraged only the blocks they brought protect any.
//! A share is of the inbound peers, rounded down; the last half is rounded up. So of
//! 115 peers 66 are protected, of 8 6, of 2 the older one. With a single slot its
//! holder keeps it and newcomers are refused.
//!
//! # No revolving door
//!
//! A newcomer is the youngest of its group, and so the first to go for the next one: with all
//! slots taken a stream of callers from one group would be let in and pushed out one by one,
//! and none of them would get anything done. So who has just been admitted
//! ([`NEWCOMER_GRACE`]) goes for nobody whose group is as large as its own or larger: these are
//! turned away. A newcomer of a smaller group is let in as ever.
//!
//! # Where this differs from Core
//!
//! * Core evicts, or refuses, when it accepts a connection, which is a peer from then on. Here a
//!   slot is taken by who has completed the handshake, so that callers who say nothing cost
//!   nobody a slot; before that a caller holds a permit of the handshake limiter
//!   ([`crate::handshake_room`]). So a newcomer for whom nobody goes is refused after its
//!   handshake and not at accept: it costs us the few hundred bytes of that, and is counted
//!   ([`Displaced`]) and in the history with the reason.
//! * A group's size counts all its inbound peers, protected or not, and the newcomer
//!   itself. A newcomer of a group that is larger than any group which could lose
//!   somebody is refused: a flood from one group displaces the flood, and at most one
//!   peer of others.
//! * One peer per group, not four peers, is protected by the keyed hash, and the uptime
//!   goes round the groups: no group owns either measure.
//! * Only a round trip that was measured and a block that was brought protect.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::PeerTable;
use super::roster::Peer;
use crate::address_book::Group;
use crate::lifecycle::{ConnId, Direction};
use crate::random;
use crate::time::Now;

/// Groups of which one peer is protected. Core: 4 peers.
const GROUPS: usize = 4;
/// Peers protected by their round trip. Core: 8.
const NEAREST: usize = 8;
/// Peers protected by the blocks they brought. Core: 4.
const USEFUL: usize = 4;

/// How long an admitted peer is not evicted for others like it. Core has no such time.
pub const NEWCOMER_GRACE: Duration = Duration::from_secs(10);

/// What became of inbound connections since the start because all slots were taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Displaced {
    /// Peers that were evicted for others.
    pub evicted: u64,
    /// Newcomers that were refused.
    pub turned_away: u64,
}

/// Why nobody goes for a newcomer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoVictim {
    /// Everybody is worth more.
    AllSafe,
    /// Who would go has been admitted less than [`NEWCOMER_GRACE`] ago.
    JustCame,
}

/// An inbound peer that could go.
#[derive(Clone, Debug)]
struct Candidate {
    id: ConnId,
    group: Group,
    /// Of the group, under this process's key.
    keyed_group: u64,
    since: Duration,
    /// It has been admitted less than [`NEWCOMER_GRACE`] ago.
    just_came: bool,
    round_trip: Option<Duration>,
    useful_at: Option<Duration>,
    discouraged: bool,
}

/// Takes those `count` out of `rest` that `measure` puts first; who has none stays.
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

/// The place of each peer in its group, the oldest being number 0.
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

/// Those whom nothing protects.
fn unprotected(candidates: &[Candidate]) -> Vec<Candidate> {
    let count = candidates.len();
    let mut rest = candidates.to_vec();
    let places = seniority(&rest);
    let decent = |peer: &Candidate| !peer.discouraged;
    protect(&mut rest, GROUPS.min(count / 8), |peer| {
        let oldest = places[&peer.id] == 0;
        (oldest && decent(peer)).then_some(std::cmp::Reverse(peer.keyed_group))
    });
    protect(&mut rest, NEAREST.min(count / 4), |peer| {
        peer.round_trip.filter(|_| decent(peer))
    });
    protect(&mut rest, USEFUL.min(count / 8), |peer| {
        peer.useful_at.map(std::cmp::Reverse)
    });
    let places = seniority(&rest);
    let half = rest.len().div_ceil(2);
    protect(&mut rest, half, |peer| {
        decent(peer).then_some(places[&peer.id])
    });
    rest
}

/// Who goes for a newcomer of `newcomer`, or why it is to be refused.
fn victim(candidates: &[Candidate], newcomer: Group) -> Result<ConnId, NoVictim> {
    let rest = unprotected(candidates);
    // Whoever misbehaved goes before all others, for anybody.
    if let Some(discouraged) = youngest(rest.iter().filter(|peer| peer.discouraged)) {
        return Ok(discouraged.id);
    }
    let mut sizes = BTreeMap::from([(newcomer, 1usize)]);
    for peer in candidates {
        *sizes.entry(peer.group).or_default() += 1;
    }
    // Of two equal groups the newcomer's own, else that of the youngest.
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

/// Most inbound peers that may be on their way out while others have their slots.
///
/// Their connections still hold slots of the node until their `Done` is handled; the
/// inbound pool of those has room for the handshakes besides, which this must not eat up.
#[must_use]
pub fn max_leaving(max_inbound: usize) -> usize {
    (max_inbound / 8).clamp(1, 8)
}

impl PeerTable {
    /// Whether an inbound newcomer costs somebody else the slot: the caller tells the
    /// round trips then ([`super::Input::RoundTrips`]).
    #[must_use]
    pub fn wants_round_trips(&self, direction: Direction) -> bool {
        match direction {
            Direction::Inbound => self.inbound_is_full(),
            Direction::Outbound | Direction::Manual => false,
        }
    }

    /// All inbound slots are taken by peers that stay.
    pub(super) fn inbound_is_full(&self) -> bool {
        self.peers.count_staying(Direction::Inbound) >= self.config.max_inbound
    }

    /// Who goes for a newcomer of this group, or why nobody does.
    pub(super) fn pick_victim(&self, now: Now, newcomer: Group) -> Result<ConnId, NoVictim> {
        let grace = self.config.newcomer_grace;
        let candidate = |peer: &Peer| {
            let ip = peer.ip();
            let group = Group::of(ip);
            Candidate {
                id: peer.id(),
                group,
                keyed_group: keyed(self.config.seed, group),
                since: peer.introduction().connected_at.mono,
                just_came: now.mono.saturating_sub(peer.admitted_at().mono) < grace,
                round_trip: peer.round_trip,
                useful_at: peer.useful_at,
                discouraged: self.bans.is_discouraged(ip, now),
            }
        };
        let inbound = self.peers.staying(Direction::Inbound);
        let candidates: Vec<Candidate> = inbound.map(candidate).collect();
        victim(&candidates, newcomer)
    }

    /// The round trips of peers, as far as they were measured.
    pub(super) fn hear_round_trips(&mut self, round_trips: Vec<(ConnId, Duration)>) {
        for (id, took) in round_trips {
            if let Some(peer) = self.peers.get_mut(id) {
                peer.round_trip = Some(took);
            }
        }
    }
}

fn keyed(seed: u64, group: Group) -> u64 {
    match group {
        Group::V4(bits) => random::keyed(seed, *b"netgrp-4", &bits),
        Group::V6(bits) => random::keyed(seed, *b"netgrp-6", &bits),
    }
}
