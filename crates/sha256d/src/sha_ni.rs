//! Four nonces at a time with the SHA instructions.
//!
//! One instruction does two rounds. One can start every cycle (Zen 4), but its result has a
//! latency of four, and the next one needs it: so four hashes are interleaved.
//!
//! The state is in two vectors in the order of the instructions, lowest lane first:
//! `f e b a` and `h g d c`. The message is in vectors of four words.
//!
//! Both hashes take fifteen times four rounds. The first begins with round 4: the earlier
//! rounds are in [`Job`]. The second ends with round 60, after which the last word of the hash
//! is known. It begins with round 1, since round 0 only adds the first word to a known state,
//! so its vectors of the message begin with word 1.

use std::arch::x86_64::*;
use std::array::from_fn;
use std::ops::Range;

use crate::constants::{
    HASH_BITS, HEADER_BITS, INITIAL, K, PADDING, SECOND_AFTER_ROUND_0, small_sigma_0, small_sigma_1,
};
use crate::job::Job;

/// Interleaved hashes.
const STREAMS: usize = 4;

/// The same four lanes of each hash.
type Vectors = [__m128i; STREAMS];

/// Lane 0 first.
#[target_feature(enable = "sha,sse4.1")]
#[inline]
fn vector(lanes: [u32; 4]) -> __m128i {
    let [l0, l1, l2, l3] = lanes.map(|lane| lane as i32);
    _mm_set_epi32(l3, l2, l1, l0)
}

/// The sums of the lanes.
#[target_feature(enable = "sha,sse4.1")]
#[inline]
fn add(x: Vectors, y: Vectors) -> Vectors {
    from_fn(|i| _mm_add_epi32(x[i], y[i]))
}

/// Of eight words those from the second to the fifth.
#[target_feature(enable = "sha,sse4.1")]
#[inline]
fn one_later(low: Vectors, high: Vectors) -> Vectors {
    from_fn(|i| _mm_alignr_epi8::<4>(high[i], low[i]))
}

/// Four words, to each of which σ0 of the one after it is added.
#[target_feature(enable = "sha,sse4.1")]
#[inline]
fn begin(words: Vectors, next: Vectors) -> Vectors {
    from_fn(|i| _mm_sha256msg1_epu32(words[i], next[i]))
}

/// Four words of the schedule, from their sums without σ1 of the word two before. The last two
/// need σ1 of the first two, which the instruction computes.
#[target_feature(enable = "sha,sse4.1")]
#[inline]
fn finish(words: Vectors, before: Vectors) -> Vectors {
    from_fn(|i| _mm_sha256msg2_epu32(words[i], before[i]))
}

/// The state of the hashes.
#[derive(Clone, Copy)]
struct State {
    /// `f e b a`
    feba: Vectors,
    /// `h g d c`
    hgdc: Vectors,
}

/// Four rounds, of words to which the rounds' constants were added.
#[target_feature(enable = "sha,sse4.1")]
#[inline]
fn rounds(state: State, added: Vectors) -> State {
    let State { feba, hgdc } = state;
    // Two rounds later `f e b a` has become `h g d c`. The hashes come one after the other,
    // since the words of a round must be in one certain register; the processor reorders the
    // instructions.
    let next: [(__m128i, __m128i); STREAMS] = from_fn(|i| {
        let middle = _mm_sha256rnds2_epu32(hgdc[i], feba[i], added[i]);
        let upper = _mm_shuffle_epi32::<0b1110>(added[i]);
        (_mm_sha256rnds2_epu32(feba[i], middle, upper), middle)
    });
    State {
        feba: next.map(|(feba, _)| feba),
        hgdc: next.map(|(_, hgdc)| hgdc),
    }
}

/// The constants of four rounds from `first` on, with known words added.
#[target_feature(enable = "sha,sse4.1")]
#[inline]
fn constants(first: usize, words: [u32; 4]) -> Vectors {
    [vector(from_fn(|i| K[first + i].wrapping_add(words[i]))); STREAMS]
}

/// Four rounds from `first` on, with their four words, which follow the sixteen in `words` and
/// replace the first four of those.
#[target_feature(enable = "sha,sse4.1")]
#[inline]
fn expand_and_round(state: State, words: &mut [Vectors; 4], first: usize) -> State {
    let [w0, w1, w2, w3] = *words;
    let new = finish(add(begin(w0, w1), one_later(w2, w3)), w3);
    *words = [w1, w2, w3, new];
    rounds(state, add(new, constants(first, [0; 4])))
}

/// The first hash: eight words in the state's order.
#[target_feature(enable = "sha,sse4.1")]
#[inline]
fn first_hash(job: &Job, nonces: [u32; STREAMS]) -> State {
    let [a, b, c, d, e, f, g, h] = job.after_round_3;
    let [t0, t1, t2] = job.tail;
    let state = State {
        feba: nonces.map(|n| vector([f, e.wrapping_add(n), b, a.wrapping_add(n)])),
        hgdc: [vector([h, g, d, c]); STREAMS],
    };
    let w0 = nonces.map(|n| vector([t0, t1, t2, n]));
    let w4 = [vector([PADDING, 0, 0, 0]); STREAMS];
    let state = rounds(state, constants(4, [PADDING, 0, 0, 0]));
    let state = rounds(state, constants(8, [0; 4]));
    let state = rounds(state, constants(12, [0, 0, 0, HEADER_BITS]));

    // Words 5 to 14 are zero, and left out of the sums.
    let known = [
        0,
        small_sigma_1(HEADER_BITS),
        small_sigma_1(job.w16),
        small_sigma_1(job.w17),
    ];
    let w16 = add(begin(w0, w4), [vector(known); STREAMS]);
    let state = rounds(state, add(w16, constants(16, [0; 4])));
    let known = [PADDING, 0, HEADER_BITS, job.w16];
    let w20 = finish([vector(known); STREAMS], w16);
    let state = rounds(state, add(w20, constants(20, [0; 4])));
    let w24 = finish(one_later(w16, w20), w20);
    let state = rounds(state, add(w24, constants(24, [0; 4])));
    let last = small_sigma_0(job.w16).wrapping_add(HEADER_BITS);
    let known = [0, 0, small_sigma_0(HEADER_BITS), last];
    let w28 = finish(add(one_later(w20, w24), [vector(known); STREAMS]), w24);
    let mut state = rounds(state, add(w28, constants(28, [0; 4])));

    let mut words = [w16, w20, w24, w28];
    for first in [32, 36, 40, 44, 48, 52, 56, 60] {
        state = expand_and_round(state, &mut words, first);
    }
    let [a, b, c, d, e, f, g, h] = job.midstate;
    State {
        feba: add(state.feba, [vector([f, e, b, a]); STREAMS]),
        hgdc: add(state.hgdc, [vector([h, g, d, c]); STREAMS]),
    }
}

/// The state after round 60 of the second hash: in lane 1 is `e`, which three rounds later
/// is `h`.
#[target_feature(enable = "sha,sse4.1")]
#[inline]
fn second_hash(hash: State) -> Vectors {
    let [a, b, c, d, e, f, g, h] = SECOND_AFTER_ROUND_0;
    let zero = vector([0; 4]);
    let state = State {
        // The first word, in lane 3, is added to `e` and `a`.
        feba: from_fn(|i| {
            let w0 = _mm_shuffle_epi32::<0b11_11_11_11>(hash.feba[i]);
            let w0 = _mm_blend_epi16::<0b1100_1100>(zero, w0);
            _mm_add_epi32(vector([f, e, b, a]), w0)
        }),
        hgdc: [vector([h, g, d, c]); STREAMS],
    };
    // From `5 4 1 0` and `7 6 3 2` to `1 2 3 4` and `5 6 7` with the padding.
    let w1 = from_fn(|i| {
        let (low, high) = (
            _mm_castsi128_ps(hash.hgdc[i]),
            _mm_castsi128_ps(hash.feba[i]),
        );
        let mixed = _mm_castps_si128(_mm_shuffle_ps::<0b10_01_10_11>(low, high));
        _mm_shuffle_epi32::<0b10_01_00_11>(mixed)
    });
    let w5 = from_fn(|i| {
        let upper = _mm_shuffle_epi32::<0b11_00_01_00>(hash.hgdc[i]);
        let words = _mm_blend_epi16::<0b0000_0011>(upper, hash.feba[i]);
        _mm_blend_epi16::<0b1100_0000>(words, vector([0, 0, 0, PADDING]))
    });
    let state = rounds(state, add(w1, constants(1, [0; 4])));
    let state = rounds(state, add(w5, constants(5, [0; 4])));
    let state = rounds(state, constants(9, [0; 4]));

    // Words 9 to 14 are zero. Word 16 is the first word and σ0 of the second.
    let w16 = begin(hash.feba, w1);
    let w13: Vectors =
        from_fn(|i| _mm_blend_epi16::<0b1100_0000>(vector([0, 0, HASH_BITS, 0]), w16[i]));
    let state = rounds(state, add(w13, constants(13, [0; 4])));
    let w17 = finish(begin(w1, w5), w13);
    let state = rounds(state, add(w17, constants(17, [0; 4])));
    let w21 = finish(add(begin(w5, [zero; STREAMS]), one_later(w13, w17)), w17);
    let state = rounds(state, add(w21, constants(21, [0; 4])));
    let w25 = finish(one_later(w17, w21), w21);
    let mut state = rounds(state, add(w25, constants(25, [0; 4])));

    let mut words = [w13, w17, w21, w25];
    for first in [29, 33, 37, 41, 45, 49, 53, 57] {
        state = expand_and_round(state, &mut words, first);
    }
    state.feba
}

/// The last word of the double hash for each nonce, a nonce to a lane.
#[target_feature(enable = "sha,sse4.1")]
#[inline]
fn last_words(job: &Job, nonces: [u32; STREAMS]) -> __m128i {
    let [x0, x1, x2, x3] = second_hash(first_hash(job, nonces));
    let low = _mm_unpacklo_epi32(x0, x1);
    let high = _mm_unpacklo_epi32(x2, x3);
    let last = _mm_unpackhi_epi64(low, high);
    _mm_add_epi32(last, vector([INITIAL[7]; 4]))
}

#[target_feature(enable = "sha,sse4.1")]
pub(crate) fn search(job: &Job, nonces: Range<u64>) -> Option<u32> {
    let swap_bytes = vector([0x0001_0203, 0x0405_0607, 0x0809_0a0b, 0x0c0d_0e0f]);
    let target_top = vector([job.target_top; 4]);
    let mut first = nonces.start;
    while first < nonces.end {
        let group = from_fn(|lane| (first as u32).wrapping_add(lane as u32).swap_bytes());
        let last = _mm_shuffle_epi8(last_words(job, group), swap_bytes);
        // There is no unsigned comparison: a word is at most the target if it equals the minimum of both.
        let within = _mm_cmpeq_epi32(_mm_min_epu32(last, target_top), last);
        let candidates = _mm_movemask_ps(_mm_castsi128_ps(within)) as u32;
        if candidates != 0
            && let Some(nonce) = job.first_of(first, candidates, nonces.end)
        {
            return Some(nonce);
        }
        first += STREAMS as u64;
    }
    None
}
