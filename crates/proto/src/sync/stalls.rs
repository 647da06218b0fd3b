//! Peers that are late with blocks.
//!
//! * The window cannot move because of one peer: its blocks are asked of others
//!   and it is disconnected, as in Core, after the stall timeout. That doubles (up to
//!   64 s) lest our own slow line cost us one peer after another, and shrinks by 15 %
//!   with every block connected (down to 2 s).
//! * Others have nothing to do because of one peer (near the tip, or at the end
//!   of a sync), or it has delivered nothing for four timeouts: its blocks are asked of
//!   others too. It *owes* them, is asked for nothing more until it delivers one, and is
//!   disconnected after [`OWING_PATIENCE`].
//! * Nobody else has the blocks: we wait, and say so; a peer that comes and has them
//!   takes over at once. Disconnected after [`DOWNLOAD_TIMEOUT`].

use std::time::Duration;

use bitcoin::BlockHash;

use crate::lifecycle::{ConnId, DoneReason};

use super::manager::{Step, SyncManager};
use super::peer::Peer;

/// Least time for which a block may hold up others. Core `BLOCK_STALLING_TIMEOUT_DEFAULT`.
pub(super) const STALL_TIMEOUT_MIN: Duration = Duration::from_secs(2);
/// The most. Core `BLOCK_STALLING_TIMEOUT_MAX`.
const STALL_TIMEOUT_MAX: Duration = Duration::from_secs(64);
/// Timeouts without any delivery after which a peer's blocks are asked of others.
const SILENT_TIMEOUTS: u32 = 4;
/// Time for a peer that owes blocks to deliver one.
pub(super) const OWING_PATIENCE: Duration = Duration::from_secs(60);
/// Time without any delivery from the only peer that has the blocks. Core waits one
/// block interval too (`BLOCK_DOWNLOAD_TIMEOUT_BASE`).
pub(super) const DOWNLOAD_TIMEOUT: Duration = Duration::from_secs(600);

/// How often it is looked whether others have become idle because of a late peer.
const LATE_CHECK: Duration = Duration::from_millis(500);

/// The window cannot move because of one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stall {
    pub(super) peer: ConnId,
    pub(super) since: Duration,
}

/// What is to be done about a late peer.
enum Late {
    /// Nothing before then.
    Wait(Duration),
    /// Ask others.
    Reassign,
    /// Nobody else has its blocks.
    Alone,
    /// End it: it had all the time it could want.
    Disconnect,
}

impl SyncManager {
    /// Notices that the window cannot move, and because of whom.
    pub(super) fn watch_the_window(&mut self, now: Duration) {
        let blocked = self.download.plan.as_ref().and_then(|plan| {
            let full = plan.missing.is_empty() && plan.goes_on();
            let first = plan.window.front().filter(|_| full)?;
            self.download.flights.get(first).map(|flight| flight.peer)
        });
        match (blocked, self.download.stall) {
            (Some(peer), Some(stall)) if stall.peer == peer => {}
            (Some(peer), _) => {
                self.download.stall = Some(Stall { peer, since: now });
                self.wake_at(now + self.download.stall_timeout);
            }
            (None, _) => self.download.stall = None,
        }
    }

    pub(super) fn download_timers(&mut self, step: &mut Step) {
        self.end_window_stall(step);
        let ids: Vec<ConnId> = self.peers.keys().copied().collect();
        for id in ids {
            self.judge_late(step, id);
            self.collect_debt(step, id);
        }
    }

    fn end_window_stall(&mut self, step: &mut Step) {
        let Some(stall) = self.download.stall else {
            return;
        };
        let due = stall.since + self.download.stall_timeout;
        if step.now.mono < due {
            return self.wake_at(due);
        }
        let Some((lowest, hash)) = self.lowest_in_flight(stall.peer) else {
            return;
        };
        if !self.others_can_help(stall.peer, lowest) {
            return;
        }
        self.download.stall = None;
        self.note_late(hash);
        self.lengthen_timeout();
        self.disconnect(step, stall.peer, DoneReason::BlockStalled { hash });
    }

    fn lowest_in_flight(&self, id: ConnId) -> Option<(u32, BlockHash)> {
        self.peers.get(&id)?.blocks.in_flight.iter().min().copied()
    }

    fn others_can_help(&self, id: ConnId, height: u32) -> bool {
        self.peers
            .iter()
            .any(|(other, peer)| *other != id && self.can_help(peer, height))
    }

    fn judge_late(&mut self, step: &mut Step, id: ConnId) {
        let Some((_, hash)) = self.lowest_in_flight(id) else {
            return;
        };
        match self.is_late(step.now.mono, id) {
            Late::Wait(until) => self.wake_at(until),
            Late::Alone => {
                self.wake_at(self.peers[&id].blocks.progress + DOWNLOAD_TIMEOUT);
                let blocks = &mut self.live(id).blocks;
                if !blocks.overdue {
                    blocks.overdue = true;
                    self.note_late(hash);
                }
            }
            Late::Disconnect => self.disconnect(step, id, DoneReason::BlockStalled { hash }),
            Late::Reassign if self.download.stall.is_some_and(|stall| stall.peer == id) => {
                self.note_late(hash);
                self.lengthen_timeout();
                self.disconnect(step, id, DoneReason::BlockStalled { hash });
            }
            Late::Reassign => self.reassign(step, id),
        }
    }

    /// Asks others for those of a late peer's blocks that they have.
    fn reassign(&mut self, step: &mut Step, id: ConnId) {
        let now = step.now.mono;
        let in_flight = self.peers[&id].blocks.in_flight.iter().copied();
        let released: Vec<(u32, BlockHash)> = in_flight
            .filter(|(height, _)| self.others_can_help(id, *height))
            .collect();
        for (height, hash) in &released {
            self.cancel_flight(hash);
            self.download.put_back(*height, hash);
            self.note_late(*hash);
        }
        let blocks = &mut self.live(id).blocks;
        blocks
            .owed
            .extend(released.into_iter().map(|(_, hash)| hash));
        blocks.owing_since = Some(now);
        blocks.overdue = true;
        self.download.retarget = true;
        self.lengthen_timeout();
        self.wake_at(now + OWING_PATIENCE);
    }

    fn is_late(&self, now: Duration, id: ConnId) -> Late {
        let blocks = &self.peers[&id].blocks;
        let since = blocks.progress;
        let first = since + self.download.stall_timeout;
        if now < first {
            return Late::Wait(first);
        }
        let mut helpers = self.peers.iter().filter(|(other, peer)| {
            let heights = blocks.in_flight.iter();
            **other != id
                && heights
                    .into_iter()
                    .any(|(height, _)| self.can_help(peer, *height))
        });
        let idle = |peer: &Peer| peer.blocks.in_flight.is_empty();
        let Some((_, first_helper)) = helpers.next() else {
            let timeout = now >= since + DOWNLOAD_TIMEOUT;
            return if timeout {
                Late::Disconnect
            } else {
                Late::Alone
            };
        };
        let someone_idle = idle(first_helper) || helpers.any(|(_, peer)| idle(peer));
        let silent = since + self.download.stall_timeout * SILENT_TIMEOUTS;
        if someone_idle || now >= silent {
            Late::Reassign
        } else {
            Late::Wait(silent.min(now + LATE_CHECK))
        }
    }

    fn collect_debt(&mut self, step: &mut Step, id: ConnId) {
        let Some(since) = self.peers.get(&id).and_then(|peer| peer.blocks.owing_since) else {
            return;
        };
        let due = since + OWING_PATIENCE;
        if step.now.mono < due {
            return self.wake_at(due);
        }
        let Some(hash) = self.peers[&id].blocks.owed.first().copied() else {
            return self.forgive(id);
        };
        self.disconnect(step, id, DoneReason::BlockStalled { hash });
    }

    /// The peer has delivered, or nobody else can: it may be asked again.
    pub(super) fn forgive(&mut self, id: ConnId) {
        let blocks = &mut self.live(id).blocks;
        if blocks.owing_since.take().is_some() {
            self.download.retarget = true;
        }
    }

    /// Blocks are missing, nothing is on its way, and all who have them owe some: they
    /// are asked again rather than nobody.
    pub(super) fn forgive_if_stuck(&mut self, step: &mut Step) {
        if self.download.outstanding() > 0 {
            return;
        }
        let Some(plan) = &self.download.plan else {
            return;
        };
        let Some(lowest) = plan.missing.first().copied() else {
            return;
        };
        let debtors: Vec<ConnId> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.owes() && peer.blocks.reach >= lowest)
            .map(|(id, _)| *id)
            .collect();
        if debtors.is_empty() {
            return;
        }
        for id in debtors {
            self.live(id).blocks.owing_since = None;
            self.live(id).blocks.owed.clear();
        }
        self.feed(step);
    }

    fn lengthen_timeout(&mut self) {
        self.download.stall_timeout = (self.download.stall_timeout * 2).min(STALL_TIMEOUT_MAX);
    }

    /// A block was connected: the line is not that slow.
    pub(super) fn shorten_timeout(&mut self) {
        let shorter = self.download.stall_timeout.mul_f64(0.85);
        self.download.stall_timeout = shorter.max(STALL_TIMEOUT_MIN);
    }
}
