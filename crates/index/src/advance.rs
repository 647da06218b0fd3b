//! The index itself: follows a chain, step by step.

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

/// Entries of one write, but for those of its last block: some 4 MB of memory.
const MAX_ENTRIES: usize = 20_000;
/// Blocks of one write.
const MAX_BLOCKS: usize = 2_000;

/// What an index is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Transactions by their ids, without that of genesis. Core `TxIndex`.
    Transactions,
    /// Transactions by the outputs that they spend. Core `TxoSpenderIndex`.
    Spenders,
}

impl Kind {
    /// What is to be found in an encoded block; `None`: it is none.
    fn entries(self, bytes: &[u8]) -> Option<Vec<(Subject, u32)>> {
        match self {
            Kind::Transactions => {
                let all = Transactions::of(bytes)?;
                let ids = all.ids().map(Subject::Transaction);
                Some(ids.zip(0..).collect())
            }
            Kind::Spenders => {
                let block: Block = deserialize(bytes).ok()?;
                // The first one makes coins and spends none.
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

/// Where blocks are read.
pub trait Blocks {
    /// The block's encoding.
    ///
    /// # Errors
    /// Why it cannot be had.
    fn read(&self, hash: &BlockHash) -> Result<Bytes, ReadError>;
}

impl Blocks for BlockReader {
    fn read(&self, hash: &BlockHash) -> Result<Bytes, ReadError> {
        BlockReader::read(self, hash)
    }
}

/// Why a step was not made. It can be tried again.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The database failed.
    #[error("the index {}: {source}", dir.display())]
    Store {
        /// Its directory.
        dir: PathBuf,
        /// Why.
        source: StoreError,
    },
    /// A block cannot be read.
    #[error(transparent)]
    Block(#[from] ReadError),
    /// What was read is no block.
    #[error("block {0} on disk is damaged")]
    NoBlock(BlockHash),
}

/// How far the index is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// It has been at the tip since the start. What comes after that is a moment behind at
    /// most. Core `BaseIndex::m_synced`.
    pub synced: bool,
    /// The height up to which the active chain is indexed.
    pub height: u32,
    /// The block at this height; `None` for genesis, whose transaction is none to be found.
    pub block: Option<BlockHash>,
}

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The chain has more.
    More,
    /// The chain is indexed to its tip.
    AtTip,
}

/// See the module. May be used from any number of threads, of which one advances it.
#[derive(Debug)]
pub struct Index {
    kind: Kind,
    dir: PathBuf,
    /// `None`: not opened yet, or closed after a failure. Held for writing only to open and
    /// close it: the directory may not be moved while somebody uses the database.
    store: RwLock<Option<Store>>,
    /// A lookup found that it is damaged.
    damaged: AtomicBool,
    standing: Mutex<Standing>,
}

impl Index {
    /// An index that lies in the directory `dir`. Touches nothing yet.
    #[must_use]
    pub fn new(kind: Kind, dir: PathBuf) -> Self {
        Self {
            kind,
            dir,
            store: RwLock::default(),
            damaged: AtomicBool::new(false),
            standing: Mutex::default(),
        }
    }

    /// How far it is. Never waits for the disk.
    pub fn standing(&self) -> Standing {
        *self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where `subject` is, as [`Store::find`] tells it; an index that is not complete may not
    /// know.
    ///
    /// # Errors
    /// The database's.
    pub fn find(&self, subject: &Subject) -> Result<Vec<Location>, IndexError> {
        let store = self.open_store();
        let found = match store.as_ref() {
            Some(store) => store.find(subject),
            // It was there, and what it has is not known now: nothing would be a wrong answer.
            None if self.standing().synced => Err(StoreError::Closed),
            None => Ok(vec![]),
        };
        found.map_err(|error| {
            if matches!(error, StoreError::Damaged(_)) {
                self.damaged.store(true, Ordering::Relaxed);
            }
            self.failed(error)
        })
    }

    /// Indexes the next blocks of `chain`, as many as one write takes, unless `stop` says
    /// that there is no time for more. Opens the database first if need be; one that is
    /// damaged is set aside and built anew.
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
                    StoreError::Damaged(why) => self.set_aside(&why).map(|()| Step::More),
                    source => Err(self.failed(source)),
                }
            }
            other => other,
        }
    }

    /// Closes the database; what it has is on disk for good. The next step opens it again.
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
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        *standing = Standing {
            synced: standing.synced || at_tip,
            height,
            block: chain.at_height(height).filter(|_| height > 0),
        };
        Ok(if at_tip { Step::AtTip } else { Step::More })
    }

    /// The blocks of one write, from height `next` on.
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

    /// Makes an empty database. It has its name once it is complete: one that was half made
    /// when the process ended or the disk was full would be taken for a damaged one.
    fn make(&self) -> Result<(), StoreError> {
        let new = beside(&self.dir, "new");
        remove_all(&new)?;
        fs::create_dir_all(&new)?;
        let made = Store::open(&new).and_then(|store| store.sync());
        made.map_err(|error| match error {
            // Nobody else wrote it: to set it aside and make another would go on for ever.
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

    /// Moves the closed database out of the way. One that was moved before makes room: it can
    /// be as large as the chain's undo data, and holds nothing that is not in the blocks.
    fn set_aside(&self, why: &str) -> Result<(), IndexError> {
        *self.standing.lock().unwrap_or_else(PoisonError::into_inner) = Standing::default();
        let to = beside(&self.dir, "damaged");
        let moved = remove_all(&to).and_then(|()| fs::rename(&self.dir, &to));
        moved.map_err(|source| self.failed(StoreError::Io { source }))?;
        tracing::error!(
            aside = %to.display(),
            "the index {} is damaged ({why}): it was set aside, which you may remove, and is built anew",
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

/// The path `dir` with another ending of the name.
fn beside(dir: &Path, ending: &str) -> PathBuf {
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{ending}"));
    dir.with_file_name(name)
}

/// Removes a directory with all that is in it, if it is there.
fn remove_all(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests;
