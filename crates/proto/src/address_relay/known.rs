//! The addresses that a peer is known to know.

use std::collections::BTreeSet;

/// Addresses of a generation; there are two. Core's filter remembers the last 5,000.
const GENERATION: usize = 2_500;

/// The last 2,500 to 5,000 addresses that were sent to or by a peer, by 32 bits of a keyed hash:
/// about 80 KB when full, with one false positive in a million.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Known {
    now: BTreeSet<u32>,
    before: BTreeSet<u32>,
}

impl Known {
    /// Whether it is remembered.
    pub(super) fn contains(&self, hash: u64) -> bool {
        let hash = fold(hash);
        self.now.contains(&hash) || self.before.contains(&hash)
    }

    /// Remembers it. Returns whether it was not remembered before.
    pub(super) fn insert(&mut self, hash: u64) -> bool {
        if self.contains(hash) {
            return false;
        }
        if self.now.len() == GENERATION {
            self.before = std::mem::take(&mut self.now);
        }
        self.now.insert(fold(hash))
    }

    /// Clears the memory.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

fn fold(hash: u64) -> u32 {
    u32::try_from(hash >> 32).expect("32 bits are left")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_addresses_are_known_and_the_memory_is_bounded() {
        let hash = |at: u64| at << 32;
        let mut known = Known::default();
        for at in 0..20_000 {
            assert!(known.insert(hash(at)));
            assert!(!known.insert(hash(at)));
            assert!(known.contains(hash(at.saturating_sub(2_499))));
            assert!(known.now.len() + known.before.len() <= 2 * GENERATION);
        }
        assert!(!known.contains(hash(0)));
        known.clear();
        assert!(!known.contains(hash(19_999)));
    }
}
