//! Fills in [`SyncState`] and finds the line that says why.

use std::time::Duration;

use crate::headers::{Entry, Status};
use crate::lifecycle::ConnId;
use crate::text::{count, left, passed};
use crate::time::Now;

use super::deadlines::next_deadline;
use super::download::Pending;
use super::header_sync::Ask;
use super::known_work::{Known, Unavailable};
use super::parts::Parts;
use super::peers::Peer;
use super::state::{
    Backlog, BlockRef, HeadersAsk, PeerSync, Phase, Request, Source, SyncState, Wanted,
    WatchdogState, Window,
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

impl From<&Entry> for BlockRef {
    fn from(entry: &Entry) -> Self {
        Self {
            hash: entry.hash,
            height: entry.height,
        }
    }
}

/// What is being done, and why.
pub(super) fn state(parts: &Parts, watchdog: WatchdogState, now: Now) -> SyncState {
    let report = Report { parts };
    let plan = parts.download.main_plan();
    let phase = report.phase(now);
    let source = parts.headers.source().and_then(|source| {
        Some(Source {
            id: source.id,
            remote: parts.peers.get(source.id)?.remote(),
            at: source.at,
            since: now.mono.saturating_sub(source.since),
            why: source.why.clone(),
        })
    });
    let peers = parts.peers.iter();
    let peers = peers.map(|(id, peer)| report.peer_row(id, peer, now));
    SyncState {
        phase,
        why: report.why(phase, now),
        initial_block_download: parts.chain.is_initial_download(now),
        missing: report.missing(),
        headers_to_come: report.headers_asked().is_some(),
        tip: BlockRef::from(&parts.tree().tip()),
        best_header: BlockRef::from(&parts.tree().best_header()),
        best_shown: report.best_shown().map(|(_, best)| best.into()),
        source,
        requests: report.requests(now.mono),
        next_deadline: next_deadline(parts, now.mono),
        peers: peers.collect(),
        source_changes: parts.headers.source_changes().cloned().collect(),
        window: plan.map_or_else(Window::default, |plan| Window {
            start: plan.base() + 1,
            end: plan.end(),
        }),
        stall_timeout: parts.download.longest_timeout(),
        backlog: Backlog {
            in_flight: parts.download.in_flight(),
            with_kernel: parts.download.with_kernel().len(),
            kernel_bytes: parts.download.kernel_bytes(),
            expected_block: parts.download.expected_block(),
            header_batches: parts.engine_headers.waiting(),
        },
        watchdog,
    }
}

/// Looks at the parts, and finds words for what they do.
struct Report<'a> {
    parts: &'a Parts,
}

impl Report<'_> {
    /// Unanswered requests, by peer.
    fn requests(&self, now: Duration) -> Vec<Request> {
        let mut requests = Vec::new();
        for (id, _) in self.parts.peers.iter() {
            let ask = self.parts.headers.ask_of(id);
            let probe = self.parts.known.probe(id);
            let ask = ask.map(|ask| (Wanted::Headers(ask.kind), ask.at));
            let probe = probe.map(|probe| (Wanted::Headers(HeadersAsk::Probe), probe.at));
            let blocks = self.parts.download.asked_of(id).iter().map(|asked| {
                let block = BlockRef {
                    hash: asked.hash,
                    height: asked.height,
                };
                (Wanted::Block(block), asked.at)
            });
            let all = ask.into_iter().chain(probe).chain(blocks);
            requests.extend(all.map(|(what, at)| Request {
                peer: id,
                what,
                age: now.saturating_sub(at),
            }));
        }
        requests.sort_by_key(|request| (request.peer, std::cmp::Reverse(request.age)));
        requests
    }

    /// Blocks that the chain lacks of the best one known: of the best header, or of what a
    /// live peer has shown if that is higher.
    fn missing(&self) -> u32 {
        let shown = self.best_shown().map_or(0, |(_, best)| best.height);
        let known = self.parts.tree().best_header().height.max(shown);
        known.saturating_sub(self.parts.tree().tip().height)
    }

    /// The most work that a live peer has shown, whether its blocks can be had now or not.
    fn best_shown(&self) -> Option<(ConnId, Known)> {
        let known = &self.parts.known;
        let shown = self.parts.peers.iter_live().flat_map(|(id, _)| {
            let retried = known.retry(id);
            let retried = retried.and_then(|retry| self.parts.tree().get(&retry.best));
            let retried = retried.filter(|entry| entry.status != Status::Invalid);
            let retried = retried.as_ref().map(Known::from);
            let best = known.best(id).into_iter();
            best.chain(retried).map(move |best| (id, best))
        });
        shown.max_by_key(|(_, best)| best.work)
    }

    /// A peer that has shown a chain with more work than ours.
    fn ahead(&self) -> Option<(ConnId, Known)> {
        self.best_shown()
            .filter(|(_, best)| best.work > self.parts.tree().tip().work)
    }

    /// Whether headers are known whose blocks the chain lacks, from any peer: one
    /// that left took its blocks along, not the knowledge that they are.
    fn headers_ahead(&self) -> bool {
        self.parts.tree().best_header().work > self.parts.tree().tip().work
    }

    /// The request for headers that the source has not answered; a source that has no more is
    /// asked for none.
    fn headers_asked(&self) -> Option<(ConnId, Option<Ask>)> {
        let id = self.parts.headers.source_id()?;
        let ask = self.parts.headers.ask_of(id);
        let with_engine = self.parts.engine_headers.waiting() > 0;
        let fetching = ask.is_some() || with_engine;
        (fetching && !self.parts.headers.has_ended(id)).then_some((id, ask))
    }

    /// Whether the clock says that there are blocks that no peer has shown: blocks are found
    /// all the time on this network, and no tip of this run was less than a day old.
    fn lacks_time(&self, now: Now) -> bool {
        self.parts.config.always_mined && self.parts.chain.is_initial_download(now)
    }

    fn phase(&self, now: Now) -> Phase {
        let mut peers = self.parts.peers.iter();
        if !peers.any(|(_, peer)| peer.serves_headers()) {
            return Phase::NoPeers;
        }
        let asked = self.headers_asked();
        // A request that is late keeps nothing going.
        let late = |ask: Ask| now.mono.saturating_sub(ask.at) >= HEADERS_LATE;
        let headers_come = asked.is_some_and(|(_, ask)| !ask.is_some_and(late));
        let blocks_come = self.parts.download.outstanding() > 0;
        match asked {
            Some(_) if headers_come || blocks_come => Phase::HeaderSync,
            None if blocks_come => Phase::BlockSync,
            Some(_) => Phase::Stalled,
            None if self.parts.download.in_flight() > 0 => Phase::Stalled,
            None if self.ahead().is_some() || self.headers_ahead() => Phase::Stalled,
            None if self.lacks_time(now) => Phase::Stalled,
            None => Phase::Synced,
        }
    }

    fn why(&self, phase: Phase, now: Now) -> String {
        match phase {
            Phase::NoPeers if self.parts.peers.is_empty() => "no peer is connected".into(),
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
                let low_work = self.parts.headers.low_work_of(id).is_some();
                let what = match low_work {
                    true => "headers that have not shown the minimum work yet",
                    false => "headers",
                };
                format!("waiting for {what} from {id}, asked {age} ago")
            }
        }
    }

    fn why_blocks(&self, now: Now) -> String {
        let in_flight = self.parts.download.in_flight();
        if in_flight > 0 {
            let asked = |id: ConnId| !self.parts.download.asked_of(id).is_empty();
            let peers = self.parts.peers.iter().filter(|(id, _)| asked(*id)).count();
            let (blocks, peers) = (count(in_flight, "block"), count(peers, "peer"));
            return format!("waiting for {blocks} from {peers}");
        }
        let pending = self.parts.download.with_kernel();
        let since = pending.values().map(Pending::since).min();
        let age = passed(now.mono.saturating_sub(since.unwrap_or(now.mono)));
        let blocks = count(pending.len(), "block");
        format!("validating {blocks}, the oldest for {age}")
    }

    /// Requests that are late, if there are any.
    fn why_late(&self, now: Now) -> Option<String> {
        let since = |at: Duration| passed(now.mono.saturating_sub(at));
        if let Some((id, progress, late)) = self.parts.download.overdue() {
            let (remote, since) = (self.parts.peers.get(id)?.remote(), since(progress));
            let peer = format!("{id} ({remote})");
            return Some(match late {
                1 => format!(
                    "{peer} is late with blocks for {since}, and no other peer can be asked"
                ),
                late => format!(
                    "{late} peers are late with blocks, {peer} for {since}, and no other peer can \
                     be asked"
                ),
            });
        }
        let (id, ask) = self.headers_asked()?;
        let (remote, since) = (self.parts.peers.get(id)?.remote(), since(ask?.at));
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
        if let Some((until, why)) = self.parts.download.hold() {
            let again = left(until.saturating_sub(now.mono));
            return format!("local error: {why}; next attempt in {again}");
        }
        if best.work < self.parts.config.minimum_work {
            return format!("the chain that {id} has shown is below the minimum work");
        }
        let peer = self.parts.peers.get(id);
        if !peer.is_some_and(Peer::serves_blocks) {
            return format!("{id} has shown more but serves no blocks with witness data");
        }
        let retry = self.parts.known.retry(id);
        if let Some(retry) = retry.filter(|retry| retry.best == best.hash) {
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
        let Some(plan) = self.parts.download.main_plan() else {
            return format!("{id} has shown height {}; about to ask", best.height);
        };
        match plan.missing().first() {
            None => "all blocks are here and await validation".into(),
            Some(height) if self.parts.download.lowest_kept(id) > *height => {
                format!("no peer keeps block {height} any more (pruned)")
            }
            Some(height) => {
                format!("{id} has shown block {height} and is late with others; asked again soon")
            }
        }
    }

    /// No peer has shown what the clock says that there must be.
    fn why_old(&self, now: Now) -> String {
        let tip = self.parts.tree().tip();
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
        let best = self.parts.tree().best_header();
        if best.work < self.parts.config.minimum_work {
            return "the best headers known are below the minimum work".into();
        }
        let blocks = count(
            best.height.saturating_sub(self.parts.tree().tip().height),
            "block",
        );
        format!(
            "headers to height {} are known, and no connected peer has shown that it has the \
             {blocks} that are missing",
            best.height
        )
    }

    fn peer_row(&self, id: ConnId, peer: &Peer, now: Now) -> PeerSync {
        let tree = self.parts.tree();
        let best = self.parts.known.best(id);
        let common = best.and_then(|best| tree.fork_point(&best.hash, &tree.tip().hash));
        let asked = self.parts.download.asked_of(id);
        let oldest = asked.iter().map(|asked| now.mono.saturating_sub(asked.at));
        let low_work = self.parts.headers.low_work_of(id);
        PeerSync {
            id,
            remote: peer.remote(),
            direction: peer.direction(),
            best_known: best.map(BlockRef::from),
            common: common.as_ref().map(BlockRef::from),
            in_flight: asked.iter().map(|asked| asked.height).collect(),
            oldest: oldest.max(),
            eligible: self.parts.headers.is_eligible(&self.parts.peers, id),
            why: self.why_peer(id, peer, now),
            presynced: low_work.map(|low_work| low_work.height()),
        }
    }

    fn why_peer(&self, id: ConnId, peer: &Peer, now: Now) -> String {
        if peer.is_leaving() {
            return "being disconnected".into();
        }
        if !peer.is_full_node() {
            return "serves no blocks".into();
        }
        if let Some(cool_down) = self.parts.headers.cool_down_of(id) {
            let again = left(cool_down.until.saturating_sub(now.mono));
            return format!("not for the next {again}: {}", cool_down.why);
        }
        let part = if self.parts.headers.is_source(id) {
            "the source"
        } else {
            "may become the source"
        };
        if self.parts.download.is_overdue(id) {
            return format!("{part}; late with blocks, and no other peer can be asked");
        }
        if self.parts.download.is_stalling(id) {
            return format!("{part}; late with blocks, gets no more requests for now");
        }
        match self.parts.chain_sync.behind(id) {
            Some((until, _)) => {
                let left = left(until.saturating_sub(now.mono));
                format!("{part}; its chain is behind ours, it has {left} to catch up")
            }
            None => part.into(),
        }
    }
}
