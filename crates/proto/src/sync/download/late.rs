//! Peers that are late with blocks.
//!
//! How long a block may be out before others are asked for it too:
//!
//! * Its holder has not delivered anything yet: [`GRACE`] and the time of a usual block.
//! * It has: its own timeout, or that of another who has the block and has delivered, if
//!   that is less. So a peer that is slow on purpose delays no other, and where all are slow
//!   because our own line is, no peer is asked twice. The timeout doubles (up to 64 s) when
//!   a block comes after all, and shrinks by 15 % with every block in time (down to 2 s).
//! * It has, and the block is one of the last of its chain: as long as one that has not, for
//!   the first [`FEW`]. At the tip a copy costs little, and a block that is late costs more.
//! * No other peer has it: it is waited for, and said so; a peer that comes and has it takes
//!   over at once. Disconnected after [`DOWNLOAD_TIMEOUT`].
//!
//! A late peer is asked for nothing until it delivers. When another delivers, it is
//! disconnected [`STALL_TIMEOUT`] and the time that a usual block takes on a slow line after
//! that. One that the operator named is asked for one block again then, and stays connected.
//!
//! # When all are late
//!
//! Late peers are asked for one block again after [`RETRY_PAUSE`] when no other peer has what is
//! missing, or who has it is late for [`STALL_TIMEOUT`]. It may be our own line that is down or slow, so that they stay; but
//! who has delivered nothing for [`DOWNLOAD_TIMEOUT`] is disconnected, manual or not. Being
//! asked again does not restart that time, and neither does the watchdog. Such requests keep
//! nothing going: sync is stalled until a block comes.
//!
//! What is to happen to a peer and when ([`BlockDownload::foretell`]) is computed by the functions
//! that the judges use, so that it is what happens.

use std::time::Duration;

use crate::lifecycle::ConnId;

use super::super::timers::{SyncTimer, Timers};
use super::pace::{Asked, STALL_TIMEOUT_MIN};
use super::{Action, BlockDownload, View};

/// Time for the first block of a peer, beside that of [`BYTES_PER_SECOND`].
pub(super) const GRACE: Duration = Duration::from_millis(300);
/// The line on which a usual block must come as the first of a peer, bytes a second.
const BYTES_PER_SECOND: usize = 1024 * 1024;
/// When a request is looked at for the first time.
pub(super) const FIRST_LOOK: Duration = GRACE;
/// Time for a peer that is late to deliver something.
pub(in crate::sync) const STALL_TIMEOUT: Duration = Duration::from_secs(60);
/// The slowest line on which a usual block must come in addition to that, bytes a second.
const SLOW_BYTES_PER_SECOND: usize = 25 * 1024;
/// Pause before late peers are asked again when no other peer can be.
pub(in crate::sync) const RETRY_PAUSE: Duration = Duration::from_secs(10);
/// Time without any delivery from the only peer that has the blocks. Core waits one
/// block interval too (`BLOCK_DOWNLOAD_TIMEOUT_BASE`).
pub(in crate::sync) const DOWNLOAD_TIMEOUT: Duration = Duration::from_secs(600);
/// Peers that are asked for a block one after the other, where they have delivered before:
/// that all of them are late is not because our own line is slow. Core asks three for a
/// block at the tip (`MAX_CMPCTBLOCKS_INFLIGHT_PER_BLOCK`).
pub(super) const FEW: usize = 3;
/// Blocks below the end of a chain that are at its tip.
const NEAR_THE_END: u32 = 1;
/// How often it is looked whether another peer has what a peer is late with.
const LATE_CHECK: Duration = Duration::from_millis(500);
/// Least time between two looks because of what peers have shown.
const LOOK_PAUSE: Duration = Duration::from_millis(100);

/// What happens to a peer that goes on delivering nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sync) enum Then {
    /// Others are asked for what it was asked for.
    OthersAreAsked,
    /// It is asked for a block again.
    IsAskedAgain,
    IsDisconnected,
}

/// Another who could be asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Helper {
    pub(super) proven: bool,
    timeout: Duration,
}

impl BlockDownload {
    /// Judges all whose time has come, at [`SyncTimer::BlocksAnswer`] and
    /// [`SyncTimer::LatePeers`].
    pub(in crate::sync) fn judge(
        &mut self,
        view: &View<'_>,
        timers: &mut Timers,
        actions: &mut Vec<Action>,
    ) {
        let ids: Vec<ConnId> = self.peers.keys().copied().collect();
        for id in ids {
            self.judge_waiting(view, timers, id, actions);
            self.judge_stalling(view, timers, id, actions);
        }
    }

    fn judge_waiting(
        &mut self,
        view: &View<'_>,
        timers: &mut Timers,
        id: ConnId,
        actions: &mut Vec<Action>,
    ) {
        let peer = &self.peers[&id];
        let Some((first, since)) = peer.asked().first().copied().zip(peer.waiting_since()) else {
            return;
        };
        let now = view.now;
        let earliest = since
            + match peer.is_proven() && !self.is_first_try_at_the_tip(id, &first) {
                true => STALL_TIMEOUT_MIN,
                false => self.grace(),
            };
        if now < peer.look_at.max(earliest) {
            return timers.hasten(SyncTimer::BlocksAnswer, peer.look_at.max(earliest));
        }
        let helper = self.helper(view, id, &first);
        let due = since + self.time_for(id, &first, helper);
        if now < due {
            return timers.hasten(SyncTimer::BlocksAnswer, due);
        }
        match helper {
            Some(_) => self.is_late(view, timers, id),
            None if now >= since + DOWNLOAD_TIMEOUT => {
                actions.push(Action::Disconnect(id, first.hash));
            }
            None => {
                let peer = self.peers.get_mut(&id).expect("looked up above");
                // As before, so that no peer is said to be late who has just been asked.
                peer.overdue = now >= since + peer.timeout();
                let look_at = now + LATE_CHECK;
                peer.look_at = look_at;
                timers.hasten(SyncTimer::BlocksAnswer, look_at);
            }
        }
    }

    /// How long this block, the first that the peer was asked for, may be out.
    fn time_for(&self, id: ConnId, first: &Asked, helper: Option<Helper>) -> Duration {
        let peer = &self.peers[&id];
        match helper {
            Some(_) if self.is_first_try_at_the_tip(id, first) => self.grace(),
            Some(helper) if helper.proven && peer.is_proven() => peer.timeout().min(helper.timeout),
            _ if !peer.is_proven() => self.grace(),
            _ => peer.timeout(),
        }
    }

    fn is_first_try_at_the_tip(&self, id: ConnId, asked: &Asked) -> bool {
        let flight = self.flights.get(&asked.hash);
        flight.map_or(0, |flight| flight.tries) < FEW && self.is_near_the_end(id, asked)
    }

    /// Whether the block is one of the last of the chain that its peer has shown.
    pub(super) fn is_near_the_end(&self, id: ConnId, asked: &Asked) -> bool {
        let peer = self.peers.get(&id);
        peer.is_some_and(|peer| peer.reach <= asked.height + NEAR_THE_END)
    }

    /// Time for the first block of a peer.
    fn grace(&self) -> Duration {
        GRACE + time_of(self.expected_block, BYTES_PER_SECOND)
    }

    /// Others are asked for what the peer has not delivered, as far as they have it.
    fn is_late(&mut self, view: &View<'_>, timers: &mut Timers, id: ConnId) {
        let since = self.peers[&id].waiting_since().unwrap_or(view.now);
        for asked in self.peers[&id].asked().to_vec() {
            self.ask_others_too(view, id, asked);
        }
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.is_silent_since(since);
            peer.stall(view.now);
        }
        timers.hasten(SyncTimer::LatePeers, view.now + STALL_TIMEOUT);
    }

    fn judge_stalling(
        &mut self,
        view: &View<'_>,
        timers: &mut Timers,
        id: ConnId,
        actions: &mut Vec<Action>,
    ) {
        let Some((due, then)) = self.judgement(view, id) else {
            return;
        };
        if view.now < due {
            return timers.hasten(SyncTimer::LatePeers, due);
        }
        let peer = self.peers.get_mut(&id).expect("it is judged");
        match peer.first_awaited() {
            Some(hash) if then == Then::IsDisconnected => {
                actions.push(Action::Disconnect(id, hash));
            }
            Some(_) | None => peer.forgive(),
        }
    }

    /// What becomes of a late peer that delivers nothing, and when.
    fn judgement(&self, view: &View<'_>, id: ConnId) -> Option<(Duration, Then)> {
        let peer = self.peers.get(&id)?;
        let Some(silent) = peer.silent() else {
            // It said that it lacks what it had shown.
            let since = peer.stalling_since()?;
            return Some((since + self.stall_timeout(), Then::IsAskedAgain));
        };
        // With nothing to deliver any more it is a peer like any other again.
        let awaited = peer.first_awaited().is_some();
        Some(match silent.others_deliver {
            None if awaited => (silent.since + DOWNLOAD_TIMEOUT, Then::IsDisconnected),
            None => (silent.since + DOWNLOAD_TIMEOUT, Then::IsAskedAgain),
            Some(at) => {
                // Others are asked, and one that the operator named may be as slow as it is.
                let stays = view.is_manual(id) || !awaited;
                let then = match stays {
                    true => Then::IsAskedAgain,
                    false => Then::IsDisconnected,
                };
                (at + self.stall_timeout(), then)
            }
        })
    }

    /// What happens next to a peer that has not delivered what it was asked for, if no peer
    /// delivers anything.
    pub(in crate::sync) fn foretell(
        &self,
        view: &View<'_>,
        id: ConnId,
    ) -> Option<(Duration, Then)> {
        let peer = self.peers.get(&id)?;
        peer.first_awaited()?;
        let silent = peer.silent().and_then(|_| self.judgement(view, id));
        let waiting = peer.asked().first().zip(peer.waiting_since());
        let waiting = waiting.map(|(first, since)| match self.helper(view, id, first) {
            None => (since + DOWNLOAD_TIMEOUT, Then::IsDisconnected),
            helper => {
                let due = since + self.time_for(id, first, helper);
                (due, Then::OthersAreAsked)
            }
        });
        let all = waiting.into_iter().chain(silent);
        all.min_by_key(|(due, _)| *due)
    }

    /// Time for a late peer to deliver something.
    fn stall_timeout(&self) -> Duration {
        STALL_TIMEOUT + time_of(self.expected_block, SLOW_BYTES_PER_SECOND)
    }

    /// Who else could be asked for this block: one who has delivered, the quickest, before
    /// one who has not.
    pub(super) fn helper(&self, view: &View<'_>, id: ConnId, asked: &Asked) -> Option<Helper> {
        let mut best: Option<Helper> = None;
        for (other, peer) in &self.peers {
            if *other == id || peer.plan.is_none() || peer.is_stalling() {
                continue;
            }
            let helper = Helper {
                proven: peer.is_proven(),
                timeout: peer.timeout(),
            };
            let better = best
                .is_none_or(|best| (!helper.proven, helper.timeout) < (!best.proven, best.timeout));
            if better && self.has(view, *other, asked) && !peer.may_deliver(&asked.hash) {
                best = Some(helper);
            }
        }
        best
    }

    /// Whether a peer has shown this block and keeps it.
    fn has(&self, view: &View<'_>, id: ConnId, asked: &Asked) -> bool {
        let peer = &self.peers[&id];
        let plan = peer.plan.and_then(|plan| self.plans.get(&plan));
        let in_window = |plan: &super::Plan| plan.has(asked.height, &asked.hash);
        let reaches = peer.floor <= asked.height && asked.height <= peer.reach;
        reaches
            && (plan.is_some_and(in_window)
                || view
                    .best(id)
                    .is_some_and(|best| view.tree.is_ancestor(&asked.hash, &best.hash)))
    }

    /// A peer may have now what others are late with. Looked at now and then however often
    /// peers show something: the look compares all of them with each other.
    pub(super) fn look_at_the_late(&mut self, timers: &mut Timers, now: Duration) {
        if self.looked_at_late <= now {
            self.looked_at_late = now.max(self.looked_at_late + LOOK_PAUSE);
        }
        let now = self.looked_at_late;
        for peer in self
            .peers
            .values_mut()
            .filter(|peer| !peer.asked().is_empty())
        {
            peer.look_at = peer.look_at.min(now);
        }
        timers.hasten(SyncTimer::BlocksAnswer, now);
    }
}

fn time_of(bytes: usize, per_second: usize) -> Duration {
    Duration::from_millis((bytes as u64 * 1_000) / per_second as u64)
}
