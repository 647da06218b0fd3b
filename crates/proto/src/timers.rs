//! The timers of a machine, in one table.
//!
//! A part that wants to be woken sets a timer here; the machine's `deadline()` is the
//! table's [`TimerTable::next`]. So a rule that waits for a time and set no timer is a missing
//! entry, which a test finds by listing the entries, and not a field that a second function
//! forgot to look at.

use std::collections::BTreeMap;
use std::time::Duration;

/// When each timer of a machine goes off. `T` is the machine's enum of timers; one that exists
/// once per peer carries the peer's id.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TimerTable<T: Ord> {
    due: BTreeMap<T, Duration>,
}

impl<T: Ord> Default for TimerTable<T> {
    fn default() -> Self {
        Self {
            due: BTreeMap::new(),
        }
    }
}

impl<T: Ord + Clone> TimerTable<T> {
    /// Lets `timer` go off at `at`, monotonic, whenever it was to go off before.
    pub fn set(&mut self, timer: T, at: Duration) {
        self.due.insert(timer, at);
    }

    /// Lets `timer` go off at `at` at the latest.
    pub fn hasten(&mut self, timer: T, at: Duration) {
        let due = self.due.entry(timer).or_insert(at);
        *due = at.min(*due);
    }

    /// Sets `timer`, or stops it with `None`.
    pub fn put(&mut self, timer: T, at: Option<Duration>) {
        match at {
            Some(at) => self.set(timer, at),
            None => self.stop(&timer),
        }
    }

    /// Lets `timer` not go off.
    pub fn stop(&mut self, timer: &T) {
        self.due.remove(timer);
    }

    /// Stops every timer that `which` names, such as those of a peer that is gone.
    pub fn stop_all(&mut self, mut which: impl FnMut(&T) -> bool) {
        self.due.retain(|timer, _| !which(timer));
    }

    /// When `timer` goes off, if it is set.
    #[must_use]
    pub fn at(&self, timer: &T) -> Option<Duration> {
        self.due.get(timer).copied()
    }

    /// When the first timer goes off.
    #[must_use]
    pub fn next(&self) -> Option<Duration> {
        self.due.values().min().copied()
    }

    /// The first timer that has gone off, which is stopped by that; of several at one time,
    /// the least. To be asked until it is `None`.
    pub fn pop(&mut self, now: Duration) -> Option<T> {
        let due = self.due.iter().filter(|(_, at)| **at <= now);
        let (timer, _) = due.min_by_key(|(timer, at)| (**at, *timer))?;
        let timer = timer.clone();
        self.due.remove(&timer);
        Some(timer)
    }

    /// Lets the timers that `which` names go off later, by the time in which the process did
    /// not run.
    pub fn delay(&mut self, late: Duration, mut which: impl FnMut(&T) -> bool) {
        for (timer, at) in &mut self.due {
            if which(timer) {
                *at += late;
            }
        }
    }

    /// The timers that are set, in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&T, Duration)> {
        self.due.iter().map(|(timer, at)| (timer, *at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_earliest_timer_is_the_deadline_and_goes_off_once() {
        let mut timers = TimerTable::default();
        timers.set('b', secs(2));
        timers.set('a', secs(3));
        assert_eq!(timers.next(), Some(secs(2)));
        assert_eq!(timers.pop(secs(1)), None);
        assert_eq!(timers.pop(secs(3)), Some('b'));
        assert_eq!(timers.pop(secs(3)), Some('a'));
        assert_eq!(timers.pop(secs(3)), None);
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn a_timer_that_is_set_again_goes_off_at_the_new_time_only() {
        let mut timers = TimerTable::default();
        timers.set('a', secs(1));
        timers.set('a', secs(5));
        assert_eq!(timers.pop(secs(4)), None);
        timers.put('a', None);
        assert_eq!(timers.pop(secs(9)), None);
    }

    #[test]
    fn a_timer_that_is_hastened_never_goes_off_later_than_before() {
        let mut timers = TimerTable::default();
        timers.hasten('a', secs(5));
        timers.hasten('a', secs(9));
        assert_eq!(timers.at(&'a'), Some(secs(5)));
        timers.hasten('a', secs(2));
        assert_eq!(timers.at(&'a'), Some(secs(2)));
    }

    #[test]
    fn stopping_and_delaying_reach_the_named_timers_only() {
        let mut timers = TimerTable::default();
        timers.set(('a', 1), secs(1));
        timers.set(('b', 1), secs(1));
        timers.set(('a', 2), secs(1));
        timers.stop_all(|timer| timer.1 == 2);
        timers.delay(secs(10), |timer| timer.0 == 'b');
        let set: Vec<_> = timers.iter().collect();
        assert_eq!(set, [(&('a', 1), secs(1)), (&('b', 1), secs(11))]);
    }
}
