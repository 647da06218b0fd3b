//! The index itself: follows a chain, step by step.

use std::fs;
use std::io::ErrorKind;
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
        let found = store.as_ref().map(|store| store.find(subject));
        found.unwrap_or(Ok(vec![])).map_err(|error| {
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
            fs::create_dir_all(&self.dir)?;
            *store = Some(Store::open(&self.dir)?);
        }
        Ok(())
    }

    fn open_store(&self) -> RwLockReadGuard<'_, Option<Store>> {
        self.store.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves the closed database out of the way. One that was moved before makes room: it can
    /// be as large as the chain's undo data, and holds nothing that is not in the blocks.
    fn set_aside(&self, why: &str) -> Result<(), IndexError> {
        let to = aside(&self.dir);
        let moved = match fs::remove_dir_all(&to) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => fs::rename(&self.dir, &to),
        };
        moved.map_err(|source| self.failed(StoreError::Io { source }))?;
        tracing::error!(
            aside = %to.display(),
            "the index {} is damaged ({why}): it was set aside, which you may remove, and is built anew",
            self.dir.display()
        );
        *self.standing.lock().unwrap_or_else(PoisonError::into_inner) = Standing::default();
        Ok(())
    }

    fn failed(&self, source: StoreError) -> IndexError {
        IndexError::Store {
            dir: self.dir.clone(),
            source,
        }
    }
}

fn aside(dir: &Path) -> PathBuf {
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push(".damaged");
    dir.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use bitcoin::OutPoint;
    use bitcoin::absolute::LockTime;
    use bitcoin::consensus::serialize;
    use tempfile::TempDir;

    use super::*;

    /// A chain in memory; each block has one transaction, told by `label` and height.
    struct Chain(Vec<Block>);

    impl Chain {
        fn new(length: u32) -> Self {
            let genesis = bitcoin::constants::genesis_block(bitcoin::Network::Regtest);
            let mut chain = Self(vec![genesis]);
            chain.grow(length, 0);
            chain
        }

        fn grow(&mut self, count: u32, label: u32) {
            for _ in 0..count {
                let parent = self.0.last().expect("genesis");
                let mut block = parent.clone();
                block.header.prev_blockhash = parent.block_hash();
                block.header.nonce = label;
                let lock = label * 100_000 + self.tip_height() + 1;
                block.txdata[0].lock_time = LockTime::from_consensus(lock);
                self.0.push(block);
            }
        }

        fn transaction(&self, height: u32) -> Subject {
            Subject::Transaction(self.0[height as usize].txdata[0].compute_txid())
        }
    }

    impl ActiveChain for Chain {
        fn tip_height(&self) -> u32 {
            self.0.len() as u32 - 1
        }
        fn at_height(&self, height: u32) -> Option<BlockHash> {
            self.0.get(height as usize).map(Block::block_hash)
        }
        fn contains(&self, hash: &BlockHash) -> bool {
            self.0.iter().any(|block| block.block_hash() == *hash)
        }
    }

    impl Blocks for Chain {
        fn read(&self, hash: &BlockHash) -> Result<Bytes, ReadError> {
            let found = self.0.iter().find(|block| block.block_hash() == *hash);
            let found = found.ok_or(ReadError::Unknown(*hash))?;
            Ok(serialize(found).into())
        }
    }

    fn index() -> (TempDir, Index) {
        let dir = tempfile::tempdir().unwrap();
        let index = Index::new(Kind::Transactions, dir.path().join("txindex"));
        (dir, index)
    }

    fn follow(index: &Index, chain: &Chain) {
        while index.advance(chain, chain, &|| false).unwrap() == Step::More {}
    }

    fn height_of(index: &Index, subject: &Subject) -> Option<u32> {
        index
            .find(subject)
            .unwrap()
            .first()
            .map(|found| found.height)
    }

    #[test]
    fn every_transaction_above_genesis_is_found_and_none_of_genesis() {
        let (_dir, index) = index();
        let chain = Chain::new(7);
        assert_eq!(index.standing(), Standing::default());
        follow(&index, &chain);
        for height in 1..=7 {
            assert_eq!(height_of(&index, &chain.transaction(height)), Some(height));
        }
        assert_eq!(height_of(&index, &chain.transaction(0)), None);
        let standing = index.standing();
        assert!(standing.synced);
        assert_eq!((standing.height, standing.block), (7, chain.at_height(7)));
    }

    #[test]
    fn an_output_is_found_with_its_spender_and_that_of_a_coinbase_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let index = Index::new(Kind::Spenders, dir.path().join("spenders"));
        let mut chain = Chain::new(3);
        let mut spending = chain.0[3].txdata[0].clone();
        let output = OutPoint {
            vout: 1,
            ..OutPoint::default()
        };
        spending.input[0].previous_output = output;
        let coinbase = chain.0[3].txdata[0].input[0].previous_output;
        chain.0[3].txdata.push(spending);
        follow(&index, &chain);
        let found = index.find(&Subject::Spender(output)).unwrap();
        assert_eq!((found[0].height, found[0].position), (3, 1));
        assert_eq!(index.find(&Subject::Spender(coinbase)).unwrap(), []);
    }

    #[test]
    fn a_chain_of_genesis_alone_is_indexed_at_once() {
        let (_dir, index) = index();
        follow(&index, &Chain::new(0));
        let standing = index.standing();
        assert!(standing.synced && standing.height == 0 && standing.block.is_none());
    }

    #[test]
    fn a_step_that_is_stopped_keeps_what_it_has_and_the_next_index_goes_on_there() {
        let (_dir, index) = index();
        let chain = Chain::new(9);
        let left = Cell::new(4);
        let stop = || left.replace(left.get() - 1) == 0;
        assert_eq!(index.advance(&chain, &chain, &stop).unwrap(), Step::More);
        assert!(!index.standing().synced);
        assert_eq!(index.standing().height, 4);
        index.close();
        let again = Index::new(Kind::Transactions, index.dir.clone());
        // Were a block below 5 read again, this would fail.
        let rest = Chain(chain.0[5..].to_vec());
        while again.advance(&chain, &rest, &|| false).unwrap() == Step::More {}
        assert_eq!(height_of(&again, &chain.transaction(2)), Some(2));
        assert_eq!(height_of(&again, &chain.transaction(9)), Some(9));
    }

    #[test]
    fn what_only_a_branch_has_that_was_left_is_still_found_there() {
        let (_dir, index) = index();
        let mut chain = Chain::new(5);
        let left = (chain.transaction(5), chain.at_height(5).unwrap());
        follow(&index, &chain);
        chain.0.truncate(4);
        chain.grow(3, 1);
        follow(&index, &chain);
        assert_eq!(index.find(&left.0).unwrap()[0].block, left.1);
        assert_eq!(height_of(&index, &chain.transaction(6)), Some(6));
        assert_eq!(index.standing().height, 6);
    }

    #[test]
    fn a_damaged_index_is_set_aside_and_built_anew_and_only_the_last_is_kept() {
        let (dir, index) = index();
        let chain = Chain::new(3);
        for _ in 0..2 {
            follow(&index, &chain);
            index.close();
            fs::write(index.dir.join("version"), "nonsense").unwrap();
            follow(&index, &chain);
            assert_eq!(height_of(&index, &chain.transaction(3)), Some(3));
            assert!(index.standing().synced);
        }
        let aside = dir.path().join("txindex.damaged");
        assert_eq!(fs::read(aside.join("version")).unwrap(), b"nonsense");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_block_that_cannot_be_read_is_an_error_and_is_tried_again() {
        let (_dir, index) = index();
        let chain = Chain::new(3);
        let gap = Chain(chain.0[..3].to_vec());
        let error = index.advance(&chain, &gap, &|| false).unwrap_err();
        assert!(matches!(error, IndexError::Block(_)), "{error}");
        assert!(!index.standing().synced);
        follow(&index, &chain);
        assert!(index.standing().synced);
    }

    /// Runs the test `name` again, by itself, with a file system of 2 MiB in `dir`. Where a user
    /// may not mount in a name space of his own it says so and does nothing.
    fn on_a_small_disk(name: &str, dir: &Path) {
        let program = std::env::current_exe().unwrap();
        let script = "mount -t tmpfs -o size=2m small \"$0\" && exec \"$@\"";
        let status = std::process::Command::new("unshare")
            .args(["--map-root-user", "--mount", "sh", "-c", script])
            .arg(dir)
            .arg(program)
            .args(["--exact", name])
            .env(SMALL_DISK, dir)
            .status();
        let can_mount = std::process::Command::new("unshare")
            .args(["--map-root-user", "--mount", "true"])
            .status()
            .is_ok_and(|status| status.success());
        match can_mount {
            true => assert!(status.is_ok_and(|status| status.success())),
            false => eprintln!("skipped: unshare --map-root-user --mount is not allowed here"),
        }
    }

    const SMALL_DISK: &str = "HANDFAST_TEST_SMALL_DISK";

    /// Takes all room that `dir` has.
    fn fill(dir: &Path) -> PathBuf {
        use std::io::Write;
        let path = dir.join("filler");
        let mut file = fs::File::create(&path).unwrap();
        while file.write_all(&[1; 512]).is_ok() {}
        path
    }

    #[test]
    fn a_disk_that_is_full_is_an_error_with_the_remedy_and_the_index_goes_on_when_there_is_room() {
        let Some(dir) = std::env::var_os(SMALL_DISK).map(PathBuf::from) else {
            let dir = tempfile::tempdir().unwrap();
            let name = "advance::tests::a_disk_that_is_full_is_an_error_with_the_remedy_and_the_index_goes_on_when_there_is_room";
            return on_a_small_disk(name, dir.path());
        };
        let index = Index::new(Kind::Transactions, dir.join("txindex"));
        let mut chain = Chain::new(3);
        let assert_full = |chain: &Chain| {
            for _ in 0..2 {
                let error = index.advance(chain, chain, &|| false).unwrap_err();
                assert!(error.to_string().contains("free disk space"), "{error}");
            }
        };
        // Before there is anything of it, and after.
        let filler = fill(&dir);
        assert_full(&chain);
        fs::remove_file(filler).unwrap();
        follow(&index, &chain);
        let filler = fill(&dir);
        chain.grow(400, 0);
        assert_full(&chain);
        assert_eq!(index.standing().height, 3);
        fs::remove_file(filler).unwrap();
        follow(&index, &chain);
        for height in [1, 3, 4, 403] {
            assert_eq!(height_of(&index, &chain.transaction(height)), Some(height));
        }
        assert!(!dir.join("txindex.damaged").exists());
    }

    #[test]
    fn a_directory_that_cannot_be_written_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        let index = Index::new(Kind::Spenders, dir.path().join("file/txindex"));
        let chain = Chain::new(1);
        let error = index.advance(&chain, &chain, &|| false).unwrap_err();
        assert!(error.to_string().contains("file/txindex"), "{error}");
        assert!(dir.path().join("file").is_file(), "nothing was moved");
    }
}
