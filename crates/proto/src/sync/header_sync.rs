//! Whom to ask for headers, when to ask another one beside, when to give up.
//!
//! Headers are synced from one peer, the *source*. It is asked on as soon as a
//! full batch has come. When it has no more, every other peer is asked what it has
//! beyond our best header, from that header's parent on, so that the answer of a
//! peer with the same chain is never empty.
//!
//! # Silence
//!
//! A peer may be slow, dead, or silent on purpose; we cannot tell, so nobody is cut
//! off early. Instead another peer is asked the same thing as well after
//! [`FIRST_HEDGE`], then others per [`NEXT_HEDGE`], twice as many each
//! time; who answers with news first becomes
//! the source. Three silent peers that claim a great height so cost 3.5 s in all.
//! Any peer that announces a block that we do not know is asked for what leads to it, at
//! once or as soon as it has answered what it was asked before, whatever the source does.
//! A peer that we dialled takes the place of a source that dialled us. A source that brings
//! nothing new has ended: the others are asked then. One whose headers were followed and
//! came to nothing (too little work, others than before) is not the source again for some
//! time, each time longer. All of a header sync has [`MAX_SYNC`] and a millisecond for
//! each header that must be there.
//!
//! After [`HEADERS_RESPONSE_TIME`]: one that we dialled is disconnected when there is
//! another to ask, since it takes up one of few slots; one that dialled us is set
//! aside; the only one we have is asked again. Empty or short answers are
//! answers (S2).

use std::time::Duration;

use bitcoin::BlockHash;
use bitcoin::hashes::Hash;
use handfast_wire::{Locator, Message};

use crate::lifecycle::ConnId;

use super::manager::{Step, SyncManager};
use super::peer::{Aside, Ask, Peer};
use super::{HeadersAsk, SourceChange};

/// Silence of the source after which a second peer is asked too.
pub(super) const FIRST_HEDGE: Duration = Duration::from_millis(1_500);
/// Time in which `getheaders` must be answered. Core `HEADERS_RESPONSE_TIME`.
pub(super) const HEADERS_RESPONSE_TIME: Duration = Duration::from_secs(120);
/// How long a peer that failed as the source is not chosen again.
const ASIDE: Duration = Duration::from_secs(120);
/// The longest such time, for peers that failed again and again.
const LONGEST_ASIDE: Duration = Duration::from_secs(3_600);
/// The same when there is nobody else.
const ASIDE_ALONE: Duration = Duration::from_secs(30);
/// Without any news for that long, one peer is asked whether it has some: an
/// announcement may have been lost, and a peer in initial download makes none.
const TIP_CHECK: Duration = Duration::from_secs(60);
/// Why a peer is chosen while no other is the source.
const FIRST: &str = "the first with headers";
/// Changes of the source that are remembered.
const SOURCE_CHANGES: usize = 50;

/// Header sync over all peers.
#[derive(Clone, Debug, Default)]
pub(super) struct HeaderSync {
    pub(super) source: Option<SourcePeer>,
    /// When more peers are asked beside the silent source.
    pub(super) next_hedge: Option<Duration>,
    /// How often that was done since headers last came.
    pub(super) hedges: u32,
    pub(super) next_tip_check: Option<Duration>,
}

/// The peer that headers are synced from.
#[derive(Clone, Debug)]
pub(super) struct SourcePeer {
    pub(super) id: ConnId,
    /// When it was chosen, monotonic.
    pub(super) since: Duration,
    /// The same, Unix seconds.
    pub(super) at: u32,
    /// When it must have brought all headers, monotonic.
    pub(super) until: Duration,
    pub(super) why: String,
}

impl HeaderSync {
    pub(super) fn pardon(&mut self, late: Duration) {
        if let Some(at) = &mut self.next_hedge {
            *at += late;
        }
    }

    pub(super) fn is_source(&self, id: ConnId) -> bool {
        self.source.as_ref().is_some_and(|source| source.id == id)
    }

    /// Headers came: nobody keeps us waiting.
    pub(super) fn have_come(&mut self) {
        self.next_hedge = None;
        self.hedges = 0;
    }

    /// How often others were asked beside a silent source.
    pub(super) fn hedges(&self) -> u32 {
        self.hedges
    }

    /// When others are asked beside the source, and when somebody is asked for news.
    pub(super) fn due(&self) -> (Option<Duration>, Option<Duration>) {
        (self.next_hedge, self.next_tip_check)
    }

    /// News came: no need to check for some.
    pub(super) fn put_off_tip_check(&mut self, now: Duration) -> Duration {
        let at = now + TIP_CHECK;
        self.next_tip_check = Some(at);
        at
    }
}

/// How promising a peer is as the source; greater is better.
pub(super) fn rank(id: ConnId, peer: &Peer) -> impl Ord + use<> {
    let work = peer.known.best.map(|best| best.work);
    (
        peer.direction.is_outgoing(),
        peer.headers.answered,
        work,
        std::cmp::Reverse(id),
    )
}

impl SyncManager {
    /// A peer has come: it may be what we waited for.
    pub(super) fn meet_for_headers(&mut self, step: &mut Step, id: ConnId) {
        if !self.peers.get(&id).is_some_and(Peer::eligible) {
            return;
        }
        match &self.headers.source {
            None => self.choose_source(step, FIRST),
            Some(source) if self.has_ended(source.id) => self.ask_tip(step, id),
            Some(source) if self.is_better_placed(id, source.id) => {
                self.set_source(step, Some(id), "the source before had dialled us");
                self.live(id).headers.ended = false;
                self.ask_sync(step, id);
            }
            Some(source) if self.is_silent(source.id, step.now.mono) => self.ask_sync(step, id),
            Some(source) if self.is_asked_nothing(source.id) => self.ask_tip(step, id),
            Some(_) => {}
        }
    }

    /// Whether we dialled the one and not the other: a stranger is not the only one asked
    /// while there is somebody that we chose.
    fn is_better_placed(&self, id: ConnId, source: ConnId) -> bool {
        let is_dialled = |id: ConnId| self.peers[&id].direction.is_outgoing();
        is_dialled(id) && !is_dialled(source)
    }

    fn is_asked_nothing(&self, id: ConnId) -> bool {
        let headers = &self.peers[&id].headers;
        headers.ask.is_none()
    }

    /// Whether the peer has kept a request for headers waiting.
    pub(super) fn is_silent(&self, id: ConnId, now: Duration) -> bool {
        let ask = self.peers.get(&id).and_then(|peer| peer.headers.ask);
        ask.is_some_and(|ask| ask.kind == HeadersAsk::Sync && now >= ask.at + FIRST_HEDGE)
    }

    pub(super) fn has_ended(&self, id: ConnId) -> bool {
        self.peers.get(&id).is_some_and(|peer| peer.headers.ended)
    }

    /// The source, if it is this peer, is one no more: the next one is chosen in the
    /// same step (S3).
    pub(super) fn lose_source(&mut self, step: &mut Step, id: ConnId, why: &str) {
        if self.headers.is_source(id) {
            self.choose_source(step, &format!("{id}: {why}"));
        }
    }

    /// Makes the most promising peer the source: one that we dialled before one that
    /// dialled us, one that has answered before, one that has shown more.
    pub(super) fn choose_source(&mut self, step: &mut Step, reason: &str) {
        let best = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.eligible())
            .max_by_key(|(id, peer)| rank(**id, peer))
            .map(|(id, _)| *id);
        self.set_source(step, best, reason);
        let Some(id) = best else { return };
        self.live(id).headers.ended = false;
        self.ask_sync(step, id);
    }

    pub(super) fn set_source(&mut self, step: &mut Step, to: Option<ConnId>, reason: &str) {
        let from = self.headers.source.take().map(|source| source.id);
        let until = step.now.mono + self.time_for_headers(step.now);
        self.headers.source = to.map(|id| {
            let peer = &self.peers[&id];
            let answered = if peer.headers.answered {
                ", has answered before"
            } else {
                ""
            };
            let why = format!("{} peer{answered}; {reason}", peer.direction);
            SourcePeer {
                id,
                since: step.now.mono,
                at: step.now.unix,
                until,
                why,
            }
        });
        if self.source_changes.len() == SOURCE_CHANGES {
            self.source_changes.pop_front();
        }
        let at = step.now.unix;
        self.source_changes.push_back(SourceChange {
            at,
            from,
            to,
            reason: reason.to_owned(),
        });
        tracing::debug!(?from, ?to, reason, "sync peer");
    }

    /// Asks a peer for all headers from our best one's parent on. One that was asked just
    /// now, or whose low-work headers are on their way, is asked already: two answers to the
    /// same question would be taken for one that does not go on.
    pub(super) fn ask_sync(&mut self, step: &mut Step, id: ConnId) {
        let now = step.now.mono;
        let headers = &mut self.live(id).headers;
        match &mut headers.ask {
            Some(ask) if headers.low_work.is_some() || now < ask.at + FIRST_HEDGE => {
                ask.kind = HeadersAsk::Sync;
                self.hedge_soon(now);
            }
            _ => self.ask_beyond_best(step, id, HeadersAsk::Sync),
        }
    }

    /// Asks a peer what it has beyond our best header, unless it is being asked.
    pub(super) fn ask_tip(&mut self, step: &mut Step, id: ConnId) {
        if self.live(id).headers.ask.is_none() {
            self.ask_beyond_best(step, id, HeadersAsk::Tip);
        }
    }

    fn ask_beyond_best(&mut self, step: &mut Step, id: ConnId, kind: HeadersAsk) {
        let best = self.tree.best_header();
        let from = self.tree.parent(&best.hash).unwrap_or(best);
        self.ask(step, id, kind, from.hash);
    }

    /// Sends `getheaders` for what follows `from`, a header of the tree.
    pub(super) fn ask(&mut self, step: &mut Step, id: ConnId, kind: HeadersAsk, from: BlockHash) {
        let hashes = self.tree.locator(&from);
        let height = self
            .tree
            .get(&from)
            .expect("asked from a known header")
            .height;
        self.send_ask(step, id, kind, hashes, height);
    }

    pub(super) fn send_ask(
        &mut self,
        step: &mut Step,
        id: ConnId,
        kind: HeadersAsk,
        hashes: Vec<BlockHash>,
        from: u32,
    ) {
        let now = step.now.mono;
        let headers = &mut self.live(id).headers;
        headers.ask = Some(Ask {
            kind,
            at: now,
            from,
        });
        headers.last_asked = now;
        headers.unasked_announcement = None;
        step.send(
            id,
            Message::GetHeaders(Locator {
                hashes,
                stop: BlockHash::all_zeros(),
            }),
        );
        self.wake_at(now + HEADERS_RESPONSE_TIME);
        if self.headers.is_source(id) {
            self.hedge_soon(now);
        }
    }

    /// Others are asked soon if no headers come. Not put off by another source or another
    /// question: sources that come and go would put it off for ever.
    fn hedge_soon(&mut self, now: Duration) {
        let at = *self.headers.next_hedge.get_or_insert(now + FIRST_HEDGE);
        self.wake_at(at);
    }

    /// The peer has no more headers than we know now. At the end of the source's, the
    /// others are asked whether they have more.
    pub(super) fn headers_ended(&mut self, step: &mut Step, id: ConnId) {
        self.live(id).headers.ended = true;
        if !self.headers.is_source(id) {
            return;
        }
        let check = self.headers.put_off_tip_check(step.now.mono);
        self.wake_at(check);
        let others: Vec<ConnId> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.eligible() && !peer.headers.ended)
            .map(|(id, _)| *id)
            .collect();
        for other in others {
            self.ask_tip(step, other);
        }
    }

    /// Asks everybody what they have beyond our best header.
    pub(super) fn ask_everybody(&mut self, step: &mut Step) {
        let eligible = self.peers.iter().filter(|(_, peer)| peer.eligible());
        let ids: Vec<ConnId> = eligible.map(|(id, _)| *id).collect();
        for id in ids {
            self.ask_tip(step, id);
        }
    }

    /// Another than the source brought news. It becomes the source when the source has
    /// kept silent meanwhile, or has ended and this one has still more.
    pub(super) fn take_over(&mut self, step: &mut Step, id: ConnId, more: bool) {
        let Some(source) = &self.headers.source else {
            return;
        };
        let source = source.id;
        if source == id || !self.peers[&id].eligible() {
            return;
        }
        if self.is_silent(source, step.now.mono) {
            self.set_source(
                step,
                Some(id),
                &format!("answered while {source} was silent"),
            );
        } else if more && self.has_ended(source) {
            self.set_source(step, Some(id), &format!("has more headers than {source}"));
        }
    }

    /// The peer failed as the source: not to be chosen again for some time, or until it
    /// answers.
    pub(super) fn set_aside(
        &mut self,
        step: &mut Step,
        id: ConnId,
        why: &'static str,
        ends_by_answer: bool,
    ) {
        let alone = !self
            .peers
            .iter()
            .any(|(other, peer)| *other != id && peer.eligible());
        let headers = &mut self.live(id).headers;
        let times = 1 << headers.given_up.min(5);
        let until = step.now.mono
            + match alone {
                true => ASIDE_ALONE,
                false => (ASIDE * times).min(LONGEST_ASIDE),
            };
        headers.aside = Some(Aside {
            until,
            why,
            ends_by_answer,
        });
        headers.answered = false;
        headers.ask = None;
        headers.low_work = None;
        self.wake_at(until);
        self.lose_source(step, id, why);
    }

    /// S3 at the end of every step: a peer that was set aside may be the source again when
    /// its time is over, or when it answered after all.
    pub(super) fn fill_source(&mut self, step: &mut Step) {
        if self.headers.source.is_none() && self.peers.values().any(Peer::eligible) {
            self.choose_source(step, FIRST);
        }
    }
}
