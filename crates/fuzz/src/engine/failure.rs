//! Failures of a connection that a correct target does not cause.

use std::fmt;
use std::io;

use rustix::io::Errno;

use crate::scenario::{Stage, Wrong};

/// What must not happen, and did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Failure {
    /// `connect()` was refused: nothing listens, or the accept queue is full.
    Refused,
    /// The target reset the connection although an answer was expected.
    Reset(Stage),
    /// The target closed the connection although an answer was expected.
    Closed(Stage),
    /// No answer within the timeout.
    Unanswered(Stage),
    /// The bytes are no frame of this network.
    Garbled(Stage),
    /// The answer is wrong.
    Wrong(Wrong),
    /// The source address is not one of this machine: our fault.
    NoSource,
    /// All local ports are in use or in TIME_WAIT: our fault, not the target's.
    NoLocalPort,
    /// We have no descriptor left: our fault, not the target's.
    NoDescriptor,
    /// Any other error of the system, by its kind.
    Io(Stage, io::ErrorKind),
}

impl Failure {
    /// The failure to bind a source address.
    pub(super) fn of_source(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::AddrNotAvailable => Self::NoSource,
            _ => Self::of(error, Stage::Connecting),
        }
    }

    pub(super) fn of(error: &io::Error, stage: Stage) -> Self {
        let errno = error.raw_os_error();
        if [Errno::MFILE, Errno::NFILE]
            .iter()
            .any(|one| errno == Some(one.raw_os_error()))
        {
            return Self::NoDescriptor;
        }
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Self::Reset(stage),
            io::ErrorKind::AddrNotAvailable | io::ErrorKind::AddrInUse => Self::NoLocalPort,
            kind => Self::Io(stage, kind),
        }
    }

    /// Whether it is our fault and not the target's.
    #[must_use]
    pub fn is_ours(self) -> bool {
        matches!(
            self,
            Self::NoSource | Self::NoLocalPort | Self::NoDescriptor
        )
    }

    /// Whether it counts against the target: a 503 with `Retry-After` does not.
    #[must_use]
    pub fn is_of_the_target(self) -> bool {
        !self.is_ours() && self != Self::Wrong(Wrong::Later)
    }

    /// Whether the target did not take the connection: retrying at once makes it worse.
    pub(super) fn asks_for_a_pause(self) -> bool {
        self.is_ours()
            || matches!(
                self,
                Self::Refused
                    | Self::Reset(Stage::Connecting)
                    | Self::Wrong(Wrong::Later | Wrong::Status(503))
            )
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("connection refused"),
            Self::Reset(stage) => write!(f, "reset by the target {}", during(*stage)),
            Self::Closed(stage) => write!(f, "closed by the target {}", during(*stage)),
            Self::Unanswered(Stage::Connecting) => f.write_str("no answer to connect"),
            Self::Unanswered(Stage::Closing) => f.write_str("not closed after we had closed"),
            Self::Unanswered(stage) => write!(f, "no answer {}", during(*stage)),
            Self::Garbled(stage) => write!(f, "invalid frame {}", during(*stage)),
            Self::Wrong(Wrong::Status(status)) => write!(f, "HTTP {status}"),
            Self::Wrong(Wrong::Later) => f.write_str("overloaded (HTTP 503 with Retry-After)"),
            Self::Wrong(Wrong::NoHttp) => f.write_str("the answer is not HTTP"),
            Self::NoSource => f.write_str("source address not of this machine (ours)"),
            Self::NoLocalPort => f.write_str("no local port left (ours)"),
            Self::NoDescriptor => f.write_str("no descriptor left (ours)"),
            Self::Io(stage, kind) => write!(f, "{kind} {}", during(*stage)),
        }
    }
}

fn during(stage: Stage) -> &'static str {
    match stage {
        Stage::Connecting => "while connecting",
        Stage::Handshake => "during the handshake",
        Stage::Ready => "after the handshake",
        Stage::Closing => "while closing",
    }
}
