//! Paths through the tree: ancestors, fork points, the last headers' times.
//!
//! Each record has two pointers back: to its parent, and a *jump* further back.
//! The jumps are those of Myers' skew-binary random access list: when the parent's
//! jump and the jump from there span the same distance, the child jumps over both,
//! else it jumps to its parent. So a jump is found in constant time from the parent's,
//! its target depends only on the height, and any ancestor is at most about
//! 2·log2(height) hops away.

use bitcoin::BlockHash;

use super::entry::{Entry, Slot};
use super::tree::HeaderTree;

/// Headers whose median time is the time that a block must exceed. Core `nMedianTimeSpan`.
pub(super) const MEDIAN_TIME_SPAN: usize = 11;

impl HeaderTree {
    /// The block at `height` on the branch that ends in `of`. O(log n).
    pub fn ancestor(&self, of: &BlockHash, height: u32) -> Option<Entry> {
        let slot = self.ancestor_slot(self.slot(of)?, height)?;
        Some(self.entry(slot))
    }

    /// Whether `ancestor` is on the branch that ends in `of`. A block is its own ancestor; an
    /// unknown one is no ancestor.
    pub fn is_ancestor(&self, ancestor: &BlockHash, of: &BlockHash) -> bool {
        let (Some(ancestor), Some(of)) = (self.slot(ancestor), self.slot(of)) else {
            return false;
        };
        self.ancestor_slot(of, self.record(ancestor).height) == Some(ancestor)
    }

    /// The last block that both branches share. O(log n).
    pub fn fork_point(&self, a: &BlockHash, b: &BlockHash) -> Option<Entry> {
        let slot = self.fork_slot(self.slot(a)?, self.slot(b)?);
        Some(self.entry(slot))
    }

    /// The blocks from height `from` on the branch that ends in `to`, ascending, at most `max`: the
    /// next ones to download towards `to`. O(log n + max).
    pub fn branch(&self, to: &BlockHash, from: u32, max: usize) -> Vec<Entry> {
        let Some(end) = self.slot(to) else {
            return Vec::new();
        };
        let top = self.record(end).height;
        if max == 0 || from > top {
            return Vec::new();
        }
        let last = top.min(from.saturating_add(u32::try_from(max - 1).unwrap_or(u32::MAX)));
        let mut slot = self
            .ancestor_slot(end, last)
            .expect("not above the end of the branch");
        let mut entries = Vec::with_capacity((last - from) as usize + 1);
        loop {
            entries.push(self.entry(slot));
            let record = self.record(slot);
            if record.height == from {
                break;
            }
            slot = record.parent;
        }
        entries.reverse();
        entries
    }

    /// Median of the times of this header and the ten before it, seconds (fewer
    /// near genesis). The next block's time must be above it.
    pub fn median_time_past(&self, hash: &BlockHash) -> Option<u32> {
        let mut slot = self.slot(hash)?;
        let mut times = [0; MEDIAN_TIME_SPAN];
        let mut count = 0;
        while count < MEDIAN_TIME_SPAN {
            let record = self.record(slot);
            times[count] = record.time;
            count += 1;
            if slot == 0 {
                break;
            }
            slot = record.parent;
        }
        times[..count].sort_unstable();
        Some(times[count / 2])
    }

    pub(super) fn jump_for_child_of(&self, parent: Slot) -> Slot {
        let near = self.record(parent);
        let far = self.record(near.jump);
        let farthest = self.record(far.jump);
        if near.height - far.height == far.height - farthest.height {
            far.jump
        } else {
            parent
        }
    }

    pub(super) fn ancestor_slot(&self, of: Slot, height: u32) -> Option<Slot> {
        let mut slot = of;
        let mut record = self.record(of);
        if height > record.height {
            return None;
        }
        while record.height > height {
            if self.is_active(slot) {
                return self.active.get(height as usize).copied();
            }
            let jump = self.record(record.jump);
            (slot, record) = if jump.height >= height {
                (record.jump, jump)
            } else {
                (record.parent, self.record(record.parent))
            };
        }
        Some(slot)
    }

    pub(super) fn fork_slot(&self, a: Slot, b: Slot) -> Slot {
        let height = self.record(a).height.min(self.record(b).height);
        let level = |slot| self.ancestor_slot(slot, height).expect("not above either");
        let (mut a, mut b) = (level(a), level(b));
        while a != b {
            // Same height, so both jumps span the same distance.
            let (left, right) = (self.record(a), self.record(b));
            (a, b) = if left.jump != right.jump {
                (left.jump, right.jump)
            } else {
                (left.parent, right.parent)
            };
        }
        a
    }
}
