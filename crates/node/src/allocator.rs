//! What the allocator keeps of memory that was freed.
#![cfg_attr(
    target_env = "gnu",
    allow(unsafe_code, reason = "malloc_trim has no safe wrapper")
)]

/// Gives memory back to the system that is free and lies between pieces in use. glibc does so
/// by itself only at the end of its heap, and what a large answer took is rarely there.
///
/// It takes some milliseconds where there is much of it, in which other threads may wait for
/// memory.
#[cfg(target_env = "gnu")]
pub fn give_back() {
    // SAFETY: it takes no pointer, keeps to the allocator's own locks, and changes nothing
    // that is in use.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Nothing: only glibc is told.
#[cfg(not(target_env = "gnu"))]
pub fn give_back() {}
