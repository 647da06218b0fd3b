//! The way down to a remote: a bounded queue and the future that writes it.
//!
//! Two bounds, messages and bytes. Whoever may not wait (the managers, the
//! session) pushes and learns that the queue is full: the remote reads too
//! slowly and is disconnected. Whoever may wait (the future that serves blocks)
//! waits for room, and only for that one remote.

use std::io::{self, IoSlice};
use std::sync::Arc;

use bitcoin::p2p::Magic;
use bytes::{Buf, Bytes, BytesMut};
use handfast_wire::{Encoded, HEADER_BYTES, Kind, Message};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::clock::Clock;
use crate::stats::Counters;

/// Messages queued for one remote at most.
pub(crate) const MAX_MESSAGES: usize = 1_000;
/// Bytes queued for one remote at most: a full block and ten full `headers` messages.
pub(crate) const MAX_BYTES: usize = 6 << 20;
/// Small messages are written together up to this size, bytes.
const BATCH_BYTES: usize = 64 << 10;

const _: () = assert!(MAX_BYTES > handfast_wire::limits::MAX_PAYLOAD_BYTES + HEADER_BYTES);

/// The queue is full: the remote does not read what we send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the send queue is full")]
pub(crate) struct Full;

/// The connection is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the connection is closed")]
pub(crate) struct Closed;

#[derive(Debug)]
enum Content {
    Message(Message),
    /// A block, its checksum computed off the arbiter.
    Encoded(Encoded),
}

/// Boxed: the channel keeps room for 32 entries per connection.
#[derive(Debug)]
struct Outgoing {
    content: Content,
    /// Its share of the byte budget, given back when it was written.
    _room: OwnedSemaphorePermit,
}

/// The sending end of one connection's queue.
#[derive(Clone, Debug)]
pub(crate) struct Outbox {
    queue: mpsc::Sender<Box<Outgoing>>,
    room: Arc<Semaphore>,
}

/// The end that the writer empties.
#[derive(Debug)]
pub(crate) struct Outlet(mpsc::Receiver<Box<Outgoing>>);

pub(crate) fn outbox() -> (Outbox, Outlet) {
    let (queue, outlet) = mpsc::channel(MAX_MESSAGES);
    (
        Outbox {
            queue,
            room: Arc::new(Semaphore::new(MAX_BYTES)),
        },
        Outlet(outlet),
    )
}

/// The share of `bytes` of a message in the budget; at least a frame header, at
/// most the whole budget.
fn share(bytes: usize) -> u32 {
    let bytes = bytes.saturating_add(HEADER_BYTES).min(MAX_BYTES);
    u32::try_from(bytes).expect("the budget fits 32 bits")
}

impl Outbox {
    /// Queues `message`, unless one of the bounds is reached. A closed connection
    /// takes everything: its end is being reported already.
    pub(crate) fn push(&self, message: Message) -> Result<(), Full> {
        let bytes = message.heap_size();
        self.try_push(Content::Message(message), bytes)
    }

    /// The same for a frame that is written as it is.
    pub(crate) fn push_frame(&self, frame: Encoded) -> Result<(), Full> {
        let bytes = frame.len();
        self.try_push(Content::Encoded(frame), bytes)
    }

    fn try_push(&self, content: Content, bytes: usize) -> Result<(), Full> {
        let room = self.room.clone().try_acquire_many_owned(share(bytes));
        let Ok(room) = room else { return Err(Full) };
        let outgoing = Box::new(Outgoing {
            content,
            _room: room,
        });
        match self.queue.try_send(outgoing) {
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => Err(Full),
        }
    }

    /// Waits for room, then queues a frame.
    ///
    /// # Cancel safety
    /// When dropped, the frame is either queued whole or not at all.
    pub(crate) async fn send(&self, encoded: Encoded) -> Result<(), Closed> {
        let room = self
            .room
            .clone()
            .acquire_many_owned(share(encoded.len()))
            .await
            .map_err(|_| Closed)?;
        let outgoing = Box::new(Outgoing {
            content: Content::Encoded(encoded),
            _room: room,
        });
        self.queue.send(outgoing).await.map_err(|_| Closed)
    }
}

/// Writes what is queued until the socket fails or every [`Outbox`] is gone.
///
/// # Cancel safety
/// Dropped in the middle of a frame when the connection ends; what is queued is
/// lost then, as the remote is not owed it.
pub(crate) async fn write_queue<W>(
    mut outlet: Outlet,
    mut socket: W,
    magic: Magic,
    clock: Clock,
    counters: Arc<Counters>,
) -> io::Result<()>
where
    W: AsyncWrite + Unpin,
{
    // Of each message of the batch: its kind, its bytes, and its share of the budget.
    let mut batch: Vec<(Option<Kind>, usize, OwnedSemaphorePermit)> = Vec::new();
    while let Some(first) = outlet.0.recv().await {
        // Nothing is kept between batches: an idle connection holds no buffer.
        let mut small = BytesMut::new();
        let mut next = Some(first);
        let mut block = None;
        while let Some(outgoing) = next.take() {
            let Outgoing { content, _room } = *outgoing;
            match content {
                Content::Message(message) => {
                    let before = small.len();
                    message.encode_into(magic, &mut small);
                    batch.push((message.kind(), small.len() - before, _room));
                }
                Content::Encoded(encoded) => {
                    batch.push((encoded.kind, encoded.len(), _room));
                    block = Some(encoded);
                }
            }
            if block.is_none() && small.len() < BATCH_BYTES {
                next = outlet.0.try_recv().ok();
            }
        }
        let [head, body] = block.map_or_else(Default::default, Encoded::into_parts);
        write_all(&mut socket, [small.freeze(), head, body]).await?;
        let unix = clock.now().unix;
        for (kind, bytes, _) in batch.drain(..) {
            counters.sent(kind, bytes, unix);
        }
    }
    Ok(())
}

/// Writes all parts in order with as few system calls as the socket takes.
async fn write_all<W: AsyncWrite + Unpin>(socket: &mut W, mut parts: [Bytes; 3]) -> io::Result<()> {
    while parts.iter().any(|part| !part.is_empty()) {
        let slices = parts.each_ref().map(|part| IoSlice::new(part));
        let mut written = socket.write_vectored(&slices).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        for part in &mut parts {
            let of_this = written.min(part.len());
            part.advance(of_this);
            written -= of_this;
        }
    }
    socket.flush().await
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, StreamExt};
    use handfast_wire::{Codec, Network, RawBlock};
    use tokio_util::codec::FramedRead;

    use super::*;

    fn block() -> RawBlock {
        let genesis = bitcoin::consensus::serialize(&Network::Regtest.genesis_block());
        RawBlock::new(genesis.into()).expect("a block")
    }

    #[test]
    fn what_was_queued_is_written_in_order_even_a_byte_at_a_time() {
        crate::virtual_time::run(async {
            let magic = Network::Regtest.magic();
            let (ours, theirs) = tokio::io::duplex(1);
            let (outbox, outlet) = outbox();
            let counters = Arc::new(Counters::new(Arc::default(), None));
            let mut sent = Vec::new();
            for nonce in 0..20 {
                outbox.push(Message::Ping(nonce)).expect("there is room");
                outbox
                    .send(Message::Block(block()).encode(magic))
                    .await
                    .expect("there is room");
                sent.extend([Message::Ping(nonce), Message::Block(block())]);
            }
            drop(outbox);
            let writer = write_queue(outlet, ours, magic, Clock::start(), counters.clone());
            let reader =
                FramedRead::new(theirs, Codec::new(magic)).map(|frame| frame.expect("well-formed"));
            let (written, read) = tokio::join!(writer, reader.collect::<Vec<_>>());
            written.expect("the stream takes everything");
            let bytes: usize = read.iter().map(|frame| frame.wire_bytes).sum();
            let read: Vec<_> = read
                .into_iter()
                .map(|frame| frame.message.expect("intact"))
                .collect();
            assert_eq!(read, sent);
            let traffic = counters.read(std::time::Duration::ZERO);
            assert_eq!(
                (traffic.messages_sent, traffic.bytes_sent.sum()),
                (40, bytes as u64)
            );
            let commands: Vec<_> = traffic.bytes_sent.rows().map(|(name, _)| name).collect();
            assert_eq!(commands, ["ping", "block"]);
        });
    }

    #[test]
    fn a_block_waits_for_room_where_a_message_is_refused() {
        let (outbox, mut outlet) = outbox();
        let big = Encoded {
            kind: None,
            head: Bytes::new(),
            body: vec![0; MAX_BYTES].into(),
        };
        assert_eq!(outbox.send(big.clone()).now_or_never(), Some(Ok(())));
        assert_eq!(outbox.push(Message::Verack), Err(Full));
        assert_eq!(outbox.send(big).now_or_never(), None);
        drop(outlet.0.try_recv().expect("it was queued"));
        assert_eq!(outbox.push(Message::Verack), Ok(()));
    }
}
