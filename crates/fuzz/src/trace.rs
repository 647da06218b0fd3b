//! What was sent and received, and when: to replay a run, and to read it.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use handfast_disk::state_file::{self, ReadError};
use serde::{Deserialize, Serialize};

use crate::plan::Part;
pub use crate::recorder::LeftOut;
use crate::scenario::{Leave, Scenario};
use crate::writer::PeerParams;
use handfast_wire::limits::MAX_COMMAND;
use handfast_wire::{Kind, Network, UnknownNetwork};

/// Incremented when [`Trace`] changes its meaning.
const VERSION: u32 = 5;

/// The record of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    /// The target's address.
    pub target: String,
    /// The name of its network.
    pub network: String,
    /// The challenge that blocks of a signet meet (BIP325).
    pub signet_challenge: Option<Vec<u8>>,
    /// The message start bytes.
    pub magic: [u8; 4],
    /// The protocol version that was claimed.
    pub version: i32,
    /// The time that was claimed, Unix seconds.
    pub time: u32,
    /// The target's handshake timeout, milliseconds.
    pub handshake_deadline: u64,
    /// The height of the target's chain when it began.
    pub height: i32,
    /// The random seed.
    pub seed: u64,
    /// Connections at a time.
    pub concurrency: u64,
    /// Whether connections came in waves: all of them connected before the first sent anything.
    pub waves: bool,
    /// The verdict.
    pub verdict: String,
    /// In the order in which they began.
    pub connections: Vec<Record>,
    /// What was omitted because a file is bounded.
    pub left_out: LeftOut,
}

/// The record of one connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// ScenarioCounts connections from 0.
    pub number: u64,
    /// The name of its scenario.
    pub scenario: String,
    /// The seed of its random numbers.
    pub seed: u64,
    /// Its source address, if one was set.
    pub source: Option<IpAddr>,
    /// Microseconds since the start of the run.
    pub begun: u64,
    /// Which opening of the barrier it left at, if any: others have the same.
    pub opening: Option<u32>,
    /// Its events, in order.
    pub events: Vec<TraceEvent>,
    /// How it ended; empty if the run ended before.
    pub ended: String,
}

/// One event of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceEvent {
    /// Microseconds since the connection began.
    pub at: u64,
    /// The event.
    pub what: What,
}

/// What happened on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum What {
    /// Bytes were given to the system, with this checksum.
    Sent {
        /// Number of bytes.
        bytes: u32,
        /// The first four bytes of their double SHA-256.
        digest: u32,
    },
    /// A frame was received.
    Received {
        /// Its command, padded with zeros; all zeros: an unknown one. By name, so that a new
        /// message does not rename those of an old trace.
        command: [u8; MAX_COMMAND],
        /// Length of its payload.
        bytes: u32,
    },
    /// The timer that it had set fired.
    Due,
    /// The barrier opened.
    Opened,
    /// It disconnected: 0 orderly, 1 by closing at once, 2 by a reset.
    Left(u8),
}

impl What {
    pub(crate) fn sent(bytes: &[u8]) -> Self {
        let digest = handfast_wire::checksum(bytes);
        Self::Sent {
            bytes: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
            digest: u32::from_le_bytes(digest),
        }
    }

    pub(crate) fn received(kind: Option<Kind>, payload: &[u8]) -> Self {
        Self::Received {
            command: kind.map_or([0; MAX_COMMAND], padded),
            bytes: u32::try_from(payload.len()).unwrap_or(u32::MAX),
        }
    }

    pub(crate) fn left(how: Leave) -> Self {
        Self::Left(match how {
            Leave::Orderly => 0,
            Leave::Drop => 1,
            Leave::Reset => 2,
        })
    }
}

fn padded(kind: Kind) -> [u8; MAX_COMMAND] {
    let mut command = [0; MAX_COMMAND];
    command[..kind.name().len()].copy_from_slice(kind.name().as_bytes());
    command
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sent { bytes, digest } => write!(f, "sent {bytes} bytes ({digest:08x})"),
            Self::Received { command, bytes } => {
                let name = command.split(|byte| *byte == 0).next();
                let name = name.filter(|name| !name.is_empty());
                let name = name.map_or("an unknown command".into(), String::from_utf8_lossy);
                write!(f, "received {}, {bytes} bytes", Plain(&name))
            }
            Self::Due => f.write_str("its timer fired"),
            Self::Opened => f.write_str("the barrier opened"),
            Self::Left(0) => f.write_str("disconnected orderly"),
            Self::Left(1) => f.write_str("disconnected at once"),
            Self::Left(_) => f.write_str("disconnected by a reset"),
        }
    }
}

/// A connection to replay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayEntry {
    /// Its number, scenario and seed.
    pub part: Part,
    /// Its source address.
    pub source: Option<IpAddr>,
    /// When it begins, since the start of the run.
    pub at: Duration,
    /// The opening of the barrier that it waits for, with all others that have the same one.
    pub opening: Option<u32>,
    /// Whether all that begin with it are connected before the first of them sends anything.
    pub together: bool,
}

/// Why a file cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// It could not be read, or is no trace.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: String,
        /// The cause.
        source: ReadError,
    },
    /// It has another format version.
    #[error(
        "{path}: trace format {got}, but this version of handfast reads format {wanted}: use \
         the version that wrote it, or record it again"
    )]
    Version {
        /// The file.
        path: String,
        /// Its version.
        got: u32,
        /// The supported version.
        wanted: u32,
    },
    /// It has a scenario that this version does not know.
    #[error("{path}: scenario {scenario:?} is unknown to this version of handfast")]
    Scenario {
        /// The file.
        path: String,
        /// The name in it.
        scenario: String,
    },
}

impl Trace {
    /// Reads a file.
    ///
    /// # Errors
    /// It is not there, damaged, or of another version.
    pub fn load(path: &Path) -> Result<Self, TraceError> {
        let named = path.display().to_string();
        state_file::read(path, VERSION).map_err(|source| match source {
            ReadError::Version { got, wanted } => TraceError::Version {
                path: named,
                got,
                wanted,
            },
            source => TraceError::File {
                path: named,
                source,
            },
        })
    }

    /// Writes a file, whole or not at all.
    ///
    /// # Errors
    /// The system's.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        state_file::save(path, VERSION, self)
    }

    /// The connections to replay.
    ///
    /// # Errors
    /// A scenario is unknown.
    pub fn entries(&self, path: &Path) -> Result<Vec<ReplayEntry>, TraceError> {
        let entry = |record: &Record| {
            let scenario: Scenario = record.scenario.parse().map_err(|_| TraceError::Scenario {
                path: path.display().to_string(),
                scenario: record.scenario.clone(),
            })?;
            Ok(ReplayEntry {
                part: Part {
                    number: record.number,
                    scenario,
                    seed: record.seed,
                },
                source: record.source,
                at: Duration::from_micros(record.begun),
                opening: record.opening,
                together: self.waves,
            })
        };
        self.connections.iter().map(entry).collect()
    }

    /// The network of the run.
    ///
    /// # Errors
    /// Its name is unknown.
    pub fn network(&self) -> Result<Network, UnknownNetwork> {
        let network: Network = self.network.parse()?;
        Ok(match &self.signet_challenge {
            Some(challenge) if network.signet_challenge() != Some(challenge) => {
                Network::CustomSignet {
                    challenge: challenge.clone(),
                }
            }
            Some(_) | None => network,
        })
    }

    /// The parameters of the run; `like` gives those that a trace does not hold.
    #[must_use]
    pub fn params(&self, like: PeerParams) -> PeerParams {
        PeerParams {
            magic: self.magic,
            version: self.version,
            time: self.time,
            handshake_deadline: Duration::from_millis(self.handshake_deadline),
            height: self.height,
            ..like
        }
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} connections to {} ({}), seed {}; verdict: {}",
            self.connections.len(),
            Plain(&self.target),
            Plain(&self.network),
            self.seed,
            Plain(&self.verdict)
        )?;
        // Where two runs of one seed differ, and what a replay repeats.
        writeln!(
            f,
            "their version messages: protocol {}, time {}, heights from {}",
            self.version, self.time, self.height
        )?;
        for record in &self.connections {
            let from = record.source.map(|source| format!(" from {source}"));
            writeln!(
                f,
                "\n{:>12} {} #{}{}",
                seconds(record.begun),
                Plain(&record.scenario),
                record.number,
                from.unwrap_or_default()
            )?;
            for event in &record.events {
                let at = record.begun.saturating_add(event.at);
                writeln!(f, "{:>12}   {}", seconds(at), event.what)?;
            }
            if !record.ended.is_empty() {
                writeln!(f, "{:>12}   {}", "", Plain(&record.ended))?;
            }
        }
        if self.left_out != LeftOut::default() {
            writeln!(f, "\nnot recorded: {}", self.left_out)?;
        }
        Ok(())
    }
}

/// # Security
/// A file may hold control characters, which a terminal would execute.
struct Plain<'a>(&'a str);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character.is_control() {
                true => write!(f, "{}", character.escape_default())?,
                false => write!(f, "{character}")?,
            }
        }
        Ok(())
    }
}

fn seconds(micros: u64) -> String {
    format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Disconnection;
    use crate::recorder::Recorder;

    fn trace() -> Trace {
        let mut recorder = Recorder::default();
        let part = Part {
            number: 3,
            scenario: Scenario::Reset,
            seed: 9,
        };
        let source = Some("127.1.0.4".parse().expect("an address"));
        recorder.begun(part, source, Duration::from_millis(5));
        recorder.did(0, Duration::ZERO, What::sent(b"version"));
        let received = What::received(Some(Kind::Verack), &[]);
        recorder.did(0, Duration::from_micros(250), received);
        recorder.did(0, Duration::from_micros(300), What::left(Leave::Reset));
        recorder.opened(0, 2);
        recorder.ended(0, Disconnection::Left);
        Trace {
            target: "127.0.0.1:18444".into(),
            network: "regtest".into(),
            signet_challenge: None,
            magic: [1, 2, 3, 4],
            version: 70_016,
            time: 1_700_000_000,
            handshake_deadline: 60_000,
            height: 100,
            seed: 7,
            concurrency: 20,
            waves: true,
            verdict: "ok".into(),
            connections: recorder.connections,
            left_out: recorder.left_out,
        }
    }

    #[test]
    fn a_trace_is_read_as_written_and_a_damaged_one_is_not_moved() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("run.trace");
        trace().save(&path).expect("it can be written");
        assert_eq!(Trace::load(&path).expect("it can be read"), trace());
        let mut bytes = std::fs::read(&path).expect("it is there");
        bytes[30] ^= 1;
        std::fs::write(&path, bytes).expect("it can be changed");
        let error = Trace::load(&path).expect_err("it is damaged").to_string();
        assert!(error.contains("checksum"), "{error}");
        assert!(path.exists(), "it is the user's file");
    }

    #[test]
    fn a_trace_of_another_format_is_refused_with_the_remedy() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("old.trace");
        state_file::save(&path, VERSION - 1, &trace()).expect("it can be written");
        let error = Trace::load(&path).expect_err("it is old").to_string();
        assert!(error.contains("use the version that wrote it"), "{error}");
    }

    #[test]
    fn replay_entries_have_time_source_and_seed() {
        let entries = trace().entries(Path::new("x")).expect("known scenarios");
        let expected = ReplayEntry {
            part: Part {
                number: 3,
                scenario: Scenario::Reset,
                seed: 9,
            },
            source: Some("127.1.0.4".parse().expect("an address")),
            at: Duration::from_millis(5),
            opening: Some(2),
            together: true,
        };
        assert_eq!(entries, [expected]);
        let params = trace().params(PeerParams::new(&Network::Regtest, 1));
        assert_eq!((params.time, params.height), (1_700_000_000, 100));
        let mut foreign = trace();
        foreign.connections[0].scenario = "moonwalk".into();
        let error = foreign.entries(Path::new("x")).expect_err("it is unknown");
        assert!(error.to_string().contains("moonwalk"), "{error}");
    }

    #[test]
    fn a_trace_of_a_custom_signet_has_its_challenge() {
        let on = |network: Network| Trace {
            network: network.name().into(),
            signet_challenge: network.signet_challenge().map(<[u8]>::to_vec),
            ..trace()
        };
        let own = Network::CustomSignet {
            challenge: vec![0x51],
        };
        for network in [own, Network::Signet, Network::Regtest] {
            assert_eq!(on(network.clone()).network(), Ok(network));
        }
    }

    #[test]
    fn a_command_is_read_from_a_trace_by_name_also_where_no_table_has_it() {
        let received = |command: &[u8; MAX_COMMAND]| What::Received {
            command: *command,
            bytes: 7,
        };
        assert_eq!(
            received(b"cmpctblock\0\0").to_string(),
            "received cmpctblock, 7 bytes"
        );
        let unknown = What::received(None, &[0; 7]);
        assert_eq!(unknown.to_string(), "received an unknown command, 7 bytes");
    }

    #[test]
    fn a_trace_is_printed_in_order() {
        let text = trace().to_string();
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        assert_eq!(
            lines,
            [
                "1 connections to 127.0.0.1:18444 (regtest), seed 7; verdict: ok",
                "their version messages: protocol 70016, time 1700000000, heights from 100",
                "",
                "0.005000 reset #3 from 127.1.0.4",
                &format!("0.005000   {}", What::sent(b"version")),
                "0.005250   received verack, 0 bytes",
                "0.005300   disconnected by a reset",
                "over",
            ]
        );
    }

    #[test]
    fn a_printed_trace_has_no_control_characters() {
        let mut trace = trace();
        for text in [&mut trace.target, &mut trace.network, &mut trace.verdict] {
            text.push_str("\u{1b}]0;owned\u{7}\u{9b}2J");
        }
        trace.connections[0].scenario.push_str("\u{1b}[2J");
        trace.connections[0].ended.push('\r');
        trace.connections[0].begun = u64::MAX;
        let text = trace.to_string();
        let controls = text.chars().filter(|it| it.is_control() && *it != '\n');
        assert_eq!(controls.count(), 0, "{text:?}");
    }
}
