//! Which plans there are, and on which of them each peer lies.

use crate::lifecycle::ConnId;

use super::super::known_work::Known;
use super::super::timers::Timers;
use super::pace::Asked;
use super::plan::{Plan, PlanId};
use super::{BlockDownload, View, wanted};

impl BlockDownload {
    /// Follows what peers have shown since the last time.
    pub(super) fn follow_targets(&mut self, view: &View<'_>, timers: &mut Timers) {
        let changed = std::mem::take(&mut self.changed);
        let mut ids = changed.shown;
        if changed.everything {
            self.plans.clear();
            for peer in self.peers.values_mut() {
                peer.plan = None;
            }
            ids.extend(self.peers.keys());
        } else if changed.tip {
            let tip = view.tree.tip().work;
            let ids: Vec<PlanId> = self.plans.keys().copied().collect();
            for id in ids {
                if self.plans[&id].target().work <= tip {
                    self.drop_plan(id);
                }
            }
        }
        self.changed.shown.extend(ids);
        // A plan that is dropped leaves its peers to be looked at again.
        while let Some(id) = self.changed.shown.pop_first() {
            self.follow_peer(view, timers, id);
        }
        if changed.everything || changed.tip {
            self.forget_flights();
        }
    }

    /// Finds or makes the plan on which the peer's best chain lies.
    fn follow_peer(&mut self, view: &View<'_>, timers: &mut Timers, id: ConnId) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let (before, reached) = (peer.plan.take(), peer.reach);
        if let Some(best) = view.best(id) {
            let plan = self.plan_to(view, best);
            let floor = view.lowest_kept(id);
            let peer = self.peers.get_mut(&id).expect("looked up above");
            (peer.plan, peer.reach, peer.floor) = (Some(plan), best.height, floor);
            if before != Some(plan) || best.height > reached {
                // It may have what another is late with.
                self.look_at_the_late(timers, view.now);
            }
            self.let_go_of_other_chains(view, id, &best);
        }
        self.leave_plan(before, reached);
    }

    /// The peer has gone over to another chain: what it was asked of the old one may still
    /// come, and keeps it from being asked for the new one no longer.
    fn let_go_of_other_chains(&mut self, view: &View<'_>, id: ConnId, best: &Known) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let on_it = |asked: &Asked| view.tree.is_ancestor(&asked.hash, &best.hash);
        let asked = peer.asked().iter().copied();
        let gone: Vec<Asked> = asked.filter(|asked| !on_it(asked)).collect();
        for asked in &gone {
            peer.is_late_with(view.now, *asked);
            peer.overdue = false;
        }
        for asked in gone {
            self.release(id, asked.height, &asked.hash);
        }
    }

    /// The plan that leads to this block or through it.
    fn plan_to(&mut self, view: &View<'_>, best: Known) -> PlanId {
        let tree = view.tree;
        let leads_there = |plan: &Plan| {
            let to = plan.target();
            best.height <= to.height && tree.is_ancestor(&best.hash, &to.hash)
        };
        let plans = self.plans.iter();
        if let Some((id, _)) = plans.clone().find(|(_, plan)| leads_there(plan)) {
            return *id;
        }
        let goes_on = |plan: &Plan| {
            let from = plan.target();
            from.height < best.height && tree.is_ancestor(&from.hash, &best.hash)
        };
        let longer = plans.clone().find(|(_, plan)| goes_on(plan));
        let id = match longer {
            Some((id, _)) => *id,
            None => {
                let id = PlanId(self.next_plan);
                self.next_plan += 1;
                self.plans.insert(id, Plan::new(tree, best));
                id
            }
        };
        let is_wanted = wanted(&self.flights, &self.with_kernel);
        let plan = self.plans.get_mut(&id).expect("found or made above");
        plan.retarget(best);
        plan.advance(tree, &is_wanted);
        id
    }

    /// A peer whose chain ended at `reach` lies on this plan no more.
    pub(super) fn leave_plan(&mut self, plan: Option<PlanId>, reach: u32) {
        let Some(id) = plan else { return };
        let Some(plan) = self.plans.get(&id) else {
            return;
        };
        let target = plan.target().height;
        let leads_on = |peer: &super::PeerDownload| peer.plan == Some(id) && peer.reach >= target;
        if reach >= target && !self.peers.values().any(leads_on) {
            // No peer has shown its end any more: those that are left have shorter ways.
            self.drop_plan(id);
            self.forget_flights();
        }
    }

    fn drop_plan(&mut self, id: PlanId) {
        self.plans.remove(&id);
        for (peer, download) in &mut self.peers {
            if download.plan == Some(id) {
                download.plan = None;
                self.changed.shown.insert(*peer);
            }
        }
    }

    /// Blocks that no peer is asked for and that lie in no window are remembered no more.
    fn forget_flights(&mut self) {
        let plans = &self.plans;
        self.flights.retain(|hash, flight| {
            let mut plans = plans.values();
            !flight.holders.is_empty() || plans.any(|plan| plan.has(flight.height, hash))
        });
    }
}
