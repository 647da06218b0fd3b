//! What header sync does when its time has come and no headers have.

use std::time::Duration;

use crate::lifecycle::{ConnId, Direction, DoneReason};
use crate::time::Now;

use super::HeadersAsk;
use super::header_sync::{HEADERS_RESPONSE_TIME, rank};
use super::manager::{Step, SyncManager};
use super::peer::{Aside, Peer};

/// Time for a source to bring all headers, beside [`SYNC_PER_HEADER`]. Core
/// `HEADERS_DOWNLOAD_TIMEOUT_BASE`.
const MAX_SYNC: Duration = Duration::from_secs(15 * 60);
/// Time for each header that must have been found by now. Core
/// `HEADERS_DOWNLOAD_TIMEOUT_PER_HEADER`.
const SYNC_PER_HEADER: Duration = Duration::from_millis(1);
/// A best header younger than this ends the time of a header sync, seconds. As Core.
const RECENT_HEADER: u32 = 24 * 60 * 60;
/// Time until more peers are asked.
pub(super) const NEXT_HEDGE: Duration = Duration::from_secs(1);
/// Peers asked at once are doubled that often.
const MOST_DOUBLINGS: u32 = 5;

impl SyncManager {
    /// Time for a source to bring the headers that must be there.
    pub(super) fn time_for_headers(&self, now: Now) -> Duration {
        let behind = now.unix.saturating_sub(self.tree.best_header().header.time);
        let spacing = u32::try_from(self.config.pow.consensus.pow_target_spacing).unwrap_or(600);
        let headers = if self.config.always_mined {
            behind / spacing.max(1)
        } else {
            0
        };
        MAX_SYNC + SYNC_PER_HEADER * headers
    }

    /// A source that has not come to recent headers in its time is one no more, if there is
    /// another; one that we dialled is disconnected, as in Core.
    fn end_long_sync(&mut self, step: &mut Step) {
        let Some(source) = &self.headers.source else {
            return;
        };
        let (id, until) = (source.id, source.until);
        let recent =
            self.tree.best_header().header.time >= step.now.unix.saturating_sub(RECENT_HEADER);
        if recent || self.has_ended(id) {
            return;
        }
        if step.now.mono < until {
            return self.wake_at(until);
        }
        let mut others = self.peers.iter().filter(|(other, _)| **other != id);
        if !others.any(|(_, peer)| peer.eligible()) {
            return;
        }
        match self.peers[&id].direction {
            Direction::Outbound => self.disconnect(step, id, DoneReason::HeadersTimeout),
            Direction::Inbound | Direction::Manual => {
                self.set_aside(step, id, "its headers took too long", false);
            }
        }
    }

    pub(super) fn header_timers(&mut self, step: &mut Step) {
        self.expire_asks(step);
        self.expire_asides(step.now.mono);
        self.end_long_sync(step);
        self.hedge(step);
        self.check_tip(step);
    }

    fn expire_asks(&mut self, step: &mut Step) {
        let now = step.now.mono;
        let mut late = Vec::new();
        let mut next = None::<Duration>;
        for (id, peer) in &self.peers {
            let Some(ask) = peer.headers.ask else {
                continue;
            };
            let due = ask.at + HEADERS_RESPONSE_TIME;
            if due <= now {
                late.push((*id, ask.kind));
            } else {
                next = Some(next.map_or(due, |next| next.min(due)));
            }
        }
        if let Some(next) = next {
            self.wake_at(next);
        }
        for (id, kind) in late {
            match kind {
                HeadersAsk::Sync => self.headers_late(step, id),
                // A peer in initial download may ignore these.
                HeadersAsk::Tip | HeadersAsk::Probe | HeadersAsk::Announced => {
                    let headers = &mut self.live(id).headers;
                    headers.ask = None;
                    headers.low_work = None;
                    self.ask_about_announcement(step, id);
                }
            }
        }
    }

    fn headers_late(&mut self, step: &mut Step, id: ConnId) {
        let others = self
            .peers
            .iter()
            .any(|(other, peer)| *other != id && peer.eligible());
        match self.peers[&id].direction {
            _ if !others => {
                let headers = &mut self.live(id).headers;
                headers.low_work = None;
                headers.answered = false;
                self.ask_sync(step, id);
            }
            Direction::Inbound => self.set_aside(step, id, "did not answer getheaders", true),
            Direction::Outbound | Direction::Manual => {
                self.disconnect(step, id, DoneReason::HeadersTimeout);
            }
        }
    }

    fn expire_asides(&mut self, now: Duration) {
        let mut next = None::<Duration>;
        for peer in self.peers.values_mut() {
            let Some(Aside { until, .. }) = peer.headers.aside else {
                continue;
            };
            if until <= now {
                peer.headers.aside = None;
            } else {
                next = Some(next.map_or(until, |next| next.min(until)));
            }
        }
        if let Some(next) = next {
            self.wake_at(next);
        }
    }

    /// Asks more peers while no headers come: one, then twice as many each time, so that the
    /// one that answers is found soon among many that do not.
    fn hedge(&mut self, step: &mut Step) {
        let now = step.now.mono;
        let waiting = self.headers.source.as_ref().is_some_and(|source| {
            let ask = self.peers[&source.id].headers.ask;
            ask.is_some_and(|ask| ask.kind == HeadersAsk::Sync)
        });
        let Some(due) = self.headers.next_hedge.filter(|_| waiting) else {
            self.headers.have_come();
            return;
        };
        if now < due {
            self.wake_at(due);
            return;
        }
        self.headers.next_hedge = None;
        let is_asked = |peer: &Peer| {
            let ask = peer.headers.ask;
            ask.is_some_and(|ask| ask.kind == HeadersAsk::Sync)
        };
        let mut candidates: Vec<(ConnId, &Peer)> = self
            .peers
            .iter()
            .map(|(id, peer)| (*id, peer))
            .filter(|(_, peer)| peer.eligible() && !is_asked(peer))
            .filter(|(_, peer)| peer.headers.low_work.is_none())
            .collect();
        candidates.sort_by_key(|(id, peer)| std::cmp::Reverse(rank(*id, peer)));
        let number = 1 << self.headers.hedges.min(MOST_DOUBLINGS);
        let ids: Vec<ConnId> = candidates.iter().map(|(id, _)| *id).take(number).collect();
        if ids.is_empty() {
            return;
        }
        self.headers.hedges += 1;
        for id in ids {
            self.ask_sync(step, id);
        }
        self.headers.next_hedge = Some(now + NEXT_HEDGE);
        self.wake_at(now + NEXT_HEDGE);
    }

    /// Without news for a while, asks the peer that was asked longest ago.
    fn check_tip(&mut self, step: &mut Step) {
        let Some(due) = self.headers.next_tip_check else {
            return;
        };
        if step.now.mono < due {
            self.wake_at(due);
            return;
        }
        let next = self.headers.put_off_tip_check(step.now.mono);
        self.wake_at(next);
        let candidate = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.eligible() && peer.headers.ask.is_none())
            .filter(|(_, peer)| peer.headers.low_work.is_none())
            .min_by_key(|(id, peer)| (peer.headers.last_asked, **id))
            .map(|(id, _)| *id);
        if let Some(id) = candidate {
            self.ask_tip(step, id);
        }
    }
}
