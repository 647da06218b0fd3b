//! An index that follows a chain, step by step.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard};

use bitcoin::consensus::deserialize;
use bitcoin::{Block, BlockHash};
use bytes::Bytes;
use handfast_chain::{BlockReader, ReadError, Transactions};

use crate::resume::{ActiveChain, resume};
use crate::store::{IndexedBlock, Location, Store, StoreError, Subject};

/// Entries of one write, except those of its last block: some 4 MB of memory.
const MAX_ENTRIES: usize = 20_000;
/// Blocks of one write.
const MAX_BLOCKS: usize = 2_000;

/// The kind of an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Transactions by their ids, except that of genesis. Core `TxIndex`.
    Transactions,
    /// Transactions by the outputs that they spend. Core `TxoSpenderIndex`.
    Spenders,
}

impl Kind {
    /// The entries of an encoded block; `None`: the bytes are not a block.
    fn entries(self, bytes: &[u8]) -> Option<Vec<(Subject, u32)>> {
        match self {
            Kind::Transactions => {
                let all = Transactions::of(bytes)?;
                let ids = all.ids().map(Subject::Transaction);
                Some(ids.zip(0..).collect())
            }
            Kind::Spenders => {
                let block: Block = deserialize(bytes).ok()?;
                // The coinbase spends no output.
                let spending = block.txdata.iter().zip(0..).skip(1);
                let inputs = spending.flat_map(|(transaction, position)| {
                    let inputs = transaction.input.iter();
                    inputs.map(move |input| (Subject::Spender(input.previous_output), position))
                });
                Some(inputs.collect())
            }
        }
    }
}

/// The source of blocks.
pub trait Blocks {
    /// The block's encoding.
    ///
    /// # Errors
    /// Why it cannot be read.
    fn read(&self, hash: &BlockHash) -> Result<Bytes, ReadError>;
}

impl Blocks for BlockReader {
    fn read(&self, hash: &BlockHash) -> Result<Bytes, ReadError> {
        BlockReader::read(self, hash)
    }
}

/// An error of a step, which can be retried.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The database failed.
    #[error("the index {}: {source}", dir.display())]
    Store {
        /// Its directory.
        dir: PathBuf,
        /// The cause.
        source: StoreError,
    },
    /// A block cannot be read.
    #[error(transparent)]
    Block(#[from] ReadError),
    /// The stored bytes are not a block.
    #[error("block {0} on disk is damaged")]
    NoBlock(BlockHash),
}

/// The progress of an index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IndexProgress {
    /// It has reached the tip since the start. From then on it is at most a moment behind. Core
    /// `BaseIndex::m_synced`.
    pub synced: bool,
    /// The height up to which the active chain is indexed.
    pub height: u32,
    /// The block at this height; `None` for genesis, whose transaction is not indexed.
    pub block: Option<BlockHash>,
}

/// The result of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The chain has more blocks.
    More,
    /// The chain is indexed to its tip.
    AtTip,
}

/// See the module. Any number of threads may use it, one of them advances it.
#[derive(Debug)]
pub struct Index {
    kind: Kind,
    dir: PathBuf,
    /// `None`: not opened yet, or closed after a failure. Locked for writing only to open and
    /// close it: the directory must not be moved while the database is in use.
    store: RwLock<Option<Store>>,
    /// A lookup found damage.
    damaged: AtomicBool,
    progress: Mutex<IndexProgress>,
}

impl Index {
    /// An index in the directory `dir`, which is not opened yet.
    #[must_use]
    pub fn new(kind: Kind, dir: PathBuf) -> Self {
        Self {
            kind,
            dir,
            store: RwLock::default(),
            damaged: AtomicBool::new(false),
            progress: Mutex::default(),
        }
    }

    /// Its progress. Never waits for the disk.
    pub fn progress(&self) -> IndexProgress {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where `subject` is, as [`Store::find`] returns it; an incomplete index may lack it.
    ///
    /// # Errors
    /// The database's.
    pub fn find(&self, subject: &Subject) -> Result<Vec<Location>, IndexError> {
        let store = self.open_store();
        let found = match store.as_ref() {
            Some(store) => store.find(subject),
            // The database was closed after a failure: an empty answer could be wrong.
            None if self.progress().synced => Err(StoreError::Closed),
            None => Ok(vec![]),
        };
        found.map_err(|error| {
            if matches!(error, StoreError::Damaged(_)) {
                self.damaged.store(true, Ordering::Relaxed);
            }
            self.failed(error)
        })
    }

    /// Indexes the next blocks of `chain`, as many as one write takes, until `stop` returns
    /// true. Opens the database first if it is closed; a damaged one is quarantined and built
    /// again.
    ///
    /// # Blocking
    /// Reads blocks and writes, for some tenths of a second.
    ///
    /// # Errors
    /// See [`IndexError`]. The database is closed then, and opened by the next call.
    pub fn advance(
        &self,
        chain: &impl ActiveChain,
        blocks: &impl Blocks,
        stop: &impl Fn() -> bool,
    ) -> Result<Step, IndexError> {
        let step = match self.damaged.swap(false, Ordering::Relaxed) {
            true => Err(self.failed(StoreError::Damaged("a lookup failed".into()))),
            false => self.step(chain, blocks, stop),
        };
        match step {
            Err(IndexError::Store { source, .. }) => {
                self.close();
                match source {
                    StoreError::Damaged(why) => self.quarantine(&why).map(|()| Step::More),
                    source => Err(self.failed(source)),
                }
            }
            other => other,
        }
    }

    /// Syncs and closes the database. The next step opens it again.
    pub fn close(&self) {
        let mut store = self.store.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(Err(error)) = store.take().map(|store| store.sync()) {
            tracing::debug!("the index {} was not synced: {error}", self.dir.display());
        }
    }

    fn step(
        &self,
        chain: &impl ActiveChain,
        blocks: &impl Blocks,
        stop: &impl Fn() -> bool,
    ) -> Result<Step, IndexError> {
        self.open().map_err(|error| self.failed(error))?;
        let store = self.open_store();
        let Some(store) = store.as_ref() else {
            return Ok(Step::More);
        };
        let last = store.last().map_err(|error| self.failed(error))?;
        let next = resume(chain, last, |number| store.block(number));
        let next = next.map_err(|error| self.failed(error))?;
        let batch = self.collect(chain, blocks, next, stop)?;
        if !batch.is_empty() {
            store.append(&batch).map_err(|error| self.failed(error))?;
        }
        let indexed = batch.last().map_or(next - 1, |last| last.height);
        let height = indexed.min(chain.tip_height());
        let at_tip = height == chain.tip_height();
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        *progress = IndexProgress {
            synced: progress.synced || at_tip,
            height,
            block: chain.at_height(height).filter(|_| height > 0),
        };
        Ok(if at_tip { Step::AtTip } else { Step::More })
    }

    /// Collects the blocks of one write, from height `next` on.
    fn collect(
        &self,
        chain: &impl ActiveChain,
        blocks: &impl Blocks,
        next: u32,
        stop: &impl Fn() -> bool,
    ) -> Result<Vec<IndexedBlock>, IndexError> {
        let (mut batch, mut count) = (vec![], 0);
        for height in next..=chain.tip_height() {
            if stop() || count >= MAX_ENTRIES || batch.len() >= MAX_BLOCKS {
                break;
            }
            let Some(hash) = chain.at_height(height) else {
                break;
            };
            let bytes = blocks.read(&hash)?;
            let entries = self.kind.entries(&bytes);
            let entries = entries.ok_or(IndexError::NoBlock(hash))?;
            count += entries.len();
            batch.push(IndexedBlock {
                hash,
                height,
                entries,
            });
        }
        Ok(batch)
    }

    fn open(&self) -> Result<(), StoreError> {
        let mut store = self.store.write().unwrap_or_else(PoisonError::into_inner);
        if store.is_none() {
            if !self.dir.exists() {
                self.make()?;
            }
            *store = Some(Store::open(&self.dir)?);
        }
        Ok(())
    }

    /// Creates an empty database. It gets its name once it is complete: a partial one, after the
    /// process ended or the disk was full, would look damaged.
    fn make(&self) -> Result<(), StoreError> {
        let new = with_suffix(&self.dir, "new");
        remove_all(&new)?;
        fs::create_dir_all(&new)?;
        let made = Store::open(&new).and_then(|store| store.sync());
        made.map_err(|error| match error {
            // The database is new: quarantining it and creating another would loop for ever.
            StoreError::Damaged(why) => StoreError::Io {
                source: io::Error::other(why),
            },
            error => error,
        })?;
        Ok(fs::rename(new, &self.dir)?)
    }

    fn open_store(&self) -> RwLockReadGuard<'_, Option<Store>> {
        self.store.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Quarantines the closed database. An earlier quarantined one is removed: it can be as large as
    /// the chain's undo data, and has nothing that is not in the blocks.
    fn quarantine(&self, why: &str) -> Result<(), IndexError> {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner) = IndexProgress::default();
        let to = with_suffix(&self.dir, "damaged");
        let moved = remove_all(&to).and_then(|()| fs::rename(&self.dir, &to));
        moved.map_err(|source| self.failed(StoreError::Io { source }))?;
        tracing::error!(
            quarantined = %to.display(),
            "the index {} is damaged ({why}): it was quarantined, where you may remove it, and is built again",
            self.dir.display()
        );
        Ok(())
    }

    fn failed(&self, source: StoreError) -> IndexError {
        IndexError::Store {
            dir: self.dir.clone(),
            source,
        }
    }
}

/// The path `dir` with this suffix.
fn with_suffix(dir: &Path, suffix: &str) -> PathBuf {
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{suffix}"));
    dir.with_file_name(name)
}

/// Removes a directory and its contents, if it exists.
fn remove_all(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests;
