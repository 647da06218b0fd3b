//! Who may still be in the handshake when somebody new is at the door.
//!
//! A connection that says nothing costs its remote nothing. If those in the handshake
//! are few and stay until they time out, whoever opens that many silent connections
//! keeps everybody out. So a full room does not refuse the newcomer: somebody leaves.
//!
//! # Security
//!
//! Who leaves is the longest in the handshake of the group (IPv4 /16, IPv6 /32) with
//! most places, so that a flood displaces itself:
//!
//! * Only groups that hold at least an average share of the places lose somebody. A
//!   group of which fewer are here than of others is left alone, however slow its
//!   remotes are and however fast a flood from elsewhere renews itself.
//! * Among those groups, the ones are spared whose connections all are younger than
//!   [`GRACE`], unless all of them are: an honest remote gets its round trips.
//!
//! There is always such a group, so a newcomer always gets a place.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::address_book::Group;
use crate::lifecycle::ConnId;

/// Time in which a connection is expected to complete its handshake if nothing is
/// wrong: two round trips of half a second.
pub const GRACE: Duration = Duration::from_secs(1);

/// A connection in the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct PendingHandshake {
    id: ConnId,
    group: Group,
    /// When it was connected, time since node start.
    since: Duration,
}

/// What one group holds.
#[derive(Clone, Copy, Debug)]
struct Share {
    limit: usize,
    oldest: PendingHandshake,
}

/// The connections in the handshake. See the module.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HandshakeLimiter {
    limit: usize,
    /// Oldest first.
    pending: Vec<PendingHandshake>,
}

impl HandshakeLimiter {
    /// An empty room with so many places.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            pending: Vec::new(),
        }
    }

    /// Whether somebody would have to leave for a newcomer.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.pending.len() >= self.limit
    }

    /// Lets a newcomer in; who has to leave for it, if the room was full.
    ///
    /// Whoever is named has left: what remains is to close its connection.
    pub fn enter(&mut self, id: ConnId, group: Group, now: Duration) -> Option<ConnId> {
        let leaves = self.is_full().then(|| self.choose_eviction(now)).flatten();
        if let Some(id) = leaves {
            self.pending.retain(|one| one.id != id);
        }
        self.pending.push(PendingHandshake {
            id,
            group,
            since: now,
        });
        leaves
    }

    /// Strikes out those who completed their handshake or are gone.
    pub fn keep(&mut self, mut is_here: impl FnMut(ConnId) -> bool) {
        self.pending.retain(|one| is_here(one.id));
    }

    /// Those in the handshake, oldest first.
    pub fn pending(&self) -> impl Iterator<Item = ConnId> + '_ {
        self.pending.iter().map(|one| one.id)
    }

    fn choose_eviction(&self, now: Duration) -> Option<ConnId> {
        let shares = self.shares();
        let graced = |share: &Share| now.saturating_sub(share.oldest.since) < GRACE;
        shares
            .values()
            // At least the average, without a division.
            .filter(|share| share.limit * shares.len() >= self.pending.len())
            .min_by_key(|share| {
                let most = usize::MAX - share.limit;
                (graced(share), most, share.oldest.since, share.oldest.id)
            })
            .map(|share| share.oldest.id)
    }

    /// What each group holds. Not sorted: a flood asks this thousands of times a second.
    fn shares(&self) -> BTreeMap<Group, Share> {
        let mut shares = BTreeMap::new();
        for &oldest in &self.pending {
            let share = shares.entry(oldest.group);
            share
                .and_modify(|share: &mut Share| share.limit += 1)
                .or_insert(Share { limit: 1, oldest });
        }
        shares
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn group(number: u8) -> Group {
        Group::V4([127, number])
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// A room filled from the groups given, one connection a second.
    fn filled(groups: &[u8]) -> HandshakeLimiter {
        let mut room = HandshakeLimiter::new(groups.len());
        for (at, number) in (0..).zip(groups) {
            assert_eq!(room.enter(ConnId(at), group(*number), seconds(at)), None);
        }
        room
    }

    #[test]
    fn nobody_leaves_while_there_are_places() {
        let mut room = filled(&[1, 1, 2]);
        assert!(room.is_full());
        room.keep(|id| id != ConnId(1));
        assert!(!room.is_full());
        assert_eq!(room.enter(ConnId(9), group(1), seconds(9)), None);
        assert!(room.pending().eq([0, 2, 9].map(ConnId)));
    }

    #[test]
    fn the_oldest_of_the_group_with_most_places_leaves() {
        let mut room = filled(&[1, 2, 2, 2, 1]);
        assert_eq!(
            room.enter(ConnId(9), group(3), seconds(60)),
            Some(ConnId(1))
        );
        assert!(room.pending().eq([0, 2, 3, 4, 9].map(ConnId)));
    }

    #[test]
    fn of_equal_groups_the_one_with_the_oldest_connection_loses_it() {
        let mut room = filled(&[3, 1, 3, 1]);
        assert_eq!(
            room.enter(ConnId(9), group(2), seconds(60)),
            Some(ConnId(0))
        );
    }

    #[test]
    fn a_group_of_young_connections_is_spared_while_another_large_one_has_an_old_one() {
        let mut room = HandshakeLimiter::new(4);
        let late = seconds(60) - GRACE / 2;
        for (id, number, since) in [
            (0, 1, seconds(0)),
            (1, 1, seconds(0)),
            (2, 2, late),
            (3, 2, late),
        ] {
            room.enter(ConnId(id), group(number), since);
        }
        assert_eq!(
            room.enter(ConnId(9), group(2), seconds(60)),
            Some(ConnId(0))
        );
        // Now group 2 has most, and all of it is young; group 1 is below the average.
        assert_eq!(
            room.enter(ConnId(10), group(2), seconds(60)),
            Some(ConnId(2))
        );
    }

    #[test]
    fn a_room_full_of_young_connections_still_lets_the_newcomer_in() {
        let mut room = HandshakeLimiter::new(3);
        for id in 0..3 {
            room.enter(ConnId(id), group(1), seconds(0));
        }
        assert_eq!(room.enter(ConnId(3), group(1), seconds(0)), Some(ConnId(0)));
    }

    #[test]
    fn a_room_without_places_holds_whoever_came_last() {
        let mut room = HandshakeLimiter::new(0);
        assert_eq!(room.enter(ConnId(0), group(1), seconds(0)), None);
        assert_eq!(room.enter(ConnId(1), group(1), seconds(0)), Some(ConnId(0)));
    }

    #[test]
    fn a_slow_remote_of_a_small_group_outlives_any_flood() {
        for seed in 0..100 {
            let mut random = Random::new(seed);
            let mut room = HandshakeLimiter::new(64);
            let groups = 1 + random.below(8);
            let honest = ConnId(u64::MAX);
            room.enter(honest, group(200), seconds(0));
            let mut now = Duration::ZERO;
            for id in 0..2_000 {
                now += Duration::from_millis(random.below(200));
                let flood = group(u8::try_from(random.below(groups)).expect("few"));
                let evicted = room.enter(ConnId(id), flood, now);
                assert_ne!(evicted, Some(honest), "seed {seed}");
            }
            assert_eq!(room.pending().count(), 64);
        }
    }

    #[test]
    fn the_room_never_holds_more_than_its_places_and_names_each_who_leaves_once() {
        for seed in 0..100 {
            let mut random = Random::new(seed);
            let limit = 1 + random.index(20);
            let mut room = HandshakeLimiter::new(limit);
            let mut here = BTreeMap::new();
            let mut now = Duration::ZERO;
            for id in (0..500).map(ConnId) {
                now += Duration::from_millis(random.below(1_500));
                let comes_from = group(u8::try_from(random.below(6)).expect("few"));
                let was_full = here.len() == limit;
                let evicted = room.enter(id, comes_from, now);
                assert_eq!(evicted.is_some(), was_full, "seed {seed}");
                if let Some(id) = evicted {
                    assert!(here.remove(&id).is_some(), "seed {seed}");
                }
                here.insert(id, comes_from);
                if random.below(3) == 0 {
                    let at = random.index(here.len());
                    let left = *here.keys().nth(at).expect("an index of it");
                    here.remove(&left);
                    room.keep(|id| id != left);
                }
                assert!(room.pending().eq(here.keys().copied()), "seed {seed}");
            }
        }
    }
}
