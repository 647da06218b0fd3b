//! Fills in [`SyncState`] and finds the line that says why.

use std::time::Duration;

use crate::headers::Status;
use crate::lifecycle::ConnId;
use crate::time::Now;

use super::chain_sync::ChainSync;
use super::manager::SyncManager;
use super::peer::{Known, Peer, Serves, Unavailable};
use super::state::{
    Backlog, BlockRef, HeadersAsk, PeerSync, Phase, Request, Source, SyncState, Wanted, Window,
};

/// Blocks by which the clock may run ahead of a tip that is the tip all the same.
const RECENT_BLOCKS: u32 = 24;

impl From<Known> for BlockRef {
    fn from(known: Known) -> Self {
        Self {
            hash: known.hash,
            height: known.height,
        }
    }
}

impl SyncManager {
    /// What is being done, and why.
    #[must_use]
    pub fn state(&self, now: Now) -> SyncState {
        let (tip, best) = (self.tree.tip(), self.tree.best_header());
        let plan = self.download.main_plan();
        let phase = self.phase();
        let mut requests: Vec<Request> = self
            .peers
            .iter()
            .flat_map(|(id, peer)| requests(*id, peer, now.mono))
            .collect();
        requests.extend(self.peers.keys().flat_map(|id| {
            let asked = self.download.asked_of(*id).iter();
            asked.map(|asked| Request {
                peer: *id,
                what: Wanted::Block(BlockRef {
                    hash: asked.hash,
                    height: asked.height,
                }),
                age: now.mono.saturating_sub(asked.at),
            })
        }));
        requests.sort_by_key(|request| (request.peer, std::cmp::Reverse(request.age)));
        SyncState {
            phase,
            why: self.why(phase, now),
            initial_block_download: self.initial_block_download(now),
            progress: self.progress(now),
            tip: BlockRef {
                hash: tip.hash,
                height: tip.height,
            },
            best_header: BlockRef {
                hash: best.hash,
                height: best.height,
            },
            best_shown: self.best_shown().map(|(_, best)| best.into()),
            source: self.headers.source.as_ref().map(|source| Source {
                id: source.id,
                remote: self.peers[&source.id].remote,
                at: source.at,
                since: now.mono.saturating_sub(source.since),
                why: source.why.clone(),
            }),
            requests,
            next_deadline: self.next_deadline(now.mono),
            peers: self
                .peers
                .iter()
                .map(|(id, peer)| self.peer_row(*id, peer, now))
                .collect(),
            source_changes: self.source_changes.iter().cloned().collect(),
            window: plan.map_or_else(Window::default, |plan| Window {
                start: plan.base + 1,
                end: plan.end(),
            }),
            stall_timeout: self.download.longest_timeout(),
            backlog: Backlog {
                in_flight: self.download.in_flight(),
                with_kernel: self.download.with_kernel().len(),
                kernel_bytes: self.download.kernel_bytes(),
                expected_block: self.download.expected_block(),
                header_batches: self.engine_headers.waiting(),
            },
            watchdog: self.watchdog.state(),
        }
    }

    /// Share of the known chain that is validated. While headers are still few of what
    /// there must be by now, Core's estimate by time would say more; a private
    /// chain of old blocks makes that estimate worthless, so heights are compared.
    /// The share of the chain that is validated, by height. Where headers are behind
    /// the clock, the blocks that must have been found since are added to the goal, so
    /// that the beginning of header sync does not look like the end.
    #[must_use]
    pub fn progress(&self, now: Now) -> f64 {
        let best = self.tree.best_header();
        let spacing = u32::try_from(self.config.pow.consensus.pow_target_spacing)
            .expect("a network's block spacing is some minutes");
        let age = now.unix.saturating_sub(best.header.time);
        // A tip of the last hours is the tip: blocks are irregular.
        let behind = match age / spacing {
            behind if self.config.always_mined && behind > RECENT_BLOCKS => behind,
            _ => 0,
        };
        let goal = best.height + behind;
        if goal == 0 {
            return 1.0;
        }
        (f64::from(self.tree.tip().height) / f64::from(goal)).min(1.0)
    }

    /// The most work that a live peer has shown, whether its blocks can be had now or not.
    fn best_shown(&self) -> Option<(ConnId, Known)> {
        let live = self.peers.iter().filter(|(_, peer)| !peer.leaving);
        let shown = live.flat_map(|(id, peer)| {
            let retried = peer
                .known
                .retry
                .and_then(|retry| self.tree.get(&retry.best));
            let retried = retried.filter(|entry| entry.status != Status::Invalid);
            let retried = retried.as_ref().map(Known::from);
            peer.known
                .best
                .into_iter()
                .chain(retried)
                .map(|best| (*id, best))
        });
        shown.max_by_key(|(_, best)| best.work)
    }

    /// A peer that has shown a chain with more work than ours.
    fn ahead(&self) -> Option<(ConnId, Known)> {
        self.best_shown()
            .filter(|(_, best)| best.work > self.tree.tip().work)
    }

    fn phase(&self) -> Phase {
        if !self.peers.values().any(Peer::serves_headers) {
            return Phase::NoPeers;
        }
        let syncing_headers = self.headers.source.as_ref().is_some_and(|source| {
            let headers = &self.peers[&source.id].headers;
            !headers.ended && headers.ask.is_some()
        });
        if self.download.in_flight() + self.download.with_kernel().len() > 0 {
            return if syncing_headers {
                Phase::HeaderSync
            } else {
                Phase::BlockSync
            };
        }
        match (syncing_headers, self.ahead()) {
            (true, _) => Phase::HeaderSync,
            (false, Some(_)) => Phase::Stalled,
            (false, None) => Phase::Synced,
        }
    }

    fn why(&self, phase: Phase, now: Now) -> String {
        match phase {
            Phase::NoPeers if self.peers.is_empty() => "no peer is connected".into(),
            Phase::NoPeers => "no connected peer serves blocks".into(),
            Phase::HeaderSync => self.why_headers(now),
            Phase::BlockSync => self.why_blocks(now),
            Phase::Synced => {
                "no peer has shown a chain with more work than ours; waiting for news".into()
            }
            Phase::Stalled => self.why_stalled(now),
        }
    }

    fn why_headers(&self, now: Now) -> String {
        let Some(source) = &self.headers.source else {
            return "choosing a peer".into();
        };
        let headers = &self.peers[&source.id].headers;
        match headers.ask {
            None => format!("{} is asked next", source.id),
            Some(ask) => {
                let age = now.mono.saturating_sub(ask.at);
                let what = if headers.low_work.is_some() {
                    "headers that have not shown the minimum work yet"
                } else {
                    "headers"
                };
                format!("waiting {age:.1?} for {what} from {}", source.id)
            }
        }
    }

    fn why_blocks(&self, now: Now) -> String {
        let in_flight = self.download.in_flight();
        // As long as other blocks come, one that is withheld is not what we wait for.
        if let Some((id, since)) = self.download.overdue()
            && self.download.outstanding() == 0
        {
            let since = now.mono.saturating_sub(since);
            return format!("{id} is late with blocks for {since:.0?} and nobody else has them");
        }
        if in_flight == 0 {
            let since = self
                .download
                .with_kernel()
                .values()
                .map(|pending| pending.since)
                .min();
            let age = now.mono.saturating_sub(since.unwrap_or(now.mono));
            let count = self.download.with_kernel().len();
            return format!("the kernel validates {count} blocks, the oldest for {age:.1?}");
        }
        let asked = |id: &&ConnId| !self.download.asked_of(**id).is_empty();
        let peers = self.peers.keys().filter(asked).count();
        format!("waiting for {in_flight} blocks from {peers} peers")
    }

    /// Somebody has shown more than we have, and nothing is on its way (S1).
    fn why_stalled(&self, now: Now) -> String {
        let Some((id, best)) = self.ahead() else {
            return "nothing is missing".into();
        };
        let peer = &self.peers[&id];
        if let Some((until, why)) = self.download.hold() {
            let left = until.saturating_sub(now.mono);
            return format!("trouble of our own: {why}; next attempt in {left:.0?}");
        }
        if best.work < self.config.minimum_work {
            return format!("the chain that {id} has shown is below the minimum work");
        }
        if !peer.serves_blocks() {
            return format!("{id} has shown more but serves no blocks with witness data");
        }
        if let Some(retry) = peer.known.retry.filter(|retry| retry.best == best.hash) {
            let left = retry.again.saturating_sub(now.mono);
            return match retry.why {
                Unavailable::Lacked => {
                    format!("{id} lacked a block that it had shown; asked again in {left:.0?}")
                }
                Unavailable::TooNew(_) => {
                    format!("{id} has shown a block more than two hours ahead of our clock")
                }
                Unavailable::Unjudged => {
                    format!(
                        "a block that {id} has shown could not be judged; tried again in {left:.0?}"
                    )
                }
            };
        }
        let Some(plan) = self.download.main_plan() else {
            return format!("{id} has shown height {}; about to ask", best.height);
        };
        match plan.missing().first() {
            None => "all blocks are here; the kernel has not connected them".into(),
            Some(height) if self.download.lowest_kept(id) > *height => {
                format!("no peer keeps block {height} any more (pruned)")
            }
            Some(height) => {
                format!("{id} has shown block {height} and is late with others; asked again soon")
            }
        }
    }

    fn peer_row(&self, id: ConnId, peer: &Peer, now: Now) -> PeerSync {
        let tip = self.tree.tip().hash;
        let common = peer
            .known
            .best
            .and_then(|best| self.tree.fork_point(&best.hash, &tip));
        let asked = self.download.asked_of(id);
        let oldest = asked.iter().map(|asked| now.mono.saturating_sub(asked.at));
        PeerSync {
            id,
            remote: peer.remote,
            direction: peer.direction,
            best_known: peer.known.best.map(BlockRef::from),
            common: common.map(|entry| BlockRef {
                hash: entry.hash,
                height: entry.height,
            }),
            in_flight: asked.iter().map(|asked| asked.height).collect(),
            oldest: oldest.max(),
            eligible: peer.eligible(),
            why: self.why_peer(id, peer, now),
            presynced: peer
                .headers
                .low_work
                .as_ref()
                .map(|low_work| low_work.height()),
        }
    }

    fn why_peer(&self, id: ConnId, peer: &Peer, now: Now) -> String {
        if peer.leaving {
            return "being disconnected".into();
        }
        if peer.serves == Serves::Nothing {
            return "serves no blocks".into();
        }
        if let Some(aside) = peer.headers.aside {
            let left = aside.until.saturating_sub(now.mono);
            return format!("not for the next {left:.0?}: {}", aside.why);
        }
        let part = if self.headers.is_source(id) {
            "the source"
        } else {
            "may become the source"
        };
        if self.download.is_stalling(id) {
            return format!("{part}; late with blocks, gets no more requests for now");
        }
        match peer.chain_sync {
            ChainSync::Behind(behind) => {
                let left = behind.until.saturating_sub(now.mono);
                format!("{part}; its chain is behind ours, it has {left:.0?} to catch up")
            }
            ChainSync::Level | ChainSync::Protected => part.into(),
        }
    }
}

fn requests(id: ConnId, peer: &Peer, now: Duration) -> Vec<Request> {
    let ask = peer.headers.ask.map(|ask| (ask.kind, ask.at));
    let probe = peer.known.probe.map(|probe| (HeadersAsk::Probe, probe.at));
    [ask, probe]
        .into_iter()
        .flatten()
        .map(|(kind, at)| Request {
            peer: id,
            what: Wanted::Headers(kind),
            age: now.saturating_sub(at),
        })
        .collect()
}
