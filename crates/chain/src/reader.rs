//! Reading stored blocks, for peers and RPC.

use std::sync::Arc;

use bitcoin::consensus::{self, Encodable};
use bitcoin::{BlockHash, Witness};
use bitcoinkernel::core::{BlockSpentOutputsExt, TransactionSpentOutputsExt};
use bitcoinkernel::{BlockTreeEntry, KernelError};
use bytes::Bytes;

use crate::follow::Follower;
use crate::record::{self, Record};
use crate::spent::{SpentOutput, spent_output};
use crate::worker::Shared;
use crate::{ReadError, convert, kernel_log};

/// How the kernel's log shows the position of an entry that is not on disk.
const NO_PLACE: &str = "FlatFilePos(nFile=-1";

/// Reads blocks and undo data. A cheap handle; clone it freely.
///
/// # Blocking
/// Do not call it on an arbiter. A read takes the kernel's chain lock twice for a moment
/// (to find the index entry, and its position in the files), and the kernel holds that
/// lock while a block connects: tens of milliseconds for a full block, more when several
/// connect at once. Then it reads and decodes the file, which checks the block hash. The
/// blocks stored last are read from memory, without a lock.
///
/// # Closing
/// A handle does not keep the chain open: after [`Chain::close`](crate::Chain::close)
/// every read returns [`ReadError::Closed`]. Closing waits for reads in progress.
#[derive(Clone)]
pub struct BlockReader {
    pub(crate) shared: Arc<Shared>,
}

impl std::fmt::Debug for BlockReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlockReader").finish_non_exhaustive()
    }
}

impl BlockReader {
    /// Follows the active chain from now on.
    pub fn follow(&self) -> Follower {
        self.shared.followers.follow()
    }

    /// The block's encoding, with witness data.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn read(&self, hash: &BlockHash) -> Result<Bytes, ReadError> {
        if let Some(bytes) = self.shared.recent.get(hash) {
            return Ok(bytes);
        }
        self.with_entry(hash, |manager, entry| {
            manager.read_block_data(entry)?.consensus_encode()
        })
        .map(Bytes::from)
    }

    /// The block's encoding without witness data, for peers that do not request it (BIP144).
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn read_stripped(&self, hash: &BlockHash) -> Result<Bytes, ReadError> {
        let bytes = self.read(hash)?;
        strip(&bytes).map_err(|e| ReadError::Io {
            hash: *hash,
            detail: e.to_string(),
        })
    }

    /// The outputs that the block spends: per transaction (without the coinbase),
    /// per input, in the block's order. For fees and `getblock` verbosity 3.
    ///
    /// # Errors
    /// See [`ReadError`]; `NoData` for a block that was never connected.
    pub fn spent_outputs(&self, hash: &BlockHash) -> Result<Vec<Vec<SpentOutput>>, ReadError> {
        self.with_entry(hash, |manager, entry| {
            let undo = manager.read_spent_outputs(entry)?;
            let mut transactions = Vec::with_capacity(undo.count());
            for transaction in undo.iter() {
                transactions.push(transaction.coins().map(|c| spent_output(&c)).collect());
            }
            Ok(transactions)
        })
    }

    /// Calls `read` with the block's index entry, and classifies failures.
    fn with_entry<T>(
        &self,
        hash: &BlockHash,
        read: impl FnOnce(
            &bitcoinkernel::ChainstateManager,
            &BlockTreeEntry<'_>,
        ) -> Result<T, KernelError>,
    ) -> Result<T, ReadError> {
        let kernel = &self.shared.kernel;
        let _reading = kernel.reading();
        let manager = kernel.manager().ok_or(ReadError::Closed)?;
        let (result, record) = record::during(|| {
            let entry = manager.get_block_tree_entry(&convert::kernel_hash(hash));
            entry.map(|entry| read(&manager, &entry))
        });
        match result {
            None => Err(ReadError::Unknown(*hash)),
            Some(Ok(value)) => Ok(value),
            Some(Err(_)) => Err(failure(*hash, &record)),
        }
    }
}

fn failure(hash: BlockHash, record: &Record) -> ReadError {
    if record.log.iter().any(|line| line.contains(NO_PLACE)) {
        return ReadError::NoData(hash);
    }
    // The last error only repeats the failure; the first one is the cause.
    let first = record.log.first();
    let detail = first
        .map_or("no reason given", |line| kernel_log::body(line))
        .to_owned();
    tracing::error!(%hash, "cannot read block: {detail}");
    ReadError::Io { hash, detail }
}

/// Removes the witnesses, one transaction at a time, so that the block is never in memory
/// twice.
fn strip(mut bytes: &[u8]) -> Result<Bytes, consensus::encode::Error> {
    use bitcoin::consensus::Decodable;
    const CANNOT_FAIL: &str = "writing to a Vec cannot fail";

    let mut stripped = Vec::with_capacity(bytes.len());
    let header = bitcoin::block::Header::consensus_decode(&mut bytes)?;
    header.consensus_encode(&mut stripped).expect(CANNOT_FAIL);
    let count = bitcoin::VarInt::consensus_decode(&mut bytes)?;
    count.consensus_encode(&mut stripped).expect(CANNOT_FAIL);
    for _ in 0..count.0 {
        let mut transaction = bitcoin::Transaction::consensus_decode(&mut bytes)?;
        for input in &mut transaction.input {
            input.witness = Witness::new();
        }
        transaction
            .consensus_encode(&mut stripped)
            .expect(CANNOT_FAIL);
    }
    Ok(stripped.into())
}
