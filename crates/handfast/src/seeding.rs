//! Keeps the seeding of the kernel's random number generator out of the start.
//!
//! The kernel library has a static object whose constructor, run before `main`,
//! seeds that generator: from the system's source, the processor's, the state of
//! the machine, and then by hashing the result for 100 ms by the clock. Every
//! `handfast status` would pay for that, and a node would answer nobody meanwhile.
//!
//! Two calls are replaced at link time (`--wrap`, see `build.rs`): the early
//! `RandomInit()`, by nothing; and `steady_clock::now()`, by one that runs fast
//! while [`seed`] is at work, so that the hashing ends after its first 1,000 rounds.
//! Where that cannot be done, `seed` does nothing and the start takes that long.
//!
//! # Security
//! All sources of entropy are used as before, the system's 256 bits among them;
//! only the repeated hashing is cut short, which is there for systems whose own
//! source is broken. The kernel draws no key from the generator: it salts hash
//! tables and the block files' obfuscation. Handfast's own secrets (the RPC
//! cookie, nonces) come from the operating system directly.

#![allow(
    unsafe_code,
    reason = "the linker finds the replacements by their unmangled names"
)]

use std::cell::Cell;

/// How far the clock of a seeding thread runs ahead with every look at it, nanoseconds.
const STEP: i64 = 1_000_000_000;

thread_local! {
    /// How far this thread's clock is ahead, while it seeds.
    static AHEAD: Cell<Option<i64>> = const { Cell::new(None) };
}

unsafe extern "C" {
    /// The kernel's `RandomInit()`.
    fn __real__Z10RandomInitv();
    /// `std::chrono::steady_clock::now()`: nanoseconds.
    fn __real__ZNSt6chrono3_V212steady_clock3nowEv() -> i64;
}

/// Seeds the kernel's generator, for a process that is going to open the kernel.
pub(crate) fn seed() {
    AHEAD.set(Some(0));
    // SAFETY: a function without arguments that is made to be called at the start,
    // any number of times.
    unsafe { __real__Z10RandomInitv() };
    AHEAD.set(None);
}

/// Stands in for the call before `main`.
#[unsafe(no_mangle)]
extern "C" fn __wrap__Z10RandomInitv() {}

/// The true time, but to a thread inside [`seed`].
#[unsafe(no_mangle)]
extern "C" fn __wrap__ZNSt6chrono3_V212steady_clock3nowEv() -> i64 {
    // SAFETY: reads a clock.
    let now = unsafe { __real__ZNSt6chrono3_V212steady_clock3nowEv() };
    match AHEAD.get() {
        None => now,
        Some(ahead) => {
            AHEAD.set(Some(ahead + STEP));
            now + ahead
        }
    }
}
