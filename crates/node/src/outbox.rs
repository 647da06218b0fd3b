//! Sending to a remote: a bounded queue and the future that writes it.
//!
//! Messages are bounded by number and by bytes ([`queue_limit`]); their senders (the managers, the
//! session) may not wait, and get an error when the queue is full: the remote reads too slowly and
//! is disconnected. Blocks are bounded by the future that serves them: it queues the next ones when
//! these were written ([`crate::serve`]).

use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Buf, Bytes, BytesMut};
use handfast_proto::receiving::{Requested, queue_limit};
use handfast_wire::{Exchange, HEADER_BYTES, Kind, Message, Packet, PacketHead, Transport};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};

use crate::clock::Clock;
use crate::spill::{PIECE, SpillSlot};
use crate::stats::Counters;

/// Most messages queued for one remote.
pub(crate) const MAX_MESSAGES: usize = 1_000;
/// Small messages are written together up to this size, bytes.
const BATCH_BYTES: usize = 64 << 10;

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
    /// A block whose checksum was computed off the arbiter.
    Packet(Packet, Arc<Batch>),
    /// The same, on disk.
    Spilled(Spilled, Arc<Batch>),
}

/// A packet whose payload is on disk until it is written.
#[derive(Debug)]
pub(crate) struct Spilled {
    /// The packet without its payload.
    pub(crate) head: PacketHead,
    /// The file slot of the payload, together with others of its batch.
    pub(crate) slot: Arc<SpillSlot>,
    /// Where it begins in the slot.
    pub(crate) offset: usize,
}

/// The form in which a block is queued.
#[derive(Debug)]
pub(crate) enum Block {
    InMemory(Packet),
    OnDisk(Spilled),
}

/// Boxed: the channel allocates 32 entries per connection.
#[derive(Debug)]
struct Outgoing {
    content: Content,
    /// Its share of the queue's limit, returned when it was written.
    share: Share,
}

/// Bytes of queued messages: to one remote, and to all.
#[derive(Clone, Debug, Default)]
struct Queued {
    here: Arc<AtomicUsize>,
    all: Arc<AtomicUsize>,
}

/// The share of one message in [`Queued`]; returned by `Drop`.
#[derive(Debug)]
struct Share {
    queued: Queued,
    bytes: usize,
}

impl Queued {
    /// A share for a message, unless too much is queued. An empty queue takes a message of any
    /// length: frames have a separate limit.
    fn take(&self, bytes: usize) -> Result<Share, Full> {
        let bytes = bytes.saturating_add(HEADER_BYTES);
        let here = self.here.load(Ordering::Relaxed);
        let limit = queue_limit(self.all.load(Ordering::Relaxed));
        if here > 0 && here.saturating_add(bytes) > limit {
            return Err(Full);
        }
        Ok(self.share(bytes))
    }

    fn share(&self, bytes: usize) -> Share {
        self.here.fetch_add(bytes, Ordering::Relaxed);
        self.all.fetch_add(bytes, Ordering::Relaxed);
        Share {
            queued: self.clone(),
            bytes,
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.queued.here.fetch_sub(self.bytes, Ordering::Relaxed);
        self.queued.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Blocks that were queued together, until the last of them was written.
#[derive(Debug)]
pub(crate) struct Batch {
    _all_written: oneshot::Sender<()>,
}

impl Batch {
    /// A batch, and a receiver that resolves when all was written, or with an error when nothing is
    /// sent.
    pub(crate) fn new() -> (Arc<Self>, oneshot::Receiver<()>) {
        let (all_written, wait) = oneshot::channel();
        let batch = Self {
            _all_written: all_written,
        };
        (Arc::new(batch), wait)
    }
}

/// Requests to one connection that are not answered. Clones share one record.
#[derive(Clone, Debug, Default)]
pub(crate) struct Expected(Arc<Mutex<Requested>>);

impl Expected {
    fn lock(&self) -> MutexGuard<'_, Requested> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records a message that is about to be sent; takes the lock for requests only.
    fn sent(&self, message: &Message) {
        if message.kind().map(Kind::exchange) == Some(Exchange::Request) {
            self.lock().sent(message);
        }
    }

    /// Whether a frame of this command would be an answer.
    pub(crate) fn expects(&self, kind: Kind) -> bool {
        self.lock().expects(kind)
    }

    /// A message was received. Returns whether it is an answer.
    pub(crate) fn received(&self, message: &Message) -> bool {
        let answers = message.kind().map(Kind::exchange) == Some(Exchange::Answer);
        answers && self.lock().received(message)
    }
}

impl Expected {
    /// A frame of this command was malformed: it was not the answer, and no better one will come.
    pub(crate) fn malformed(&self, kind: Option<Kind>) {
        if let Some(kind) = kind {
            self.lock().malformed(kind);
        }
    }
}

/// The sending end of one connection's queue.
#[derive(Clone, Debug)]
pub(crate) struct Outbox {
    queue: mpsc::Sender<Box<Outgoing>>,
    queued: Queued,
    expected: Expected,
}

/// The writer's end.
#[derive(Debug)]
pub(crate) struct Outlet(mpsc::Receiver<Box<Outgoing>>);

/// Bytes of messages queued to all remotes of a node.
#[derive(Clone, Debug, Default)]
pub(crate) struct QueuedToAll(Arc<AtomicUsize>);

/// A queue; `all` is the counter that the node's queues share.
pub(crate) fn outbox(all: &QueuedToAll) -> (Outbox, Outlet) {
    let (queue, outlet) = mpsc::channel(MAX_MESSAGES);
    let queued = Queued {
        here: Arc::default(),
        all: all.0.clone(),
    };
    let outbox = Outbox {
        queue,
        queued,
        expected: Expected::default(),
    };
    (outbox, Outlet(outlet))
}

impl Outbox {
    /// Queues `message`, unless a bound is reached. A closed connection accepts everything: its end
    /// is being reported already.
    pub(crate) fn push(&self, message: Message) -> Result<(), Full> {
        let share = self.queued.take(message.heap_size())?;
        self.expected.sent(&message);
        self.try_push(Content::Message(message), share)
    }

    /// The requests that were sent through this queue.
    pub(crate) fn expected(&self) -> Expected {
        self.expected.clone()
    }

    /// The same for any bytes.
    pub(crate) fn push_packet(&self, packet: Packet) -> Result<(), Full> {
        let share = self.queued.take(packet.payload.len())?;
        let (batch, _) = Batch::new();
        self.try_push(Content::Packet(packet, batch), share)
    }

    fn try_push(&self, content: Content, share: Share) -> Result<(), Full> {
        match self.queue.try_send(Box::new(Outgoing { content, share })) {
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => Err(Full),
        }
    }

    /// Queues a block of `batch`, when the number of messages allows it. Its bytes are counted by
    /// [`crate::serve`], and not here.
    ///
    /// # Cancel safety
    /// When dropped, the block is either queued whole or not at all.
    pub(crate) async fn send(&self, block: Block, batch: Arc<Batch>) -> Result<(), Closed> {
        let outgoing = Box::new(Outgoing {
            content: match block {
                Block::InMemory(block) => Content::Packet(block, batch),
                Block::OnDisk(block) => Content::Spilled(block, batch),
            },
            share: self.queued.share(0),
        });
        self.queue.send(outgoing).await.map_err(|_| Closed)
    }
}

/// Writes what is queued until the socket fails or every [`Outbox`] is gone.
///
/// # Cancel safety
/// Dropped in the middle of a frame when the connection ends; queued messages are lost then.
pub(crate) async fn write_queue<W>(
    mut outlet: Outlet,
    mut socket: W,
    mut transport: Transport,
    clock: Clock,
    counters: Arc<Counters>,
) -> io::Result<()>
where
    W: AsyncWrite + Unpin,
{
    // Of each message: its kind, its bytes, and its share of the queue's limit.
    let mut written: Vec<(Option<Kind>, usize, Share)> = Vec::new();
    while let Some(first) = outlet.0.recv().await {
        // No buffer is held between rounds: an idle connection has none.
        let mut small = BytesMut::new();
        let mut next = Some(first);
        let mut packet = None;
        let mut spilled = None;
        while let Some(outgoing) = next.take() {
            let Outgoing { content, share } = *outgoing;
            match content {
                Content::Message(message) => {
                    let before = small.len();
                    transport.frame(&message, &mut small);
                    written.push((message.kind(), small.len() - before, share));
                }
                Content::Packet(this, batch) => {
                    let bytes = transport.wire_bytes(this.payload.len());
                    written.push((this.head.kind(), bytes, share));
                    packet = Some((transport.frame_packet(this, &mut small), batch));
                }
                Content::Spilled(this, batch) => {
                    let bytes = transport.wire_bytes(this.head.payload_len());
                    written.push((this.head.kind(), bytes, share));
                    transport.frame_head(&this.head, &mut small);
                    spilled = Some((this, batch));
                }
            }
            if packet.is_none() && spilled.is_none() && small.len() < BATCH_BYTES {
                next = outlet.0.try_recv().ok();
            }
        }
        let (payload, _batch) = packet.unzip();
        let parts = [small.freeze(), payload.unwrap_or_default()];
        write_all(&mut socket, parts, &counters).await?;
        if let Some((packet, _batch)) = spilled {
            write_spilled(&mut socket, packet, &counters).await?;
        }
        let unix = clock.now().unix;
        for (kind, bytes, _) in written.drain(..) {
            counters.sent(kind, bytes, unix);
        }
    }
    Ok(())
}

/// Writes all parts in order with as few system calls as the socket takes.
async fn write_all<W: AsyncWrite + Unpin>(
    socket: &mut W,
    mut parts: [Bytes; 2],
    counters: &Counters,
) -> io::Result<()> {
    while parts.iter().any(|part| !part.is_empty()) {
        let slices = parts.each_ref().map(|part| IoSlice::new(part));
        let mut written = socket.write_vectored(&slices).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        counters.wrote(written);
        for part in &mut parts {
            let of_this = written.min(part.len());
            part.advance(of_this);
            written -= of_this;
        }
    }
    socket.flush().await
}

/// Writes a payload from disk, a piece at a time.
async fn write_spilled<W: AsyncWrite + Unpin>(
    socket: &mut W,
    packet: Spilled,
    counters: &Counters,
) -> io::Result<()> {
    let Spilled { head, slot, offset } = packet;
    let end = offset + head.payload_len();
    let mut at = offset;
    while at < end {
        let (from, len) = (slot.clone(), PIECE.min(end - at));
        let piece = tokio::task::spawn_blocking(move || from.read(at, len)).await;
        let piece = piece.map_err(io::Error::other)??;
        write_all(socket, [piece.into(), Bytes::new()], counters).await?;
        at += len;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;
    use handfast_proto::receiving::{LEAST_QUEUED, SHARED_QUEUED};
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
            let (outbox, outlet) = outbox(&QueuedToAll::default());
            let counters = Arc::new(Counters::new(Arc::default(), None));
            let mut sent = Vec::new();
            for nonce in 0..20 {
                outbox
                    .push(Message::Ping(nonce))
                    .expect("the queue is empty");
                outbox
                    .send(
                        Block::InMemory(Message::Block(block()).packet()),
                        Batch::new().0,
                    )
                    .await
                    .expect("the queue has space");
                sent.extend([Message::Ping(nonce), Message::Block(block())]);
            }
            drop(outbox);
            let v1 = Transport::v1(magic);
            let writer = write_queue(outlet, ours, v1, Clock::start(), counters.clone());
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
            assert_eq!(traffic.sent, bytes as u64);
            let commands: Vec<_> = traffic.bytes_sent.rows().map(|(name, _)| name).collect();
            assert_eq!(commands, ["ping", "block"]);
        });
    }

    #[test]
    fn a_remote_may_have_much_queued_while_others_have_little_and_otherwise_the_minimum() {
        let headers = || Message::Headers(vec![Network::Regtest.genesis_block().header; 2_000]);
        let all = QueuedToAll::default();
        let fill = |outbox: &Outbox| {
            (0..100)
                .take_while(|_| outbox.push(headers()).is_ok())
                .count()
        };
        let (first, first_outlet) = outbox(&all);
        assert_eq!(fill(&first), 11, "of 2 MiB, less its own bytes");
        let others: Vec<_> = (0..160).map(|_| outbox(&all)).collect();
        let queued: Vec<usize> = others.iter().map(|(outbox, _)| fill(outbox)).collect();
        assert_eq!(queued.last(), Some(&(LEAST_QUEUED / 160_024)));
        let bytes = all.0.load(Ordering::Relaxed);
        assert!(bytes <= SHARED_QUEUED + 161 * LEAST_QUEUED, "{bytes}");
        drop((others, first_outlet, first));
        assert_eq!(
            all.0.load(Ordering::Relaxed),
            0,
            "all shares are given back"
        );
    }

    #[test]
    fn a_message_of_any_length_is_accepted_by_an_empty_queue() {
        let all = QueuedToAll::default();
        all.0.store(usize::MAX / 2, Ordering::Relaxed);
        let (outbox, mut outlet) = outbox(&all);
        let nothing = bitcoin::p2p::message_blockdata::Inventory::Error;
        let long = || Message::NotFound(vec![nothing; 50_000]);
        assert_eq!(outbox.push(long()), Ok(()));
        assert_eq!(outbox.push(Message::Verack), Err(Full));
        drop(outlet.0.try_recv().expect("it was queued"));
        assert_eq!(outbox.push(Message::Verack), Ok(()));
    }

    #[test]
    fn a_batch_of_blocks_reports_when_its_last_byte_was_written() {
        crate::virtual_time::run(async {
            let magic = Network::Regtest.magic();
            let (ours, theirs) = tokio::io::duplex(1_000);
            let (outbox, outlet) = outbox(&QueuedToAll::default());
            let counters = Arc::new(Counters::new(Arc::default(), None));
            let v1 = Transport::v1(magic);
            let writer = write_queue(outlet, ours, v1, Clock::start(), counters);
            let writer = actix_rt::spawn(writer);
            let (batch, mut all_written) = Batch::new();
            let packet = Message::Block(block()).packet();
            for _ in 0..10 {
                outbox
                    .send(Block::InMemory(packet.clone()), batch.clone())
                    .await
                    .expect("the connection is open");
            }
            drop(batch);
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            assert!(
                all_written
                    .try_recv()
                    .is_err_and(|e| e == oneshot::error::TryRecvError::Empty)
            );
            let reader = FramedRead::new(theirs, Codec::new(magic));
            let read = actix_rt::spawn(reader.take(10).collect::<Vec<_>>());
            // The sender is dropped with the last block.
            assert!(all_written.await.is_err());
            assert_eq!(read.await.expect("no panic").len(), 10);
            writer.abort();
        });
    }
}
