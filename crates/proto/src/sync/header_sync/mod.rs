//! Header sync: which peer to ask for headers, when to ask another, when to give up.
//!
//! Headers are synced from one peer, the *source*. It gets the next request as soon as a full batch
//! has come. When it has no more, every other peer is asked for headers beyond our best one, from
//! that header's parent on, so that the answer of a peer with the same chain is never empty.
//!
//! # Silence
//!
//! A peer may be slow, dead, or silent on purpose; we cannot distinguish these, so no peer is
//! disconnected early. Instead another peer gets the same request after [`FIRST_HEDGE`], then twice
//! as many each second; the first that answers with news becomes the source. Three silent peers
//! that claim a great height so cost 3.5 s in all. Any peer that announces an unknown block is
//! asked for the headers that lead to it, at once or after its outstanding answer, whatever the
//! source does. An outbound peer replaces an inbound source. A source without news has ended: the
//! others are asked then. One whose headers failed (too little work, others than before) cools
//! down: it is not the source again for some time, each time longer. A whole header sync has 15
//! minutes and a millisecond for each header that must exist by now.
//!
//! After [`HEADERS_RESPONSE_TIME`]: an outbound peer is disconnected when there is another to ask,
//! since it takes up one of few slots; an inbound one cools down; the only one is asked again.
//! Empty or short answers are answers (S2).

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
/// How long a peer that failed as the source is not selected again.
const COOL_DOWN: Duration = Duration::from_secs(120);
/// The longest cool-down, for peers that failed repeatedly.
const LONGEST_COOL_DOWN: Duration = Duration::from_secs(3_600);
/// The cool-down when there is no other peer.
const COOL_DOWN_ALONE: Duration = Duration::from_secs(30);
/// Why a peer is selected while there is no source.
const FIRST: &str = "first peer with headers";
/// Changes of the source that are remembered.
const SOURCE_CHANGES: usize = 50;

/// The state of other parts that header sync reads and changes.
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

/// An outstanding `getheaders`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) kind: HeadersAsk,
    /// When it was sent, monotonic.
    pub(super) at: Duration,
    /// Height of the first hash of its locator.
    from: u32,
}

/// A time in which a peer is not selected as the source.
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
    /// When it was last sent a request other than a probe.
    last_asked: Duration,
    /// It has answered at least one `getheaders`.
    answered: bool,
    /// Its headers were followed to their end (as of then).
    ended: bool,
    cool_down: Option<CoolDown>,
    /// Its low-work chains that were given up.
    given_up: u32,
    /// When its low-work headers were first followed, monotonic.
    low_work_since: Duration,
    low_work: Option<Box<LowWork>>,
    /// Since when an announcement of it waits: it announced an unknown block, and could not be
    /// asked for its headers at once.
    unasked_announcement: Option<Duration>,
    /// We sent `sendheaders`.
    sent_sendheaders: bool,
}

impl PeerHeaders {
    /// Whether a request for all headers is outstanding.
    fn is_asked_to_sync(&self) -> bool {
        self.ask.is_some_and(|ask| ask.kind == HeadersAsk::Sync)
    }
}

/// The peer that headers are synced from.
#[derive(Clone, Debug)]
pub(super) struct SourcePeer {
    pub(super) id: ConnId,
    /// When it was selected, monotonic.
    pub(super) since: Duration,
    /// The same, Unix seconds.
    pub(super) at: u32,
    /// When it must have sent all headers, monotonic.
    until: Duration,
    pub(super) why: String,
}

/// Header sync over all peers. See the module.
///
/// Invariant (S3): at the end of a step there is a source if any peer is eligible, and it is an
/// eligible one.
#[derive(Clone, Debug)]
pub(super) struct HeaderSync {
    peers: BTreeMap<ConnId, PeerHeaders>,
    source: Option<SourcePeer>,
    /// How often more peers were asked than a silent source since headers last came.
    hedges: u32,
    /// The last 50 changes of the source.
    source_changes: VecDeque<SourceChange>,
    /// Salts the commitments to low-work headers.
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

    /// A peer was admitted: it may be the missing source.
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
            // An inbound peer does not stay the only one asked while there is an outbound peer.
            self.set_source(cx, Some(id), "the previous source was inbound");
            self.peer(id).ended = false;
            self.ask_sync(cx, id);
        } else if self.is_silent(source, cx.now()) {
            self.ask_sync(cx, id);
        } else if self.ask_of(source).is_none() {
            self.ask_tip(cx, id);
        }
    }

    /// The peer disconnected by itself.
    pub(super) fn removed(&mut self, cx: &mut Context<'_>, id: ConnId) {
        self.peers.remove(&id);
        cx.timers.stop_all(|timer| timer.peer() == Some(id));
        self.lose_source(cx, id, "it disconnected");
    }

    /// Disconnects a peer. From here on it gets no request; S3 holds at once, not only after its
    /// `Done`.
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
        peer.expect("looked up by the caller in this step")
    }

    /// Peers that are eligible as the source now.
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

    /// Whether a request for headers to the peer is overdue.
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
    /// If this peer is the source, it is replaced in the same step (S3).
    fn lose_source(&mut self, cx: &mut Context<'_>, id: ConnId, why: &str) {
        if self.is_source(id) {
            self.choose_source(cx, &format!("{id}: {why}"));
        }
    }

    /// Selects the best peer as the source: outbound before inbound, one that has answered before,
    /// one that has shown more.
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

    /// Another peer than the source sent news. It becomes the source when the source was silent
    /// meanwhile, or has ended and this one has still more.
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

    /// The peer failed as the source: not selected again for some time, or until it answers.
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

    /// S3 at the end of every step: a peer in its cool-down is eligible again when that has
    /// expired, or when it answered after all.
    pub(super) fn fill_source(&mut self, cx: &mut Context<'_>) {
        if self.source.is_none() && self.eligible(cx.peers).next().is_some() {
            self.choose_source(cx, FIRST);
        }
    }

    /// Headers came from the source: its timeouts start again.
    fn have_come(&mut self, timers: &mut Timers) {
        timers.stop(&SyncTimer::Hedge);
        self.hedges = 0;
    }

    /// Restarts header sync without relying on the state that stalled it: announced blocks are
    /// requested, and another peer becomes the source.
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
                self.cool_down(cx, id, "sync made no progress with it", true);
            }
            Some(_) | None => self.choose_source(cx, why),
        }
    }
}
