//! Returning freed memory from the allocator to the system.
#![cfg_attr(
    target_env = "gnu",
    allow(unsafe_code, reason = "malloc_trim has no safe wrapper")
)]

/// Returns free memory between allocations in use to the system. glibc by itself does so only at
/// the end of its heap, where the memory of a large answer rarely is.
///
/// It takes some milliseconds when much is free; other threads may wait for memory meanwhile.
#[cfg(target_env = "gnu")]
pub fn give_back() {
    // SAFETY: the call takes no pointer, uses the allocator's locks, and changes nothing
    // that is in use.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Does nothing: only glibc has the call.
#[cfg(not(target_env = "gnu"))]
pub fn give_back() {}
