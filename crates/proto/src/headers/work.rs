//! What compact targets stand for.

use bitcoin::{CompactTarget, Target};

use super::entry::from_work;

/// The target that `bits` stands for, unless it is zero, negative or too large.
pub(super) fn derive_target(bits: CompactTarget) -> Option<Target> {
    let raw = bits.to_consensus();
    let (size, mantissa) = (raw >> 24, raw & 0x007f_ffff);
    // `mantissa << 8 * (size - 3)` must fit into 256 bits.
    let overflow = size > 34 || (size > 33 && mantissa > 0xff) || (size > 32 && mantissa > 0xffff);
    if overflow {
        return None;
    }
    let target = Target::from_compact(bits); // zero also for a negative one
    (target != Target::ZERO).then_some(target)
}

/// Expected hashes for one block at `bits`; 0 if they stand for no target. Saturates
/// at 2^128 - 1.
pub fn block_work(bits: CompactTarget) -> u128 {
    derive_target(bits).map_or(0, |target| from_work(target.to_work()))
}
