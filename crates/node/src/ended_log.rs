//! Tells the log why connections end.
//!
//! A peer that broke the rules is worth a line that an operator sees, and a remote
//! that reconnects to break them again must not fill the disk with such lines. So
//! [`PER_MINUTE`] of them are told at `info` and the rest at `debug`, with their
//! number when the minute is over. Ordinary ends are told at `debug`.
//! `getpeerhistory` keeps the last thousand of either kind.

use std::time::Duration;

use handfast_proto::lifecycle::{DoneReason, Ending};

/// Lines at `info` per minute.
const PER_MINUTE: u32 = 20;
const MINUTE: Duration = Duration::from_secs(60);

/// How loudly an end is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Volume {
    /// For operators.
    Aloud,
    /// For whoever asks for `debug`.
    Quiet,
}

/// Counts what was told in the minute at hand.
#[derive(Debug, Default)]
pub(crate) struct EndedLog {
    /// Start of that minute, monotonic.
    since: Duration,
    aloud: u32,
    /// Broken rules that were told quietly.
    hushed: u64,
}

impl EndedLog {
    /// Tells of one end.
    pub(crate) fn tell(&mut self, mono: Duration, ending: &Ending) {
        let Ending {
            id, remote, reason, ..
        } = ending;
        if *reason == DoneReason::Panicked {
            tracing::error!(peer = id.0, %remote, "a peer's actor panicked; its connection is closed");
        }
        if let Some(hushed) = self.turn(mono) {
            tracing::info!(
                hushed,
                "more peers broke the rules in the last minute; their reasons are logged at debug"
            );
        }
        match self.volume(reason) {
            Volume::Aloud => tracing::info!(peer = id.0, %remote, %reason, "peer disconnected"),
            Volume::Quiet => tracing::debug!(peer = id.0, %remote, %reason, "connection ended"),
        }
    }

    /// Begins a new minute when the last one is over; how many it hushed, if any.
    fn turn(&mut self, mono: Duration) -> Option<u64> {
        if mono < self.since + MINUTE {
            return None;
        }
        let ended = std::mem::replace(
            self,
            Self {
                since: mono,
                ..Self::default()
            },
        );
        (ended.hushed > 0).then_some(ended.hushed)
    }

    fn volume(&mut self, reason: &DoneReason) -> Volume {
        if !reason.breaks_rules() {
            return Volume::Quiet;
        }
        if self.aloud == PER_MINUTE {
            self.hushed += 1;
            return Volume::Quiet;
        }
        self.aloud += 1;
        Volume::Aloud
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_broken_rules_is_told_twenty_times_a_minute_and_counted() {
        let mut log = EndedLog::default();
        let garbled = DoneReason::Undecodable("ping: wrong checksum".into());
        let aloud = (0..1_000).filter(|_| log.volume(&garbled) == Volume::Aloud);
        assert_eq!(aloud.count(), 20);
        assert_eq!(log.turn(Duration::from_secs(59)), None);
        assert_eq!(log.turn(Duration::from_secs(60)), Some(980));
        assert_eq!(log.volume(&garbled), Volume::Aloud, "a new minute");
        assert_eq!(
            log.turn(Duration::from_secs(120)),
            None,
            "nothing was hushed"
        );
    }

    #[test]
    fn ordinary_ends_are_not_told_to_operators() {
        let mut log = EndedLog::default();
        for reason in [
            DoneReason::RemoteClosed,
            DoneReason::Requested,
            DoneReason::Shutdown,
        ] {
            assert_eq!(log.volume(&reason), Volume::Quiet, "{reason}");
        }
        assert_eq!(log.aloud, 0, "they use up nothing");
    }
}
