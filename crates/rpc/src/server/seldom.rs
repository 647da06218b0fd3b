//! Lines in the log that callers can provoke as often as they like.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Least time between two such lines of one kind.
pub(super) const INTERVAL: Duration = Duration::from_secs(600);

/// When a line was written last, and how often it was left out since.
#[derive(Debug, Default)]
pub(super) struct Seldom(Mutex<(Option<Instant>, u64)>);

impl Seldom {
    /// Whether the line is to be written now: `Some`, how often it was left out before.
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
    fn a_line_is_written_at_once_and_then_left_out_and_counted() {
        let line = Seldom::default();
        assert_eq!(line.now(), Some(0));
        for _ in 0..1_000 {
            assert_eq!(line.now(), None);
        }
        line.0.lock().expect("no panic").0 = None;
        assert_eq!(line.now(), Some(1_000));
    }
}
