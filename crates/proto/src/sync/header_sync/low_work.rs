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

use super::super::chain::first_from_the_future;
use super::batch::{Answer, is_too_new};
use super::{Context, HeaderSync, PeerHeaders};

/// Peers besides the source whose low-work headers are followed at a time; bounds the
/// memory that peers who came to waste it can take (1.4 MB each, at worst).
const MAX_LOW_WORK_PEERS: usize = 4;
/// Time for which a peer's low-work headers are followed before another may take its place.
const LOW_WORK_TURN: Duration = Duration::from_secs(60);
/// Times that the low-work headers of a peer may begin again because of announcements.
const MAX_RESTARTS: u32 = 4;

impl HeaderSync {
    /// A chain of less than the minimum work: followed without being kept while the peer
    /// has more of it.
    pub(super) fn low_work_batch(
        &mut self,
        cx: &mut Context<'_>,
        id: ConnId,
        answer: Answer,
        start: &Entry,
        headers: &[Header],
        full: bool,
    ) {
        if !full {
            return match answer {
                Answer::To(_) => self.low_work_ended(cx, id),
                Answer::ToProbe(probe) => self.probe_answered(cx, id, probe),
                Answer::Unasked => {}
            };
        }
        self.take_over(cx, id, true);
        let asked = !matches!(answer, Answer::Unasked);
        if !self.may_follow_low_work(cx, id, asked) {
            return;
        }
        let low_work = LowWork::new(
            cx.config.pow.clone(),
            cx.config.low_work,
            cx.tree(),
            start,
            anti_dos_threshold(cx.tree(), cx.config.minimum_work),
            cx.step.now.unix,
            self.random.random(),
        );
        let peer = self.peer(id);
        peer.low_work = Some(Box::new(low_work));
        peer.low_work_since = cx.now();
        self.continue_low_work(cx, id, headers, full);
    }

    /// Whether the low-work headers of this peer may be followed now: it is the source, or
    /// one of [`MAX_LOW_WORK_PEERS`] others. A newcomer takes the place of the slowest that
    /// has had [`LOW_WORK_TURN`], so that nobody can keep these places by being slow: not of
    /// one whose headers come for the second time while there is another, and only for
    /// headers that were asked for.
    fn may_follow_low_work(&mut self, cx: &mut Context<'_>, id: ConnId, asked: bool) -> bool {
        if self.is_source(id) {
            return true;
        }
        // What came to nothing before is not followed again while its peer cools down.
        if self.cool_down_of(id).is_some() {
            return false;
        }
        let now = cx.now();
        let source = self.source_id();
        let others = self.peers.iter().filter(|(other, peer)| {
            **other != id && Some(**other) != source && peer.low_work.is_some()
        });
        if others.clone().count() < MAX_LOW_WORK_PEERS {
            return true;
        }
        if !asked {
            return false;
        }
        let slowest = others
            .filter(|(_, peer)| now >= peer.low_work_since + LOW_WORK_TURN)
            .min_by_key(|(_, peer)| (peer.comes_again(), peer.headers_per_second(now)))
            .map(|(id, _)| *id);
        let Some(slowest) = slowest else { return false };
        self.stop_asking(cx, slowest);
        true
    }

    /// The peer's chain ended below the minimum work. One that we dialled to sync from is
    /// of no use then; another is not the source again for some time, while we have not come
    /// to the minimum ourselves.
    pub(super) fn low_work_ended(&mut self, cx: &mut Context<'_>, id: ConnId) {
        let direction = cx.peers.get(id).map(|peer| peer.direction());
        let automatic = direction == Some(Direction::Outbound);
        let below_minimum = cx.tree().best_header().work < cx.config.minimum_work;
        self.peer(id).given_up += 1;
        if !below_minimum {
            self.headers_ended(cx, id);
        } else if automatic && cx.chain.is_initial_download(cx.step.now) {
            self.disconnect(cx, id, DoneReason::LowWorkChain);
        } else {
            self.headers_ended(cx, id);
            self.cool_down(cx, id, "its chain has too little work", false);
        }
    }

    /// The next batch of a low-work sync. False when it was no part of that.
    pub(super) fn continue_low_work(
        &mut self,
        cx: &mut Context<'_>,
        id: ConnId,
        headers: &[Header],
        full: bool,
    ) -> bool {
        let Some(mut low_work) = self.peer(id).low_work.take() else {
            return false;
        };
        let result = low_work.receive(headers, full);
        match &result.outcome {
            LowWorkOutcome::Failed(failure) => return self.low_work_failed(cx, id, failure),
            LowWorkOutcome::Continue | LowWorkOutcome::Done => {}
        }
        let kind = self.kind_of_next(id);
        self.take_ask(cx, id);
        self.peer(id).answered = true;
        let mut accepted = result.accepted;
        if let Some((at, time)) = first_from_the_future(cx.step.now, &accepted) {
            let last = accepted[accepted.len() - 1].block_hash();
            is_too_new(cx, id, (last, time));
            accepted.truncate(at);
        }
        let hashes: Vec<BlockHash> = accepted.iter().map(Header::block_hash).collect();
        if let Some(last) = hashes.last() {
            match self.store(cx, &accepted, &hashes) {
                Ok(_) => cx.learn(id, *last),
                Err(reject) => {
                    self.punish(cx, id, &reject);
                    return true;
                }
            }
        }
        match (result.next, hashes.last()) {
            (Some(next), _) => {
                if self.is_source(id) {
                    self.have_come(cx.timers);
                }
                let mut locator = vec![next];
                locator.extend(cx.tree().locator(&low_work.locator_start()));
                let height = low_work.height();
                self.peer(id).low_work = Some(low_work);
                self.send_ask(cx, id, kind, locator, height);
            }
            (None, Some(last)) if full => self.ask(cx, id, kind, *last),
            (None, Some(_)) => self.headers_ended(cx, id),
            (None, None) => self.low_work_ended(cx, id),
        }
        true
    }

    /// True when there is nothing more to do with the batch.
    fn low_work_failed(
        &mut self,
        cx: &mut Context<'_>,
        id: ConnId,
        failure: &LowWorkFailure,
    ) -> bool {
        if let LowWorkFailure::ProofOfWork(error) = failure {
            self.disconnect(cx, id, DoneReason::InvalidHeader(error.clone().into()));
            return true;
        }
        tracing::debug!(%id, %failure, "low-work headers given up");
        self.take_ask(cx, id);
        self.peer(id).given_up += 1;
        // What does not connect may be an announcement amidst: the check starts again, a few
        // times.
        let amidst = matches!(failure, LowWorkFailure::NotContinuous { .. });
        if !amidst || self.given_up(id) > MAX_RESTARTS {
            self.cool_down(cx, id, "its headers differ between two downloads", false);
        }
        false
    }

    /// How far low-work headers of any peer have come; those that come for the second time
    /// count for more.
    pub(in crate::sync) fn furthest_low_work(&self) -> u64 {
        let all = self
            .peers
            .values()
            .filter_map(|peer| peer.low_work.as_ref());
        let looked_at = all.map(|low_work| {
            let second = u64::from(low_work.redownloading());
            second << 32 | u64::from(low_work.height())
        });
        looked_at.max().unwrap_or(0)
    }
}

impl PeerHeaders {
    /// Whether its low-work headers come for the second time.
    fn comes_again(&self) -> bool {
        let low_work = self.low_work.as_ref();
        low_work.is_some_and(|low_work| low_work.redownloading())
    }

    /// How many low-work headers a second it has brought.
    fn headers_per_second(&self, now: Duration) -> u64 {
        let low_work = self.low_work.as_ref();
        let seen = low_work.map_or(0, |low_work| u64::from(low_work.height()));
        let time = now.saturating_sub(self.low_work_since).as_secs();
        seen / time.max(1)
    }
}
