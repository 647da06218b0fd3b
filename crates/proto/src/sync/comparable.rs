//! What the machine will do next, in forms that can be compared: for a model checker, which
//! must tell states apart. No rule looks at it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::lifecycle::{ConnId, Direction, Ledger};

use super::HeadersAsk;
use super::manager::SyncManager;
use super::timers::SyncTimer;
use super::watchdog::Watchdog;

/// What the lifecycle invariants (L1-L4, S3) are about, without headers, blocks and
/// times: two machines that agree in it do the same with the next `Added` or `Done`.
/// For a model checker, which needs states that can be compared.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SyncLifecycle {
    /// Peers that were added and not done, and whose end was not ordered.
    pub live: BTreeSet<ConnId>,
    /// Peers whose end was ordered; their `Done` is awaited.
    pub leaving: BTreeSet<ConnId>,
    /// Live peers that may not become the source now.
    pub ineligible: BTreeSet<ConnId>,
    /// Live peers that have answered a `getheaders`: preferred as the source.
    pub answered: BTreeSet<ConnId>,
    /// Live peers with an unanswered `getheaders`, probes apart.
    pub asked: BTreeSet<ConnId>,
    /// The sync peer.
    pub source: Option<ConnId>,
    /// The manager's own account of the invariants.
    pub ledger: Ledger,
}

/// Everything on which header sync decides while no header, block or kernel event comes:
/// two machines on the same tree that agree in it and in
/// [`SyncLifecycle`] treat `Added`, `Done`, an empty or broken
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
    /// When a peer is asked for news, monotonic.
    pub next_tip_check: Option<Duration>,
    /// The first timer, those of the watchdog and of block download apart; monotonic.
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
    pub cool_down: Option<Duration>,
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

impl SyncLifecycle {
    /// The state of this machine.
    #[must_use]
    pub fn of(machine: &SyncManager) -> Self {
        let (peers, headers) = (&machine.parts.peers, &machine.parts.headers);
        let live: BTreeSet<ConnId> = peers.iter_live().map(|(id, _)| id).collect();
        let those = |which: &dyn Fn(ConnId) -> bool| {
            let chosen = live.iter().copied().filter(|id| which(*id));
            chosen.collect()
        };
        Self {
            leaving: peers
                .iter()
                .filter(|(_, peer)| peer.is_leaving())
                .map(|(id, _)| id)
                .collect(),
            ineligible: those(&|id| !headers.is_eligible(peers, id)),
            answered: those(&|id| headers.has_answered(id)),
            asked: those(&|id| headers.ask_of(id).is_some()),
            source: headers.source_id(),
            ledger: machine.ledger.clone(),
            live,
        }
    }
}

impl HeaderPlan {
    /// The plan of this machine.
    #[must_use]
    pub fn of(machine: &SyncManager) -> Self {
        let parts = &machine.parts;
        let peers = parts.peers.iter().map(|(id, peer)| {
            let (headers, chain_sync) = (&parts.headers, &parts.chain_sync);
            let plan = PeerPlan {
                direction: peer.direction(),
                asked: headers.ask_of(id).map(|ask| (ask.kind, ask.at)),
                last_asked: headers.last_asked(id),
                ended: headers.has_ended(id),
                cool_down: headers.cool_down_of(id).map(|cool_down| cool_down.until),
                given_up: headers.given_up(id),
                unasked_announcement: headers.unasked_announcement(id),
                answered: headers.has_answered(id),
                protected: chain_sync.is_protected(id),
                behind: chain_sync.behind(id),
            };
            (id, plan)
        });
        let timers = parts.timers.iter();
        let of_headers = timers.filter(|(timer, _)| match timer {
            SyncTimer::BlocksAnswer
            | SyncTimer::LatePeers
            | SyncTimer::AskLateAgain
            | SyncTimer::HoldIsOver
            | SyncTimer::Watchdog => false,
            SyncTimer::HeadersAnswer(_)
            | SyncTimer::CoolDown(_)
            | SyncTimer::HeadersFromSource
            | SyncTimer::Hedge
            | SyncTimer::TipCheck
            | SyncTimer::Retry(_)
            | SyncTimer::ProbeAnswer(_)
            | SyncTimer::ProbeAgain(_) => true,
        });
        Self {
            peers: peers.collect(),
            next_hedge: parts.timers.at(&SyncTimer::Hedge),
            hedges: parts.headers.hedges(),
            next_tip_check: parts.timers.at(&SyncTimer::TipCheck),
            wake: of_headers.map(|(_, at)| at).min(),
            watchdog: WatchdogPlan::of(&machine.watchdog, parts.timers.at(&SyncTimer::Watchdog)),
        }
    }
}

impl WatchdogPlan {
    fn of(watchdog: &Watchdog, next_check: Option<Duration>) -> Self {
        let (mark, since) = watchdog.standstill();
        Self {
            next_check,
            suspicion: watchdog.suspicion(),
            heard: watchdog.heard(),
            still: (mark, since),
            repaired: watchdog.repaired(),
            sought: watchdog.sought(),
        }
    }
}
