//! Sixteen nonces at a time with AVX-512 (the foundation alone).
//!
//! A rotation, and any function of three inputs, take one instruction each.

use std::arch::x86_64::*;
use std::ops::Range;

use crate::lanes::prelude::*;

const LANES: u64 = 16;

#[target_feature(enable = "avx512f")]
#[inline]
fn splat(word: u32) -> __m512i {
    _mm512_set1_epi32(word as i32)
}

#[target_feature(enable = "avx512f")]
#[inline]
fn add(x: __m512i, y: __m512i) -> __m512i {
    _mm512_add_epi32(x, y)
}

#[target_feature(enable = "avx512f")]
#[inline]
fn rotate<const N: i32>(x: __m512i) -> __m512i {
    _mm512_ror_epi32::<N>(x)
}

#[target_feature(enable = "avx512f")]
#[inline]
fn shift<const N: u32>(x: __m512i) -> __m512i {
    _mm512_srli_epi32::<N>(x)
}

// The truth table of a function of three bits: bit `4x + 2y + z` is its value.

#[target_feature(enable = "avx512f")]
#[inline]
fn xor3(x: __m512i, y: __m512i, z: __m512i) -> __m512i {
    _mm512_ternarylogic_epi32::<0b1001_0110>(x, y, z)
}

#[target_feature(enable = "avx512f")]
#[inline]
fn choose(x: __m512i, y: __m512i, z: __m512i) -> __m512i {
    _mm512_ternarylogic_epi32::<0b1100_1010>(x, y, z)
}

#[target_feature(enable = "avx512f")]
#[inline]
fn majority(x: __m512i, y: __m512i, z: __m512i) -> __m512i {
    _mm512_ternarylogic_epi32::<0b1110_1000>(x, y, z)
}

/// Swaps the bytes of each lane. The instruction for it is not in the foundation, so this
/// combines the rotations by 8 to both sides.
#[target_feature(enable = "avx512f")]
#[inline]
fn swap_bytes(x: __m512i) -> __m512i {
    choose(splat(0xff00_ff00), rotate::<8>(x), rotate::<24>(x))
}

hash_in_lanes!(__m512i, #[target_feature(enable = "avx512f")]);

#[target_feature(enable = "avx512f")]
pub(crate) fn search(job: &Job, nonces: Range<u64>) -> Option<u32> {
    let lanes = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    let target_top = splat(job.target_top);
    let mut first = nonces.start;
    while first < nonces.end {
        let group = add(splat(first as u32), lanes);
        let last = last_word(job, swap_bytes(group));
        let candidates = _mm512_cmple_epu32_mask(swap_bytes(last), target_top);
        if candidates != 0
            && let Some(nonce) = job.first_of(first, candidates.into(), nonces.end)
        {
            return Some(nonce);
        }
        first += LANES;
    }
    None
}
