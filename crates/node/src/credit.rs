//! Credit: what a remote may have queued with us.
//!
//! Every inbound frame takes credit of its connection and carries it until the
//! frame has been handled, wherever that is. Without credit the connection's
//! stream is not polled, the socket's buffer fills, and TCP pushes back. A block
//! moreover takes its size from one budget of the whole node and keeps it until
//! the kernel has given its verdict: what waits for the kernel is bounded however
//! many peers deliver.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use futures_util::Stream;
use futures_util::task::AtomicWaker;
use handfast_wire::{Frame, Message};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::PollSemaphore;

/// Frames of one connection that may be queued. A peer has at most 16 blocks in
/// flight, so an honest one never comes near.
pub(crate) const MAX_FRAMES: usize = 64;
/// Bytes of one connection that may be queued, not counting the last frame: one
/// block in flight behind a full queue of small messages.
pub(crate) const MAX_BYTES: usize = 8 << 20;
/// Bytes of blocks that may wait for the kernel, all connections together:
/// about a second of validation of full blocks.
pub(crate) const MAX_BLOCK_BYTES: usize = 96 << 20;

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
    fn poll_open(&self, cx: &mut Context<'_>) -> Poll<()> {
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

    fn charge(self: &Arc<Self>, bytes: usize) -> Credit {
        self.frames.fetch_add(1, Ordering::AcqRel);
        self.bytes.fetch_add(bytes, Ordering::AcqRel);
        Credit {
            gate: self.clone(),
            bytes,
            block: None,
        }
    }
}

/// The share of one frame; given back by `Drop`.
#[derive(Debug)]
pub(crate) struct Credit {
    gate: Arc<Gate>,
    bytes: usize,
    block: Option<BlockShare>,
}

/// The share of one block in the node's budget; given back by `Drop`.
pub(crate) type BlockShare = OwnedSemaphorePermit;

impl Credit {
    /// Takes the block's share out, to be kept until the kernel's verdict.
    pub(crate) fn take_block_share(&mut self) -> Option<BlockShare> {
        self.block.take()
    }
}

impl Drop for Credit {
    fn drop(&mut self) {
        let was_shut = !self.gate.is_open();
        self.gate.frames.fetch_sub(1, Ordering::AcqRel);
        self.gate.bytes.fetch_sub(self.bytes, Ordering::AcqRel);
        if was_shut {
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

/// Frames off a socket, each with its credit.
#[derive(Debug)]
pub(crate) struct Metered<S> {
    frames: S,
    gate: Arc<Gate>,
    blocks: PollSemaphore,
    /// A block that waits for its share of the node's budget.
    waiting: Option<(Frame, Credit)>,
}

/// The budget that all connections share for blocks.
pub(crate) fn block_budget() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(MAX_BLOCK_BYTES))
}

impl<S> Metered<S> {
    pub(crate) fn new(frames: S, blocks: Arc<Semaphore>) -> Self {
        Self {
            frames,
            gate: Arc::default(),
            blocks: PollSemaphore::new(blocks),
            waiting: None,
        }
    }
}

impl<S, E> Stream for Metered<S>
where
    S: Stream<Item = Result<Frame, E>> + Unpin,
{
    type Item = Result<Charged, E>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.waiting.is_none() {
            ready!(this.gate.poll_open(cx));
            let frame = match ready!(Pin::new(&mut this.frames).poll_next(cx)) {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            };
            let credit = this.gate.charge(frame.wire_bytes);
            if !matches!(frame.message, Ok(Message::Block(_))) {
                return Poll::Ready(Some(Ok(Charged { frame, credit })));
            }
            this.waiting = Some((frame, credit));
        }
        let bytes = this
            .waiting
            .as_ref()
            .map_or(0, |(frame, _)| frame.wire_bytes.min(MAX_BLOCK_BYTES));
        let bytes = u32::try_from(bytes).expect("the budget fits 32 bits");
        let share = ready!(this.blocks.poll_acquire_many(cx, bytes));
        let (frame, mut credit) = this.waiting.take().expect("set above");
        credit.block = share;
        Poll::Ready(Some(Ok(Charged { frame, credit })))
    }
}
