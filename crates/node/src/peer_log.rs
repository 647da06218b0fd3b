//! Tells the log which peers came and went, and which dials failed.
//!
//! Each is worth a line that an operator sees, and a remote that comes and goes must not fill
//! the disk with such lines. So [`PER_MINUTE`] of each kind are told at `info` and the rest at
//! `debug`, with their number when the minute is over. Connections that ended before they
//! were a peer, and broke no rule, are told at `debug`. `getpeerhistory` keeps the last
//! thousand of either kind.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use handfast_proto::lifecycle::{Direction, DoneReason, Ending, Introduction, Reached};

/// Lines of a kind at `info` per minute.
const PER_MINUTE: u32 = 20;
const MINUTE: Duration = Duration::from_secs(60);
/// From one summary of failed dials to the next: of the addresses of a public network most
/// lead nowhere.
const DIALS_EVERY: Duration = Duration::from_secs(600);
/// Different errors of dials that are counted; the system has about a dozen.
const MAX_ERRORS: usize = 16;

/// What is told, each kind with a limit of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Connected,
    Lost,
    /// Ended before it was a peer, and broke a rule.
    BrokeRules,
}

/// How many of a kind there were in the minute at hand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    told: u32,
    left_out: u64,
}

/// Counts what was told in the minute at hand.
#[derive(Debug, Default)]
pub(crate) struct PeerLog {
    /// Start of that minute, monotonic.
    since: Duration,
    counts: [Count; 3],
    dials: Dials,
}

/// Dials to addresses of the address book that failed, by error.
#[derive(Debug, Default)]
struct Dials {
    since: Duration,
    /// Of errors that have been told once.
    failed: BTreeMap<String, u64>,
}

impl PeerLog {
    /// Tells of a new peer.
    pub(crate) fn connected(&mut self, mono: Duration, peer: &Introduction) {
        self.tick(mono);
        let Introduction {
            id,
            direction,
            remote,
            user_agent,
            ..
        } = peer;
        if self.is_told(Kind::Connected) {
            tracing::info!(peer = id.0, %remote, %direction, agent = %user_agent, "peer connected");
        } else {
            tracing::debug!(peer = id.0, %remote, %direction, agent = %user_agent, "peer connected");
        }
    }

    /// Tells of one end. `admitted`: it was a peer, whose coming was told.
    pub(crate) fn ended(&mut self, mono: Duration, ending: &Ending, admitted: bool) {
        self.tick(mono);
        let Ending {
            id,
            remote,
            reason,
            direction,
            reached,
            ..
        } = ending;
        if *reason == DoneReason::Panicked {
            tracing::error!(peer = id.0, %remote, "a peer's actor panicked; its connection is closed");
        }
        let Some(kind) = kind(reason, admitted) else {
            tracing::debug!(peer = id.0, %remote, %reason, "connection ended");
            return;
        };
        let reached = if admitted {
            Reached::Admitted
        } else {
            *reached
        };
        // As the table does it: a peer of the operator's is never discouraged.
        let discouraged = *direction != Direction::Manual && reason.discourages(reached);
        let what = match discouraged {
            true => "peer disconnected, and its address discouraged",
            false => "peer disconnected",
        };
        if self.is_told(kind) {
            tracing::info!(peer = id.0, %remote, %reason, "{what}");
        } else {
            tracing::debug!(peer = id.0, %remote, %reason, "{what}");
        }
    }

    /// Tells of a dial to an address of the address book that failed: the first with an
    /// error, and then how many there were.
    pub(crate) fn dial_failed(&mut self, mono: Duration, addr: SocketAddr, error: &str) {
        if self.dials.is_first(error) {
            tracing::info!(%addr, error, "cannot connect; more such failures are counted");
        } else {
            tracing::debug!(%addr, error, "cannot connect");
        }
        if let Some(text) = self.dials.turn(mono) {
            tracing::info!("connections that could not be opened in the last ten minutes: {text}");
        }
    }

    /// When [`PeerLog::tick`] is due.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        let left_out = self.counts.iter().any(|count| count.left_out > 0);
        left_out.then_some(self.since + MINUTE)
    }

    /// Begins a new minute when the last one is over, and tells what it left out.
    pub(crate) fn tick(&mut self, mono: Duration) {
        if let Some(text) = self.turn(mono) {
            tracing::info!("not shown of the last minute: {text}; they are logged at debug");
        }
    }

    fn turn(&mut self, mono: Duration) -> Option<String> {
        if mono < self.since + MINUTE {
            return None;
        }
        self.since = mono;
        let [connected, lost, broke_rules] = std::mem::take(&mut self.counts);
        let parts = [
            (connected.left_out, "connected"),
            (lost.left_out, "disconnected"),
            (broke_rules.left_out, "turned away for breaking rules"),
        ];
        let parts = parts.into_iter().filter(|(count, _)| *count > 0);
        let parts: Vec<String> = parts
            .map(|(count, what)| format!("{count} peers {what}"))
            .collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    }

    /// Whether one more of `kind` is told; else it is counted.
    fn is_told(&mut self, kind: Kind) -> bool {
        let count = &mut self.counts[kind as usize];
        if count.told == PER_MINUTE {
            count.left_out += 1;
            return false;
        }
        count.told += 1;
        true
    }
}

impl Dials {
    /// Counts a failure; whether it is the first with this error since the last summary that
    /// had none.
    fn is_first(&mut self, error: &str) -> bool {
        if let Some(count) = self.failed.get_mut(error) {
            *count += 1;
            return false;
        }
        // A text that no longer fits is neither told nor counted under its own name.
        if self.failed.len() >= MAX_ERRORS {
            *self.failed.entry("other errors".to_owned()).or_default() += 1;
            return false;
        }
        self.failed.insert(error.to_owned(), 0);
        true
    }

    /// The failures that were counted and not told, when ten minutes are over.
    fn turn(&mut self, mono: Duration) -> Option<String> {
        if mono < self.since + DIALS_EVERY {
            return None;
        }
        self.since = mono;
        let counted = self.failed.iter().filter(|(_, count)| **count > 0);
        let parts: Vec<String> = counted
            .map(|(error, count)| format!("{count} ({error})"))
            .collect();
        self.failed.values_mut().for_each(|count| *count = 0);
        (!parts.is_empty()).then(|| parts.join(", "))
    }
}

fn kind(reason: &DoneReason, admitted: bool) -> Option<Kind> {
    match (admitted, reason.breaks_rules()) {
        (true, _) => Some(Kind::Lost),
        (false, true) => Some(Kind::BrokeRules),
        (false, false) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_peers_that_come_and_go_is_told_twenty_times_a_minute_and_counted() {
        let mut log = PeerLog::default();
        assert_eq!(log.deadline(), None);
        let told = |log: &mut PeerLog, kind| (0..1_000).filter(|_| log.is_told(kind)).count();
        assert_eq!(told(&mut log, Kind::Connected), 20);
        assert_eq!(
            told(&mut log, Kind::Lost),
            20,
            "they have a limit of their own"
        );
        let minute = Duration::from_secs(60);
        assert_eq!(log.deadline(), Some(minute), "the count is told in time");
        assert_eq!(log.turn(Duration::from_secs(59)), None);
        assert_eq!(
            log.turn(minute).as_deref(),
            Some("980 peers connected, 980 peers disconnected")
        );
        assert!(log.is_told(Kind::Connected), "a new minute");
        assert_eq!(log.turn(minute * 2), None, "nothing was left out");
    }

    #[test]
    fn who_was_no_peer_is_told_of_only_when_it_broke_rules() {
        let garbled = DoneReason::Undecodable("ping: wrong checksum".into());
        assert_eq!(kind(&garbled, false), Some(Kind::BrokeRules));
        assert_eq!(kind(&garbled, true), Some(Kind::Lost));
        for reason in [
            DoneReason::RemoteClosed,
            DoneReason::Requested,
            DoneReason::Shutdown,
        ] {
            assert_eq!(kind(&reason, false), None, "{reason}");
            assert_eq!(kind(&reason, true), Some(Kind::Lost), "{reason}");
        }
    }

    #[test]
    fn of_failed_dials_the_first_with_an_error_is_told_and_the_rest_counted() {
        let mut dials = Dials::default();
        assert!(dials.is_first("timed out"));
        assert!(!dials.is_first("timed out"));
        assert!(dials.is_first("connection refused"));
        assert!(!dials.is_first("timed out"));
        let ten_minutes = Duration::from_secs(600);
        assert_eq!(dials.turn(ten_minutes / 2), None);
        assert_eq!(dials.turn(ten_minutes).as_deref(), Some("2 (timed out)"));
        assert_eq!(dials.turn(ten_minutes * 2), None, "none since");
        for n in 0..100 {
            dials.is_first(&format!("error {n}"));
        }
        assert!(dials.failed.len() <= MAX_ERRORS + 1);
    }
}
