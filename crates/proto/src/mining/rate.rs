//! Hashes per second over the last minute.

use std::collections::VecDeque;
use std::time::Duration;

/// Length of the window.
const WINDOW: Duration = Duration::from_secs(60);
/// Least time between two samples.
pub(super) const SAMPLE: Duration = Duration::from_secs(1);

/// Samples of an increasing counter.
#[derive(Clone, Debug, Default)]
pub(super) struct Rate {
    /// Oldest first, the count by the monotonic time. About 60.
    samples: VecDeque<(Duration, u64)>,
}

impl Rate {
    /// The counter is at `count` now.
    pub(super) fn sample(&mut self, now: Duration, count: u64) {
        let last = self.samples.back().map(|(at, _)| *at);
        if last.is_some_and(|last| now < last + SAMPLE) {
            return;
        }
        self.samples.push_back((now, count));
        while self
            .samples
            .front()
            .is_some_and(|(at, _)| *at + WINDOW < now)
        {
            self.samples.pop_front();
        }
    }

    /// When the next sample is due.
    pub(super) fn due(&self) -> Duration {
        self.samples
            .back()
            .map_or(Duration::ZERO, |(at, _)| *at + SAMPLE)
    }

    /// The rate per second; 0 until two samples were taken.
    pub(super) fn per_second(&self) -> f64 {
        match (self.samples.front(), self.samples.back()) {
            (Some((first, low)), Some((last, high))) if last > first => {
                high.saturating_sub(*low) as f64 / (*last - *first).as_secs_f64()
            }
            _ => 0.0,
        }
    }

    /// Starts again: so does the counter.
    pub(super) fn clear(&mut self) {
        self.samples.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_last_minute_and_forgets_what_was_before() {
        let mut rate = Rate::default();
        assert_eq!(rate.per_second(), 0.0);
        let at = Duration::from_secs;
        for second in 0..100 {
            rate.sample(at(second), second * 1_000);
        }
        assert_eq!(rate.per_second(), 1_000.0);
        assert!(rate.samples.len() <= 61, "{}", rate.samples.len());
        for second in 100..161 {
            rate.sample(at(second), 99_000);
            rate.sample(at(second) + SAMPLE / 2, 99_000);
        }
        assert_eq!(rate.per_second(), 0.0);
        assert!(rate.samples.len() <= 61, "{}", rate.samples.len());
        assert_eq!(rate.due(), at(161));
    }
}
