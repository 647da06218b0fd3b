//! Limits the heap of the process.

#![allow(
    unsafe_code,
    reason = "mallopt has no safe wrapper; it is called before any thread exists"
)]

/// Allocations from this size on are mapped one by one, and returned to the system when freed,
/// bytes: messages with thousands of entries, and blocks.
///
/// glibc starts with half of this and raises it up to 32 MiB as memory is freed; then a hundred
/// peers that request 50,000 blocks each leave a heap of 180 MB behind.
#[cfg(target_env = "gnu")]
const MMAP_THRESHOLD: libc::c_int = 256 * 1024;

/// Limits glibc's allocator to two arenas instead of eight per core, because a node has a dozen
/// threads and each arena retains what was freed in it; and maps long allocations one by one.
pub(crate) fn limit_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: `mallopt` only sets a number inside the allocator. No other thread
    // runs yet, and a failure (return value 0) leaves the default in place.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2);
        libc::mallopt(libc::M_MMAP_THRESHOLD, MMAP_THRESHOLD);
    }
}
