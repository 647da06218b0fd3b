//! Requesting headers from a peer: one request at a time, and its timeout.

use std::time::Duration;

use bitcoin::BlockHash;
use bitcoin::hashes::Hash;
use handfast_wire::{Locator, Message};

use crate::lifecycle::ConnId;

use super::{Ask, Context, FIRST_HEDGE, HEADERS_RESPONSE_TIME, HeaderSync, HeadersAsk, SyncTimer};

/// Without news for this long, one peer is sent `getheaders`: an announcement may have been lost,
/// and a peer in initial block download makes none.
const TIP_CHECK: Duration = Duration::from_secs(60);

impl HeaderSync {
    /// Requests all headers from our best one's parent on. Not from a peer with such a request
    /// outstanding, or whose low-work headers are being followed: a second answer to the same
    /// request would look like a chain that does not continue.
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

    /// Requests headers beyond our best header, unless a request to the peer is outstanding.
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

    /// Requests headers beyond this header of the tree, unless a request to the peer is
    /// outstanding.
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

    /// Sends `getheaders` for the headers after `from`, a header of the tree.
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

    /// Removes and returns the outstanding request to the peer; its answer is not awaited any more.
    pub(super) fn take_ask(&mut self, cx: &mut Context<'_>, id: ConnId) -> Option<Ask> {
        cx.timers.stop(&SyncTimer::HeadersAnswer(id));
        self.peer(id).ask.take()
    }

    /// Awaits no answer of the peer any more, and drops its low-work headers.
    pub(super) fn stop_asking(&mut self, cx: &mut Context<'_>, id: ConnId) {
        self.take_ask(cx, id);
        self.peer(id).low_work = None;
    }

    /// The peer has no more headers than we have. After the source's last ones, the other peers are
    /// asked whether they have more.
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

    /// Requests headers beyond our best header from every peer.
    pub(in crate::sync) fn ask_everybody(&mut self, cx: &mut Context<'_>) {
        let ids: Vec<ConnId> = self.eligible_ids(cx.peers).collect();
        for id in ids {
            self.ask_tip(cx, id);
        }
    }
}

/// More peers are asked soon if no headers come. Another source or request does not postpone it:
/// sources that come and go would postpone it for ever.
pub(super) fn hedge_soon(cx: &mut Context<'_>) {
    if cx.timers.at(&SyncTimer::Hedge).is_none() {
        let at = cx.now() + FIRST_HEDGE;
        cx.timers.set(SyncTimer::Hedge, at);
    }
}

/// Headers came: the check for news starts its interval again.
pub(super) fn put_off_tip_check(cx: &mut Context<'_>) {
    let at = cx.now() + TIP_CHECK;
    cx.timers.set(SyncTimer::TipCheck, at);
}
