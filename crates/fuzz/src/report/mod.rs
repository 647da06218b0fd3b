//! The report of a run: an HTML page and a JSON document with the same facts.

mod bars;
mod html;
mod json;
mod plot;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use time::UtcDateTime;
use time::format_description::well_known::Rfc3339;

use crate::oracle::Health;
use crate::run::Outcome;
use crate::scenario::Scenario;

/// The facts of a report besides the outcome.
#[derive(Clone, Debug)]
pub struct Report<'a> {
    /// The result of the run.
    pub outcome: &'a Outcome,
    /// The target.
    pub target: SocketAddr,
    /// The name of its network.
    pub network: &'a str,
    /// The scenarios, as the user named them.
    pub scenarios: String,
    /// The random seed.
    pub seed: u64,
    /// Connections at a time.
    pub concurrency: usize,
    /// The command that repeats the run.
    pub command: String,
}

impl Report<'_> {
    /// As JSON. Members are only ever added.
    #[must_use]
    pub fn document(&self) -> serde_json::Value {
        json::document(self)
    }

    /// [`Self::document`] as the text of a file.
    #[must_use]
    pub fn json(&self) -> String {
        let mut text =
            serde_json::to_string_pretty(&self.document()).expect("a JSON value can be written");
        text.push('\n');
        text
    }

    /// As one HTML page that loads nothing.
    #[must_use]
    pub fn html(&self) -> String {
        html::page(self)
    }

    /// What was waited for at the end, for how long and why, one line each: a second or more.
    #[must_use]
    pub fn waits(&self) -> Vec<String> {
        let (counters, settling) = (&self.outcome.seen.counters, &self.outcome.settling);
        let mut waits = Vec::new();
        if counters.waited() >= MIN_REPORTED_WAIT {
            let connections = in_words(&counters.waited_for);
            let time = counters.waited().as_secs_f64();
            waits.push(format!("{time:.1} s for connections to end: {connections}"));
        }
        if settling.took >= MIN_REPORTED_WAIT && !settling.waited_for.is_empty() {
            let time = settling.took.as_secs_f64();
            let why = settling.waited_for.join(", ");
            waits.push(format!("{time:.1} s for the target to settle: {why}"));
        }
        waits
    }

    /// Everything that the oracle saw, in order.
    fn looks(&self) -> impl Iterator<Item = &Health> {
        let seen = &self.outcome.seen;
        std::iter::once(&seen.before)
            .chain(&seen.during)
            .chain([&seen.after])
    }
}

/// Shortest wait that is reported.
const MIN_REPORTED_WAIT: Duration = Duration::from_secs(1);

/// Scenarios that are named where connections are counted in words.
const MAX_LISTED: usize = 5;

/// So many connections of each scenario: first those that take long for a reason of their own,
/// then the most; of more than a few kinds the rest together.
#[must_use]
pub fn in_words(connections: &BTreeMap<Scenario, u64>) -> String {
    let reason = |scenario: Scenario| match scenario {
        Scenario::NegotiateTimeout => " (until the handshake deadline)",
        _ => "",
    };
    let mut each: Vec<(Scenario, u64)> = connections.iter().map(|(it, n)| (*it, *n)).collect();
    each.sort_by_key(|(scenario, count)| {
        let is_ordinary = reason(*scenario).is_empty();
        (is_ordinary, std::cmp::Reverse(*count))
    });
    let rest: u64 = each.iter().skip(MAX_LISTED).map(|(_, count)| count).sum();
    let named = each.iter().take(MAX_LISTED);
    let mut words: Vec<String> = named
        .map(|(scenario, count)| format!("{count} {scenario}{}", reason(*scenario)))
        .collect();
    if rest > 0 {
        words.push(format!("{rest} of other scenarios"));
    }
    words.join(", ")
}

/// What made it.
const TOOL: &str = concat!("handfast ", env!("CARGO_PKG_VERSION"));

/// Unix seconds as people and programs read them (RFC 3339, UTC).
///
/// What a clock says after the year 9999, which no date of RFC 3339 has, stays a number.
fn utc(unix: u64) -> String {
    i64::try_from(unix)
        .ok()
        .and_then(|seconds| UtcDateTime::from_unix_timestamp(seconds).ok())
        .and_then(|moment| moment.format(&Rfc3339).ok())
        .unwrap_or_else(|| format!("{unix} s after 1970"))
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests;
