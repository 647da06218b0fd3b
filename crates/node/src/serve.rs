//! Serving blocks to one remote: read, wait for memory, queue, report.
//!
//! # Memory
//!
//! One batch of a connection is in memory at a time: up to [`BATCH_BYTES`], or one block
//! that is longer. Beyond [`SMALL_FRAME`] it holds a permit of the node
//! ([`handfast_proto::receiving`], as large frames do that are received: 16 MB for
//! inbound peers, 40 MB for those that we chose, 32 MB for those that the operator named) until its last byte was written. A
//! remote that does not read loses its connection when others wait for the memory, and
//! only then.

use std::sync::Arc;

use bitcoin::BlockHash;
use bitcoin::p2p::Magic;
use bitcoin::p2p::message_blockdata::Inventory;
use bytes::Bytes;
use handfast_chain::{BlockReader, ReadError};
use handfast_proto::lifecycle::ConnId;
use handfast_proto::receiving::SMALL_FRAME;
use handfast_wire::{Encoded, Message, RawBlock};
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::clock::Clock;
use crate::frame_reader::Remote;
use crate::large_frames::{LargeFrames, Permit};
use crate::mail::{ServeBlock, Served, post_to};
use crate::outbox::{Batch, Outbox};

/// Threads that read blocks for remotes at the same time, all connections together.
pub(crate) const READERS: usize = 2;
/// Blocks read in one go, when that many are asked for.
const BATCH: usize = 16;
/// No further block is read in the same go once this much was, bytes.
const BATCH_BYTES: usize = 256 << 10;

/// Where blocks are read from. Blocks its thread.
pub(crate) trait BlockSource: Send + Sync + std::fmt::Debug {
    fn read(&self, hash: &BlockHash, witness: bool) -> Result<Bytes, ReadError>;
}

impl BlockSource for BlockReader {
    fn read(&self, hash: &BlockHash, witness: bool) -> Result<Bytes, ReadError> {
        if witness {
            Self::read(self, hash)
        } else {
            self.read_stripped(hash)
        }
    }
}

/// What serving needs of the node.
#[derive(Clone, Debug)]
pub(crate) struct Library {
    pub(crate) reader: Arc<dyn BlockSource>,
    pub(crate) readers: Arc<Semaphore>,
    pub(crate) magic: Magic,
    pub(crate) served: actix::Recipient<Served>,
    /// Memory for blocks that are being sent.
    pub(crate) memory: Arc<LargeFrames>,
    pub(crate) clock: Clock,
}

/// The remote does not read, and others wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SlowReader;

/// A batch that was queued, until it was written.
#[derive(Debug)]
struct Sending {
    permit: Option<Permit>,
    all_written: oneshot::Receiver<()>,
}

impl Sending {
    /// Waits until all of it was written.
    ///
    /// # Cancel safety
    /// May be dropped and called again.
    async fn written(&mut self) -> Result<(), SlowReader> {
        let Self {
            permit,
            all_written,
        } = self;
        let lost = async {
            match permit {
                Some(permit) => permit.lost().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            _ = all_written => Ok(()),
            () = lost => Err(SlowReader),
        }
    }
}

/// Serves the orders of one connection in their order, until it is gone.
///
/// Disk reads and checksums run on a blocking thread. The only things waited for
/// besides are this connection's writer, and memory: a slow reader delays itself.
///
/// # Errors
/// The remote does not read what others wait for: its connection must end.
///
/// # Cancel safety
/// Dropped with its `Peer`: what was not queued is not sent, and nobody waits
/// for the reports of a connection that is gone.
pub(crate) async fn serve(
    mut orders: mpsc::UnboundedReceiver<ServeBlock>,
    library: Library,
    remote: Remote,
    outbox: Outbox,
) -> Result<(), SlowReader> {
    let mut batch = Vec::with_capacity(BATCH);
    let mut sending: Option<Sending> = None;
    loop {
        // What is being sent is minded while there is nothing to do.
        while let Some(current) = &mut sending {
            if batch.is_empty() {
                tokio::select! {
                    biased;
                    written = current.written() => written?,
                    count = orders.recv_many(&mut batch, BATCH) => {
                        if count == 0 {
                            return Ok(());
                        }
                        continue;
                    }
                }
            } else {
                current.written().await?;
            }
            sending = None;
        }
        if batch.is_empty() && orders.recv_many(&mut batch, BATCH).await == 0 {
            return Ok(());
        }
        let Some((read, permit)) = read(&library, remote, &mut batch).await else {
            return Ok(());
        };
        let (together, all_written) = Batch::new(permit.as_ref().map(Permit::meter));
        for (id, ticket, frame) in read {
            if outbox.send(frame, together.clone()).await.is_err() {
                return Ok(());
            }
            post_to(&library.served, Served { id, ticket });
        }
        sending = Some(Sending {
            permit,
            all_written,
        });
    }
}

/// Reads some blocks of `batch`, which keeps the others, and takes memory for them.
/// `None`: the node ends.
///
/// The turn to read is kept until there is memory: what was read and has none is
/// bounded by the turns.
async fn read(
    library: &Library,
    remote: Remote,
    batch: &mut Vec<ServeBlock>,
) -> Option<(Vec<Read>, Option<Permit>)> {
    let turn = library.readers.clone().acquire_owned().await.ok()?;
    let (reader, magic) = (library.reader.clone(), library.magic);
    let todo = std::mem::take(batch);
    // The turn is the thread's while it reads, also when nobody waits for it any more.
    let reading = move || (read_batch(&*reader, magic, todo), turn);
    let ((read, rest), turn) = tokio::task::spawn_blocking(reading).await.ok()?;
    *batch = rest;
    let bytes: usize = read.iter().map(|(_, _, frame)| frame.len()).sum();
    let permit = if bytes > SMALL_FRAME {
        let Remote { group, pool } = remote;
        let mut permit = LargeFrames::claim(&library.memory, library.clock, group, pool, bytes);
        // Lost is what was granted before.
        permit.granted().await.ok()?;
        Some(permit)
    } else {
        None
    };
    drop(turn);
    Some((read, permit))
}

type Read = (ConnId, u64, Encoded);

/// Reads orders from the front until [`BATCH_BYTES`]; returns those not looked at too.
fn read_batch(
    reader: &dyn BlockSource,
    magic: Magic,
    orders: Vec<ServeBlock>,
) -> (Vec<Read>, Vec<ServeBlock>) {
    let mut done = Vec::with_capacity(orders.len());
    let mut bytes = 0;
    let mut orders = orders.into_iter();
    while bytes < BATCH_BYTES
        && let Some(order) = orders.next()
    {
        let frame = read_one(reader, magic, &order).unwrap_or_else(|error| {
            // The order was for a block that is on disk: our own trouble.
            tracing::warn!(block = %order.hash, peer = order.id.0, %error, "cannot serve a block");
            not_found(magic, &order)
        });
        bytes += frame.len();
        done.push((order.id, order.ticket, frame));
    }
    (done, orders.collect())
}

/// Tells the remote to ask somebody else. Core, which says nothing of a block that it cannot
/// read, ends the connection.
fn not_found(magic: Magic, order: &ServeBlock) -> Encoded {
    let item = match order.witness {
        true => Inventory::WitnessBlock(order.hash),
        false => Inventory::Block(order.hash),
    };
    Message::NotFound(vec![item]).encode(magic)
}

fn read_one(
    reader: &dyn BlockSource,
    magic: Magic,
    order: &ServeBlock,
) -> Result<Encoded, ReadError> {
    let bytes = reader.read(&order.hash, order.witness)?;
    let block = RawBlock::new(bytes).map_err(|error| ReadError::Io {
        hash: order.hash,
        detail: error.to_string(),
    })?;
    Ok(Message::Block(block).encode(magic))
}
