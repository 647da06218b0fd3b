//! Following headers of chains that have not shown enough work yet.
//!
//! What is followed, and how, is [`LowWork`]'s matter; here it is decided whose headers are
//! followed, and what becomes of peers whose headers came to nothing.

use std::time::Duration;

use bitcoin::BlockHash;
use bitcoin::block::Header;
use rand::Rng;

use crate::headers::{Entry, LowWork, LowWorkFailure, LowWorkOutcome, anti_dos_threshold};
use crate::lifecycle::{ConnId, Direction, DoneReason};

use super::HeadersAsk;
use super::header_batch::{Answer, first_from_the_future};
use super::manager::{Step, SyncManager};
use super::peer::Peer;

/// Peers besides the source whose low-work headers are followed at a time; bounds the
/// memory that peers who came to waste it can take (1.4 MB each, at worst).
const MAX_LOW_WORK_PEERS: usize = 4;
/// Time for which a peer's low-work headers are followed before another may take its place.
const LOW_WORK_TURN: Duration = Duration::from_secs(60);
/// Times that the low-work headers of a peer may begin again because of announcements.
const MAX_RESTARTS: u32 = 4;

impl SyncManager {
    /// A chain of less than the minimum work: followed without being kept while the peer
    /// has more of it.
    pub(super) fn low_work_batch(
        &mut self,
        step: &mut Step,
        id: ConnId,
        answer: Answer,
        start: &Entry,
        headers: &[Header],
        full: bool,
    ) {
        if !full {
            return match answer {
                Answer::To(_) => self.low_work_ended(step, id),
                Answer::ToProbe(probe) => self.probe_answered(step, id, probe),
                Answer::Unasked => {}
            };
        }
        self.take_over(step, id, true);
        let asked = !matches!(answer, Answer::Unasked);
        if !self.may_follow_low_work(step, id, asked) {
            return;
        }
        let low_work = LowWork::new(
            self.config.pow.clone(),
            self.config.low_work,
            &self.tree,
            start,
            anti_dos_threshold(&self.tree, self.config.minimum_work),
            step.now.unix,
            self.random.random(),
        );
        let headers_of_peer = &mut self.live(id).headers;
        headers_of_peer.low_work = Some(Box::new(low_work));
        headers_of_peer.low_work_since = step.now.mono;
        self.continue_low_work(step, id, headers, full);
    }

    /// Whether the low-work headers of this peer may be followed now: it is the source, or
    /// one of [`MAX_LOW_WORK_PEERS`] others. A newcomer takes the place of the slowest that
    /// has had [`LOW_WORK_TURN`], so that nobody can keep these places by being slow: not of
    /// one whose headers come for the second time while there is another, and only for
    /// headers that were asked for.
    fn may_follow_low_work(&mut self, step: &Step, id: ConnId, asked: bool) -> bool {
        if self.headers.is_source(id) {
            return true;
        }
        // What came to nothing before is not followed again while it is set aside.
        if self.peers[&id].headers.aside.is_some() {
            return false;
        }
        let now = step.now.mono;
        let others = self.peers.iter().filter(|(other, peer)| {
            **other != id && !self.headers.is_source(**other) && peer.headers.low_work.is_some()
        });
        if others.clone().count() < MAX_LOW_WORK_PEERS {
            return true;
        }
        if !asked {
            return false;
        }
        let second_time = |peer: &Peer| {
            let low_work = peer.headers.low_work.as_ref();
            low_work.is_some_and(|low_work| low_work.redownloading())
        };
        let rate = |peer: &Peer| {
            let low_work = peer.headers.low_work.as_ref();
            let seen = low_work.map_or(0, |low_work| u64::from(low_work.height()));
            let time = now.saturating_sub(peer.headers.low_work_since).as_secs();
            seen / time.max(1)
        };
        let slowest = others
            .filter(|(_, peer)| now >= peer.headers.low_work_since + LOW_WORK_TURN)
            .min_by_key(|(_, peer)| (second_time(peer), rate(peer)))
            .map(|(id, _)| *id);
        let Some(slowest) = slowest else { return false };
        let headers = &mut self.live(slowest).headers;
        headers.low_work = None;
        headers.ask = None;
        true
    }

    /// The peer's chain ended below the minimum work. One that we dialled to sync from is
    /// of no use then; another is not the source again for some time, while we have not come
    /// to the minimum ourselves.
    pub(super) fn low_work_ended(&mut self, step: &mut Step, id: ConnId) {
        let automatic = self.peers[&id].direction == Direction::Outbound;
        let below_minimum = self.tree.best_header().work < self.config.minimum_work;
        self.live(id).headers.given_up += 1;
        if !below_minimum {
            self.headers_ended(step, id);
        } else if automatic && self.initial_block_download(step.now) {
            self.disconnect(step, id, DoneReason::LowWorkChain);
        } else {
            self.headers_ended(step, id);
            self.set_aside(step, id, "its chain has too little work", false);
        }
    }

    /// The next batch of a low-work sync. False when it was no part of that.
    pub(super) fn continue_low_work(
        &mut self,
        step: &mut Step,
        id: ConnId,
        headers: &[Header],
        full: bool,
    ) -> bool {
        let Some(mut low_work) = self.live(id).headers.low_work.take() else {
            return false;
        };
        let result = low_work.receive(headers, full);
        match &result.outcome {
            LowWorkOutcome::Failed(failure) => return self.low_work_failed(step, id, failure),
            LowWorkOutcome::Continue | LowWorkOutcome::Done => {}
        }
        let is_source = self.headers.is_source(id);
        let kind = if is_source {
            HeadersAsk::Sync
        } else {
            HeadersAsk::Announced
        };
        let peer = self.live(id);
        peer.headers.ask = None;
        peer.headers.answered = true;
        let mut accepted = result.accepted;
        if let Some((at, time)) = first_from_the_future(step.now, &accepted) {
            let last = accepted[accepted.len() - 1].block_hash();
            self.is_too_new(step.now.mono, id, last, time);
            accepted.truncate(at);
        }
        let hashes: Vec<BlockHash> = accepted.iter().map(Header::block_hash).collect();
        if !accepted.is_empty() {
            match self.store_headers(step, &accepted, &hashes) {
                Ok(_) => self.learn(id, *hashes.last().expect("not empty")),
                Err(reject) => {
                    self.punish_for_header(step, id, &reject);
                    return true;
                }
            }
        }
        match (result.next, hashes.last()) {
            (Some(next), _) => {
                if is_source {
                    self.headers.have_come();
                }
                let mut locator = vec![next];
                locator.extend(self.tree.locator(&low_work.locator_start()));
                let height = low_work.height();
                self.live(id).headers.low_work = Some(low_work);
                self.send_ask(step, id, kind, locator, height);
            }
            (None, Some(last)) if full => self.ask(step, id, kind, *last),
            (None, Some(_)) => self.headers_ended(step, id),
            (None, None) => self.low_work_ended(step, id),
        }
        true
    }

    /// True when there is nothing more to do with the batch.
    fn low_work_failed(&mut self, step: &mut Step, id: ConnId, failure: &LowWorkFailure) -> bool {
        if let LowWorkFailure::ProofOfWork(error) = failure {
            self.disconnect(step, id, DoneReason::InvalidHeader(error.to_string()));
            return true;
        }
        tracing::debug!(%id, %failure, "low-work headers given up");
        self.live(id).headers.ask = None;
        self.live(id).headers.given_up += 1;
        // What does not connect may be an announcement amidst: the check starts again, a few
        // times.
        let amidst = matches!(failure, LowWorkFailure::NotContinuous { .. });
        if !amidst || self.peers[&id].headers.given_up > MAX_RESTARTS {
            self.set_aside(step, id, "its headers differ between two downloads", false);
        }
        false
    }
}
