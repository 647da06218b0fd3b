//! What is decided next without a message, and when: what a quiet node waits for.

use std::time::Duration;

use crate::lifecycle::{ConnId, Direction};

use super::HeadersAsk;
use super::download::{Then, View};
use super::known_work::Unavailable;
use super::parts::Parts;
use super::state::Deadline;
use super::timers::SyncTimer;

/// The weight of a deadline: a quiet node shows the one with the least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Weight {
    /// What becomes of a peer that does not answer, and of what was asked of it.
    Unanswered,
    /// Something is tried again.
    Again,
    /// Peers are asked whether there is news.
    News,
    /// Sync looks after itself.
    Routine,
}

type Pending = (Weight, Duration, String);

/// The deadline that tells most, the earliest of its weight: a check that happens every
/// few seconds would hide that a peer is about to be disconnected.
/// [`SyncManager::deadline`](super::SyncManager::deadline) may be earlier.
pub(super) fn next_deadline(parts: &Parts, now: Duration) -> Option<Deadline> {
    let timers = parts.timers.iter();
    let timers = timers.filter_map(|(timer, at)| {
        let (weight, what) = told(parts, *timer)?;
        Some((weight, at, what))
    });
    let view = View {
        tree: parts.tree(),
        peers: &parts.peers,
        known: &parts.known,
        minimum_work: parts.config.minimum_work,
        now,
    };
    let peers = parts.peers.iter_live();
    let blocks = peers.flat_map(|(id, _)| blocks_of(parts, &view, id));
    let (_, at, what) = timers.chain(blocks).chain(hold(parts)).min()?;
    Some(Deadline {
        left: at.saturating_sub(now),
        what,
    })
}

/// What a timer means to a reader.
fn told(parts: &Parts, timer: SyncTimer) -> Option<(Weight, String)> {
    let told = match timer {
        SyncTimer::HeadersAnswer(id) => {
            let direction = parts.peers.live(id)?.direction();
            let then = match (direction, parts.headers.ask_of(id)?.kind) {
                (Direction::Outbound | Direction::Manual, HeadersAsk::Sync) => {
                    "is disconnected, if another can be asked,"
                }
                (Direction::Inbound, HeadersAsk::Sync) => "is the source no more",
                _ => "is taken to have no news",
            };
            let what = format!("{id} {then} unless it answers getheaders");
            (Weight::Unanswered, what)
        }
        SyncTimer::CoolDown(id) => (Weight::Again, format!("{id} may be the source again")),
        SyncTimer::Hedge => {
            let id = parts.headers.source_id()?;
            let ask = parts.headers.ask_of(id)?;
            // Of one that is asked for news alone no answer is owed.
            (ask.kind == HeadersAsk::Sync).then_some(())?;
            parts.headers.may_be_asked_beside(&parts.peers).next()?;
            let what = format!("another peer is asked beside {id}");
            (Weight::Unanswered, what)
        }
        SyncTimer::TipCheck => {
            parts.headers.next_for_news(&parts.peers)?;
            (Weight::News, "a peer is asked for new blocks".into())
        }
        SyncTimer::Retry(id) => {
            let why = match parts.known.retry(id)?.why {
                Unavailable::Lacked => "it lacked",
                Unavailable::Unjudged => "was not judged",
                // When the clock allows it, which the monotonic one does not tell.
                Unavailable::TooNew(_) => return None,
            };
            let what = format!("{id} is asked again for a block that {why}");
            (Weight::Again, what)
        }
        SyncTimer::ProbeAnswer(id) => {
            let what = format!("{id} is taken to lack what it was probed for");
            (Weight::Unanswered, what)
        }
        SyncTimer::Watchdog if parts.peers.is_empty() => return None,
        SyncTimer::Watchdog => (Weight::Routine, "sync is checked for stalls".into()),
        // Only another look: what follows from it is shown below, or nothing may follow.
        SyncTimer::HeadersFromSource
        | SyncTimer::ProbeAgain(_)
        | SyncTimer::BlocksAnswer
        | SyncTimer::LatePeers
        | SyncTimer::AskLateAgain
        | SyncTimer::HoldIsOver => return None,
    };
    Some(told)
}

fn hold(parts: &Parts) -> Option<Pending> {
    let (at, why) = parts.download.hold()?;
    let what = format!("blocks are asked for again after: {why}");
    Some((Weight::Unanswered, *at, what))
}

/// What becomes of a peer that does not deliver, or stays behind our chain.
fn blocks_of(parts: &Parts, view: &View<'_>, id: ConnId) -> Vec<Pending> {
    let mut due = Vec::new();
    if let Some((at, then)) = parts.download.foretell(view, id) {
        let what = match then {
            Then::OthersAreAsked => {
                format!("others are asked for the blocks that {id} has not delivered")
            }
            Then::IsAskedAgain => format!("{id} is asked again for a block that is late"),
            Then::IsDisconnected => format!("{id} is disconnected unless it delivers a block"),
        };
        due.push((Weight::Unanswered, at, what));
    }
    match parts.chain_sync.behind(id) {
        None => {}
        Some((until, true)) => {
            let what = format!("{id} is disconnected unless it has reached our tip");
            due.push((Weight::Again, until, what));
        }
        Some((until, false)) => {
            let what = format!("{id} is asked once more for the blocks that it is behind");
            due.push((Weight::Again, until, what));
        }
    }
    due
}
