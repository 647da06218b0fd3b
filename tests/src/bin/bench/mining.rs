//! How fast headers are hashed: every kernel on one core, and all cores together.
//!
//! The kernels and two calls of `compress256` for each nonce, which is what one would
//! write without them, take turns. Time is that of the thread, so that a busy machine
//! costs less; the core's clock is measured between.
//!
//! # Floors
//! The instructions that a hash cannot do without, divided by those that a Zen 4 takes in
//! a cycle: four of its vector units' operations, each of up to 256 bits. For kernels in
//! lanes see [`lane_instructions`], for the SHA instructions [`SHA_NI_OPERATIONS`]. Other
//! processors have other floors.

use std::fmt::Write as _;
use std::hint::black_box;
use std::process::Command;
use std::time::Duration;

use handfast_sha256d::Engine;
use rustix::time::{ClockId, clock_gettime};
use sha2::compress256;
use sha2::digest::generic_array::{GenericArray, typenum::U64};

/// Turns of each subject in a run.
const TURNS: usize = 20;
/// Nonces of a turn: 10 ms to 60 ms.
const NONCES: u64 = 300_000;
/// Links of the chain that measures the clock: 5 ms.
const LINKS: u32 = 4_000_000;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    Kernel(Engine),
    /// `compress256` for one nonce after the other.
    Plain,
}

impl Subject {
    fn name(self) -> &'static str {
        match self {
            Self::Kernel(engine) => engine.name(),
            Self::Plain => "compress256",
        }
    }

    /// Hashes `NONCES` headers.
    fn hash(self) {
        let header = black_box([7; 80]);
        match self {
            // No hash is 0, so that all are computed.
            Self::Kernel(engine) => assert_eq!(engine.search(&header, &[0; 32], 0..NONCES), None),
            Self::Plain => plain(&header),
        }
    }

    /// Cycles that a hash takes at least, where there is a statement on that.
    fn floor(self) -> Option<f64> {
        match self.name() {
            // Rotations and functions of three bits are one instruction each, of 512 bits.
            "avx512" => Some(2.0 * f64::from(lane_instructions(4, 4, 1, 1)) / 4.0 / 16.0),
            "sha-ni" => Some(f64::from(SHA_NI_OPERATIONS) / 4.0),
            // A rotation is two shifts and what joins them.
            "avx2" => Some(f64::from(lane_instructions(11, 9, 3, 3)) / 4.0 / 8.0),
            _ => None,
        }
    }
}

/// Operations of the vector units for one hash with the SHA instructions.
///
/// 60 times two rounds: of the first hash those from round 4, which the nonce comes in
/// before, of the second from round 1, before which only its first word was added, to round
/// 60, which decides. 20 `sha256msg1` of two operations and 22 `sha256msg2` of four, where
/// not all their words are known. Of other instructions for every four rounds at most two
/// sums (with the rounds' constants 26, in the schedule 19, and 3 with what was before),
/// and two that move words (30 and 20).
const SHA_NI_OPERATIONS: u32 = 60 + 20 * 2 + 22 * 4 + (26 + 19 + 3) + (30 + 20);

/// Instructions for a vector of nonces, from what each of SHA-256's functions takes.
///
/// Counted in the formulas, without the terms that are zero or the same for all nonces:
/// 120 rounds, of which the last four need no new `a`; of the first hash's schedule words
/// 18 to 63, of the second's 16 to 60.
fn lane_instructions(big_sigma: u32, small_sigma: u32, choose: u32, majority: u32) -> u32 {
    let (rounds, whole_rounds) = (120, 116);
    // Word, constant, `h`, choice and sigma make one sum, which is added to `d`; sigma and
    // majority make another, and both are `a`. In 22 rounds the word is known, in the first
    // three of each hash `h` as well.
    let round_sums = 5 * rounds + 2 * whole_rounds - 22 - 6;
    let (first_schedule, second_schedule) = ([32, 44, 110], [37, 43, 116]);
    let [sigma_0, sigma_1, schedule_sums] =
        [0, 1, 2].map(|i| first_schedule[i] + second_schedule[i]);
    // The nonce goes to two words, the midstate to eight, the first word to two.
    let other_sums = 2 + 8 + 2;
    big_sigma * (rounds + whole_rounds)
        + choose * rounds
        + majority * whole_rounds
        + small_sigma * (sigma_0 + sigma_1)
        + round_sums
        + schedule_sums
        + other_sums
}

fn plain(header: &[u8; 80]) {
    type Block = GenericArray<u8, U64>;
    let mut midstate = [7; 8];
    compress256(&mut midstate, &[*Block::from_slice(&header[..64])]);
    let mut block = [Block::default()];
    block[0][..16].copy_from_slice(&header[64..]);
    let mut hash_block = [Block::default()];
    for nonce in 0..NONCES as u32 {
        block[0][12..16].copy_from_slice(&nonce.to_le_bytes());
        let mut first = midstate;
        compress256(&mut first, &block);
        for (bytes, word) in hash_block[0].chunks_exact_mut(4).zip(first) {
            bytes.copy_from_slice(&word.to_be_bytes());
        }
        let mut second = [7; 8];
        compress256(&mut second, &hash_block);
        black_box(second[7]);
    }
}

/// Processor time of this thread.
fn time(work: impl FnOnce()) -> Duration {
    let now = || Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).expect("not negative");
    let before = now();
    work();
    now() - before
}

/// Cycles a second of this core: each link of a chain takes a shift, an xor and a
/// multiplication, which need 1, 1 and 3 cycles on every x86 of the last fifteen years.
fn clock() -> f64 {
    let spent = time(|| {
        let mut link = black_box(1_u64);
        for _ in 0..LINKS {
            link = (link ^ (link >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        black_box(link);
    });
    5.0 * f64::from(LINKS) / spent.as_secs_f64()
}

/// The best turns. Nothing makes a turn faster than the processor is, all else only slower.
#[derive(Clone, Copy, Debug, Default)]
struct Best {
    /// Hashes a second.
    rate: f64,
    /// Cycles a second.
    clock: f64,
}

impl Best {
    fn turn(&mut self, subject: Subject) {
        self.clock = self.clock.max(clock());
        let spent = time(|| subject.hash());
        self.rate = self.rate.max(NONCES as f64 / spent.as_secs_f64());
    }
}

/// Every kernel on one core by turns, then all cores with the best.
pub(crate) fn run(runs: usize) {
    let engines = Engine::available().into_iter().map(Subject::Kernel);
    let subjects: Vec<Subject> = engines.chain([Subject::Plain]).collect();
    let mut best = vec![Best::default(); subjects.len()];
    for _ in 0..runs * TURNS {
        for (subject, best) in subjects.iter().zip(&mut best) {
            best.turn(*subject);
        }
    }
    let clock = best.iter().map(|best| best.clock).fold(0.0, f64::max);
    println!(
        "mining: double hashes of headers, one core at {:.2} GHz, best turns",
        clock / 1e9
    );
    let plain = best.last().expect("the last subject is plain").rate;
    for (subject, Best { rate, .. }) in subjects.iter().zip(best.iter().copied()) {
        let cycles = clock / rate;
        let mut line = format!(
            "  {:11} {:5.1} MH/s  {cycles:5.1} cycles per hash  {:4.2} times compress256",
            subject.name(),
            rate / 1e6,
            rate / plain
        );
        if let Some(floor) = subject.floor() {
            let share = floor / cycles * 100.0;
            let _ = write!(line, "  {share:3.0} % of a Zen 4's floor of {floor:.1}");
        }
        println!("{line}");
    }
    for _ in 0..runs {
        all_cores();
    }
    println!();
}

/// The node's hash threads. The program is an example of `handfast-node`.
fn all_cores() {
    let own = std::env::current_exe().expect("a process knows its executable");
    let program = own.with_file_name("examples").join("hash_threads");
    if !program.is_file() {
        println!(
            "  all cores: not measured, {} is not built",
            program.display()
        );
        return;
    }
    let output = Command::new(&program).output().expect("the example starts");
    print!("  all cores: {}", String::from_utf8_lossy(&output.stdout));
    if !output.status.success() {
        println!("failed: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_in_lanes_is_what_the_formulas_take() {
        // Two kernels were disassembled: 2,846 and 5,750 but for what swaps bytes.
        assert_eq!(lane_instructions(4, 4, 1, 1), 2_846);
        assert_eq!(lane_instructions(11, 9, 3, 3), 5_750);
    }
}
