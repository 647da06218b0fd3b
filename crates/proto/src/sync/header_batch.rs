//! What becomes of a `headers` message.

use bitcoin::BlockHash;
use bitcoin::block::Header;
use handfast_wire::Message;
use handfast_wire::limits::MAX_HEADERS;

use crate::headers::{
    Entry, HeaderFault, HeaderRules, InsertError, Status, anti_dos_threshold, check_pow, is_too_new,
};
use crate::lifecycle::{ConnId, DoneReason};
use crate::time::Now;

use super::manager::{Step, SyncManager};
use super::peer::{Ask, Probe};
use super::{HeadersAsk, Reject, RejectKind};

/// What a `headers` message is the answer to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Answer {
    To(Ask),
    ToProbe(Probe),
    /// Nothing: an announcement (BIP130), or so late that it was given up.
    Unasked,
}

/// Whether a header's time (Unix seconds) is too far ahead of our clock to be accepted now.
pub(super) fn is_from_the_future(now: Now, time: u32) -> bool {
    is_too_new(time, now.unix)
}

/// Headers whose time is more than two hours ahead are no offence and may be right later;
/// the kernel would refuse them now. Where the first of them is, and its time.
pub(super) fn first_from_the_future(now: Now, headers: &[Header]) -> Option<(usize, u32)> {
    let mut times = headers.iter().map(|header| header.time).enumerate();
    times.find(|(_, time)| is_from_the_future(now, *time))
}

impl SyncManager {
    pub(super) fn headers_received(
        &mut self,
        step: &mut Step,
        id: ConnId,
        mut headers: Vec<Header>,
    ) {
        if headers.is_empty() {
            return self.no_headers(step, id);
        }
        let mut full = headers.len() == MAX_HEADERS;
        if self.peers[&id].headers.low_work.is_some()
            && self.continue_low_work(step, id, &headers, full)
        {
            return;
        }
        let hashes = match self.check_batch(&headers) {
            Ok(hashes) => hashes,
            Err(reason) => return self.disconnect(step, id, DoneReason::InvalidHeader(reason)),
        };
        let last = *hashes.last().expect("not empty");
        let Some(start) = self.tree.get(&headers[0].prev_blockhash) else {
            return self.unconnected(step, id, last);
        };
        let answer = self.match_answer(id, last);
        self.has_answered(id);
        if let Some((at, time)) = first_from_the_future(step.now, &headers) {
            self.is_too_new(step.now.mono, id, last, time);
            headers.truncate(at);
            full = false;
        }
        if headers.is_empty() || self.lacks_work(&start, &headers, &hashes) {
            return self.low_work_batch(step, id, answer, &start, &headers, full);
        }
        match self.store_headers(step, &headers, &hashes) {
            Ok(new) => self.batch_stored(step, id, answer, &hashes, new, full),
            Err(reject) => self.punish_for_header(step, id, &reject),
        }
    }

    /// An empty answer: the peer has nothing beyond what we asked from (S2).
    fn no_headers(&mut self, step: &mut Step, id: ConnId) {
        self.has_answered(id);
        if self.live(id).headers.low_work.take().is_some() {
            self.live(id).headers.ask = None;
            return self.low_work_ended(step, id);
        }
        let peer = self.live(id);
        let first_asked = match (peer.headers.ask, peer.known.probe) {
            (Some(ask), Some(probe)) if probe.at < ask.at => Answer::ToProbe(probe),
            (Some(ask), _) => Answer::To(ask),
            (None, Some(probe)) => Answer::ToProbe(probe),
            (None, None) => Answer::Unasked,
        };
        match first_asked {
            Answer::To(ask) => {
                peer.headers.ask = None;
                if !self.ask_from_the_tip(step, id, ask) {
                    self.headers_ended(step, id);
                    self.ask_about_announcement(step, id);
                }
            }
            Answer::ToProbe(probe) => {
                peer.known.probe = None;
                self.probe_answered(step, id, probe);
            }
            Answer::Unasked => {}
        }
    }

    fn has_answered(&mut self, id: ConnId) {
        let headers = &mut self.live(id).headers;
        headers.answered = true;
        headers.aside = headers.aside.filter(|aside| !aside.ends_by_answer);
    }

    /// We have headers beyond our tip, and the peer has nothing beyond those. Whoever
    /// showed them may be gone and their blocks with him: what this peer has beyond our
    /// tip is worth more, and an answer from there on shows it. Whether it was asked.
    fn ask_from_the_tip(&mut self, step: &mut Step, id: ConnId, answered: Ask) -> bool {
        let tip = self.tree.tip();
        let peer = &self.peers[&id];
        let has_shown_more = peer.known.best.is_some_and(|best| best.work > tip.work);
        if answered.from <= tip.height || has_shown_more || !peer.serves_headers() {
            return false;
        }
        self.ask(step, id, answered.kind, tip.hash);
        true
    }

    /// Proof of work of each, and each builds on the one before it.
    fn check_batch(&self, headers: &[Header]) -> Result<Vec<BlockHash>, String> {
        let limit = self.config.pow.limit();
        let mut hashes = Vec::with_capacity(headers.len());
        let mut prev = headers[0].prev_blockhash;
        for header in headers {
            if header.prev_blockhash != prev {
                return Err("the headers of one message do not build on each other".into());
            }
            prev = check_pow(header, limit).map_err(|error| error.to_string())?;
            hashes.push(prev);
        }
        Ok(hashes)
    }

    /// A peer answers in the order asked, but need not answer a probe. What ends with
    /// the block probed for answers the probe, if that was sent first; anything else
    /// that connects answers what was asked.
    fn match_answer(&mut self, id: ConnId, last: BlockHash) -> Answer {
        let peer = self.live(id);
        let ask = peer.headers.ask;
        if let Some(probe) = peer.known.probe {
            let first = ask.is_none_or(|ask| probe.at < ask.at);
            if first && (last == probe.block || ask.is_none()) {
                peer.known.probe = None;
                return Answer::ToProbe(probe);
            }
        }
        match ask {
            Some(ask) => {
                peer.headers.ask = None;
                Answer::To(ask)
            }
            None => Answer::Unasked,
        }
    }

    /// A header whose parent we do not know: an announcement of a chain that we have
    /// not seen, most likely. Its beginning is asked for.
    fn unconnected(&mut self, step: &mut Step, id: ConnId, last: BlockHash) {
        self.announced_unknown(step, id, last);
    }

    /// The peer announced a block that we do not know, by whatever message.
    pub(super) fn announced_unknown(&mut self, step: &mut Step, id: ConnId, hash: BlockHash) {
        self.learn(id, hash);
        self.ask_for_announced(step, id);
    }

    /// The peer is asked now about what it announced while another question was open.
    pub(super) fn ask_about_announcement(&mut self, step: &mut Step, id: ConnId) {
        let peer = self.live(id);
        let waiting = peer.headers.unasked_announcement.take().is_some();
        if waiting && peer.known.unknown.is_some() {
            self.ask_for_announced(step, id);
        }
    }

    /// Asks for what leads to a block that the peer announced. One request at a time.
    pub(super) fn ask_for_announced(&mut self, step: &mut Step, id: ConnId) {
        let peer = self.live(id);
        if !peer.serves_headers() || peer.headers.low_work.is_some() {
            return;
        }
        if peer.headers.ask.is_some() {
            let now = step.now.mono;
            peer.headers.unasked_announcement.get_or_insert(now);
            return;
        }
        let peer_ended = peer.headers.ended;
        let syncing = self.headers.is_source(id) && !peer_ended;
        let kind = if syncing {
            HeadersAsk::Sync
        } else {
            HeadersAsk::Announced
        };
        let best = self.tree.best_header().hash;
        self.ask(step, id, kind, best);
    }

    /// Whether these headers must go through the low-work check before they are kept.
    fn lacks_work(&self, start: &Entry, headers: &[Header], hashes: &[BlockHash]) -> bool {
        let last = hashes[headers.len() - 1];
        let best = self.tree.best_header().hash;
        if self.tree.in_active_chain(&last) || self.tree.is_ancestor(&last, &best) {
            return false;
        }
        let mut work = start.work;
        let mut each = (
            headers[0].bits,
            bitcoin::Target::from_compact(headers[0].bits).to_work(),
        );
        for header in headers {
            if header.bits != each.0 {
                each = (
                    header.bits,
                    bitcoin::Target::from_compact(header.bits).to_work(),
                );
            }
            work = work + each.1;
        }
        work < anti_dos_threshold(&self.tree, self.config.minimum_work)
    }

    /// Takes the headers into the tree. Returns how many were new. What breaks a rule is
    /// refused before anything of the message is stored.
    pub(super) fn store_headers(
        &mut self,
        step: &mut Step,
        headers: &[Header],
        hashes: &[BlockHash],
    ) -> Result<usize, Reject> {
        let best = self.tree.best_header().hash;
        let known = hashes.partition_point(|hash| self.tree.contains(hash));
        let new = &headers[known.min(headers.len())..];
        self.check_rules(step.now, new)?;
        for (header, hash) in new.iter().zip(&hashes[known..]) {
            self.insert(*hash, *header)?;
        }
        let last = &hashes[headers.len() - 1];
        if self
            .tree
            .get(last)
            .is_some_and(|entry| entry.status == Status::Invalid)
        {
            let reason = "duplicate-invalid".into();
            return Err(Reject {
                kind: RejectKind::CachedInvalid,
                reason,
            });
        }
        if !new.is_empty() {
            self.tree_changed = true;
            self.learn_announced();
            // Only by headers that matter, or side branches would put it off for ever.
            if self.tree.best_header().hash != best {
                let check = self.headers.put_off_tip_check(step.now.mono);
                self.wake_at(check);
            }
        }
        Ok(new.len())
    }

    /// Whether new headers, which build on each other, keep the rules that need no engine.
    pub(super) fn check_rules(&self, now: Now, headers: &[Header]) -> Result<(), Reject> {
        let Some(first) = headers.first() else {
            return Ok(());
        };
        let (pow, parent) = (&self.config.pow, &first.prev_blockhash);
        let Some(mut rules) = HeaderRules::after(pow, &self.tree, parent, now.unix) else {
            return Err(Reject {
                kind: RejectKind::MissingPrev,
                reason: "prev-blk-not-found".into(),
            });
        };
        let mut checked = headers.iter().map(|header| rules.check(header));
        checked.try_for_each(|fault| fault.map_err(Reject::from))
    }

    /// A new header, which keeps the rules, enters the tree.
    pub(super) fn insert(&mut self, hash: BlockHash, header: Header) -> Result<(), Reject> {
        self.tree.insert_hashed(hash, header)?;
        self.tree.mark_unsent(&hash);
        Ok(())
    }

    fn batch_stored(
        &mut self,
        step: &mut Step,
        id: ConnId,
        answer: Answer,
        hashes: &[BlockHash],
        new: usize,
        full: bool,
    ) {
        // When headers from the future were cut off, the last hash is not in the tree.
        let Some(last) = hashes.iter().rev().find_map(|hash| self.tree.get(hash)) else {
            return;
        };
        self.learn(id, last.hash);
        self.tell_sendheaders(step, id);
        if new > 0 && !matches!(answer, Answer::ToProbe(_)) {
            self.take_over(step, id, full);
        }
        if new > 0 && self.headers.is_source(id) {
            // What others bring does not make up for the silence of the source.
            self.headers.have_come();
        }
        let advanced = new > 0 || matches!(answer, Answer::To(ask) if last.height > ask.from);
        let is_source = self.headers.is_source(id);
        if full && advanced && (is_source || new > 0) {
            let kind = if is_source {
                HeadersAsk::Sync
            } else {
                HeadersAsk::Announced
            };
            return self.ask(step, id, kind, last.hash);
        }
        match answer {
            Answer::ToProbe(probe) => self.probe_answered(step, id, probe),
            Answer::To(_) if !full || is_source => self.headers_ended(step, id),
            // It became the source by news that nobody had asked for, and is asked nothing.
            Answer::Unasked if is_source => self.headers_ended(step, id),
            Answer::To(_) | Answer::Unasked => {}
        }
        self.ask_about_announcement(step, id);
    }

    /// Core `MaybePunishNodeForBlock`, for headers.
    pub(super) fn punish_for_header(&mut self, step: &mut Step, id: ConnId, reject: &Reject) {
        let Some(peer) = self.peers.get(&id) else {
            return;
        };
        let punished = match reject.kind {
            RejectKind::Consensus
            | RejectKind::Mutated
            | RejectKind::InvalidHeader
            | RejectKind::InvalidPrev => true,
            RejectKind::CachedInvalid => peer.direction.is_outgoing(),
            RejectKind::MissingPrev
            | RejectKind::TimeFuture
            | RejectKind::HeaderLowWork
            | RejectKind::Unknown => false,
        };
        if punished {
            self.disconnect(step, id, DoneReason::InvalidHeader(reject.reason.clone()));
        } else if self.headers.is_source(id) {
            self.set_aside(step, id, "its headers were refused", false);
        }
    }

    /// The kernel has looked at a batch. It refuses none that keeps the rules, but for marks
    /// of its own that we do not know, and clocks that were set.
    pub(super) fn headers_checked(
        &mut self,
        step: &mut Step,
        rejected: Option<(BlockHash, Reject)>,
        origin: Option<ConnId>,
    ) {
        self.engine_headers.answered();
        let Some((hash, reject)) = rejected else {
            return;
        };
        let for_good = matches!(
            reject.kind,
            RejectKind::Consensus
                | RejectKind::InvalidHeader
                | RejectKind::InvalidPrev
                | RejectKind::CachedInvalid
        );
        if for_good {
            self.adopt_mark(&hash, reject.kind);
        } else {
            self.give_again(&hash);
        }
        if reject.kind == RejectKind::MissingPrev {
            // What leads to it went along with a block that was refused.
            return;
        }
        if !for_good {
            self.unlearn_for_now(step.now.mono, hash, reject.kind);
        }
        if let Some(origin) = origin {
            self.punish_for_header(step, origin, &reject);
        }
    }

    /// The kernel lacks this header or what leads to it: all from the active chain on is given
    /// again with the next block that needs it.
    pub(super) fn give_again(&mut self, hash: &BlockHash) {
        let tip = self.tree.tip().hash;
        if self.tree.is_unsent(hash) {
            let parent = self.tree.parent(hash);
            if parent.is_none_or(|parent| self.tree.is_unsent(&parent.hash)) {
                return;
            }
        }
        if let Some(fork) = self.tree.fork_point(hash, &tip)
            && let Some(first) = self.tree.ancestor(hash, fork.height + 1)
        {
            self.tree.mark_unsent(&first.hash);
        }
    }

    /// BIP130: asks the peer to announce blocks by `headers`, once it has shown a chain
    /// worth following, as Core does.
    fn tell_sendheaders(&mut self, step: &mut Step, id: ConnId) {
        let minimum = self.config.minimum_work;
        let peer = self.live(id);
        if !peer.headers.told_sendheaders && peer.known.best.is_some_and(|b| b.work > minimum) {
            peer.headers.told_sendheaders = true;
            step.send(id, Message::SendHeaders);
        }
    }
}

impl From<HeaderFault> for Reject {
    fn from(fault: HeaderFault) -> Self {
        let kind = match fault {
            HeaderFault::TooNew { .. } => RejectKind::TimeFuture,
            HeaderFault::Bits { .. }
            | HeaderFault::TooOld { .. }
            | HeaderFault::Timewarp { .. }
            | HeaderFault::Version(_) => RejectKind::InvalidHeader,
        };
        Self {
            kind,
            reason: fault.to_string(),
        }
    }
}

impl From<InsertError> for Reject {
    fn from(error: InsertError) -> Self {
        let (kind, reason) = match error {
            InsertError::UnknownParent { .. } => (RejectKind::MissingPrev, "prev-blk-not-found"),
            InsertError::InvalidParent { .. } => (RejectKind::InvalidPrev, "bad-prevblk"),
        };
        Self {
            kind,
            reason: reason.into(),
        }
    }
}
