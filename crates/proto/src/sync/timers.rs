//! The timers of sync: everything that is decided without a message.

use crate::lifecycle::ConnId;
use crate::timers::TimerTable;

/// What a timer is for. Timers that are due in one step are handled in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum SyncTimer {
    /// The peer must have answered `getheaders`.
    HeadersAnswer(ConnId),
    /// The peer may be the sync peer again.
    CoolDown(ConnId),
    /// The sync peer must have brought recent headers.
    HeadersFromSource,
    /// More peers are asked for headers beside a silent sync peer.
    Hedge,
    /// A peer is asked whether there is news.
    TipCheck,
    /// A block that the peer has shown and that could not be had is tried again.
    Retry(ConnId),
    /// The peer must have answered a probe.
    ProbeAnswer(ConnId),
    /// The peer may be probed again.
    ProbeAgain(ConnId),
    /// Peers that were asked for blocks are judged.
    BlocksAnswer,
    /// Peers that are late with blocks must have delivered something.
    LatePeers,
    /// Late peers are asked again, where no other peer can be.
    AskLateAgain,
    /// Download goes on after trouble of our own.
    HoldIsOver,
    /// The watchdog looks, and peers that stay behind our chain are judged.
    Watchdog,
}

impl SyncTimer {
    /// The peer that it is about.
    pub(super) fn peer(self) -> Option<ConnId> {
        match self {
            Self::HeadersAnswer(id)
            | Self::CoolDown(id)
            | Self::Retry(id)
            | Self::ProbeAnswer(id)
            | Self::ProbeAgain(id) => Some(id),
            Self::HeadersFromSource
            | Self::Hedge
            | Self::TipCheck
            | Self::BlocksAnswer
            | Self::LatePeers
            | Self::AskLateAgain
            | Self::HoldIsOver
            | Self::Watchdog => None,
        }
    }

    /// Whether it measures the time in which others must do something, in which they are not
    /// to blame for what we did not read.
    pub(super) fn waits_for_others(self) -> bool {
        match self {
            Self::HeadersAnswer(_) | Self::ProbeAnswer(_) | Self::Hedge => true,
            Self::CoolDown(_)
            | Self::HeadersFromSource
            | Self::TipCheck
            | Self::Retry(_)
            | Self::ProbeAgain(_)
            | Self::BlocksAnswer
            | Self::LatePeers
            | Self::AskLateAgain
            | Self::HoldIsOver
            | Self::Watchdog => false,
        }
    }
}

/// When each timer of sync goes off, monotonic.
pub(super) type Timers = TimerTable<SyncTimer>;
