//! What header sync does when its time has come and no headers have.

use std::time::Duration;

use crate::headers::HeaderTree;
use crate::lifecycle::{ConnId, Direction, DoneReason};
use crate::time::Now;

use super::ask::put_off_tip_check;
use super::{
    Ask, Context, HeaderSync, HeadersAsk, Peer, PeerHeaders, Peers, SyncConfig, SyncTimer,
};

/// Time for a source to bring all headers, beside [`SYNC_PER_HEADER`]. Core
/// `HEADERS_DOWNLOAD_TIMEOUT_BASE`.
const MAX_SYNC: Duration = Duration::from_secs(15 * 60);
/// Time for each header that must have been found by now. Core
/// `HEADERS_DOWNLOAD_TIMEOUT_PER_HEADER`.
const SYNC_PER_HEADER: Duration = Duration::from_millis(1);
/// Pause before a source whose time is over, and that cannot be replaced now, is judged again.
const SYNC_CHECK: Duration = Duration::from_secs(10);
/// A best header younger than this ends the time of a header sync, seconds. As Core.
const RECENT_HEADER: u32 = 24 * 60 * 60;
/// Time until more peers are asked.
const NEXT_HEDGE: Duration = Duration::from_secs(1);
/// Peers asked at once are doubled that often.
const MOST_DOUBLINGS: u32 = 5;

/// Time for a source to bring the headers that must be there.
pub(super) fn time_for_headers(config: &SyncConfig, tree: &HeaderTree, now: Now) -> Duration {
    let behind = now.unix.saturating_sub(tree.best_header().header.time);
    let spacing = u32::try_from(config.pow.consensus.pow_target_spacing).unwrap_or(600);
    let headers = if config.always_mined {
        behind / spacing.max(1)
    } else {
        0
    };
    MAX_SYNC + SYNC_PER_HEADER * headers
}

impl HeaderSync {
    /// The time of [`SyncTimer::HeadersFromSource`] has come. A source that has not come to
    /// recent headers in its time is one no more, if there is another; one that we dialled is
    /// disconnected, as in Core.
    pub(in crate::sync) fn source_is_late(&mut self, cx: &mut Context<'_>) {
        let Some((id, until)) = self.source.as_ref().map(|source| (source.id, source.until)) else {
            return;
        };
        let now = cx.step.now;
        let oldest = now.unix.saturating_sub(RECENT_HEADER);
        let recent = cx.tree().best_header().header.time >= oldest;
        let late = now.mono >= until && !recent && !self.has_ended(id);
        let direction = cx.peers.get(id).map(|peer| peer.direction());
        match direction.filter(|_| late && self.is_another_eligible(cx.peers, id)) {
            Some(Direction::Outbound) => self.disconnect(cx, id, DoneReason::HeadersTimeout),
            Some(Direction::Inbound | Direction::Manual) => {
                self.cool_down(cx, id, "its headers took too long", false);
            }
            // Its headers may go on, and another peer may come.
            None => {
                let again = until.max(now.mono + SYNC_CHECK);
                cx.timers.set(SyncTimer::HeadersFromSource, again);
            }
        }
    }

    /// The times of [`SyncTimer::HeadersAnswer`] of these peers have come.
    pub(in crate::sync) fn answers_are_late(&mut self, cx: &mut Context<'_>, ids: &[ConnId]) {
        let asks = ids.iter().filter_map(|id| Some((*id, self.ask_of(*id)?)));
        let late: Vec<(ConnId, Ask)> = asks.collect();
        for (id, ask) in late {
            match ask.kind {
                HeadersAsk::Sync => self.headers_are_late(cx, id),
                // A peer in initial download may ignore these.
                HeadersAsk::Tip | HeadersAsk::Probe | HeadersAsk::Announced => {
                    // Unless it has become the source meanwhile, and was asked as that.
                    if self.ask_of(id) == Some(ask) {
                        self.stop_asking(cx, id);
                        self.ask_about_announcement(cx, id);
                    }
                }
            }
        }
    }

    fn headers_are_late(&mut self, cx: &mut Context<'_>, id: ConnId) {
        let Some(direction) = cx.peers.live(id).map(|peer| peer.direction()) else {
            return;
        };
        match direction {
            _ if !self.is_another_eligible(cx.peers, id) => {
                let peer = self.peer(id);
                peer.low_work = None;
                peer.answered = false;
                self.ask_sync(cx, id);
            }
            Direction::Inbound => self.cool_down(cx, id, "did not answer getheaders", true),
            Direction::Outbound | Direction::Manual => {
                self.disconnect(cx, id, DoneReason::HeadersTimeout);
            }
        }
    }

    /// The time of [`SyncTimer::CoolDown`] has come: the peer may be the source again.
    pub(in crate::sync) fn cool_down_is_over(&mut self, now: Duration, id: ConnId) {
        if let Some(peer) = self.peers.get_mut(&id) {
            // It may have failed again just now.
            peer.cool_down = peer.cool_down.filter(|cool_down| now < cool_down.until);
        }
    }

    /// The time of [`SyncTimer::Hedge`] has come. Asks more peers while no headers come: one,
    /// then twice as many each time, so that the one that answers is found soon among many
    /// that do not.
    pub(in crate::sync) fn hedge(&mut self, cx: &mut Context<'_>) {
        let source = self.source_id().and_then(|id| self.peers.get(&id));
        if !source.is_some_and(|source| source.is_asked_to_sync()) {
            return self.have_come(cx.timers);
        }
        let mut candidates: Vec<_> = self.may_be_asked_beside(cx.peers).collect();
        candidates.sort_by_key(|peer| std::cmp::Reverse(self.rank(cx.known, *peer)));
        let number = 1 << self.hedges.min(MOST_DOUBLINGS);
        let ids: Vec<ConnId> = candidates.iter().map(|(id, ..)| *id).take(number).collect();
        if ids.is_empty() {
            return;
        }
        self.hedges += 1;
        for id in ids {
            self.ask_sync(cx, id);
        }
        let again = cx.now() + NEXT_HEDGE;
        cx.timers.set(SyncTimer::Hedge, again);
    }

    /// The time of [`SyncTimer::TipCheck`] has come: without news for a while, the peer that
    /// was asked longest ago is asked.
    pub(in crate::sync) fn check_tip(&mut self, cx: &mut Context<'_>) {
        put_off_tip_check(cx);
        if let Some(id) = self.next_for_news(cx.peers) {
            self.ask_tip(cx, id);
        }
    }

    /// The peer that is asked for news next.
    pub(in crate::sync) fn next_for_news(&self, peers: &Peers) -> Option<ConnId> {
        self.eligible(peers)
            .filter(|(_, _, headers)| headers.ask.is_none() && headers.low_work.is_none())
            .min_by_key(|(id, _, headers)| (headers.last_asked, *id))
            .map(|(id, ..)| id)
    }

    /// Peers that may be asked for headers beside a silent source.
    pub(in crate::sync) fn may_be_asked_beside<'a>(
        &'a self,
        peers: &'a Peers,
    ) -> impl Iterator<Item = (ConnId, &'a Peer, &'a PeerHeaders)> {
        self.eligible(peers)
            .filter(|(_, _, headers)| !headers.is_asked_to_sync() && headers.low_work.is_none())
    }

    /// Shifts every running time by the time during which we did not look.
    pub(in crate::sync) fn extend_deadlines(&mut self, late: Duration) {
        for peer in self.peers.values_mut() {
            if let Some(ask) = &mut peer.ask {
                ask.at += late;
            }
        }
    }
}
