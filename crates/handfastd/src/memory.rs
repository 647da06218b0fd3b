//! Keeps the heap small, and gives back what is free.

#![allow(
    unsafe_code,
    reason = "mallopt has no safe wrapper; it is called before any thread exists"
)]

/// What is longer is not of the heap, but memory of its own, which goes back to the system as
/// soon as it is free, bytes: messages with thousands of entries, and blocks.
///
/// glibc begins with half of this, and raises it up to 32 MiB by what is freed; then a hundred
/// peers who ask for 50,000 blocks each leave a heap of 180 MB behind for ever.
#[cfg(target_env = "gnu")]
const OWN_MEMORY_FROM: libc::c_int = 256 * 1024;

/// Lets glibc's allocator use two arenas instead of eight per core, for a node has a dozen
/// threads, and each arena keeps what was once freed in it; and long pieces memory of
/// their own.
pub(crate) fn keep_the_heap_small() {
    #[cfg(target_env = "gnu")]
    // SAFETY: `mallopt` only sets a number inside the allocator. No other thread
    // runs yet, and a failure (return value 0) leaves the default in place.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2);
        libc::mallopt(libc::M_MMAP_THRESHOLD, OWN_MEMORY_FROM);
    }
}
