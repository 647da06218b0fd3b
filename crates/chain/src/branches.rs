//! The side branches of the kernel: neither in the active chain nor in the best header chain.
//!
//! The kernel keeps every header, but its interface has no list of them: it gives the active
//! chain, the best header, and the entry of a given hash. Without the side branches a restarted
//! node knows less than its kernel. So this file stores the tips of side branches, hashes only;
//! their ancestors and their marks are read from the kernel ([`read`]). The file can lack tips
//! (it is lost, damaged or full) and have too many (the kernel lost what it had not flushed):
//! missing tips are added when the kernel next reports them, others are left out.
//!
//! # Bounds
//! [`MAX_TIPS`] records of 72 bytes. When there are more, ancestors of a later tip are dropped
//! first, and then the oldest.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::{Duration, Instant};

use bitcoin::BlockHash;
use bitcoin::block::Header;
use bitcoin::hashes::Hash;
use bitcoinkernel::{BlockTreeEntry, ChainstateManager};
use handfast_disk::{Format, Found, Journal, Storage};

use crate::kernel::Manager;
use crate::{convert, record};

/// The file's name in the data directory.
pub(crate) const FILE: &str = "branches.journal";
/// A record is the hash of the tip of a branch.
const FORMAT: Format = Format {
    magic: *b"HFBRANCH",
    version: 1,
};
/// Records at most.
const MAX_TIPS: usize = 1_024;
/// Between two writes, each of which waits for the disk.
const WRITE_EVERY: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub(crate) struct Branches {
    journal: Journal,
    /// The tips: first those of the records, in their order, then those to be written.
    tips: Vec<BlockHash>,
    /// How many of them are written.
    written: usize,
    /// The best header at the last call of `observe`.
    best: Option<BlockHash>,
    /// When to write again.
    next_write: Instant,
}

impl Branches {
    pub(crate) fn open(storage: Box<dyn Storage>) -> io::Result<(Branches, Found)> {
        let (journal, found) = Journal::open(storage, FORMAT)?;
        let mut tips = vec![];
        for record in 0..journal.len() {
            // A record of another length is no tip, though its checksum is right.
            let hash = journal
                .read(record)?
                .try_into()
                .map(BlockHash::from_byte_array);
            tips.push(hash.unwrap_or(BlockHash::all_zeros()));
        }
        let branches = Branches {
            journal,
            written: tips.len(),
            tips,
            best: None,
            next_write: Instant::now(),
        };
        Ok((branches, found))
    }

    /// The tips of side branches, oldest first.
    pub(crate) fn tips(&self) -> &[BlockHash] {
        &self.tips
    }

    /// Adds the side branches that a job may have made: `touched`, the blocks of the job, and the
    /// best header before it.
    pub(crate) fn observe(
        &mut self,
        manager: &ChainstateManager,
        touched: impl IntoIterator<Item = BlockHash>,
    ) {
        let Some(best) = manager.best_entry() else {
            return;
        };
        let hash = convert::hash(&best.block_hash());
        let before = self.best.replace(hash).filter(|before| *before != hash);
        for hash in before.into_iter().chain(touched) {
            if let Some(entry) = entry(manager, &hash)
                && is_side_header(manager, &best, &entry)
                && !self.tips.contains(&hash)
                // The bound while the file cannot be written.
                && self.tips.len() < 2 * MAX_TIPS
            {
                self.tips.push(hash);
            }
        }
    }

    /// Writes new tips, unless the last write was a moment ago. Returns when to call it again.
    pub(crate) fn idle(&mut self, manager: &ChainstateManager) -> Option<Instant> {
        if self.written == self.tips.len() {
            return None;
        }
        if self.next_write > Instant::now() {
            return Some(self.next_write);
        }
        self.write(manager);
        (self.written < self.tips.len()).then_some(self.next_write)
    }

    /// Writes new tips.
    pub(crate) fn write(&mut self, manager: &ChainstateManager) {
        if self.written == self.tips.len() {
            return;
        }
        self.next_write = Instant::now() + WRITE_EVERY;
        let new: Vec<[u8; 32]> = self.tips[self.written..]
            .iter()
            .map(|tip| tip.to_byte_array())
            .collect();
        let written = self.journal.append(&new).and_then(|()| {
            self.written = self.tips.len();
            self.shorten(manager)
        });
        if let Err(error) = written {
            // Only the tree at the next start depends on it, and it is tried again.
            tracing::debug!("{FILE} cannot be written: {error}");
        }
    }

    /// Drops records when there are too many, down to half of the bound.
    fn shorten(&mut self, manager: &ChainstateManager) -> io::Result<()> {
        if self.tips.len() > MAX_TIPS {
            let stay = newest_ends(manager, &self.tips, MAX_TIPS / 2);
            self.journal.retain(&stay)?;
            self.tips = stay.iter().map(|at| self.tips[*at]).collect();
            self.written = self.tips.len();
        }
        Ok(())
    }
}

/// The newest of `tips` that are no ancestors of newer ones, at most `count`, in order.
fn newest_ends(manager: &ChainstateManager, tips: &[BlockHash], count: usize) -> Vec<usize> {
    let mut ends: Vec<BlockTreeEntry<'_>> = vec![];
    let mut stay = vec![];
    for (at, tip) in tips.iter().enumerate().rev() {
        if let Some(entry) = entry(manager, tip)
            && ends.len() < count
            && !ends.iter().any(|end| is_ancestor(&entry, end))
        {
            ends.push(entry);
            stay.push(at);
        }
    }
    stay.reverse();
    stay
}

fn entry<'a>(manager: &'a ChainstateManager, hash: &BlockHash) -> Option<BlockTreeEntry<'a>> {
    record::during(|| manager.get_block_tree_entry(&convert::kernel_hash(hash))).0
}

fn is_ancestor(entry: &BlockTreeEntry<'_>, of: &BlockTreeEntry<'_>) -> bool {
    let there = of.ancestor(entry.height());
    there.is_some_and(|there| {
        convert::hash(&there.block_hash()) == convert::hash(&entry.block_hash())
    })
}

fn is_side_header(
    manager: &ChainstateManager,
    best: &BlockTreeEntry<'_>,
    entry: &BlockTreeEntry<'_>,
) -> bool {
    !is_ancestor(entry, best) && !manager.active_chain().contains(entry)
}

/// A header of a side branch: neither in the active chain nor in the best header chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SideHeader {
    /// The header.
    pub header: Header,
    /// The block's data is on disk, as far as is known.
    pub stored: bool,
    /// The kernel's block index has it marked invalid.
    pub invalid: bool,
}

/// The headers of the side branches that end in `tips`, a parent before its children.
pub(crate) fn read(
    manager: &Manager<'_>,
    tips: impl IntoIterator<Item = BlockHash>,
    on_disk: &BTreeSet<BlockHash>,
) -> Vec<SideHeader> {
    let best = manager.best_entry();
    let best = best.unwrap_or_else(|| manager.active_chain().tip());
    let mut found: BTreeMap<(i32, BlockHash), Header> = BTreeMap::new();
    for tip in tips {
        let mut next = entry(manager, &tip);
        while let Some(entry) = next {
            let key = (entry.height(), convert::hash(&entry.block_hash()));
            if found.contains_key(&key) || !is_side_header(manager, &best, &entry) {
                break;
            }
            found.insert(key, convert::header(&entry));
            // Genesis is in the active chain.
            next = entry.prev();
        }
    }
    let mut invalid = BTreeSet::new();
    let side = |((_, hash), header): ((i32, BlockHash), Header)| {
        let is_marked = invalid.contains(&header.prev_blockhash) || manager.marked(&hash).is_some();
        if is_marked {
            invalid.insert(hash);
        }
        SideHeader {
            header,
            stored: on_disk.contains(&hash),
            invalid: is_marked,
        }
    };
    found.into_iter().map(side).collect()
}
