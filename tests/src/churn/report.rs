//! What came of a churn.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::time::Duration;

/// How far a connection was when something happened to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// Before the transport was connected.
    Connecting,
    /// Between our `version` and the node's `verack`.
    Handshake,
    /// Between our `verack` and the answers to pings.
    Ping,
    /// Connected and waiting for the others of its wave.
    Idle,
    /// We have closed our side; the node's is awaited.
    Closing,
}

/// What must not happen, and did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Failure {
    /// `connect()` was refused: nobody listens, or a full queue said so.
    Refused,
    /// The connection was reset by the node.
    Reset(Stage),
    /// The node closed, and it was not its turn.
    Closed(Stage),
    /// No progress for the run's patience.
    Unanswered(Stage),
    /// All local ports are in use or in TIME_WAIT: the driver's trouble, not the node's.
    NoLocalPort,
    /// What came is no frame of this network, or no answer to what was said.
    Garbled(Stage),
    /// Any other error of the system, by its kind.
    Io(Stage, io::ErrorKind),
}

impl Failure {
    pub(super) fn of(error: &io::Error, stage: Stage) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Self::Reset(stage),
            io::ErrorKind::AddrNotAvailable | io::ErrorKind::AddrInUse => Self::NoLocalPort,
            kind => Self::Io(stage, kind),
        }
    }
}

/// What came of a churn.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Connections that were begun, all of which have ended.
    pub cycles: usize,
    /// From the first `connect()` to the last end.
    pub elapsed: Duration,
    /// The node's pings that were answered.
    pub pings_answered: usize,
    /// How many failed, by kind. Empty when all went well.
    pub failures: BTreeMap<Failure, usize>,
    /// From `connect()` to the node's `verack`, of those that came so far; sorted.
    handshakes: Vec<Duration>,
}

impl Report {
    pub(super) fn handshake_took(&mut self, duration: Duration) {
        self.handshakes.push(duration);
    }

    pub(super) fn failed(&mut self, failure: Failure) {
        *self.failures.entry(failure).or_default() += 1;
    }

    pub(super) fn finish(&mut self, elapsed: Duration) {
        self.elapsed = elapsed;
        self.handshakes.sort_unstable();
    }

    /// Handshakes that got as far as the node's `verack`.
    pub fn handshakes(&self) -> usize {
        self.handshakes.len()
    }

    /// The handshake time that `percent` of all stayed below; zero if there was none.
    pub fn handshake_percentile(&self, percent: usize) -> Duration {
        let index = self.handshakes.len() * percent / 100;
        let last = self.handshakes.len().saturating_sub(1);
        self.handshakes
            .get(index.min(last))
            .copied()
            .unwrap_or_default()
    }

    /// Cycles per second.
    #[expect(
        clippy::cast_precision_loss,
        reason = "a count of cycles is far below 2^52"
    )]
    pub fn rate(&self) -> f64 {
        self.cycles as f64 / self.elapsed.as_secs_f64()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} cycles in {:.2} s, {:.0}/s, handshake p50 {:.2} ms, p99 {:.2} ms",
            self.cycles,
            self.elapsed.as_secs_f64(),
            self.rate(),
            self.handshake_percentile(50).as_secs_f64() * 1e3,
            self.handshake_percentile(99).as_secs_f64() * 1e3,
        )?;
        for (failure, count) in &self.failures {
            write!(f, ", {count} x {failure:?}")?;
        }
        Ok(())
    }
}
