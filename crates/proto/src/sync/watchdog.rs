//! Checks every ten seconds that sync gets on, and acts when it does not.
//!
//! The rules that uphold S1 and S3 act on events: a peer left, a block came, a timer
//! fired. One forgotten case among them and a node sits idle beside peers that have
//! what it lacks. So the watchdog follows no event. It looks at the settled state
//! alone: what peers have shown, what is asked of whom, what the kernel has.
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
//! * a source that for two minutes has brought nothing new, and nobody else asked;
//! * for two minutes nobody asked for headers, and no news.
//!
//! *Bad company*, where nothing is wrong with us but other peers may help; it counts in
//! [`WatchdogState::sought_peers`]:
//!
//! * what is missing is kept by no peer that there is;
//! * the blocks asked for are withheld for two minutes, and nobody else has them;
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

use super::Effect;
use super::comparable::WatchdogPlan;
use super::known_work::FIRST_PROBE_PAUSE;
use super::manager::{Step, SyncManager};
use super::peer::Peer;
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
#[derive(Clone, Debug, Default)]
pub(super) struct Watchdog {
    /// Monotonic; `None` without peers, so that a node alone is not woken.
    next_check: Option<Duration>,
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

impl Kind {
    /// Whether it is a bug of ours, to be repaired.
    fn is_broken_guard(self) -> bool {
        match self {
            Self::RequestLost
            | Self::NoSource
            | Self::NothingAsked
            | Self::AnnouncementForgotten
            | Self::UselessSource
            | Self::HeadersForgotten => true,
            Self::Unserved | Self::Withheld | Self::AllSilent | Self::StaleTip => false,
        }
    }
}

/// A kind of trouble with its particulars.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Finding {
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
            Self::AllSilent(since) => write!(f, "no peer said anything for {}", passed(*since)),
            Self::StaleTip(since) => write!(f, "no new block for {}", passed(*since)),
        }
    }
}

impl Watchdog {
    pub(super) fn next_check(&self) -> Option<Duration> {
        self.next_check
    }

    pub(super) fn is_due(&self, now: Duration) -> bool {
        self.next_check.is_some_and(|due| due <= now)
    }

    /// A message about sync came from a peer.
    pub(super) fn hear(&mut self, now: Duration) {
        self.heard = now;
    }

    /// We were held up: nothing that was seen before proves anything now.
    pub(super) fn pardon(&mut self, late: Duration) {
        self.suspicion = None;
        self.heard += late;
        self.progress.since += late;
    }

    /// A peer has come.
    pub(super) fn start(&mut self, now: Duration) {
        if self.next_check.is_none() {
            self.next_check = Some(now + CHECK);
            self.suspicion = None;
            self.heard = now;
            self.progress.since = now;
        }
    }

    pub(super) fn state(&self) -> WatchdogState {
        self.counts.clone()
    }

    /// All that its next check depends on, apart from peers and chain.
    pub(super) fn plan(&self) -> WatchdogPlan {
        WatchdogPlan {
            next_check: self.next_check,
            suspicion: self.suspicion.map(|(kind, times)| (kind as usize, times)),
            heard: self.heard,
            still: (self.progress.mark.is_some(), self.progress.since),
            repaired: self.repaired,
            sought: self.sought,
        }
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
    fn tells(&mut self, kind: Kind, now: Duration) -> bool {
        let silent = self
            .logged
            .get(&kind)
            .is_some_and(|at| now < *at + LOG_PAUSE);
        if !silent {
            self.logged.insert(kind, now);
        }
        !silent
    }
}

impl SyncManager {
    /// Looks, when it is time to. The step has settled. True when something was changed.
    pub(super) fn watch(&mut self, step: &mut Step) -> bool {
        let now = step.now.mono;
        if !self.watchdog.is_due(now) {
            return false;
        }
        self.watchdog.next_check = (!self.peers.is_empty()).then_some(now + CHECK);
        self.watchdog.counts.checks += 1;
        self.mark_progress(now);
        let Some(finding) = self.find(now) else {
            self.watchdog.suspicion = None;
            return false;
        };
        let kind = finding.kind();
        let pause = if kind.is_broken_guard() {
            self.watchdog.repaired.map(|at| at + REPAIR_PAUSE)
        } else {
            self.watchdog.sought.map(|at| at + SEEK_PAUSE)
        };
        if self.watchdog.suspect(kind) < CHECKS_TO_ACT || pause.is_some_and(|until| now < until) {
            return false;
        }
        self.watchdog.suspicion = None;
        self.act(step, finding);
        true
    }

    /// Notes since when the chain, its headers, and those that are only looked at stand still.
    fn mark_progress(&mut self, now: Duration) {
        let low_work = self
            .peers
            .values()
            .filter_map(|peer| peer.headers.low_work.as_ref());
        let looked_at = low_work.map(|low_work| {
            let second = u64::from(low_work.redownloading());
            second << 32 | u64::from(low_work.height())
        });
        // The furthest ever: to begin again and again is no progress.
        let looked_at = looked_at.max().unwrap_or(0).max(self.watchdog.furthest);
        self.watchdog.furthest = looked_at;
        let mark = (
            self.tree.tip().hash,
            self.tree.best_header().hash,
            looked_at,
        );
        if self.watchdog.progress.mark != Some(mark) {
            self.watchdog.progress = Progress {
                mark: Some(mark),
                since: now,
            };
            self.watchdog.suspicion = None;
        }
    }

    fn act(&mut self, step: &mut Step, finding: Finding) {
        let now = step.now.mono;
        let reason = finding.to_string();
        let kind = finding.kind();
        let action = match kind {
            Kind::RequestLost
            | Kind::NoSource
            | Kind::NothingAsked
            | Kind::AnnouncementForgotten
            | Kind::UselessSource
            | Kind::HeadersForgotten => self.repair(step, &reason),
            Kind::StaleTip => {
                self.ask_everybody(step);
                "asked all for headers; more peers wanted".to_owned()
            }
            Kind::Unserved | Kind::Withheld | Kind::AllSilent => "more peers wanted".to_owned(),
        };
        if kind.is_broken_guard() {
            self.watchdog.counts.fired += 1;
            self.watchdog.repaired = Some(now);
        } else {
            self.watchdog.counts.sought_peers += 1;
            self.watchdog.sought = Some(now);
        }
        step.effects.push(Effect::WantPeers);
        if self.watchdog.tells(kind, now) {
            if kind.is_broken_guard() {
                tracing::warn!(reason, action, "watchdog: sync did not get on");
            } else {
                tracing::info!(reason, action, "watchdog: looking for other peers");
            }
        }
        self.watchdog.counts.last = Some(Alarm {
            at: step.now.unix,
            reason,
            action,
        });
    }

    /// Puts sync on its feet without relying on what brought it down: requests that
    /// nobody can answer are dropped, nobody counts as late, plans are made anew, another
    /// source is chosen. `settle` then asks.
    fn repair(&mut self, step: &mut Step, why: &str) -> String {
        self.download.repair();
        let mut owed = Vec::new();
        for (id, peer) in &mut self.peers {
            peer.known.probe_pause = FIRST_PROBE_PAUSE;
            peer.known.next_probe = Duration::ZERO;
            if peer.headers.unasked_announcement.take().is_some() {
                owed.push(*id);
            }
        }
        for id in owed {
            self.live(id).headers.ask = None;
            self.ask_for_announced(step, id);
        }
        let before = self.sync_peer();
        let can_lead = |id: &ConnId| self.peers.get(id).is_some_and(Peer::eligible);
        let others = self
            .peers
            .iter()
            .any(|(id, peer)| Some(*id) != before && peer.eligible());
        match before.filter(can_lead) {
            Some(id) if others => {
                self.set_aside(step, id, "sync did not get on with it", true);
            }
            Some(_) | None => self.choose_source(step, why),
        }
        match (before, self.sync_peer()) {
            (Some(before), Some(after)) if before != after => {
                format!("replanned; source {before} -> {after}; more peers wanted")
            }
            (_, Some(source)) => format!("replanned; asked {source}; more peers wanted"),
            (_, None) => "replanned; more peers wanted".to_owned(),
        }
    }
}
