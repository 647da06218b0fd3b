//! What the kernel would forget if the process ended now, and what we do about it.
//!
//! The kernel writes block data to its files at once, but their index and the chain
//! only when it flushes: when it closes, when its cache is full, and when a block is
//! processed 50 to 70 minutes after the last time (Bitcoin Core
//! `DATABASE_WRITE_INTERVAL_MIN`, `_MAX`; by the *system's* clock, so that one that
//! is set back puts it off). A process that is killed leaves a chain without the
//! blocks since then. So blocks that somebody may rely on are appended to
//! `blocks.journal` before the kernel thread reports them, and offered to the kernel
//! again at the next start ([`crate::replay`]).
//!
//! # The invariant
//! A block counts as *kept* ([`Kept::Yes`]) only while **every** block that the kernel
//! stored since its last flush is in the journal, so that what a kept block builds on
//! is kept too. Blocks that are stored without that, in initial sync, are *loose*. The
//! first block that is to be kept after loose ones closes the gap: a few are read back
//! from the block files and appended; after more the kernel is made to flush, by
//! closing and opening it.
//!
//! # When records go
//! When the kernel was seen to flush, twice since they were written: it says so in its
//! log ([`crate::record`]), after its last write. No clock takes part, so none that is
//! set back can make us drop a record too early. A journal of [`MAX_BYTES`] makes the
//! kernel flush.
//!
//! Blocks beside the active chain stay, up to a bound: the kernel does not tell which it
//! has, so that their headers would be unknown after a restart; and among them are those
//! that it could not take yet, their parent or their time being ahead of it.

use std::collections::BTreeSet;
use std::io;
use std::time::{Duration, Instant};

use bitcoin::BlockHash;
use bitcoin::hashes::Hash;
use handfast_disk::{Format, Found, Journal, MAX_RECORD, Storage};
use handfast_wire::limits::MAX_PAYLOAD_BYTES;

use crate::kernel::{Kernel, Manager};
use crate::{Keep, Kept, convert, kernel_log, record};

/// The journal's name in the data directory.
pub(crate) const FILE: &str = "blocks.journal";
/// A record is a block as it was received.
const FORMAT: Format = Format {
    magic: *b"HFBLOCKS",
    version: 1,
};
const _: () = assert!(MAX_PAYLOAD_BYTES <= MAX_RECORD);

/// Loose blocks whose hashes are remembered, in number and in bytes of the blocks. To
/// read and append them takes a fraction of a second.
const MAX_LOOSE: usize = 1_024;
const MAX_LOOSE_BYTES: usize = 64 << 20;
/// Length of the journal above which the kernel is made to flush: several hours of
/// full blocks, which replay in a minute.
pub(crate) const MAX_BYTES: u64 = 256 << 20;
/// Read back and appended at once, bytes and one block.
const BATCH_BYTES: usize = 4 << 20;
/// Blocks beside the active chain whose records stay, in number and in bytes: the newest.
const MAX_BESIDE: usize = 1_000;
const MAX_BESIDE_BYTES: usize = 64 << 20;
/// Pause after the journal could not be written; doubles up to the longest.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// A gap that nobody waits for is closed when no block to be kept came for so long: at
/// the end of initial sync the last blocks come together. At the latest after the other.
const QUIET: Duration = Duration::from_millis(250);
const QUIET_MAX: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Debug)]
pub(crate) struct Keeper {
    journal: Journal,
    /// The length above which the kernel is made to flush, bytes.
    limit: u64,
    /// The blocks of its records.
    hashes: Vec<BlockHash>,
    loose: Loose,
    /// A block that is to be kept is among the loose ones.
    due: Option<Due>,
    trouble: Option<Trouble>,
    /// Records that were there when the kernel flushed last.
    flushed: usize,
}

/// Blocks stored since the last flush that are not in the journal.
#[derive(Debug)]
enum Loose {
    /// These, in the order in which they were stored, with the sum of their bytes.
    Few(Vec<BlockHash>, usize),
    Many,
}

impl Loose {
    const NONE: Loose = Loose::Few(Vec::new(), 0);

    fn is_none(&self) -> bool {
        matches!(self, Loose::Few(hashes, _) if hashes.is_empty())
    }

    fn add(&mut self, hash: BlockHash, length: usize) {
        if let Loose::Few(hashes, bytes) = self {
            hashes.push(hash);
            *bytes += length;
            if hashes.len() > MAX_LOOSE || *bytes > MAX_LOOSE_BYTES {
                *self = Loose::Many;
            }
        }
    }
}

/// When blocks that are to be kept came and were not kept.
#[derive(Clone, Copy, Debug)]
struct Due {
    first: Instant,
    last: Instant,
}

impl Due {
    /// When to close the gap, if nobody waits for it.
    fn quiet(self) -> Instant {
        (self.last + QUIET).min(self.first + QUIET_MAX)
    }
}

/// The journal cannot be written.
#[derive(Debug)]
struct Trouble {
    why: String,
    pause: Duration,
    again: Instant,
}

/// Why a gap was not closed.
enum Failure {
    /// The journal cannot be written; it is tried again.
    Write(io::Error),
    /// The kernel cannot go on.
    Fatal(String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Write(error)
    }
}

/// A block that the kernel has: stored just now, or before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stored<'a> {
    pub(crate) hash: BlockHash,
    pub(crate) bytes: &'a [u8],
    /// Stored just now.
    pub(crate) new: bool,
    pub(crate) keep: Keep,
}

/// The kernel cannot go on; why.
pub(crate) type Fatal = String;

impl Keeper {
    /// Opens the journal and says what is in it.
    pub(crate) fn open(storage: Box<dyn Storage>, limit: u64) -> io::Result<(Keeper, Found)> {
        let (journal, found) = Journal::open(storage, FORMAT)?;
        let keeper = Keeper {
            journal,
            limit,
            loose: Loose::NONE,
            due: None,
            trouble: None,
            flushed: 0,
            hashes: vec![],
        };
        Ok((keeper, found))
    }

    /// The records, oldest first.
    pub(crate) fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Replay has read all records: their blocks; `None` for those that are of no use,
    /// which go.
    pub(crate) fn replayed(&mut self, blocks: &[Option<BlockHash>]) -> io::Result<()> {
        let useful = blocks.iter().enumerate().filter(|(_, hash)| hash.is_some());
        let keep: Vec<usize> = useful.map(|(record, _)| record).collect();
        if keep.len() < blocks.len()
            && let Err(error) = self.journal.retain(&keep)
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

    /// Whether every block that the kernel stored survives the end of the process.
    pub(crate) fn now(&self) -> Kept {
        match self.loose.is_none() {
            true => Kept::Yes,
            false => Kept::Later,
        }
    }

    /// What an operator should know, with the remedy.
    pub(crate) fn warning(&self) -> Option<String> {
        let trouble = self.trouble.as_ref()?;
        Some(format!(
            "New blocks are neither acknowledged nor announced: {}",
            trouble.why
        ))
    }

    /// Takes note of a block that the kernel has, and keeps it if it is to be kept.
    pub(crate) fn stored(&mut self, kernel: &Kernel, block: Stored<'_>) -> Result<Kept, Fatal> {
        let Stored { hash, bytes, .. } = block;
        if block.keep != Keep::No && block.new && self.loose.is_none() {
            let written = self.journal.append(&[bytes]);
            return Ok(match written {
                Ok(()) => {
                    self.hashes.push(hash);
                    Kept::Yes
                }
                Err(error) => {
                    self.loose.add(hash, bytes.len());
                    self.is_due();
                    self.failed(&error)
                }
            });
        }
        if block.new {
            self.loose.add(hash, bytes.len());
        }
        if self.loose.is_none() || block.keep == Keep::No {
            return Ok(self.now());
        }
        self.is_due();
        match block.keep {
            Keep::Now => self.close_gap(kernel),
            Keep::Soon | Keep::No => Ok(self.told()),
        }
    }

    fn is_due(&mut self) {
        let last = Instant::now();
        let first = self.due.map_or(last, |due| due.first);
        self.due = Some(Due { first, last });
    }

    /// What is said of a block among the loose ones that is to be kept.
    fn told(&self) -> Kept {
        match &self.trouble {
            Some(trouble) => Kept::Failed(trouble.why.clone()),
            None => Kept::Later,
        }
    }

    /// Does what nobody waits for. Returns whether all is kept now that was not before,
    /// and when it wants to be called again.
    pub(crate) fn idle(&mut self, kernel: &Kernel) -> Result<(bool, Option<Instant>), Fatal> {
        let mut all_kept = false;
        if self.due.is_some_and(|due| due.quiet() <= Instant::now()) {
            all_kept = self.close_gap(kernel)? == Kept::Yes;
        }
        if self.journal.bytes() > self.limit && self.trouble.is_none() {
            tracing::info!(
                bytes = self.journal.bytes(),
                "blocks.journal is long; the chain is flushed"
            );
            kernel.reopen()?;
            self.kernel_has_all(&self.beside(kernel));
        }
        let again = self.due.map(|due| match &self.trouble {
            None => due.quiet(),
            Some(trouble) => due.quiet().max(trouble.again),
        });
        Ok((all_kept, again))
    }

    /// Writes what is loose, unless that failed a moment ago.
    fn close_gap(&mut self, kernel: &Kernel) -> Result<Kept, Fatal> {
        if let Some(trouble) = &self.trouble
            && Instant::now() < trouble.again
        {
            return Ok(self.told());
        }
        match self.write_loose(kernel) {
            Ok(()) => {
                self.due = None;
                if self.trouble.take().is_some() {
                    tracing::info!("blocks.journal can be written again; nothing is missing in it");
                }
                Ok(Kept::Yes)
            }
            Err(Failure::Write(error)) => Ok(self.failed(&error)),
            Err(Failure::Fatal(why)) => Err(why),
        }
    }

    fn write_loose(&mut self, kernel: &Kernel) -> Result<(), Failure> {
        let Loose::Few(hashes, _) = &mut self.loose else {
            // Ends the node if there is no room, which a small file finds out first.
            self.journal.rewrite()?;
            tracing::info!(
                "the chain is flushed to disk; from here on blocks are kept in blocks.journal too"
            );
            kernel.reopen().map_err(Failure::Fatal)?;
            self.kernel_has_all(&self.beside(kernel));
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
        self.loose = Loose::NONE;
        Ok(())
    }

    fn failed(&mut self, error: &io::Error) -> Kept {
        let path = self.journal.path().display();
        let why = format!(
            "{path} cannot be written ({error}); free disk space or make it writable, it is tried again every {}s",
            PAUSE_MAX.as_secs()
        );
        let pause = match &self.trouble {
            None => {
                tracing::error!(
                    "{why}; until then new blocks are neither acknowledged nor announced"
                );
                PAUSE
            }
            Some(trouble) => {
                tracing::debug!("{why}");
                (trouble.pause * 2).min(PAUSE_MAX)
            }
        };
        let again = Instant::now() + pause;
        self.trouble = Some(Trouble {
            why: why.clone(),
            pause,
            again,
        });
        Kept::Failed(why)
    }

    /// The kernel has flushed by itself: nothing of before is loose, and records that
    /// were there at the flush before this one go, but those `beside`.
    pub(crate) fn kernel_flushed(&mut self, beside: &BTreeSet<usize>) {
        if let Err(error) = self.forget(self.flushed, beside) {
            // They stay until the next flush, which does no harm.
            tracing::warn!("cannot shorten blocks.journal: {error}");
        }
        self.flushed = self.journal.len();
        self.loose = Loose::NONE;
    }

    /// The kernel was flushed and closed: the records are of no more use, but those
    /// `beside`.
    pub(crate) fn kernel_has_all(&mut self, beside: &BTreeSet<usize>) {
        self.flushed = self.journal.len();
        self.kernel_flushed(beside);
    }

    /// Records of blocks beside the active chain, the newest up to the bound.
    pub(crate) fn beside(&self, kernel: &Kernel) -> BTreeSet<usize> {
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
            .take(MAX_BESIDE)
            .take_while(|record| {
                bytes += self.journal.payload_length(*record);
                bytes <= MAX_BESIDE_BYTES
            })
            .collect()
    }

    /// Drops the first `count` records but those that stay.
    fn forget(&mut self, count: usize, stay: &BTreeSet<usize>) -> io::Result<()> {
        let stays = |record: &usize| *record >= count || stay.contains(record);
        let keep: Vec<usize> = (0..self.journal.len()).filter(stays).collect();
        if keep.len() < self.journal.len() {
            self.journal.retain(&keep)?;
            self.hashes = keep.iter().map(|record| self.hashes[*record]).collect();
        }
        Ok(())
    }
}

/// The first of these blocks from the kernel's files, as many as make a batch.
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
