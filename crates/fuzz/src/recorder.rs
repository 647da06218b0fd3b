//! Writes down what happens while it happens, as much as a file holds.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use handfast_disk::state_file;
use serde::{Deserialize, Serialize};

use crate::engine::Ending;
use crate::plan::Part;
use crate::trace::{Deed, Record, What};

/// Deeds that are kept at most, all connections together: a third of a file at most. The
/// rest is for connections, since those are what a replay makes again.
const MAX_DEEDS: usize = 1 << 20;
/// Bytes that connections and deeds may take in a file. What a trace says besides is short.
const ROOM: u64 = state_file::MAX_PAYLOAD - (1 << 20);
/// The end of a connection that has not ended takes so many bytes at most.
const LONGEST_END: usize = 96;

/// What the number of an opening takes besides its absence.
const OPENING: u64 = 4;

/// What a trace lacks since a file has an end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Connections: the last ones, with all their deeds.
    pub connections: u64,
    /// The number of the first of them.
    pub first_connection: u64,
    /// Deeds of connections that are there.
    pub deeds: u64,
    /// The number of the first connection that lacks some.
    pub first_deed: u64,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let several = |count| if count == 1 { "" } else { "s" };
        if self.connections > 0 {
            let (count, first) = (self.connections, self.first_connection);
            write!(f, "{count} connection{}, from #{first} on", several(count))?;
        }
        if self.deeds > 0 {
            let and = if self.connections > 0 { "; " } else { "" };
            let (count, first) = (self.deeds, self.first_deed);
            write!(f, "{and}{count} deed{}, from #{first} on", several(count))?;
        }
        Ok(())
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Recorder {
    /// In the order in which they began, without a gap: those that are left out are the last.
    pub(crate) connections: Vec<Record>,
    pub(crate) left_out: LeftOut,
    deeds: usize,
    /// Bytes that are left in the file.
    room: u64,
}

impl Default for Recorder {
    fn default() -> Self {
        Self {
            connections: Vec::new(),
            left_out: LeftOut::default(),
            deeds: 0,
            room: ROOM,
        }
    }
}

impl Recorder {
    /// The next connection, in the order in which they begin.
    pub(crate) fn begun(&mut self, part: Part, source: Option<IpAddr>, at: Duration) {
        let record = Record {
            number: part.number,
            scenario: part.scenario.name().to_owned(),
            seed: part.seed,
            source,
            begun: micros(at),
            opening: None,
            deeds: Vec::new(),
            ended: String::new(),
        };
        let bytes = state_file::encoded_len(&record) + OPENING + LONGEST_END as u64;
        // One that is left out leaves out all that follow: places are found by counting.
        if self.left_out.connections > 0 || bytes > self.room {
            if self.left_out.connections == 0 {
                self.left_out.first_connection = part.number;
            }
            self.left_out.connections += 1;
            return;
        }
        self.room -= bytes;
        self.connections.push(record);
    }

    /// The barrier opened for this one, as it did for all that have the same number.
    pub(crate) fn opened(&mut self, index: usize, opening: u32) {
        if let Some(record) = self.connections.get_mut(index) {
            record.opening = Some(opening);
        }
    }

    /// Something happened on the connection that began as number `index`.
    pub(crate) fn did(&mut self, index: usize, since: Duration, what: What) {
        let Some(record) = self.connections.get_mut(index) else {
            return;
        };
        let deed = Deed {
            at: micros(since),
            what,
        };
        let bytes = state_file::encoded_len(&deed);
        if self.deeds >= MAX_DEEDS || bytes > self.room {
            if self.left_out.deeds == 0 {
                self.left_out.first_deed = record.number;
            }
            self.left_out.deeds += 1;
            return;
        }
        self.deeds += 1;
        self.room -= bytes;
        record.deeds.push(deed);
    }

    pub(crate) fn ended(&mut self, index: usize, how: Ending) {
        let Some(record) = self.connections.get_mut(index) else {
            return;
        };
        let mut ended = match how {
            Ending::Left => "over".into(),
            Ending::ByTarget => "closed by the target".into(),
            Ending::Failed(failure) => format!("failed: {failure}"),
        };
        // ASCII, all of it.
        ended.truncate(LONGEST_END);
        self.room += (LONGEST_END - ended.len()) as u64;
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
    fn a_run_that_is_too_long_for_a_file_is_cut_and_says_where() {
        let mut recorder = Recorder::default();
        let mut begun = 0;
        while recorder.left_out.connections < 1_000 {
            recorder.begun(part(begun), None, Duration::ZERO);
            let index = usize::try_from(begun).expect("a count");
            recorder.did(index, Duration::ZERO, What::sent(b"a call"));
            recorder.did(index, Duration::ZERO, What::left(Leave::Drop));
            recorder.ended(index, Ending::Left);
            begun += 1;
        }
        let kept = recorder.connections.len() as u64;
        let left_out = recorder.left_out;
        assert_eq!((left_out.first_connection, begun), (kept, kept + 1_000));
        assert!(kept > 300_000, "deeds leave room for connections: {kept}");
        let deeds: u64 = recorder
            .connections
            .iter()
            .map(|it| it.deeds.len() as u64)
            .sum();
        assert_eq!((deeds, left_out.deeds), (1 << 20, 2 * kept - (1 << 20)));
        assert_eq!(left_out.first_deed, 1 << 19);

        let bytes = state_file::encoded_len(&recorder.connections);
        assert!(bytes <= state_file::MAX_PAYLOAD - (1 << 19), "{bytes}");
        let said = left_out.to_string();
        assert!(
            said.contains(&format!("1000 connections, from #{kept} on")),
            "{said}"
        );
        assert!(said.contains("deeds, from #524288 on"), "{said}");
    }

    #[test]
    fn those_whose_end_is_still_to_come_have_room_for_it() {
        let mut recorder = Recorder {
            room: 10_000,
            ..Recorder::default()
        };
        for number in 0..1_000 {
            recorder.begun(part(number), None, Duration::ZERO);
        }
        let failure = crate::engine::Failure::Garbled(crate::scenario::Stage::Ready);
        for index in 0..1_000 {
            recorder.opened(index, 0);
            recorder.ended(index, Ending::Failed(failure));
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
