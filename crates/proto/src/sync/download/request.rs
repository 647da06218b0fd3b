//! Which peer to request what from.
//!
//! Peers are asked in this order: those that we dialled and that have delivered; other
//! dialled ones; those that dialled us and have delivered; those of both whose last block
//! took long, so that one who is slow on purpose is not asked while a prompt one has the
//! block; the rest, the longest connected first. Each of them is asked for blocks of its own
//! best chain. What they may have in flight beyond the first block comes out of the common
//! budget. The first block does not, so that no peer can keep another from being tried: a
//! dialled peer may always have it, one that dialled us while the kernel has nothing to do.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use bitcoin::BlockHash;

use crate::lifecycle::ConnId;

use super::super::timers::{SyncTimer, Timers};
use super::pace::{Asked, MAX_IN_FLIGHT, PeerDownload};
use super::plan::{Plan, PlanId};
use super::{Action, BlockDownload, Flight, MAX_OUTSTANDING, View, late};

/// Copies of a block that may be on their way at the same time. Reached only while no peer
/// who has the block has delivered any.
const MAX_COPIES: usize = 64;

/// What may be asked for now.
struct Offer {
    /// Plans on which a peer has delivered.
    proven: BTreeSet<PlanId>,
    /// Most blocks in flight at one peer.
    share: usize,
    /// Blocks that the common budget has left.
    space: usize,
    /// The kernel has nothing to do.
    kernel_waits: bool,
    /// What waits for the kernel leaves no place for more.
    kernel_is_full: bool,
}

impl BlockDownload {
    /// Follows what changed, then asks for blocks as far as the budget goes.
    pub(in crate::sync) fn settle(
        &mut self,
        view: &View<'_>,
        timers: &mut Timers,
        actions: &mut Vec<Action>,
    ) {
        self.follow_targets(view, timers);
        match self.hold {
            Some((until, _)) if view.now < until => return,
            Some(_) => self.hold = None,
            None => {}
        }
        if self.plans.values().all(|plan| plan.missing().is_empty()) {
            return;
        }
        let mut offer = self.offer();
        for id in self.whom_to_ask(view, &offer) {
            self.ask_one(view, timers, id, &mut offer, actions);
        }
        self.ask_the_late_again(view, timers);
        if offer.space > 0 {
            self.probe_idle(view, actions);
        }
    }

    /// Peers that have nothing to do are asked whether they have the chain that comes first.
    fn probe_idle(&self, view: &View<'_>, actions: &mut Vec<Action>) {
        let Some(main) = self.main_plan() else { return };
        for (id, peer) in &self.peers {
            let idle = peer.asked().is_empty() && !peer.is_stalling();
            let lacks = peer.plan.is_none() || peer.reach < main.target().height;
            if idle && lacks && view.serves_blocks(*id) {
                actions.push(Action::Probe(*id, main.target().hash));
            }
        }
    }

    fn offer(&self) -> Offer {
        let waiting = self.with_kernel.len();
        Offer {
            proven: self.proven().collect(),
            share: self.share(),
            space: self.space(),
            kernel_waits: waiting == 0,
            kernel_is_full: waiting >= self.limit() || self.kernel_bytes >= self.budget.bytes(),
        }
    }

    /// Most blocks that may be outstanding, at the size expected.
    pub(super) fn limit(&self) -> usize {
        (self.budget.bytes() / self.expected_block).clamp(4, MAX_OUTSTANDING)
    }

    /// Blocks that the common budget lets us ask for now.
    pub(super) fn space(&self) -> usize {
        let in_time = self.in_time();
        let taken = self.kernel_bytes + in_time * self.expected_block;
        let bytes = self.budget.bytes().saturating_sub(taken);
        let number = self
            .limit()
            .saturating_sub(in_time + self.with_kernel.len());
        number.min(bytes / self.expected_block)
    }

    /// Most blocks to ask of one peer: a share of the budget, so that big blocks too come
    /// from all peers that deliver at once.
    pub(super) fn share(&self) -> usize {
        let deliver = self.peers.values().filter(|peer| peer.is_proven()).count();
        (self.limit() / (deliver + 1)).clamp(2, MAX_IN_FLIGHT)
    }

    /// Peers that may be asked for something, in the order of the module, equals in turn.
    fn whom_to_ask(&self, view: &View<'_>, offer: &Offer) -> Vec<ConnId> {
        let last = self.last_asked;
        let after = (Bound::Excluded(last), Bound::Unbounded);
        let in_turn = self.peers.range(after).chain(self.peers.range(..=last));
        let mut ids: Vec<(u8, bool, ConnId)> = in_turn
            .filter(|(_, peer)| peer.plan.is_some() && peer.capacity(offer.share) > 0)
            .map(|(id, peer)| {
                let rank = rank(view.is_dialled(*id), peer);
                (rank, !peer.is_proven(), *id)
            })
            .collect();
        // Newcomers are not asked in turn: their numbers are the greatest, so a flood that
        // renews itself would always come next.
        let turn = |unproven: bool, id: ConnId| if unproven { id } else { ConnId(0) };
        ids.sort_by_key(|(rank, unproven, id)| (*rank, turn(*unproven, *id)));
        ids.into_iter().map(|(.., id)| id).collect()
    }

    fn ask_one(
        &mut self,
        view: &View<'_>,
        timers: &mut Timers,
        id: ConnId,
        offer: &mut Offer,
        actions: &mut Vec<Action>,
    ) {
        let peer = self.peers.get_mut(&id).expect("chosen from the table");
        let Some(plan) = peer.plan.and_then(|plan| self.plans.get(&plan)) else {
            return;
        };
        let is_first = peer.asked().is_empty() && !offer.kernel_is_full;
        let is_due = is_first && (view.is_dialled(id) || offer.kernel_waits);
        let capacity = peer.capacity(offer.share);
        let wanted = capacity.min(offer.space.max(usize::from(is_due)));
        // Several blocks in one message, where there are several.
        let batch = (offer.share / 2).max(1).min(capacity + peer.asked().len());
        if wanted == 0 || (wanted < batch && !peer.asked().is_empty()) {
            return;
        }
        let lead = peer.plan.is_some_and(|plan| offer.proven.contains(&plan));
        let from_the_end = lead && !peer.is_proven();
        let chosen = choose(plan, peer, wanted, from_the_end);
        if !chosen.is_empty() {
            let hashes = chosen.iter().map(|(_, hash)| *hash).collect();
            for (height, hash) in chosen {
                self.ask(view, timers, id, height, hash);
            }
            offer.space = self.space();
            self.last_asked = id;
            actions.push(Action::Ask(id, hashes));
        }
    }

    /// Notes that a peer is asked for a block.
    fn ask(
        &mut self,
        view: &View<'_>,
        timers: &mut Timers,
        id: ConnId,
        height: u32,
        hash: BlockHash,
    ) {
        let flight = self.flights.entry(hash).or_insert(Flight {
            height,
            holders: Vec::new(),
            copies: 1,
            tries: 0,
        });
        flight.tries += 1;
        flight.holders.push(id);
        if flight.holders.len() >= flight.copies {
            self.take_out(height, &hash);
        }
        let peer = self.peers.get_mut(&id).expect("the caller looked it up");
        peer.ask(view.now, height, hash);
        timers.hasten(SyncTimer::BlocksAnswer, view.now + late::FIRST_LOOK);
    }

    /// The operator wants a block of this peer, and of no other peer.
    pub(in crate::sync) fn fetch(
        &mut self,
        view: &View<'_>,
        timers: &mut Timers,
        id: ConnId,
        height: u32,
        hash: BlockHash,
    ) {
        self.cancel(&hash);
        self.ask(view, timers, id, height, hash);
    }

    /// A peer that was asked for this block is late with it: others are asked too. While
    /// none of these has ever delivered, or at the tip when [`late::FEW`] did not deliver this one, twice
    /// as many each time, since one honest peer among many that are not must be found soon.
    pub(super) fn ask_others_too(&mut self, view: &View<'_>, id: ConnId, asked: Asked) -> bool {
        let Some(helper) = self.helper(view, id, &asked) else {
            return false;
        };
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.is_late_with(view.now, asked);
        }
        let near_the_end = self.is_near_the_end(id, &asked);
        if let Some(flight) = self.flights.get_mut(&asked.hash) {
            flight.holders.retain(|holder| *holder != id);
            let many_at_the_tip = near_the_end && flight.tries >= late::FEW;
            flight.copies = match helper.proven && !many_at_the_tip {
                true => 1,
                false => (flight.copies * 2).min(MAX_COPIES),
            };
            if flight.holders.len() >= flight.copies {
                return true;
            }
        }
        self.put_back(asked.height, &asked.hash);
        true
    }

    /// Plans whose next blocks only peers can give that are or were late: these are asked again,
    /// after a while, rather than no peer. One that is late and that no peer can help out is
    /// waited for as long as a late peer has time elsewhere: on a slow line its block is on its
    /// way.
    fn ask_the_late_again(&mut self, view: &View<'_>, timers: &mut Timers) {
        let mut served: BTreeMap<PlanId, bool> = BTreeMap::new();
        let waited_for = |peer: &&PeerDownload| {
            let since = peer.waiting_since().filter(|_| peer.overdue);
            let too_long = since.is_some_and(|since| view.now >= since + late::STALL_TIMEOUT);
            !peer.is_stalling() && !too_long
        };
        for peer in self.peers.values().filter(waited_for) {
            let plan = peer.plan.and_then(|id| Some((id, self.plans.get(&id)?)));
            if let Some((id, plan)) = plan {
                let first = plan.missing().first();
                let serves =
                    first.is_some_and(|first| peer.floor <= *first && *first <= peer.reach);
                *served.entry(id).or_default() |= serves;
            }
        }
        let mut wake = None;
        for peer in self.peers.values_mut() {
            let (Some(since), Some(id)) = (peer.stalling_since(), peer.plan) else {
                continue;
            };
            let is_missing = self.plans.get(&id).is_some_and(|plan| {
                let first = plan
                    .missing()
                    .range(peer.floor..=peer.reach.max(peer.floor))
                    .next();
                first.is_some()
            });
            if !is_missing || served.get(&id).copied().unwrap_or(false) {
                continue;
            }
            let again = since + late::RETRY_PAUSE;
            if again <= view.now {
                peer.give_another_chance();
                wake = Some(view.now);
            } else {
                wake = crate::time::earliest(wake, Some(again));
            }
        }
        timers.put(SyncTimer::AskLateAgain, wake);
    }
}

/// The order of the module; the least is asked first.
fn rank(is_dialled: bool, peer: &PeerDownload) -> u8 {
    match (is_dialled, peer.is_proven(), peer.is_slow()) {
        (true, true, false) => 0,
        (true, false, _) => 1,
        (false, true, false) => 2,
        (true, true, true) => 3,
        (false, true, true) => 4,
        (false, false, _) => 5,
    }
}

/// Blocks of the plan to ask this peer for, lowest first, or the highest of the window:
/// a peer that has not delivered yet does not hold up others where some have.
fn choose(
    plan: &Plan,
    peer: &PeerDownload,
    wanted: usize,
    from_the_end: bool,
) -> Vec<(u32, BlockHash)> {
    if peer.floor > peer.reach {
        return Vec::new();
    }
    let missing = plan.missing().range(peer.floor..=peer.reach).copied();
    let blocks = |height: u32| Some((height, plan.at(height)?));
    let is_new = |(_, hash): &(u32, BlockHash)| !peer.may_deliver(hash);
    if from_the_end {
        let mut chosen: Vec<_> = missing
            .rev()
            .filter_map(blocks)
            .filter(is_new)
            .take(wanted)
            .collect();
        chosen.reverse();
        chosen
    } else {
        missing
            .filter_map(blocks)
            .filter(is_new)
            .take(wanted)
            .collect()
    }
}
