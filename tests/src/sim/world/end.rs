//! The phases after the faults: all settle, follow one more block, become quiet, stop.

use super::*;

impl World {
    pub(super) fn begin(&mut self, act: Act, lasts: Duration) {
        self.engine.line(format_args!("act: {act:?}"));
        self.act = act;
        self.until = self.engine.now + lasts;
    }

    /// From here on the only faults are those of simulated peers.
    pub(super) fn calm(&mut self) {
        self.engine.faults.calm();
        self.heal();
        self.engine.uncut();
        for node in &mut self.nodes {
            node.clock_error = 0;
            if let Some(running) = &mut node.running {
                running.clock_error = 0;
                running.slow_next = false;
                running.disk_full_next = false;
            }
            self.engine.after(Duration::ZERO, Event::Start(node.index));
        }
        self.begin(Act::Settling, SETTLE);
    }

    /// Whether all run and have chains of the same work.
    pub(super) fn settled(&self) -> bool {
        let mut works = self.nodes.iter().map(|node| {
            let running = node.running.as_ref()?;
            let settled = running.is_open() && running.has_no_block_in_hand();
            settled.then(|| running.kernel.tree().tip().work)
        });
        let first = works.next().flatten();
        first.is_some() && works.all(|work| work == first)
    }

    /// One node finds one more block, so that one chain has most work.
    pub(super) fn follow(&mut self) {
        let at = self.engine.random.index(self.nodes.len());
        if let Some(running) = &mut self.nodes[at].running {
            self.last_block = running.mine(&mut self.engine);
        }
        self.begin(Act::Following, FOLLOW);
    }

    /// Whether all are at that block.
    pub(super) fn followed(&self) -> bool {
        self.nodes.iter().all(|node| {
            let tips = node.running.as_ref().map(|running| running.tips());
            tips.is_some_and(|tips| tips.map(Some) == [self.last_block; 2])
        })
    }

    pub(super) fn all_quiet(&mut self) -> bool {
        for node in &self.nodes {
            let running = node.running.as_ref();
            self.quiet[node.index] |= running.is_some_and(|running| running.is_quiet());
        }
        self.quiet.iter().all(|quiet| *quiet)
    }

    pub(super) fn too_late(&mut self) {
        let property = match self.act {
            Act::Settling | Act::Following => "convergence",
            Act::Faults | Act::Quieting | Act::Over => "audit",
            Act::Stopping => "shutdown",
        };
        let text = format!("not over in time: {:?}", self.act);
        self.engine.breach(property, text);
    }
}
