//! Serving blocks to one remote: read, queue, report.
//!
//! # Memory
//!
//! One batch of a connection is held at a time: up to [`BATCH_BYTES`], or one block that is
//! longer. Beyond [`SMALL_FRAME`] it claims memory of the node
//! ([`handfast_proto::receiving`], as large frames do that are received: 16 MB for
//! inbound peers, 40 MB for those that we chose) until its last byte was written. When
//! there is none, it goes to [disk](crate::spill) and is written from there: how fast a
//! remote reads delays nobody but itself.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bitcoin::BlockHash;
use bitcoin::p2p::message_blockdata::Inventory;
use bytes::Bytes;
use handfast_chain::{BlockReader, ReadError};
use handfast_proto::receiving::SMALL_FRAME;
use handfast_wire::{Message, Packet, RawBlock};
use tokio::sync::{Semaphore, mpsc};

use crate::clock::Clock;
use crate::frame_reader::Remote;
use crate::large_frames::{LargeFrames, Permit};
use crate::outbox::{Batch, Block, Outbox, Spilled};
use crate::peer::messages::ServeBlock;
use crate::peer_manager::messages::Served;
use crate::post::post_to;
use crate::spill::SpillFile;

/// Threads that read blocks for remotes at the same time, all connections together.
pub(crate) const READERS: usize = 2;
/// Blocks read in one go, when that many are asked for.
const BATCH: usize = 16;
/// No further block is read in the same go once this much was, bytes.
const BATCH_BYTES: usize = 256 << 10;

/// Before room for what was read is looked for again.
const NO_ROOM_PAUSE: Duration = Duration::from_millis(200);

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
    pub(crate) served: actix::Recipient<Served>,
    /// Memory for blocks that are being sent.
    pub(crate) memory: Arc<LargeFrames>,
    pub(crate) clock: Clock,
}

/// Serves the orders of one connection in their order, until it is gone.
///
/// Disk reads and checksums run on a blocking thread. The only thing waited for besides is
/// this connection's writer: a slow reader delays itself.
///
/// # Cancel safety
/// Dropped with its `Peer`: what was not queued is not sent, and nobody waits
/// for the reports of a connection that is gone.
pub(crate) async fn serve(
    mut orders: mpsc::UnboundedReceiver<ServeBlock>,
    library: Library,
    remote: Remote,
    outbox: Outbox,
) {
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        if batch.is_empty() && orders.recv_many(&mut batch, BATCH).await == 0 {
            return;
        }
        let Some((read, memory)) = read(&library, remote, &mut batch).await else {
            return;
        };
        let (together, all_written) = Batch::new();
        for (served, block) in read {
            if outbox.send(block, together.clone()).await.is_err() {
                return;
            }
            post_to(&library.served, served);
        }
        drop(together);
        // An error: nothing is ever sent, and the sender is gone with the last block.
        let _ = all_written.await;
        drop(memory);
    }
}

/// Reads some blocks of `batch`, which keeps the others, and claims memory for them: they
/// are on disk if there is none, and not read yet if there is no room there. `None`: the node
/// ends.
async fn read(library: &Library, remote: Remote, batch: &mut Vec<ServeBlock>) -> Option<Held> {
    let turn = library.readers.clone().acquire_owned().await.ok()?;
    let reader = library.reader.clone();
    let todo = std::mem::take(batch);
    // The turn is the thread's while it reads, also when nobody waits for it any more.
    let reading = move || (read_batch(&*reader, todo), turn);
    let ((read, mut rest), turn) = tokio::task::spawn_blocking(reading).await.ok()?;
    let library = library.clone();
    let holding = move || (library.hold(remote, read), turn);
    let (held, turn) = tokio::task::spawn_blocking(holding).await.ok()?;
    drop(turn);
    match held {
        Ok(held) => {
            *batch = rest;
            Some(held)
        }
        Err(mut back) => {
            // Read again later: neither the turn nor memory is kept from others meanwhile.
            back.append(&mut rest);
            *batch = back;
            tokio::time::sleep(NO_ROOM_PAUSE).await;
            Some((vec![], None))
        }
    }
}

impl Library {
    /// Finds room for what was read: in memory, or on disk. An error gives the orders back:
    /// there is neither now.
    fn hold(&self, remote: Remote, read: Vec<Found>) -> Result<Held, Vec<ServeBlock>> {
        let bytes: usize = read.iter().map(|(_, packet)| packet.payload.len()).sum();
        let Remote { group, pool } = remote;
        let memory = (bytes > SMALL_FRAME)
            .then(|| LargeFrames::claim(&self.memory, self.clock, group, pool, bytes));
        if memory.as_ref().is_none_or(Permit::has_memory) {
            let block = |(order, packet): Found| (served(&order), Block::InMemory(packet));
            return Ok((read.into_iter().map(block).collect(), memory));
        }
        match spill(self.memory.spill(), &read) {
            Ok(read) => Ok((read, None)),
            Err(_) => Err(read.into_iter().map(|(order, _)| order).collect()),
        }
    }
}

/// Writes a batch to disk, one payload behind the other.
fn spill(file: &Arc<SpillFile>, read: &[Found]) -> io::Result<Vec<Read>> {
    let place = Arc::new(file.place()?);
    let mut offset = 0;
    let mut spilled = Vec::with_capacity(read.len());
    for (order, packet) in read {
        place.write(offset, &packet.payload)?;
        let block = Spilled {
            head: packet.head,
            place: place.clone(),
            offset,
        };
        spilled.push((served(order), Block::OnDisk(block)));
        offset += packet.payload.len();
    }
    Ok(spilled)
}

/// What was read for an order.
type Found = (ServeBlock, Packet);
/// What is sent, and the memory that it holds.
type Held = (Vec<Read>, Option<Permit>);
type Read = (Served, Block);

/// The report on an order once it has ended.
fn served(order: &ServeBlock) -> Served {
    Served {
        from: order.from,
        id: order.id,
        ticket: order.ticket,
    }
}

/// Reads orders from the front until [`BATCH_BYTES`]; returns those not looked at too.
fn read_batch(reader: &dyn BlockSource, orders: Vec<ServeBlock>) -> (Vec<Found>, Vec<ServeBlock>) {
    let mut done = Vec::with_capacity(orders.len());
    let mut bytes = 0;
    let mut orders = orders.into_iter();
    while bytes < BATCH_BYTES
        && let Some(order) = orders.next()
    {
        let packet = read_one(reader, &order).unwrap_or_else(|error| {
            // The order was for a block that is on disk: our own trouble.
            tracing::warn!(block = %order.hash, peer = order.id.0, %error, "cannot serve a block");
            not_found(&order)
        });
        bytes += packet.payload.len();
        done.push((order, packet));
    }
    (done, orders.collect())
}

/// Tells the remote to ask somebody else. Core, which says nothing of a block that it cannot
/// read, ends the connection.
fn not_found(order: &ServeBlock) -> Packet {
    let item = match order.witness {
        true => Inventory::WitnessBlock(order.hash),
        false => Inventory::Block(order.hash),
    };
    Message::NotFound(vec![item]).packet()
}

fn read_one(reader: &dyn BlockSource, order: &ServeBlock) -> Result<Packet, ReadError> {
    let bytes = reader.read(&order.hash, order.witness)?;
    let block = RawBlock::new(bytes).map_err(|error| ReadError::Io {
        hash: order.hash,
        detail: error.to_string(),
    })?;
    Ok(Message::Block(block).packet())
}
