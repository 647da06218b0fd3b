//! Awaiting a condition of another process.

use std::time::{Duration, Instant};

/// How long a test waits for what must happen. Generous: it bounds a hang, it is
/// not a measure of speed, and a machine that compiles beside the test is slow.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(10);

/// The value that `condition` answers, as soon as it answers one.
///
/// # Panics
/// If it has none within [`PATIENCE`], with `what` was awaited.
pub fn wait_for<T>(what: &str, condition: impl FnMut() -> Option<T>) -> T {
    wait_within(PATIENCE, what, condition)
}

/// The same with a limit of one's own.
///
/// # Panics
/// If there is no value within `patience`.
pub fn wait_within<T>(patience: Duration, what: &str, condition: impl FnMut() -> Option<T>) -> T {
    poll(patience, condition).unwrap_or_else(|| panic!("not within {patience:?}: {what}"))
}

/// The value, or `None` after `patience`.
pub fn poll<T>(patience: Duration, condition: impl FnMut() -> Option<T>) -> Option<T> {
    poll_every(POLL, patience, condition)
}

/// The value, or `None` after `patience`, looked for every `interval`.
///
/// The condition lies in another process and sends no event, so it is polled: the
/// one place that sleeps.
#[expect(clippy::disallowed_methods, reason = "another process cannot wake us")]
pub fn poll_every<T>(
    interval: Duration,
    patience: Duration,
    mut condition: impl FnMut() -> Option<T>,
) -> Option<T> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(value) = condition() {
            return Some(value);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(interval);
    }
}
