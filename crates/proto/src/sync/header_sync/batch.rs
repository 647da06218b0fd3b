//! Processing of a `headers` message, and of announcements of unknown blocks.

use bitcoin::block::Header;
use bitcoin::p2p::message_blockdata::Inventory;
use bitcoin::{BlockHash, Target};
use handfast_wire::Message;
use handfast_wire::limits::MAX_HEADERS;

use crate::headers::{Entry, HeaderError, anti_dos_threshold, check_pow};
use crate::lifecycle::{ConnId, DoneReason};

use super::super::Reject;
use super::super::chain::first_from_the_future;
use super::super::known_work::Probe;
use super::super::verdicts::is_punished;
use super::ask::put_off_tip_check;
use super::{Ask, Context, HeaderSync, HeadersAsk, SyncConfig};

/// The request that a `headers` message answers.
#[derive(Clone, Copy, Debug)]
pub(super) enum Answer {
    To(Ask),
    ToProbe(Probe),
    /// None: an announcement (BIP130), or an answer after its timeout.
    Unasked,
}

/// Messages.
impl HeaderSync {
    pub(in crate::sync) fn headers(
        &mut self,
        cx: &mut Context<'_>,
        id: ConnId,
        headers: &[Header],
    ) {
        if headers.is_empty() {
            return self.no_headers(cx, id);
        }
        let (mut headers, mut full) = (headers, headers.len() == MAX_HEADERS);
        if self.low_work_of(id).is_some() && self.continue_low_work(cx, id, headers, full) {
            return;
        }
        let hashes = match check_batch(cx.config, headers) {
            Ok(hashes) => hashes,
            Err(error) => return self.disconnect(cx, id, DoneReason::InvalidHeader(error)),
        };
        let last = *hashes.last().expect("not empty");
        let Some(start) = cx.tree().get(&headers[0].prev_blockhash) else {
            // Most likely an announcement of a chain that we have not seen. Its beginning is
            // requested.
            cx.learn(id, last);
            return self.ask_for_announced(cx, id);
        };
        let answer = self.match_answer(cx, id, last);
        self.note_answer(cx, id);
        if let Some((at, time)) = first_from_the_future(cx.step.now, headers) {
            is_too_new(cx, id, (last, time));
            headers = &headers[..at];
            full = false;
        }
        if headers.is_empty() || lacks_work(cx, &start, headers, &hashes) {
            return self.low_work_batch(cx, id, answer, &start, headers, full);
        }
        match self.store(cx, headers, &hashes) {
            Ok(new) => self.batch_stored(cx, id, answer, &hashes, new, full),
            Err(reject) => self.punish(cx, id, &reject),
        }
    }

    /// The peer announces blocks. Headers lead to unknown ones, whatever else is in the message:
    /// the last is the highest.
    pub(in crate::sync) fn inv(&mut self, cx: &mut Context<'_>, id: ConnId, items: &[Inventory]) {
        let mut unknown = false;
        for item in items {
            let (Inventory::Block(hash) | Inventory::WitnessBlock(hash)) = item else {
                continue;
            };
            unknown = !cx.tree().contains(hash);
            cx.learn(id, *hash);
        }
        if !unknown {
            return;
        }
        // Whatever the source does: it may bring nothing new.
        self.peer(id).ended = false;
        self.ask_for_announced(cx, id);
    }

    /// An empty answer: the peer has nothing beyond what we asked from (S2).
    fn no_headers(&mut self, cx: &mut Context<'_>, id: ConnId) {
        self.note_answer(cx, id);
        if self.peer(id).low_work.take().is_some() {
            self.take_ask(cx, id);
            return self.low_work_ended(cx, id);
        }
        let first_asked = match (self.ask_of(id), cx.known.probe(id)) {
            (Some(ask), Some(probe)) if probe.at < ask.at => Answer::ToProbe(probe),
            (Some(ask), _) => Answer::To(ask),
            (None, Some(probe)) => Answer::ToProbe(probe),
            (None, None) => Answer::Unasked,
        };
        match first_asked {
            Answer::To(ask) => {
                self.take_ask(cx, id);
                if !self.ask_from_the_tip(cx, id, ask) {
                    self.headers_ended(cx, id);
                    self.ask_about_announcement(cx, id);
                }
            }
            Answer::ToProbe(probe) => {
                cx.known.end_probe(cx.timers, id);
                self.probe_answered(cx, id, probe);
            }
            Answer::Unasked => {}
        }
    }

    fn note_answer(&mut self, cx: &mut Context<'_>, id: ConnId) {
        let peer = self.peer(id);
        peer.answered = true;
        peer.cool_down = peer.cool_down.filter(|cool_down| !cool_down.ends_by_answer);
        let until = peer.cool_down.map(|cool_down| cool_down.until);
        cx.timers.put(super::SyncTimer::CoolDown(id), until);
    }

    /// We have headers beyond our tip, and the peer has nothing beyond those. The peers that showed
    /// them may be gone and their blocks with them: the headers of this peer beyond our tip are
    /// worth more, and an answer from there on shows them. Returns whether it was asked.
    fn ask_from_the_tip(&mut self, cx: &mut Context<'_>, id: ConnId, answered: Ask) -> bool {
        let tip = cx.tree().tip();
        let has_shown_more = cx.known.best(id).is_some_and(|best| best.work > tip.work);
        if answered.from <= tip.height || has_shown_more || !cx.peers.serves_headers(id) {
            return false;
        }
        self.ask(cx, id, answered.kind, tip.hash);
        true
    }

    /// A peer answers in order, but need not answer a probe. An answer that ends with the probed
    /// block answers the probe, if that was sent first; any other that connects answers the
    /// request.
    fn match_answer(&mut self, cx: &mut Context<'_>, id: ConnId, last: BlockHash) -> Answer {
        let ask = self.ask_of(id);
        if let Some(probe) = cx.known.probe(id) {
            let first = ask.is_none_or(|ask| probe.at < ask.at);
            if first && (last == probe.block || ask.is_none()) {
                cx.known.end_probe(cx.timers, id);
                return Answer::ToProbe(probe);
            }
        }
        match self.take_ask(cx, id) {
            Some(ask) => Answer::To(ask),
            None => Answer::Unasked,
        }
    }

    /// The answer to a probe was learnt: if the peer lacks the probed block, it is asked for
    /// headers beyond what it has shown: it may have less than that block, and still more than we
    /// have.
    pub(super) fn probe_answered(&mut self, cx: &mut Context<'_>, id: ConnId, probe: Probe) {
        let now = cx.now();
        let has = cx.known.probe_answered(cx.chain.tree(), now, id, probe);
        if !has && self.is_idle(id) && cx.peers.serves_headers(id) {
            let from = cx.known.best(id).map(|best| best.hash);
            let from = from.unwrap_or(cx.tree().tip().hash);
            self.ask(cx, id, HeadersAsk::Tip, from);
        }
    }

    /// The peer is asked about its announcement, which waited for another answer.
    pub(super) fn ask_about_announcement(&mut self, cx: &mut Context<'_>, id: ConnId) {
        let waited = self.peer(id).unasked_announcement.take().is_some();
        if waited && cx.known.has_announced_unknown(id) {
            self.ask_for_announced(cx, id);
        }
    }

    /// Requests the headers that lead to an announced block. One request at a time.
    pub(in crate::sync) fn ask_for_announced(&mut self, cx: &mut Context<'_>, id: ConnId) {
        let now = cx.now();
        let is_source = self.is_source(id);
        let peer = self.peer(id);
        if !cx.peers.serves_headers(id) || peer.low_work.is_some() {
            return;
        }
        if peer.ask.is_some() {
            peer.unasked_announcement.get_or_insert(now);
            return;
        }
        let kind = if is_source && !peer.ended {
            HeadersAsk::Sync
        } else {
            HeadersAsk::Announced
        };
        let best = cx.tree().best_header().hash;
        self.ask(cx, id, kind, best);
    }
}

/// What is done with headers.
impl HeaderSync {
    /// Adds headers, however received, to the tree. Returns how many were new.
    pub(in crate::sync) fn store(
        &mut self,
        cx: &mut Context<'_>,
        headers: &[Header],
        hashes: &[BlockHash],
    ) -> Result<usize, Reject> {
        let best = cx.tree().best_header().hash;
        let (pow, now) = (&cx.config.pow, cx.step.now);
        let new = cx.chain.accept(pow, now, headers, hashes)?;
        if new > 0 {
            cx.known.learn_announced(cx.chain.tree());
            // Only by a new best header, or side branches would postpone it for ever.
            if cx.tree().best_header().hash != best {
                put_off_tip_check(cx);
            }
        }
        Ok(new)
    }

    fn batch_stored(
        &mut self,
        cx: &mut Context<'_>,
        id: ConnId,
        answer: Answer,
        hashes: &[BlockHash],
        new: usize,
        full: bool,
    ) {
        // When headers from the future were cut off, the last hash is not in the tree.
        let mut known = hashes.iter().rev();
        let Some(last) = known.find_map(|hash| cx.tree().get(hash)) else {
            return;
        };
        cx.learn(id, last.hash);
        self.send_sendheaders(cx, id);
        if new > 0 && !matches!(answer, Answer::ToProbe(_)) {
            self.take_over(cx, id, full);
        }
        let is_source = self.is_source(id);
        if new > 0 && is_source {
            // Headers of other peers do not make up for a silent source.
            self.have_come(cx.timers);
        }
        let advanced = new > 0 || matches!(answer, Answer::To(ask) if last.height > ask.from);
        if full && advanced && (is_source || new > 0) {
            let kind = self.kind_of_next(id);
            return self.ask(cx, id, kind, last.hash);
        }
        match answer {
            Answer::ToProbe(probe) => self.probe_answered(cx, id, probe),
            Answer::To(_) if !full || is_source => self.headers_ended(cx, id),
            // It became the source by an announcement, and has no outstanding request.
            Answer::Unasked if is_source => self.headers_ended(cx, id),
            Answer::To(_) | Answer::Unasked => {}
        }
        self.ask_about_announcement(cx, id);
    }

    /// The kind of request for the headers after those that the peer sent.
    pub(super) fn kind_of_next(&self, id: ConnId) -> HeadersAsk {
        if self.is_source(id) {
            HeadersAsk::Sync
        } else {
            HeadersAsk::Announced
        }
    }

    /// Core `MaybePunishNodeForBlock`, for headers.
    pub(in crate::sync) fn punish(&mut self, cx: &mut Context<'_>, id: ConnId, reject: &Reject) {
        if cx.peers.get(id).is_none() {
            return;
        }
        if is_punished(reject.kind, cx.peers.is_dialled(id)) {
            self.disconnect(
                cx,
                id,
                DoneReason::InvalidHeader(HeaderError::Refused(reject.clone())),
            );
        } else if self.is_source(id) {
            self.cool_down(cx, id, "its headers were refused", false);
        }
    }

    /// BIP130: requests announcements by `headers`, once the peer has shown a chain worth
    /// following, as Core does.
    fn send_sendheaders(&mut self, cx: &mut Context<'_>, id: ConnId) {
        let minimum = cx.config.minimum_work;
        let worth = cx.known.best(id).is_some_and(|best| best.work > minimum);
        let sent = &mut self.peer(id).sent_sendheaders;
        if worth && !std::mem::replace(sent, true) {
            cx.step.send(id, Message::SendHeaders);
        }
    }
}

/// The chain that ends with `best` has a header, with this time, that is too new for our clock.
pub(super) fn is_too_new(cx: &mut Context<'_>, id: ConnId, (best, time): (BlockHash, u32)) {
    let (now, tree) = (cx.step.now.mono, cx.chain.tree());
    cx.known.is_too_new(cx.timers, tree, now, id, (best, time));
}

/// Checks the proof of work of each, and that each builds on the one before it.
fn check_batch(config: &SyncConfig, headers: &[Header]) -> Result<Vec<BlockHash>, HeaderError> {
    let limit = config.pow.limit();
    let mut hashes = Vec::with_capacity(headers.len());
    let mut prev = headers[0].prev_blockhash;
    for header in headers {
        if header.prev_blockhash != prev {
            return Err(HeaderError::Disconnected);
        }
        prev = check_pow(header, limit)?;
        hashes.push(prev);
    }
    Ok(hashes)
}

/// Whether these headers must go through the low-work check before they are stored.
fn lacks_work(cx: &Context<'_>, start: &Entry, headers: &[Header], hashes: &[BlockHash]) -> bool {
    let tree = cx.tree();
    let last = hashes[headers.len() - 1];
    let best = tree.best_header().hash;
    if tree.in_active_chain(&last) || tree.is_ancestor(&last, &best) {
        return false;
    }
    let mut work = start.work;
    let mut bits = headers[0].bits;
    let mut each = Target::from_compact(bits).to_work();
    for header in headers {
        if header.bits != bits {
            bits = header.bits;
            each = Target::from_compact(bits).to_work();
        }
        work = work + each;
    }
    work < anti_dos_threshold(tree, cx.config.minimum_work)
}
