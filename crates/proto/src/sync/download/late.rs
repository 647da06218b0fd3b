//! Peers that are late with blocks.
//!
//! How long a block may be out before others are asked for it too:
//!
//! * Its holder has not delivered anything yet: [`GRACE`] and the time of a usual block.
//! * It has: its own timeout, or that of another who has the block and has delivered, if
//!   that is less. So one who is slow on purpose holds up nobody, and where all are slow
//!   because our own line is, nobody is asked twice. The timeout doubles (up to 64 s) when
//!   a block comes after all, and shrinks by 15 % with every block in time (down to 2 s).
//! * It has, and the block is one of the last of its chain: as long as one that has not, for
//!   the first [`FEW`]. At the tip a copy costs little, and a block that is late costs more.
//! * Nobody else has it: it is waited for, and said so; a peer that comes and has it takes
//!   over at once. Disconnected after [`DOWNLOAD_TIMEOUT`].
//!
//! A late peer is asked for nothing until it delivers, and is disconnected after
//! [`STALL_PATIENCE`] and the time that a usual block takes on a slow line. One that the
//! operator named is asked for one block again then, and stays connected as long as others
//! can be asked, or it delivers something within [`DOWNLOAD_TIMEOUT`].

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
pub(in crate::sync) const STALL_PATIENCE: Duration = Duration::from_secs(60);
/// The slowest line on which a usual block must come in addition to that, bytes a second.
const SLOW_BYTES_PER_SECOND: usize = 25 * 1024;
/// Pause before late peers are asked again when nobody else can be.
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
/// How often it is looked whether somebody else has what a peer is late with.
const LATE_CHECK: Duration = Duration::from_millis(500);
/// Least time between two looks because of what peers have shown.
const LOOK_PAUSE: Duration = Duration::from_millis(100);

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
        let tries = self
            .flights
            .get(&first.hash)
            .map_or(0, |flight| flight.tries);
        let at_the_tip = tries < FEW && self.is_near_the_end(id, &first);
        let earliest = since
            + match peer.is_proven() && !at_the_tip {
                true => STALL_TIMEOUT_MIN,
                false => self.grace(),
            };
        if now < peer.look_at.max(earliest) {
            return timers.hasten(SyncTimer::BlocksAnswer, peer.look_at.max(earliest));
        }
        let helper = self.helper(view, id, &first);
        let due = since
            + match helper {
                Some(_) if at_the_tip => self.grace(),
                Some(helper) if helper.proven && peer.is_proven() => {
                    peer.timeout().min(helper.timeout)
                }
                _ if !peer.is_proven() => self.grace(),
                _ => peer.timeout(),
            };
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
                // As before, so that nobody is said to be late who has just been asked.
                peer.overdue = now >= since + peer.timeout();
                let look_at = now + LATE_CHECK;
                peer.look_at = look_at;
                timers.hasten(SyncTimer::BlocksAnswer, look_at);
            }
        }
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
        for asked in self.peers[&id].asked().to_vec() {
            self.ask_others_too(view, id, asked);
        }
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.stall(view.now);
        }
        timers.hasten(SyncTimer::LatePeers, view.now + STALL_PATIENCE);
    }

    fn judge_stalling(
        &mut self,
        view: &View<'_>,
        timers: &mut Timers,
        id: ConnId,
        actions: &mut Vec<Action>,
    ) {
        let Some(due) = self.stalling_until(id) else {
            return;
        };
        if view.now < due {
            return timers.hasten(SyncTimer::LatePeers, due);
        }
        let peer = self.peers.get_mut(&id).expect("it is stalling");
        match peer.first_late() {
            // Others have been asked for what it is late with, and it may be as slow as it is.
            Some(_) if view.is_manual(id) => peer.give_another_chance(),
            Some(hash) => actions.push(Action::Disconnect(id, hash)),
            // It said that it lacks what it had shown.
            None => peer.give_another_chance(),
        }
    }

    /// Time for a late peer to deliver something.
    fn stall_patience(&self) -> Duration {
        STALL_PATIENCE + time_of(self.expected_block, SLOW_BYTES_PER_SECOND)
    }

    /// Until when a late peer must deliver something of what others were asked for too.
    pub(in crate::sync) fn stalling_until(&self, id: ConnId) -> Option<Duration> {
        Some(self.stalling_since(id)? + self.stall_patience())
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

    /// Somebody may have now what others are late with. Looked at now and then however often
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
