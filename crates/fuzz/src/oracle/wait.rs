//! How long something may take.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The most that anything is waited for when somebody wants the run to end.
const HURRY: Duration = Duration::from_secs(3);

/// How long an answer may take of one that has not answered the last time: a run does not wait
/// for it again and again.
pub(super) const LITTLE_PATIENCE: Duration = Duration::from_secs(1);

/// A wait that has begun. It gets shorter while it goes on, when somebody wants the run to
/// end: whoever waits in small pieces, and asks what is left, keeps nobody waiting.
#[derive(Clone, Copy, Debug)]
pub struct Wait<'a> {
    begun: Instant,
    limit: Duration,
    /// How long it would go on if nobody wanted the run to end.
    wanted: Duration,
    hurry: &'a AtomicBool,
}

impl<'a> Wait<'a> {
    /// One that begins now.
    #[must_use]
    pub fn new(limit: Duration, hurry: &'a AtomicBool) -> Self {
        Self {
            begun: Instant::now(),
            limit,
            wanted: limit,
            hurry,
        }
    }

    /// One that begins now, and is over at `ends` at the latest.
    #[must_use]
    pub fn until(limit: Duration, ends: Instant, hurry: &'a AtomicBool) -> Self {
        let left = ends.saturating_duration_since(Instant::now());
        Self::new(limit.min(left), hurry)
    }

    /// One that begins now, as long as this one has left at most.
    #[must_use]
    pub fn shorter(&self, limit: Duration) -> Self {
        let wanted = self.wanted.saturating_sub(self.begun.elapsed());
        Self {
            wanted: wanted.min(limit),
            ..Self::new(self.left().min(limit), self.hurry)
        }
    }

    /// Whether it ends before its time, since somebody wants the run to end: what has not come
    /// until now might have come, and says nothing.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.hurry.load(Ordering::Relaxed) && self.begun.elapsed() < self.wanted
    }

    /// How long it still goes on.
    #[must_use]
    pub fn left(&self) -> Duration {
        let limit = match self.hurry.load(Ordering::Relaxed) {
            true => self.limit.min(HURRY),
            false => self.limit,
        };
        limit.saturating_sub(self.begun.elapsed())
    }

    /// Whether nothing is left of it.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.left().is_zero()
    }

    /// How long it has gone on.
    #[must_use]
    pub fn took(&self) -> Duration {
        self.begun.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_cut_short_when_somebody_wants_the_run_to_end() {
        let hurry = AtomicBool::new(false);
        let wait = Wait::new(Duration::from_secs(3_600), &hurry);
        assert!(wait.left() > HURRY && wait.shorter(HURRY).left() <= HURRY);
        hurry.store(true, Ordering::Relaxed);
        assert!(wait.left() <= HURRY);
        assert!(wait.is_cut() && wait.shorter(2 * HURRY).is_cut());
        assert!(!wait.shorter(Duration::ZERO).is_cut(), "it had its time");
        assert!(Wait::new(Duration::ZERO, &hurry).is_over());
        let past = Wait::until(HURRY, Instant::now(), &AtomicBool::new(false)).is_over();
        assert!(past, "nothing is waited for after the end of a run");
    }
}
