//! The rate of progress, and the time left.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// The window of the rate: long enough to level out batches, short enough to follow a change.
const WINDOW: Duration = Duration::from_secs(60);
/// No estimate is made from less.
const MIN_SPAN: Duration = Duration::from_secs(3);
/// Without progress for so long the rate is unknown.
const STALLED_AFTER: Duration = Duration::from_secs(5);
/// A longer estimate is not shown.
const MAX_SHOWN: Duration = Duration::from_secs(365 * 86_400);

/// The positions of the last minute.
#[derive(Debug, Default)]
pub(super) struct Pace {
    positions: VecDeque<(Instant, u32)>,
    /// When the position last changed.
    moved: Option<Instant>,
}

impl Pace {
    /// Adds a position. One below the last starts over.
    pub(super) fn add(&mut self, now: Instant, done: u32) {
        let last = self.positions.back().map(|(_, last)| *last);
        if last.is_some_and(|last| last > done) {
            self.positions.clear();
        }
        if last != Some(done) {
            self.moved = Some(now);
        }
        self.positions.push_back((now, done));
        // One from before the window is retained, so that the window is covered.
        while self
            .positions
            .get(1)
            .is_some_and(|(at, _)| now.duration_since(*at) >= WINDOW)
        {
            self.positions.pop_front();
        }
    }

    /// Time until `goal`; `None` while it is unknown: too early, or no progress.
    pub(super) fn left(&self, goal: u32) -> Option<Duration> {
        let ((from, first), (to, last)) = (self.positions.front()?, self.positions.back()?);
        let span = to.duration_since(*from);
        let done = last.saturating_sub(*first);
        let still = to.duration_since(self.moved?) >= STALLED_AFTER;
        if span < MIN_SPAN || done == 0 || still {
            return None;
        }
        let rate = f64::from(done) / span.as_secs_f64();
        let seconds = f64::from(goal.saturating_sub(*last)) / rate;
        Duration::try_from_secs_f64(seconds)
            .ok()
            .filter(|left| *left <= MAX_SHOWN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_is_unknown_before_some_seconds_of_progress() {
        let start = Instant::now();
        let mut pace = Pace::default();
        assert_eq!(pace.left(100), None);
        pace.add(start, 10);
        assert_eq!(pace.left(100), None);
        pace.add(start + Duration::from_secs(2), 20);
        assert_eq!(pace.left(100), None, "too early");
        pace.add(start + Duration::from_secs(5), 20);
        assert_eq!(pace.left(100), Some(Duration::from_secs(40)), "2 a second");
    }

    #[test]
    fn without_progress_for_some_seconds_the_time_left_is_unknown() {
        let start = Instant::now();
        let mut pace = Pace::default();
        pace.add(start, 0);
        pace.add(start + Duration::from_secs(5), 50);
        assert!(pace.left(100).is_some());
        for second in 6..=70 {
            pace.add(start + Duration::from_secs(second), 50);
            let known = pace.left(100).is_some();
            assert_eq!(known, second < 10, "after {second} s");
        }
        let length = pace.positions.len();
        assert!(length < 70, "{length}");
        pace.add(start + Duration::from_secs(71), 60);
        assert!(pace.left(100).is_some());
    }
}
