//! Every kernel compared with `sha2`'s digests, which share only the compression function with
//! the portable kernel.

use std::ops::Range;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use sha2::{Digest, Sha256};

use crate::Engine;

/// The most lanes that a kernel has.
const LANES: u64 = 16;
const ALL_NONCES: u64 = 1 << 32;
/// The kernels of this crate, on a processor that has everything.
#[cfg(target_arch = "x86_64")]
const KERNELS: &[&str] = &["avx512", "sha-ni", "avx2", "portable"];
#[cfg(not(target_arch = "x86_64"))]
const KERNELS: &[&str] = &["portable"];

/// A header of pseudorandom bytes for each seed.
pub(crate) fn header(seed: u32) -> [u8; 80] {
    let parts = [0_u8, 1, 2].map(|part| {
        let digest = Sha256::new().chain_update(seed.to_be_bytes());
        digest.chain_update([part]).finalize()
    });
    let bytes = parts.concat();
    bytes[..80].try_into().expect("96 bytes and more")
}

/// The double hash of `header` with this nonce.
pub(crate) fn double_hash(header: &[u8; 80], nonce: u32) -> [u8; 32] {
    let digest = Sha256::new().chain_update(&header[..76]);
    let first = digest.chain_update(nonce.to_le_bytes()).finalize();
    Sha256::digest(first).into()
}

/// Whether `hash` is at most `target`, both written lowest byte first.
fn is_within(hash: &[u8; 32], target: &[u8; 32]) -> bool {
    let highest_first = |bytes: &[u8; 32]| {
        let mut bytes = *bytes;
        bytes.reverse();
        bytes
    };
    highest_first(hash) <= highest_first(target)
}

/// The expected result of a search, nonce by nonce.
fn expected(header: &[u8; 80], target: &[u8; 32], mut nonces: Range<u64>) -> Option<u32> {
    let nonce = nonces.find(|nonce| is_within(&double_hash(header, *nonce as u32), target))?;
    Some(u32::try_from(nonce).expect("ranges end at 2^32"))
}

/// A target of about one in `2^bits` nonces.
fn one_in(bits: usize) -> [u8; 32] {
    let mut target = [0xff; 32];
    for bit in 0..bits {
        target[31 - bit / 8] &= !(0x80 >> (bit % 8));
    }
    target
}

/// Every kernel; a message on standard error for each that this processor lacks.
fn engines() -> Vec<Engine> {
    let available = Engine::available();
    for missing in KERNELS {
        if available.iter().all(|engine| engine.name() != *missing) {
            eprintln!("skipped: this processor has no {missing}");
        }
    }
    available
}

/// Every kernel finds the nonce that a plain search finds.
#[track_caller]
fn agrees(header: &[u8; 80], target: &[u8; 32], nonces: Range<u64>) {
    let expected = expected(header, target, nonces.clone());
    for engine in engines() {
        let found = engine.search(header, target, nonces.clone());
        assert_eq!(found, expected, "{} in {nonces:?}", engine.name());
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(0x2560),
        ..ProptestConfig::with_cases(256)
    })]

    #[test]
    fn every_kernel_finds_the_first_nonce_of_a_range_that_solves_the_header(
        header in any::<[u8; 40]>().prop_flat_map(|low| {
            any::<[u8; 40]>().prop_map(move |high| [low, high].concat())
        }),
        bits in 0_usize..12,
        low in any::<[u8; 28]>(),
        first in any::<u32>(),
        length in 0_u64..2_000,
    ) {
        let header: [u8; 80] = header.try_into().expect("40 and 40");
        let mut target = one_in(bits);
        // Random bytes where they decide few hashes.
        target[..28].copy_from_slice(&low);
        let first = u64::from(first);
        agrees(&header, &target, first..(first + length).min(ALL_NONCES));
    }
}

#[test]
fn a_hash_of_exactly_the_target_solves_and_one_above_does_not() {
    for seed in 0..32 {
        let header = header(seed);
        let nonce = 0x0100_0000 * seed + seed;
        let range = u64::from(nonce)..u64::from(nonce) + 1;
        let target = double_hash(&header, nonce);
        // One less, with the borrow.
        let mut below = target;
        for byte in &mut below {
            let (less, borrows) = byte.overflowing_sub(1);
            *byte = less;
            if !borrows {
                break;
            }
        }
        for engine in engines() {
            let search = |target| engine.search(&header, target, range.clone());
            assert_eq!(search(&target), Some(nonce), "{}", engine.name());
            assert_eq!(search(&below), None, "{}", engine.name());
        }
    }
}

#[test]
fn headers_and_targets_of_equal_bits_are_no_exception() {
    for byte in [0x00, 0xff, 0x80, 0x01] {
        for bits in [0, 1, 7, 9] {
            agrees(&[byte; 80], &one_in(bits), 0..3_000);
        }
        // No hash is 0, every hash is at most all ones.
        agrees(&[byte; 80], &[0; 32], 0..100);
        agrees(&[byte; 80], &[0xff; 32], 0..100);
    }
}

#[test]
fn of_several_solutions_in_one_group_the_first_is_found() {
    for seed in 0..64 {
        // Every second nonce, so that a group of lanes has several.
        agrees(&header(seed), &one_in(1), 1_000..1_000 + LANES);
    }
}

#[test]
fn nothing_outside_of_the_range_is_found() {
    let header = header(7);
    let target = one_in(6);
    let solution = u64::from(expected(&header, &target, 100..ALL_NONCES).expect("one in 64"));
    for engine in engines() {
        let search = |range: Range<u64>| engine.search(&header, &target, range);
        for before in 0..2 * LANES {
            let name = engine.name();
            let first = solution - before.min(solution - 100);
            assert_eq!(search(first..solution), None, "{name}, {before} before");
            let found = search(first..solution + 1);
            assert_eq!(found, Some(solution as u32), "{name}, {before} before");
        }
        assert_eq!(search(solution..solution), None, "an empty range");
    }
}

#[test]
fn every_length_of_a_range_at_both_ends_of_all_nonces_is_searched() {
    for seed in 0..8 {
        for length in 0..=2 * LANES + 1 {
            agrees(&header(seed), &one_in(4), 0..length);
            agrees(&header(seed), &one_in(4), ALL_NONCES - length..ALL_NONCES);
        }
    }
}

#[test]
fn lanes_that_wrap_around_find_nothing() {
    // Nonce 0 solves them, and the last group of lanes reaches it again.
    let beyond_the_others = |seed: &u32| {
        let header = header(*seed);
        let target = double_hash(&header, 0);
        agrees(&header, &target, ALL_NONCES - 3..ALL_NONCES);
        expected(&header, &target, ALL_NONCES - 3..ALL_NONCES).is_none()
    };
    assert_ne!((0..32).filter(beyond_the_others).count(), 0);
}

#[test]
fn the_genesis_block_is_found_where_it_is() {
    // A real search for the nonce 0x7c2bac1d.
    let mut header = [0; 80];
    header[0] = 1;
    header[36..68].copy_from_slice(&[
        0x3b, 0xa3, 0xed, 0xfd, 0x7a, 0x7b, 0x12, 0xb2, 0x7a, 0xc7, 0x2c, 0x3e, 0x67, 0x76, 0x8f,
        0x61, 0x7f, 0xc8, 0x1b, 0xc3, 0x88, 0x8a, 0x51, 0x32, 0x3a, 0x9f, 0xb8, 0xaa, 0x4b, 0x1e,
        0x5e, 0x4a,
    ]);
    header[68..72].copy_from_slice(&0x495f_ab29_u32.to_le_bytes());
    header[72..76].copy_from_slice(&0x1d00_ffff_u32.to_le_bytes());
    let mut target = [0; 32];
    target[26..28].copy_from_slice(&[0xff, 0xff]);
    let nonce = 0x7c2b_ac1d_u32;
    let around = u64::from(nonce) - 100_000..u64::from(nonce) + 10;
    for engine in engines() {
        let found = engine.search(&header, &target, around.clone());
        assert_eq!(found, Some(nonce), "{}", engine.name());
    }
}

#[test]
#[should_panic(expected = "a nonce has 32 bits")]
fn a_range_beyond_all_nonces_is_a_mistake() {
    Engine::best().search(&[0; 80], &[0; 32], 0..ALL_NONCES + 1);
}

#[test]
fn the_best_engine_is_the_first_available_and_there_is_always_one() {
    assert_eq!(Engine::available().first(), Some(&Engine::best()));
    assert_eq!(
        Engine::available().last().map(|engine| engine.name()),
        Some("portable")
    );
}
