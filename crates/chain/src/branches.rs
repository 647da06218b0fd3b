//! Which branches the kernel has beside the active chain and the best one.
//!
//! The kernel never forgets a header, but its interface gives no list: it tells of the
//! active chain, of the best header, and of an entry whose hash it is given. A node that
//! begins anew without the rest knows less than its kernel does. So the ends of the other
//! branches are written down here, hashes only: what lies before an end is asked of the
//! kernel ([`read`]), and so are its marks. The file can miss some (it is lost or damaged, or
//! full) and can have too many (the kernel lost what it had not flushed): the first are told
//! when the kernel next speaks of them, the second are left out.
//!
//! # Bounds
//! [`MAX_TIPS`] records of 72 bytes. When there are more, those go that a later one builds
//! on, and then the oldest.

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
/// A record is the hash of the last header of a branch.
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
    /// The ends: first those of the records, in their order, then those to be written.
    tips: Vec<BlockHash>,
    /// How many of them are written.
    written: usize,
    /// The best header when it was looked at last.
    best: Option<BlockHash>,
    /// When to write again.
    due: Instant,
}

impl Branches {
    pub(crate) fn open(storage: Box<dyn Storage>) -> io::Result<(Branches, Found)> {
        let (journal, found) = Journal::open(storage, FORMAT)?;
        let mut tips = vec![];
        for record in 0..journal.len() {
            // One of another length is of no branch; the checksum says that it was written.
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
            due: Instant::now(),
        };
        Ok((branches, found))
    }

    /// The ends of branches, oldest first.
    pub(crate) fn tips(&self) -> &[BlockHash] {
        &self.tips
    }

    /// Takes note of what a job may have left beside the two chains: `touched`, blocks that
    /// it was about, and the best header before it.
    pub(crate) fn looked(
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
                && is_beside(manager, &best, &entry)
                && !self.tips.contains(&hash)
                // While it cannot be written.
                && self.tips.len() < 2 * MAX_TIPS
            {
                self.tips.push(hash);
            }
        }
    }

    /// Writes what is not written, unless that was done a moment ago. Returns when it wants
    /// to be called again.
    pub(crate) fn idle(&mut self, manager: &ChainstateManager) -> Option<Instant> {
        if self.written == self.tips.len() {
            return None;
        }
        if self.due > Instant::now() {
            return Some(self.due);
        }
        self.write(manager);
        (self.written < self.tips.len()).then_some(self.due)
    }

    /// Writes what is not written.
    pub(crate) fn write(&mut self, manager: &ChainstateManager) {
        if self.written == self.tips.len() {
            return;
        }
        self.due = Instant::now() + WRITE_EVERY;
        let new: Vec<[u8; 32]> = self.tips[self.written..]
            .iter()
            .map(|tip| tip.to_byte_array())
            .collect();
        let written = self.journal.append(&new).and_then(|()| {
            self.written = self.tips.len();
            self.shorten(manager)
        });
        if let Err(error) = written {
            // What it is for is a tree that is whole at the next start; it is tried again.
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

/// Which of `tips` are the newest that no newer one builds on, at most `count`, in order.
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

fn is_beside(
    manager: &ChainstateManager,
    best: &BlockTreeEntry<'_>,
    entry: &BlockTreeEntry<'_>,
) -> bool {
    !is_ancestor(entry, best) && !manager.active_chain().contains(entry)
}

/// A header that the kernel has beside the active chain and the best branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SideHeader {
    /// The header.
    pub header: Header,
    /// The block's data is on disk, as far as is known.
    pub stored: bool,
    /// The kernel's block index has it marked invalid.
    pub invalid: bool,
}

/// What the kernel has of the branches that end in `tips`, a parent before its children.
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
            let place = (entry.height(), convert::hash(&entry.block_hash()));
            if found.contains_key(&place) || !is_beside(manager, &best, &entry) {
                break;
            }
            found.insert(place, convert::header(&entry));
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
