//! Tells the log which peers came and went, and which dials failed.
//!
//! Each is worth a line that an operator sees, and a remote that comes and goes must not fill
//! the disk with such lines. So [`PER_MINUTE`] of each kind are logged at `info` and the rest at
//! `debug`, with their number when the minute is over. Connections that ended before they
//! were a peer, and broke no rule, are logged at `debug`. `getpeerhistory` has the last
//! thousand of either kind.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use handfast_proto::Now;
use handfast_proto::bans::{BanCommand, BanList};
use handfast_proto::lifecycle::{Direction, Disconnection, DoneReason, Reached, VersionInfo};
use handfast_proto::text::{count, passed};
use handfast_proto::time::earliest;
use tracing::Level;

/// Lines of a kind at `info` per minute, whatever the kind.
pub(crate) const PER_MINUTE: u32 = 20;
pub(crate) const MINUTE: Duration = Duration::from_secs(60);
/// Different errors of dials that are counted; the system has about a dozen.
const MAX_ERRORS: usize = 16;

/// The kinds of lines, each with a limit of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Connected,
    Lost,
    /// Ended before it was a peer, and broke a rule.
    BrokeRules,
    /// An operator banned an address, or lifted a ban.
    Ban,
}

/// How many of a kind there were in the minute at hand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    logged: u32,
    left_out: u64,
}

/// Counts the lines of the current minute.
#[derive(Debug, Default)]
pub(crate) struct PeerLog {
    /// Start of that minute, monotonic.
    since: Duration,
    counts: [Count; 4],
    dials: Dials,
}

/// Dials to addresses of the address book that failed, by error.
#[derive(Debug, Default)]
struct Dials {
    /// Start of the minute in which those of `failed` were counted, monotonic.
    since: Duration,
    /// Those that were not logged, of errors that have been logged once.
    failed: BTreeMap<String, u64>,
}

impl PeerLog {
    /// Tells of a new peer.
    pub(crate) fn connected(&mut self, mono: Duration, peer: &VersionInfo) {
        self.tick(mono);
        let VersionInfo {
            id,
            direction,
            remote,
            user_agent,
            ..
        } = peer;
        if self.may_log(Kind::Connected) {
            tracing::info!(peer = id.0, %remote, %direction, agent = %user_agent, "peer connected");
        } else {
            tracing::debug!(peer = id.0, %remote, %direction, agent = %user_agent, "peer connected");
        }
    }

    /// Logs one disconnection. `admitted`: it was a peer, whose connection was logged.
    pub(crate) fn ended(&mut self, mono: Duration, disconnection: &Disconnection, admitted: bool) {
        self.tick(mono);
        let Disconnection {
            id,
            remote,
            reason,
            direction,
            reached,
            ..
        } = disconnection;
        if reason.class().level() == Level::ERROR {
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
        if self.may_log(kind) {
            tracing::info!(peer = id.0, %remote, %reason, "{what}");
        } else {
            tracing::debug!(peer = id.0, %remote, %reason, "{what}");
        }
    }

    /// Tells of a dial to an address of the address book that failed: the first with an
    /// error, and then how many there were.
    pub(crate) fn dial_failed(&mut self, mono: Duration, addr: SocketAddr, error: &str) {
        self.tick(mono);
        if self.dials.is_first(mono, error) {
            tracing::info!(%addr, error, "cannot connect; more such failures are counted");
        } else {
            tracing::debug!(%addr, error, "cannot connect");
        }
    }

    /// Logs a ban of the operator with its end, or that it was lifted. `bans`: the list
    /// as it is now.
    pub(crate) fn bans_changed(&mut self, now: Now, order: BanCommand, bans: &BanList) {
        self.tick(now.mono);
        let text = ban_text(now, order, bans);
        if self.may_log(Kind::Ban) {
            tracing::info!("{text}");
        } else {
            tracing::debug!("{text}");
        }
    }

    /// When [`PeerLog::tick`] is due.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        let left_out = self.counts.iter().any(|count| count.left_out > 0);
        let peers = left_out.then_some(self.since + MINUTE);
        earliest(peers, self.dials.deadline())
    }

    /// Begins a new minute when the last one is over, and tells what it left out.
    pub(crate) fn tick(&mut self, mono: Duration) {
        if let Some(text) = self.turn(mono) {
            tracing::info!("left out in the last minute: {text}; they are logged at debug");
        }
        if let Some(text) = self.dials.turn(mono) {
            tracing::info!("more attempts to connect that failed in the last minute: {text}");
        }
    }

    fn turn(&mut self, mono: Duration) -> Option<String> {
        if mono < self.since + MINUTE {
            return None;
        }
        self.since = mono;
        let [connected, lost, broke_rules, bans] = std::mem::take(&mut self.counts);
        let parts = [
            (connected.left_out, "connected"),
            (lost.left_out, "disconnected"),
            (broke_rules.left_out, "refused for breaking rules"),
        ];
        let parts = parts.into_iter().filter(|(left_out, _)| *left_out > 0);
        let mut parts: Vec<String> = parts
            .map(|(left_out, what)| format!("{} {what}", count(left_out, "peer")))
            .collect();
        if bans.left_out > 0 {
            parts.push(format!("{} made or lifted", count(bans.left_out, "ban")));
        }
        (!parts.is_empty()).then(|| parts.join(", "))
    }

    /// Whether one more of `kind` is logged; else it is counted.
    fn may_log(&mut self, kind: Kind) -> bool {
        let count = &mut self.counts[kind as usize];
        if count.logged == PER_MINUTE {
            count.left_out += 1;
            return false;
        }
        count.logged += 1;
        true
    }
}

impl Dials {
    /// When the count of failures is logged.
    fn deadline(&self) -> Option<Duration> {
        let counted = self.failed.values().any(|count| *count > 0);
        counted.then_some(self.since + MINUTE)
    }

    /// Counts a failure; whether it is the first with this error.
    fn is_first(&mut self, mono: Duration, error: &str) -> bool {
        if self.deadline().is_none() {
            self.since = mono;
        }
        if let Some(count) = self.failed.get_mut(error) {
            *count += 1;
            return false;
        }
        // A text that no longer fits is neither logged nor counted under its own name.
        if self.failed.len() >= MAX_ERRORS {
            *self.failed.entry("other errors".to_owned()).or_default() += 1;
            return false;
        }
        self.failed.insert(error.to_owned(), 0);
        true
    }

    /// The failures that were counted and not logged, when the minute is over.
    fn turn(&mut self, mono: Duration) -> Option<String> {
        if self.deadline().is_none_or(|due| mono < due) {
            return None;
        }
        let counted = self.failed.iter().filter(|(_, count)| **count > 0);
        let parts: Vec<String> = counted
            .map(|(error, count)| format!("{count} ({error})"))
            .collect();
        self.failed.values_mut().for_each(|count| *count = 0);
        (!parts.is_empty()).then(|| parts.join(", "))
    }
}

fn ban_text(now: Now, order: BanCommand, bans: &BanList) -> String {
    match order {
        BanCommand::Add { target, .. } => {
            let row = bans.rows(now).find(|ban| ban.target == target);
            // One that ends at once is over.
            let until = row.map_or(i64::from(now.unix), |ban| ban.until);
            let left = until.saturating_sub(i64::from(now.unix));
            let left = passed(Duration::from_secs(u64::try_from(left).unwrap_or(0)));
            format!("{target} is banned by the operator for {left}, until Unix time {until}")
        }
        BanCommand::Remove { target } => format!("the ban of {target} is lifted by the operator"),
        BanCommand::Clear => "all bans are lifted by the operator".to_owned(),
    }
}

fn kind(reason: &DoneReason, admitted: bool) -> Option<Kind> {
    match (admitted, reason.class().level()) {
        (true, _) => Some(Kind::Lost),
        (false, Level::INFO) => Some(Kind::BrokeRules),
        (false, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use handfast_proto::bans::BanTime;
    use handfast_proto::lifecycle::OutOfPlace;

    use super::*;

    #[test]
    fn a_flood_of_peers_that_come_and_go_is_told_twenty_times_a_minute_and_counted() {
        let mut log = PeerLog::default();
        assert_eq!(log.deadline(), None);
        let logged = |log: &mut PeerLog, kind| (0..1_000).filter(|_| log.may_log(kind)).count();
        assert_eq!(logged(&mut log, Kind::Connected), 20);
        assert_eq!(
            logged(&mut log, Kind::Lost),
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
        assert!(log.may_log(Kind::Connected), "a new minute");
        assert_eq!(log.turn(minute * 2), None, "nothing was left out");
    }

    #[test]
    fn a_ban_is_told_with_its_address_and_its_end_and_a_script_that_bans_many_fills_no_log() {
        let now = Now {
            unix: 1_000,
            ..Now::default()
        };
        let target = "192.0.2.7".parse().expect("an address");
        let time = BanTime::For(90);
        let mut bans = BanList::default();
        let add = BanCommand::Add { target, time };
        bans.apply(now, add).expect("it is new");
        assert_eq!(
            ban_text(now, add, &bans),
            "192.0.2.7/32 is banned by the operator for 1m 30s, until Unix time 1090"
        );
        let lifted = ban_text(now, BanCommand::Remove { target }, &bans);
        assert!(lifted.contains("192.0.2.7/32 is lifted"), "{lifted}");
        let mut log = PeerLog::default();
        (0..1_000).for_each(|_| log.bans_changed(now, add, &bans));
        let left_out = log.turn(Duration::from_secs(60));
        assert_eq!(left_out.as_deref(), Some("980 bans made or lifted"));
    }

    #[test]
    fn who_was_no_peer_is_told_of_only_when_it_broke_rules() {
        let early = OutOfPlace::FeatureAfterVerack;
        let malformed = DoneReason::ProtocolViolation(early);
        assert_eq!(kind(&malformed, false), Some(Kind::BrokeRules));
        assert_eq!(kind(&malformed, true), Some(Kind::Lost));
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
    fn of_failed_dials_the_first_with_an_error_is_told_and_the_rest_each_minute_with_their_number()
    {
        let mut log = PeerLog::default();
        let at = Duration::from_secs(500);
        let addr = "192.0.2.7:8333".parse().expect("an address");
        log.dial_failed(at, addr, "timed out");
        assert_eq!(log.deadline(), None, "it was told");
        log.dial_failed(at, addr, "timed out");
        log.dial_failed(at, addr, "connection refused");
        log.dial_failed(at + MINUTE / 2, addr, "timed out");
        assert_eq!(
            log.deadline(),
            Some(at + MINUTE),
            "told though no more fail"
        );
        assert_eq!(log.dials.turn(at + MINUTE / 2), None);
        let text = log.dials.turn(at + MINUTE);
        assert_eq!(text.as_deref(), Some("2 (timed out)"));
        assert_eq!(log.dials.turn(at + MINUTE * 2), None, "none since");
        for n in 0..100 {
            log.dials.is_first(at, &format!("error {n}"));
        }
        assert!(log.dials.failed.len() <= MAX_ERRORS + 1);
    }
}
