//! The start after an unclean end: blocks of the journal are offered to the kernel.
//!
//! The marker file `running` is there while a node runs, and stays when it does not end
//! as it should.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bitcoin::BlockHash;
use bitcoinkernel::Block;
use bitcoinkernel::prelude::*;
use handfast_disk::{Found, remove, state_file};
use serde::{Deserialize, Serialize};

use crate::keeper::{Fatal, Keeper};
use crate::kernel::{Kernel, Manager};
use crate::{BlockOutcome, Reject, RejectKind, convert, layout, mutated, record, verdict};

/// Between two reports of how far it is.
const REPORT_EVERY: Duration = Duration::from_secs(2);
/// New blocks after which the kernel is made to flush, so that a node which ends
/// uncleanly again and again does not begin with more each time.
const FLUSH_ABOVE: usize = 256;

/// How far the replay of the journal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replay {
    /// Records offered.
    pub done: usize,
    /// Records there are.
    pub total: usize,
    /// The last run did not end as it should.
    pub unclean: bool,
}

/// What came of it.
#[derive(Debug, Default)]
struct Counts {
    /// Blocks that the kernel had forgotten.
    new: usize,
    known: usize,
    skipped: usize,
}

/// Offers all records to the kernel, a parent before its children.
pub(crate) fn replay(
    kernel: &Kernel,
    keeper: &mut Keeper,
    unclean: bool,
    tell: &dyn Fn(Replay),
) -> Result<(), Fatal> {
    let total = keeper.journal().len();
    if unclean {
        tracing::warn!(
            blocks = total,
            "the last run did not end as it should; blocks that it had acknowledged since the chain was flushed are replayed"
        );
    }
    if total == 0 {
        return Ok(());
    }
    let mut counts = Counts::default();
    let mut reported = Instant::now();
    tell(Replay {
        done: 0,
        total,
        unclean,
    });
    let mut blocks = vec![None; total];
    let mut left: Vec<usize> = (0..total).collect();
    // Blocks are journaled as they come, which need not be parents first.
    loop {
        let offered = left.len();
        let done = total - offered;
        for (at, index) in std::mem::take(&mut left).into_iter().enumerate() {
            let (block, offered) = offer(kernel, keeper, index)?;
            blocks[index] = block;
            match offered {
                Offered::New => counts.new += 1,
                Offered::Known => counts.known += 1,
                Offered::Skipped => counts.skipped += 1,
                Offered::TooEarly => left.push(index),
            }
            if reported.elapsed() >= REPORT_EVERY {
                let done = done + at + 1 - left.len();
                tracing::info!(done, total, "replaying blocks.journal");
                tell(Replay {
                    done,
                    total,
                    unclean,
                });
                reported = Instant::now();
            }
        }
        if left.is_empty() || left.len() == offered {
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
            "some blocks of blocks.journal cannot be taken yet: their parent is not there, or their time is ahead of this machine's clock (check it); they are kept and offered again at the next start"
        );
    }
    if let Err(error) = keeper.replayed(&blocks) {
        tracing::warn!("cannot drop useless records of blocks.journal: {error}");
    }
    if new > FLUSH_ABOVE {
        kernel.reopen()?;
        let beside = keeper.beside(kernel);
        keeper.kernel_has_all(&beside);
    }
    Ok(())
}

/// What became of one record.
enum Offered {
    New,
    Known,
    Skipped,
    /// Its parent is not there, or its time is in the future.
    TooEarly,
}

/// Has the kernel judge one record. Returns its block, unless it is of no use.
fn offer(
    kernel: &Kernel,
    keeper: &Keeper,
    index: usize,
) -> Result<(Option<BlockHash>, Offered), Fatal> {
    let skip = |why: &str| {
        tracing::warn!(
            record = index,
            "a block of blocks.journal is skipped: {why}"
        );
        Ok((None, Offered::Skipped))
    };
    let bytes = match keeper.journal().read(index) {
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
    let offered = match outcome {
        BlockOutcome::Stored => Offered::New,
        BlockOutcome::Duplicate => Offered::Known,
        BlockOutcome::Rejected(Reject { kind, reason }) => match kind {
            RejectKind::MissingPrev | RejectKind::TimeFuture => Offered::TooEarly,
            _ => return skip(&format!("{hash}: {reason}")),
        },
        BlockOutcome::Failed(why) => return Err(why),
    };
    Ok((Some(hash), offered))
}

/// Whether a record's data does not belong to its header.
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

/// Says what the disk had for us, where that is not what it should be.
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
            "{file}: not all of it can be read (a write that was cut short, or damage); what can be is used, the rest may have been acknowledged and has to be downloaded again, and the file as it was stays under another name"
        );
    }
}

/// The marker of a running node.
#[derive(Debug)]
pub(crate) struct Marker {
    path: PathBuf,
}

/// Its contents.
#[derive(Debug, Serialize, Deserialize)]
struct Running {
    process: u32,
}

impl Marker {
    const VERSION: u32 = 1;

    pub(crate) fn new(dir: &Path) -> Marker {
        Marker {
            path: dir.join("running"),
        }
    }

    /// Whether an earlier run left it. A damaged one was left, too.
    pub(crate) fn was_left(&self) -> io::Result<bool> {
        let there = match std::fs::symlink_metadata(&self.path) {
            Ok(_) => true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(error),
        };
        let running: Option<Running> = state_file::load(&self.path, Self::VERSION)?;
        if let Some(Running { process }) = running {
            tracing::debug!(process, "the marker of the run before is there");
        }
        Ok(there)
    }

    /// From now on an end without [`Marker::clear`] is an unclean one.
    pub(crate) fn set(&self) {
        let process = std::process::id();
        if let Err(error) = state_file::save(&self.path, Self::VERSION, &Running { process }) {
            // What it is for is a message at the next start; replay does not need it.
            tracing::warn!(
                "{}: {error}; an unclean end will not be told at the next start",
                self.path.display()
            );
        }
    }

    pub(crate) fn clear(&self) {
        if let Err(error) = remove(&self.path) {
            tracing::warn!(
                "{}: {error}; the next start will take this end for an unclean one",
                self.path.display()
            );
        }
    }
}
