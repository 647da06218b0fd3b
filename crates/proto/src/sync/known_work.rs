//! The best block that each peer has shown, and cheap probes for it.
//!
//! Heights that a peer claims in `version` are never used. Only what it showed counts: headers it
//! sent, and announced blocks whose header we know.
//!
//! # Probing
//!
//! Headers come from one peer; the others have shown nothing yet, so no block may be requested from
//! them. They are not asked for all headers again, but whether they have one block X: `getheaders`
//! with a locator from X's parent on and X as the stop. A peer whose active chain has X answers
//! with exactly one header. One that is behind answers with less, one on another branch with that
//! branch: both useful. A peer that is in initial block download itself may not answer; that is no
//! offence, and it is probed again at growing intervals.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bitcoin::{BlockHash, Work};
use handfast_wire::{Locator, Message};

use crate::headers::{Entry, HeaderTree, Status};
use crate::lifecycle::ConnId;
use crate::time::Now;

use super::RejectKind;
use super::chain::is_from_the_future;
use super::step::Step;
use super::timers::{SyncTimer, Timers};

/// Timeout of a probe.
const PROBE_TIMEOUT: Duration = Duration::from_secs(30);
/// Pause after the first probe that showed nothing new; doubles each time.
const FIRST_PROBE_PAUSE: Duration = Duration::from_secs(5);
/// The longest pause between probes of a peer that shows nothing new.
const LONGEST_PROBE_PAUSE: Duration = Duration::from_secs(160);

/// Pause before a block that was too new for our clock is tried again.
const TOO_NEW_PAUSE: Duration = Duration::from_secs(20);
/// Pause before a peer that lacked a block that it had shown is asked for it again; doubles each
/// time until it delivers one.
const FIRST_LACK_PAUSE: Duration = Duration::from_secs(2);
/// Most doublings of that: 128 s.
const MOST_LACK_DOUBLINGS: u32 = 6;

/// A block that a peer has, with the values to compare it by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) hash: BlockHash,
    pub(super) height: u32,
    pub(super) work: Work,
}

impl From<&Entry> for Known {
    fn from(entry: &Entry) -> Self {
        Self {
            hash: entry.hash,
            height: entry.height,
            work: entry.work,
        }
    }
}

/// A `getheaders` for whether the peer has `block`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Probe {
    pub(super) block: BlockHash,
    /// When it was sent, monotonic.
    pub(super) at: Duration,
}

/// Why a block that a peer has shown is unavailable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unavailable {
    /// It answered that it does not have it.
    Lacked,
    /// Its time, Unix seconds, is too far ahead of our clock.
    TooNew(u32),
    /// The engine could not validate it.
    Unjudged,
}

/// A chain that a peer has shown, with an unavailable block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Retry {
    /// The tip of the chain.
    pub(super) best: BlockHash,
    pub(super) why: Unavailable,
    /// Not tried again before, monotonic.
    pub(super) again: Duration,
}

/// The blocks that one peer has shown.
#[derive(Clone, Debug)]
struct PeerWork {
    /// The best block it has shown. Core `pindexBestKnownBlock`.
    best: Option<Known>,
    /// The last announced block without a header here. Core `hashLastUnknownBlock`.
    unknown: Option<BlockHash>,
    /// A chain that it has shown and that is unavailable for now.
    retry: Option<Retry>,
    /// How often it has lacked a block that it had shown, since it last delivered one.
    lacked: u32,
    probe: Option<Probe>,
    /// Not probed before.
    next_probe: Duration,
    /// Pause after the next probe that shows nothing new.
    probe_pause: Duration,
}

impl Default for PeerWork {
    fn default() -> Self {
        Self {
            best: None,
            unknown: None,
            retry: None,
            lacked: 0,
            probe: None,
            next_probe: Duration::ZERO,
            probe_pause: FIRST_PROBE_PAUSE,
        }
    }
}

impl PeerWork {
    /// Raises the best block; returns whether the peer has shown more work than before.
    fn raise(&mut self, entry: &Entry) -> bool {
        // Equal work is no news: a peer that alternates between two such blocks would cause a new
        // plan each time.
        let raised = self.best.is_none_or(|best| entry.work > best.work);
        if raised {
            self.best = Some(Known::from(entry));
            self.probe_pause = FIRST_PROBE_PAUSE;
            self.next_probe = Duration::ZERO;
        }
        raised
    }

    fn back_off(&mut self, now: Duration) {
        self.next_probe = now + self.probe_pause;
        self.probe_pause = (self.probe_pause * 2).min(LONGEST_PROBE_PAUSE);
    }
}

/// The blocks that peers have shown. See the module.
///
/// Invariant: the best block of each peer is in the tree and not invalid.
#[derive(Clone, Debug, Default)]
pub(super) struct KnownWork {
    peers: BTreeMap<ConnId, PeerWork>,
    /// Peers whose best block has changed since the last [`Self::take_changed`].
    changed: BTreeSet<ConnId>,
}

/// The current state.
impl KnownWork {
    /// The best block that the peer has shown.
    pub(super) fn best(&self, id: ConnId) -> Option<Known> {
        self.peers.get(&id)?.best
    }

    /// Whether the peer has announced a block without a header here.
    pub(super) fn has_announced_unknown(&self, id: ConnId) -> bool {
        let peer = self.peers.get(&id);
        peer.is_some_and(|peer| peer.unknown.is_some())
    }

    /// The chain that the peer has shown and that is unavailable for now.
    pub(super) fn retry(&self, id: ConnId) -> Option<Retry> {
        self.peers.get(&id)?.retry
    }

    /// The outstanding probe.
    pub(super) fn probe(&self, id: ConnId) -> Option<Probe> {
        self.peers.get(&id)?.probe
    }

    /// Peers whose best block has changed since the last call.
    pub(super) fn take_changed(&mut self) -> BTreeSet<ConnId> {
        std::mem::take(&mut self.changed)
    }
}

/// Updates by what peers show.
impl KnownWork {
    pub(super) fn added(&mut self, id: ConnId) {
        self.peers.insert(id, PeerWork::default());
    }

    pub(super) fn removed(&mut self, id: ConnId) {
        self.peers.remove(&id);
        self.changed.remove(&id);
    }

    /// The peer has shown to have this block.
    pub(super) fn learn(&mut self, tree: &HeaderTree, id: ConnId, hash: BlockHash) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        match tree.get(&hash) {
            Some(entry) if entry.status != Status::Invalid => {
                if peer.raise(&entry) {
                    self.changed.insert(id);
                }
            }
            Some(_) => {}
            None => peer.unknown = Some(hash),
        }
    }

    /// Headers were added: blocks that peers announced before may be known now.
    pub(super) fn learn_announced(&mut self, tree: &HeaderTree) {
        for (id, peer) in &mut self.peers {
            let Some(hash) = peer.unknown else { continue };
            let Some(entry) = tree.get(&hash) else {
                continue;
            };
            peer.unknown = None;
            if entry.status != Status::Invalid && peer.raise(&entry) {
                self.changed.insert(*id);
            }
        }
    }

    /// Headers became invalid: each peer keeps its last valid block.
    pub(super) fn forget_invalid(&mut self, tree: &HeaderTree) {
        for peer in self.peers.values_mut() {
            let Some(best) = peer.best else { continue };
            let mut at = tree.get(&best.hash).expect("known blocks are in the tree");
            while at.status == Status::Invalid {
                at = tree.parent(&at.hash).expect("genesis is valid");
            }
            peer.best = Some(Known::from(&at));
        }
    }

    /// The peer delivered a requested block.
    pub(super) fn delivered(&mut self, id: ConnId) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.lacked = 0;
        }
    }
}

/// Unavailable blocks.
impl KnownWork {
    /// The peer lacks a block that it had shown. It may have it a moment later, so it is asked
    /// again after a pause.
    pub(super) fn lacks(
        &mut self,
        timers: &mut Timers,
        tree: &HeaderTree,
        now: Duration,
        id: ConnId,
        hash: BlockHash,
    ) {
        let Some(best) = self.unlearn(tree, now, id, hash) else {
            return;
        };
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let pause = FIRST_LACK_PAUSE * (1 << peer.lacked.min(MOST_LACK_DOUBLINGS));
        // Requests of the same time count once.
        let counted = peer.retry;
        let counted = counted.is_some_and(|retry| retry.why == Unavailable::Lacked);
        peer.lacked += u32::from(!counted);
        self.retry_later(timers, tree, id, best, Unavailable::Lacked, now + pause);
    }

    /// The block is unavailable at this peer. Returns the best block that the peer had shown, if it
    /// builds on this one.
    fn unlearn(
        &mut self,
        tree: &HeaderTree,
        now: Duration,
        id: ConnId,
        hash: BlockHash,
    ) -> Option<BlockHash> {
        let peer = self.peers.get_mut(&id)?;
        let best = peer.best?;
        if !tree.is_ancestor(&hash, &best.hash) {
            return None;
        }
        peer.best = tree.parent(&hash).as_ref().map(Known::from);
        peer.back_off(now);
        self.changed.insert(id);
        Some(best.hash)
    }

    /// The block is unavailable at all peers now (it is too new for our clock, or the engine lacks
    /// its parent): it counts as not shown by any, for some time and until the clock allows it. No
    /// peer need show it again: a corrected clock must not leave us behind until the next block is
    /// found.
    pub(super) fn unlearn_for_now(
        &mut self,
        timers: &mut Timers,
        tree: &HeaderTree,
        now: Duration,
        refused: BlockHash,
        kind: RejectKind,
    ) {
        let Some(time) = tree.get(&refused).map(|entry| entry.header.time) else {
            return;
        };
        let why = match kind {
            RejectKind::TimeFuture => Unavailable::TooNew(time),
            _ => Unavailable::Unjudged,
        };
        let ids: Vec<ConnId> = self.peers.keys().copied().collect();
        for id in ids {
            if let Some(best) = self.unlearn(tree, now, id, refused) {
                self.retry_later(timers, tree, id, best, why, now + TOO_NEW_PAUSE);
            }
        }
    }

    /// The peer has shown a chain that ends with `best`, with a block that is too new for our
    /// clock.
    pub(super) fn is_too_new(
        &mut self,
        timers: &mut Timers,
        tree: &HeaderTree,
        now: Duration,
        id: ConnId,
        (best, time): (BlockHash, u32),
    ) {
        let why = Unavailable::TooNew(time);
        self.retry_later(timers, tree, id, best, why, now + TOO_NEW_PAUSE);
    }

    /// The peer has shown a chain that ends with `best`, and a block of it is unavailable before
    /// `again`. A longer chain that waits already is not replaced by a part of it.
    fn retry_later(
        &mut self,
        timers: &mut Timers,
        tree: &HeaderTree,
        id: ConnId,
        best: BlockHash,
        why: Unavailable,
        again: Duration,
    ) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let before = peer.retry;
        let longer = before.filter(|before| tree.is_ancestor(&best, &before.best));
        let best = longer.map_or(best, |longer| longer.best);
        let again = longer.map_or(again, |longer| again.max(longer.again));
        peer.retry = Some(Retry { best, why, again });
        timers.set(SyncTimer::Retry(id), again);
    }

    /// [`SyncTimer::Retry`] expired: the peer counts as having its chain again. Returns the chain.
    pub(super) fn retry_expired(
        &mut self,
        timers: &mut Timers,
        tree: &HeaderTree,
        now: Now,
        id: ConnId,
    ) -> Option<BlockHash> {
        let peer = self.peers.get_mut(&id)?;
        let retry = peer.retry?;
        if now.mono < retry.again {
            timers.set(SyncTimer::Retry(id), retry.again);
            return None;
        }
        if let Unavailable::TooNew(time) = retry.why
            && is_from_the_future(now, time)
        {
            timers.set(SyncTimer::Retry(id), now.mono + TOO_NEW_PAUSE / 2);
            return None;
        }
        peer.retry = None;
        self.learn(tree, id, retry.best);
        Some(retry.best)
    }
}

/// Probes.
impl KnownWork {
    /// Probes the peer for this block, unless it was probed recently.
    pub(super) fn ask_whether_it_has(
        &mut self,
        step: &mut Step,
        timers: &mut Timers,
        tree: &HeaderTree,
        id: ConnId,
        block: BlockHash,
    ) {
        let now = step.now.mono;
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        if peer.probe.is_some() {
            return;
        }
        if now < peer.next_probe {
            timers.set(SyncTimer::ProbeAgain(id), peer.next_probe);
            return;
        }
        let Some(parent) = tree.parent(&block) else {
            return;
        };
        peer.probe = Some(Probe { block, at: now });
        let locator = Locator {
            hashes: tree.locator(&parent.hash),
            stop: block,
        };
        step.send(id, Message::GetHeaders(locator));
        timers.set(SyncTimer::ProbeAnswer(id), now + PROBE_TIMEOUT);
    }

    /// The peer has answered a probe, or its probe is dropped.
    pub(super) fn end_probe(&mut self, timers: &mut Timers, id: ConnId) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.probe = None;
        }
        timers.stop(&SyncTimer::ProbeAnswer(id));
    }

    /// The answer to a probe was learnt. Returns whether the peer has the block.
    pub(super) fn probe_answered(
        &mut self,
        tree: &HeaderTree,
        now: Duration,
        id: ConnId,
        probe: Probe,
    ) -> bool {
        let Some(peer) = self.peers.get_mut(&id) else {
            return false;
        };
        let has = peer.best.is_some_and(|best| {
            best.hash == probe.block || tree.is_ancestor(&probe.block, &best.hash)
        });
        if has {
            peer.probe_pause = FIRST_PROBE_PAUSE;
            peer.next_probe = now;
        } else {
            peer.back_off(now);
        }
        has
    }

    /// [`SyncTimer::ProbeAnswer`] expired: the peer is probed again later.
    pub(super) fn probe_is_late(&mut self, now: Duration, id: ConnId) {
        if let Some(peer) = self.peers.get_mut(&id)
            && peer.probe.take().is_some()
        {
            peer.back_off(now);
        }
    }

    /// Every peer may be probed at once.
    pub(super) fn probe_at_once(&mut self) {
        for peer in self.peers.values_mut() {
            peer.probe_pause = FIRST_PROBE_PAUSE;
            peer.next_probe = Duration::ZERO;
        }
    }

    /// Extends every deadline by the time during which we were stalled.
    pub(super) fn extend_deadlines(&mut self, late: Duration) {
        for peer in self.peers.values_mut() {
            if let Some(probe) = &mut peer.probe {
                probe.at += late;
            }
        }
    }
}

#[cfg(test)]
mod tests;
