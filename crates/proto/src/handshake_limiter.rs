//! Limits how many inbound connections are in the handshake at once.
//!
//! A silent connection costs its remote nothing. If new connections were refused while the limit
//! is reached, a remote that opens that many silent ones would keep all others out. So a new
//! connection is always accepted, and another one is evicted for it.
//!
//! # Security
//!
//! Evicted is the oldest connection of the address group (IPv4 /16, IPv6 /32) with the most
//! connections in the handshake, so that a flood evicts its own:
//!
//! * Only groups with at least an average share lose a connection. A group with fewer is left
//!   alone, however slow its remotes are and however fast a flood from elsewhere is.
//! * Among those groups, the ones whose connections are all younger than [`GRACE`] are spared,
//!   unless all of them are: an honest remote gets its round trips.
//!
//! There is always such a group, so a new connection is always accepted.

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

/// The connections of one group.
#[derive(Clone, Copy, Debug)]
struct Share {
    count: usize,
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
    /// A limiter of so many connections.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            pending: Vec::new(),
        }
    }

    /// Whether a new connection evicts another.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.pending.len() >= self.limit
    }

    /// Adds a new connection; the one that is evicted for it, if the limit was reached, which the
    /// caller has to close.
    pub fn enter(&mut self, id: ConnId, group: Group, now: Duration) -> Option<ConnId> {
        let evicted = self.is_full().then(|| self.choose_eviction(now)).flatten();
        if let Some(id) = evicted {
            self.pending.retain(|one| one.id != id);
        }
        self.pending.push(PendingHandshake {
            id,
            group,
            since: now,
        });
        evicted
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
            .filter(|share| share.count * shares.len() >= self.pending.len())
            .min_by_key(|share| {
                let most = usize::MAX - share.count;
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
                .and_modify(|share: &mut Share| share.count += 1)
                .or_insert(Share { count: 1, oldest });
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

    /// A limiter filled from the groups given, one connection a second.
    fn filled(groups: &[u8]) -> HandshakeLimiter {
        let mut limiter = HandshakeLimiter::new(groups.len());
        for (at, number) in (0..).zip(groups) {
            assert_eq!(limiter.enter(ConnId(at), group(*number), seconds(at)), None);
        }
        limiter
    }

    #[test]
    fn no_connection_is_evicted_below_the_limit() {
        let mut limiter = filled(&[1, 1, 2]);
        assert!(limiter.is_full());
        limiter.keep(|id| id != ConnId(1));
        assert!(!limiter.is_full());
        assert_eq!(limiter.enter(ConnId(9), group(1), seconds(9)), None);
        assert!(limiter.pending().eq([0, 2, 9].map(ConnId)));
    }

    #[test]
    fn the_oldest_connection_of_the_largest_group_is_evicted() {
        let mut limiter = filled(&[1, 2, 2, 2, 1]);
        assert_eq!(
            limiter.enter(ConnId(9), group(3), seconds(60)),
            Some(ConnId(1))
        );
        assert!(limiter.pending().eq([0, 2, 3, 4, 9].map(ConnId)));
    }

    #[test]
    fn of_equal_groups_the_one_with_the_oldest_connection_loses_it() {
        let mut limiter = filled(&[3, 1, 3, 1]);
        assert_eq!(
            limiter.enter(ConnId(9), group(2), seconds(60)),
            Some(ConnId(0))
        );
    }

    #[test]
    fn a_group_of_young_connections_is_spared_while_another_large_one_has_an_old_one() {
        let mut limiter = HandshakeLimiter::new(4);
        let late = seconds(60) - GRACE / 2;
        for (id, number, since) in [
            (0, 1, seconds(0)),
            (1, 1, seconds(0)),
            (2, 2, late),
            (3, 2, late),
        ] {
            limiter.enter(ConnId(id), group(number), since);
        }
        assert_eq!(
            limiter.enter(ConnId(9), group(2), seconds(60)),
            Some(ConnId(0))
        );
        // Now group 2 has most, and all of it is young; group 1 is below the average.
        assert_eq!(
            limiter.enter(ConnId(10), group(2), seconds(60)),
            Some(ConnId(2))
        );
    }

    #[test]
    fn a_limiter_full_of_young_connections_still_accepts_a_new_one() {
        let mut limiter = HandshakeLimiter::new(3);
        for id in 0..3 {
            limiter.enter(ConnId(id), group(1), seconds(0));
        }
        assert_eq!(
            limiter.enter(ConnId(3), group(1), seconds(0)),
            Some(ConnId(0))
        );
    }

    #[test]
    fn a_limit_of_zero_holds_the_newest_connection() {
        let mut limiter = HandshakeLimiter::new(0);
        assert_eq!(limiter.enter(ConnId(0), group(1), seconds(0)), None);
        assert_eq!(
            limiter.enter(ConnId(1), group(1), seconds(0)),
            Some(ConnId(0))
        );
    }

    #[test]
    fn a_slow_remote_of_a_small_group_outlives_any_flood() {
        for seed in 0..100 {
            let mut random = Random::new(seed);
            let mut limiter = HandshakeLimiter::new(64);
            let groups = 1 + random.below(8);
            let honest = ConnId(u64::MAX);
            limiter.enter(honest, group(200), seconds(0));
            let mut now = Duration::ZERO;
            for id in 0..2_000 {
                now += Duration::from_millis(random.below(200));
                let flood = group(u8::try_from(random.below(groups)).expect("few"));
                let evicted = limiter.enter(ConnId(id), flood, now);
                assert_ne!(evicted, Some(honest), "seed {seed}");
            }
            assert_eq!(limiter.pending().count(), 64);
        }
    }

    #[test]
    fn the_limit_is_never_exceeded_and_each_evicted_connection_is_returned_once() {
        for seed in 0..100 {
            let mut random = Random::new(seed);
            let limit = 1 + random.index(20);
            let mut limiter = HandshakeLimiter::new(limit);
            let mut here = BTreeMap::new();
            let mut now = Duration::ZERO;
            for id in (0..500).map(ConnId) {
                now += Duration::from_millis(random.below(1_500));
                let comes_from = group(u8::try_from(random.below(6)).expect("few"));
                let was_full = here.len() == limit;
                let evicted = limiter.enter(id, comes_from, now);
                assert_eq!(evicted.is_some(), was_full, "seed {seed}");
                if let Some(id) = evicted {
                    assert!(here.remove(&id).is_some(), "seed {seed}");
                }
                here.insert(id, comes_from);
                if random.below(3) == 0 {
                    let at = random.index(here.len());
                    let left = *here.keys().nth(at).expect("an index of it");
                    here.remove(&left);
                    limiter.keep(|id| id != left);
                }
                assert!(limiter.pending().eq(here.keys().copied()), "seed {seed}");
            }
        }
    }
}
