//! Mining: the actor, and the threads that hash for it.

mod actor;
pub mod hash_threads;
pub(crate) mod messages;

pub(crate) use actor::Miner;
