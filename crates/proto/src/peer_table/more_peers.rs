//! More peers than usual, when sync does not get on with those there are.

use std::time::Duration;

use super::{Effect, PeerTable};
use crate::lifecycle::{Direction, DoneReason};
use crate::time::Now;

/// Automatic outbound peers beyond [`super::PeerTableConfig::max_outbound`] while more
/// are wanted. 1, as in Core when its tip may be stale; the node needs a slot for it.
pub const EXTRA_OUTBOUND: usize = 1;
/// How long more are wanted after sync said so last. 10 min; Core `STALE_CHECK_INTERVAL`.
pub const EXTRA_FOR: Duration = Duration::from_secs(10 * 60);
/// Between two times that seeds and named nodes are hurried.
const HURRY_INTERVAL: Duration = Duration::from_secs(60);

/// Whether more peers are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct MorePeers {
    until: Option<Duration>,
    hurried_at: Option<Duration>,
}

impl MorePeers {
    /// When they are no longer wanted.
    pub(super) fn due(&self) -> Option<Duration> {
        self.until
    }
}

impl PeerTable {
    /// Sync does not get on with the peers there are. However often it says so, there
    /// is one more outbound peer, and nobody is asked more than once a minute.
    pub(super) fn look_for_more_peers(&mut self, now: Now) {
        if self.draining {
            return;
        }
        self.more.until = Some(now.mono.saturating_add(EXTRA_FOR));
        let again = |at: Duration| now.mono < at.saturating_add(HURRY_INTERVAL);
        if self.more.hurried_at.is_some_and(again) {
            return;
        }
        self.more.hurried_at = Some(now.mono);
        self.dials.hurry(now);
        self.seeds.ask_again();
        self.hurry_named(now);
    }

    /// Most automatic outbound peers just now. Who allows none wants none.
    pub(super) fn outbound_limit(&self) -> usize {
        let usual = self.config.max_outbound;
        let extra = usual > 0 && self.more.until.is_some();
        usual + if extra { EXTRA_OUTBOUND } else { 0 }
    }

    /// Back to the usual number when the time is over.
    pub(super) fn plan_more_peers(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if self.more.until.is_none_or(|until| now.mono < until) {
            return;
        }
        self.more.until = None;
        let staying = self.peers.count_staying(Direction::Outbound);
        for _ in self.config.max_outbound..staying {
            if let Some(id) = self.eviction.least_useful_outbound(&self.peers) {
                tracing::debug!(%id, "one outbound peer too many");
                self.peers.close(id, DoneReason::Evicted, effects);
            }
        }
    }
}
