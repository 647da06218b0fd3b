//! Keeps the kernel's start out of the way of commands that do not need it.
//!
//! The kernel library has a static object whose constructor, run before `main`,
//! seeds its random number generator, which hashes for 100 ms on purpose. Every
//! `handfast status` would pay for that, and a node would not answer RPC meanwhile.
//! The generator also seeds itself, in the same way, when it is first used: that
//! is on the kernel's own thread, while the node answers already. So the early
//! call is replaced (`--wrap`, see `build.rs`) by one that does nothing.

#![allow(unsafe_code, reason = "the linker finds the replacement by its unmangled name")]

/// Stands in for the kernel's `RandomInit()`, `_Z10RandomInitv` to a linker.
///
/// # Safety
/// No other object of the link has a symbol of this name: the prefix is the linker's own.
#[unsafe(no_mangle)]
extern "C" fn __wrap__Z10RandomInitv() {}
