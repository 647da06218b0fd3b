//! How many bytes of blocks may be on their way at once.
//!
//! What was asked for has to fit into memory, since it may all arrive before the
//! kernel has looked at the first of it. How much must be asked for ahead depends on
//! the line: a local peer delivers in the time of one validation, a distant one needs
//! many requests under way. So the budget is small at first, grows while the
//! kernel has to wait for blocks that the budget did not let us ask for, and shrinks
//! while blocks wait for the kernel.

/// The least budget, bytes: a few usual blocks, one of the greatest size.
pub(super) const LEAST: usize = 4 * 1024 * 1024;
/// The greatest budget, bytes.
pub(super) const MOST: usize = 32 * 1024 * 1024;

/// Bytes of blocks that may be asked for or with the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sync) struct Budget(usize);

impl Default for Budget {
    fn default() -> Self {
        Self(LEAST)
    }
}

impl Budget {
    /// Its present size.
    pub(in crate::sync) fn bytes(self) -> usize {
        self.0
    }

    /// The kernel has nothing to do, and the budget allowed no more requests.
    pub(super) fn starved(&mut self) {
        self.0 = (self.0 + self.0 / 2).min(MOST);
    }

    /// A block came while others, `waiting` bytes, waited for the kernel.
    pub(super) fn arrived(&mut self, bytes: usize, waiting: usize) {
        if waiting > self.0 / 2 {
            self.0 = (self.0 - bytes.min(self.0) / 4).max(LEAST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_grows_while_the_kernel_starves_and_stays_within_its_bounds() {
        let mut budget = Budget::default();
        assert_eq!(budget.bytes(), LEAST);
        for _ in 0..100 {
            let before = budget;
            budget.starved();
            assert!(budget.bytes() > before.bytes() || budget.bytes() == MOST);
        }
        assert_eq!(budget.bytes(), MOST);
    }

    #[test]
    fn the_budget_shrinks_only_while_more_than_half_of_it_waits_for_the_kernel() {
        let mut budget = Budget(MOST);
        budget.arrived(1_000_000, MOST / 2);
        assert_eq!(budget.bytes(), MOST, "the kernel keeps up");
        budget.arrived(1_000_000, MOST / 2 + 1);
        assert_eq!(budget.bytes(), MOST - 250_000);
        for _ in 0..1_000 {
            budget.arrived(4_000_000, MOST);
        }
        assert_eq!(budget.bytes(), LEAST);
    }
}
