//! What sync decides upon and shows of block download.

use std::collections::BTreeSet;
use std::time::Duration;

use bitcoin::BlockHash;

use crate::headers::Entry;
use crate::lifecycle::ConnId;

use super::BlockDownload;
use super::pace::{Asked, PeerDownload, STALL_TIMEOUT_MIN};
use super::plan::{Plan, PlanId};

impl BlockDownload {
    /// Requests in time and blocks with the kernel.
    pub(in crate::sync) fn outstanding(&self) -> usize {
        self.in_time() + self.with_kernel.len()
    }

    /// Requests to peers that are not late: one that is asked again though it has delivered
    /// nothing keeps nothing going.
    pub(super) fn in_time(&self) -> usize {
        let in_time = |peer: &&PeerDownload| !peer.overdue && peer.silent().is_none();
        let in_time = self.peers.values().filter(in_time);
        in_time.map(|peer| peer.asked().len()).sum()
    }

    /// Blocks asked for and not received, whether in time or not.
    pub(in crate::sync) fn in_flight(&self) -> usize {
        self.peers.values().map(|peer| peer.asked().len()).sum()
    }

    /// The plan that comes first: the most work among those of which a peer has lately
    /// delivered blocks, else the most work.
    pub(in crate::sync) fn main_plan(&self) -> Option<&Plan> {
        let (proven, any) = self.best_plans();
        proven.or(any)
    }

    /// The same, only if a peer on it has lately delivered blocks. A chain that is shown
    /// and whose blocks no peer delivers shows nothing about how far we are behind.
    pub(in crate::sync) fn proven_plan(&self) -> Option<&Plan> {
        self.best_plans().0
    }

    fn best_plans(&self) -> (Option<&Plan>, Option<&Plan>) {
        let proven: BTreeSet<PlanId> = self.proven().collect();
        let best = |only_proven: bool| {
            let plans = self.plans.iter();
            let chosen = plans.filter(|(id, _)| !only_proven || proven.contains(id));
            chosen
                .map(|(_, plan)| plan)
                .max_by_key(|plan| plan.target().work)
        };
        (best(true), best(false))
    }

    /// Blocks between our tip and the end of the chain that is being downloaded. One whose
    /// blocks no peer delivers does not count, or its headers would keep us silent.
    pub(in crate::sync) fn blocks_behind(&self, tip: &Entry) -> u32 {
        let plan = self.proven_plan().map(Plan::target);
        plan.filter(|target| target.work > tip.work)
            .map_or(0, |target| target.height.saturating_sub(tip.height).max(1))
    }

    pub(super) fn proven(&self) -> impl Iterator<Item = PlanId> {
        let proven = self.peers.values().filter(|peer| peer.is_proven());
        proven.filter_map(|peer| peer.plan)
    }

    /// What was asked of a peer and has not come, in the order asked.
    pub(in crate::sync) fn asked_of(&self, id: ConnId) -> &[Asked] {
        self.peers.get(&id).map_or(&[], |peer| peer.asked())
    }

    /// Whether it has been late with blocks and gets no more requests for now.
    pub(in crate::sync) fn is_stalling(&self, id: ConnId) -> bool {
        self.peers.get(&id).is_some_and(PeerDownload::is_stalling)
    }

    /// Peers that are late with blocks, the one that has delivered nothing for longest and since
    /// when, and how many they are.
    pub(in crate::sync) fn overdue(&self) -> Option<(ConnId, Duration, usize)> {
        let late = |(_, peer): &(&ConnId, &PeerDownload)| {
            peer.overdue && !peer.asked().is_empty()
                || peer.silent().is_some() && peer.first_awaited().is_some()
        };
        let late = self.peers.iter().filter(late);
        let longest = late.clone().min_by_key(|(_, peer)| peer.progress());
        longest.map(|(id, peer)| (*id, peer.progress(), late.count()))
    }

    /// Whether it is late with blocks that no other peer can be asked for.
    pub(in crate::sync) fn is_overdue(&self, id: ConnId) -> bool {
        let peer = self.peers.get(&id);
        peer.is_some_and(|peer| peer.overdue && !peer.asked().is_empty())
    }

    /// When a peer last delivered what it was asked for, or was first asked.
    pub(in crate::sync) fn progress_of(&self, id: ConnId) -> Option<Duration> {
        self.peers.get(&id).map(PeerDownload::progress)
    }

    /// Since when a peer delivers nothing of what it is late with.
    pub(in crate::sync) fn stalling_since(&self, id: ConnId) -> Option<Duration> {
        self.peers.get(&id)?.stalling_since()
    }

    /// The longest time that the next block of a peer may be out before others are asked.
    pub(in crate::sync) fn longest_timeout(&self) -> Duration {
        let timeouts = self.peers.values().map(PeerDownload::timeout);
        timeouts.max().unwrap_or(STALL_TIMEOUT_MIN)
    }

    /// The lowest height that a peer keeps of the chain that it has shown.
    pub(in crate::sync) fn lowest_kept(&self, id: ConnId) -> u32 {
        self.peers.get(&id).map_or(0, |peer| peer.floor)
    }

    /// A block that was asked of a connection which does not know of it.
    pub(in crate::sync) fn lost_request(&self) -> Option<(BlockHash, ConnId)> {
        self.flights.iter().find_map(|(hash, flight)| {
            let mut holders = flight.holders.iter();
            let lost = holders.find(|id| {
                let peer = self.peers.get(id);
                peer.is_none_or(|peer| !peer.is_asked(hash))
            });
            Some((*hash, *lost?))
        })
    }

    /// Whether a block was asked for and is still to come.
    pub(in crate::sync) fn is_in_flight(&self, hash: &BlockHash) -> bool {
        let flight = self.flights.get(hash);
        flight.is_some_and(|flight| !flight.holders.is_empty())
    }

    pub(in crate::sync) fn hold(&self) -> Option<&(Duration, String)> {
        self.hold.as_ref()
    }

    pub(in crate::sync) fn expected_block(&self) -> usize {
        self.expected_block
    }

    pub(in crate::sync) fn kernel_bytes(&self) -> usize {
        self.kernel_bytes
    }
}
