//! The machine among scripted peers and a fake kernel, on virtual time.

mod announcing;
mod chain_sync;
mod downloading;
mod engine_headers;
mod fetching;
mod headers;
mod keeping;
mod losing_the_source;
mod mute;
mod schedules;
mod serving;
mod strangers;
mod stuck;
mod submitting;
mod timers;
mod verdicts;
mod watchdog;
mod world;

use std::time::Duration;

use crate::testing::{chains, kernel};

pub(crate) const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
