//! One step of the machine.

use handfast_wire::Message;

use crate::lifecycle::ConnId;
use crate::time::Now;

use super::Effect;

/// Where a step collects its effects, with the moment it happens at.
pub(super) struct Step {
    pub(super) now: Now,
    pub(super) effects: Vec<Effect>,
}

impl Step {
    pub(super) fn new(now: Now) -> Self {
        Self {
            now,
            effects: Vec::new(),
        }
    }

    pub(super) fn send(&mut self, id: ConnId, message: Message) {
        self.effects.push(Effect::Send { id, message });
    }
}
