//! What the watchdog looks for, one function a finding. See the module above.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::lifecycle::ConnId;

use super::super::download::{RETRY_PAUSE, STALL_TIMEOUT, first_missing};
use super::super::parts::Parts;
use super::super::peers::Peer;
use super::{Finding, SILENCE, STALE_INTERVALS, Watchdog};

impl Watchdog {
    pub(super) fn find(&self, parts: &Parts, now: Duration) -> Option<Finding> {
        let look = Look {
            parts,
            now,
            still_since: self.progress.since,
            heard: self.heard,
        };
        look.request_lost()
            .or_else(|| look.no_source())
            .or_else(|| look.nothing_asked())
            .or_else(|| look.announcement_forgotten())
            .or_else(|| look.useless_source())
            .or_else(|| look.headers_forgotten())
            .or_else(|| look.all_silent())
            .or_else(|| look.withheld())
            .or_else(|| look.stale_tip())
    }
}

/// One look at the parts.
struct Look<'a> {
    parts: &'a Parts,
    /// Monotonic.
    now: Duration,
    /// Since when the chain and its headers stand still, monotonic.
    still_since: Duration,
    /// When a message about sync last came, monotonic.
    heard: Duration,
}

impl Look<'_> {
    /// Time since then.
    fn since(&self, at: Duration) -> Duration {
        self.now.saturating_sub(at)
    }

    /// Whether blocks were asked of this peer and have not come.
    fn is_asked_for_blocks(&self, id: ConnId) -> bool {
        !self.parts.download.asked_of(id).is_empty()
    }

    fn request_lost(&self) -> Option<Finding> {
        let (hash, id) = self.parts.download.lost_request()?;
        Some(Finding::RequestLost(hash, id))
    }

    fn no_source(&self) -> Option<Finding> {
        let (peers, headers) = (&self.parts.peers, &self.parts.headers);
        let source = headers.source_id();
        if source.is_some_and(|id| headers.is_eligible(peers, id)) {
            return None;
        }
        headers.eligible_ids(peers).next().map(Finding::NoSource)
    }

    fn nothing_asked(&self) -> Option<Finding> {
        let Parts {
            peers,
            known,
            download,
            ..
        } = self.parts;
        let held = download.hold().is_some_and(|(until, _)| self.now < *until);
        if held || !download.with_kernel().is_empty() {
            return None;
        }
        let (tree, minimum) = (self.parts.tree(), self.parts.config.minimum_work);
        let tip = tree.tip();
        let mut missing = BTreeMap::new();
        let mut unserved = None;
        for (id, peer) in peers.iter().filter(|(_, peer)| peer.serves_headers()) {
            let best = known.best(id);
            let best = best.filter(|best| best.work > tip.work && best.work >= minimum);
            let Some(best) = best else { continue };
            let first = missing
                .entry(best.hash)
                .or_insert_with(|| first_missing(tree, &best));
            let Some((height, hash)) = *first else {
                // All is here: the kernel's turn.
                continue;
            };
            // One that is late is asked again soon, if no other peer has the block, or who has is
            // late for long.
            let soon = 2 * RETRY_PAUSE
                + match download.in_flight() {
                    0 => Duration::ZERO,
                    _ => STALL_TIMEOUT,
                };
            let since = download.stalling_since(id);
            let late = since.is_some_and(|since| self.now < since + soon);
            if self.is_asked_for_blocks(id) || late || download.is_in_flight(&hash) {
                continue;
            }
            if peer.serves_blocks() && peer.lowest_kept(Some(best)) <= height {
                return Some(Finding::NothingAsked(id, height));
            }
            unserved = Some(Finding::Unserved(id, height));
        }
        unserved.filter(|_| download.outstanding() == 0)
    }

    /// S1: a peer that announced a block which we do not know would show a chain if it were
    /// asked.
    fn announcement_forgotten(&self) -> Option<Finding> {
        let peers = self.parts.peers.iter();
        let served = peers.filter(|(_, peer)| peer.serves_headers());
        let mut waiting = served.filter_map(|(id, _)| {
            let since = self.parts.headers.unasked_announcement(id)?;
            Some((id, self.since(since)))
        });
        let (id, since) = waiting.find(|(_, since)| *since >= SILENCE)?;
        Some(Finding::AnnouncementForgotten(id, since))
    }

    /// A source that brings nothing new is never the only one asked.
    fn useless_source(&self) -> Option<Finding> {
        let headers = &self.parts.headers;
        let source = headers.source_id().filter(|id| !headers.has_ended(*id))?;
        let still = self.since(self.still_since);
        let asked =
            |id: ConnId| headers.last_asked(id) >= self.still_since || headers.ask_of(id).is_some();
        let others = headers.eligible_ids(&self.parts.peers);
        let mut others = others.filter(|id| *id != source);
        let some = others.clone().next().is_some();
        let none_asked = !others.any(asked);
        (still >= SILENCE && some && none_asked).then_some(Finding::UselessSource(source, still))
    }

    fn headers_forgotten(&self) -> Option<Finding> {
        let (peers, headers) = (&self.parts.peers, &self.parts.headers);
        if peers
            .iter_live()
            .any(|(id, _)| headers.ask_of(id).is_some())
        {
            return None;
        }
        let eligible = headers.eligible_ids(peers);
        let last = eligible.map(|id| headers.last_asked(id)).max()?;
        let since = self.since(last.max(self.still_since));
        (since >= SILENCE).then_some(Finding::HeadersForgotten(since))
    }

    fn all_silent(&self) -> Option<Finding> {
        let waiting = self.parts.peers.iter_live().any(|(id, _)| {
            let headers = self.parts.headers.ask_of(id).is_some();
            let probe = self.parts.known.probe(id).is_some();
            headers || probe || self.is_asked_for_blocks(id)
        });
        let since = self.since(self.heard);
        (waiting && since >= SILENCE).then_some(Finding::AllSilent(since))
    }

    /// Blocks were asked for, and all that were asked are late with all of them.
    fn withheld(&self) -> Option<Finding> {
        let download = &self.parts.download;
        let peers = self.parts.peers.iter().map(|(id, _)| id);
        let asked = peers.filter(|id| self.is_asked_for_blocks(*id));
        let asked = asked.filter_map(|id| Some((id, download.progress_of(id)?)));
        let (id, latest) = asked.max_by_key(|(_, progress)| *progress)?;
        let since = self.since(latest);
        let kernel_waits = download.with_kernel().is_empty();
        (kernel_waits && since >= SILENCE).then_some(Finding::Withheld(id, since))
    }

    fn stale_tip(&self) -> Option<Finding> {
        let parts = self.parts;
        let kernel = parts.engine_headers.waiting() + parts.download.outstanding();
        let served = |(_, peer): (ConnId, &Peer)| peer.serves_headers();
        if !parts.config.always_mined || kernel > 0 || !parts.peers.iter().any(served) {
            return None;
        }
        let spacing = Duration::from_secs(parts.config.pow.consensus.pow_target_spacing);
        let since = self.since(self.still_since);
        (since >= spacing * STALE_INTERVALS).then_some(Finding::StaleTip(since))
    }
}
