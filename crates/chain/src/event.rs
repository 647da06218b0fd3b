//! What the kernel thread reports.

use std::time::Duration;

use bitcoin::BlockHash;
use bitcoin::block::Header;

/// One report of the kernel thread. Exactly one `Headers` or `Block` event
/// answers each job, unless [`Chain::interrupt`](crate::Chain::interrupt) or a
/// `Fatal` event came first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A batch of headers was looked at, up to and including the first bad one.
    Headers {
        /// The caller's tag of the job.
        tag: u64,
        /// Headers at the front of the batch which the kernel accepted.
        count_ok: usize,
        /// The first header that was refused; those after it were not tried.
        rejected: Option<(BlockHash, Reject)>,
        /// The last accepted header of the batch.
        last: Option<BlockHash>,
        /// Time the kernel thread spent on it.
        busy: Duration,
    },
    /// A block was looked at.
    Block {
        /// The caller's tag of the job.
        tag: u64,
        /// The block's hash, as the caller gave it.
        hash: BlockHash,
        /// The verdict about this block.
        outcome: BlockOutcome,
        /// What this job did to the chain state, oldest first. Other blocks can
        /// appear too: those that waited for this one, and those of a branch
        /// that was left.
        changes: Vec<Change>,
        /// Whether everything that the kernel has stored, this block included, survives
        /// the end of the process.
        kept: Kept,
        /// Time the kernel thread spent on it.
        busy: Duration,
    },
    /// What was stored so far survives the end of the process, which was not so after
    /// the last `Block` event.
    Kept,
    /// The kernel's warnings changed; this is the whole present list.
    Warnings(Vec<String>),
    /// Validation cannot go on (disk full, damaged files, our own panic). No
    /// further job is answered; the node has to stop.
    Fatal(String),
}

/// Whether a block is to survive the end of the process, when the kernel has stored it:
/// by itself it forgets what came since its last flush, up to 70 minutes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// It can be had again: initial sync.
    No,
    /// It is to be kept, with all that it builds on. If blocks before it were not, that
    /// is done when nothing waits for the kernel thread, and told by [`Event::Kept`].
    Soon,
    /// The same, before its verdict is reported: somebody waits for that.
    Now,
}

/// Whether what the kernel has stored survives the end of the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It does: on disk for good, every block with all that it builds on.
    Yes,
    /// Not all of it. After a block that is to be kept [`Event::Kept`] follows.
    Later,
    /// It should, but could not be written; why, with the remedy. It is tried again,
    /// and [`Event::Kept`] follows when that worked.
    Failed(String),
}

/// The verdict about one block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlockOutcome {
    /// New, and its data is on disk now. Whether it is connected too is told by
    /// the [`Change`]s; it may wait for its parents or lie on a lighter branch.
    Stored,
    /// Its data was on disk before.
    Duplicate,
    /// It breaks a rule. The sender is to blame.
    Rejected(Reject),
    /// We could not tell, by our own fault; says nothing about the block.
    Failed(String),
}

/// A change of the chain state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The block is the new tip of the active chain, one above the old one. With its
    /// header: it may have waited on disk, beside the best branch, since before the start,
    /// and then [`InitialChain`](crate::InitialChain) did not tell of it.
    Connected(BlockHash, Header),
    /// The block was the tip of the active chain; its parent is now.
    Disconnected(BlockHash, Header),
    /// The block index of the kernel has the block marked invalid, for good, and so are its
    /// descendants. Given exactly when the kernel says so itself, whether this job made it
    /// set the mark or found it set; a block that was refused without this may have been
    /// spoilt on its way, and says nothing about its hash. With its header, since the mark
    /// may be older than what the caller knows.
    Invalid(BlockHash, Header, Reject),
}

impl Change {
    /// The block that it is about.
    pub fn hash(&self) -> BlockHash {
        match self {
            Change::Connected(hash, _)
            | Change::Disconnected(hash, _)
            | Change::Invalid(hash, ..) => *hash,
        }
    }
}

/// Why the kernel refused a block or a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    /// The class of rule, which decides what the sender deserves.
    pub kind: RejectKind,
    /// Bitcoin Core's token, for example `bad-cb-amount`.
    pub reason: String,
}

impl std::fmt::Display for Reject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.reason)
    }
}

/// Classes of refusal; Bitcoin Core's `BlockValidationResult`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RejectKind {
    /// The block breaks a consensus rule.
    Consensus,
    /// The data is not what the header commits to; the block itself may be fine.
    Mutated,
    /// The header breaks a rule (proof of work, difficulty, time, version).
    InvalidHeader,
    /// It was found invalid earlier: the kernel's block index has it marked.
    CachedInvalid,
    /// It builds on an invalid block: the kernel's block index has its parent marked.
    InvalidPrev,
    /// Its parent is not known.
    MissingPrev,
    /// Its time is more than two hours ahead of our clock; may be fine later.
    TimeFuture,
    /// Its chain has less work than the minimum.
    HeaderLowWork,
    /// The kernel gave no class.
    Unknown,
}
