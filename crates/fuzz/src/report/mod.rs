//! The report of a run: an HTML page and a JSON document with the same facts.

mod bars;
mod html;
mod json;
mod plot;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

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
fn utc(unix: u64) -> String {
    let (days, second) = (unix / 86_400, unix % 86_400);
    // Years from March on, so that the day that some have is their last (Hinnant,
    // `civil_from_days`).
    let day = days + 719_468;
    let (era, of_era) = (day / 146_097, day % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let march = (5 * of_year + 2) / 153;
    let date = of_year - (153 * march + 2) / 5 + 1;
    let month = if march < 10 { march + 3 } else { march - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{date:02}T{hour:02}:{minute:02}:{second:02}Z")
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests;
