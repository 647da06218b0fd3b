//! Keeps the heap small.

#![allow(
    unsafe_code,
    reason = "mallopt has no safe wrapper; it is called once, before any thread exists"
)]

/// Lets glibc's allocator use two arenas instead of eight per core: a node has
/// a dozen threads, and each arena keeps what was once freed in it.
pub(crate) fn limit_arenas() {
    #[cfg(target_env = "gnu")]
    // SAFETY: `mallopt` only sets a number inside the allocator. No other thread
    // runs yet, and a failure (return value 0) leaves the default in place.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2);
    }
}
