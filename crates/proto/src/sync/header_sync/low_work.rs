//! Following headers of chains that have not shown enough work yet.
//!
//! [`LowWork`] follows the headers of one peer; here it is decided whose headers are followed, and
//! how peers are treated whose chain has too little work.

use std::time::Duration;

use bitcoin::BlockHash;
use bitcoin::block::Header;
use rand::Rng;

use crate::headers::{Entry, LowWork, LowWorkFailure, LowWorkOutcome, anti_dos_threshold};
use crate::lifecycle::{ConnId, Direction, DoneReason};

use super::super::chain::first_from_the_future;
use super::batch::{Answer, is_too_new};
use super::{Context, HeaderSync, PeerHeaders};

/// Peers besides the source whose low-work headers are followed at a time; bounds the memory that
/// wasteful peers can take (1.4 MB each, at worst).
const MAX_LOW_WORK_PEERS: usize = 4;
/// Time for which a peer's low-work headers are followed before another peer may replace it.
const LOW_WORK_TURN: Duration = Duration::from_secs(60);
/// How often the low-work sync of a peer may restart because of announcements.
const MAX_RESTARTS: u32 = 4;

impl HeaderSync {
    /// A chain below the minimum work: followed without being stored while the peer has more of it.
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

    /// Whether the low-work headers of this peer may be followed now: it is the source, or one of
    /// [`MAX_LOW_WORK_PEERS`] others. A new peer replaces the slowest that has had
    /// [`LOW_WORK_TURN`], so that no peer can hold these slots by being slow: one in its second
    /// download is replaced last, and only requested headers replace.
    fn may_follow_low_work(&mut self, cx: &mut Context<'_>, id: ConnId, asked: bool) -> bool {
        if self.is_source(id) {
            return true;
        }
        // A peer in its cool-down is not followed again.
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

    /// The peer's chain ended below the minimum work. An outbound peer is of no use then; an
    /// inbound one is not the source again for some time, while our chain is below the minimum
    /// itself.
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

    /// The next batch of a low-work sync. False when it does not belong to it.
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
        // A batch that does not connect may be an announcement in between: the sync restarts, a few
        // times.
        let amidst = matches!(failure, LowWorkFailure::NotContinuous { .. });
        if !amidst || self.given_up(id) > MAX_RESTARTS {
            self.cool_down(cx, id, "its headers differ between two downloads", false);
        }
        false
    }

    /// The progress of the furthest low-work sync; headers in their second download count for more.
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
    /// Whether its low-work headers are in their second download.
    fn comes_again(&self) -> bool {
        let low_work = self.low_work.as_ref();
        low_work.is_some_and(|low_work| low_work.redownloading())
    }

    /// Low-work headers a second that it has sent.
    fn headers_per_second(&self, now: Duration) -> u64 {
        let low_work = self.low_work.as_ref();
        let seen = low_work.map_or(0, |low_work| u64::from(low_work.height()));
        let time = now.saturating_sub(self.low_work_since).as_secs();
        seen / time.max(1)
    }
}
