//! All headers we know, and the active chain among them.

use bitcoin::BlockHash;
use bitcoin::block::Header;
use imbl::Vector;

use super::entry::{Entry, Record, Slot, Status, to_work};
use super::index::HashIndex;
use super::marks::Marks;
use super::pow::block_work;

/// A tree of headers with genesis at its root, and the active chain in it.
///
/// `clone` is O(1): the parts are persistent, so a clone is a snapshot that a
/// reader keeps while the owner goes on. A change after a clone copies a few
/// small chunks (about a microsecond), never the whole.
///
/// # Bounds
///
/// The tree forgets nothing. Whoever inserts makes sure that each header costs its
/// sender something: [`check_pow`](super::check_pow), and
/// [`LowWork`](super::LowWork) below
/// [`anti_dos_threshold`](super::anti_dos_threshold).
#[derive(Clone)]
pub struct HeaderTree {
    pub(super) records: Vector<Record>,
    /// By slot. `Connected` is written when a block leaves the active chain; a
    /// block in it is known by `active`.
    marks: Marks,
    index: HashIndex,
    /// Slot by height.
    pub(super) active: Vector<Slot>,
    best: Slot,
    /// Work of one block at the bits seen last: computing it costs a division of
    /// 256 bits, and bits change every 2,016 blocks.
    block_work: (bitcoin::CompactTarget, u128),
    genesis_prev: BlockHash,
}

/// What [`HeaderTree::insert`] found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Inserted {
    /// The header was new and is in the tree now.
    New,
    /// The header was there already; look at its status.
    Known,
}

/// Why a header was not inserted. Nothing has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InsertError {
    /// The header before it is not in the tree.
    #[error("header {hash}: unknown parent {parent}")]
    UnknownParent {
        /// Hash of the refused header.
        hash: BlockHash,
        /// The missing one.
        parent: BlockHash,
    },
    /// It builds on a header or block that the kernel refused.
    #[error("header {hash}: parent {parent} is invalid")]
    InvalidParent {
        /// Hash of the refused header.
        hash: BlockHash,
        /// The invalid one.
        parent: BlockHash,
    },
}

impl HeaderTree {
    /// A tree of `genesis` alone, connected and the tip.
    pub fn new(genesis: Header) -> Self {
        let work = block_work(genesis.bits);
        let hash = genesis.block_hash();
        let mut index = HashIndex::default();
        index.insert(&hash, 0);
        let mut marks = Marks::default();
        marks.push(Status::Connected);
        Self {
            records: Vector::unit(Record::new(hash, &genesis, 0, work, 0, 0)),
            marks,
            index,
            active: Vector::unit(0),
            best: 0,
            block_work: (genesis.bits, work),
            genesis_prev: genesis.prev_blockhash,
        }
    }

    /// Number of headers, genesis included.
    #[allow(clippy::len_without_is_empty)] // genesis is always there
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// The header with this hash.
    pub fn get(&self, hash: &BlockHash) -> Option<Entry> {
        self.slot(hash).map(|slot| self.entry(slot))
    }

    /// Whether the tree has this header, valid or not.
    pub fn contains(&self, hash: &BlockHash) -> bool {
        self.slot(hash).is_some()
    }

    /// The header before this one; `None` for genesis and for unknown hashes.
    pub fn parent(&self, hash: &BlockHash) -> Option<Entry> {
        let slot = self.slot(hash)?;
        (slot != 0).then(|| self.entry(self.record(slot).parent))
    }

    /// Adds a header. Its proof of work is the caller's matter (`check_pow`).
    pub fn insert(&mut self, header: Header) -> Result<Inserted, InsertError> {
        self.insert_hashed(header.block_hash(), header)
    }

    /// As [`insert`](Self::insert), when the hash is known already (hashing is
    /// half of the cost). `hash` must be the header's.
    pub fn insert_hashed(
        &mut self,
        hash: BlockHash,
        header: Header,
    ) -> Result<Inserted, InsertError> {
        if self.contains(&hash) {
            return Ok(Inserted::Known);
        }
        let prev = header.prev_blockhash;
        let Some(parent) = self.slot(&prev) else {
            return Err(InsertError::UnknownParent { hash, parent: prev });
        };
        if self.marks.get(parent) == Status::Invalid {
            return Err(InsertError::InvalidParent { hash, parent: prev });
        }
        if self.block_work.0 != header.bits {
            self.block_work = (header.bits, block_work(header.bits));
        }
        let slot = Slot::try_from(self.len()).expect("fewer than 2^32 headers");
        let (height, work) = {
            let parent = self.record(parent);
            (
                parent.height + 1,
                parent.work.saturating_add(self.block_work.1),
            )
        };
        let jump = self.jump_for_child_of(parent);
        self.records
            .push_back(Record::new(hash, &header, height, work, parent, jump));
        self.marks.push(Status::Header);
        self.index.insert(&hash, slot);
        if work > self.record(self.best).work {
            self.best = slot;
        }
        Ok(Inserted::New)
    }

    /// The header with most work that is not invalid; among equals the one seen first.
    pub fn best_header(&self) -> Entry {
        self.entry(self.best)
    }

    /// The end of the active chain: the kernel's word, not ours.
    pub fn tip(&self) -> Entry {
        self.entry(self.tip_slot())
    }

    /// The block of the active chain at this height.
    pub fn at_height(&self, height: u32) -> Option<Entry> {
        self.active
            .get(height as usize)
            .map(|slot| self.entry(*slot))
    }

    /// Whether this block is in the active chain.
    pub fn in_active_chain(&self, hash: &BlockHash) -> bool {
        self.slot(hash).is_some_and(|slot| self.is_active(slot))
    }

    /// The block's data is on disk. No change if more is known already.
    ///
    /// # Panics
    ///
    /// If the header is unknown: the kernel stores only blocks that we gave it.
    pub fn mark_stored(&mut self, hash: &BlockHash) {
        let slot = self.known(hash, "mark_stored");
        if self.status(slot) == Status::Header {
            self.marks.set(slot, Status::Stored);
        }
    }

    /// The kernel refused this block or header: it and all that build on it are
    /// invalid from now on. Returns how many headers became so; 0 if it was known.
    ///
    /// Looks at each header that came later, and at all of them when the best
    /// header is among the fallen: some 50 ms on mainnet at worst, at the price of
    /// an invalid block with valid proof of work.
    ///
    /// # Panics
    ///
    /// If the header is unknown, or in the active chain: the kernel disconnects first.
    pub fn mark_invalid(&mut self, hash: &BlockHash) -> usize {
        let root = self.known(hash, "mark_invalid");
        assert!(
            !self.is_active(root),
            "tree: {hash} is in the active chain, so it is not invalid"
        );
        if self.marks.get(root) == Status::Invalid {
            return 0;
        }
        self.marks.set(root, Status::Invalid);
        let mut fallen = 1;
        for slot in root + 1..self.records.len() as Slot {
            let parent = self.record(slot).parent;
            if self.marks.get(parent) == Status::Invalid && self.marks.get(slot) != Status::Invalid
            {
                self.marks.set(slot, Status::Invalid);
                fallen += 1;
            }
        }
        if self.marks.get(self.best) == Status::Invalid {
            self.best = self.find_best();
        }
        fallen
    }

    /// The kernel connected this block to the tip.
    ///
    /// # Panics
    ///
    /// If the header is unknown or invalid, or does not build on the tip.
    pub fn connect(&mut self, hash: &BlockHash) {
        let slot = self.known(hash, "connect");
        let parent = self.record(slot).parent;
        assert!(
            slot != 0 && parent == self.tip_slot(),
            "tree: the active chain grows by one: {hash} does not build on the tip {}",
            self.tip().hash,
        );
        assert!(
            self.marks.get(slot) != Status::Invalid,
            "tree: an invalid block is never active: {hash}"
        );
        self.active.push_back(slot);
    }

    /// The kernel took this block, the tip, off the active chain.
    ///
    /// # Panics
    ///
    /// If it is not the tip, or is genesis.
    pub fn disconnect(&mut self, hash: &BlockHash) {
        let slot = self.known(hash, "disconnect");
        assert!(slot != 0, "tree: genesis is always active");
        assert!(
            slot == self.tip_slot(),
            "tree: the active chain shrinks from its tip {}, not {hash}",
            self.tip().hash,
        );
        self.active.pop_back();
        self.marks.set(slot, Status::Connected);
    }

    fn find_best(&self) -> Slot {
        let mut best = (0, self.record(0).work);
        for (slot, record) in (0..).zip(self.records.iter()) {
            if record.work > best.1 && self.marks.get(slot) != Status::Invalid {
                best = (slot, record.work);
            }
        }
        best.0
    }

    fn known(&self, hash: &BlockHash, what: &str) -> Slot {
        match self.slot(hash) {
            Some(slot) => slot,
            None => panic!("tree: {what} of a block whose header is unknown: {hash}"),
        }
    }

    pub(super) fn slot(&self, hash: &BlockHash) -> Option<Slot> {
        self.index.get(hash, |slot| self.record(slot).hash)
    }

    pub(super) fn record(&self, slot: Slot) -> &Record {
        &self.records[slot as usize]
    }

    pub(super) fn status(&self, slot: Slot) -> Status {
        if self.is_active(slot) {
            Status::Connected
        } else {
            self.marks.get(slot)
        }
    }

    pub(super) fn is_active(&self, slot: Slot) -> bool {
        self.active.get(self.record(slot).height as usize) == Some(&slot)
    }

    pub(super) fn tip_slot(&self) -> Slot {
        *self.active.last().expect("genesis is always active")
    }

    pub(super) fn header(&self, slot: Slot) -> Header {
        let record = self.record(slot);
        let prev = if slot == 0 {
            self.genesis_prev
        } else {
            self.record(record.parent).hash
        };
        record.header(prev)
    }

    pub(super) fn entry(&self, slot: Slot) -> Entry {
        let record = self.record(slot);
        Entry {
            hash: record.hash,
            header: self.header(slot),
            height: record.height,
            work: to_work(record.work),
            status: self.status(slot),
        }
    }
}

impl std::fmt::Debug for HeaderTree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (tip, best) = (self.tip(), self.best_header());
        f.debug_struct("HeaderTree")
            .field("headers", &self.len())
            .field("tip", &format_args!("{}:{}", tip.height, tip.hash))
            .field(
                "best_header",
                &format_args!("{}:{}", best.height, best.hash),
            )
            .finish()
    }
}
