//! How the system shares its cores between threads.
#![allow(
    unsafe_code,
    reason = "sched_setscheduler: what wraps it elsewhere sets a niceness along with it"
)]

use std::io;

/// A policy that needs no privilege; sched(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Runs when nobody else wants to. `SCHED_IDLE`.
    Idle,
    /// Gets its share as others do, and takes the core from nobody at the moment when it has
    /// something to do. `SCHED_BATCH`.
    Batch,
}

/// From now on this thread, and those that it starts, are scheduled by `policy`.
///
/// # Errors
/// Of the system, which may have no such policy, or may refuse to set it.
#[cfg(target_os = "linux")]
pub fn schedule_this_thread(policy: Policy) -> io::Result<()> {
    let policy = match policy {
        Policy::Idle => libc::SCHED_IDLE,
        Policy::Batch => libc::SCHED_BATCH,
    };
    let calling_thread = 0;
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: the call only reads `parameters`, which lives until it returns.
    let result = unsafe { libc::sched_setscheduler(calling_thread, policy, &raw const parameters) };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// From now on this thread, and those that it starts, are scheduled by `policy`.
///
/// # Errors
/// Always: this system has no such policies.
#[cfg(not(target_os = "linux"))]
pub fn schedule_this_thread(_: Policy) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
