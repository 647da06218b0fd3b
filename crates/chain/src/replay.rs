//! Replay: at a start the blocks of the journal are submitted to the kernel.
//!
//! The marker file `running` exists while a node runs, and is left after an unclean
//! shutdown.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bitcoin::BlockHash;
use bitcoinkernel::Block;
use bitcoinkernel::prelude::*;
use handfast_disk::{Found, remove, state_file};
use serde::{Deserialize, Serialize};

use crate::block_journal::{BlockJournal, Fatal};
use crate::kernel::{Kernel, Manager};
use crate::{BlockOutcome, Reject, RejectKind, convert, layout, mutated, record, verdict};

/// Interval of the progress reports.
const REPORT_EVERY: Duration = Duration::from_secs(2);
/// New blocks above which the kernel is made to flush, so that repeated unclean shutdowns
/// do not replay more each time.
const FLUSH_ABOVE: usize = 256;

/// The progress of the journal's replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replay {
    /// Records submitted.
    pub done: usize,
    /// All records.
    pub total: usize,
    /// The last shutdown was unclean.
    pub unclean: bool,
}

/// The results of a replay.
#[derive(Debug, Default)]
struct Counts {
    /// Blocks that the kernel had lost.
    new: usize,
    known: usize,
    skipped: usize,
}

/// Submits all records to the kernel, a parent before its children.
pub(crate) fn replay(
    kernel: &Kernel,
    block_journal: &mut BlockJournal,
    unclean: bool,
    on_progress: &dyn Fn(Replay),
) -> Result<(), Fatal> {
    let total = block_journal.journal().len();
    if unclean {
        tracing::warn!(
            blocks = total,
            "the last shutdown was unclean; blocks acknowledged since the last flush are replayed"
        );
    }
    if total == 0 {
        return Ok(());
    }
    let mut counts = Counts::default();
    let mut reported = Instant::now();
    on_progress(Replay {
        done: 0,
        total,
        unclean,
    });
    let mut blocks = vec![None; total];
    let mut left: Vec<usize> = (0..total).collect();
    // Blocks are journaled in the order of arrival, which need not be parents first.
    loop {
        let submitted = left.len();
        let done = total - submitted;
        for (at, index) in std::mem::take(&mut left).into_iter().enumerate() {
            let (block, submitted) = submit(kernel, block_journal, index)?;
            blocks[index] = block;
            match submitted {
                Submitted::New => counts.new += 1,
                Submitted::Known => counts.known += 1,
                Submitted::Skipped => counts.skipped += 1,
                Submitted::TooEarly => left.push(index),
            }
            if reported.elapsed() >= REPORT_EVERY {
                let done = done + at + 1 - left.len();
                tracing::info!(done, total, "replaying blocks.journal");
                on_progress(Replay {
                    done,
                    total,
                    unclean,
                });
                reported = Instant::now();
            }
        }
        if left.is_empty() || left.len() == submitted {
            break;
        }
    }
    let Counts {
        new,
        known,
        skipped,
    } = counts;
    tracing::info!(
        new,
        known,
        skipped,
        waiting = left.len(),
        "blocks.journal was replayed"
    );
    if !left.is_empty() {
        tracing::warn!(
            blocks = left.len(),
            "some blocks of blocks.journal cannot be accepted yet: their parent is missing, or their time is ahead of this machine's clock (check it); they stay in the journal and are submitted again at the next start"
        );
    }
    if let Err(error) = block_journal.replayed(&blocks) {
        tracing::warn!("cannot drop useless records of blocks.journal: {error}");
    }
    if new > FLUSH_ABOVE {
        kernel.reopen()?;
        let side = block_journal.side_records(kernel);
        block_journal.kernel_has_all(&side);
    }
    Ok(())
}

/// The result of submitting one record.
enum Submitted {
    New,
    Known,
    Skipped,
    /// Its parent is missing, or its time is in the future.
    TooEarly,
}

/// Submits one record to the kernel. Returns its block, unless the record is useless.
fn submit(
    kernel: &Kernel,
    block_journal: &BlockJournal,
    index: usize,
) -> Result<(Option<BlockHash>, Submitted), Fatal> {
    let skip = |why: &str| {
        tracing::warn!(
            record = index,
            "a block of blocks.journal is skipped: {why}"
        );
        Ok((None, Submitted::Skipped))
    };
    let bytes = match block_journal.journal().read(index) {
        Ok(bytes) => bytes,
        Err(error) => return skip(&error.to_string()),
    };
    let Ok(block) = Block::new(&bytes) else {
        return skip("it cannot be decoded");
    };
    let hash = convert::hash(&block.hash());
    let manager = kernel.manager().expect("it was opened just now");
    if let Some(reject) = mutated_record(kernel, &manager, &bytes, &block) {
        return skip(&format!("{hash}: {reject}"));
    }
    let (result, record) = record::during(|| manager.process_block(&block));
    let (outcome, _) = verdict::block(hash, result, &record, |_| None);
    if let Some(fatal) = record.fatal.into_iter().next() {
        return Err(fatal);
    }
    let submitted = match outcome {
        BlockOutcome::Stored => Submitted::New,
        BlockOutcome::Duplicate => Submitted::Known,
        BlockOutcome::Rejected(Reject { kind, reason }) => match kind {
            RejectKind::MissingPrev | RejectKind::TimeFuture => Submitted::TooEarly,
            _ => return skip(&format!("{hash}: {reason}")),
        },
        BlockOutcome::Failed(why) => return Err(why),
    };
    Ok((Some(hash), submitted))
}

/// Whether a record's data does not match its header.
fn mutated_record(
    kernel: &Kernel,
    manager: &Manager<'_>,
    bytes: &[u8],
    block: &Block,
) -> Option<Reject> {
    let layout = layout::scan(bytes)?;
    let parent = convert::hash(&block.header().prev_hash());
    let (height, _) = record::during(|| {
        let parent = manager.get_block_tree_entry(&convert::kernel_hash(&parent))?;
        u32::try_from(parent.height() + 1).ok()
    });
    mutated::find(
        bytes,
        &layout,
        kernel.check(block, false),
        height,
        kernel.rules,
    )
}

/// Logs damage that opening a journal found.
pub(crate) fn report(name: &str, dir: &Path, found: &Found) {
    let file = dir.join(name);
    let file = file.display();
    if let Some(quarantined) = &found.quarantined {
        tracing::warn!(quarantined = %quarantined.display(), "{file} is not a journal of this version or is damaged; it was quarantined and a new one is started");
    }
    if let Some(copy) = &found.copy {
        tracing::warn!(
            copy = %copy.display(),
            records = found.records,
            damaged = found.damaged,
            unread_bytes_at_end = found.unread,
            "{file}: not all of it can be read (an interrupted write, or damage); the readable records are used, the others may have been acknowledged and have to be downloaded again, and the original file stays under another name"
        );
    }
}

/// The marker of a running node.
#[derive(Debug)]
pub(crate) struct RunningMarker {
    path: PathBuf,
}

/// The contents of the marker file.
#[derive(Debug, Serialize, Deserialize)]
struct Running {
    process: u32,
}

impl RunningMarker {
    const VERSION: u32 = 1;
    const LOSS: &'static str = "the run before counts as one that did not end as it should; \
                                nothing needs to be done";

    pub(crate) fn new(dir: &Path) -> RunningMarker {
        RunningMarker {
            path: dir.join("running"),
        }
    }

    /// Whether an earlier run left it, intact or damaged.
    pub(crate) fn was_left(&self) -> io::Result<bool> {
        let there = match std::fs::symlink_metadata(&self.path) {
            Ok(_) => true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(error),
        };
        let running: Option<Running> = state_file::load(&self.path, Self::VERSION, Self::LOSS)?;
        if let Some(Running { process }) = running {
            tracing::debug!(process, "the marker of the last run exists");
        }
        Ok(there)
    }

    /// Creates the marker: from now on a shutdown without [`RunningMarker::clear`] is unclean.
    pub(crate) fn set(&self) {
        let process = std::process::id();
        if let Err(error) = state_file::save(&self.path, Self::VERSION, &Running { process }) {
            // Only a message at the next start depends on it; replay does not need it.
            tracing::warn!(
                "{}: {error}; an unclean shutdown will not be reported at the next start",
                self.path.display()
            );
        }
    }

    pub(crate) fn clear(&self) {
        if let Err(error) = remove(&self.path) {
            tracing::warn!(
                "{}: {error}; the next start will report an unclean shutdown",
                self.path.display()
            );
        }
    }
}
