//! Which block to request from which peer.
//!
//! Each peer is asked for the blocks of *its own* best chain, as in Core: a chain with more
//! work whose blocks no peer delivers takes nothing from a chain that
//! another peer shows. Chains that end in different blocks have a [`Plan`] each; peers that
//! have shown the same chain, or a part of it, share one.
//!
//! | file | what |
//! |---|---|
//! | `plan` | the way to one chain, and its window of 1,024 blocks |
//! | `targets` | which plans there are, and on which of them each peer lies |
//! | `pace` | what one peer was asked, how promptly it delivers, how much it is trusted with |
//! | `request` | which peer to request what from, and how often for the same |
//! | `late` | peers that are late |
//! | `state` | what sync decides upon and shows |
//! | `budget` | how many bytes may be on their way |
//!
//! # What one peer can take from others
//!
//! | a peer may | bound |
//! |---|---|
//! | have in flight | 1 block until it has delivered one, then up to 16 |
//! | keep others waiting for a block, as long as it has delivered none | [`late::GRACE`] and the time of a usual block |
//! | the same after it has delivered | 2 s, if another is as quick; then it has to deliver again |
//! | be late with | 32 blocks, for [`late::STALL_TIMEOUT`] from when another delivers; then it is disconnected, unless the operator named it |
//! | hold of the common budget | nothing by being late; else what it has in flight |
//!
//! # Flow control
//!
//! Blocks asked for in time and blocks that wait for the kernel share one budget, in
//! number and in bytes. So what is on its way can be read from its socket at once, and a
//! late block is its sender's doing, never the kernel's.

mod budget;
mod late;
mod pace;
mod pending;
mod plan;
mod request;
mod state;
mod targets;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bitcoin::{BlockHash, Work};
use handfast_wire::RawBlock;
use handfast_wire::limits::MAX_PAYLOAD_BYTES;

use crate::headers::{HeaderTree, Status};
use crate::lifecycle::{ConnId, Direction};

use super::known_work::{Known, KnownWork};
use super::peers::{Peer, Peers};
use super::timers::{SyncTimer, Timers};
use budget::Budget;
pub(super) use late::{RETRY_PAUSE, STALL_TIMEOUT, Then};
#[cfg(test)]
use pace::Asked;
pub(super) use pace::MAX_IN_FLIGHT;
use pace::{Delivery, PeerDownload};
pub(super) use pending::Pending;
#[cfg(test)]
pub(super) use plan::WINDOW;
pub(super) use plan::{Plan, PlanId};

/// Most blocks asked for or with the kernel.
pub(super) const MAX_OUTSTANDING: usize = 512;
/// What a block is expected to weigh before any was seen, bytes.
const FIRST_EXPECTED_BLOCK: usize = 512 * 1024;
/// The least that a block is expected to weigh, bytes.
const LEAST_EXPECTED_BLOCK: usize = 256;
/// Second copies of blocks with the kernel that wait for the verdict about the first.
const MAX_COPIES_KEPT: usize = 4;

/// What the rules of download look at, and do not own.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) tree: &'a HeaderTree,
    pub(super) peers: &'a Peers,
    pub(super) known: &'a KnownWork,
    /// Chains with less are not downloaded.
    pub(super) minimum_work: Work,
    /// Monotonic.
    pub(super) now: Duration,
}

impl View<'_> {
    fn serves_blocks(&self, id: ConnId) -> bool {
        self.peers.get(id).is_some_and(Peer::serves_blocks)
    }

    /// The end of the chain that this peer may be asked for blocks of: it has more work
    /// than ours.
    fn best(&self, id: ConnId) -> Option<Known> {
        let best = self.known.best(id).filter(|_| self.serves_blocks(id));
        best.filter(|best| best.work > self.tree.tip().work && best.work >= self.minimum_work)
    }

    /// The lowest height that this peer keeps of the chain that it has shown.
    fn lowest_kept(&self, id: ConnId) -> u32 {
        let peer = self.peers.get(id);
        peer.map_or(0, |peer| peer.lowest_kept(self.known.best(id)))
    }

    /// Whether the operator named this peer: it may be as slow as it is.
    fn is_manual(&self, id: ConnId) -> bool {
        let peer = self.peers.get(id);
        peer.is_some_and(|peer| peer.direction() == Direction::Manual)
    }

    fn is_dialled(&self, id: ConnId) -> bool {
        self.peers.is_dialled(id)
    }
}

/// What is to be done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Ask a peer for blocks.
    Ask(ConnId, Vec<BlockHash>),
    /// Ask a peer whether it has this block.
    Probe(ConnId, BlockHash),
    /// End a connection: the peer had all the time it could want for this block.
    Disconnect(ConnId, BlockHash),
}

/// A block that is not here and was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Flight {
    height: u32,
    /// Who was asked and is not late.
    holders: Vec<ConnId>,
    /// Peers that may be asked at the same time.
    copies: usize,
    /// How many peers were asked for it in all.
    tries: usize,
}

/// What has changed since plans were made.
#[derive(Clone, Debug, Default)]
struct Changed {
    everything: bool,
    tip: bool,
    /// What these have shown.
    shown: BTreeSet<ConnId>,
}

/// Block download over all peers. See the module.
#[derive(Clone, Debug)]
pub(super) struct BlockDownload {
    plans: BTreeMap<PlanId, Plan>,
    next_plan: u64,
    peers: BTreeMap<ConnId, PeerDownload>,
    flights: BTreeMap<BlockHash, Flight>,
    /// Blocks given to the kernel that await its verdict.
    with_kernel: BTreeMap<BlockHash, Pending>,
    kernel_bytes: usize,
    budget: Budget,
    /// Running estimate of a block's size, bytes.
    expected_block: usize,
    /// Our own trouble: nothing is asked for until then, and why.
    hold: Option<(Duration, String)>,
    changed: Changed,
    /// The peer that was asked last; the next one comes first.
    last_asked: ConnId,
    /// When late peers are, or were, looked at because of what others have shown, monotonic.
    looked_at_late: Duration,
}

impl Default for BlockDownload {
    fn default() -> Self {
        Self {
            plans: BTreeMap::new(),
            next_plan: 0,
            peers: BTreeMap::new(),
            flights: BTreeMap::new(),
            with_kernel: BTreeMap::new(),
            kernel_bytes: 0,
            budget: Budget::default(),
            expected_block: FIRST_EXPECTED_BLOCK,
            hold: None,
            changed: Changed::default(),
            last_asked: ConnId(0),
            looked_at_late: Duration::ZERO,
        }
    }
}

/// Peers.
impl BlockDownload {
    pub(super) fn added(&mut self, id: ConnId) {
        self.peers.insert(id, PeerDownload::default());
    }

    /// A peer left, or its end was ordered: what was asked of it is asked of others.
    pub(super) fn removed(&mut self, id: ConnId) {
        let Some(peer) = self.peers.remove(&id) else {
            return;
        };
        for asked in peer.asked() {
            self.release(id, asked.height, &asked.hash);
        }
        self.leave_plan(peer.plan, peer.reach);
    }

    /// What the peer has shown has changed.
    pub(super) fn shown(&mut self, id: ConnId) {
        self.changed.shown.insert(id);
    }

    /// All plans are to be made again: the active chain went back, headers became invalid.
    pub(super) fn replan(&mut self) {
        self.changed.everything = true;
    }

    /// The active chain has grown.
    pub(super) fn tip_moved(&mut self) {
        self.changed.tip = true;
    }

    /// Shifts every running timer by the time during which we did not look.
    pub(super) fn extend_deadlines(&mut self, by: Duration) {
        for peer in self.peers.values_mut() {
            peer.extend_deadlines(by);
            peer.look_at += by;
        }
    }

    /// Puts download on its feet without relying on what brought it down: requests that are
    /// not in both accounts are dropped, late peers are asked again, plans are made again.
    pub(super) fn repair(&mut self) {
        let peers = &self.peers;
        for (hash, flight) in &mut self.flights {
            let knows = |id: &ConnId| peers.get(id).is_some_and(|peer| peer.is_asked(hash));
            flight.holders.retain(knows);
        }
        for (id, peer) in &mut self.peers {
            let asked: Vec<BlockHash> = peer.asked().iter().map(|asked| asked.hash).collect();
            for hash in asked {
                let flight = self.flights.get(&hash);
                if flight.is_none_or(|flight| !flight.holders.contains(id)) {
                    peer.cancel(&hash);
                }
            }
            peer.give_another_chance();
            peer.overdue = false;
        }
        self.flights.retain(|_, flight| !flight.holders.is_empty());
        self.replan();
    }
}

/// Blocks.
impl BlockDownload {
    /// A block came from this peer. Whether it had been asked for it.
    pub(super) fn received(&mut self, view: &View<'_>, id: ConnId, hash: &BlockHash) -> bool {
        let Some(peer) = self.peers.get_mut(&id) else {
            return false;
        };
        let delivery = peer.deliver(view.now, hash);
        if delivery != Delivery::Unasked {
            let others = self.peers.iter_mut().filter(|(other, _)| **other != id);
            others.for_each(|(_, other)| other.another_delivered(view.now));
        }
        match delivery {
            Delivery::Unasked => false,
            Delivery::Late => true,
            Delivery::Asked { left_out } => {
                self.drop_holder(id, hash);
                for asked in left_out {
                    self.ask_others_too(view, id, asked);
                }
                true
            }
        }
    }

    /// A peer that lacked a block may be asked again, unless it is late with others.
    pub(super) fn ask_again(&mut self, id: ConnId) {
        if let Some(peer) = self.peers.get_mut(&id)
            && peer.first_late().is_none()
        {
            peer.give_another_chance();
        }
    }

    /// No peer is asked for this block any more. The requests that were outstanding.
    pub(super) fn cancel(&mut self, hash: &BlockHash) {
        let Some(flight) = self.flights.remove(hash) else {
            return;
        };
        for id in flight.holders {
            if let Some(peer) = self.peers.get_mut(&id) {
                peer.cancel(hash);
            }
        }
    }

    /// The peer says that it does not have the block, which it had shown: that is late, and
    /// it is asked for nothing for some time, whatever it shows next.
    pub(super) fn not_found(
        &mut self,
        timers: &mut Timers,
        now: Duration,
        id: ConnId,
        hash: &BlockHash,
    ) -> bool {
        let Some(peer) = self.peers.get_mut(&id) else {
            return false;
        };
        let asked = peer.asked().iter().find(|asked| asked.hash == *hash);
        let Some(asked) = asked.copied() else {
            return false;
        };
        peer.cancel(hash);
        peer.stall(now);
        self.release(id, asked.height, hash);
        timers.hasten(SyncTimer::LatePeers, now + STALL_TIMEOUT);
        true
    }

    /// A peer is not asked for this block any more: others may be.
    fn release(&mut self, id: ConnId, height: u32, hash: &BlockHash) {
        self.drop_holder(id, hash);
        self.put_back(height, hash);
    }

    fn drop_holder(&mut self, id: ConnId, hash: &BlockHash) {
        if let Some(flight) = self.flights.get_mut(hash) {
            flight.holders.retain(|holder| *holder != id);
            if flight.holders.is_empty() && flight.copies <= 1 {
                self.flights.remove(hash);
            }
        }
    }

    /// A block is to be had again, unless the kernel has it or enough peers are asked.
    pub(super) fn put_back(&mut self, height: u32, hash: &BlockHash) {
        if !wanted(&self.flights, &self.with_kernel)(hash) {
            return;
        }
        for plan in self.plans.values_mut() {
            plan.put_back(height, hash);
        }
    }

    /// A block is on its way to the kernel by any path: no peer is asked for it.
    fn take_out(&mut self, height: u32, hash: &BlockHash) {
        for plan in self.plans.values_mut() {
            plan.take_out(height, hash);
        }
    }

    /// A block was given to the kernel.
    pub(super) fn given_to_kernel(&mut self, height: u32, hash: BlockHash, pending: Pending) {
        self.take_out(height, &hash);
        let bytes = pending.bytes();
        self.budget.arrived(bytes, self.kernel_bytes);
        self.kernel_bytes += bytes;
        let before = self.with_kernel.insert(hash, pending);
        assert!(before.is_none(), "a block is with the kernel once");
    }

    /// Another copy of a block that the kernel has, from a peer that was asked for it. It
    /// waits for the verdict about the first, unless [`MAX_COPIES_KEPT`] do already.
    pub(super) fn keep_copy(&mut self, id: ConnId, block: RawBlock) {
        let waiting = self.with_kernel.values();
        if waiting.filter(|pending| pending.has_copy()).count() < MAX_COPIES_KEPT
            && let Some(pending) = self.with_kernel.get_mut(&block.hash)
        {
            pending.keep_copy(id, block);
        }
    }

    /// A block of the chain came that we had asked for: others will weigh as much.
    pub(super) fn weigh(&mut self, bytes: usize) {
        let estimate = (self.expected_block * 7 + bytes.min(MAX_PAYLOAD_BYTES)) / 8;
        self.expected_block = estimate.max(LEAST_EXPECTED_BLOCK);
    }

    pub(super) fn with_kernel(&self) -> &BTreeMap<BlockHash, Pending> {
        &self.with_kernel
    }

    /// The kernel gave its verdict about a block.
    pub(super) fn judged(&mut self, hash: &BlockHash) -> Option<Pending> {
        let pending = self.with_kernel.remove(hash);
        self.kernel_bytes -= pending.as_ref().map_or(0, Pending::bytes);
        // Had the kernel to wait because of the budget?
        let more = self.plans.values().any(|plan| !plan.missing().is_empty());
        let by_bytes = self.limit() < MAX_OUTSTANDING;
        let bound = self.space() == 0 || self.share() < MAX_IN_FLIGHT;
        if more && by_bytes && bound && self.with_kernel.is_empty() {
            self.budget.starved();
        }
        pending
    }

    /// The tree has a new status for this block: windows that begin with it move.
    pub(super) fn advance(&mut self, tree: &HeaderTree, hash: &BlockHash) {
        let (flights, with_kernel) = (&self.flights, &self.with_kernel);
        let is_wanted = wanted(flights, with_kernel);
        for plan in self.plans.values_mut() {
            if plan.begins_with(hash) {
                plan.advance(tree, &is_wanted);
            }
        }
    }

    /// Trouble of our own: nothing is asked for until then.
    pub(super) fn hold_until(&mut self, timers: &mut Timers, until: Duration, why: String) {
        self.hold = Some((until, why));
        timers.set(SyncTimer::HoldIsOver, until);
    }
}

/// Whether a block that is not here is to be asked for: it is not on its way.
fn wanted<'a>(
    flights: &'a BTreeMap<BlockHash, Flight>,
    with_kernel: &'a BTreeMap<BlockHash, Pending>,
) -> impl Fn(&BlockHash) -> bool + 'a {
    |hash| {
        let flight = flights.get(hash);
        let asked = flight.is_some_and(|flight| flight.holders.len() >= flight.copies);
        !asked && !with_kernel.contains_key(hash)
    }
}

/// The first block on the way from our chain to this one that is not here.
pub(super) fn first_missing(tree: &HeaderTree, best: &Known) -> Option<(u32, BlockHash)> {
    let tip = tree.tip().hash;
    let mut height = tree.fork_point(&best.hash, &tip)?.height + 1;
    loop {
        let chunk = tree.branch(&best.hash, height, 64);
        height = chunk.last()?.height + 1;
        let mut chunk = chunk.into_iter();
        if let Some(entry) = chunk.find(|entry| entry.status == Status::Header) {
            return Some((entry.height, entry.hash));
        }
    }
}

/// What tests set and look at.
#[cfg(test)]
impl BlockDownload {
    /// As if many blocks of that size had been seen.
    pub(super) fn expect_blocks_of(&mut self, bytes: usize) {
        self.expected_block = bytes;
    }

    pub(super) fn budget_mut(&mut self) -> &mut Budget {
        &mut self.budget
    }

    /// Nothing is asked of anybody, and nothing is known to be missing.
    pub(super) fn forget_requests(&mut self) {
        self.flights.clear();
        self.forget_asked();
        for plan in self.plans.values_mut() {
            plan.forget_missing();
        }
    }

    /// All requests are another's, who is not here.
    pub(super) fn ask_nobody(&mut self, id: ConnId) {
        self.forget_asked();
        for flight in self.flights.values_mut() {
            flight.holders = vec![id];
        }
    }

    fn forget_asked(&mut self) {
        for peer in self.peers.values_mut() {
            for asked in peer.asked().to_vec() {
                peer.cancel(&asked.hash);
            }
        }
    }

    /// As if the peer had been late with this block just now.
    pub(super) fn make_late(&mut self, id: ConnId, now: Duration, height: u32, hash: BlockHash) {
        let peer = self.peers.get_mut(&id).expect("a peer of the test");
        let at = now;
        peer.is_late_with(now, Asked { height, hash, at });
        peer.stall(now);
    }
}
