//! Headers that the engine was not given yet.
//!
//! The engine is given headers with the blocks that need them, not when they are received: it
//! stores each permanently and, on regtest, scans all of them at every block, so chains whose
//! headers a peer shows and whose blocks no peer sends must not reach it.

use bitcoin::BlockHash;
use bitcoin::block::Header;
use imbl::Vector;

use super::super::entry::Slot;
use super::HeaderTree;

/// Slots in one word.
const PER_WORD: usize = 64;

/// One bit for each header that was not given. All ancestors of a given header were given too.
#[derive(Clone, Default)]
pub(super) struct Unsent {
    words: Vector<u64>,
}

impl Unsent {
    fn has(&self, slot: Slot) -> bool {
        let (word, bit) = place(slot);
        self.words
            .get(word)
            .is_some_and(|word| word >> bit & 1 == 1)
    }

    fn set(&mut self, slot: Slot, unsent: bool) {
        let (word, bit) = place(slot);
        while unsent && self.words.len() <= word {
            self.words.push_back(0);
        }
        let Some(old) = self.words.get(word).copied() else {
            return;
        };
        let new = old & !(1 << bit) | u64::from(unsent) << bit;
        if new != old {
            self.words.set(word, new);
        }
    }
}

fn place(slot: Slot) -> (usize, usize) {
    (slot as usize / PER_WORD, slot as usize % PER_WORD)
}

impl HeaderTree {
    /// The engine was not given this header, nor its descendants. No change if the header is
    /// unknown.
    ///
    /// Scans each later header, unless it was marked already.
    pub fn mark_unsent(&mut self, hash: &BlockHash) {
        let Some(root) = self.slot(hash).filter(|slot| !self.unsent.has(*slot)) else {
            return;
        };
        self.unsent.set(root, true);
        for slot in root + 1..self.records.len() as Slot {
            let parent = self.record(slot).parent;
            if parent >= root && self.unsent.has(parent) {
                self.unsent.set(slot, true);
            }
        }
    }

    /// The engine has this header. Nothing changes if it is unknown.
    pub fn mark_sent(&mut self, hash: &BlockHash) {
        let mut at = self.slot(hash);
        while let Some(slot) = at.filter(|slot| self.unsent.has(*slot)) {
            self.unsent.set(slot, false);
            at = (slot != 0).then(|| self.record(slot).parent);
        }
    }

    /// Whether the engine was not given this header yet.
    pub fn is_unsent(&self, hash: &BlockHash) -> bool {
        self.slot(hash).is_some_and(|slot| self.unsent.has(slot))
    }

    /// The headers on the path to this one that the engine was not given yet, oldest first, at most
    /// `max` of them. From now on they count as given. O(log² height + max).
    pub fn take_unsent(&mut self, to: &BlockHash, max: usize) -> Vec<Header> {
        let Some(end) = self.slot(to).filter(|slot| self.unsent.has(*slot)) else {
            return Vec::new();
        };
        let first = self.first_unsent(end);
        let top = self.record(end).height;
        let last = top.min(first.saturating_add(u32::try_from(max).unwrap_or(u32::MAX) - 1));
        let mut slots = Vec::new();
        let mut at = self.ancestor_slot(end, last);
        while let Some(slot) = at.filter(|slot| self.record(*slot).height >= first) {
            slots.push(slot);
            at = (slot != 0).then(|| self.record(slot).parent);
        }
        for slot in &slots {
            self.unsent.set(*slot, false);
        }
        slots.iter().rev().map(|slot| self.header(*slot)).collect()
    }

    /// The height of the first header on the path to `end`, an unsent one, that was not given.
    fn first_unsent(&self, end: Slot) -> u32 {
        let (mut sent, mut unsent) = (0, self.record(end).height);
        while sent < unsent {
            let middle = sent + (unsent - sent) / 2;
            let at = self.ancestor_slot(end, middle);
            if at.is_some_and(|slot| self.unsent.has(slot)) {
                unsent = middle;
            } else {
                sent = middle + 1;
            }
        }
        unsent
    }
}
