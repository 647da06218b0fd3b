//! Timers of connections.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

/// The key of one connection: its slot and how often that was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct ConnectionKey {
    pub(super) slot: usize,
    pub(super) generation: u64,
}

/// The timers set. A later timer of the same connection replaces an earlier one, by its number.
#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(Instant, ConnectionKey, u64)>>,
}

impl Timers {
    pub(super) fn set(&mut self, at: Instant, key: ConnectionKey, timer: u64) {
        self.heap.push(Reverse((at, key, timer)));
    }

    /// Takes the next timer that is due.
    pub(super) fn due(&mut self, now: Instant) -> Option<(ConnectionKey, u64)> {
        let Reverse((at, key, timer)) = *self.heap.peek()?;
        (at <= now).then(|| {
            self.heap.pop();
            (key, timer)
        })
    }

    /// When the next one is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, ..))| *at)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn timers_fire_in_order_and_not_early() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let key = |slot| ConnectionKey {
            slot,
            generation: 0,
        };
        let mut timers = Timers::default();
        for (slot, milliseconds) in [(0, 30), (1, 10), (2, 20)] {
            timers.set(at(milliseconds), key(slot), 1);
        }
        assert_eq!(timers.next(), Some(at(10)));
        assert_eq!(timers.due(at(9)), None);
        assert_eq!(timers.due(at(25)), Some((key(1), 1)));
        assert_eq!(timers.due(at(25)), Some((key(2), 1)));
        assert_eq!(timers.due(at(25)), None);
    }
}
