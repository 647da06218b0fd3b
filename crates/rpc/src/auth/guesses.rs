//! Logins that fail, by where they come from.
//!
//! The answer to a failed login goes out [`FAILED_LOGIN_DELAY`] after the one before it from
//! the same address, however many are tried at the same time: four guesses a second, and not
//! four on each connection. A caller with the right password waits for none of them: who
//! fits is answered at once, and only failures stand in the queue.
//!
//! # Security
//! That alone would hold up nobody who does not wait for the answer: the right password is
//! known by its quick one, and all other connections can be closed. So a failure counts
//! whether somebody waits for its answer or not, and an address with more than [`MOST`] of
//! them is not looked at any more until some have had their time. Those are callers with the
//! right password too: nothing tells them from who guesses before they have been looked at.
//! They have the Unix socket, and connections that have logged in stay logged in.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::address_group::AddressGroup;

/// What a failed login costs, so that guessing is slow. Core has the same.
pub(crate) const FAILED_LOGIN_DELAY: Duration = Duration::from_millis(250);
/// Failed logins of one address whose time has not come, at most: more than connections are
/// let in, so that those who wait for their answers lock nobody out.
const MOST: u32 = 16_384;
/// Addresses that are told apart. All others share one queue.
const ADDRESSES: usize = 64;

/// When the answer to the last failed login goes out, by address.
#[derive(Debug, Default)]
pub(crate) struct Guesses(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    last: BTreeMap<AddressGroup, Instant>,
    /// Of the addresses that there was no place for.
    others: Option<Instant>,
}

impl Guesses {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a login from there may be looked at now.
    pub(crate) fn may_try(&self, from: AddressGroup, now: Instant) -> bool {
        let mut table = self.table();
        match table.last_of(from, now) {
            Some(last) => last.saturating_duration_since(now) <= FAILED_LOGIN_DELAY * MOST,
            None => true,
        }
    }

    /// A login from there has failed: when it is to be answered.
    pub(crate) fn failed(&self, from: AddressGroup, now: Instant) -> Instant {
        let mut table = self.table();
        let last = table.last_of(from, now);
        let answer = last.map_or(now, |last| last.max(now)) + FAILED_LOGIN_DELAY;
        match table.has_place_for(from) {
            true => _ = table.last.insert(from, answer),
            false => table.others = Some(answer),
        }
        answer
    }
}

impl Table {
    fn last_of(&mut self, from: AddressGroup, now: Instant) -> Option<Instant> {
        if !self.has_place_for(from) {
            self.last.retain(|_, last| *last > now);
        }
        match self.has_place_for(from) {
            true => self.last.get(&from).copied(),
            false => self.others,
        }
    }

    fn has_place_for(&self, from: AddressGroup) -> bool {
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
    fn who_does_not_wait_for_answers_is_not_looked_at_any_more() {
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
    fn the_table_is_bounded_and_what_it_has_no_place_for_shares_a_queue() {
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
            "those whose time has passed make place"
        );
    }
}
