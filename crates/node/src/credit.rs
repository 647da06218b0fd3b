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

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use futures_util::{FutureExt, StreamExt, stream};
    use handfast_wire::RawBlock;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl std::task::Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn block_frame(bytes: usize) -> Frame {
        let genesis =
            bitcoin::consensus::serialize(&handfast_wire::Network::Regtest.genesis_block());
        let block = RawBlock::new(genesis.into()).expect("a block");
        Frame {
            message: Ok(Message::Block(block)),
            kind: None,
            wire_bytes: bytes,
        }
    }

    fn metered(frames: Vec<Frame>, blocks: &Arc<Semaphore>) -> impl Stream<Item = Charged> + Unpin {
        let frames = stream::iter(frames.into_iter().map(Ok::<_, std::io::Error>));
        Metered::new(frames, blocks.clone()).map(|item| item.expect("no errors in this stream"))
    }

    /// The next item, if it is there without waiting.
    fn now<S: Stream + Unpin>(stream: &mut S) -> Option<S::Item> {
        stream.next().now_or_never().flatten()
    }

    #[test]
    fn the_last_frame_may_exceed_the_byte_bound_and_the_next_one_waits() {
        let blocks = Arc::new(Semaphore::new(MAX_BLOCK_BYTES));
        let mut frames = metered(
            (0..4).map(|_| block_frame(MAX_BYTES - 1)).collect(),
            &blocks,
        );
        let first = now(&mut frames).expect("nothing is charged yet");
        let second = now(&mut frames).expect("one byte is left");
        assert!(now(&mut frames).is_none());
        drop((first, second));
        assert!(now(&mut frames).is_some());
    }

    #[test]
    fn a_block_waits_for_the_nodes_budget_and_other_frames_do_not() {
        let blocks = Arc::new(Semaphore::new(100));
        let mut one = metered(vec![block_frame(100)], &blocks);
        let mut other = metered(vec![block_frame(60)], &blocks);
        let ping = Frame {
            message: Ok(Message::Ping(1)),
            kind: None,
            wire_bytes: 32,
        };
        let mut third = metered(vec![ping], &blocks);
        let mut first = now(&mut one).expect("the whole budget is free");
        assert!(now(&mut other).is_none());
        assert!(now(&mut third).is_some());
        let share = first
            .credit
            .take_block_share()
            .expect("a block has a share");
        drop(first);
        assert!(now(&mut other).is_none(), "the kernel still has the block");
        drop(share);
        assert!(now(&mut other).is_some());
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
