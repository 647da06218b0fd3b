//! Checks every ten seconds that sync gets on, and acts when it does not.
//!
//! The rules that uphold S1 and S3 act on events: a peer left, a block came, a timer
//! fired. One forgotten case among them and a node sits idle beside peers that have
//! what it lacks. So the watchdog follows no event. It looks at the settled state
//! alone: what peers have shown, which requests are outstanding, what the kernel has.
//!
//! # What it looks for
//!
//! *Broken guards*, which only a bug of ours can cause; each counts in
//! [`WatchdogState::fired`] and is repaired:
//!
//! * a block asked of a connection that is gone, or of none;
//! * a peer that could be the source, and no source (S3);
//! * a peer that has shown more work than our tip, that keeps the first block which is
//!   missing on *its* chain and is late with none, and neither is it asked for anything nor
//!   anybody for that block (S1). A hold by trouble of our own and blocks with the kernel
//!   are reasons, and queryable ones. A `getheaders` on its way, though a request, is none,
//!   nor is what others were asked: who has shown more is to be asked for blocks;
//! * a peer that announced a block which we do not know, and for two minutes was not asked
//!   what leads to it (S1: it would show a chain if it were asked);
//! * a source that for two minutes has brought nothing new, and no other peer was asked;
//! * for two minutes no peer was asked for headers, and no news.
//!
//! *Bad company*, where nothing is wrong with us but other peers may help; it counts in
//! [`WatchdogState::sought_peers`]:
//!
//! * no connected peer has what is missing;
//! * the blocks asked for are withheld for two minutes, and no other peer has them;
//! * for two minutes not a word from anybody, though something is asked;
//! * on a network that is always mined no new tip for three block intervals, as Core's
//!   `TipMayBeStale`. One block in twenty takes that long, so this is a precaution.
//!
//! # When it acts
//!
//! A guard must be found broken by two checks in a row, with no progress between them.
//! One look may fall between two events that belong together; two, ten seconds
//! apart, cannot. S1 so is restored within 20 s; it asks for 120. A check that
//! comes late says that we were held up; it starts the count again.

mod look;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use bitcoin::BlockHash;

use crate::lifecycle::ConnId;
use crate::text::passed;
use crate::time::Now;

use super::parts::Parts;
use super::state::{Alarm, WatchdogState};

/// Time between two checks while there are peers.
pub(super) const CHECK: Duration = Duration::from_secs(10);
/// Checks in a row that must find the same kind of trouble.
const CHECKS_TO_ACT: u32 = 2;
/// Time after a repair until the next one, so that a trouble which it does not end does
/// not rotate the source for ever. Below S1's 120 s.
const REPAIR_PAUSE: Duration = Duration::from_secs(60);
/// Time after more peers were wanted until they are again. Core `STALE_CHECK_INTERVAL`.
pub(super) const SEEK_PAUSE: Duration = Duration::from_secs(600);
/// Time without a word from any peer, or without a question to any, that is too long:
/// Core's `HEADERS_RESPONSE_TIME` and twice our own pause between questions. A block of
/// 4 MB comes within it on 33 KB/s.
pub(super) const SILENCE: Duration = Duration::from_secs(120);
/// Block intervals without a new tip that make it doubtful. Core `TipMayBeStale`.
const STALE_INTERVALS: u32 = 3;
/// The same finding is logged once in that time.
const LOG_PAUSE: Duration = Duration::from_secs(600);

/// See the module.
///
/// Invariant: it changes nothing but what it remembers itself. What it finds is acted upon by
/// [`SyncManager`](super::SyncManager).
#[derive(Clone, Debug, Default)]
pub(super) struct Watchdog {
    /// What the last check found, and how many in a row did.
    suspicion: Option<(Kind, u32)>,
    progress: Progress,
    /// How far low-work headers of any peer ever came.
    furthest: u64,
    /// When a message about sync last came from anybody, monotonic.
    heard: Duration,
    repaired: Option<Duration>,
    sought: Option<Duration>,
    logged: BTreeMap<Kind, Duration>,
    counts: WatchdogState,
}

/// What changes when sync gets on, and since when it has not.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    mark: Option<(BlockHash, BlockHash, u64)>,
    since: Duration,
}

/// What is wrong. See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    RequestLost,
    NoSource,
    NothingAsked,
    AnnouncementForgotten,
    UselessSource,
    HeadersForgotten,
    Unserved,
    Withheld,
    AllSilent,
    StaleTip,
}

/// What is to be done about a finding, beside the wish for more peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remedy {
    /// Put sync on its feet.
    Repair,
    /// Ask all peers for headers.
    AskEverybody,
    /// Nothing is wrong with us.
    MorePeers,
}

/// A kind of trouble with its particulars.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    RequestLost(BlockHash, ConnId),
    NoSource(ConnId),
    NothingAsked(ConnId, u32),
    AnnouncementForgotten(ConnId, Duration),
    UselessSource(ConnId, Duration),
    HeadersForgotten(Duration),
    Unserved(ConnId, u32),
    Withheld(ConnId, Duration),
    AllSilent(Duration),
    StaleTip(Duration),
}

impl Finding {
    pub(super) fn remedy(self) -> Remedy {
        match self.kind() {
            Kind::RequestLost
            | Kind::NoSource
            | Kind::NothingAsked
            | Kind::AnnouncementForgotten
            | Kind::UselessSource
            | Kind::HeadersForgotten => Remedy::Repair,
            Kind::StaleTip => Remedy::AskEverybody,
            Kind::Unserved | Kind::Withheld | Kind::AllSilent => Remedy::MorePeers,
        }
    }

    fn kind(self) -> Kind {
        match self {
            Self::RequestLost(..) => Kind::RequestLost,
            Self::NoSource(_) => Kind::NoSource,
            Self::NothingAsked(..) => Kind::NothingAsked,
            Self::AnnouncementForgotten(..) => Kind::AnnouncementForgotten,
            Self::UselessSource(..) => Kind::UselessSource,
            Self::HeadersForgotten(_) => Kind::HeadersForgotten,
            Self::Unserved(..) => Kind::Unserved,
            Self::Withheld(..) => Kind::Withheld,
            Self::AllSilent(_) => Kind::AllSilent,
            Self::StaleTip(_) => Kind::StaleTip,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RequestLost(hash, id) => {
                write!(f, "block {hash} was asked of {id}, which cannot answer")
            }
            Self::NoSource(id) => write!(f, "{id} could be the source and there is none"),
            Self::NothingAsked(id, height) => {
                write!(
                    f,
                    "{id} has block {height} that is missing, and none was asked for"
                )
            }
            Self::AnnouncementForgotten(id, since) => {
                write!(
                    f,
                    "{id} announced an unknown block {} ago and was not asked for it",
                    passed(*since)
                )
            }
            Self::UselessSource(id, since) => {
                write!(
                    f,
                    "{id} brought nothing new for {} and no other peer was asked",
                    passed(*since)
                )
            }
            Self::HeadersForgotten(since) => {
                write!(f, "no peer was asked for headers for {}", passed(*since))
            }
            Self::Unserved(id, height) => {
                write!(
                    f,
                    "{id} has shown more, and no peer can give block {height}"
                )
            }
            Self::Withheld(id, since) => {
                write!(
                    f,
                    "{id} withholds blocks for {}, and no other peer has them",
                    passed(*since)
                )
            }
            Self::AllSilent(since) => write!(f, "no peer sent anything for {}", passed(*since)),
            Self::StaleTip(since) => write!(f, "no new block for {}", passed(*since)),
        }
    }
}

impl Watchdog {
    /// A message about sync came from a peer.
    pub(super) fn hear(&mut self, now: Duration) {
        self.heard = now;
    }

    /// We were held up: nothing that was seen before proves anything now.
    pub(super) fn extend_deadlines(&mut self, late: Duration) {
        self.suspicion = None;
        self.heard += late;
        self.progress.since += late;
    }

    /// A peer has come to a node that had none.
    pub(super) fn start(&mut self, now: Duration) {
        self.suspicion = None;
        self.heard = now;
        self.progress.since = now;
    }

    /// Looks at the settled state. What is to be acted upon, if anything is.
    pub(super) fn check(&mut self, parts: &Parts, now: Duration) -> Option<Finding> {
        self.counts.checks += 1;
        self.mark_progress(parts, now);
        let Some(finding) = self.find(parts, now) else {
            self.suspicion = None;
            return None;
        };
        let pause = match finding.remedy() {
            Remedy::Repair => self.repaired.map(|at| at + REPAIR_PAUSE),
            Remedy::AskEverybody | Remedy::MorePeers => self.sought.map(|at| at + SEEK_PAUSE),
        };
        let times = self.suspect(finding.kind());
        if times < CHECKS_TO_ACT || pause.is_some_and(|until| now < until) {
            return None;
        }
        self.suspicion = None;
        Some(finding)
    }

    /// What was done about a finding.
    pub(super) fn acted(&mut self, now: Now, finding: Finding, action: String) {
        let reason = finding.to_string();
        let first = self.is_first(finding.kind(), now.mono);
        match finding.remedy() {
            Remedy::Repair => {
                self.counts.fired += 1;
                self.repaired = Some(now.mono);
                if first {
                    tracing::warn!(reason, action, "watchdog: sync did not get on");
                }
            }
            Remedy::AskEverybody | Remedy::MorePeers => {
                self.counts.sought_peers += 1;
                self.sought = Some(now.mono);
                if first {
                    tracing::info!(reason, action, "watchdog: looking for other peers");
                }
            }
        }
        self.counts.last = Some(Alarm {
            at: now.unix,
            reason,
            action,
        });
    }

    /// How often this kind was found in a row, this time included.
    fn suspect(&mut self, kind: Kind) -> u32 {
        let before = match self.suspicion {
            Some((seen, times)) if seen == kind => times,
            Some(_) | None => 0,
        };
        self.suspicion = Some((kind, before + 1));
        before + 1
    }

    /// Whether this is to be logged, rather than repeated.
    fn is_first(&mut self, kind: Kind, now: Duration) -> bool {
        let last = self.logged.get(&kind);
        let first = last.is_none_or(|at| now >= *at + LOG_PAUSE);
        if first {
            self.logged.insert(kind, now);
        }
        first
    }

    /// Notes since when the chain, its headers, and those that are only looked at stand still.
    fn mark_progress(&mut self, parts: &Parts, now: Duration) {
        // The furthest ever: to begin again and again is no progress.
        self.furthest = self.furthest.max(parts.headers.furthest_low_work());
        let tree = parts.tree();
        let mark = (tree.tip().hash, tree.best_header().hash, self.furthest);
        if self.progress.mark != Some(mark) {
            self.progress = Progress {
                mark: Some(mark),
                since: now,
            };
            self.suspicion = None;
        }
    }
}

/// What is shown and compared.
impl Watchdog {
    pub(super) fn state(&self) -> WatchdogState {
        self.counts.clone()
    }

    /// What it found last, by number, and how often in a row.
    pub(super) fn suspicion(&self) -> Option<(usize, u32)> {
        self.suspicion.map(|(kind, times)| (kind as usize, times))
    }

    /// When a message about sync last came, monotonic.
    pub(super) fn heard(&self) -> Duration {
        self.heard
    }

    /// Whether it has looked at the chain, and since when that stands still, monotonic.
    pub(super) fn standstill(&self) -> (bool, Duration) {
        (self.progress.mark.is_some(), self.progress.since)
    }

    /// When it last found what only a bug of ours can break, monotonic.
    pub(super) fn repaired(&self) -> Option<Duration> {
        self.repaired
    }

    /// When it last wanted other peers, monotonic.
    pub(super) fn sought(&self) -> Option<Duration> {
        self.sought
    }
}

#[cfg(test)]
mod tests {
    use handfast_wire::Network;

    use super::super::SyncConfig;
    use super::*;
    use crate::sync::header_sync::tests::version_info;
    use crate::testing::chains::Blocks;

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// A peer that has shown more than we have, and that nothing is asked of.
    fn forgotten() -> (Parts, Watchdog) {
        let config = SyncConfig::new(&Network::Regtest, None, 1);
        let theirs = Blocks::new(5, 1);
        let mut tree = Blocks::new(0, 0).tree();
        for header in theirs.headers() {
            tree.insert(header).expect("its parent is known");
        }
        let mut parts = Parts::new(config, tree);
        let id = ConnId(1);
        let intro = version_info(id, crate::lifecycle::Direction::Outbound);
        parts.peers.added(&intro);
        parts.known.added(id);
        parts.known.learn(parts.chain.tree(), id, theirs.tip_hash());
        let mut watchdog = Watchdog::default();
        watchdog.start(secs(0));
        (parts, watchdog)
    }

    #[test]
    fn a_guard_must_be_found_broken_by_two_looks_in_a_row_and_is_repaired_once_a_minute() {
        let (parts, mut watchdog) = forgotten();
        let mut acted = Vec::new();
        for look in 1..=20 {
            let now = secs(look * 10);
            if let Some(finding) = watchdog.check(&parts, now) {
                assert_eq!(finding, Finding::NothingAsked(ConnId(1), 1));
                assert_eq!(finding.remedy(), Remedy::Repair);
                let now = Now { mono: now, unix: 0 };
                watchdog.acted(now, finding, "nothing".into());
                acted.push(look * 10);
            }
        }
        assert_eq!(acted, [20, 80, 140, 200]);
        let state = watchdog.state();
        assert_eq!((state.checks, state.fired, state.sought_peers), (20, 4, 0));
    }

    #[test]
    fn time_in_which_we_were_held_up_begins_the_count_again() {
        let (parts, mut watchdog) = forgotten();
        assert_eq!(watchdog.check(&parts, secs(10)), None);
        watchdog.extend_deadlines(secs(90));
        assert_eq!(watchdog.check(&parts, secs(110)), None);
        assert!(watchdog.check(&parts, secs(120)).is_some());
    }
}
