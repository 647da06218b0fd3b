//! S1, V1 and V2, judged from the wire and the kernel's verdicts.
//!
//! S1: when a live peer has shown a chain with more work, or announced a block that we do not know,
//! it is asked for it within 120 s; a source that brings nothing new is never the only one asked.
//! "It or another that showed the same" is judged by the result: as long as other peers send
//! something new, no peer need be asked, and when none does, every peer must be asked.
//!
//! * Headers: a peer that announced a block that the node does not have, or showed one that it did
//!   not accept, is asked for headers. So is every peer, once, when no new header came from any. A
//!   peer that sent a full message of headers is asked for more when blocks are missing and no
//!   other sends them.
//! * Blocks: a block is requested from a peer that has shown more work than the tip, or is
//!   outstanding there, when no new block came from any peer since.

use std::time::Duration;

use bitcoin::BlockHash;
use handfast_proto::headers::{Entry, HeaderTree, MAX_FUTURE_BLOCK_TIME, Status};
use handfast_proto::lifecycle::ConnId;
use handfast_proto::sync::{BlockOutcome, Change, KernelEvent, RejectKind};
use handfast_proto::testing::EASY;
use handfast_proto::time::Now;

use super::super::Running;
use super::wire::Seen;
use crate::sim::engine::Engine;

/// S1's 120 s, and two intervals of the observer.
const PATIENCE: Duration = Duration::from_secs(130);
/// A block request may be outstanding for so long without a request to another peer. Core waits a
/// block interval for a download, and half of one more per peer.
const MAX_OUTSTANDING: Duration = Duration::from_secs(20 * 60);

/// Whether a header on the path to `end`, from `first` on, is too new for this clock.
fn is_too_new(tree: &HeaderTree, end: &Entry, first: u32, now: Now) -> bool {
    let latest = now.unix.saturating_add(MAX_FUTURE_BLOCK_TIME);
    let branch = tree.branch(&end.hash, first, usize::MAX);
    branch.iter().any(|entry| entry.header.time > latest)
}

impl Running {
    /// Records the kernel's verdicts.
    pub(in super::super) fn watch_kernel(&mut self, engine: &mut Engine, event: &KernelEvent) {
        match event {
            KernelEvent::HeadersChecked { rejected, .. } => {
                if let Some((hash, reject)) = rejected {
                    match reject.kind {
                        // May be valid later; an orphan blames no peer.
                        RejectKind::TimeFuture | RejectKind::MissingPrev => {}
                        _ => drop(self.watch.refused.insert(*hash)),
                    }
                }
            }
            KernelEvent::BlockChecked {
                hash,
                outcome,
                origin,
                changes,
                ..
            } => {
                for change in changes {
                    if let Change::Invalid(hash, ..) = change {
                        self.watch.refused.insert(*hash);
                    }
                }
                match outcome {
                    BlockOutcome::Stored if origin.is_some() => {
                        self.watch.wire.new_block = engine.now;
                    }
                    // A local error: it pauses, and reports it.
                    BlockOutcome::Failed(_) => engine.trouble(self.host.node, engine.now),
                    // The verdict on a mark that the engine has: on an ancestor of the block, or on
                    // one of that ancestor's.
                    BlockOutcome::Rejected(reject) if reject.kind == RejectKind::InvalidPrev => {
                        let parent = self.sync.tree().parent(hash);
                        self.watch.refused.extend(parent.map(|parent| parent.hash));
                    }
                    _ => {}
                }
            }
            KernelEvent::Durable => {}
        }
    }

    /// Whether the node would follow this header if it had it and its blocks.
    fn is_better(&self, engine: &Engine, hash: &BlockHash, now: Now) -> bool {
        let (seen, kernel) = (&engine.seen, self.kernel.tree());
        let Some(end) = seen.get(hash) else {
            return false;
        };
        let tip = kernel.tip();
        let fork = seen.fork_point(hash, &tip.hash);
        let first = fork.map_or(1, |fork| fork.height + 1);
        let enough = self
            .profile
            .minimum_work
            .is_none_or(|least| end.work >= least);
        let branch = || seen.branch(hash, first, usize::MAX);
        let is_bad = |entry: &Entry| {
            self.watch.refused.contains(&entry.hash)
                || kernel
                    .get(&entry.hash)
                    .is_some_and(|known| known.status == Status::Invalid)
        };
        end.work > tip.work
            && enough
            && !is_too_new(seen, &end, first, now)
            && !branch().iter().any(is_bad)
    }

    /// Whether the node has this header. The kernel is given it with blocks that need it.
    fn has_header(&self, hash: &BlockHash) -> bool {
        self.kernel.tree().contains(hash) || self.sync.tree().contains(hash)
    }

    /// Why this peer should be asked for headers, and is not.
    fn lacks_a_question(&self, engine: &Engine, peer: &Seen, now: Now) -> Option<String> {
        if peer.is_asked_for_headers(engine.now, PATIENCE) {
            return None;
        }
        let asked_since = |at: Duration| peer.headers_asked.is_some_and(|asked| asked >= at);
        if let Some((hash, at)) = peer.announced {
            // A chain that is not known to be better need not be requested.
            let may_be_better = !engine.seen.contains(&hash) || self.is_better(engine, &hash, now);
            if !self.has_header(&hash) && may_be_better && !asked_since(at) {
                return Some(format!("announced {hash}"));
            }
        }
        if let Some((hash, at)) = peer.shown
            && !self.has_header(&hash)
            && self.is_better(engine, &hash, now)
            && !asked_since(at)
        {
            return Some(format!("has shown {hash}, which was not accepted"));
        }
        let last = self.watch.wire.new_header.max(peer.ready);
        let quiet = engine.now.saturating_sub(last) > PATIENCE;
        let stuck = quiet
            && self.sync.tree().best_header().work > self.kernel.tree().tip().work
            && engine.now.saturating_sub(self.watch.wire.new_block) > PATIENCE;
        if let Some(hash) = peer.more_after.filter(|_| stuck) {
            return Some(format!(
                "sent a full message of headers up to {hash} and was not asked for more, and \
                 no peer sends what is missing"
            ));
        }
        let never = peer.headers_asked.is_none();
        (quiet && never).then(|| "was never asked for headers, and no peer sends more".into())
    }

    /// The block that should be requested from this peer, and is not.
    fn lacks_a_request(&self, engine: &Engine, peer: &Seen, now: Now) -> Option<BlockHash> {
        let (hash, at) = peer.shown?;
        if !self.has_header(&hash) || !self.is_better(engine, &hash, now) {
            return None;
        }
        let since = at.max(self.watch.wire.new_block);
        let outstanding = peer
            .outstanding
            .values()
            .any(|at| *at + MAX_OUTSTANDING > engine.now);
        if outstanding || peer.block_asked.is_some_and(|asked| asked >= since) {
            return None;
        }
        let (seen, kernel) = (&engine.seen, self.kernel.tree());
        let fork = seen.fork_point(&hash, &kernel.tip().hash)?;
        let way = seen.branch(&hash, fork.height + 1, usize::MAX);
        let missing = way.iter().find(|entry| {
            let known = kernel.get(&entry.hash);
            known.is_none_or(|known| known.status == Status::Header)
        });
        missing.map(|entry| entry.hash)
    }

    pub(super) fn look_at_s1(&mut self, engine: &mut Engine, now: Now) {
        let lacking: Vec<(ConnId, Option<String>, Option<BlockHash>)> = self
            .watch
            .wire
            .peers
            .iter()
            .map(|(id, peer)| {
                let question = self.lacks_a_question(engine, peer, now);
                (*id, question, self.lacks_a_request(engine, peer, now))
            })
            .collect();
        let excused = engine.had_trouble(self.host.node, PATIENCE) || self.kernel_is_held_up();
        let new_block = self.watch.wire.new_block;
        let mut broken = None;
        for (id, question, request) in lacking {
            let peer = self.watch.wire.peers.get_mut(&id).expect("listed just now");
            let since = |since: &mut Option<Duration>, lacks: bool| {
                *since = lacks.then(|| since.unwrap_or(engine.now));
                since.is_some_and(|since| engine.now - since > PATIENCE)
            };
            let late = since(&mut peer.unasked_headers, question.is_some());
            if let Some(why) = question.filter(|_| late) {
                broken = Some(format!("{id} {why}; it is not asked for headers"));
            }
            let late = since(&mut peer.unasked_blocks, request.is_some());
            // Other peers send what it has too.
            let late = late && engine.now - new_block > PATIENCE;
            if let Some(hash) = request.filter(|_| late) {
                let (end, at) = peer.shown.expect("it lacks a request for it");
                let ago = engine.now - at;
                broken = Some(format!(
                    "{id} has shown more work, {end}, {ago:?} ago; no peer sends anything, and it \
                     is not asked for {hash}"
                ));
            }
        }
        if let Some(text) = broken.filter(|_| !excused) {
            let state = self.sync.state(now);
            let node = self.host.node;
            let text = format!("n{node}: {text}; phase {}, why: {}", state.phase, state.why);
            engine.breach("S1", text);
        }
    }

    /// V1: blocks that the kernel marked invalid, and their descendants, are invalid. V2: blocks
    /// that the kernel stored are stored.
    pub(super) fn look_at_verdicts(&self, engine: &mut Engine) {
        let (tree, kernel) = (self.sync.tree(), self.kernel.tree());
        let node = self.host.node;
        for end in tree.chain_tips() {
            let mut at = tree.get(&end.hash).expect("it is of this tree");
            let median = tree.median_time_past(&at.header.prev_blockhash);
            let is_wrong = at.header.bits.to_consensus() != EASY
                || median.is_some_and(|median| at.header.time <= median);
            if at.height > 0 && is_wrong {
                let text = format!("n{node} has stored {}, which breaks a rule", at.hash);
                engine.breach("V2", text);
            }
            let theirs = kernel.get(&at.hash).map(|entry| entry.status);
            match at.status {
                Status::Invalid => {
                    while let Some(parent) = tree.parent(&at.hash)
                        && parent.status == Status::Invalid
                    {
                        at = parent;
                    }
                    let marked = kernel
                        .get(&at.hash)
                        .is_some_and(|entry| entry.status == Status::Invalid);
                    if !marked && !self.watch.refused.contains(&at.hash) {
                        let text = format!(
                            "n{node} has {} of height {} as invalid, and its kernel never reported that",
                            at.hash, at.height
                        );
                        engine.breach("V1", text);
                    }
                }
                Status::Stored | Status::Connected => {
                    if !matches!(
                        theirs,
                        Some(Status::Stored | Status::Connected | Status::Invalid)
                    ) {
                        let text = format!(
                            "n{node} has {} of height {} as stored; its kernel: {theirs:?}",
                            at.hash, at.height
                        );
                        engine.breach("V2", text);
                    }
                }
                Status::Header => {}
            }
        }
    }
}
