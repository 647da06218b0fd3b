//! Fills in [`SyncState`] and finds the line that says why.

use std::time::Duration;

use crate::headers::Status;
use crate::lifecycle::ConnId;
use crate::text::{count, left, passed};
use crate::time::Now;

use super::chain_sync::ChainSync;
use super::manager::SyncManager;
use super::peer::{Ask, Known, Peer, Serves, Unavailable};
use super::state::{
    Backlog, BlockRef, HeadersAsk, PeerSync, Phase, Request, Source, SyncState, Wanted, Window,
};

/// Silence of a source that was asked for headers after which sync counts as stalled: others
/// have been asked beside it for long, if there are any.
const HEADERS_LATE: Duration = Duration::from_secs(15);

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
        let phase = self.phase(now);
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
            missing: self.missing(),
            headers_to_come: self.headers_asked().is_some(),
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

    /// Blocks that the chain lacks of the best one known: of the best header, or of what a
    /// live peer has shown if that is higher.
    fn missing(&self) -> u32 {
        let shown = self.best_shown().map_or(0, |(_, best)| best.height);
        let known = self.tree.best_header().height.max(shown);
        known.saturating_sub(self.tree.tip().height)
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

    /// Whether headers are known whose blocks the chain lacks, from any peer: one
    /// that left took its blocks along, not the knowledge that they are.
    fn headers_ahead(&self) -> bool {
        self.tree.best_header().work > self.tree.tip().work
    }

    /// The request for headers that the source has not answered; a source that has no more is
    /// asked for none.
    fn headers_asked(&self) -> Option<(ConnId, Option<Ask>)> {
        let id = self.headers.source.as_ref()?.id;
        let headers = &self.peers.get(&id)?.headers;
        let with_engine = self.engine_headers.waiting() > 0;
        let fetching = !headers.ended && (headers.ask.is_some() || with_engine);
        fetching.then_some((id, headers.ask))
    }

    /// Whether the clock says that there are blocks that no peer has shown: blocks are found
    /// all the time on this network, and no tip of this run was less than a day old.
    fn lacks_time(&self, now: Now) -> bool {
        self.config.always_mined && self.initial_block_download(now)
    }

    fn phase(&self, now: Now) -> Phase {
        if !self.peers.values().any(Peer::serves_headers) {
            return Phase::NoPeers;
        }
        let asked = self.headers_asked();
        // A request that is late keeps nothing going.
        let late = |ask: Ask| now.mono.saturating_sub(ask.at) >= HEADERS_LATE;
        let headers_come = asked.is_some_and(|(_, ask)| !ask.is_some_and(late));
        let blocks_come = self.download.outstanding() > 0;
        match asked {
            Some(_) if headers_come || blocks_come => Phase::HeaderSync,
            None if blocks_come => Phase::BlockSync,
            Some(_) => Phase::Stalled,
            None if self.download.in_flight() > 0 => Phase::Stalled,
            None if self.ahead().is_some() || self.headers_ahead() => Phase::Stalled,
            None if self.lacks_time(now) => Phase::Stalled,
            None => Phase::Synced,
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
        match self.headers_asked() {
            None => "choosing a peer".into(),
            Some((id, None)) => format!("headers of {id} are being checked"),
            Some((id, Some(ask))) => {
                let age = passed(now.mono.saturating_sub(ask.at));
                let low_work = self.peers[&id].headers.low_work.is_some();
                let what = match low_work {
                    true => "headers that have not shown the minimum work yet",
                    false => "headers",
                };
                format!("waiting for {what} from {id}, asked {age} ago")
            }
        }
    }

    fn why_blocks(&self, now: Now) -> String {
        let in_flight = self.download.in_flight();
        if in_flight > 0 {
            let asked = |id: &&ConnId| !self.download.asked_of(**id).is_empty();
            let peers = self.peers.keys().filter(asked).count();
            let (blocks, peers) = (count(in_flight, "block"), count(peers, "peer"));
            return format!("waiting for {blocks} from {peers}");
        }
        let pending = self.download.with_kernel();
        let since = pending.values().map(|pending| pending.since).min();
        let age = passed(now.mono.saturating_sub(since.unwrap_or(now.mono)));
        let blocks = count(pending.len(), "block");
        format!("validating {blocks}, the oldest for {age}")
    }

    /// Requests that are late, if there are any.
    fn why_late(&self, now: Now) -> Option<String> {
        let since = |at: Duration| passed(now.mono.saturating_sub(at));
        if let Some((id, progress)) = self.download.overdue() {
            let (remote, since) = (self.peers[&id].remote, since(progress));
            return Some(format!(
                "{id} ({remote}) is late with blocks for {since}, and no other peer can be asked"
            ));
        }
        let (id, ask) = self.headers_asked()?;
        let (remote, since) = (self.peers[&id].remote, since(ask?.at));
        Some(format!(
            "{id} ({remote}) has not answered getheaders for {since}"
        ))
    }

    /// More is known than we have, and nothing is on its way (S1).
    fn why_stalled(&self, now: Now) -> String {
        if let Some(late) = self.why_late(now) {
            return late;
        }
        let Some((id, best)) = self.ahead() else {
            return match self.headers_ahead() {
                true => self.why_unserved(),
                false => self.why_old(now),
            };
        };
        let peer = &self.peers[&id];
        if let Some((until, why)) = self.download.hold() {
            let again = left(until.saturating_sub(now.mono));
            return format!("trouble of our own: {why}; next attempt in {again}");
        }
        if best.work < self.config.minimum_work {
            return format!("the chain that {id} has shown is below the minimum work");
        }
        if !peer.serves_blocks() {
            return format!("{id} has shown more but serves no blocks with witness data");
        }
        if let Some(retry) = peer.known.retry.filter(|retry| retry.best == best.hash) {
            let again = left(retry.again.saturating_sub(now.mono));
            return match retry.why {
                Unavailable::Lacked => {
                    format!("{id} lacked a block that it had shown; asked again in {again}")
                }
                Unavailable::TooNew(_) => {
                    format!("{id} has shown a block more than two hours ahead of our clock")
                }
                Unavailable::Unjudged => {
                    format!(
                        "a block that {id} has shown could not be judged; tried again in {again}"
                    )
                }
            };
        }
        let Some(plan) = self.download.main_plan() else {
            return format!("{id} has shown height {}; about to ask", best.height);
        };
        match plan.missing().first() {
            None => "all blocks are here and await validation".into(),
            Some(height) if self.download.lowest_kept(id) > *height => {
                format!("no peer keeps block {height} any more (pruned)")
            }
            Some(height) => {
                format!("{id} has shown block {height} and is late with others; asked again soon")
            }
        }
    }

    /// No peer has shown what the clock says that there must be.
    fn why_old(&self, now: Now) -> String {
        let tip = self.tree.tip();
        let age = passed(Duration::from_secs(
            now.unix.saturating_sub(tip.header.time).into(),
        ));
        format!(
            "the latest block is {age} old (height {}), and no connected peer has shown a later \
             one with enough work",
            tip.height
        )
    }

    /// Headers are known that no connected peer has shown.
    fn why_unserved(&self) -> String {
        let best = self.tree.best_header();
        if best.work < self.config.minimum_work {
            return "the best headers known are below the minimum work".into();
        }
        let blocks = count(best.height.saturating_sub(self.tree.tip().height), "block");
        format!(
            "headers to height {} are known, and no connected peer has shown that it has the \
             {blocks} that are missing",
            best.height
        )
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
            let again = left(aside.until.saturating_sub(now.mono));
            return format!("not for the next {again}: {}", aside.why);
        }
        let part = if self.headers.is_source(id) {
            "the source"
        } else {
            "may become the source"
        };
        if self.download.is_overdue(id) {
            return format!("{part}; late with blocks, and no other peer can be asked");
        }
        if self.download.is_stalling(id) {
            return format!("{part}; late with blocks, gets no more requests for now");
        }
        match peer.chain_sync {
            ChainSync::Behind(behind) => {
                let left = left(behind.until.saturating_sub(now.mono));
                format!("{part}; its chain is behind ours, it has {left} to catch up")
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
