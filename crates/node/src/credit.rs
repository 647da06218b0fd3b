//! Credit: what a remote may have queued with us.
//!
//! Every inbound frame takes credit of its connection and carries it until the
//! frame has been handled, wherever that is. Without credit the connection's
//! socket is not read ([`crate::frame_reader`]), its buffer fills, and TCP pushes back.
//! A block moreover takes its size from one budget of the whole node and keeps it until
//! the kernel has given its verdict: what waits for the kernel is bounded however
//! many peers deliver. Any other large frame keeps its permit of
//! [`crate::large_frames`] until it was handled.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;
use handfast_wire::Frame;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::large_frames::Permit;

/// Frames of one connection that may be queued. A peer has at most 16 blocks in
/// flight, so an honest one never comes near.
pub(crate) const MAX_FRAMES: usize = 64;
/// Bytes of one connection that may be queued, not counting the last frame. So of large
/// frames there is one at most, whose memory is counted over all connections
/// ([`crate::large_frames`], and the budget for blocks).
pub(crate) const MAX_BYTES: usize = 64 << 10;
/// Bytes of blocks that may wait for the kernel, all connections together: eight full
/// blocks, most of a second of validation.
pub(crate) const MAX_BLOCK_BYTES: usize = 32 << 20;

const _: () = assert!(MAX_BLOCK_BYTES >= 2 * handfast_wire::limits::MAX_PAYLOAD_BYTES);

/// What one connection has queued.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    frames: AtomicUsize,
    bytes: AtomicUsize,
    /// The connection's stream, when it waits.
    reader: AtomicWaker,
}

impl Gate {
    fn is_open(&self) -> bool {
        self.frames.load(Ordering::Acquire) < MAX_FRAMES
            && self.bytes.load(Ordering::Acquire) < MAX_BYTES
    }

    /// Ready when one more frame may be taken off the socket.
    pub(crate) fn poll_open(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_open() {
            return Poll::Ready(());
        }
        self.reader.register(cx.waker());
        // Credit may have come back between the look and the registration.
        if self.is_open() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    pub(crate) fn charge(self: &Arc<Self>, bytes: usize) -> Credit {
        self.frames.fetch_add(1, Ordering::AcqRel);
        self.bytes.fetch_add(bytes, Ordering::AcqRel);
        Credit {
            gate: self.clone(),
            bytes,
            block: Mutex::default(),
            permit: None,
        }
    }
}

/// The share of one frame; given back by `Drop`.
#[derive(Debug)]
pub(crate) struct Credit {
    gate: Arc<Gate>,
    bytes: usize,
    /// Taken out by the receiver that gives the block to the kernel.
    block: Mutex<Option<BlockShare>>,
    /// Of a large frame that is no block.
    permit: Option<Permit>,
}

/// The share of one block in the node's budget; given back by `Drop`.
pub(crate) type BlockShare = OwnedSemaphorePermit;

impl Credit {
    /// The same credit, with the memory of a large frame until that was handled.
    pub(crate) fn with_permit(mut self, permit: Option<Permit>) -> Self {
        self.permit = permit;
        self
    }

    /// The same credit, with the share of a block.
    pub(crate) fn with_block_share(mut self, share: Option<BlockShare>) -> Self {
        self.block = Mutex::new(share);
        self
    }

    /// Takes the block's share out, to be held until the kernel's verdict.
    pub(crate) fn take_block_share(&self) -> Option<BlockShare> {
        let mut share = self.block.lock().unwrap_or_else(PoisonError::into_inner);
        share.take()
    }
}

impl Drop for Credit {
    fn drop(&mut self) {
        self.gate.frames.fetch_sub(1, Ordering::AcqRel);
        self.gate.bytes.fetch_sub(self.bytes, Ordering::AcqRel);
        // Judged after it came back, whether or not the gate was shut before: the reader may
        // have charged another frame and gone to wait in between, on its own thread, and
        // nothing else would wake it. Costs next to nothing while none waits.
        if self.gate.is_open() {
            self.gate.reader.wake();
        }
    }
}

/// A frame and its credit.
#[derive(Debug)]
pub(crate) struct Charged {
    pub(crate) frame: Frame,
    pub(crate) credit: Credit,
}

/// The budget that all connections share for blocks.
pub(crate) fn block_budget() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(MAX_BLOCK_BYTES))
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl std::task::Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn the_last_frame_may_exceed_the_byte_bound_and_the_next_one_waits() {
        let gate = Arc::<Gate>::default();
        let mut context = Context::from_waker(Waker::noop());
        let first = gate.charge(MAX_BYTES - 1);
        assert!(gate.poll_open(&mut context).is_ready(), "one byte is left");
        let second = gate.charge(4_000_000);
        assert!(gate.poll_open(&mut context).is_pending());
        drop((first, second));
        assert!(gate.poll_open(&mut context).is_ready());
    }

    #[test]
    fn a_reader_that_waits_is_woken_by_the_first_credit_that_comes_home() {
        let gate = Arc::<Gate>::default();
        let mut held: Vec<Credit> = (0..MAX_FRAMES).map(|_| gate.charge(1)).collect();
        let woken = Arc::new(Count::default());
        let waker = Waker::from(woken.clone());
        let mut context = Context::from_waker(&waker);
        assert!(gate.poll_open(&mut context).is_pending());
        drop(held.pop());
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        assert!(
            gate.poll_open(&mut Context::from_waker(Waker::noop()))
                .is_ready()
        );
    }
}
