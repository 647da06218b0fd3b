//! One hash at a time, on every machine, with the compression function of the `sha2` crate.

use std::array::from_fn;
use std::ops::Range;
use std::slice::from_ref;

use sha2::compress256;

use crate::constants::{HASH_BITS, HEADER_BITS, INITIAL, PADDING};
use crate::job::{Block, Job, block};

/// Blocks that are written before the first of them is read. A read of bytes that were just
/// written in smaller pieces waits for the writes: measured, a fifth of the time.
const GROUP: usize = 8;

pub(crate) fn search(job: &Job, nonces: Range<u64>) -> Option<u32> {
    let [t0, t1, t2] = job.tail;
    let message = [
        t0,
        t1,
        t2,
        0,
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
    let mut headers: [Block; GROUP] = from_fn(|_| block(message));
    let message = [0, 0, 0, 0, 0, 0, 0, 0, PADDING, 0, 0, 0, 0, 0, 0, HASH_BITS];
    let mut hashes: [Block; GROUP] = from_fn(|_| block(message));
    let mut first = nonces.start;
    while first < nonces.end {
        for (header, nonce) in headers.iter_mut().zip(first..) {
            header[12..16].copy_from_slice(&(nonce as u32).to_le_bytes());
        }
        for (header, hash) in headers.iter().zip(&mut hashes) {
            let mut state = job.midstate;
            compress256(&mut state, from_ref(header));
            for (bytes, word) in hash.chunks_exact_mut(4).zip(state) {
                bytes.copy_from_slice(&word.to_be_bytes());
            }
        }
        let mut candidates = 0;
        for (hash, lane) in hashes.iter().zip(0..) {
            let mut state = INITIAL;
            compress256(&mut state, from_ref(hash));
            candidates |= u32::from(state[7].swap_bytes() <= job.target_top) << lane;
        }
        if let Some(nonce) = job.first_of(first, candidates, nonces.end) {
            return Some(nonce);
        }
        first += GROUP as u64;
    }
    None
}
