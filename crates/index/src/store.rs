//! The database of an index.
//!
//! | keyspace | key | value |
//! |---|---|---|
//! | `transactions` | txid | location: number of the block, position in it |
//! | `spenders` | hash of an output that is spent (8 bytes), location of the spender | |
//! | `blocks` | number | block hash, height |
//! | `meta` | `format` | version of this table |
//! | | `salt` | of the hash above (16 bytes) |
//!
//! Blocks are numbered in the order of indexing, from 0, so that a location takes eight bytes and
//! not 36. Numbers have four bytes and are big-endian, so that keys sort by them.
//!
//! An output has 36 bytes, and mainnet has spent more than three billion: so only a hash of each
//! is stored, as in Bitcoin Core; the caller reads the transactions that are found. The salt is
//! random, so that nobody can make outputs with one hash.
//!
//! # Crash safety
//! A batch of blocks is one atomic write of the database: after `kill -9` the last number in
//! `blocks` shows what the index has. The write has reached the system when [`Store::append`]
//! returns, and is durable when the store was closed. A loss of power removes writes from the
//! end, never from the middle.

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::Path;

use bitcoin::hashes::{Hash, siphash24};
use bitcoin::{BlockHash, OutPoint, Txid};
use fjall::config::{CompressionPolicy, PinningPolicy};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

/// Raised when the meaning of the table above changes.
const FORMAT: u32 = 1;
/// Cache of database blocks, bytes. Lookups are random, so more would not help.
const CACHE_BYTES: u64 = 8 << 20;
/// New entries that are not sorted into tables yet, in memory and in the journal, bytes.
const MEMTABLE_BYTES: u64 = 32 << 20;
/// All journals, bytes. They are replayed at a start: some hundred milliseconds.
const JOURNAL_BYTES: u64 = 128 << 20;
/// Open files of the database at most.
const MAX_FILES: usize = 64;
/// Threads of the database: one flushes while the other compacts.
const WORKERS: usize = 2;
/// Locations that are read for one hash of an output. A second one comes of a collision, or of a
/// reorganization.
const MAX_LOCATIONS: usize = 64;

/// Why the database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The system's error, e.g. a full disk. The database is as after the last write.
    #[error("{source}{}", remedy(source))]
    Io {
        /// The system's message.
        source: io::Error,
    },
    /// A background write failed. The database refuses writes until it is opened again.
    #[error("it could not be written; if the disk is full, free disk space")]
    Closed,
    /// The data on disk is damaged, or of another version.
    #[error("it is damaged ({0})")]
    Damaged(String),
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "; free disk space",
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            "; make the directory writable for this user"
        }
        // A path component is a file, not a directory.
        ErrorKind::AlreadyExists | ErrorKind::NotADirectory => {
            "; a broken link or a file is at its path: mount the disk that it is \
             on, or move it away"
        }
        _ => "",
    }
}

impl From<fjall::Error> for StoreError {
    fn from(error: fjall::Error) -> Self {
        match error {
            fjall::Error::Io(source) | fjall::Error::Storage(fjall::LsmError::Io(source)) => {
                source.into()
            }
            fjall::Error::Poisoned => StoreError::Closed,
            // Another program has it open, for instance a backup.
            fjall::Error::Locked => StoreError::Io {
                source: ErrorKind::WouldBlock.into(),
            },
            other => StoreError::Damaged(other.to_string()),
        }
    }
}

impl From<io::Error> for StoreError {
    fn from(source: io::Error) -> Self {
        match source.kind() {
            // A file is missing, truncated, or damaged.
            ErrorKind::NotFound | ErrorKind::UnexpectedEof | ErrorKind::InvalidData => {
                StoreError::Damaged(source.to_string())
            }
            _ => StoreError::Io { source },
        }
    }
}

/// A block to be put into the index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexedBlock {
    /// Its hash.
    pub hash: BlockHash,
    /// Its height.
    pub height: u32,
    /// Its entries, and the position of the transaction of each, counted from 0.
    pub entries: Vec<(Subject, u32)>,
}

/// The subject of a lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A transaction.
    Transaction(Txid),
    /// The transactions that spend an output.
    Spender(OutPoint),
}

/// Where a transaction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location {
    /// The block.
    pub block: BlockHash,
    /// Its height.
    pub height: u32,
    /// The position of the transaction in it, counted from 0.
    pub position: u32,
}

/// A block that the index has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Numbered {
    pub(crate) number: u32,
    pub(crate) hash: BlockHash,
    pub(crate) height: u32,
}

/// The open database.
pub struct Store {
    database: Database,
    transactions: Keyspace,
    spenders: Keyspace,
    blocks: Keyspace,
    salt: (u64, u64),
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the database in the directory `dir`, or creates it.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn open(dir: &Path) -> Result<Store, StoreError> {
        let database = Database::builder(dir)
            .cache_size(CACHE_BYTES)
            .max_journaling_size(JOURNAL_BYTES)
            .max_cached_files(Some(MAX_FILES))
            .worker_threads(WORKERS)
            .open()?;
        let meta = database.keyspace("meta", KeyspaceCreateOptions::default)?;
        let blocks = database.keyspace("blocks", KeyspaceCreateOptions::default)?;
        let salt = match (meta.get("format")?, meta.get("salt")?) {
            (Some(format), Some(salt)) if format[..] == FORMAT.to_be_bytes() => {
                two_numbers(&salt).map_err(|_| odd("the salt"))?
            }
            (None, _) if blocks.last_key_value().is_none() => {
                let salt: [u8; 16] = rand::random();
                // The format is written last, so the rest exists if it does.
                meta.insert("salt", salt)?;
                meta.insert("format", FORMAT.to_be_bytes())?;
                two_numbers(&salt)?
            }
            _ => {
                let why = "it has the format of another version";
                return Err(StoreError::Damaged(why.into()));
            }
        };
        Ok(Store {
            transactions: database.keyspace("transactions", random_keys)?,
            spenders: database.keyspace("spenders", random_keys)?,
            blocks,
            salt,
            database,
        })
    }

    /// The locations of `subject`: a transaction has at most one. An output is spent in none, in
    /// some or in all of the locations.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn find(&self, subject: &Subject) -> Result<Vec<Location>, StoreError> {
        match subject {
            Subject::Transaction(txid) => {
                let location = self.transactions.get(txid.as_byte_array())?;
                location
                    .iter()
                    .map(|location| self.location(location))
                    .collect()
            }
            Subject::Spender(output) => {
                let hash = self.hash(output);
                // The newest, among which is that of the active chain.
                let keys = self.spenders.prefix(hash).rev().take(MAX_LOCATIONS);
                let locations = keys.map(|found| self.location(&found.key()?[hash.len()..]));
                let mut locations = locations.collect::<Result<Vec<_>, StoreError>>()?;
                locations.reverse();
                Ok(locations)
            }
        }
    }

    fn location(&self, location: &[u8]) -> Result<Location, StoreError> {
        let (number, position) = halves(location)?;
        let block = self.block(number)?;
        Ok(Location {
            block: block.hash,
            height: block.height,
            position,
        })
    }

    fn hash(&self, output: &OutPoint) -> [u8; 8] {
        let mut bytes = [0; 36];
        bytes[..32].copy_from_slice(output.txid.as_byte_array());
        bytes[32..].copy_from_slice(&output.vout.to_be_bytes());
        let (one, two) = self.salt;
        siphash24::Hash::hash_with_keys(one, two, &bytes).to_byte_array()
    }

    /// Adds blocks, all of them or none. The index has the ancestors of each.
    ///
    /// # Blocking
    /// Waits while the database has too much to compact, so that its memory is bounded.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn append(&self, blocks: &[IndexedBlock]) -> Result<(), StoreError> {
        let next = self.last()?.map_or(0, |last| last.number + 1);
        let mut batch = self.database.batch();
        for (next, block) in (next..).zip(blocks) {
            let number = next.to_be_bytes();
            let mut value = [0; 36];
            value[..32].copy_from_slice(block.hash.as_byte_array());
            value[32..].copy_from_slice(&block.height.to_be_bytes());
            batch.insert(&self.blocks, number, value);
            for (subject, position) in &block.entries {
                let mut location = [0; 8];
                location[..4].copy_from_slice(&number);
                location[4..].copy_from_slice(&position.to_be_bytes());
                match subject {
                    Subject::Transaction(txid) => {
                        batch.insert(&self.transactions, *txid.as_byte_array(), location);
                    }
                    Subject::Spender(output) => {
                        let mut key = [0; 16];
                        key[..8].copy_from_slice(&self.hash(output));
                        key[8..].copy_from_slice(&location);
                        batch.insert(&self.spenders, key, []);
                    }
                }
            }
        }
        Ok(batch.commit()?)
    }

    /// The block that was added last.
    pub(crate) fn last(&self) -> Result<Option<Numbered>, StoreError> {
        let Some(last) = self.blocks.last_key_value() else {
            return Ok(None);
        };
        let (key, value) = last.into_inner()?;
        let number = key[..].try_into().map_err(|_| odd("a number"))?;
        numbered(u32::from_be_bytes(number), &value).map(Some)
    }

    /// The block with this number, which is at most that of [`Self::last`].
    pub(crate) fn block(&self, number: u32) -> Result<Numbered, StoreError> {
        let value = self.blocks.get(number.to_be_bytes())?;
        let value = value.ok_or_else(|| odd(&format!("block number {number}")))?;
        numbered(number, &value)
    }

    /// Makes all added blocks durable.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn sync(&self) -> Result<(), StoreError> {
        Ok(self.database.persist(PersistMode::SyncAll)?)
    }
}

/// A table for random keys, most lookups of which succeed.
fn random_keys() -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default()
        .max_memtable_size(MEMTABLE_BYTES)
        // Hashes do not compress.
        .data_block_compression_policy(CompressionPolicy::disabled())
        // Filters of the last level, nine tenths of all, would only help lookups of missing keys,
        // which are rare, and take 1.6 GB on mainnet.
        .expect_point_read_hits(true)
        // The others are read on demand, or memory would grow with the index.
        .filter_block_pinning_policy(PinningPolicy::all(false))
        .index_block_pinning_policy(PinningPolicy::all(false))
}

fn odd(what: &str) -> StoreError {
    StoreError::Damaged(format!("{what} is missing or has another length"))
}

/// The number of a block, and a position in it.
fn halves(location: &[u8]) -> Result<(u32, u32), StoreError> {
    let location: [u8; 8] = location.try_into().map_err(|_| odd("a location"))?;
    let both = u64::from_be_bytes(location);
    // The halves of 64 bits.
    Ok(((both >> 32) as u32, both as u32))
}

fn two_numbers(salt: &[u8]) -> Result<(u64, u64), StoreError> {
    let salt: [u8; 16] = salt.try_into().map_err(|_| odd("the salt"))?;
    let both = u128::from_be_bytes(salt);
    Ok(((both >> 64) as u64, both as u64))
}

fn numbered(number: u32, value: &[u8]) -> Result<Numbered, StoreError> {
    let (hash, height) = value.split_first_chunk().ok_or_else(|| odd("a block"))?;
    let height = height.try_into().map_err(|_| odd("a height"))?;
    Ok(Numbered {
        number,
        hash: BlockHash::from_byte_array(*hash),
        height: u32::from_be_bytes(height),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{block, hash, transaction};

    #[test]
    fn added_blocks_are_found_also_after_the_store_was_opened_again() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        assert_eq!(store.last().unwrap(), None);
        store.append(&[block(1, 1, 3), block(2, 2, 1)]).unwrap();
        store.append(&[block(3, 3, 2)]).unwrap();
        drop(store);
        let store = Store::open(dir.path()).unwrap();
        for (id, position) in [(1, 0), (1, 2), (2, 0), (3, 1)] {
            let found = store.find(&transaction(id, position)).unwrap();
            let expected = Location {
                block: hash(id),
                height: u32::from(id),
                position,
            };
            assert_eq!(found, [expected]);
        }
        assert_eq!(store.find(&transaction(1, 3)).unwrap(), []);
        assert_eq!(store.last().unwrap().unwrap().number, 2);
    }

    #[test]
    fn a_transaction_in_two_blocks_is_found_in_the_one_that_was_added_last() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let mut other = block(2, 1, 0);
        other.entries = block(1, 1, 2).entries;
        store.append(&[block(1, 1, 2), other.clone()]).unwrap();
        let found = store.find(&transaction(1, 1)).unwrap();
        assert_eq!(found[0].block, other.hash);
        assert_eq!(found.len(), 1);
    }

    #[test]
    fn an_output_has_all_its_spenders_also_after_the_store_was_opened_again() {
        let dir = tempfile::tempdir().unwrap();
        let output = |vout| {
            let txid = Txid::from_byte_array([7; 32]);
            Subject::Spender(OutPoint { txid, vout })
        };
        let spending = |id, entries: &[(Subject, u32)]| IndexedBlock {
            entries: entries.to_vec(),
            ..block(id, 4, 0)
        };
        let store = Store::open(dir.path()).unwrap();
        let first = spending(1, &[(output(0), 3), (output(1), 3), (output(2), 5)]);
        // After a reorganization, at the same height.
        store
            .append(&[first, spending(2, &[(output(0), 9)])])
            .unwrap();
        drop(store);
        let store = Store::open(dir.path()).unwrap();
        let locations = |vout| {
            let found = store.find(&output(vout)).unwrap();
            let found = found.iter().map(|found| (found.block, found.position));
            found.collect::<Vec<_>>()
        };
        assert_eq!(locations(0), [(hash(1), 3), (hash(2), 9)]);
        assert_eq!(locations(1), [(hash(1), 3)]);
        assert_eq!(locations(2), [(hash(1), 5)]);
        assert_eq!(locations(3), []);
    }

    #[test]
    fn a_store_of_another_format_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        {
            let store = Store::open(dir.path()).unwrap();
            let meta = store
                .database
                .keyspace("meta", KeyspaceCreateOptions::default)
                .unwrap();
            meta.insert("format", 2_u32.to_be_bytes()).unwrap();
        }
        let error = Store::open(dir.path()).unwrap_err();
        assert!(matches!(error, StoreError::Damaged(_)), "{error}");
    }

    #[test]
    fn a_full_disk_is_an_error_with_its_remedy_and_no_damage() {
        let full = io::Error::from(ErrorKind::StorageFull);
        let error = StoreError::from(fjall::Error::Storage(fjall::LsmError::Io(full)));
        assert!(matches!(error, StoreError::Io { .. }));
        assert!(error.to_string().contains("free disk space"), "{error}");
        let cut = io::Error::from(ErrorKind::UnexpectedEof);
        let error = StoreError::from(fjall::Error::Io(cut));
        assert!(matches!(error, StoreError::Damaged(_)));
    }
}
