//! The blocks stored last: peers ask for a new tip within moments,
//! many at once, and while the next block keeps the chain lock busy.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bitcoin::BlockHash;
use bytes::Bytes;

/// Blocks kept at most.
const MAX_BLOCKS: usize = 16;
/// Bytes kept at most: one block of the greatest size, several usual ones.
const MAX_BYTES: usize = 4_000_000;
/// Below this, bytes are copied, so that a small block does not keep the whole
/// receive buffer alive which it is a slice of.
const COPY_BELOW: usize = 64 * 1024;

/// The last few stored blocks, oldest dropped first.
#[derive(Debug, Default)]
pub(crate) struct Recent(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
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
    /// Keeps a block: exactly its encoding.
    pub(crate) fn insert(&self, hash: BlockHash, bytes: &Bytes) {
        if bytes.len() > MAX_BYTES {
            return;
        }
        let bytes = match bytes.len() {
            0..COPY_BELOW => Bytes::copy_from_slice(bytes),
            _ => bytes.clone(),
        };
        let mut kept = self.kept();
        kept.bytes += bytes.len();
        kept.blocks.push_back(Entry { hash, bytes });
        while kept.blocks.len() > MAX_BLOCKS || kept.bytes > MAX_BYTES {
            let oldest = kept.blocks.pop_front().expect("over a limit, so not empty");
            kept.bytes -= oldest.bytes.len();
        }
    }

    /// The block's encoding, if it is kept.
    pub(crate) fn get(&self, hash: &BlockHash) -> Option<Bytes> {
        let kept = self.kept();
        let entry = kept.blocks.iter().rev().find(|entry| entry.hash == *hash)?;
        Some(entry.bytes.clone())
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
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
    fn the_oldest_blocks_make_room_in_number_and_in_bytes() {
        let recent = Recent::default();
        for id in 0..=MAX_BLOCKS as u8 {
            recent.insert(hash(id), &Bytes::from(vec![id; 10]));
        }
        assert_eq!(recent.get(&hash(0)), None);
        assert!(recent.get(&hash(1)).is_some());

        recent.insert(hash(100), &Bytes::from(vec![1; MAX_BYTES - 5]));
        assert_eq!(recent.kept().blocks.len(), 1);
        recent.insert(hash(101), &Bytes::from(vec![1; MAX_BYTES + 1]));
        assert_eq!(recent.get(&hash(101)), None);
        assert!(recent.get(&hash(100)).is_some());
    }
}
