//! The double hash with a nonce in each lane of a vector.
//!
//! One implementation for every instruction set: `hash_in_lanes!` generates it for a vector type
//! and the few operations on it that the calling module defines, each compiled for that
//! instruction set. Left out, besides the values in [`Job`](crate::job::Job):
//!
//! - words of both schedules that are padding, and the terms that they make zero;
//! - the second hash's round 0, whose state is known except for the word that it adds;
//! - values that the last word of the hash does not need: rounds 61 to 63, `a` since round 57.
//!   The last word alone refuses nearly every nonce, since it has the most significant bits.

/// Defines `last_word(&Job, V) -> V`: the last word of the double hash of the header with
/// each of these nonces. They are given as the message has them, highest byte first.
///
/// `$vector`: lanes of 32 bits. In scope: `splat`, `add`, `rotate::<N>` to the right,
/// `shift::<N>` to the right, `xor3`, `choose` (bits of the second where the first has
/// ones, else of the third), `majority`. `$feature`: the attribute of every function.
macro_rules! hash_in_lanes {
    ($vector:ty $(, #[$feature:meta])?) => {
        /// The lanes of σ0.
        $(#[$feature])?
        #[inline]
        fn small_sigma_0(x: $vector) -> $vector {
            xor3(rotate::<7>(x), rotate::<18>(x), shift::<3>(x))
        }

        /// The lanes of σ1.
        $(#[$feature])?
        #[inline]
        fn small_sigma_1(x: $vector) -> $vector {
            xor3(rotate::<17>(x), rotate::<19>(x), shift::<10>(x))
        }

        /// One round with a word of the message. The compiler removes an `a` that is not used.
        $(#[$feature])?
        #[inline]
        fn round<const T: usize>(state: &mut [$vector; 8], word: $vector) {
            let [a, b, c, d, e, f, g, h] = *state;
            let big_sigma_1 = xor3(rotate::<6>(e), rotate::<11>(e), rotate::<25>(e));
            let added = add(add(word, splat(K[T])), h);
            let first = add(add(added, choose(e, f, g)), big_sigma_1);
            let big_sigma_0 = xor3(rotate::<2>(a), rotate::<13>(a), rotate::<22>(a));
            let second = add(big_sigma_0, majority(a, b, c));
            *state = [add(first, second), a, b, c, add(d, first), e, f, g];
        }

        /// Word `T` of the schedule, which replaces word `T - 16`.
        $(#[$feature])?
        #[inline]
        fn expand<const T: usize>(words: &mut [$vector; 16]) {
            let before = |distance: usize| words[(T - distance) % 16];
            let old = add(small_sigma_0(before(15)), before(16));
            words[T % 16] = add(add(small_sigma_1(before(2)), before(7)), old);
        }

        $(#[$feature])?
        #[inline]
        fn last_word(job: &Job, nonces: $vector) -> $vector {
            let first = first_hash(job, nonces);
            second_hash(first)
        }

        /// The hash of the header.
        $(#[$feature])?
        #[inline]
        fn first_hash(job: &Job, nonces: $vector) -> [$vector; 8] {
            let mut state = job.after_round_3.map(|word| splat(word));
            state[0] = add(state[0], nonces);
            state[4] = add(state[4], nonces);
            round::<4>(&mut state, splat(PADDING));
            each!(T in [5, 6, 7, 8, 9, 10, 11, 12, 13, 14] round::<T>(&mut state, splat(0)));
            round::<15>(&mut state, splat(HEADER_BITS));

            // Words 5 to 14 are zero, 4 and 15 padding, 16 and 17 the same for all nonces.
            let mut words = [splat(0); 16];
            words[0] = splat(job.w16);
            words[1] = splat(job.w17);
            let (w16, w17) = (job.w16, job.w17);
            let fixed = scalar_sigma_1(w16).wrapping_add(job.tail[2]);
            words[2] = add(splat(fixed), small_sigma_0(nonces));
            let fixed = scalar_sigma_1(w17).wrapping_add(scalar_sigma_0(PADDING));
            words[3] = add(splat(fixed), nonces);
            words[4] = add(small_sigma_1(words[2]), splat(PADDING));
            words[5] = small_sigma_1(words[3]);
            words[6] = add(small_sigma_1(words[4]), splat(HEADER_BITS));
            each!(T in [23, 24, 25, 26, 27, 28, 29]
                words[T % 16] = add(small_sigma_1(words[(T - 2) % 16]), words[(T - 7) % 16]));
            let fixed = scalar_sigma_0(HEADER_BITS);
            words[14] = add(add(small_sigma_1(words[12]), words[7]), splat(fixed));
            let fixed = scalar_sigma_0(w16).wrapping_add(HEADER_BITS);
            words[15] = add(add(small_sigma_1(words[13]), words[8]), splat(fixed));

            each!(T in [16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31]
                round::<T>(&mut state, words[T % 16]));
            // Two of the four terms of word 32 are the same for all nonces.
            let fixed = scalar_sigma_0(w17).wrapping_add(w16);
            words[0] = add(add(small_sigma_1(words[14]), words[9]), splat(fixed));
            round::<32>(&mut state, words[0]);
            each!(T in [33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49,
                50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63] {
                expand::<T>(&mut words);
                round::<T>(&mut state, words[T % 16]);
            });
            let mut hash = state;
            for (word, before) in hash.iter_mut().zip(job.midstate) {
                *word = add(*word, splat(before));
            }
            hash
        }

        /// The last word of the hash of `hash`.
        $(#[$feature])?
        #[inline]
        fn second_hash(hash: [$vector; 8]) -> $vector {
            let mut state = SECOND_AFTER_ROUND_0.map(|word| splat(word));
            state[0] = add(state[0], hash[0]);
            state[4] = add(state[4], hash[0]);
            each!(T in [1, 2, 3, 4, 5, 6, 7] round::<T>(&mut state, hash[T]));
            round::<8>(&mut state, splat(PADDING));
            each!(T in [9, 10, 11, 12, 13, 14] round::<T>(&mut state, splat(0)));
            round::<15>(&mut state, splat(HASH_BITS));

            // Word 8 is padding, 9 to 14 are zero, 15 is padding.
            let mut words = [splat(0); 16];
            words[..8].copy_from_slice(&hash);
            words[0] = add(words[0], small_sigma_0(words[1]));
            let fixed = splat(scalar_sigma_1(HASH_BITS));
            words[1] = add(add(words[1], small_sigma_0(words[2])), fixed);
            each!(T in [18, 19, 20, 21] {
                let new = add(small_sigma_1(words[(T - 2) % 16]), small_sigma_0(words[T - 15]));
                words[T % 16] = add(words[T % 16], new);
            });
            let new = add(small_sigma_1(words[4]), small_sigma_0(words[7]));
            words[6] = add(add(words[6], new), splat(HASH_BITS));
            let fixed = splat(scalar_sigma_0(PADDING));
            words[7] = add(add(words[7], fixed), add(small_sigma_1(words[5]), words[0]));
            words[8] = add(add(small_sigma_1(words[6]), words[1]), splat(PADDING));
            each!(T in [25, 26, 27, 28, 29]
                words[T % 16] = add(small_sigma_1(words[(T - 2) % 16]), words[(T - 7) % 16]));
            let fixed = splat(scalar_sigma_0(HASH_BITS));
            words[14] = add(add(small_sigma_1(words[12]), words[7]), fixed);
            let new = add(small_sigma_1(words[13]), small_sigma_0(words[0]));
            words[15] = add(add(words[8], new), splat(HASH_BITS));

            each!(T in [16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31]
                round::<T>(&mut state, words[T % 16]));
            each!(T in [32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49,
                50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60] {
                expand::<T>(&mut words);
                round::<T>(&mut state, words[T % 16]);
            });
            // The present `e` becomes `h` in the three rounds that are left out.
            add(state[4], splat(INITIAL[7]))
        }
    };
}

/// Repeats a statement for each value of a constant, so that the loop is unrolled and every
/// index is a constant.
macro_rules! each {
    ($name:ident in [$($value:literal),* $(,)?] $statement:expr) => {
        $({
            const $name: usize = $value;
            $statement;
        })*
    };
}

pub(crate) use {each, hash_in_lanes};

/// Imports of `hash_in_lanes!` besides the operations.
pub(crate) mod prelude {
    pub(crate) use super::{each, hash_in_lanes};
    pub(crate) use crate::constants::{
        HASH_BITS, HEADER_BITS, INITIAL, K, PADDING, SECOND_AFTER_ROUND_0,
        small_sigma_0 as scalar_sigma_0, small_sigma_1 as scalar_sigma_1,
    };
    pub(crate) use crate::job::Job;
}

/// One lane, without special instructions: tests the implementation on every machine.
#[cfg(test)]
mod tests {
    use super::prelude::*;

    fn splat(word: u32) -> u32 {
        word
    }
    fn add(x: u32, y: u32) -> u32 {
        x.wrapping_add(y)
    }
    fn rotate<const N: u32>(x: u32) -> u32 {
        x.rotate_right(N)
    }
    fn shift<const N: u32>(x: u32) -> u32 {
        x >> N
    }
    fn xor3(x: u32, y: u32, z: u32) -> u32 {
        x ^ y ^ z
    }
    fn choose(x: u32, y: u32, z: u32) -> u32 {
        (x & y) | (!x & z)
    }
    fn majority(x: u32, y: u32, z: u32) -> u32 {
        (x & y) | (x & z) | (y & z)
    }

    hash_in_lanes!(u32);

    #[test]
    fn what_is_left_out_does_not_change_the_last_word() {
        for seed in 0..200_u32 {
            let header = crate::tests::header(seed);
            let job = Job::new(&header, &[0; 32]);
            let nonce = seed.wrapping_mul(0x9e37_79b9);
            let hash = crate::tests::double_hash(&header, nonce);
            let last = u32::from_be_bytes([hash[28], hash[29], hash[30], hash[31]]);
            assert_eq!(last_word(&job, nonce.swap_bytes()), last, "header {seed}");
        }
    }
}
