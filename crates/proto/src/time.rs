//! The only clock of a machine.

use std::time::Duration;

/// An instant, passed to a machine with every step.
///
/// The caller reads both clocks at the same moment. Deadlines and durations use only `mono`; `unix`
/// is for what is shown or sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Now {
    /// Monotonic time since the node started.
    pub mono: Duration,
    /// Wall clock, seconds since 1970. May jump in either direction.
    pub unix: u32,
}

impl Now {
    /// The instant `later` after this one, on both clocks.
    #[must_use]
    pub fn after(self, later: Duration) -> Self {
        let seconds = u32::try_from(later.as_secs()).unwrap_or(u32::MAX);
        Self {
            mono: self.mono.saturating_add(later),
            unix: self.unix.saturating_add(seconds),
        }
    }
}

/// The earlier of two optional deadlines; `None` means "none is pending".
#[must_use]
pub fn earliest(a: Option<Duration>, b: Option<Duration>) -> Option<Duration> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, None) | (None, one) => one,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_deadline_never_hides_a_pending_one() {
        let second = Duration::from_secs(1);
        assert_eq!(earliest(None, Some(second)), Some(second));
        assert_eq!(earliest(Some(second), None), Some(second));
        assert_eq!(earliest(Some(second), Some(second * 2)), Some(second));
        assert_eq!(earliest(None, None), None);
    }

    #[test]
    fn the_wall_clock_saturates_instead_of_wrapping() {
        let late = Now {
            mono: Duration::ZERO,
            unix: u32::MAX - 1,
        };
        assert_eq!(late.after(Duration::from_secs(5)).unix, u32::MAX);
    }
}
