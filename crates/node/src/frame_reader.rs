//! Reads the frames of one connection, within its limits.
//!
//! The checks before each read, and what happens when one fails:
//!
//! | question | bound | when it fails |
//! |---|---|---|
//! | has the connection credit? | [`crate::credit`] | its socket is not read |
//! | is it within its rate of unsolicited messages? | [`UnaskedRate`] | the same |
//! | may it send a large frame? | [`crate::large_frames`] | the same; its header was read. A requested frame never waits: without memory it goes to [disk](crate::spill) |
//! | is its turn over? | [`TURN`] | others of this thread run first |
//!
//! No frame is dropped by these limits: TCP makes the remote wait. Only a remote that exceeded its
//! rate and closed is disconnected with the rest unread, since it would keep its slot otherwise
//! ([`crate::peer_socket`]).
//!
//! # Turns
//!
//! A turn ends by the work it has caused, not by a number of frames: after one costly message, half
//! a megabyte, or hundreds of small messages, whatever comes first. The connection is polled again
//! when every other ready connection had its turn.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use futures_util::Stream;
use handfast_proto::address_book::Group;
use handfast_proto::fair_queue::{TURN, cost};
use handfast_proto::receiving::{Pool, SMALL_FRAME, UnaskedRate, answers_large, unasked_rate};
use handfast_wire::frame::MIN_READ_AHEAD;
use handfast_wire::{Codec, CodecError, Frame, HEADER_BYTES, Kind, Message};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;
use tokio_util::sync::PollSemaphore;

use crate::clock::Clock;
use crate::credit::{Charged, Credit, Gate, MAX_BLOCK_BYTES};
use crate::large_frames::{Destination, LargeFrames, Lost, Permit};
use crate::outbox::Expected;
use crate::stats::Counters;
use spilled::{Received, Spilled};

/// Bytes whose reading and hashing is a unit of [`cost`].
const BYTES_PER_UNIT: usize = 1_024;

/// How often a paused socket is checked for a remote that closed.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Bytes read at a time: half a turn.
const MAX_READ: usize = 256 << 10;

/// Why a connection yields no more frames.
#[derive(Debug)]
pub(crate) enum ReadError {
    /// The remote broke the format, or the socket failed.
    Codec(CodecError),
    /// Its large unsolicited frame held memory that others waited for.
    SlowSender,
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Codec(error.into())
    }
}

/// Limits that the connections of a node share for reading.
#[derive(Clone, Debug)]
pub(crate) struct Shares {
    /// Memory for large frames.
    pub(crate) large: Arc<LargeFrames>,
    /// Memory for blocks that wait for the kernel.
    pub(crate) blocks: Arc<Semaphore>,
    /// Connections that exceeded their burst.
    pub(crate) exceeding: Exceeding,
    pub(crate) clock: Clock,
}

/// Number of connections that are paused because they sent too many unsolicited messages.
#[derive(Clone, Debug, Default)]
pub(crate) struct Exceeding(Arc<AtomicUsize>);

/// Counts one connection until it is dropped.
#[derive(Debug)]
struct Exceeds(Exceeding);

impl Exceeding {
    fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    fn one_more(&self) -> Exceeds {
        self.0.fetch_add(1, Ordering::Relaxed);
        Exceeds(self.clone())
    }
}

impl Drop for Exceeds {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The remote that sends these frames.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Remote {
    pub(crate) group: Group,
    /// The memory pool of large frames that we requested.
    pub(crate) pool: Pool,
}

/// A block that waits for its share of the node's budget.
#[derive(Debug)]
struct WaitingBlock {
    frame: Frame,
    credit: Credit,
    /// Its memory, until the share is granted.
    permit: Option<Permit>,
    /// The share, if it was granted already.
    share: Option<Option<OwnedSemaphorePermit>>,
}

/// The stream of frames. See the module.
#[derive(Debug)]
pub(crate) struct FrameReader<R> {
    socket: R,
    codec: Codec,
    buffer: BytesMut,
    at_end: bool,
    gate: Arc<Gate>,
    expected: Expected,
    rate: UnaskedRate,
    exceeds: Option<Exceeds>,
    remote: Remote,
    shares: Shares,
    counters: Arc<Counters>,
    blocks: PollSemaphore,
    /// The memory of the large frame that is being received.
    permit: Option<Permit>,
    /// The same frame, while it is on disk.
    spilled: Option<Spilled>,
    /// Of a block: its share of the node's budget, if it was acquired already.
    share: Option<Option<OwnedSemaphorePermit>>,
    block: Option<WaitingBlock>,
    /// Ends when `rate` allows the next read.
    pause: Option<Pin<Box<Sleep>>>,
    /// Work of this turn, in units of [`cost`].
    turn: u64,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub(crate) fn new(
        socket: R,
        codec: Codec,
        remote: Remote,
        expected: Expected,
        shares: Shares,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            socket,
            codec,
            buffer: BytesMut::with_capacity(MIN_READ_AHEAD),
            at_end: false,
            gate: Arc::default(),
            expected,
            rate: UnaskedRate::default(),
            exceeds: None,
            remote,
            blocks: PollSemaphore::new(shares.blocks.clone()),
            shares,
            counters,
            permit: None,
            spilled: None,
            share: None,
            block: None,
            pause: None,
            turn: 0,
        }
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Charged, ReadError>>> {
        loop {
            if self.turn >= TURN {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if self.block.is_some() {
                return self.poll_block(cx).map(|charged| Some(Ok(charged)));
            }
            // A frame that has begun is read to its end: its missing bytes depend on the remote,
            // not on our credit.
            if self.codec.payload().is_none() {
                ready!(self.gate.poll_open(cx));
            }
            match self.codec.next_frame(&mut self.buffer) {
                Ok(Some(frame)) => match self.charge(frame) {
                    Some(charged) => return Poll::Ready(Some(Ok(charged))),
                    // A block waits for its share.
                    None => continue,
                },
                Ok(None) => {}
                Err(error) => return Poll::Ready(Some(Err(ReadError::Codec(error.into())))),
            }
            if self.at_end {
                return Poll::Ready(None);
            }
            ready!(self.poll_rate(cx));
            if self.at_end {
                // The rest of the stream exceeds the rate of unsolicited messages.
                return Poll::Ready(None);
            }
            let destination = match ready!(self.poll_destination(cx)) {
                Ok(destination) => destination,
                Err(Lost) => return Poll::Ready(Some(Err(ReadError::SlowSender))),
            };
            let read = match destination {
                Destination::Memory => ready!(self.poll_socket(cx)),
                Destination::Disk => ready!(self.poll_spilled(cx)),
            };
            if let Err(error) = read {
                return Poll::Ready(Some(Err(error.into())));
            }
        }
    }

    /// Reads from the socket into the buffer.
    fn poll_socket(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut space = (&mut self.buffer).limit(MAX_READ);
        // The future has no state between polls: it may be created for each poll.
        let read = pin!(self.socket.read_buf(&mut space));
        match ready!(read.poll(cx))? {
            0 => self.at_end = true,
            read => self.received(read),
        }
        Poll::Ready(Ok(()))
    }

    /// Continues a frame that is received to disk.
    fn poll_spilled(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some((kind, payload)) = self.codec.payload() else {
            self.spilled = None;
            return Poll::Ready(Ok(()));
        };
        let missing = payload.saturating_sub(self.buffer.len());
        let spill = self.shares.large.spill();
        let spilled = self
            .spilled
            .get_or_insert_with(|| Spilled::new(spill.clone(), missing));
        if !spilled.is_complete() {
            match ready!(spilled.poll_receive(cx, &mut self.socket))? {
                Received::Bytes(read) => self.received(read),
                Received::Closed => self.at_end = true,
                Received::All => {}
                Received::NoSpace => self.spilled = None,
            }
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_memory_of_whole(cx, kind, payload));
        if let Some(spilled) = &mut self.spilled {
            let read = ready!(spilled.poll_return(cx, &mut self.buffer))?;
            self.turn += units(read);
        }
        self.spilled.take_if(|spilled| spilled.is_returned());
        Poll::Ready(Ok(()))
    }

    /// Ready when there is memory for a complete frame: its share of the budget for blocks, so that
    /// it keeps no other frame waiting while the kernel is busy, or one of [`Pool::Returned`].
    fn poll_memory_of_whole(
        &mut self,
        cx: &mut Context<'_>,
        kind: Kind,
        payload: usize,
    ) -> Poll<()> {
        if kind == Kind::Block {
            if self.share.is_none() {
                let bytes = block_share(payload + HEADER_BYTES);
                self.share = Some(ready!(self.blocks.poll_acquire_many(cx, bytes)));
            }
            return Poll::Ready(());
        }
        let Remote { group, .. } = self.remote;
        let permit = self.permit.get_or_insert_with(|| {
            let (large, clock) = (&self.shares.large, self.shares.clock);
            LargeFrames::claim(large, clock, group, Pool::Returned, payload)
        });
        // A complete frame is not revoked: it depends on no remote any more.
        permit.poll_granted(cx, payload).map(|_| ())
    }

    fn received(&mut self, bytes: usize) {
        self.turn += units(bytes);
        let unix = self.shares.clock.now().unix;
        self.counters.read_bytes(bytes, unix);
    }

    /// Takes credit for a complete frame. `None`: it is a block.
    fn charge(&mut self, frame: Frame) -> Option<Charged> {
        let message = frame.message.as_ref().ok();
        self.turn += 2 + message.map_or(0, cost);
        let asked = match message {
            Some(message) => self.expected.received(message),
            None => {
                self.expected.malformed(frame.kind);
                false
            }
        };
        if !asked {
            self.rate
                .received(self.shares.clock.now(), frame.wire_bytes);
        }
        let permit = self.permit.take();
        if let Some(permit) = &permit {
            permit.complete();
        }
        let share = self.share.take();
        let credit = self.gate.charge(frame.wire_bytes);
        if matches!(frame.message, Ok(Message::Block(_))) {
            self.block = Some(WaitingBlock {
                frame,
                credit,
                permit,
                share,
            });
            return None;
        }
        let credit = credit.with_permit(permit);
        Some(Charged { frame, credit })
    }

    fn poll_block(&mut self, cx: &mut Context<'_>) -> Poll<Charged> {
        let block = self.block.as_mut().expect("checked by the caller");
        let share = match block.share.take() {
            Some(share) => share,
            None => {
                let bytes = block_share(block.frame.wire_bytes);
                ready!(self.blocks.poll_acquire_many(cx, bytes))
            }
        };
        let block = self.block.take().expect("checked by the caller");
        // From here on it counts as a block that waits for the kernel.
        drop(block.permit);
        Poll::Ready(Charged {
            frame: block.frame,
            credit: block.credit.with_block_share(share),
        })
    }

    /// Ready when the connection is within its rate of unsolicited messages, or the remote has
    /// closed meanwhile.
    fn poll_rate(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let clock = self.shares.clock;
        while let Some(until) = self.rate.pauses_until(clock.now()) {
            let exceeding = &self.shares.exceeding;
            self.exceeds.get_or_insert_with(|| exceeding.one_more());
            let now = clock.now();
            self.rate.set_rate(now, unasked_rate(exceeding.count()));
            let until = until.min(now.mono + LOOK_EVERY);
            let pause = self
                .pause
                .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(clock.instant(until))));
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
            let mut nothing = ReadBuf::new(&mut []);
            let looked = Pin::new(&mut self.socket).poll_read(cx, &mut nothing);
            if let Poll::Ready(Err(_)) = looked {
                self.at_end = true;
                break;
            }
        }
        self.pause = None;
        self.exceeds = None;
        Poll::Ready(())
    }

    /// Ready when the frame that is being received may be read on, as far as its length goes;
    /// returns whether to memory or disk.
    fn poll_destination(&mut self, cx: &mut Context<'_>) -> Poll<Result<Destination, Lost>> {
        if self.spilled.is_some() {
            return Poll::Ready(Ok(Destination::Disk));
        }
        let Some((kind, bytes)) = self.codec.payload().filter(|(_, len)| *len > SMALL_FRAME) else {
            return Poll::Ready(Ok(Destination::Memory));
        };
        let pool = self.pool(kind);
        let permit = self.permit.get_or_insert_with(|| {
            let Remote { group, .. } = self.remote;
            LargeFrames::claim(&self.shares.large, self.shares.clock, group, pool, bytes)
        });
        let destination = ready!(permit.poll_granted(cx, self.buffer.len()));
        if destination == Ok(Destination::Disk) {
            self.permit = None;
        }
        Poll::Ready(destination)
    }

    fn pool(&self, kind: Kind) -> Pool {
        if answers_large(kind) && self.expected.expects(kind) {
            self.remote.pool
        } else {
            Pool::Unasked
        }
    }
}

/// The share of the node's budget that a block of so many bytes takes.
fn block_share(bytes: usize) -> u32 {
    u32::try_from(bytes.min(MAX_BLOCK_BYTES)).unwrap_or(u32::MAX)
}

fn units(bytes: usize) -> u64 {
    u64::try_from(bytes.div_ceil(BYTES_PER_UNIT)).unwrap_or(TURN)
}

impl<R: AsyncRead + Unpin> Stream for FrameReader<R> {
    type Item = Result<Charged, ReadError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let polled = this.poll_frame(cx);
        if polled.is_pending() {
            this.turn = 0;
        }
        polled
    }
}

mod spilled;
#[cfg(test)]
mod tests;
