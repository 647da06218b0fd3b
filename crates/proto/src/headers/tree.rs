//! All headers we know, and the active chain among them.

use bitcoin::BlockHash;
use bitcoin::block::Header;
use imbl::Vector;

use super::entry::{Entry, Record, Slot, Status, to_work};
use super::index::HashIndex;
use super::marks::Marks;
use super::work::block_work;

mod unsent;

use unsent::Unsent;

/// A tree of headers with genesis at its root, and the active chain in it.
///
/// `clone` is O(1): the parts are persistent, so a clone is a snapshot for a reader while the owner
/// continues. A change after a clone copies a few small chunks (about a microsecond), never the
/// whole.
///
/// # Bounds
///
/// The tree drops nothing. Its callers make sure that each header costs its sender something:
/// [`check_pow`](super::check_pow), and [`LowWork`](super::LowWork) below
/// [`anti_dos_threshold`](super::anti_dos_threshold).
#[derive(Clone)]
pub struct HeaderTree {
    pub(super) records: Vector<Record>,
    /// By slot. `Connected` is written when a block leaves the active chain; a
    /// block in it is known by `active`.
    marks: Marks,
    unsent: Unsent,
    index: HashIndex,
    /// Slot by height.
    pub(super) active: Vector<Slot>,
    best: Slot,
    /// Work of one block at the bits seen last: computing it costs a division of
    /// 256 bits, and bits change every 2,016 blocks.
    block_work: (bitcoin::CompactTarget, u128),
    genesis_prev: BlockHash,
}

/// The result of [`HeaderTree::insert`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Inserted {
    /// The header was new and is in the tree now.
    New,
    /// The header was there already; see its status.
    Known,
}

/// The effect of the kernel's new tip on the tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Connected {
    /// One block above the old tip.
    AsExpected,
    /// The tree held something else, which was corrected.
    Adopted,
    /// Its header is unknown: the tree is unchanged.
    Unknown,
}

/// Why a header was not inserted. The tree is unchanged.
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
            unsent: Unsent::default(),
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

    /// Adds a header. The caller checks its proof of work (`check_pow`).
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
        let prev = header.prev_blockhash;
        let parent = self.slot(&prev);
        if !self.contains(&hash)
            && parent.is_some_and(|parent| self.status(parent) == Status::Invalid)
        {
            return Err(InsertError::InvalidParent { hash, parent: prev });
        }
        self.add(hash, header)
    }

    /// As [`insert_hashed`](Self::insert_hashed), for a header that the kernel has: on an invalid
    /// parent it is invalid too.
    ///
    /// # Errors
    ///
    /// The parent is unknown.
    pub fn adopt(&mut self, hash: BlockHash, header: Header) -> Result<Inserted, InsertError> {
        let inserted = self.add(hash, header)?;
        self.mark_sent(&header.prev_blockhash);
        self.mark_sent(&hash);
        Ok(inserted)
    }

    fn add(&mut self, hash: BlockHash, header: Header) -> Result<Inserted, InsertError> {
        if self.contains(&hash) {
            return Ok(Inserted::Known);
        }
        let prev = header.prev_blockhash;
        let Some(parent) = self.slot(&prev) else {
            return Err(InsertError::UnknownParent { hash, parent: prev });
        };
        let status = match self.status(parent) {
            Status::Invalid => Status::Invalid,
            Status::Header | Status::Stored | Status::Connected => Status::Header,
        };
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
        self.marks.push(status);
        self.index.insert(&hash, slot);
        if status != Status::Invalid && work > self.record(self.best).work {
            self.best = slot;
        }
        Ok(Inserted::New)
    }

    /// The header with most work that is not invalid; among equals the one seen first.
    pub fn best_header(&self) -> Entry {
        self.entry(self.best)
    }

    /// The tip of the active chain, as the kernel reported it.
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

    /// The block's data is on disk. No change if the block is connected or invalid, or if the
    /// header is unknown.
    pub fn mark_stored(&mut self, hash: &BlockHash) {
        let Some(slot) = self.slot(hash) else { return };
        if self.status(slot) == Status::Header {
            self.marks.set(slot, Status::Stored);
        }
    }

    /// The kernel refused this block or header: it and its descendants are invalid from now on.
    /// Returns how many headers became invalid; 0 if it was invalid already.
    ///
    /// Scans each later header, and all of them when the best header becomes invalid: some 50 ms on
    /// mainnet at worst, at the price of an invalid block with valid proof of work.
    ///
    /// Nothing changes if the header is unknown, or while it is in the active chain, from which the
    /// kernel would disconnect it first.
    pub fn mark_invalid(&mut self, hash: &BlockHash) -> usize {
        let Some(root) = self.slot(hash) else {
            return 0;
        };
        if self.is_active(root) || self.marks.get(root) == Status::Invalid {
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

    /// The kernel reports this block as the tip. The tree follows whatever it held: a block that
    /// was marked invalid is valid again, as are its descendants until the kernel refuses them
    /// again, and the active chain is the path to it.
    pub fn connect(&mut self, hash: &BlockHash) -> Connected {
        let Some(slot) = self.slot(hash) else {
            return Connected::Unknown;
        };
        let valid = self.marks.get(slot) != Status::Invalid;
        if slot != 0 && self.record(slot).parent == self.tip_slot() && valid {
            self.active.push_back(slot);
            return Connected::AsExpected;
        }
        let fork = self.fork_slot(slot, self.tip_slot());
        while self.tip_slot() != fork {
            self.pop_tip();
        }
        let mut path = Vec::new();
        let mut at = slot;
        while at != fork {
            path.push(at);
            at = self.record(at).parent;
        }
        for slot in path.into_iter().rev() {
            self.active.push_back(slot);
        }
        self.reconsider(slot);
        Connected::Adopted
    }

    /// Removes the invalid marks of this block's ancestors and of their descendants.
    fn reconsider(&mut self, slot: Slot) {
        let mut first = None;
        let mut at = slot;
        while self.marks.get(at) == Status::Invalid {
            self.marks.set(at, Status::Header);
            first = Some(at);
            at = self.record(at).parent;
        }
        let Some(first) = first else { return };
        for slot in first + 1..self.records.len() as Slot {
            let parent = self.record(slot).parent;
            if parent >= first
                && self.marks.get(slot) == Status::Invalid
                && self.marks.get(parent) != Status::Invalid
            {
                self.marks.set(slot, Status::Header);
            }
        }
        self.best = self.find_best();
    }

    /// The kernel disconnected this block and all above it from the active chain. Nothing changes
    /// if it is not in it, or is genesis.
    pub fn disconnect(&mut self, hash: &BlockHash) {
        let Some(slot) = self.slot(hash).filter(|slot| *slot != 0) else {
            return;
        };
        while self.is_active(slot) {
            self.pop_tip();
        }
    }

    fn pop_tip(&mut self) {
        if let Some(slot) = self.active.pop_back() {
            self.marks.set(slot, Status::Connected);
        }
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
