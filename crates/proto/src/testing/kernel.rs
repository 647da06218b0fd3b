//! A fake kernel: accepts headers and blocks in any order, connects the stored chain with most
//! work, and finds the blocks invalid that the test selects.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bitcoin::BlockHash;
use bitcoin::block::Header;
use handfast_wire::RawBlock;

use crate::headers::{HeaderTree, InsertError, Inserted, MAX_FUTURE_BLOCK_TIME, Status};
use crate::lifecycle::ConnId;
use crate::sync::{BlockOutcome, Change, Durability, KernelEvent, Reject, RejectKind};

use super::chains::{Data, data_of};

/// The kernel. See the module.
#[derive(Clone, Debug)]
pub struct Kernel {
    tree: HeaderTree,
    /// Blocks found invalid when they are checked, and how.
    pub bad: BTreeMap<BlockHash, RejectKind>,
    /// Blocks found invalid when they would be connected.
    pub bad_to_connect: BTreeSet<BlockHash>,
    /// Headers that are refused.
    pub bad_headers: BTreeMap<BlockHash, RejectKind>,
    /// These senders' blocks are mutated, whatever their bytes say.
    pub mutating: BTreeSet<ConnId>,
    /// Headers that were given with refused blocks.
    skipped: BTreeMap<BlockHash, Header>,
    /// There is more than one branch.
    forked: bool,
    /// Blocks that fail by a local error, once each.
    pub trouble: BTreeSet<BlockHash>,
    /// The wall clock, Unix seconds; `None`: no time is in the future.
    pub unix: Option<u32>,
    /// Whether it reports its stored blocks as journaled.
    pub durability: Durability,
}

/// The refusal of this class.
#[must_use]
pub fn reject(kind: RejectKind) -> Reject {
    Reject {
        kind,
        reason: format!("test-{kind:?}").to_lowercase(),
    }
}

/// Core's `prev-blk-not-found` is not its `bad-prevblk`: it blames no peer. It occurs where our
/// clock was wrong and the parent was refused as too far in the future.
fn orphan(error: &InsertError) -> Reject {
    reject(match error {
        InsertError::UnknownParent { .. } => RejectKind::MissingPrev,
        InsertError::InvalidParent { .. } => RejectKind::InvalidPrev,
    })
}

impl Kernel {
    /// A kernel with the chain of `tree`.
    #[must_use]
    pub fn new(tree: HeaderTree) -> Self {
        Self {
            tree,
            bad: BTreeMap::new(),
            bad_to_connect: BTreeSet::new(),
            bad_headers: BTreeMap::new(),
            mutating: BTreeSet::new(),
            skipped: BTreeMap::new(),
            forked: false,
            trouble: BTreeSet::new(),
            unix: None,
            durability: Durability::Yes,
        }
    }

    /// The tip of the active chain.
    #[must_use]
    pub fn tip(&self) -> BlockHash {
        self.tree.tip().hash
    }

    /// The headers and blocks on its disk.
    #[must_use]
    pub fn tree(&self) -> &HeaderTree {
        &self.tree
    }

    fn is_from_the_future(&self, header: &Header) -> bool {
        self.unix
            .is_some_and(|unix| header.time > unix.saturating_add(MAX_FUTURE_BLOCK_TIME))
    }

    fn insert(&mut self, hash: BlockHash, header: Header) -> Result<Inserted, InsertError> {
        let new = !self.tree.contains(&hash);
        self.forked |= new && header.prev_blockhash != self.tree.best_header().hash;
        self.tree.insert_hashed(hash, header)
    }

    /// Processes a batch of headers, up to the first that it refuses.
    pub fn headers(&mut self, headers: &[Header], origin: Option<ConnId>) -> KernelEvent {
        let mut count_ok = 0;
        let mut rejected = None;
        for header in headers {
            let hash = header.block_hash();
            if let Some(kind) = self.bad_headers.get(&hash) {
                rejected = Some((hash, reject(*kind)));
                break;
            }
            if !self.tree.contains(&hash) && self.is_from_the_future(header) {
                rejected = Some((hash, reject(RejectKind::TimeFuture)));
                break;
            }
            let known = self.tree.get(&hash);
            if known.is_some_and(|entry| entry.status == Status::Invalid) {
                rejected = Some((hash, reject(RejectKind::CachedInvalid)));
                break;
            }
            match self.insert(hash, *header) {
                Ok(_) => count_ok += 1,
                Err(error) => {
                    rejected = Some((hash, orphan(&error)));
                    break;
                }
            }
        }
        KernelEvent::HeadersChecked {
            count_ok,
            rejected,
            origin,
            busy: Duration::ZERO,
        }
    }

    /// Processes a block, and connects what can be connected.
    pub fn block(&mut self, block: &RawBlock, origin: Option<ConnId>) -> KernelEvent {
        self.block_behind(&[], block, origin)
    }

    /// The same for a block with the headers that lead to it.
    pub fn block_behind(
        &mut self,
        before: &[Header],
        block: &RawBlock,
        origin: Option<ConnId>,
    ) -> KernelEvent {
        let hash = block.hash;
        let mut changes = Vec::new();
        let outcome = self.look_at(before, block, origin, &mut changes);
        if !matches!(outcome, BlockOutcome::Stored | BlockOutcome::Duplicate) {
            let along = before.iter().chain([&block.header]);
            self.skipped
                .extend(along.map(|header| (header.block_hash(), *header)));
        }
        KernelEvent::BlockChecked {
            hash,
            outcome,
            origin,
            changes,
            durability: self.durability.clone(),
            busy: Duration::ZERO,
        }
    }

    fn check_data(&self, block: &RawBlock, origin: Option<ConnId>) -> Option<Reject> {
        let mutating = origin.is_some_and(|origin| self.mutating.contains(&origin));
        match data_of(block) {
            Data::True if !mutating => None,
            Data::True | Data::Mutated => Some(reject(RejectKind::Mutated)),
            Data::BadBeforeMerkleRoot => Some(Reject {
                kind: RejectKind::Consensus,
                reason: "bad-signet-blksig".into(),
            }),
        }
    }

    /// Adds the headers that lead to a block, also those that were given with refused blocks.
    /// Returns why the block is refused because of them.
    fn give_before(&mut self, before: &[Header], block: &RawBlock) -> Option<Reject> {
        let mut way: Vec<Header> = before.to_vec();
        let first = way
            .first()
            .map_or(block.header.prev_blockhash, |first| first.prev_blockhash);
        let mut at = first;
        while let Some(header) = self.skipped.remove(&at) {
            at = header.prev_blockhash;
            way.insert(0, header);
        }
        let KernelEvent::HeadersChecked { rejected, .. } = self.headers(&way, None) else {
            return None;
        };
        let (_, mut reject) = rejected?;
        if reject.kind == RejectKind::CachedInvalid {
            reject.kind = RejectKind::InvalidPrev;
        }
        Some(reject)
    }

    fn look_at(
        &mut self,
        before: &[Header],
        block: &RawBlock,
        origin: Option<ConnId>,
        changes: &mut Vec<Change>,
    ) -> BlockOutcome {
        let hash = block.hash;
        if self.trouble.remove(&hash) {
            return BlockOutcome::Failed("disk full".into());
        }
        // Core's `CheckBlock` precedes any use of the block index: a refusal concerns these bytes,
        // and not the hash.
        if let Some(reject) = self.check_data(block, origin) {
            return BlockOutcome::Rejected(reject);
        }
        if let Some(reject) = self.give_before(before, block) {
            return BlockOutcome::Rejected(reject);
        }
        if !self.tree.contains(&hash) && self.is_from_the_future(&block.header) {
            return BlockOutcome::Rejected(reject(RejectKind::TimeFuture));
        }
        if let Err(error) = self.insert(hash, block.header) {
            return BlockOutcome::Rejected(orphan(&error));
        }
        match self.tree.get(&hash).unwrap().status {
            Status::Header => {}
            Status::Invalid => return BlockOutcome::Rejected(reject(RejectKind::CachedInvalid)),
            Status::Stored | Status::Connected => {
                // Core tries to connect what it has, whatever it was given.
                self.activate(changes);
                return BlockOutcome::Duplicate;
            }
        }
        if let Some(kind) = self.bad.get(&hash) {
            self.tree.mark_invalid(&hash);
            changes.push(Change::Invalid(hash, block.header, reject(*kind)));
            return BlockOutcome::Rejected(reject(*kind));
        }
        self.tree.mark_stored(&hash);
        if !self.go_on(&hash, changes) {
            self.activate(changes);
        }
        if self.tree.get(&hash).unwrap().status == Status::Invalid {
            return BlockOutcome::Rejected(reject(RejectKind::Consensus));
        }
        BlockOutcome::Stored
    }

    /// The usual case, quickly: the block is on the path from the tip to the best header.
    fn go_on(&mut self, hash: &BlockHash, changes: &mut Vec<Change>) -> bool {
        let best = self.tree.best_header().hash;
        let tip = self.tree.tip().hash;
        let usual = !self.forked
            && self.bad_to_connect.is_empty()
            && self.tree.is_ancestor(&tip, &best)
            && self.tree.is_ancestor(hash, &best);
        if !usual {
            return false;
        }
        loop {
            let next = self.tree.branch(&best, self.tree.tip().height + 1, 1);
            let Some(next) = next.first().filter(|next| next.status == Status::Stored) else {
                break;
            };
            self.tree.connect(&next.hash);
            changes.push(Change::Connected(next.hash, next.header));
        }
        true
    }

    /// As at a start: connects what is on disk and can be connected.
    pub fn open(&mut self) {
        self.activate(&mut Vec::new());
    }

    /// Connects the stored chain with most work.
    fn activate(&mut self, changes: &mut Vec<Change>) {
        'again: loop {
            let tip = self.tree.tip();
            let Some(best) = self.best_stored() else {
                return;
            };
            let fork = self.tree.fork_point(&best, &tip.hash).unwrap();
            while self.tree.tip().hash != fork.hash {
                let tip = self.tree.tip();
                self.tree.disconnect(&tip.hash);
                changes.push(Change::Disconnected(tip.hash, tip.header));
            }
            for entry in self.tree.branch(&best, fork.height + 1, usize::MAX) {
                if self.bad_to_connect.contains(&entry.hash) {
                    self.tree.mark_invalid(&entry.hash);
                    let reject = reject(RejectKind::Consensus);
                    changes.push(Change::Invalid(entry.hash, entry.header, reject));
                    continue 'again;
                }
                self.tree.connect(&entry.hash);
                changes.push(Change::Connected(entry.hash, entry.header));
            }
        }
    }

    /// The tip of the best chain, all of whose blocks are here, if better than the current tip.
    fn best_stored(&self) -> Option<BlockHash> {
        let tip = self.tree.tip();
        let mut best = None;
        // Cheap in the usual case: only descendants of the tip.
        let mut ends: Vec<BlockHash> = self
            .tree
            .chain_tips()
            .into_iter()
            .map(|end| end.hash)
            .collect();
        ends.push(self.tree.best_header().hash);
        for end in ends {
            let fork = self.tree.fork_point(&end, &tip.hash).unwrap();
            let mut last = fork;
            'stored: loop {
                let chunk = self.tree.branch(&end, last.height + 1, 32);
                if chunk.is_empty() {
                    break;
                }
                for entry in chunk {
                    match entry.status {
                        Status::Stored | Status::Connected => last = entry,
                        Status::Header | Status::Invalid => break 'stored,
                    }
                }
            }
            let beats = best.as_ref().map_or(tip.work, |(work, _)| *work);
            if last.work > beats {
                best = Some((last.work, last.hash));
            }
        }
        best.map(|(_, hash)| hash)
    }
}
