//! Consensus: the only user of `bitcoinkernel`, Bitcoin Core's validation engine
//! as a library. Handfast has no consensus rules of its own; this crate submits headers and
//! blocks to the kernel, reports its verdicts and reads blocks back.
//!
//! ```text
//!  check_headers ──────────────────────────────┐
//!                                              ▼
//!  check_block ──→ raw queue ──→ decode ──→ ready ──→ kernel ──→ on_event(Event)
//!                               (thread)  (bounded)  (thread)
//!  BlockReader::read ─────────────── any thread ───────────────→ Bytes
//! ```
//!
//! - [`lock`]: one node per directory; foreign directories are not touched.
//! - [`Chain::open`]: opens the databases and returns what is in them.
//! - [`Chain`]: two plain OS threads; one [`KernelEvent`] per job, in job order per kind.
//! - [`Follower`]: how the active chain moves, with the blocks, for any number of consumers.
//! - [`BlockReader`]: reads blocks and undo data on any thread.
//! - [`Transactions`]: the transactions of an encoded block, and their ids.
//! - [`Persist`], [`Durability`]: which blocks are to be durable, and which are.
//!
//! # Ordering
//! Jobs are done in the order of their submission, headers and blocks alike. Headers that a
//! block needs are submitted with it, and the kernel gets them after the block's data was
//! found to match its header. Headers of a refused block are stored, up to a bound, for queued
//! blocks that build on it (`skipped`).
//!
//! # Cost
//! Measured on two cores, with blocks from memory (`examples/replay.rs`): 32 to 38 µs per
//! empty block, of which the kernel itself takes 30; without the checks on the
//! decode thread 46. Opening takes 20 ms. The kernel formats a log line for each
//! connected block even if it is not read; only its time stamp can be switched off.

mod block_journal;
mod block_key;
mod branches;
mod cause_on_disk;
mod chain;
pub mod clock;
mod convert;
mod disk_space;
mod error;
mod event;
mod follow;
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
pub use follow::{ActiveBlock, ChainNews, Follower, MAX_WAITING, Move};
pub use handfast_verdict::{
    BlockOutcome, Change, ConnId, Durability, KernelEvent, Persist, Reject, RejectKind,
};
pub use lock::{DirLock, check_lockable, lock};
pub use open::{InitialChain, STORED_WINDOW};
pub use progress::{Progress, TipInfo};
pub use reader::BlockReader;
pub use replay::Replay;
pub use spent::SpentOutput;
pub use transactions::Transactions;
