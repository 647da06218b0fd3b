//! Whom to ask for headers, when to ask another one beside, when to give up.
//!
//! Headers are synced from one peer, the *source*. It is asked on as soon as a
//! full batch has come. When it has no more, every other peer is asked what it has
//! beyond our best header, from that header's parent on, so that the answer of a
//! peer with the same chain is never empty.
//!
//! # Silence
//!
//! A peer may be slow, dead, or silent on purpose; we cannot tell, so no peer is disconnected
//! early. Instead another peer is asked the same thing as well after [`FIRST_HEDGE`], then
//! twice as many each second; the first that answers with news becomes the source. Three
//! silent peers that claim a great height so cost 3.5 s in all.
//! Any peer that announces a block that we do not know is asked for what leads to it, at
//! once or as soon as it has answered what it was asked before, whatever the source does.
//! A peer that we dialled takes the place of a source that dialled us. A source that brings
//! nothing new has ended: the others are asked then. One whose headers were followed and
//! came to nothing (too little work, others than before) cools down: it is not the source
//! again for some time, each time longer. All of a header sync has 15 minutes and a
//! millisecond for each header that must be there.
//!
//! After [`HEADERS_RESPONSE_TIME`]: one that we dialled is disconnected when there is
//! another to ask, since it takes up one of few slots; one that dialled us cools down; the
//! only one we have is asked again. Empty or short answers are answers (S2).

mod ask;
mod batch;
mod late;
mod low_work;
mod state;
#[cfg(test)]
pub(super) mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bitcoin::BlockHash;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::headers::{HeaderTree, LowWork};
use crate::lifecycle::{ConnId, DoneReason};

use super::chain::Chain;
use super::known_work::KnownWork;
use super::peers::{Peer, Peers};
use super::step::Step;
use super::timers::{SyncTimer, Timers};
use super::{HeadersAsk, SourceChange, SyncConfig};

/// Silence of the source after which a second peer is asked too.
const FIRST_HEDGE: Duration = Duration::from_millis(1_500);
/// Time in which `getheaders` must be answered. Core `HEADERS_RESPONSE_TIME`.
pub(super) const HEADERS_RESPONSE_TIME: Duration = Duration::from_secs(120);
/// How long a peer that failed as the source is not chosen again.
const COOL_DOWN: Duration = Duration::from_secs(120);
/// The longest such time, for peers that failed again and again.
const LONGEST_COOL_DOWN: Duration = Duration::from_secs(3_600);
/// The same when there is nobody else.
const COOL_DOWN_ALONE: Duration = Duration::from_secs(30);
/// Why a peer is chosen while no other is the source.
const FIRST: &str = "the first with headers";
/// Changes of the source that are remembered.
const SOURCE_CHANGES: usize = 50;

/// What header sync looks at and changes, and does not own.
pub(super) struct Context<'a> {
    pub(super) step: &'a mut Step,
    pub(super) config: &'a SyncConfig,
    pub(super) chain: &'a mut Chain,
    pub(super) peers: &'a mut Peers,
    pub(super) known: &'a mut KnownWork,
    pub(super) timers: &'a mut Timers,
}

impl Context<'_> {
    fn tree(&self) -> &HeaderTree {
        self.chain.tree()
    }

    fn now(&self) -> Duration {
        self.step.now.mono
    }

    fn learn(&mut self, id: ConnId, hash: BlockHash) {
        self.known.learn(self.chain.tree(), id, hash);
    }
}

/// A `getheaders` without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) kind: HeadersAsk,
    /// When it was sent, monotonic.
    pub(super) at: Duration,
    /// Height of the first hash of its locator.
    from: u32,
}

/// A time in which a peer is not to be the sync peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CoolDown {
    /// Monotonic.
    pub(super) until: Duration,
    pub(super) why: &'static str,
    /// The peer was silent, so any answer ends it.
    ends_by_answer: bool,
}

/// Header sync with one peer.
#[derive(Clone, Debug, Default)]
pub(in crate::sync) struct PeerHeaders {
    ask: Option<Ask>,
    /// When it was last asked for anything but a probe.
    last_asked: Duration,
    /// It has answered a `getheaders` at least once.
    answered: bool,
    /// Its headers were followed to their end (as of then).
    ended: bool,
    cool_down: Option<CoolDown>,
    /// Low-work chains of it that were given up.
    given_up: u32,
    /// When its low-work headers began to be followed, monotonic.
    low_work_since: Duration,
    low_work: Option<Box<LowWork>>,
    /// Since when an announcement of it waits: it named a block that we do not know, and
    /// could not be asked for its headers at once.
    unasked_announcement: Option<Duration>,
    /// We sent `sendheaders`.
    sent_sendheaders: bool,
}

impl PeerHeaders {
    /// Whether its answer to a request for all headers is awaited.
    fn is_asked_to_sync(&self) -> bool {
        self.ask.is_some_and(|ask| ask.kind == HeadersAsk::Sync)
    }
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
    until: Duration,
    pub(super) why: String,
}

/// Header sync over all peers. See the module.
///
/// Invariant (S3): at the end of a step there is a source if a peer may be one, and it is one
/// of those that may.
#[derive(Clone, Debug)]
pub(super) struct HeaderSync {
    peers: BTreeMap<ConnId, PeerHeaders>,
    source: Option<SourcePeer>,
    /// How often more peers were asked beside a silent source since headers last came.
    hedges: u32,
    /// The last 50 changes of the source.
    source_changes: VecDeque<SourceChange>,
    /// Salts what is kept of low-work headers.
    random: ChaCha8Rng,
}

/// Peers.
impl HeaderSync {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            peers: BTreeMap::new(),
            source: None,
            hedges: 0,
            source_changes: VecDeque::new(),
            random: ChaCha8Rng::seed_from_u64(seed),
        }
    }

    /// A peer has come: it may be what we waited for.
    pub(super) fn added(&mut self, cx: &mut Context<'_>, id: ConnId) {
        self.peers.insert(id, PeerHeaders::default());
        if !self.is_eligible(cx.peers, id) {
            return;
        }
        let Some(source) = self.source_id() else {
            return self.choose_source(cx, FIRST);
        };
        if self.has_ended(source) {
            self.ask_tip(cx, id);
        } else if cx.peers.is_dialled(id) && !cx.peers.is_dialled(source) {
            // A stranger is not the only one asked while there is a peer that we chose.
            self.set_source(cx, Some(id), "the source before had dialled us");
            self.peer(id).ended = false;
            self.ask_sync(cx, id);
        } else if self.is_silent(source, cx.now()) {
            self.ask_sync(cx, id);
        } else if self.ask_of(source).is_none() {
            self.ask_tip(cx, id);
        }
    }

    /// The peer has left, which it had not been told to do.
    pub(super) fn removed(&mut self, cx: &mut Context<'_>, id: ConnId) {
        self.peers.remove(&id);
        cx.timers.stop_all(|timer| timer.peer() == Some(id));
        self.lose_source(cx, id, "it left");
    }

    /// Orders the end of a connection. From here on nothing is asked of it; S3 holds at once,
    /// not only when its `Done` comes.
    pub(super) fn disconnect(&mut self, cx: &mut Context<'_>, id: ConnId, reason: DoneReason) {
        let why = reason.to_string();
        if !cx.peers.disconnect(cx.step, id, reason) {
            return;
        }
        let peer = self.peer(id);
        peer.ask = None;
        peer.low_work = None;
        cx.known.end_probe(cx.timers, id);
        cx.timers.stop_all(|timer| timer.peer() == Some(id));
        self.lose_source(cx, id, &why);
    }

    /// A peer that is in the table.
    fn peer(&mut self, id: ConnId) -> &mut PeerHeaders {
        let peer = self.peers.get_mut(&id);
        peer.expect("the caller looked it up in this step")
    }

    /// Peers that may be the source now.
    fn eligible<'a>(
        &'a self,
        peers: &'a Peers,
    ) -> impl Iterator<Item = (ConnId, &'a Peer, &'a PeerHeaders)> + Clone {
        let served = peers.iter().filter(|(_, peer)| peer.serves_headers());
        let all = served.filter_map(|(id, peer)| Some((id, peer, self.peers.get(&id)?)));
        all.filter(|(_, _, headers)| headers.cool_down.is_none())
    }

    fn is_another_eligible(&self, peers: &Peers, id: ConnId) -> bool {
        self.eligible(peers).any(|(other, ..)| other != id)
    }

    /// Whether the peer has kept a request for headers waiting.
    fn is_silent(&self, id: ConnId, now: Duration) -> bool {
        let ask = self.ask_of(id);
        ask.is_some_and(|ask| ask.kind == HeadersAsk::Sync && now >= ask.at + FIRST_HEDGE)
    }

    /// How promising a peer is as the source; greater is better.
    fn rank(
        &self,
        known: &KnownWork,
        (id, peer, headers): (ConnId, &Peer, &PeerHeaders),
    ) -> impl Ord + use<> {
        let work = known.best(id).map(|best| best.work);
        let dialled = peer.is_dialled();
        (dialled, headers.answered, work, std::cmp::Reverse(id))
    }
}

/// The source.
impl HeaderSync {
    /// The source, if it is this peer, is one no more: the next one is chosen in the
    /// same step (S3).
    fn lose_source(&mut self, cx: &mut Context<'_>, id: ConnId, why: &str) {
        if self.is_source(id) {
            self.choose_source(cx, &format!("{id}: {why}"));
        }
    }

    /// Makes the most promising peer the source: one that we dialled before one that
    /// dialled us, one that has answered before, one that has shown more.
    fn choose_source(&mut self, cx: &mut Context<'_>, reason: &str) {
        let eligible = self.eligible(cx.peers);
        let best = eligible.max_by_key(|peer| self.rank(cx.known, *peer));
        let best = best.map(|(id, ..)| id);
        self.set_source(cx, best, reason);
        let Some(id) = best else { return };
        self.peer(id).ended = false;
        self.ask_sync(cx, id);
    }

    fn set_source(&mut self, cx: &mut Context<'_>, to: Option<ConnId>, reason: &str) {
        let now = cx.step.now;
        let from = self.source.take().map(|source| source.id);
        let until = now.mono + late::time_for_headers(cx.config, cx.tree(), now);
        self.source = to.and_then(|id| {
            let peer = cx.peers.get(id)?;
            let answered = if self.has_answered(id) {
                ", has answered before"
            } else {
                ""
            };
            Some(SourcePeer {
                id,
                since: now.mono,
                at: now.unix,
                until,
                why: format!("{} peer{answered}; {reason}", peer.direction()),
            })
        });
        let due = self.source.as_ref().map(|source| source.until);
        cx.timers.put(SyncTimer::HeadersFromSource, due);
        if self.source_changes.len() == SOURCE_CHANGES {
            self.source_changes.pop_front();
        }
        self.source_changes.push_back(SourceChange {
            at: now.unix,
            from,
            to,
            reason: reason.to_owned(),
        });
        tracing::debug!(?from, ?to, reason, "sync peer");
    }

    /// Another than the source brought news. It becomes the source when the source has
    /// kept silent meanwhile, or has ended and this one has still more.
    fn take_over(&mut self, cx: &mut Context<'_>, id: ConnId, more: bool) {
        let Some(source) = self.source_id() else {
            return;
        };
        if source == id || !self.is_eligible(cx.peers, id) {
            return;
        }
        if self.is_silent(source, cx.now()) {
            let why = format!("answered while {source} was silent");
            self.set_source(cx, Some(id), &why);
        } else if more && self.has_ended(source) {
            let why = format!("has more headers than {source}");
            self.set_source(cx, Some(id), &why);
        }
    }

    /// The peer failed as the source: not to be chosen again for some time, or until it
    /// answers.
    fn cool_down(
        &mut self,
        cx: &mut Context<'_>,
        id: ConnId,
        why: &'static str,
        ends_by_answer: bool,
    ) {
        let alone = !self.is_another_eligible(cx.peers, id);
        let peer = self.peer(id);
        let times = 1 << peer.given_up.min(5);
        let time = match alone {
            true => COOL_DOWN_ALONE,
            false => (COOL_DOWN * times).min(LONGEST_COOL_DOWN),
        };
        let until = cx.now() + time;
        peer.cool_down = Some(CoolDown {
            until,
            why,
            ends_by_answer,
        });
        peer.answered = false;
        cx.timers.set(SyncTimer::CoolDown(id), until);
        self.stop_asking(cx, id);
        self.lose_source(cx, id, why);
    }

    /// S3 at the end of every step: a peer that cooled down may be the source again when
    /// its time is over, or when it answered after all.
    pub(super) fn fill_source(&mut self, cx: &mut Context<'_>) {
        if self.source.is_none() && self.eligible(cx.peers).next().is_some() {
            self.choose_source(cx, FIRST);
        }
    }

    /// Headers came from the source: it keeps nobody waiting.
    fn have_come(&mut self, timers: &mut Timers) {
        timers.stop(&SyncTimer::Hedge);
        self.hedges = 0;
    }

    /// Puts header sync on its feet without relying on what brought it down: what was
    /// announced is asked for, and another peer is the source.
    pub(super) fn repair(&mut self, cx: &mut Context<'_>, why: &str) {
        let mut owed = Vec::new();
        for (id, peer) in &mut self.peers {
            if peer.unasked_announcement.take().is_some() {
                owed.push(*id);
            }
        }
        for id in owed {
            self.take_ask(cx, id);
            self.ask_for_announced(cx, id);
        }
        let before = self.source_id();
        match before.filter(|id| self.is_eligible(cx.peers, *id)) {
            Some(id) if self.is_another_eligible(cx.peers, id) => {
                self.cool_down(cx, id, "sync did not get on with it", true);
            }
            Some(_) | None => self.choose_source(cx, why),
        }
    }
}
