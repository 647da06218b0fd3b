//! CPU scheduling of threads.
#![allow(
    unsafe_code,
    reason = "sched_setscheduler: its wrappers elsewhere set a niceness too"
)]

use std::io;

/// A policy that needs no privilege; sched(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Runs only on an otherwise idle core. `SCHED_IDLE`.
    Idle,
    /// Gets its share, and never preempts a running thread when it wakes. `SCHED_BATCH`.
    Batch,
}

/// Sets `policy` for this thread and the threads that it starts.
///
/// # Errors
/// The system has no such policy, or refuses to set it.
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

/// Sets `policy` for this thread and the threads that it starts.
///
/// # Errors
/// Always: this system has no such policies.
#[cfg(not(target_os = "linux"))]
pub fn schedule_this_thread(_: Policy) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Most arbiters for connections. Validation needs the other cores.
const MAX_NET: usize = 4;

/// Arbiters for connections by the number of cores: one for every two of them.
///
/// None on a machine with at most two cores: connections share `core` with the managers there. A
/// hop within a thread costs 120 ns, one to another thread 2.7 µs and, with fewer cores than busy
/// threads, a context switch; each connection makes several. Measured on two cores: a quarter less
/// CPU time for a connection that opens, completes its handshake and closes.
pub(crate) fn net_arbiters() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if cores <= 2 {
        0
    } else {
        (cores / 2).min(MAX_NET)
    }
}
