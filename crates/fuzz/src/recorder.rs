//! Records the events of a run, as many as a file holds.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use handfast_disk::state_file;
use serde::{Deserialize, Serialize};

use crate::engine::Disconnection;
use crate::plan::Part;
use crate::trace::{Record, TraceEvent, What};

/// Most recorded events, of all connections: a third of a file. The rest is for connections,
/// which a replay needs.
const MAX_EVENTS: usize = 1 << 20;
/// Most bytes of connections and events in a file. The rest of a trace is short.
const CAPACITY: u64 = state_file::MAX_PAYLOAD - (1 << 20);
/// Most bytes of the text of how a connection ended.
const LONGEST_END: usize = 96;

/// Bytes of an opening's number.
const OPENING: u64 = 4;

/// What a trace lacks because a file is bounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Connections omitted: the last ones, with all their events.
    pub connections: u64,
    /// The number of the first of them.
    pub first_connection: u64,
    /// Events omitted of connections that are recorded.
    pub events: u64,
    /// The number of the first connection that lacks some.
    pub first_event: u64,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let several = |count| if count == 1 { "" } else { "s" };
        if self.connections > 0 {
            let (count, first) = (self.connections, self.first_connection);
            write!(f, "{count} connection{}, from #{first} on", several(count))?;
        }
        if self.events > 0 {
            let and = if self.connections > 0 { "; " } else { "" };
            let (count, first) = (self.events, self.first_event);
            write!(f, "{and}{count} event{}, from #{first} on", several(count))?;
        }
        Ok(())
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Recorder {
    /// In the order in which they began, without a gap: those that are omitted are the last.
    pub(crate) connections: Vec<Record>,
    pub(crate) left_out: LeftOut,
    events: usize,
    /// Bytes that are left in the file.
    bytes_left: u64,
}

impl Default for Recorder {
    fn default() -> Self {
        Self {
            connections: Vec::new(),
            left_out: LeftOut::default(),
            events: 0,
            bytes_left: CAPACITY,
        }
    }
}

impl Recorder {
    /// Adds the next connection.
    pub(crate) fn begun(&mut self, part: Part, source: Option<IpAddr>, at: Duration) {
        let record = Record {
            number: part.number,
            scenario: part.scenario.name().to_owned(),
            seed: part.seed,
            source,
            begun: micros(at),
            opening: None,
            events: Vec::new(),
            ended: String::new(),
        };
        let bytes = state_file::encoded_len(&record) + OPENING + LONGEST_END as u64;
        // After one is omitted all that follow are omitted: records are found by index.
        if self.left_out.connections > 0 || bytes > self.bytes_left {
            if self.left_out.connections == 0 {
                self.left_out.first_connection = part.number;
            }
            self.left_out.connections += 1;
            return;
        }
        self.bytes_left -= bytes;
        self.connections.push(record);
    }

    /// The barrier opened for this connection, and for all with the same number.
    pub(crate) fn opened(&mut self, index: usize, opening: u32) {
        if let Some(record) = self.connections.get_mut(index) {
            record.opening = Some(opening);
        }
    }

    /// Adds an event of the connection that began as number `index`.
    pub(crate) fn did(&mut self, index: usize, since: Duration, what: What) {
        let Some(record) = self.connections.get_mut(index) else {
            return;
        };
        let event = TraceEvent {
            at: micros(since),
            what,
        };
        let bytes = state_file::encoded_len(&event);
        if self.events >= MAX_EVENTS || bytes > self.bytes_left {
            if self.left_out.events == 0 {
                self.left_out.first_event = record.number;
            }
            self.left_out.events += 1;
            return;
        }
        self.events += 1;
        self.bytes_left -= bytes;
        record.events.push(event);
    }

    pub(crate) fn ended(&mut self, index: usize, how: Disconnection) {
        let Some(record) = self.connections.get_mut(index) else {
            return;
        };
        let mut ended = match how {
            Disconnection::Left => "over".into(),
            Disconnection::ByTarget => "closed by the target".into(),
            Disconnection::Failed(failure) => format!("failed: {failure}"),
        };
        // The text is ASCII.
        ended.truncate(LONGEST_END);
        self.bytes_left += (LONGEST_END - ended.len()) as u64;
        record.ended = ended;
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Leave, Scenario};

    fn part(number: u64) -> Part {
        Part {
            number,
            scenario: Scenario::RpcBurst,
            seed: number,
        }
    }

    #[test]
    fn a_run_too_long_for_a_file_is_cut_and_the_cut_is_reported() {
        let mut recorder = Recorder::default();
        let mut begun = 0;
        while recorder.left_out.connections < 1_000 {
            recorder.begun(part(begun), None, Duration::ZERO);
            let index = usize::try_from(begun).expect("a count");
            recorder.did(index, Duration::ZERO, What::sent(b"a call"));
            recorder.did(index, Duration::ZERO, What::left(Leave::Drop));
            recorder.ended(index, Disconnection::Left);
            begun += 1;
        }
        let recorded = recorder.connections.len() as u64;
        let left_out = recorder.left_out;
        assert_eq!(
            (left_out.first_connection, begun),
            (recorded, recorded + 1_000)
        );
        assert!(
            recorded > 300_000,
            "events leave space for connections: {recorded}"
        );
        let events: u64 = recorder
            .connections
            .iter()
            .map(|it| it.events.len() as u64)
            .sum();
        assert_eq!(
            (events, left_out.events),
            (1 << 20, 2 * recorded - (1 << 20))
        );
        assert_eq!(left_out.first_event, 1 << 19);

        let bytes = state_file::encoded_len(&recorder.connections);
        assert!(bytes <= state_file::MAX_PAYLOAD - (1 << 19), "{bytes}");
        let said = left_out.to_string();
        assert!(
            said.contains(&format!("1000 connections, from #{recorded} on")),
            "{said}"
        );
        assert!(said.contains("events, from #524288 on"), "{said}");
    }

    #[test]
    fn the_end_of_open_connections_fits_in_the_file() {
        let mut recorder = Recorder {
            bytes_left: 10_000,
            ..Recorder::default()
        };
        for number in 0..1_000 {
            recorder.begun(part(number), None, Duration::ZERO);
        }
        let failure = crate::engine::Failure::Garbled(crate::scenario::Stage::Ready);
        for index in 0..1_000 {
            recorder.opened(index, 0);
            recorder.ended(index, Disconnection::Failed(failure));
        }
        let bytes: u64 = recorder
            .connections
            .iter()
            .map(state_file::encoded_len)
            .sum();
        assert!(bytes <= 10_000, "{bytes}");
        assert!(!recorder.connections.is_empty());
    }
}
