//! What the watchdog looks for, one function a finding. See the module above.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::download::{RETRY_PAUSE, first_missing};
use super::super::manager::SyncManager;
use super::super::peer::Peer;
use super::{Finding, SILENCE, STALE_INTERVALS};

impl SyncManager {
    pub(super) fn find(&self, now: Duration) -> Option<Finding> {
        self.request_lost()
            .or_else(|| self.no_source())
            .or_else(|| self.nothing_asked(now))
            .or_else(|| self.announcement_forgotten(now))
            .or_else(|| self.useless_source(now))
            .or_else(|| self.headers_forgotten(now))
            .or_else(|| self.all_silent(now))
            .or_else(|| self.withheld(now))
            .or_else(|| self.stale_tip(now))
    }

    fn request_lost(&self) -> Option<Finding> {
        let (hash, id) = self.download.lost_request()?;
        Some(Finding::RequestLost(hash, id))
    }

    fn no_source(&self) -> Option<Finding> {
        let source = self.sync_peer().and_then(|id| self.peers.get(&id));
        if source.is_some_and(Peer::eligible) {
            return None;
        }
        let candidate = self.peers.iter().find(|(_, peer)| peer.eligible());
        candidate.map(|(id, _)| Finding::NoSource(*id))
    }

    fn nothing_asked(&self, now: Duration) -> Option<Finding> {
        let held = self.download.hold().is_some_and(|(until, _)| now < *until);
        if held || !self.download.with_kernel().is_empty() {
            return None;
        }
        let tip = self.tree.tip();
        let mut missing = BTreeMap::new();
        let mut unserved = None;
        for (id, peer) in self.peers.iter().filter(|(_, peer)| peer.serves_headers()) {
            let best = peer
                .known
                .best
                .filter(|best| best.work > tip.work && best.work >= self.config.minimum_work);
            let Some(best) = best else { continue };
            let first = *missing
                .entry(best.hash)
                .or_insert_with(|| first_missing(&self.tree, &best));
            let Some((height, hash)) = first else {
                // All is here: the kernel's turn.
                continue;
            };
            let asked = !self.download.asked_of(*id).is_empty();
            // One that is late is asked again soon, if nobody else has the block.
            let since = self.download.stalling_since(*id);
            let late = since.is_some_and(|since| now < since + 2 * RETRY_PAUSE);
            if asked || late || self.download.is_in_flight(&hash) {
                continue;
            }
            if peer.serves_blocks() && peer.lowest_kept() <= height {
                return Some(Finding::NothingAsked(*id, height));
            }
            unserved = Some(Finding::Unserved(*id, height));
        }
        unserved.filter(|_| self.download.outstanding() == 0)
    }

    /// S1: who announced a block that we do not know would show a chain if it were asked.
    fn announcement_forgotten(&self, now: Duration) -> Option<Finding> {
        let mut owed = self.peers.iter().filter_map(|(id, peer)| {
            let since = peer
                .headers
                .unasked_announcement
                .filter(|_| peer.serves_headers())?;
            Some((*id, now.saturating_sub(since)))
        });
        let (id, since) = owed.find(|(_, since)| *since >= SILENCE)?;
        Some(Finding::AnnouncementForgotten(id, since))
    }

    /// A source that brings nothing new is never the only one asked.
    fn useless_source(&self, now: Duration) -> Option<Finding> {
        let source = self.sync_peer().filter(|id| !self.has_ended(*id))?;
        let since = self.watchdog.progress.since;
        let still = now.saturating_sub(since);
        let mut others = self.peers.iter().filter(|(id, _)| **id != source);
        let asked = |peer: &Peer| peer.headers.last_asked >= since || peer.headers.ask.is_some();
        let some = others.clone().any(|(_, peer)| peer.eligible());
        let none_asked = !others.any(|(_, peer)| peer.eligible() && asked(peer));
        (still >= SILENCE && some && none_asked).then_some(Finding::UselessSource(source, still))
    }

    fn headers_forgotten(&self, now: Duration) -> Option<Finding> {
        let asked = |peer: &Peer| !peer.leaving && peer.headers.ask.is_some();
        if self.peers.values().any(asked) {
            return None;
        }
        let eligible = self.peers.values().filter(|peer| peer.eligible());
        let last = eligible.map(|peer| peer.headers.last_asked).max()?;
        let since = now.saturating_sub(last.max(self.watchdog.progress.since));
        (since >= SILENCE).then_some(Finding::HeadersForgotten(since))
    }

    fn all_silent(&self, now: Duration) -> Option<Finding> {
        let waiting = self.peers.iter().any(|(id, peer)| {
            let headers = peer.headers.ask.is_some() || peer.known.probe.is_some();
            !peer.leaving && (headers || !self.download.asked_of(*id).is_empty())
        });
        let since = now.saturating_sub(self.watchdog.heard);
        (waiting && since >= SILENCE).then_some(Finding::AllSilent(since))
    }

    /// Blocks were asked for, and whoever was asked is late with all of them.
    fn withheld(&self, now: Duration) -> Option<Finding> {
        let asked = self.peers.keys().filter_map(|id| {
            let asked = !self.download.asked_of(*id).is_empty();
            Some((*id, self.download.progress_of(*id).filter(|_| asked)?))
        });
        let (id, latest) = asked.max_by_key(|(_, progress)| *progress)?;
        let since = now.saturating_sub(latest);
        let kernel_waits = self.download.with_kernel().is_empty();
        (kernel_waits && since >= SILENCE).then_some(Finding::Withheld(id, since))
    }

    fn stale_tip(&self, now: Duration) -> Option<Finding> {
        let kernel = self.engine_headers.waiting() + self.download.outstanding();
        let served = self.peers.values().any(Peer::serves_headers);
        if !self.config.always_mined || kernel > 0 || !served {
            return None;
        }
        let spacing = Duration::from_secs(self.config.pow.consensus.pow_target_spacing);
        let since = now.saturating_sub(self.watchdog.progress.since);
        (since >= spacing * STALE_INTERVALS).then_some(Finding::StaleTip(since))
    }
}
