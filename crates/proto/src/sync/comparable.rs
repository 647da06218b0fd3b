//! What header sync will do next, in a form that can be compared.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::lifecycle::{ConnId, Direction};

use super::HeadersAsk;
use super::chain_sync::ChainSync;
use super::manager::SyncManager;

/// Everything on which header sync decides while no header, block or kernel event comes:
/// two machines on the same tree that agree in it and in
/// [`SyncLifecycle`](super::SyncLifecycle) treat `Added`, `Done`, an empty or broken
/// `headers` and `Tick` alike.
///
/// For a model checker, which must tell states apart. Left out is what is only shown
/// (reasons, the history of sources) and what follows from the headers known.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HeaderPlan {
    /// How each peer stands.
    pub peers: BTreeMap<ConnId, PeerPlan>,
    /// When one more peer is asked beside a silent source, monotonic.
    pub next_hedge: Option<Duration>,
    /// How often others were asked beside it since headers last came.
    pub hedges: u32,
    /// When somebody is asked for news, monotonic.
    pub next_tip_check: Option<Duration>,
    /// No later than the first timer, the watchdog's apart; monotonic.
    pub wake: Option<Duration>,
    /// What the watchdog is about to do.
    pub watchdog: WatchdogPlan,
}

/// How the watchdog stands. All times are monotonic.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WatchdogPlan {
    /// When it looks again.
    pub next_check: Option<Duration>,
    /// What it found, by number, and how often in a row.
    pub suspicion: Option<(usize, u32)>,
    /// When a message about sync last came.
    pub heard: Duration,
    /// Whether it has looked at the chain, and since when that stands still.
    pub still: (bool, Duration),
    /// When it last repaired what only a bug of ours can break.
    pub repaired: Option<Duration>,
    /// When it last wanted other peers.
    pub sought: Option<Duration>,
}

/// How one peer stands in header sync.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PeerPlan {
    /// Who dialled: peers that we chose are preferred, and judged for lagging.
    pub direction: Direction,
    /// What it was asked and has not answered, and when.
    pub asked: Option<(HeadersAsk, Duration)>,
    /// When it was last asked.
    pub last_asked: Duration,
    /// Its headers were followed to their end.
    pub ended: bool,
    /// Until when it may not be the source.
    pub aside: Option<Duration>,
    /// Low-work chains of it that were given up.
    pub given_up: u32,
    /// Since when an announcement of it waits to be asked about.
    pub unasked_announcement: Option<Duration>,
    /// It has answered a `getheaders`.
    pub answered: bool,
    /// It was level with our chain once, and is never given up for lagging.
    pub protected: bool,
    /// Until when it has to reach our tip, and whether it was asked once more.
    pub behind: Option<(Duration, bool)>,
}

impl SyncManager {
    /// See [`HeaderPlan`].
    #[must_use]
    pub fn header_plan(&self) -> HeaderPlan {
        let (next_hedge, next_tip_check) = self.headers.due();
        let peers = self.peers.iter().map(|(id, peer)| {
            let headers = &peer.headers;
            let (protected, behind) = match peer.chain_sync {
                ChainSync::Level => (false, None),
                ChainSync::Protected => (true, None),
                ChainSync::Behind(behind) => (false, Some((behind.until, behind.asked))),
            };
            let plan = PeerPlan {
                direction: peer.direction,
                asked: headers.ask.map(|ask| (ask.kind, ask.at)),
                last_asked: headers.last_asked,
                ended: headers.ended,
                aside: headers.aside.map(|aside| aside.until),
                given_up: headers.given_up,
                unasked_announcement: headers.unasked_announcement,
                answered: headers.answered,
                protected,
                behind,
            };
            (*id, plan)
        });
        HeaderPlan {
            peers: peers.collect(),
            next_hedge,
            hedges: self.headers.hedges(),
            next_tip_check,
            wake: self.wake,
            watchdog: self.watchdog.plan(),
        }
    }
}
