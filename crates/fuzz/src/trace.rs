//! What was sent, heard and when: enough to do it again, and to be read by people.

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
use crate::voice::Dialect;
use handfast_wire::limits::MAX_COMMAND;
use handfast_wire::{Kind, Network, UnknownNetwork};

/// Raised when [`Trace`] changes its meaning.
const VERSION: u32 = 5;

/// A run, written down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    /// What it ran against.
    pub target: String,
    /// The name of its network.
    pub network: String,
    /// The challenge that blocks of a signet meet (BIP325).
    pub signet_challenge: Option<Vec<u8>>,
    /// Opens every frame.
    pub magic: [u8; 4],
    /// The protocol version that was claimed.
    pub version: i32,
    /// The time that was claimed, Unix seconds.
    pub time: u32,
    /// After so long the target gives up a handshake, milliseconds.
    pub handshake_deadline: u64,
    /// The height of the target's chain when it began.
    pub height: i32,
    /// What everything random came from.
    pub seed: u64,
    /// Connections at a time.
    pub concurrency: u64,
    /// Whether connections came in waves: all of them connected before the first said a word.
    pub waves: bool,
    /// The verdict, as it is called.
    pub verdict: String,
    /// In the order in which they began.
    pub connections: Vec<Record>,
    /// What is not here since it would have been too much for a file.
    pub left_out: LeftOut,
}

/// One connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Counts connections from 0.
    pub number: u64,
    /// The name of its scenario.
    pub scenario: String,
    /// Its random numbers.
    pub seed: u64,
    /// The address that it came from, if one was chosen.
    pub source: Option<IpAddr>,
    /// Microseconds since the start of the run.
    pub begun: u64,
    /// Which opening of the barrier it left at, if it did: others have the same.
    pub opening: Option<u32>,
    /// What it did and was told, in order.
    pub deeds: Vec<Deed>,
    /// How it ended; empty if the run ended before.
    pub ended: String,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deed {
    /// Microseconds since the connection began.
    pub at: u64,
    /// What.
    pub what: What,
}

/// What happened on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum What {
    /// So many bytes were given to the system, with this checksum.
    Sent {
        /// How many.
        bytes: u32,
        /// The first four bytes of their double SHA-256.
        digest: u32,
    },
    /// A frame came.
    Heard {
        /// Its command, padded with zeros; all zeros: one that we do not know. By name, so that
        /// a message that is new to us renames none in an old trace.
        command: [u8; MAX_COMMAND],
        /// Length of its payload.
        bytes: u32,
    },
    /// It was woken as it had asked.
    Due,
    /// The barrier opened.
    Opened,
    /// It left: 0 in good order, 1 suddenly, 2 by a reset.
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

    pub(crate) fn heard(kind: Option<Kind>, payload: &[u8]) -> Self {
        Self::Heard {
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
            Self::Heard { command, bytes } => {
                let name = command.split(|byte| *byte == 0).next();
                let name = name.filter(|name| !name.is_empty());
                let name = name.map_or("an unknown command".into(), String::from_utf8_lossy);
                write!(f, "heard {}, {bytes} bytes", Plain(&name))
            }
            Self::Due => f.write_str("its time came"),
            Self::Opened => f.write_str("the barrier opened"),
            Self::Left(0) => f.write_str("left in good order"),
            Self::Left(1) => f.write_str("left suddenly"),
            Self::Left(_) => f.write_str("left by a reset"),
        }
    }
}

/// A connection that is to be made again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cue {
    /// What it plays.
    pub part: Part,
    /// Where it comes from.
    pub source: Option<IpAddr>,
    /// When it begins, since the start of the run.
    pub at: Duration,
    /// The opening of the barrier for which it waits, with all others that have the same one.
    pub opening: Option<u32>,
    /// Whether all that begin with it are connected before the first of them says a word.
    pub together: bool,
}

/// A file cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// It could not be read, or is no trace.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: String,
        /// Why not.
        source: ReadError,
    },
    /// It was written by a version of the tool that wrote other traces.
    #[error(
        "{path}: a trace of form {got}, and this version of handfast reads form {wanted}: use \
         the version that wrote it, or write it anew"
    )]
    Version {
        /// Which file.
        path: String,
        /// Its form.
        got: u32,
        /// The one that is read here.
        wanted: u32,
    },
    /// It plays what this version does not know.
    #[error("{path}: it plays {scenario:?}, which this version of handfast does not know")]
    Scenario {
        /// Which file.
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

    /// What is to be done to do it again.
    ///
    /// # Errors
    /// A scenario is not known here.
    pub fn cues(&self, path: &Path) -> Result<Vec<Cue>, TraceError> {
        let cue = |record: &Record| {
            let scenario: Scenario = record.scenario.parse().map_err(|_| TraceError::Scenario {
                path: path.display().to_string(),
                scenario: record.scenario.clone(),
            })?;
            Ok(Cue {
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
        self.connections.iter().map(cue).collect()
    }

    /// The network that it ran on.
    ///
    /// # Errors
    /// Its name is not known here.
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

    /// How the target was to be addressed: `like` it, as far as it was another way.
    #[must_use]
    pub fn dialect(&self, like: Dialect) -> Dialect {
        Dialect {
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
        // What two runs of one seed differ in, and a replay repeats.
        writeln!(
            f,
            "their version said: protocol {}, time {}, and heights that begin at {}",
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
            for deed in &record.deeds {
                let at = record.begun.saturating_add(deed.at);
                writeln!(f, "{:>12}   {}", seconds(at), deed.what)?;
            }
            if !record.ended.is_empty() {
                writeln!(f, "{:>12}   {}", "", Plain(&record.ended))?;
            }
        }
        if self.left_out != LeftOut::default() {
            writeln!(f, "\nnot written down: {}", self.left_out)?;
        }
        Ok(())
    }
}

/// # Security
/// A file says what it likes, and a terminal obeys what it is sent.
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
    use crate::engine::Ending;
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
        let heard = What::heard(Some(Kind::Verack), &[]);
        recorder.did(0, Duration::from_micros(250), heard);
        recorder.did(0, Duration::from_micros(300), What::left(Leave::Reset));
        recorder.opened(0, 2);
        recorder.ended(0, Ending::Left);
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
    fn a_trace_is_read_as_it_was_written_and_a_damaged_one_is_left_where_it_is() {
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
    fn a_trace_of_another_form_is_refused_with_what_to_do() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("old.trace");
        state_file::save(&path, VERSION - 1, &trace()).expect("it can be written");
        let error = Trace::load(&path).expect_err("it is old").to_string();
        assert!(error.contains("use the version that wrote it"), "{error}");
    }

    #[test]
    fn cues_say_who_begins_when_from_where_and_with_which_numbers() {
        let cues = trace().cues(Path::new("x")).expect("known scenarios");
        let expected = Cue {
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
        assert_eq!(cues, [expected]);
        let dialect = trace().dialect(Dialect::new(&Network::Regtest, 1));
        assert_eq!((dialect.time, dialect.height), (1_700_000_000, 100));
        let mut foreign = trace();
        foreign.connections[0].scenario = "moonwalk".into();
        let error = foreign.cues(Path::new("x")).expect_err("nobody knows it");
        assert!(error.to_string().contains("moonwalk"), "{error}");
    }

    #[test]
    fn a_trace_of_a_signet_of_ones_own_knows_its_challenge() {
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
        let heard = |command: &[u8; MAX_COMMAND]| What::Heard {
            command: *command,
            bytes: 7,
        };
        assert_eq!(
            heard(b"cmpctblock\0\0").to_string(),
            "heard cmpctblock, 7 bytes"
        );
        let unknown = What::heard(None, &[0; 7]);
        assert_eq!(unknown.to_string(), "heard an unknown command, 7 bytes");
    }

    #[test]
    fn people_read_what_happened_in_order() {
        let text = trace().to_string();
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        assert_eq!(
            lines,
            [
                "1 connections to 127.0.0.1:18444 (regtest), seed 7; verdict: ok",
                "their version said: protocol 70016, time 1700000000, and heights that begin at 100",
                "",
                "0.005000 reset #3 from 127.1.0.4",
                &format!("0.005000   {}", What::sent(b"version")),
                "0.005250   heard verack, 0 bytes",
                "0.005300   left by a reset",
                "over",
            ]
        );
    }

    #[test]
    fn a_trace_tells_a_terminal_nothing_but_text() {
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
