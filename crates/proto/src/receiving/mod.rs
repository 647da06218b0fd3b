//! Limits on received data: when a socket is read, and how much memory a connection may take.
//!
//! | part | what it bounds |
//! |---|---|
//! | [`Requested`] | answers that a peer may send to our requests |
//! | [`UnaskedRate`] | bytes a second of unsolicited messages of a peer |
//! | [`LargeFrames`] | memory of large frames, over all connections; also of blocks that are sent |
//! | [`queue_limit`] | memory of messages to remotes that do not read |
//!
//! The caller combines them, since none of them reads a socket: a frame of a command that
//! [`Requested`] has outstanding counts against no rate, and takes its memory from the pools of
//! [`LargeFrames`] for requested frames.

mod large_frames;
mod requested;
mod send_queue;
mod unasked_rate;

pub use large_frames::{
    Claim, ClaimId, Event, LargeFrames, MAX_CHOSEN_BYTES, MAX_INBOUND_BYTES, MAX_RETURNED_BYTES,
    MAX_UNASKED_BYTES, Pool, RECHECK, SLOW_UNASKED, SMALL_FRAME,
};
pub use requested::{Requested, answers_large};
pub use send_queue::{LEAST_QUEUED, MOST_QUEUED, SHARED_QUEUED, queue_limit};
pub use unasked_rate::{
    LEAST_UNASKED, MOST_UNASKED, SHARED_UNASKED, UNASKED_BURST, UnaskedRate, unasked_rate,
};
