//! What the consensus engine says of headers and blocks: values that `chain` makes, `node`
//! carries and `proto` decides by. One vocabulary, so that a verdict is the same value from
//! the engine's thread to the peer that pays for it.

use std::fmt;
use std::time::Duration;

use bitcoin::BlockHash;
use bitcoin::block::Header;

/// Identifies one connection for the life of the process; never used again. A verdict names
/// by it whose material was judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

impl fmt::Display for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "peer {}", self.0)
    }
}

/// What the engine answered to a job. Exactly one per job, in any order, and
/// [`KernelEvent::Durable`] beside them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KernelEvent {
    /// A batch of headers was looked at, up to and including the first bad one.
    HeadersChecked {
        /// Headers at the front of the batch that the engine accepted.
        count_ok: usize,
        /// The first header that was refused; those after it were not tried.
        rejected: Option<(BlockHash, Reject)>,
        /// Who has shown them; `None`: they are ours.
        origin: Option<ConnId>,
        /// Time the engine's thread spent on it.
        busy: Duration,
    },
    /// A block was looked at.
    BlockChecked {
        /// The block's hash, as the caller gave it.
        hash: BlockHash,
        /// The verdict about this block.
        outcome: BlockOutcome,
        /// Who sent it; `None`: we did (RPC, miner).
        origin: Option<ConnId>,
        /// What the job did to the chain state, oldest first. Other blocks can appear too:
        /// those that waited for this one, and those of a branch that was left.
        changes: Vec<Change>,
        /// Whether everything that the engine has stored, this block included, survives the
        /// end of the process.
        durability: Durability,
        /// Time the engine's thread spent on it.
        busy: Duration,
    },
    /// What was stored so far survives the end of the process, which was not so at the last
    /// verdict about a block. Answers no job.
    Durable,
}

/// Whether a block is to survive the end of the process, when the engine has stored it:
/// by itself it forgets what came since its last flush, up to 70 minutes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persist {
    /// It can be had again: initial sync.
    No,
    /// It is to be made durable, with all that it builds on. If blocks before it were not, that
    /// is done when nothing waits for the engine, and reported by [`KernelEvent::Durable`].
    Soon,
    /// The same, before its verdict is reported: a caller waits for it.
    Now,
}

/// Whether what the engine has stored survives the end of the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Durability {
    /// It does: on disk for good, every block with all that it builds on.
    Yes,
    /// Not all of it. After a block that is to be made durable [`KernelEvent::Durable`] follows.
    Later,
    /// It should, but could not be written; why, with the remedy. It is tried again,
    /// and [`KernelEvent::Durable`] follows when that worked.
    Failed(String),
}

/// The verdict about one block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlockOutcome {
    /// New, and its data is on disk now. Whether it is connected too is shown by
    /// the [`Change`]s; it may wait for its parents or lie on a lighter branch.
    Stored,
    /// Its data was on disk before.
    Duplicate,
    /// It breaks a rule.
    Rejected(Reject),
    /// Our own trouble; says nothing about the block or its sender.
    Failed(String),
}

/// A change of the chain state. Each has the block's header: it may have waited on disk since
/// before the start, on a branch that no peer showed us since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The block is the new tip of the active chain, one above the old one.
    Connected(BlockHash, Header),
    /// The block was the tip of the active chain; its parent is now.
    Disconnected(BlockHash, Header),
    /// The engine's block index has the block marked invalid, for good, and so are its
    /// descendants. Given exactly when the engine says so itself, whether this job made it
    /// set the mark or found it set; a block that was refused without this may have been
    /// spoilt on its way, and says nothing about its hash.
    Invalid(BlockHash, Header, Reject),
}

impl Change {
    /// The block that it is about.
    #[must_use]
    pub fn hash(&self) -> BlockHash {
        match self {
            Self::Connected(hash, _) | Self::Disconnected(hash, _) | Self::Invalid(hash, ..) => {
                *hash
            }
        }
    }
}

/// Why a block or a header was refused.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reject {
    /// The class of the rule, which decides what the sender deserves.
    pub kind: RejectKind,
    /// Bitcoin Core's token, for example `bad-cb-amount`.
    pub reason: String,
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

/// Classes of refusal; Bitcoin Core's `BlockValidationResult`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RejectKind {
    /// The block breaks a consensus rule.
    Consensus,
    /// The data is not what the header commits to; the block itself may be fine.
    Mutated,
    /// The header breaks a rule (proof of work, difficulty, time, version).
    InvalidHeader,
    /// It was found invalid earlier: the engine's block index has it marked.
    CachedInvalid,
    /// It builds on an invalid block: the engine's block index has its parent marked.
    InvalidPrev,
    /// Its parent is not known.
    MissingPrev,
    /// Its time is more than two hours ahead of our clock; may be fine later.
    TimeFuture,
    /// Its chain has less work than the minimum.
    HeaderLowWork,
    /// The engine gave no class.
    Unknown,
}
