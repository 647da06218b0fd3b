//! Mining: threads that hash.

pub mod hash_threads;
