//! Local files: what a node writes for itself and reads at its next start.
//!
//! - [`state_file`]: small state, written whole or not at all, the one user of bincode.
//! - [`StateFile`]: such state that a process loads once and saves whenever it has changed.
//! - [`Journal`]: records that are on disk for good when [`Journal::append`] returns.
//! - [`is_in_use`]: whether a node holds a directory.
//! - [`read()`], [`replace`], [`set_aside`]: what both are made of.
//!
//! Nothing that came over the network is decoded here, and nothing here has a clock,
//! a thread or a retry: callers decide when to try again.
//!
//! # What "on disk for good" means
//! That the system was told to write it through (`fsync`) and said that it has. Then
//! it survives the end of the process, of the system, and the loss of power, as far
//! as the drive keeps what it confirmed.

mod aside;
mod in_use;
mod journal;
mod quoted;
mod read;
pub mod state_file;
mod storage;
mod stored;
pub mod testing;
mod whole;

pub use aside::{MAX_ASIDE, set_aside};
pub use in_use::{LOCK_FILE, MARKER_FILE, MAX_MARKER, is_in_use};
pub use journal::{Format, Found, Journal, MAX_RECORD};
pub use quoted::quoted;
pub use read::{Unreadable, check_place, read, read_text};
pub use storage::{FileStorage, Opened, Storage, StorageFile};
pub use stored::{Form, StateFile};
pub use whole::{remove, replace, try_replace};
