//! The callers who were once turned away: many at the same moment, each in the plainest
//! way there is.
//!
//! A caller connects, sends `POST /` without a word about the connection's end, receives
//! *once*, and closes. So did the client of a cluster of validators, to which a server with
//! a short queue lost 2.5 % of its calls. Everything but a whole answer to its own call is
//! counted as a failure by what went wrong; nothing is tried twice.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{Read, Write};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{ANSWER_TIMEOUT, Endpoint, Stream, credentials, parse};

/// What one `recv` takes at most, bytes. The answers asked for here are shorter.
const RECEIVE: usize = 64 * 1024;

/// Callers who come together, several times.
#[derive(Clone, Debug)]
pub struct Burst {
    pub(super) endpoint: Endpoint,
    pub(super) cookie: String,
    /// How many come at the same moment.
    pub(super) callers: usize,
    /// How often they do, all waiting for all before each time.
    pub(super) rounds: usize,
}

/// What became of the calls.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// How many were made.
    pub calls: usize,
    /// What went wrong, and how often.
    pub failures: BTreeMap<String, usize>,
    /// Times from `connect` to the end of the one `recv` of those that were answered, sorted.
    pub latencies: Vec<Duration>,
}

impl Report {
    /// The time within which `percent` of the answered calls were, zero if none was.
    pub fn percentile(&self, percent: usize) -> Duration {
        let last = self.latencies.len().saturating_sub(1);
        let at = (self.latencies.len() * percent / 100).min(last);
        self.latencies.get(at).copied().unwrap_or_default()
    }

    /// How many calls were answered later than `limit`.
    pub fn later_than(&self, limit: Duration) -> usize {
        self.latencies.len() - self.latencies.partition_point(|latency| *latency <= limit)
    }

    /// How many calls failed.
    pub fn failed(&self) -> usize {
        self.failures.values().sum()
    }

    /// The same, with its latencies in order.
    pub fn sorted(mut self) -> Self {
        self.latencies.sort_unstable();
        self
    }

    /// Adds what became of more calls.
    pub fn add(&mut self, more: Self) {
        self.calls += more.calls;
        for (what, count) in more.failures {
            *self.failures.entry(what).or_default() += count;
        }
        self.latencies.extend(more.latencies);
        self.latencies.sort_unstable();
    }

    /// Counts a call: how long it took, or what went wrong. [`Report::sorted`] comes last.
    pub fn count(&mut self, outcome: Result<Duration, String>) {
        self.calls += 1;
        match outcome {
            Ok(latency) => self.latencies.push(latency),
            Err(what) => *self.failures.entry(what).or_default() += 1,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = |percent| self.percentile(percent).as_secs_f64() * 1e3;
        write!(
            f,
            "{} calls, {} failed, p50 {:.1} ms, p99 {:.1} ms, longest {:.1} ms",
            self.calls,
            self.failed(),
            milliseconds(50),
            milliseconds(99),
            milliseconds(100)
        )?;
        for (what, count) in &self.failures {
            write!(f, "\n  {count} × {what}")?;
        }
        Ok(())
    }
}

impl Burst {
    /// Makes all calls, each caller on a thread of its own.
    pub fn run(&self) -> Report {
        let start = Barrier::new(self.callers);
        let mut report = Report::default();
        thread::scope(|scope| {
            let callers: Vec<_> = (0..self.callers)
                .map(|caller| {
                    let start = &start;
                    scope.spawn(move || self.calls_of(caller, start))
                })
                .collect();
            for caller in callers {
                report.add(caller.join().expect("a caller counts its failures"));
            }
        });
        report
    }

    fn calls_of(&self, caller: usize, start: &Barrier) -> Report {
        let mut report = Report::default();
        for round in 0..self.rounds {
            start.wait();
            let id = json!(format!("caller {caller}, round {round}"));
            let begun = Instant::now();
            report.count(self.call(&id).map(|()| begun.elapsed()));
        }
        report
    }

    /// Connect, send, receive once, close.
    fn call(&self, id: &Value) -> Result<(), String> {
        let body = json!({ "id": id, "method": "getblockchaininfo", "params": [] }).to_string();
        let request = format!(
            "POST / HTTP/1.1\r\nHost: localhost\r\n{}Content-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            credentials(&self.cookie),
            body.len()
        );
        let at = |step: &'static str| move |error: std::io::Error| format!("{step}: {error}");
        let mut stream = Stream::connect(&self.endpoint, ANSWER_TIMEOUT).map_err(at("connect"))?;
        stream.write_all(request.as_bytes()).map_err(at("send"))?;
        let mut received = vec![0; RECEIVE];
        let length = stream.read(&mut received).map_err(at("recv"))?;
        judge(&received[..length], id)
    }
}

/// Whether what was received is a whole answer to the call with this id.
fn judge(received: &[u8], id: &Value) -> Result<(), String> {
    if received.is_empty() {
        return Err("closed without an answer".into());
    }
    let Some((status, body)) = parse(received) else {
        return Err("not a whole answer in one recv".into());
    };
    if status != 200 {
        return Err(format!("HTTP {status}"));
    }
    let answer: Value = serde_json::from_slice(&body).map_err(|_| "no JSON".to_owned())?;
    if answer["id"] != *id {
        return Err("the id of another call".into());
    }
    if !answer["error"].is_null() || !answer["result"]["blocks"].is_u64() {
        return Err(format!("no result: {}", answer["error"]));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: &str, body: &str) -> Vec<u8> {
        format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    }

    #[test]
    fn only_a_whole_result_for_its_own_call_is_no_failure() {
        let id = json!("mine");
        let good = r#"{"result":{"blocks":0},"error":null,"id":"mine"}"#;
        let whole = answer("200 OK", good);
        assert_eq!(judge(&whole, &id), Ok(()));
        assert!(judge(&whole[..whole.len() - 1], &id).is_err());
        for (status, body) in [
            ("503 Service Unavailable", good),
            ("200 OK", r#"{"result":{"blocks":0},"error":null,"id":0}"#),
            (
                "200 OK",
                r#"{"result":null,"error":{"code":-28},"id":"mine"}"#,
            ),
            ("200 OK", r#"{"result":{},"error":null,"id":"mine"}"#),
            ("200 OK", "null"),
            ("200 OK", "nul"),
        ] {
            assert!(
                judge(&answer(status, body), &id).is_err(),
                "{status} {body}"
            );
        }
        assert!(judge(b"", &id).is_err());
    }

    #[test]
    fn a_report_counts_by_kind_and_knows_its_percentiles() {
        let mut report = Report::default();
        for milliseconds in 1..=100 {
            report.count(Ok(Duration::from_millis(milliseconds)));
        }
        let mut other = Report::default();
        other.count(Err("recv: reset".into()));
        other.count(Err("recv: reset".into()));
        report.add(other);
        assert_eq!((report.calls, report.failed()), (102, 2));
        assert_eq!(report.percentile(99), Duration::from_millis(100));
        assert_eq!(report.percentile(50), Duration::from_millis(51));
        assert_eq!(report.later_than(Duration::from_millis(90)), 10);
        assert_eq!(Report::default().percentile(99), Duration::ZERO);
    }
}
