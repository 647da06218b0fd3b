//! What is left of a run for people and programs: a page and a JSON document, both of the
//! same facts.

mod html;
mod json;
mod plot;

use std::net::SocketAddr;
use std::time::Duration;

use crate::oracle::Health;
use crate::run::Outcome;

/// What a report says besides the outcome.
#[derive(Clone, Debug)]
pub struct Report<'a> {
    /// What came of the run.
    pub outcome: &'a Outcome,
    /// Whom it was run against.
    pub target: SocketAddr,
    /// The name of its network.
    pub network: &'a str,
    /// What was played, by the names that the user gave.
    pub scenarios: String,
    /// What everything random came from.
    pub seed: u64,
    /// Connections at a time.
    pub concurrency: usize,
    /// The command that does the same again.
    pub command: String,
}

impl Report<'_> {
    /// As JSON, for programs. Its members only ever become more.
    #[must_use]
    pub fn json(&self) -> String {
        let mut text = serde_json::to_string_pretty(&json::document(self))
            .expect("a JSON value can be written");
        text.push('\n');
        text
    }

    /// As one HTML page that loads nothing.
    #[must_use]
    pub fn html(&self) -> String {
        html::page(self)
    }

    /// Everything that the oracle saw, in order.
    fn looks(&self) -> impl Iterator<Item = &Health> {
        let seen = &self.outcome.seen;
        std::iter::once(&seen.before)
            .chain(&seen.during)
            .chain([&seen.after])
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests;
