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
    /// Nobody listens there.
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

/// The counts, by label.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventCounts {
    /// Connections that ended, by [`DoneReason::label`].
    pub disconnects: BTreeMap<&'static str, u64>,
    /// Attempts to connect, by outcome.
    pub dials: BTreeMap<&'static str, u64>,
    /// Blocks that peers sent, asked for or not, by the direction of the connection.
    pub blocks: BTreeMap<&'static str, u64>,
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
        let class = match over {
            Direction::Inbound => "inbound",
            Direction::Outbound => "outbound",
            Direction::Manual => "manual",
        };
        *self.counts().blocks.entry(class).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_counted_by_kind_and_not_by_what_remotes_say() {
        let counters = EventCounters::default();
        for text in ["a", "b"] {
            counters.disconnected(&DoneReason::Undecodable(text.into()));
        }
        counters.disconnected(&DoneReason::Evicted);
        counters.dialled(Dialled::of(&io::ErrorKind::ConnectionRefused.into()));
        counters.dialled(Dialled::of(&io::ErrorKind::BrokenPipe.into()));
        counters.block(Direction::Manual);
        let counts = counters.read();
        let disconnects = [("evicted", 1), ("undecodable", 2)];
        assert_eq!(counts.disconnects, disconnects.into());
        assert_eq!(counts.dials, [("refused", 1), ("failed", 1)].into());
        assert_eq!(counts.blocks, [("manual", 1)].into());
    }
}
