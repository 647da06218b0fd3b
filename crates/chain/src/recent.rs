//! A cache of the blocks stored last: many peers request a new tip at once, while the next
//! block holds the chain lock.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bitcoin::BlockHash;
use bytes::Bytes;

/// Cached blocks at most.
const MAX_BLOCKS: usize = 16;
/// Cached bytes at most: one block of the greatest size, several usual ones.
const MAX_BYTES: usize = 4_000_000;
/// Shorter blocks are copied, so that a small block does not hold the whole receive buffer
/// of which it is a slice.
const COPY_BELOW: usize = 64 * 1024;

/// The last few stored blocks, oldest dropped first.
#[derive(Debug, Default)]
pub(crate) struct Recent(Mutex<Cached>);

#[derive(Debug, Default)]
struct Cached {
    /// Oldest first.
    blocks: VecDeque<Entry>,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    hash: BlockHash,
    bytes: Bytes,
}

impl Recent {
    /// Caches a block, exactly its encoding.
    pub(crate) fn insert(&self, hash: BlockHash, bytes: &Bytes) {
        if bytes.len() > MAX_BYTES {
            return;
        }
        let bytes = match bytes.len() {
            0..COPY_BELOW => Bytes::copy_from_slice(bytes),
            _ => bytes.clone(),
        };
        let mut cached = self.cached();
        cached.bytes += bytes.len();
        cached.blocks.push_back(Entry { hash, bytes });
        while cached.blocks.len() > MAX_BLOCKS || cached.bytes > MAX_BYTES {
            let oldest = cached
                .blocks
                .pop_front()
                .expect("over a limit, so not empty");
            cached.bytes -= oldest.bytes.len();
        }
    }

    /// The block's encoding, if it is cached.
    pub(crate) fn get(&self, hash: &BlockHash) -> Option<Bytes> {
        let cached = self.cached();
        let entry = cached
            .blocks
            .iter()
            .rev()
            .find(|entry| entry.hash == *hash)?;
        Some(entry.bytes.clone())
    }

    fn cached(&self) -> MutexGuard<'_, Cached> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::hashes::Hash;

    use super::*;

    fn hash(id: u8) -> BlockHash {
        BlockHash::from_byte_array([id; 32])
    }

    #[test]
    fn the_oldest_blocks_are_dropped_in_number_and_in_bytes() {
        let recent = Recent::default();
        for id in 0..=MAX_BLOCKS as u8 {
            recent.insert(hash(id), &Bytes::from(vec![id; 10]));
        }
        assert_eq!(recent.get(&hash(0)), None);
        assert!(recent.get(&hash(1)).is_some());

        recent.insert(hash(100), &Bytes::from(vec![1; MAX_BYTES - 5]));
        assert_eq!(recent.cached().blocks.len(), 1);
        recent.insert(hash(101), &Bytes::from(vec![1; MAX_BYTES + 1]));
        assert_eq!(recent.get(&hash(101)), None);
        assert!(recent.get(&hash(100)).is_some());
    }
}
