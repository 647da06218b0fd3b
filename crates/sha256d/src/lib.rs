//! Double SHA-256 of block headers, and the search for nonces.
//!
//! Pure computation: no clock, no thread, no socket. [`Engine`] searches a range of nonces
//! with the fastest instructions that this processor has; `node`'s miner divides the work and
//! stops it.
//!
//! The kernels are safe code, each compiled for certain instructions. Only the call of a
//! kernel is `unsafe`, because the processor must have them; it is in one function.

mod constants;
mod engine;
mod job;
mod portable;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(any(target_arch = "x86_64", test))]
mod lanes;
#[cfg(target_arch = "x86_64")]
mod sha_ni;

#[cfg(test)]
mod tests;

pub use engine::Engine;
