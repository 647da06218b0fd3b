//! Which block to ask of whom.
//!
//! The *plan* leads from what we have to the block with most work that a live peer has
//! shown. Its window of 1,024 blocks moves as blocks arrive; `missing` is the ordered
//! set of heights in it that are neither here nor asked for, so that the next block to
//! ask for is found without a scan.
//!
//! # Flow control
//!
//! Blocks asked for and blocks that wait for the kernel share one budget, in
//! number and in bytes (see [`super::budget`]). So whatever was asked for can be read from its socket at once,
//! and a late block is its sender's doing, never the kernel's.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bitcoin::BlockHash;
use bitcoin::p2p::message_blockdata::Inventory;
use handfast_wire::limits::MAX_PAYLOAD_BYTES;
use handfast_wire::{Message, RawBlock};

use crate::headers::{HeaderTree, Status, check_pow};
use crate::lifecycle::ConnId;

use super::Effect;
use super::budget::Budget;
use super::header_batch::is_from_the_future;
use super::manager::{Step, SyncManager};
use super::peer::Peer;
use super::plan::Plan;
use super::stalls::{STALL_TIMEOUT_MIN, Stall};
use super::submit::Pending;

/// Most blocks asked of one peer at a time. Core `MAX_BLOCKS_IN_TRANSIT_PER_PEER`.
pub(super) const MAX_IN_FLIGHT: usize = 16;
/// Blocks beyond the last one without a gap that may be asked for. Core
/// `BLOCK_DOWNLOAD_WINDOW`.
pub(super) const WINDOW: usize = 1_024;
/// The window is extended by that many blocks at a time (or to the plan's end).
const WINDOW_CHUNK: usize = 64;
/// Most blocks asked for or with the kernel.
pub(super) const MAX_OUTSTANDING: usize = 512;
/// What a block is expected to weigh before any was seen, bytes.
const FIRST_EXPECTED_BLOCK: usize = 512 * 1024;
/// The least that a block is expected to weigh, bytes.
const LEAST_EXPECTED_BLOCK: usize = 256;
/// An unasked block is taken only up to that many blocks above the tip. Core
/// `MIN_BLOCKS_TO_KEEP`.
const MAX_UNASKED_HEIGHT: u32 = 288;
/// An unasked block is dropped when that many blocks wait for the kernel.
const MAX_UNASKED_BACKLOG: usize = 16;

/// A block asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flight {
    pub(super) peer: ConnId,
    pub(super) height: u32,
    pub(super) at: Duration,
}

/// Block download over all peers.
#[derive(Clone, Debug)]
pub(super) struct Download {
    pub(super) plan: Option<Plan>,
    pub(super) flights: BTreeMap<BlockHash, Flight>,
    /// Blocks given to the kernel that await its verdict.
    pub(super) with_kernel: BTreeMap<BlockHash, Pending>,
    pub(super) kernel_bytes: usize,
    /// Most bytes asked for or with the kernel, by the expected size of a block.
    pub(super) budget: Budget,
    /// Running estimate of a block's size, bytes.
    pub(super) expected_block: usize,
    pub(super) stall: Option<Stall>,
    pub(super) stall_timeout: Duration,
    /// Our own trouble: nothing is asked for until then, and why.
    pub(super) hold: Option<(Duration, String)>,
    /// Who sent the blocks that are on disk and were not connected yet.
    pub(super) senders: BTreeMap<BlockHash, ConnId>,
    /// What peers have shown, or which peers there are, has changed.
    pub(super) retarget: bool,
    /// Blocks that somebody was late with and that are not here: see [`super::plan`].
    pub(super) late: BTreeSet<BlockHash>,
    /// Peers that have some block of the plan.
    pub(super) capable: usize,
    /// The peer that was fed last; the next one comes first.
    last_fed: ConnId,
}

impl Default for Download {
    fn default() -> Self {
        Self {
            plan: None,
            flights: BTreeMap::new(),
            with_kernel: BTreeMap::new(),
            kernel_bytes: 0,
            budget: Budget::default(),
            expected_block: FIRST_EXPECTED_BLOCK,
            stall: None,
            stall_timeout: STALL_TIMEOUT_MIN,
            hold: None,
            senders: BTreeMap::new(),
            retarget: false,
            late: BTreeSet::new(),
            capable: 0,
            last_fed: ConnId(0),
        }
    }
}

impl Download {
    pub(super) fn pardon(&mut self, late: Duration) {
        if let Some(stall) = &mut self.stall {
            stall.since += late;
        }
    }

    /// Blocks asked for or with the kernel.
    pub(super) fn outstanding(&self) -> usize {
        self.flights.len() + self.with_kernel.len()
    }

    /// Most blocks that may be outstanding, at the size expected.
    fn limit(&self) -> usize {
        (self.budget.bytes() / self.expected_block).clamp(4, MAX_OUTSTANDING)
    }

    /// Blocks that may be asked for now.
    fn room(&self) -> usize {
        let asked = self.flights.len() * self.expected_block;
        let bytes = self
            .budget
            .bytes()
            .saturating_sub(self.kernel_bytes + asked);
        let number = self.limit().saturating_sub(self.outstanding());
        number.min(bytes / self.expected_block)
    }

    /// The kernel gave a verdict: had it to wait for the next block because the budget
    /// kept us from asking for it?
    pub(super) fn judged(&mut self) {
        let more = self
            .plan
            .as_ref()
            .is_some_and(|plan| !plan.missing.is_empty());
        let by_bytes = self.limit() < MAX_OUTSTANDING;
        let bound = self.room() == 0 || self.share() < MAX_IN_FLIGHT;
        if more && by_bytes && bound && self.with_kernel.is_empty() {
            self.budget.starved();
        }
    }

    /// Whether somebody was late with the next block to ask for.
    fn asks_for_a_late_block(&self) -> bool {
        let next = |plan: &Plan| {
            let height = *plan.missing.first()?;
            plan.window.get((height - plan.base - 1) as usize).copied()
        };
        let plan = self.plan.as_ref().filter(|_| !self.late.is_empty());
        plan.and_then(next)
            .is_some_and(|next| self.late.contains(&next))
    }

    /// Most blocks to ask of one peer: a share of the budget, so that big blocks too come
    /// from all peers at once, and so that one that keeps silent cannot take all of it.
    pub(super) fn share(&self) -> usize {
        (self.limit() / (self.capable + 1)).clamp(2, MAX_IN_FLIGHT)
    }

    fn weigh(&mut self, bytes: usize) {
        let estimate = (self.expected_block * 7 + bytes.min(MAX_PAYLOAD_BYTES)) / 8;
        self.expected_block = estimate.max(LEAST_EXPECTED_BLOCK);
    }

    /// A block of the plan is to be had again.
    pub(super) fn put_back(&mut self, height: u32, hash: &BlockHash) {
        if let Some(plan) = &mut self.plan
            && plan.position(height, hash)
        {
            plan.missing.insert(height);
        }
    }

    /// A block is on its way to the kernel by whatever road: nobody is asked for it.
    pub(super) fn take_out(&mut self, height: u32, hash: &BlockHash) {
        if let Some(plan) = &mut self.plan
            && plan.position(height, hash)
        {
            plan.missing.remove(&height);
        }
    }

    /// Extends the window towards the target.
    fn extend(&mut self, tree: &HeaderTree) {
        let Some(plan) = &mut self.plan else { return };
        let left = (plan.target.height + 1).saturating_sub(plan.end()) as usize;
        let room = left.min(WINDOW - plan.window.len());
        if room == 0 || (room < WINDOW_CHUNK && room < left) {
            return;
        }
        for entry in tree.branch(&plan.target.hash, plan.end(), room) {
            plan.window.push_back(entry.hash);
            let asked = self.flights.contains_key(&entry.hash);
            if entry.status == Status::Header
                && !asked
                && !self.with_kernel.contains_key(&entry.hash)
            {
                plan.missing.insert(entry.height);
            }
        }
    }

    /// Moves the window past blocks whose data is here.
    pub(super) fn advance(&mut self, tree: &HeaderTree) {
        loop {
            if let Some(plan) = &mut self.plan {
                while let Some(hash) = plan.window.front() {
                    let entry = tree.get(hash).expect("the window is made of the tree");
                    if entry.status == Status::Header {
                        break;
                    }
                    plan.window.pop_front();
                    plan.base += 1;
                    plan.missing.remove(&plan.base);
                }
            }
            self.extend(tree);
            // A long stretch that is all here may fill more than one window.
            let again = self.plan.as_ref().is_some_and(|plan| {
                let first = plan.window.front().and_then(|hash| tree.get(hash));
                first.is_some_and(|entry| entry.status != Status::Header)
            });
            if !again {
                return;
            }
        }
    }
}

impl SyncManager {
    /// Asks for blocks as far as the budget goes, peers in turn.
    pub(super) fn feed(&mut self, step: &mut Step) {
        if self
            .download
            .plan
            .as_ref()
            .is_none_or(|plan| plan.missing.is_empty())
        {
            return;
        }
        if let Some((until, _)) = self.download.hold {
            if step.now.mono < until {
                return self.wake_at(until);
            }
            self.download.hold = None;
        }
        let share = self.download.share();
        let batch = (share / 2).max(1);
        if self.download.room() < batch {
            return;
        }
        for id in self.whom_to_feed(batch, share) {
            let room = self.download.room();
            if room < batch {
                break;
            }
            self.feed_one(step, id, share, room);
        }
        self.forgive_if_stuck(step);
    }

    /// Peers that may be asked for `batch` blocks more, in the order to ask them: in turn.
    ///
    /// Security: a block that somebody was late with is asked first of those that have
    /// brought us new blocks, the longest connected before the others. In turn it would
    /// go from newcomer to newcomer, whose numbers are the greatest, for as long as a
    /// flood renews itself.
    fn whom_to_feed(&self, batch: usize, share: usize) -> Vec<ConnId> {
        let last = self.download.last_fed;
        let after = (std::ops::Bound::Excluded(last), std::ops::Bound::Unbounded);
        let in_turn = self.peers.range(after).chain(self.peers.range(..=last));
        let mut hungry: Vec<(&ConnId, &Peer)> = in_turn
            .filter(|(_, peer)| {
                peer.serves_blocks() && !peer.owes() && peer.blocks.in_flight.len() + batch <= share
            })
            .collect();
        if self.download.asks_for_a_late_block() {
            hungry.sort_by_key(|(id, peer)| (peer.blocks.told_useful.is_none(), **id));
        }
        hungry.into_iter().map(|(id, _)| *id).collect()
    }

    fn feed_one(&mut self, step: &mut Step, id: ConnId, share: usize, room: usize) {
        let now = step.now.mono;
        let download = &mut self.download;
        let Some(plan) = &mut download.plan else {
            return;
        };
        let peer = self.peers.get_mut(&id).expect("chosen from the table");
        let wanted = room.min(share - peer.blocks.in_flight.len());
        let (floor, reach) = (peer.blocks.floor, peer.blocks.reach);
        let heights: Vec<u32> = if floor <= reach {
            plan.missing
                .range(floor..=reach)
                .take(wanted)
                .copied()
                .collect()
        } else {
            Vec::new()
        };
        let target = plan.target;
        let starved = heights.len() < wanted && reach < target.height;
        if !heights.is_empty() {
            let mut items = Vec::with_capacity(heights.len());
            if peer.blocks.in_flight.is_empty() {
                peer.blocks.progress = now;
            }
            for height in heights {
                plan.missing.remove(&height);
                let hash = plan.window[(height - plan.base - 1) as usize];
                items.push(Inventory::WitnessBlock(hash));
                peer.blocks.in_flight.push((height, hash));
                let before = download.flights.insert(
                    hash,
                    Flight {
                        peer: id,
                        height,
                        at: now,
                    },
                );
                assert!(before.is_none(), "{hash} is asked of one peer at a time");
            }
            assert!(
                peer.blocks.in_flight.len() <= MAX_IN_FLIGHT,
                "at most 16 blocks per peer"
            );
            step.send(id, Message::GetData(items));
            download.last_fed = id;
            let due = now + download.stall_timeout;
            self.wake_at(due);
        }
        if starved {
            self.probe(step, id, target.hash);
        }
    }

    /// Takes back all that was asked of a peer, to ask others.
    pub(super) fn release_blocks(&mut self, id: ConnId) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        for (height, hash) in std::mem::take(&mut peer.blocks.in_flight) {
            self.download.flights.remove(&hash);
            self.download.put_back(height, &hash);
        }
    }

    /// A block is not asked for any more, whoever was. Returns who.
    pub(super) fn cancel_flight(&mut self, hash: &BlockHash) -> Option<ConnId> {
        let flight = self.download.flights.remove(hash)?;
        if let Some(peer) = self.peers.get_mut(&flight.peer) {
            peer.blocks.in_flight.retain(|(_, asked)| asked != hash);
            if peer.blocks.in_flight.is_empty() && !peer.owes() {
                peer.blocks.overdue = false;
            }
        }
        Some(flight.peer)
    }

    /// A block has come. Whether asked of this peer, of another, or of nobody decides
    /// what it must show before the kernel sees it.
    pub(super) fn block_received(&mut self, step: &mut Step, id: ConnId, block: RawBlock) {
        let now = step.now.mono;
        let asked = self
            .download
            .flights
            .get(&block.hash)
            .map(|flight| flight.peer);
        let peer = self.live(id);
        let owed = peer.blocks.owed.remove(&block.hash);
        if asked == Some(id) || owed {
            peer.blocks.progress = now;
            if peer.blocks.overdue {
                peer.blocks.overdue = false;
                self.download.retarget = true;
            }
            self.forgive(id);
        }
        if self.download.stall.is_some_and(|stall| stall.peer == id) {
            self.download.stall = None;
        }
        self.cancel_flight(&block.hash);
        if self.download.with_kernel.contains_key(&block.hash) {
            return;
        }
        let entry = self.tree.get(&block.hash);
        let height = match entry {
            Some(entry) if entry.status != Status::Header => return,
            Some(entry) if asked.is_some() || owed => entry.height,
            _ => match self.unasked_block(step, id, &block) {
                Some(height) => height,
                None => return,
            },
        };
        self.download.take_out(height, &block.hash);
        self.download.weigh(block.bytes.len());
        self.give_to_kernel(step, block, Some(id));
    }

    /// Whether a block that nobody was asked for is worth looking at; its height if so.
    fn unasked_block(&mut self, step: &mut Step, id: ConnId, block: &RawBlock) -> Option<u32> {
        if self.download.with_kernel.len() >= MAX_UNASKED_BACKLOG {
            return None;
        }
        check_pow(&block.header, self.config.pow.limit()).ok()?;
        let parent = self.tree.get(&block.header.prev_blockhash)?;
        let tip = self.tree.tip();
        // Its header would be refused: it is no offence, and may come again later.
        let too_new = is_from_the_future(step.now, block.header.time);
        let height = parent.height + 1;
        let work = parent.work + block.header.work();
        let worthy = parent.status != Status::Invalid
            && !too_new
            && work > tip.work
            && work >= self.config.minimum_work
            && height <= tip.height + MAX_UNASKED_HEIGHT;
        if !worthy {
            return None;
        }
        if !self.tree.contains(&block.hash) {
            self.store_announced_header(step, id, block.hash, block.header);
        }
        self.learn(id, block.hash);
        Some(height)
    }

    /// Hands a block to the kernel; its header went before it.
    pub(super) fn give_to_kernel(
        &mut self,
        step: &mut Step,
        block: RawBlock,
        origin: Option<ConnId>,
    ) {
        let bytes = block.bytes.len();
        let waiting = self.download.kernel_bytes;
        self.download.budget.arrived(bytes, waiting);
        self.download.kernel_bytes += bytes;
        let keep = self.is_to_be_kept(step.now, &block.hash, origin);
        let pending = Pending::new(origin, block.header, bytes, step.now.mono, keep);
        let before = self.download.with_kernel.insert(block.hash, pending);
        assert!(before.is_none(), "a block is with the kernel once");
        let parent = self.tree.get(&block.header.prev_blockhash);
        let height = parent.map_or(0, |parent| parent.height + 1);
        step.effects.push(Effect::CheckBlock {
            block,
            height,
            origin,
            keep,
        });
    }

    /// The peer does not have what it was asked for: others are asked.
    pub(super) fn not_found(&mut self, now: Duration, id: ConnId, items: &[Inventory]) {
        for item in items {
            let (Inventory::WitnessBlock(hash) | Inventory::Block(hash)) = item else {
                continue;
            };
            let Some(flight) = self.download.flights.get(hash).copied() else {
                self.live(id).blocks.owed.remove(hash);
                continue;
            };
            if flight.peer != id {
                continue;
            }
            self.cancel_flight(hash);
            self.download.put_back(flight.height, hash);
            self.unlearn(now, id, *hash);
        }
    }

    /// Whether nothing keeps this peer from giving blocks of the plan.
    pub(super) fn can_help(&self, peer: &Peer, height: u32) -> bool {
        peer.serves_blocks()
            && !peer.owes()
            && !peer.blocks.overdue
            && peer.blocks.floor <= height
            && height <= peer.blocks.reach
    }
}
