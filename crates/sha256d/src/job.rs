//! A search job: the precomputed part that all hashes of one header share.

use std::array::from_fn;

use sha2::compress256;
use sha2::digest::generic_array::{GenericArray, typenum::U64};

use crate::constants::{
    HASH_BITS, HEADER_BITS, INITIAL, K, PADDING, round, small_sigma_0, small_sigma_1,
};

/// The block type of `compress256`.
pub(crate) type Block = GenericArray<u8, U64>;

/// A header without its nonce, a target, and the values computed from them.
///
/// The header is 80 bytes: a block of 64, whose compression is done here once, and 16
/// bytes in a second block, of which the last four are the nonce (word 3). So of that
/// block's 64 rounds the first three are done here as well, and the fourth but for the
/// nonce. The words of its schedule that do not depend on the nonce are ready too.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    /// The state after the first block.
    pub(crate) midstate: [u32; 8],
    /// Words 0 to 2 of the second block: the end of the merkle root, time, bits.
    pub(crate) tail: [u32; 3],
    /// The state after round 3 for nonce 0. The nonce must still be added to `a` and `e`.
    pub(crate) after_round_3: [u32; 8],
    /// Word 16 of the schedule, which does not depend on the nonce.
    pub(crate) w16: u32,
    /// Word 17, likewise.
    pub(crate) w17: u32,
    /// The target as words, most significant first.
    target: [u32; 8],
    /// The most significant word of the target.
    pub(crate) target_top: u32,
}

impl Job {
    pub(crate) fn new(header: &[u8; 80], target: &[u8; 32]) -> Self {
        let word = |at: usize| {
            u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        let target = from_fn(|i| {
            let at = 28 - 4 * i;
            u32::from_le_bytes([target[at], target[at + 1], target[at + 2], target[at + 3]])
        });
        let mut midstate = INITIAL;
        compress256(&mut midstate, &[*Block::from_slice(&header[..64])]);
        let tail = [word(64), word(68), word(72)];
        let mut state = midstate;
        for (word, constant) in tail.into_iter().chain([0]).zip(K) {
            state = round(state, constant.wrapping_add(word));
        }
        Self {
            midstate,
            tail,
            after_round_3: state,
            w16: small_sigma_0(tail[1]).wrapping_add(tail[0]),
            w17: small_sigma_1(HEADER_BITS)
                .wrapping_add(small_sigma_0(tail[2]))
                .wrapping_add(tail[1]),
            target,
            target_top: target[0],
        }
    }

    /// Whether the header with this nonce has a hash of at most the target.
    #[inline]
    fn is_solved_by(&self, nonce: u32) -> bool {
        // The words of a hash are big-endian, but the hash is a number whose first byte is the
        // least significant.
        let [a, b, c, d, e, f, g, h] = self.hash(nonce).map(u32::swap_bytes);
        [h, g, f, e, d, c, b, a] <= self.target
    }

    /// The double hash of the header with this nonce.
    fn hash(&self, nonce: u32) -> [u32; 8] {
        let [t0, t1, t2] = self.tail;
        // The nonce is little-endian, the words of a block are big-endian.
        let t3 = nonce.swap_bytes();
        let mut first = self.midstate;
        let message = [
            t0,
            t1,
            t2,
            t3,
            PADDING,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            HEADER_BITS,
        ];
        compress256(&mut first, &[block(message)]);
        let [a, b, c, d, e, f, g, h] = first;
        let message = [a, b, c, d, e, f, g, h, PADDING, 0, 0, 0, 0, 0, 0, HASH_BITS];
        let mut second = INITIAL;
        compress256(&mut second, &[block(message)]);
        second
    }

    /// The first nonce below `end` among `first`, `first + 1`, … that solves it. Bit `k`
    /// of `candidates` is set if `first + k` may be one.
    #[inline]
    pub(crate) fn first_of(&self, first: u64, mut candidates: u32, end: u64) -> Option<u32> {
        while candidates != 0 {
            let nonce = first + u64::from(candidates.trailing_zeros());
            // The last group may reach beyond the range, even around 2^32.
            if nonce >= end {
                return None;
            }
            let nonce = nonce as u32;
            if self.is_solved_by(nonce) {
                return Some(nonce);
            }
            candidates &= candidates - 1;
        }
        None
    }
}

/// The block of these words, each highest byte first.
pub(crate) fn block(words: [u32; 16]) -> Block {
    let mut block = Block::default();
    for (bytes, word) in block.chunks_exact_mut(4).zip(words) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
    block
}
