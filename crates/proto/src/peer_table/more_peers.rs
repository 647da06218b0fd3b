//! More peers than usual, while sync makes no progress with its peers.

use std::time::Duration;

use crate::time::Now;

/// Automatic outbound peers beyond [`super::PeerTableConfig::max_outbound`] while more are wanted.
/// 1, as in Core when its tip may be stale; the node reserves a slot for it.
pub const EXTRA_OUTBOUND: usize = 1;
/// How long more are wanted after sync last requested them. 10 min; Core `STALE_CHECK_INTERVAL`.
pub const EXTRA_FOR: Duration = Duration::from_secs(10 * 60);
/// Least time between two retries of seeds and manual peers.
const HURRY_INTERVAL: Duration = Duration::from_secs(60);

/// Whether more peers are wanted. Invariant: it expires, and seeds and manual peers are retried
/// once a minute at most.
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

    /// Sync makes no progress with its peers. However often it reports that, there is one more
    /// outbound peer. Returns whether seeds and manual peers must be retried.
    pub(super) fn want(&mut self, now: Now) -> bool {
        self.until = Some(now.mono.saturating_add(EXTRA_FOR));
        let again = |at: Duration| now.mono < at.saturating_add(HURRY_INTERVAL);
        if self.hurried_at.is_some_and(again) {
            return false;
        }
        self.hurried_at = Some(now.mono);
        true
    }

    /// Most automatic outbound peers now, where `usual` are allowed. A table without outbound peers
    /// gets none.
    pub(super) fn limit(&self, usual: usize) -> usize {
        let extra = usual > 0 && self.until.is_some();
        usual + if extra { EXTRA_OUTBOUND } else { 0 }
    }

    /// Whether the time has expired, once: back to the usual number.
    pub(super) fn is_over(&mut self, now: Now) -> bool {
        self.until.take_if(|until| *until <= now.mono).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_more_peer_is_wanted_until_ten_minutes_after_the_last_request_of_sync() {
        let (mut more, now) = (MorePeers::default(), Now::default());
        assert!(more.want(now), "they are looked for at once");
        let later = now.after(HURRY_INTERVAL / 2);
        assert!(!more.want(later), "and not again so soon");
        assert_eq!((more.limit(10), more.limit(0)), (11, 0));
        assert!(!more.is_over(now.after(EXTRA_FOR)));
        assert!(more.is_over(later.after(EXTRA_FOR)));
        assert_eq!((more.limit(10), more.due()), (10, None));
    }
}
