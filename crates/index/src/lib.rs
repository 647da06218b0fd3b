//! Indexes of the chain: in which block a transaction is, found by its id or by an output that
//! it spends.
//!
//! - [`Index`]: an index of one [`Kind`] and what it does by itself: it opens the [`Store`],
//!   reads block after block of an [`ActiveChain`], and mends what is damaged by building it
//!   anew.
//! - [`Standing`]: how far it is.
//! - [`Store`]: the database, whose every write is atomic.
//!
//! The owner of an index calls [`Index::advance`] on a thread that may wait for the disk;
//! lookups may be made on any other meanwhile. Nothing here has a thread, a clock or a socket
//! (the database has threads of its own, which flush and compact).
//!
//! # Reorganizations
//! Blocks that the chain has left stay in the index, as in Bitcoin Core's index of
//! transactions: one that was only there is still found, in a block that is not in the active
//! chain. One that is in both branches is found in the block that was indexed last, which is
//! the active one. Spenders are found in both; the caller tells them apart.

mod advance;
mod resume;
mod store;
#[cfg(test)]
mod testing;

pub use advance::{Blocks, Index, IndexError, Kind, Standing, Step};
pub use resume::ActiveChain;
pub use store::{IndexedBlock, Location, Store, StoreError, Subject};
