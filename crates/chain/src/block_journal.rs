//! The block journal: makes blocks durable that the kernel has not flushed.
//!
//! The kernel writes block data to its files at once, but their index and the chain
//! only when it flushes: when it closes, when its cache is full, and when a block is
//! processed 50 to 70 minutes after the last time (Bitcoin Core
//! `DATABASE_WRITE_INTERVAL_MIN`, `_MAX`; by the *system's* clock, so a clock that
//! is set back delays it). A process that is killed leaves a chain without the
//! blocks since then. So blocks that are acknowledged or announced are appended to
//! `blocks.journal` before the kernel thread reports them, and submitted to the kernel
//! again at the next start ([`crate::replay`]).
//!
//! # The invariant
//! A block counts as *durable* ([`Durability::Yes`]) only while **every** block that the kernel
//! stored since its last flush is in the journal, so that the ancestors of a durable block
//! are durable too. Blocks stored without being journaled, in initial sync, are *unjournaled*.
//! The first block to be journaled after unjournaled ones closes the gap: a few are read back
//! from the block files and appended; for more the kernel is made to flush, by closing and
//! opening it.
//!
//! # When records are dropped
//! After the kernel has flushed twice since they were written: it logs each flush
//! ([`crate::record`]), after its last write. This uses no clock, so a clock that is set
//! back cannot drop a record too early. A journal of [`MAX_BYTES`] makes the kernel flush.
//!
//! Records of blocks outside the active chain stay, up to a bound: the kernel has no list of
//! side branches, so their headers would be unknown after a restart; and some could not be
//! accepted yet, because their parent is missing or their time is in the future.

use std::collections::BTreeSet;
use std::io;
use std::time::{Duration, Instant};

use bitcoin::BlockHash;
use bitcoin::hashes::Hash;
use handfast_disk::{Format, Found, Journal, MAX_RECORD, Storage};
use handfast_wire::limits::MAX_PAYLOAD_BYTES;

use crate::kernel::{Kernel, Manager};
use crate::{Durability, Persist, convert, kernel_log, record};

/// The journal's name in the data directory.
pub(crate) const FILE: &str = "blocks.journal";
/// A record is a block as it was received.
const FORMAT: Format = Format {
    magic: *b"HFBLOCKS",
    version: 1,
};
const _: () = assert!(MAX_PAYLOAD_BYTES <= MAX_RECORD);

/// Unjournaled blocks whose hashes are stored, in number and in bytes of the blocks. To read
/// and append them takes a fraction of a second.
const MAX_UNJOURNALED: usize = 1_024;
const MAX_UNJOURNALED_BYTES: usize = 64 << 20;
/// Length of the journal above which the kernel is made to flush: several hours of
/// full blocks, which replay in a minute.
pub(crate) const MAX_BYTES: u64 = 256 << 20;
/// Read back and appended at once, bytes and one block.
const BATCH_BYTES: usize = 4 << 20;
/// Blocks outside the active chain whose records stay, in number and in bytes: the newest.
const MAX_SIDE: usize = 1_000;
const MAX_SIDE_BYTES: usize = 64 << 20;
/// Pause after a failed write of the journal; doubles up to the longest.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// With [`Persist::Soon`] a gap is closed when no such block came for this long, since at the end
/// of initial sync the last blocks come together; at the latest after the second bound.
const QUIET: Duration = Duration::from_millis(250);
const QUIET_MAX: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Debug)]
pub(crate) struct BlockJournal {
    journal: Journal,
    /// The length above which the kernel is made to flush, bytes.
    limit: u64,
    /// The blocks of its records.
    hashes: Vec<BlockHash>,
    unjournaled: Unjournaled,
    /// Set while a block to be journaled is among the unjournaled ones.
    overdue: Option<Overdue>,
    write_failure: Option<WriteFailure>,
    /// Records that were there when the kernel flushed last.
    flushed: usize,
}

/// Blocks stored since the last flush that are not in the journal.
#[derive(Debug)]
enum Unjournaled {
    /// Their hashes, in the order in which they were stored, and the sum of their bytes.
    Few(Vec<BlockHash>, usize),
    Many,
}

impl Unjournaled {
    const NONE: Unjournaled = Unjournaled::Few(Vec::new(), 0);

    fn is_none(&self) -> bool {
        matches!(self, Unjournaled::Few(hashes, _) if hashes.is_empty())
    }

    fn add(&mut self, hash: BlockHash, length: usize) {
        if let Unjournaled::Few(hashes, bytes) = self {
            hashes.push(hash);
            *bytes += length;
            if hashes.len() > MAX_UNJOURNALED || *bytes > MAX_UNJOURNALED_BYTES {
                *self = Unjournaled::Many;
            }
        }
    }
}

/// When blocks to be journaled came that are not journaled yet.
#[derive(Clone, Copy, Debug)]
struct Overdue {
    first: Instant,
    last: Instant,
}

impl Overdue {
    /// When to close the gap, if no caller waits for it.
    fn quiet(self) -> Instant {
        (self.last + QUIET).min(self.first + QUIET_MAX)
    }
}

/// The journal cannot be written.
#[derive(Debug)]
struct WriteFailure {
    why: String,
    pause: Duration,
    again: Instant,
}

/// An error of closing the gap.
enum GapError {
    /// The journal cannot be written; it is tried again.
    Write(io::Error),
    /// The kernel cannot go on.
    Fatal(String),
}

impl From<io::Error> for GapError {
    fn from(error: io::Error) -> GapError {
        GapError::Write(error)
    }
}

/// A block that the kernel has stored, just now or before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StoredBlock<'a> {
    pub(crate) hash: BlockHash,
    pub(crate) bytes: &'a [u8],
    /// It was stored just now.
    pub(crate) new: bool,
    pub(crate) persist: Persist,
}

/// Why the kernel cannot go on.
pub(crate) type Fatal = String;

impl BlockJournal {
    /// Opens the journal.
    pub(crate) fn open(storage: Box<dyn Storage>, limit: u64) -> io::Result<(BlockJournal, Found)> {
        let (journal, found) = Journal::open(storage, FORMAT)?;
        let block_journal = BlockJournal {
            journal,
            limit,
            unjournaled: Unjournaled::NONE,
            overdue: None,
            write_failure: None,
            flushed: 0,
            hashes: vec![],
        };
        Ok((block_journal, found))
    }

    /// The records, oldest first.
    pub(crate) fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Sets the blocks of all records after replay, and drops the useless records (`None`).
    pub(crate) fn replayed(&mut self, blocks: &[Option<BlockHash>]) -> io::Result<()> {
        let useful = blocks.iter().enumerate().filter(|(_, hash)| hash.is_some());
        let persist: Vec<usize> = useful.map(|(record, _)| record).collect();
        if persist.len() < blocks.len()
            && let Err(error) = self.journal.retain(&persist)
        {
            let unknown = BlockHash::all_zeros();
            self.hashes = blocks.iter().map(|hash| hash.unwrap_or(unknown)).collect();
            return Err(error);
        }
        self.hashes = blocks.iter().copied().flatten().collect();
        Ok(())
    }

    /// The blocks of the records.
    pub(crate) fn blocks(&self) -> &[BlockHash] {
        &self.hashes
    }

    /// Whether every stored block is durable.
    pub(crate) fn now(&self) -> Durability {
        match self.unjournaled.is_none() {
            true => Durability::Yes,
            false => Durability::Later,
        }
    }

    /// The warning for the operator, with the remedy.
    pub(crate) fn warning(&self) -> Option<String> {
        let write_failure = self.write_failure.as_ref()?;
        Some(format!(
            "New blocks are neither acknowledged nor announced: {}",
            write_failure.why
        ))
    }

    /// Registers a stored block, and journals it if `persist` says so.
    pub(crate) fn stored(
        &mut self,
        kernel: &Kernel,
        block: StoredBlock<'_>,
    ) -> Result<Durability, Fatal> {
        let StoredBlock { hash, bytes, .. } = block;
        if block.persist != Persist::No && block.new && self.unjournaled.is_none() {
            let written = self.journal.append(&[bytes]);
            return Ok(match written {
                Ok(()) => {
                    self.hashes.push(hash);
                    Durability::Yes
                }
                Err(error) => {
                    self.unjournaled.add(hash, bytes.len());
                    self.mark_overdue();
                    self.failed(&error)
                }
            });
        }
        if block.new {
            self.unjournaled.add(hash, bytes.len());
        }
        if self.unjournaled.is_none() || block.persist == Persist::No {
            return Ok(self.now());
        }
        self.mark_overdue();
        match block.persist {
            Persist::Now => self.close_gap(kernel),
            Persist::Soon | Persist::No => Ok(self.pending_answer()),
        }
    }

    fn mark_overdue(&mut self) {
        let last = Instant::now();
        let first = self.overdue.map_or(last, |overdue| overdue.first);
        self.overdue = Some(Overdue { first, last });
    }

    /// The answer for a block to be journaled that is not journaled yet.
    fn pending_answer(&self) -> Durability {
        match &self.write_failure {
            Some(write_failure) => Durability::Failed(write_failure.why.clone()),
            None => Durability::Later,
        }
    }

    /// Closes a gap that no caller waits for, and shortens the journal. Returns whether all blocks
    /// became durable, and when to call it again.
    pub(crate) fn idle(&mut self, kernel: &Kernel) -> Result<(bool, Option<Instant>), Fatal> {
        let mut all_durable = false;
        if self
            .overdue
            .is_some_and(|overdue| overdue.quiet() <= Instant::now())
        {
            all_durable = self.close_gap(kernel)? == Durability::Yes;
        }
        if self.journal.bytes() > self.limit && self.write_failure.is_none() {
            tracing::info!(
                bytes = self.journal.bytes(),
                "blocks.journal is long; the chain is flushed"
            );
            kernel.reopen()?;
            self.kernel_has_all(&self.side_records(kernel));
        }
        let again = self.overdue.map(|overdue| match &self.write_failure {
            None => overdue.quiet(),
            Some(write_failure) => overdue.quiet().max(write_failure.again),
        });
        Ok((all_durable, again))
    }

    /// Journals the unjournaled blocks, unless that failed a moment ago.
    fn close_gap(&mut self, kernel: &Kernel) -> Result<Durability, Fatal> {
        if let Some(write_failure) = &self.write_failure
            && Instant::now() < write_failure.again
        {
            return Ok(self.pending_answer());
        }
        match self.write_unjournaled(kernel) {
            Ok(()) => {
                self.overdue = None;
                if self.write_failure.take().is_some() {
                    tracing::info!("blocks.journal can be written again and is complete");
                }
                Ok(Durability::Yes)
            }
            Err(GapError::Write(error)) => Ok(self.failed(&error)),
            Err(GapError::Fatal(why)) => Err(why),
        }
    }

    fn write_unjournaled(&mut self, kernel: &Kernel) -> Result<(), GapError> {
        let Unjournaled::Few(hashes, _) = &mut self.unjournaled else {
            // A flush on a full disk ends the node, so a small write tests the disk first.
            self.journal.rewrite()?;
            tracing::info!(
                "the chain is flushed to disk; from now on blocks are also written to blocks.journal"
            );
            kernel.reopen().map_err(GapError::Fatal)?;
            self.kernel_has_all(&self.side_records(kernel));
            return Ok(());
        };
        while !hashes.is_empty() {
            let batch = {
                let manager = kernel.manager().expect("the caller's thread closes it");
                read_back(&manager, hashes)?
            };
            self.journal.append(&batch)?;
            self.hashes.extend(hashes.drain(..batch.len()));
        }
        self.unjournaled = Unjournaled::NONE;
        Ok(())
    }

    fn failed(&mut self, error: &io::Error) -> Durability {
        let path = self.journal.path().display();
        let why = format!(
            "{path} cannot be written ({error}); free disk space or make it writable, the node retries every {}s",
            PAUSE_MAX.as_secs()
        );
        let pause = match &self.write_failure {
            None => {
                tracing::error!(
                    "{why}; until then new blocks are neither acknowledged nor announced"
                );
                PAUSE
            }
            Some(write_failure) => {
                tracing::debug!("{why}");
                (write_failure.pause * 2).min(PAUSE_MAX)
            }
        };
        let again = Instant::now() + pause;
        self.write_failure = Some(WriteFailure {
            why: why.clone(),
            pause,
            again,
        });
        Durability::Failed(why)
    }

    /// The kernel has flushed by itself: no earlier block is unjournaled, and the records of before
    /// the previous flush are dropped, except `side`.
    pub(crate) fn kernel_flushed(&mut self, side: &BTreeSet<usize>) {
        if let Err(error) = self.drop_records(self.flushed, side) {
            // The records stay until the next flush, which is harmless.
            tracing::warn!("cannot shorten blocks.journal: {error}");
        }
        self.flushed = self.journal.len();
        self.unjournaled = Unjournaled::NONE;
    }

    /// The kernel was flushed and closed: all records are useless, except `side`.
    pub(crate) fn kernel_has_all(&mut self, side: &BTreeSet<usize>) {
        self.flushed = self.journal.len();
        self.kernel_flushed(side);
    }

    /// The records of blocks outside the active chain, the newest up to the bound.
    pub(crate) fn side_records(&self, kernel: &Kernel) -> BTreeSet<usize> {
        let manager = kernel.manager().expect("the caller's thread closes it");
        let active = manager.active_chain();
        let is_active = |hash: &BlockHash| {
            let (entry, _) =
                record::during(|| manager.get_block_tree_entry(&convert::kernel_hash(hash)));
            entry.is_some_and(|entry| active.contains(&entry))
        };
        let mut bytes = 0;
        let newest = self.hashes.iter().enumerate().rev();
        newest
            .filter(|(_, hash)| !is_active(hash))
            .map(|(record, _)| record)
            .take(MAX_SIDE)
            .take_while(|record| {
                bytes += self.journal.payload_length(*record);
                bytes <= MAX_SIDE_BYTES
            })
            .collect()
    }

    /// Drops the first `count` records, except `stay`.
    fn drop_records(&mut self, count: usize, stay: &BTreeSet<usize>) -> io::Result<()> {
        let stays = |record: &usize| *record >= count || stay.contains(record);
        let persist: Vec<usize> = (0..self.journal.len()).filter(stays).collect();
        if persist.len() < self.journal.len() {
            self.journal.retain(&persist)?;
            self.hashes = persist.iter().map(|record| self.hashes[*record]).collect();
        }
        Ok(())
    }
}

/// Reads the first of these blocks from the kernel's files, as many as make a batch.
fn read_back(manager: &Manager<'_>, hashes: &[BlockHash]) -> io::Result<Vec<Vec<u8>>> {
    let mut batch = vec![];
    let mut bytes = 0;
    for hash in hashes {
        let (block, record) = record::during(|| {
            let entry = manager.get_block_tree_entry(&convert::kernel_hash(hash))?;
            manager
                .read_block_data(&entry)
                .ok()?
                .consensus_encode()
                .ok()
        });
        let block: Vec<u8> = block.ok_or_else(|| {
            let detail = kernel_log::errors(&record.log);
            io::Error::other(format!("block {hash} cannot be read back: {detail}"))
        })?;
        bytes += block.len();
        batch.push(block);
        if bytes >= BATCH_BYTES {
            break;
        }
    }
    Ok(batch)
}
