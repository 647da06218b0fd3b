//! Locators, and the answers to `getheaders` and `getblocks`.

use bitcoin::BlockHash;
use bitcoin::block::Header;

use super::entry::{Entry, Slot, Status, from_work};
use super::tree::HeaderTree;
use super::work::block_work;

/// Hashes in a locator after which each step back is twice as long as the last.
const DENSE: usize = 10;

/// Age above which a block outside the active chain is no longer served, in seconds of
/// time and of work. Core `STALE_RELAY_AGE_LIMIT`.
const STALE_RELAY_AGE_LIMIT: u32 = 30 * 24 * 60 * 60;

/// Seconds between blocks, on every network. Core `nPowTargetSpacing`.
const TARGET_SPACING: u128 = 600;

impl HeaderTree {
    /// Locator of our branch that ends in `from`, for a peer to find the last block that it shares:
    /// the latest hashes densely, then ever sparser, then genesis. At most 12 + 32 hashes (101 are
    /// allowed); empty if `from` is unknown.
    pub fn locator(&self, from: &BlockHash) -> Vec<BlockHash> {
        let Some(mut slot) = self.slot(from) else {
            return Vec::new();
        };
        let mut hashes = Vec::with_capacity(32);
        let mut step = 1u32;
        loop {
            let record = self.record(slot);
            hashes.push(record.hash);
            if record.height == 0 {
                return hashes;
            }
            let height = record.height.saturating_sub(step);
            slot = self.ancestor_slot(slot, height).expect("below it");
            if hashes.len() > DENSE {
                step = step.saturating_mul(2);
            }
        }
    }

    /// The headers of the active chain after the last block that the locator shares, up to and
    /// including `stop`, at most `max`.
    ///
    /// As Core: the first locator hash that is in the active chain, or ahead of it on the same
    /// branch, is the shared block; genesis if there is none. An empty locator requests only the
    /// header of `stop`, also outside the active chain. `stop` elsewhere, or all zero, does not
    /// stop.
    pub fn headers_after(
        &self,
        locator: &[BlockHash],
        stop: &BlockHash,
        max: usize,
    ) -> Vec<Header> {
        if locator.is_empty() {
            let wanted = self
                .slot(stop)
                .filter(|slot| max > 0 && self.may_serve_slot(*slot));
            return wanted.map(|slot| self.header(slot)).into_iter().collect();
        }
        let first = self.shared_height(locator) as usize + 1;
        let mut headers = Vec::with_capacity(max.min(self.active.len().saturating_sub(first)));
        for height in first..self.active.len() {
            if headers.len() == max {
                break;
            }
            let slot = self.active[height];
            headers.push(self.header(slot));
            if self.record(slot).hash == *stop {
                break;
            }
        }
        headers
    }

    /// The hashes for `getblocks`: as [`headers_after`](Self::headers_after), but up to and
    /// *without* `stop`, and an empty locator means from genesis on.
    pub fn hashes_after(
        &self,
        locator: &[BlockHash],
        stop: &BlockHash,
        max: usize,
    ) -> Vec<BlockHash> {
        let first = self.shared_height(locator) as usize + 1;
        (first..self.active.len())
            .map(|height| self.record(self.active[height]).hash)
            .take_while(|hash| hash != stop)
            .take(max)
            .collect()
    }

    /// The last block of the active chain that the sender of this locator has too.
    pub fn shared_with(&self, locator: &[BlockHash]) -> Entry {
        self.entry(self.active[self.shared_height(locator) as usize])
    }

    /// Whether this block may be served to a peer that requests it by hash: in the active chain, or
    /// once connected and not older than a month, so that old stale blocks do not fingerprint us.
    /// Core `BlockRequestAllowed`.
    pub fn may_serve(&self, hash: &BlockHash) -> bool {
        self.slot(hash)
            .is_some_and(|slot| self.may_serve_slot(slot))
    }

    fn may_serve_slot(&self, slot: Slot) -> bool {
        if self.is_active(slot) {
            return true;
        }
        let best = self.best_header();
        let record = self.record(slot);
        let behind = from_work(best.work).saturating_sub(record.work);
        // Zero only for a tree of headers without proof of work.
        let per_block = block_work(best.header.bits).max(1);
        let age_by_work = behind.saturating_mul(TARGET_SPACING) / per_block;
        self.status(slot) == Status::Connected
            && best.header.time.saturating_sub(record.time) < STALE_RELAY_AGE_LIMIT
            && age_by_work < u128::from(STALE_RELAY_AGE_LIMIT)
    }

    fn shared_height(&self, locator: &[BlockHash]) -> u32 {
        let tip = self.record(self.tip_slot()).height;
        for slot in locator.iter().filter_map(|hash| self.slot(hash)) {
            if self.is_active(slot) {
                return self.record(slot).height;
            }
            if self.ancestor_slot(slot, tip) == Some(self.tip_slot()) {
                return tip;
            }
        }
        0
    }
}
