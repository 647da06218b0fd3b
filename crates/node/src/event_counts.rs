//! What happened since the start, by kind, for metrics: disconnections by reason, dials by
//! outcome, blocks by the class of the connection that they came over.
//!
//! The kinds are fixed, whatever remotes do.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use handfast_proto::lifecycle::{Direction, DoneReason};

/// How an attempt to connect went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialled {
    /// The transport was connected; the handshake may still fail.
    Connected,
    /// The connection was refused.
    Refused,
    /// No answer in time.
    TimedOut,
    /// No way there.
    Unreachable,
    /// Another error.
    Failed,
    /// It was not tried: all slots are taken.
    NoSlot,
}

impl Dialled {
    /// Every outcome.
    const ALL: [Self; 6] = [
        Self::Connected,
        Self::Refused,
        Self::TimedOut,
        Self::Unreachable,
        Self::Failed,
        Self::NoSlot,
    ];

    /// The outcome that an error stands for.
    pub(crate) fn of(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::TimedOut => Self::TimedOut,
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => Self::Unreachable,
            _ => Self::Failed,
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Refused => "refused",
            Self::TimedOut => "timed_out",
            Self::Unreachable => "unreachable",
            Self::Failed => "failed",
            Self::NoSlot => "no_slot",
        }
    }
}

/// The counts, by label: every label there is, also before its first event, since a monitor
/// sees no rise of what was not there before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventCounts {
    /// Connections that ended, by [`DoneReason::label`].
    pub disconnects: BTreeMap<&'static str, u64>,
    /// Attempts to connect, by outcome.
    pub dials: BTreeMap<&'static str, u64>,
    /// Blocks that peers sent, asked for or not, by the direction of the connection.
    pub blocks: BTreeMap<&'static str, u64>,
}

impl Default for EventCounts {
    fn default() -> Self {
        let zero = |label| (label, 0);
        Self {
            disconnects: DoneReason::LABELS.into_iter().map(zero).collect(),
            dials: Dialled::ALL.map(Dialled::label).map(zero).into(),
            blocks: DIRECTIONS.map(class).map(zero).into(),
        }
    }
}

const DIRECTIONS: [Direction; 3] = [Direction::Inbound, Direction::Outbound, Direction::Manual];

fn class(over: Direction) -> &'static str {
    match over {
        Direction::Inbound => "inbound",
        Direction::Outbound => "outbound",
        Direction::Manual => "manual",
    }
}

/// Written by the actors, read by metrics.
#[derive(Debug, Default)]
pub(crate) struct EventCounters(Mutex<EventCounts>);

impl EventCounters {
    /// Held for one addition or one copy.
    fn counts(&self) -> MutexGuard<'_, EventCounts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn read(&self) -> EventCounts {
        self.counts().clone()
    }

    pub(crate) fn disconnected(&self, reason: &DoneReason) {
        *self.counts().disconnects.entry(reason.label()).or_default() += 1;
    }

    pub(crate) fn dialled(&self, outcome: Dialled) {
        *self.counts().dials.entry(outcome.label()).or_default() += 1;
    }

    pub(crate) fn block(&self, over: Direction) {
        *self.counts().blocks.entry(class(over)).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use handfast_proto::lifecycle::SlotRefusal;

    use super::*;

    #[test]
    fn events_are_counted_by_kind_and_not_by_what_remotes_say() {
        let counters = EventCounters::default();
        for slots in [1, 2] {
            let why = SlotRefusal::InboundFull { slots };
            counters.disconnected(&DoneReason::Refused(why));
        }
        counters.disconnected(&DoneReason::Evicted);
        counters.dialled(Dialled::of(&io::ErrorKind::ConnectionRefused.into()));
        counters.dialled(Dialled::of(&io::ErrorKind::BrokenPipe.into()));
        counters.block(Direction::Manual);
        let counts = counters.read();
        let seen = |counts: &BTreeMap<&'static str, u64>| -> Vec<(&str, u64)> {
            let seen = counts.iter().filter(|(_, count)| **count > 0);
            seen.map(|(label, count)| (*label, *count)).collect()
        };
        assert_eq!(seen(&counts.disconnects), [("evicted", 1), ("refused", 2)]);
        assert_eq!(seen(&counts.dials), [("failed", 1), ("refused", 1)]);
        assert_eq!(seen(&counts.blocks), [("manual", 1)]);
        let labels = EventCounts::default();
        assert_eq!(
            counts.disconnects.len(),
            labels.disconnects.len(),
            "all were there before"
        );
        assert_eq!(
            (counts.dials.len(), counts.blocks.len()),
            (Dialled::ALL.len(), 3)
        );
    }
}
