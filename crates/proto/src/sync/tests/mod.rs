//! The machine among scripted peers and a fake kernel, on virtual time.

mod announcing;
mod chains;
mod downloading;
mod headers;
mod kernel;
mod schedules;
mod serving;
mod submitting;
mod verdicts;
mod world;

use std::time::Duration;

pub(crate) const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
