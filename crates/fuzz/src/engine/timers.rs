//! When connections want to be told that time has passed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

/// A connection's place and how often it was used: the name of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Name {
    pub(super) place: usize,
    pub(super) use_of_it: u64,
}

/// The moments that were asked for. A later wish of the same connection is told from an
/// earlier one by its number.
#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(Instant, Name, u64)>>,
}

impl Timers {
    pub(super) fn set(&mut self, at: Instant, name: Name, wish: u64) {
        self.heap.push(Reverse((at, name, wish)));
    }

    /// The next one that is due.
    pub(super) fn due(&mut self, now: Instant) -> Option<(Name, u64)> {
        let Reverse((at, name, wish)) = *self.heap.peek()?;
        (at <= now).then(|| {
            self.heap.pop();
            (name, wish)
        })
    }

    /// When the next one will be.
    pub(super) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, ..))| *at)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn they_come_in_order_and_not_before_their_time() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let name = |place| Name {
            place,
            use_of_it: 0,
        };
        let mut timers = Timers::default();
        for (place, milliseconds) in [(0, 30), (1, 10), (2, 20)] {
            timers.set(at(milliseconds), name(place), 1);
        }
        assert_eq!(timers.next(), Some(at(10)));
        assert_eq!(timers.due(at(9)), None);
        assert_eq!(timers.due(at(25)), Some((name(1), 1)));
        assert_eq!(timers.due(at(25)), Some((name(2), 1)));
        assert_eq!(timers.due(at(25)), None);
    }
}
