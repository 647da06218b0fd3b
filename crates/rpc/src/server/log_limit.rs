//! Rate limits of log lines that clients can provoke.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Minimum time between two lines of one kind.
const INTERVAL: Duration = Duration::from_secs(600);

/// When a line was last written, and how many were suppressed since.
#[derive(Debug, Default)]
pub(super) struct LogLimit(Mutex<(Option<Instant>, u64)>);

impl LogLimit {
    /// `Some`: write the line now; the number is how many were suppressed before.
    pub(super) fn now(&self) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, left_out) = &mut *state;
        if last.is_some_and(|last| last.elapsed() < INTERVAL) {
            *left_out += 1;
            return None;
        }
        *last = Some(Instant::now());
        Some(std::mem::take(left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_line_is_written_once_then_suppressed_and_counted() {
        let line = LogLimit::default();
        assert_eq!(line.now(), Some(0));
        for _ in 0..1_000 {
            assert_eq!(line.now(), None);
        }
        line.0.lock().expect("no panic").0 = None;
        assert_eq!(line.now(), Some(1_000));
    }
}
