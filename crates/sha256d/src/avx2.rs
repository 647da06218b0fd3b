//! Eight nonces at a time with AVX2.
//!
//! A rotation costs three instructions here, so that this is the fastest kernel only
//! where the processor has neither AVX-512 nor the SHA instructions.

use std::arch::x86_64::*;
use std::ops::Range;

use crate::lanes::prelude::*;

const LANES: u64 = 8;

#[target_feature(enable = "avx2")]
#[inline]
fn splat(word: u32) -> __m256i {
    _mm256_set1_epi32(word as i32)
}

#[target_feature(enable = "avx2")]
#[inline]
fn add(x: __m256i, y: __m256i) -> __m256i {
    _mm256_add_epi32(x, y)
}

#[target_feature(enable = "avx2")]
#[inline]
fn rotate<const N: i32>(x: __m256i) -> __m256i {
    // The shifts by a register's count become shifts by a constant.
    let right = _mm256_srl_epi32(x, _mm_cvtsi32_si128(N));
    let left = _mm256_sll_epi32(x, _mm_cvtsi32_si128(32 - N));
    _mm256_xor_si256(right, left)
}

#[target_feature(enable = "avx2")]
#[inline]
fn shift<const N: i32>(x: __m256i) -> __m256i {
    _mm256_srli_epi32::<N>(x)
}

#[target_feature(enable = "avx2")]
#[inline]
fn xor3(x: __m256i, y: __m256i, z: __m256i) -> __m256i {
    _mm256_xor_si256(_mm256_xor_si256(x, y), z)
}

#[target_feature(enable = "avx2")]
#[inline]
fn choose(x: __m256i, y: __m256i, z: __m256i) -> __m256i {
    _mm256_xor_si256(_mm256_and_si256(_mm256_xor_si256(y, z), x), z)
}

#[target_feature(enable = "avx2")]
#[inline]
fn majority(x: __m256i, y: __m256i, z: __m256i) -> __m256i {
    // The majority is `y` where `x` and `y` agree, or `y` and `z`. The next round's `y` and `z`
    // are these `x` and `y`, so the compiler computes their difference only once.
    let differ = _mm256_and_si256(_mm256_xor_si256(x, y), _mm256_xor_si256(y, z));
    _mm256_xor_si256(differ, y)
}

/// Swaps the bytes of each lane.
#[target_feature(enable = "avx2")]
#[inline]
fn swap_bytes(x: __m256i) -> __m256i {
    let order = _mm256_set1_epi64x(0x0405_0607_0001_0203);
    let upper = _mm256_set1_epi64x(0x0c0d_0e0f_0809_0a0b);
    _mm256_shuffle_epi8(x, _mm256_unpacklo_epi64(order, upper))
}

hash_in_lanes!(__m256i, #[target_feature(enable = "avx2")]);

#[target_feature(enable = "avx2")]
pub(crate) fn search(job: &Job, nonces: Range<u64>) -> Option<u32> {
    let lanes = _mm256_set_epi32(7, 6, 5, 4, 3, 2, 1, 0);
    let target_top = splat(job.target_top);
    let mut first = nonces.start;
    while first < nonces.end {
        let group = add(splat(first as u32), lanes);
        let last = swap_bytes(last_word(job, swap_bytes(group)));
        // There is no unsigned comparison: a word is at most the target if it equals the minimum of both.
        let within = _mm256_cmpeq_epi32(_mm256_min_epu32(last, target_top), last);
        let candidates = _mm256_movemask_ps(_mm256_castsi256_ps(within)) as u32;
        if candidates != 0
            && let Some(nonce) = job.first_of(first, candidates, nonces.end)
        {
            return Some(nonce);
        }
        first += LANES;
    }
    None
}
