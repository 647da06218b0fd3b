//! The index from block hashes to records, persistent like the rest of the tree.

use std::hash::{BuildHasherDefault, Hasher};

use bitcoin::BlockHash;
use imbl::GenericHashMap;
use imbl::shared_ptr::DefaultSharedPtr;

use super::entry::Slot;

/// The hash is its own hash: its low bytes are uniform already.
///
/// # Security
///
/// No salt. To put many headers on one path of the map an attacker must find
/// proofs of work that also agree in 32 chosen bits: 2^32 times the price of a
/// header for each. The map then costs one more level per 5 bits, and headers
/// that agree in all 32 move to a second map keyed by another part of the hash.
#[derive(Default)]
pub(super) struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0 << 8 | u64::from(*byte);
        }
    }
    fn write_u32(&mut self, value: u32) {
        self.0 = u64::from(value);
    }
    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

type Map<K> = GenericHashMap<K, Slot, BuildHasherDefault<Identity>, DefaultSharedPtr>;

/// Hash → slot, without storing the hash: the first four bytes are the key, the
/// caller compares the whole hash with the record. The few headers whose key is
/// taken (about a hundred pairs among 900,000) are stored in `twins` by 64 other bits;
/// those that agree there too are in its short lists.
#[derive(Clone, Default)]
pub(super) struct HashIndex {
    first: Map<u32>,
    twins: Map<Twin>,
}

/// Key of the second map; equality is that of the whole hash.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Twin(BlockHash);

impl std::hash::Hash for Twin {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(u64::from_le_bytes(part(&self.0, 4)));
    }
}

fn part<const N: usize>(hash: &BlockHash, from: usize) -> [u8; N] {
    let bytes: &[u8; 32] = hash.as_ref();
    bytes[from..from + N].try_into().expect("N bytes of 32")
}

fn key(hash: &BlockHash) -> u32 {
    u32::from_le_bytes(part(hash, 0))
}

impl HashIndex {
    /// The slot of `hash`; `hash_of` gives the whole hash of a slot.
    pub(super) fn get(
        &self,
        hash: &BlockHash,
        hash_of: impl FnOnce(Slot) -> BlockHash,
    ) -> Option<Slot> {
        let slot = *self.first.get(&key(hash))?;
        if hash_of(slot) == *hash {
            return Some(slot);
        }
        if self.twins.is_empty() {
            return None;
        }
        self.twins.get(&Twin(*hash)).copied()
    }

    /// Adds `hash`, which must be new.
    pub(super) fn insert(&mut self, hash: &BlockHash, slot: Slot) {
        if let Some(taken) = self.first.insert(key(hash), slot) {
            self.first.insert(key(hash), taken);
            self.twins.insert(Twin(*hash), slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::hashes::Hash as _;

    use super::*;

    fn hash(low: u32, rest: u8) -> BlockHash {
        let mut bytes = [rest; 32];
        bytes[..4].copy_from_slice(&low.to_le_bytes());
        BlockHash::from_byte_array(bytes)
    }

    #[test]
    fn hashes_that_share_their_first_bytes_are_distinguished() {
        let hashes: Vec<_> = (0..50u8)
            .map(|rest| hash(u32::from(rest) / 10, rest))
            .collect();
        let mut index = HashIndex::default();
        for (slot, hash) in hashes.iter().enumerate() {
            assert_eq!(index.get(hash, |slot| hashes[slot as usize]), None);
            index.insert(hash, slot as Slot);
        }
        for (slot, hash) in hashes.iter().enumerate() {
            assert_eq!(
                index.get(hash, |slot| hashes[slot as usize]),
                Some(slot as Slot)
            );
        }
        assert_eq!(index.get(&hash(3, 99), |slot| hashes[slot as usize]), None);
        assert_eq!(index.twins.len(), 45);
    }
}
