//! Asking a peer for headers: one question at a time, and when its answer is due.

use std::time::Duration;

use bitcoin::BlockHash;
use bitcoin::hashes::Hash;
use handfast_wire::{Locator, Message};

use crate::lifecycle::ConnId;

use super::{Ask, Context, FIRST_HEDGE, HEADERS_RESPONSE_TIME, HeaderSync, HeadersAsk, SyncTimer};

/// Without any news for that long, one peer is asked whether it has some: an
/// announcement may have been lost, and a peer in initial download makes none.
const TIP_CHECK: Duration = Duration::from_secs(60);

impl HeaderSync {
    /// Asks a peer for all headers from our best one's parent on. One that was asked just
    /// now, or whose low-work headers are on their way, is asked already: two answers to the
    /// same question would be taken for one that does not go on.
    pub(super) fn ask_sync(&mut self, cx: &mut Context<'_>, id: ConnId) {
        let now = cx.now();
        let peer = self.peer(id);
        match &mut peer.ask {
            Some(ask) if peer.low_work.is_some() || now < ask.at + FIRST_HEDGE => {
                ask.kind = HeadersAsk::Sync;
                hedge_soon(cx);
            }
            _ => self.ask_beyond_best(cx, id, HeadersAsk::Sync),
        }
    }

    /// Asks a peer what it has beyond our best header, unless it is being asked.
    pub(super) fn ask_tip(&mut self, cx: &mut Context<'_>, id: ConnId) {
        if self.peer(id).ask.is_none() {
            self.ask_beyond_best(cx, id, HeadersAsk::Tip);
        }
    }

    pub(super) fn ask_beyond_best(&mut self, cx: &mut Context<'_>, id: ConnId, kind: HeadersAsk) {
        let best = cx.tree().best_header();
        let from = cx.tree().parent(&best.hash).unwrap_or(best);
        self.ask(cx, id, kind, from.hash);
    }

    /// Asks a peer what it has beyond this header of the tree, unless it is being asked.
    pub(in crate::sync) fn ask_beyond(
        &mut self,
        cx: &mut Context<'_>,
        id: ConnId,
        from: BlockHash,
    ) {
        if self.peer(id).ask.is_none() {
            self.ask(cx, id, HeadersAsk::Tip, from);
        }
    }

    /// Sends `getheaders` for what follows `from`, a header of the tree.
    pub(super) fn ask(
        &mut self,
        cx: &mut Context<'_>,
        id: ConnId,
        kind: HeadersAsk,
        from: BlockHash,
    ) {
        let hashes = cx.tree().locator(&from);
        let entry = cx.tree().get(&from).expect("asked from a known header");
        self.send_ask(cx, id, kind, hashes, entry.height);
    }

    pub(super) fn send_ask(
        &mut self,
        cx: &mut Context<'_>,
        id: ConnId,
        kind: HeadersAsk,
        hashes: Vec<BlockHash>,
        from: u32,
    ) {
        let at = cx.now();
        let peer = self.peer(id);
        peer.ask = Some(Ask { kind, at, from });
        peer.last_asked = at;
        peer.unasked_announcement = None;
        let stop = BlockHash::all_zeros();
        let locator = Locator { hashes, stop };
        cx.step.send(id, Message::GetHeaders(locator));
        let due = at + HEADERS_RESPONSE_TIME;
        cx.timers.set(SyncTimer::HeadersAnswer(id), due);
        if self.is_source(id) {
            hedge_soon(cx);
        }
    }

    /// What the peer was asked and had not answered; its answer is awaited no more.
    pub(super) fn take_ask(&mut self, cx: &mut Context<'_>, id: ConnId) -> Option<Ask> {
        cx.timers.stop(&SyncTimer::HeadersAnswer(id));
        self.peer(id).ask.take()
    }

    /// Nothing that the peer was asked for is awaited, and its low-work headers are dropped.
    pub(super) fn stop_asking(&mut self, cx: &mut Context<'_>, id: ConnId) {
        self.take_ask(cx, id);
        self.peer(id).low_work = None;
    }

    /// The peer has no more headers than we know now. At the end of the source's, the
    /// others are asked whether they have more.
    pub(super) fn headers_ended(&mut self, cx: &mut Context<'_>, id: ConnId) {
        self.peer(id).ended = true;
        if !self.is_source(id) {
            return;
        }
        put_off_tip_check(cx);
        let eligible = self.eligible(cx.peers);
        let others = eligible.filter(|(_, _, headers)| !headers.ended);
        let others: Vec<ConnId> = others.map(|(id, ..)| id).collect();
        for other in others {
            self.ask_tip(cx, other);
        }
    }

    /// Asks everybody what they have beyond our best header.
    pub(in crate::sync) fn ask_everybody(&mut self, cx: &mut Context<'_>) {
        let ids: Vec<ConnId> = self.eligible_ids(cx.peers).collect();
        for id in ids {
            self.ask_tip(cx, id);
        }
    }
}

/// Others are asked soon if no headers come. Not put off by another source or another
/// question: sources that come and go would put it off for ever.
pub(super) fn hedge_soon(cx: &mut Context<'_>) {
    if cx.timers.at(&SyncTimer::Hedge).is_none() {
        let at = cx.now() + FIRST_HEDGE;
        cx.timers.set(SyncTimer::Hedge, at);
    }
}

/// News came: no need to check for some.
pub(super) fn put_off_tip_check(cx: &mut Context<'_>) {
    let at = cx.now() + TIP_CHECK;
    cx.timers.set(SyncTimer::TipCheck, at);
}
