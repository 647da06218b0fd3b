//! Timeouts that end early with the run.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Longest wait after the run was stopped.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);

/// A wait in progress. It becomes shorter when the run is to stop: wait in small pieces, and
/// check what is left.
#[derive(Clone, Copy, Debug)]
pub struct Wait<'a> {
    begun: Instant,
    limit: Duration,
    /// Its length if the run is not stopped.
    wanted: Duration,
    stop: &'a AtomicBool,
}

impl<'a> Wait<'a> {
    /// A wait that begins now.
    #[must_use]
    pub fn new(limit: Duration, stop: &'a AtomicBool) -> Self {
        Self {
            begun: Instant::now(),
            limit,
            wanted: limit,
            stop,
        }
    }

    /// A wait that begins now, and is over at `ends` at the latest.
    #[must_use]
    pub fn until(limit: Duration, ends: Instant, stop: &'a AtomicBool) -> Self {
        let left = ends.saturating_duration_since(Instant::now());
        Self::new(limit.min(left), stop)
    }

    /// A wait that begins now, and is not longer than what this one has left.
    #[must_use]
    pub fn shorter(&self, limit: Duration) -> Self {
        let wanted = self.wanted.saturating_sub(self.begun.elapsed());
        Self {
            wanted: wanted.min(limit),
            ..Self::new(self.left().min(limit), self.stop)
        }
    }

    /// Whether it ends early because the run is to stop: an answer that has not arrived might
    /// have.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.stop.load(Ordering::Relaxed) && self.begun.elapsed() < self.wanted
    }

    /// The time left.
    #[must_use]
    pub fn left(&self) -> Duration {
        let limit = match self.stop.load(Ordering::Relaxed) {
            true => self.limit.min(STOP_TIMEOUT),
            false => self.limit,
        };
        limit.saturating_sub(self.begun.elapsed())
    }

    /// Whether no time is left.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.left().is_zero()
    }

    /// The time since it began.
    #[must_use]
    pub fn took(&self) -> Duration {
        self.begun.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_cut_short_when_the_run_is_stopped() {
        let stop = AtomicBool::new(false);
        let wait = Wait::new(Duration::from_secs(3_600), &stop);
        assert!(wait.left() > STOP_TIMEOUT && wait.shorter(STOP_TIMEOUT).left() <= STOP_TIMEOUT);
        stop.store(true, Ordering::Relaxed);
        assert!(wait.left() <= STOP_TIMEOUT);
        assert!(wait.is_cut() && wait.shorter(2 * STOP_TIMEOUT).is_cut());
        assert!(!wait.shorter(Duration::ZERO).is_cut(), "it had its time");
        assert!(Wait::new(Duration::ZERO, &stop).is_over());
        let past = Wait::until(STOP_TIMEOUT, Instant::now(), &AtomicBool::new(false)).is_over();
        assert!(past, "nothing is waited for after the end of a run");
    }
}
