//! Consensus: the only user of `bitcoinkernel`, Bitcoin Core's validation engine
//! as a library. Handfast writes no consensus rules; this crate feeds the kernel,
//! reports its verdicts and reads blocks back.
//!
//! ```text
//!  check_headers ──────────────────────────────┐
//!                                              ▼
//!  check_block ──→ raw queue ──→ decode ──→ ready ──→ kernel ──→ on_event(Event)
//!                               (thread)  (bounded)  (thread)
//!  BlockReader::read ─────────────── any thread ───────────────→ Bytes
//! ```
//!
//! - [`lock`]: one node per directory; foreign directories are left alone.
//! - [`Chain::open`]: opens the databases and says what is in them.
//! - [`Chain`]: two plain OS threads; one [`KernelEvent`] per job, in job order per kind.
//! - [`BlockReader`]: blocks and undo data from any thread, with its hazards.
//! - [`Transactions`]: those of an encoded block, and their ids.
//! - [`Keep`], [`Kept`]: which blocks survive the end of the process, and how.
//!
//! # Ordering
//! Jobs are done in the order in which they came, headers and blocks alike. Headers that a
//! block needs go along with it and are given to the kernel once its data was found to
//! belong to its header. What went along with a block that was refused is remembered, up to
//! a bound, for blocks behind it that build on it (`skipped`).
//!
//! # Cost
//! Measured on two cores, fed from memory (`examples/replay.rs`): 32 to 38 µs per
//! empty block, of which the kernel itself takes 30; without the checks on the
//! decode thread 46. Opening takes 20 ms. The kernel formats a log line for each
//! connected block whether or not anybody reads it; only its time stamp is saved.

mod branches;
mod cause_on_disk;
mod chain;
pub mod clock;
mod convert;
mod error;
mod event;
mod keeper;
mod kernel;
mod kernel_log;
mod layout;
mod lock;
mod mutated;
mod open;
mod progress;
mod queue;
mod reader;
mod recent;
mod record;
mod replay;
mod room;
mod skipped;
mod spent;
mod stored;
mod transactions;
mod verdict;
mod worker;

pub use branches::SideHeader;
pub use chain::{Chain, ChainOptions, Queued};
pub use error::{CloseError, OpenError, ReadError};
pub use event::Event;
pub use handfast_verdict::{
    BlockOutcome, Change, ConnId, Keep, Kept, KernelEvent, Reject, RejectKind,
};
pub use lock::{DirLock, lock, look};
pub use open::{InitialChain, STORED_WINDOW};
pub use progress::{Progress, Stand};
pub use reader::BlockReader;
pub use replay::Replay;
pub use spent::SpentOutput;
pub use transactions::Transactions;
