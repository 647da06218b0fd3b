//! Indexes of the chain: the block of a transaction, by its id or by an output that it spends.
//!
//! - [`Index`]: an index of one [`Kind`]. It opens the [`Store`], reads block after block of an
//!   [`ActiveChain`], and builds a damaged store again.
//! - [`IndexProgress`]: its progress.
//! - [`Store`]: the database, whose every write is atomic.
//!
//! The owner of an index calls [`Index::advance`] on a thread that may wait for the disk; any
//! thread may make lookups meanwhile. This crate has no thread, clock or socket (the database
//! has threads, which flush and compact).
//!
//! # Reorganizations
//! Disconnected blocks stay in the index, as in Bitcoin Core's index of transactions: a
//! transaction that is only there is still found, in a block that is not in the active chain.
//! One that is in both branches is found in the block that was indexed last, which is the
//! active one. Spenders are found in both; the caller distinguishes them.

mod advance;
mod resume;
mod store;
#[cfg(test)]
mod testing;

pub use advance::{Blocks, Index, IndexError, IndexProgress, Kind, Step};
pub use resume::ActiveChain;
pub use store::{IndexedBlock, Location, Store, StoreError, Subject};
