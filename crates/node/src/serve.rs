//! Serving blocks to one remote: read, wait for room, queue, report.

use std::sync::Arc;

use bitcoin::BlockHash;
use bitcoin::p2p::Magic;
use bytes::Bytes;
use handfast_chain::{BlockReader, ReadError};
use handfast_proto::lifecycle::ConnId;
use handfast_wire::{Encoded, Message, RawBlock};
use tokio::sync::{Semaphore, mpsc};

use crate::mail::{ServeBlock, Served, post_to};
use crate::outbox::Outbox;

/// Threads that read blocks for remotes at the same time, all connections together.
pub(crate) const READERS: usize = 2;
/// Blocks read in one go, when that many are asked for.
const BATCH: usize = 16;
/// No further block is read in the same go once this much was, bytes.
const BATCH_BYTES: usize = 1 << 20;

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
}

/// Serves the orders of one connection in their order, until it is gone.
///
/// Disk reads and checksums run on a blocking thread. The only thing waited for
/// besides is room in this connection's queue: a slow reader delays itself.
///
/// # Cancel safety
/// Dropped with its `Peer`: what was not queued is not sent, and nobody waits
/// for the reports of a connection that is gone.
pub(crate) async fn serve(
    mut orders: mpsc::UnboundedReceiver<ServeBlock>,
    library: Library,
    id: ConnId,
    outbox: Outbox,
) {
    let mut batch = Vec::with_capacity(BATCH);
    while orders.recv_many(&mut batch, BATCH).await > 0 {
        while !batch.is_empty() {
            let Ok(turn) = library.readers.clone().acquire_owned().await else {
                return;
            };
            let (reader, magic) = (library.reader.clone(), library.magic);
            let todo = std::mem::take(&mut batch);
            let read = move || {
                let read = read_batch(&*reader, magic, todo);
                drop(turn);
                read
            };
            let Ok((read, rest)) = tokio::task::spawn_blocking(read).await else {
                return;
            };
            batch = rest;
            for (ticket, frame) in read {
                if let Some(frame) = frame
                    && outbox.send(frame).await.is_err()
                {
                    return;
                }
                post_to(&library.served, Served { id, ticket });
            }
        }
    }
}

type Read = (u64, Option<Encoded>);

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
        let frame = read(reader, magic, &order).inspect_err(|error| {
            // The order was for a block that is on disk: our own trouble.
            tracing::warn!(block = %order.hash, peer = order.id.0, %error, "cannot serve a block");
        });
        bytes += frame.as_ref().map_or(0, Encoded::len);
        done.push((order.ticket, frame.ok()));
    }
    (done, orders.collect())
}

fn read(reader: &dyn BlockSource, magic: Magic, order: &ServeBlock) -> Result<Encoded, ReadError> {
    let bytes = reader.read(&order.hash, order.witness)?;
    let block = RawBlock::new(bytes).map_err(|error| ReadError::Io {
        hash: order.hash,
        detail: error.to_string(),
    })?;
    Ok(Message::Block(block).encode(magic))
}
