//! Which block each peer has shown to have, and finding out cheaply.
//!
//! Heights that a peer claims in `version` are never used. What counts is what it
//! showed: headers it sent, blocks it announced whose header we know.
//!
//! # Probing
//!
//! Headers come from one peer; the others have shown nothing yet, so no block may
//! be asked of them. They are not asked for all headers again, but whether they have
//! one block X: `getheaders` with a locator from X's parent on and X as the stop.
//! A peer whose active chain holds X answers with exactly one header. One that is
//! behind answers with less, one on another branch with that branch: both useful.
//! A peer that is in initial download itself may answer nothing at all; that is no
//! offence, and it is asked again later, ever more rarely.

use std::time::Duration;

use bitcoin::BlockHash;
use handfast_wire::{Locator, Message};

use crate::headers::{Entry, Status};
use crate::lifecycle::ConnId;

use super::header_batch::is_from_the_future;
use super::manager::{Step, SyncManager};
use super::peer::{Known, Peer, Probe, Retry, Unavailable};
use super::{HeadersAsk, RejectKind};

/// Silence after which a probe is given up.
pub(super) const PROBE_PATIENCE: Duration = Duration::from_secs(30);
/// Pause after the first probe that showed nothing new; doubles each time.
pub(super) const FIRST_PROBE_PAUSE: Duration = Duration::from_secs(5);
/// The longest pause between probes of a peer that shows nothing new.
const LONGEST_PROBE_PAUSE: Duration = Duration::from_secs(160);

/// Pause before a block that was too new for our clock is tried again.
const TOO_NEW_PAUSE: Duration = Duration::from_secs(20);
/// Pause before a peer that lacked a block that it had shown is taken at its word again;
/// doubles each time until it delivers one.
pub(super) const FIRST_LACK_PAUSE: Duration = Duration::from_secs(2);
/// Most doublings of that: 128 s.
const MOST_LACK_DOUBLINGS: u32 = 6;

impl SyncManager {
    /// The peer has shown to have this block.
    pub(super) fn learn(&mut self, id: ConnId, hash: BlockHash) {
        let entry = self.tree.get(&hash);
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        match entry {
            Some(entry) if entry.status != Status::Invalid => {
                if raise(peer, &entry) {
                    self.download.shown(id);
                }
            }
            Some(_) => {}
            None => peer.known.unknown = Some(hash),
        }
    }

    /// Headers were added: what peers had announced before may be known now.
    pub(super) fn learn_announced(&mut self) {
        for (id, peer) in &mut self.peers {
            let Some(hash) = peer.known.unknown else {
                continue;
            };
            let Some(entry) = self.tree.get(&hash) else {
                continue;
            };
            peer.known.unknown = None;
            if entry.status != Status::Invalid && raise(peer, &entry) {
                self.download.shown(*id);
            }
        }
    }

    /// Headers became invalid: what peers have counts up to the last valid one.
    pub(super) fn forget_invalid(&mut self) {
        for peer in self.peers.values_mut() {
            let Some(best) = peer.known.best else {
                continue;
            };
            let mut at = self
                .tree
                .get(&best.hash)
                .expect("known blocks are in the tree");
            while at.status == Status::Invalid {
                at = self.tree.parent(&at.hash).expect("genesis is valid");
            }
            peer.known.best = Some(Known::from(&at));
        }
        self.download.replan();
    }

    /// The peer says that it does not have this block after all.
    pub(super) fn unlearn(&mut self, now: Duration, id: ConnId, hash: BlockHash) {
        let parent = self.tree.parent(&hash);
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let Some(best) = peer.known.best else { return };
        if self.tree.is_ancestor(&hash, &best.hash) {
            peer.known.best = parent.as_ref().map(Known::from);
            back_off(peer, now);
            self.download.shown(id);
        }
    }

    /// The peer does not have a block that it had shown. That is between the two: it may have
    /// it a moment later, so that it is taken at its word again after a pause.
    pub(super) fn lacks(&mut self, now: Duration, id: ConnId, hash: BlockHash) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let Some(best) = peer.known.best else { return };
        let pause = FIRST_LACK_PAUSE * (1 << peer.known.lacked.min(MOST_LACK_DOUBLINGS));
        self.unlearn(now, id, hash);
        let peer = self.live(id);
        if peer.known.best != Some(best) {
            // What was asked for at the same time counts once.
            let asked = peer
                .known
                .retry
                .is_some_and(|retry| retry.why == Unavailable::Lacked);
            peer.known.lacked += u32::from(!asked);
            self.retry_later(id, best.hash, Unavailable::Lacked, now + pause);
        }
    }

    /// The block cannot be had now of any peer (it is too new for our clock, or the
    /// kernel lacks what it builds on): as if no peer had shown it, for some time and until
    /// the clock allows it. Nobody need show it again: a clock that was put right must not
    /// leave us behind until the next block is found.
    pub(super) fn unlearn_for_now(&mut self, now: Duration, refused: BlockHash, kind: RejectKind) {
        let Some(time) = self.tree.get(&refused).map(|entry| entry.header.time) else {
            return;
        };
        let why = match kind {
            RejectKind::TimeFuture => Unavailable::TooNew(time),
            _ => Unavailable::Unjudged,
        };
        let ids: Vec<ConnId> = self.peers.keys().copied().collect();
        for id in ids {
            let shown = self.peers[&id].known.best;
            let shown = shown.filter(|best| self.tree.is_ancestor(&refused, &best.hash));
            if let Some(best) = shown {
                self.unlearn(now, id, refused);
                self.retry_later(id, best.hash, why, now + TOO_NEW_PAUSE);
            }
        }
    }

    /// The peer has shown a chain that ends with `best`, and a block of it cannot be had
    /// before `again`. A longer chain that waits already is not forgotten for a part of it.
    pub(super) fn retry_later(
        &mut self,
        id: ConnId,
        best: BlockHash,
        why: Unavailable,
        again: Duration,
    ) {
        let before = self.peers.get(&id).and_then(|peer| peer.known.retry);
        let longer = before.filter(|before| self.tree.is_ancestor(&best, &before.best));
        let best = longer.map_or(best, |longer| longer.best);
        let again = longer.map_or(again, |longer| again.max(longer.again));
        self.live(id).known.retry = Some(Retry { best, why, again });
        self.wake_at(again);
    }

    /// The same, of a block that is too new for our clock.
    pub(super) fn is_too_new(&mut self, now: Duration, id: ConnId, best: BlockHash, time: u32) {
        let again = now + TOO_NEW_PAUSE;
        self.retry_later(id, best, Unavailable::TooNew(time), again);
    }

    /// Takes peers at their word again whose time has come.
    fn take_at_their_word(&mut self, step: &mut Step) {
        let waiting = self.peers.iter().filter(|(_, peer)| !peer.leaving);
        let waiting: Vec<(ConnId, Retry)> = waiting
            .filter_map(|(id, peer)| Some((*id, peer.known.retry?)))
            .collect();
        let now = step.now.mono;
        for (id, retry) in waiting {
            if now < retry.again {
                self.wake_at(retry.again);
                continue;
            }
            if let Unavailable::TooNew(time) = retry.why
                && is_from_the_future(step.now, time)
            {
                self.wake_at(now + TOO_NEW_PAUSE / 2);
                continue;
            }
            self.live(id).known.retry = None;
            self.download.ask_again(id);
            self.learn(id, retry.best);
            if !self.tree.contains(&retry.best) {
                self.ask_for_announced(step, id);
            }
        }
    }

    /// Whether the peer has this header: it showed it, or we sent it. Core `PeerHasHeader`.
    pub(super) fn peer_has(&self, peer: &Peer, hash: &BlockHash) -> bool {
        let shown = peer.known.best.map(|best| best.hash);
        [shown, peer.known.sent]
            .into_iter()
            .flatten()
            .any(|best| best == *hash || self.tree.is_ancestor(hash, &best))
    }

    /// Asks the peer whether it has the end of the plan, unless it was asked lately.
    pub(super) fn probe(&mut self, step: &mut Step, id: ConnId, block: BlockHash) {
        let now = step.now.mono;
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let busy = peer.known.probe.is_some() || peer.headers.ask.is_some();
        if busy || peer.headers.low_work.is_some() || !peer.serves_headers() {
            return;
        }
        if now < peer.known.next_probe {
            let again = peer.known.next_probe;
            self.wake_at(again);
            return;
        }
        let Some(parent) = self.tree.parent(&block) else {
            return;
        };
        peer.known.probe = Some(Probe { block, at: now });
        let hashes = self.tree.locator(&parent.hash);
        step.send(
            id,
            Message::GetHeaders(Locator {
                hashes,
                stop: block,
            }),
        );
        self.wake_at(now + PROBE_PATIENCE);
    }

    /// The answer to a probe has come and was learnt: is it what we hoped for? If not, the
    /// peer is asked what it has beyond what it has shown: it may well have less than the
    /// block that it was probed for, and more than we have.
    pub(super) fn probe_answered(&mut self, step: &mut Step, id: ConnId, probe: Probe) {
        let now = step.now.mono;
        let Some(peer) = self.peers.get(&id) else {
            return;
        };
        let has = peer.known.best.is_some_and(|best| {
            best.hash == probe.block || self.tree.is_ancestor(&probe.block, &best.hash)
        });
        let peer = self.live(id);
        if has {
            peer.known.probe_pause = FIRST_PROBE_PAUSE;
            peer.known.next_probe = now;
        } else {
            back_off(peer, now);
            let busy = peer.headers.ask.is_some() || peer.headers.low_work.is_some();
            let from = peer.known.best.map(|best| best.hash);
            if !busy && peer.serves_headers() {
                let from = from.unwrap_or(self.tree.tip().hash);
                self.ask(step, id, HeadersAsk::Tip, from);
            }
        }
    }

    pub(super) fn known_work_timers(&mut self, step: &mut Step) {
        self.take_at_their_word(step);
        let now = step.now.mono;
        let mut next = None::<Duration>;
        for peer in self.peers.values_mut() {
            let Some(probe) = peer.known.probe else {
                continue;
            };
            let due = probe.at + PROBE_PATIENCE;
            if due <= now {
                peer.known.probe = None;
                back_off(peer, now);
            } else {
                next = Some(next.map_or(due, |next| next.min(due)));
            }
        }
        if let Some(next) = next {
            self.wake_at(next);
        }
    }
}

/// Whether the peer has shown more than before.
fn raise(peer: &mut Peer, entry: &Entry) -> bool {
    // As much work is no news: a peer that names two such blocks by turns would have plans
    // made anew each time.
    let raised = peer.known.best.is_none_or(|best| entry.work > best.work);
    if raised {
        peer.known.best = Some(Known::from(entry));
        peer.known.probe_pause = FIRST_PROBE_PAUSE;
        peer.known.next_probe = Duration::ZERO;
    }
    raised
}

fn back_off(peer: &mut Peer, now: Duration) {
    peer.known.next_probe = now + peer.known.probe_pause;
    peer.known.probe_pause = (peer.known.probe_pause * 2).min(LONGEST_PROBE_PAUSE);
}
