//! Serving blocks to one remote: read, queue, report.
//!
//! # Memory
//!
//! One batch of a connection is held at a time: up to [`BATCH_BYTES`], or one block that is longer.
//! Beyond [`SMALL_FRAME`] it claims memory of the node ([`handfast_proto::receiving`], like large
//! frames that are received: 16 MB for inbound peers, 40 MB for those that we chose) until its last
//! byte was written. Without free memory it goes to [disk](crate::spill) and is written from there:
//! a slow reader delays no other peer.

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

/// Threads that read blocks for remotes at the same time, for all connections together.
pub(crate) const READERS: usize = 2;
/// Most blocks read at once.
const BATCH: usize = 16;
/// No further block is read in the same batch beyond so many bytes.
const BATCH_BYTES: usize = 256 << 10;

/// Pause before memory or disk space is requested again.
const NO_SPACE_PAUSE: Duration = Duration::from_millis(200);

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

/// The node's services that serving needs.
#[derive(Clone, Debug)]
pub(crate) struct BlockServing {
    pub(crate) reader: Arc<dyn BlockSource>,
    pub(crate) readers: Arc<Semaphore>,
    pub(crate) served: actix::Recipient<Served>,
    /// Memory for blocks that are being sent.
    pub(crate) memory: Arc<LargeFrames>,
    pub(crate) clock: Clock,
}

/// Serves the requests of one connection in order, until it is gone.
///
/// Disk reads and checksums run on a blocking thread. Besides it waits only for this connection's
/// writer: a slow reader delays itself.
///
/// # Cancel safety
/// Dropped with its `Peer`: what was not queued is not sent, and the reports of a connection that
/// is gone are not needed.
pub(crate) async fn serve(
    mut requests: mpsc::UnboundedReceiver<ServeBlock>,
    block_serving: BlockServing,
    remote: Remote,
    outbox: Outbox,
) {
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        if batch.is_empty() && requests.recv_many(&mut batch, BATCH).await == 0 {
            return;
        }
        let Some((read, memory)) = read(&block_serving, remote, &mut batch).await else {
            return;
        };
        let (together, all_written) = Batch::new();
        for (served, block) in read {
            if outbox.send(block, together.clone()).await.is_err() {
                return;
            }
            post_to(&block_serving.served, served);
        }
        drop(together);
        // An error: the batch was not sent, and the sender is dropped with the last block.
        let _ = all_written.await;
        drop(memory);
    }
}

/// Reads some blocks of `batch`, leaves the others in it, and claims memory for them: they go to
/// disk if none is free, and are not read yet if the disk is full too. `None`: the node stops.
async fn read(
    block_serving: &BlockServing,
    remote: Remote,
    batch: &mut Vec<ServeBlock>,
) -> Option<Held> {
    let turn = block_serving.readers.clone().acquire_owned().await.ok()?;
    let reader = block_serving.reader.clone();
    let todo = std::mem::take(batch);
    // The thread holds its turn while it reads, also when the future was dropped.
    let reading = move || (read_batch(&*reader, todo), turn);
    let ((read, mut rest), turn) = tokio::task::spawn_blocking(reading).await.ok()?;
    let block_serving = block_serving.clone();
    let holding = move || (block_serving.hold(remote, read), turn);
    let (held, turn) = tokio::task::spawn_blocking(holding).await.ok()?;
    drop(turn);
    match held {
        Ok(held) => {
            *batch = rest;
            Some(held)
        }
        Err(mut back) => {
            // Read again later: neither the turn nor memory is held meanwhile.
            back.append(&mut rest);
            *batch = back;
            tokio::time::sleep(NO_SPACE_PAUSE).await;
            Some((vec![], None))
        }
    }
}

impl BlockServing {
    /// Stores what was read in memory or on disk. An error returns the requests: both are full now.
    fn hold(&self, remote: Remote, read: Vec<Found>) -> Result<Held, Vec<ServeBlock>> {
        let bytes: usize = read.iter().map(|(_, packet)| packet.payload.len()).sum();
        let Remote { group, pool } = remote;
        let memory = (bytes > SMALL_FRAME)
            .then(|| LargeFrames::claim(&self.memory, self.clock, group, pool, bytes));
        if memory.as_ref().is_none_or(Permit::has_memory) {
            let block = |(request, packet): Found| (served(&request), Block::InMemory(packet));
            return Ok((read.into_iter().map(block).collect(), memory));
        }
        match spill(self.memory.spill(), &read) {
            Ok(read) => Ok((read, None)),
            Err(_) => Err(read.into_iter().map(|(request, _)| request).collect()),
        }
    }
}

/// Writes a batch to disk, one payload after the other.
fn spill(file: &Arc<SpillFile>, read: &[Found]) -> io::Result<Vec<Read>> {
    let slot = Arc::new(file.slot()?);
    let mut offset = 0;
    let mut spilled = Vec::with_capacity(read.len());
    for (request, packet) in read {
        slot.write(offset, &packet.payload)?;
        let block = Spilled {
            head: packet.head,
            slot: slot.clone(),
            offset,
        };
        spilled.push((served(request), Block::OnDisk(block)));
        offset += packet.payload.len();
    }
    Ok(spilled)
}

/// A request, and the block that was read for it.
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

/// Reads requests from the front until [`BATCH_BYTES`]; returns the remaining ones too.
fn read_batch(
    reader: &dyn BlockSource,
    requests: Vec<ServeBlock>,
) -> (Vec<Found>, Vec<ServeBlock>) {
    let mut done = Vec::with_capacity(requests.len());
    let mut bytes = 0;
    let mut requests = requests.into_iter();
    while bytes < BATCH_BYTES
        && let Some(request) = requests.next()
    {
        let packet = read_one(reader, &request).unwrap_or_else(|error| {
            // The block was on disk when it was requested: a local error.
            tracing::warn!(block = %request.hash, peer = request.id.0, %error, "cannot serve a block");
            not_found(&request)
        });
        bytes += packet.payload.len();
        done.push((request, packet));
    }
    (done, requests.collect())
}

/// Lets the remote request the block elsewhere. Core disconnects instead of answering for a block
/// that it cannot read.
fn not_found(request: &ServeBlock) -> Packet {
    let item = match request.witness {
        true => Inventory::WitnessBlock(request.hash),
        false => Inventory::Block(request.hash),
    };
    Message::NotFound(vec![item]).packet()
}

fn read_one(reader: &dyn BlockSource, request: &ServeBlock) -> Result<Packet, ReadError> {
    let bytes = reader.read(&request.hash, request.witness)?;
    let block = RawBlock::new(bytes).map_err(|error| ReadError::Io {
        hash: request.hash,
        detail: error.to_string(),
    })?;
    Ok(Message::Block(block).packet())
}
