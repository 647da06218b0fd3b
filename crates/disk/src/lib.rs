//! Local files: state that a node writes and reads at its next start.
//!
//! - [`state_file`]: small state, written whole or not at all, the one user of bincode.
//! - [`StateFile`]: a state file that is loaded once and saved whenever its state has changed.
//! - [`Journal`]: records that are durable when [`Journal::append`] returns.
//! - [`is_in_use`]: whether a node is using a directory.
//! - [`read()`], [`replace`], [`quarantine`]: the operations that both use.
//!
//! No data of a peer is decoded here, and there is no clock, thread or retry: callers
//! decide when to try again.
//!
//! # Durable
//! Data is durable when `fsync` has returned without an error. Then it survives the end
//! of the process, of the system, and the loss of power, as far as the drive keeps what
//! it confirmed.

mod atomic;
mod in_use;
mod journal;
mod quarantine;
mod quoted;
mod read;
pub mod state_file;
mod storage;
mod stored;
pub mod testing;

pub use atomic::{remove, replace, try_replace};
pub use in_use::{LOCK_FILE, MARKER_FILE, MAX_MARKER, is_in_use};
pub use journal::{Format, Found, Journal, MAX_RECORD};
pub use quarantine::{MAX_QUARANTINED, quarantine};
pub use quoted::quoted;
pub use read::{Unreadable, check_not_special, read, read_text};
pub use storage::{FileStorage, Opened, Storage, StorageFile};
pub use stored::{Form, StateFile};
