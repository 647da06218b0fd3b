//! The memory of a low-work sync: bits in the first pass, headers in the second.
//!
//! There may be one for each peer, so both grow exactly as far as needed and not by doubling.

use std::collections::VecDeque;

use bitcoin::block::{Header, Version};
use bitcoin::{BlockHash, CompactTarget, TxMerkleNode};

/// Words by which [`Bits`] grows.
const WORDS_AT_ONCE: usize = 512;

/// A header without its previous hash: 48 bytes.
#[derive(Clone, Copy, Debug)]
struct Packed {
    version: Version,
    merkle_root: TxMerkleNode,
    time: u32,
    bits: CompactTarget,
    nonce: u32,
}

const _: () = assert!(size_of::<Packed>() == 48);

/// Headers that wait, each connected to the one before it.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    headers: VecDeque<Packed>,
    /// Hash of the header before the first.
    prev: BlockHash,
}

impl Waiting {
    pub(super) fn after(prev: BlockHash) -> Self {
        Self {
            headers: VecDeque::new(),
            prev,
        }
    }

    pub(super) fn reserve(&mut self, count: usize) {
        self.headers.reserve_exact(count);
    }

    /// Appends a header that builds on the last one here.
    pub(super) fn push(&mut self, header: &Header) {
        let Header {
            version,
            merkle_root,
            time,
            bits,
            nonce,
            prev_blockhash: _,
        } = *header;
        self.headers.push_back(Packed {
            version,
            merkle_root,
            time,
            bits,
            nonce,
        });
    }

    /// Takes the first ones, so that at most `keep` remain.
    pub(super) fn take_all_but(&mut self, keep: usize) -> Vec<Header> {
        let ready = self.headers.len().saturating_sub(keep);
        let prev = &mut self.prev;
        self.headers
            .drain(..ready)
            .map(
                |Packed {
                     version,
                     merkle_root,
                     time,
                     bits,
                     nonce,
                 }| {
                    let header = Header {
                        version,
                        prev_blockhash: *prev,
                        merkle_root,
                        time,
                        bits,
                        nonce,
                    };
                    *prev = header.block_hash();
                    header
                },
            )
            .collect()
    }

    pub(super) fn bytes(&self) -> usize {
        self.headers.capacity() * size_of::<Packed>()
    }

    /// Bytes for at most `count` headers.
    pub(super) fn max_bytes(count: usize) -> usize {
        count * size_of::<Packed>()
    }
}

/// A queue of bits: filled in the first pass, read in the second.
#[derive(Clone, Debug, Default)]
pub(super) struct Bits {
    words: Vec<u64>,
    len: u64,
    read: u64,
}

impl Bits {
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn push(&mut self, bit: bool) {
        if self.len.is_multiple_of(64) {
            if self.words.len() == self.words.capacity() {
                self.words.reserve_exact(WORDS_AT_ONCE);
            }
            self.words.push(0);
        }
        let last = self.words.last_mut().expect("a word for every 64 bits");
        *last |= u64::from(bit) << (self.len % 64);
        self.len += 1;
    }

    pub(super) fn pop(&mut self) -> Option<bool> {
        let at = self.read;
        if at == self.len {
            return None;
        }
        self.read += 1;
        let word = self.words[usize::try_from(at / 64).expect("an index of this vector")];
        Some(word >> (at % 64) & 1 == 1)
    }

    pub(super) fn bytes(&self) -> usize {
        self.words.capacity() * size_of::<u64>()
    }

    /// Bytes for at most `count` bits.
    pub(super) fn max_bytes(count: u64) -> usize {
        let words = usize::try_from(count / 64).unwrap_or(usize::MAX / 16);
        (words + WORDS_AT_ONCE) * size_of::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_come_out_as_they_went_in() {
        let mut bits = Bits::default();
        let bit = |at: u64| at.is_multiple_of(3) || at % 7 == 2;
        for at in 0..70_000 {
            bits.push(bit(at));
            assert!(bits.bytes() <= Bits::max_bytes(bits.len()));
        }
        for at in 0..70_000 {
            assert_eq!(bits.pop(), Some(bit(at)), "{at}");
        }
        assert_eq!(bits.pop(), None);
    }
}
