//! Rate limit of failed logins, by address.
//!
//! The answer to a failed login is sent [`FAILED_LOGIN_DELAY`] after the one before it to the
//! same address, however many are tried in parallel: four guesses a second per address, not per
//! connection. The right password is answered at once; only failures are queued.
//!
//! # Security
//! The delay alone does not limit a client that closes connections early: only the right password
//! is answered quickly. So a failure counts whether its answer is awaited or not, and beyond
//! [`MOST`] queued failures the logins of an address are not checked until some have been
//! answered. That includes the right password, which cannot be distinguished from a guess without checking
//! it. The Unix socket, and connections that have logged in, are not affected.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::address_group::AddressGroup;

/// What a failed login costs, so that guessing is slow. Core has the same.
pub(crate) const FAILED_LOGIN_DELAY: Duration = Duration::from_millis(250);
/// Most queued failures of one address: more than connections are admitted, so that clients that
/// wait for their answers lock out no other.
const MOST: u32 = 16_384;
/// Addresses that are counted apart. All others share one queue.
const ADDRESSES: usize = 64;

/// When the answer to the last failed login goes out, by address.
#[derive(Debug, Default)]
pub(crate) struct Guesses(Mutex<GuessTable>);

#[derive(Debug, Default)]
struct GuessTable {
    last: BTreeMap<AddressGroup, Instant>,
    /// The shared queue of all other addresses.
    others: Option<Instant>,
}

impl Guesses {
    fn table(&self) -> MutexGuard<'_, GuessTable> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a login from there may be checked now.
    pub(crate) fn may_try(&self, from: AddressGroup, now: Instant) -> bool {
        let mut table = self.table();
        match table.last_of(from, now) {
            Some(last) => last.saturating_duration_since(now) <= FAILED_LOGIN_DELAY * MOST,
            None => true,
        }
    }

    /// Records a failed login from there; returns when to answer it.
    pub(crate) fn failed(&self, from: AddressGroup, now: Instant) -> Instant {
        let mut table = self.table();
        let last = table.last_of(from, now);
        let answer = last.map_or(now, |last| last.max(now)) + FAILED_LOGIN_DELAY;
        match table.counts_apart(from) {
            true => _ = table.last.insert(from, answer),
            false => table.others = Some(answer),
        }
        answer
    }
}

impl GuessTable {
    fn last_of(&mut self, from: AddressGroup, now: Instant) -> Option<Instant> {
        if !self.counts_apart(from) {
            self.last.retain(|_, last| *last > now);
        }
        match self.counts_apart(from) {
            true => self.last.get(&from).copied(),
            false => self.others,
        }
    }

    fn counts_apart(&self, from: AddressGroup) -> bool {
        self.last.len() < ADDRESSES || self.last.contains_key(&from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u8) -> AddressGroup {
        AddressGroup::V4([10, 0, 0, number].into())
    }

    #[test]
    fn of_one_address_one_failed_login_is_answered_at_a_time() {
        let (guesses, now) = (Guesses::default(), Instant::now());
        for number in 1..=100 {
            let answer = guesses.failed(address(1), now);
            assert_eq!(answer, now + FAILED_LOGIN_DELAY * number);
            assert!(guesses.may_try(address(1), now));
        }
        assert_eq!(
            guesses.failed(address(2), now),
            now + FAILED_LOGIN_DELAY,
            "another address does not wait for them"
        );
        let later = now + Duration::from_secs(3_600);
        assert_eq!(
            guesses.failed(address(1), later),
            later + FAILED_LOGIN_DELAY
        );
    }

    #[test]
    fn logins_beyond_the_limit_are_not_checked() {
        let (guesses, begun) = (Guesses::default(), Instant::now());
        let mut tried = 0;
        // A hundred thousand a second, for ten minutes.
        for tick in 0..600_000 {
            let now = begun + Duration::from_millis(tick);
            for _ in 0..100 {
                if !guesses.may_try(address(1), now) {
                    break;
                }
                guesses.failed(address(1), now);
                tried += 1;
            }
        }
        assert!(tried <= MOST + 1 + 600 * 4, "{tried}");
        let now = begun + Duration::from_secs(600);
        assert!(guesses.may_try(address(2), now), "another address is");
        let later = now + FAILED_LOGIN_DELAY * 2;
        assert!(guesses.may_try(address(1), later), "and it, in its time");
    }

    #[test]
    fn the_table_is_bounded_and_further_addresses_share_a_queue() {
        let (guesses, now) = (Guesses::default(), Instant::now());
        for number in 0..200 {
            guesses.failed(address(number), now);
        }
        let known = guesses.table().last.len();
        assert_eq!(known, ADDRESSES);
        let ahead = u32::try_from(200 - ADDRESSES).expect("a few");
        assert_eq!(
            guesses.failed(address(201), now),
            now + FAILED_LOGIN_DELAY * (ahead + 1)
        );
        let later = now + Duration::from_secs(60);
        assert_eq!(
            guesses.failed(address(202), later),
            later + FAILED_LOGIN_DELAY,
            "answered ones are removed"
        );
    }
}
