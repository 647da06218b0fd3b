//! What the miner's machine is told, what it wants done, and what it tells of itself.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bitcoin::{BlockHash, ScriptBuf, Transaction};
use handfast_wire::RawBlock;

use super::template::Template;
use crate::headers::HeaderTree;
use crate::sync::{Reject, SubmitResult};

/// What the machine knows of the chain, at one moment.
#[derive(Clone)]
pub struct Chain {
    /// Every header, with the active chain (a snapshot).
    pub tree: HeaderTree,
    /// The node runs: blocks can be submitted.
    pub running: bool,
    /// The tip is still far behind (Core's sense of the word).
    pub initial_block_download: bool,
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chain")
            .field("tip", &self.tree.tip().hash)
            .field("running", &self.running)
            .field("initial_block_download", &self.initial_block_download)
            .finish()
    }
}

/// What became of blocks of ours; kept from one run of the node to the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Mined, and the tip then.
    pub found: u64,
    /// Made on demand, and the tip then.
    pub generated: u64,
    /// Solved too late.
    pub stale: u64,
    /// Refused by the kernel, or not judged.
    pub refused: u64,
}

/// Blocks on demand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GenerateOrder {
    /// Comes back in the answer. Never used twice.
    pub ticket: u64,
    /// So many blocks, one on top of the other.
    pub count: u32,
    /// Hashes to try for all of them together.
    pub max_tries: u64,
    /// Who is paid.
    pub payout: ScriptBuf,
    /// What each block holds besides its coinbase, in order; whether they are valid shows
    /// when the kernel judges the block.
    pub transactions: Vec<Transaction>,
    /// Whether blocks are submitted. If not, the first one found is the answer.
    pub submit: bool,
}

/// A fact or an order for the [`Miner`](super::Miner).
#[derive(Clone, Debug)]
pub enum Input {
    /// Mine until told otherwise. Begins anew if that is being done. The hash threads are
    /// new, and have counted nothing yet.
    Start {
        /// Hash threads.
        threads: usize,
        /// Who is paid.
        payout: ScriptBuf,
    },
    /// Mine no more. Blocks on demand are none of its business.
    Stop,
    /// Make blocks; answered by [`Effect::Answer`], after the orders before it.
    Generate(GenerateOrder),
    /// Nobody waits for the answer to this order any more.
    Abandon {
        /// The order's.
        ticket: u64,
    },
    /// The chain as it is now. To be told before any other input, if it changed.
    Chain(Box<Chain>),
    /// A hash thread found a header that meets its target.
    Solved {
        /// That of [`Effect::Work`].
        generation: u64,
        /// What the header was made for.
        extra_nonce: u64,
        /// The header.
        header: [u8; 80],
    },
    /// An [`Effect::Search`] has ended.
    Searched {
        /// Its generation.
        generation: u64,
        /// The first nonce of the range that solves the block, if one does.
        found: Option<u32>,
    },
    /// What became of an [`Effect::Submit`].
    Judged {
        /// Its number.
        submission: u64,
        /// `None`: it was not on top of the tip any more and not submitted at all.
        result: Option<SubmitResult>,
    },
    /// The deadline has come, or it may have.
    Tick {
        /// Hashes that the threads have done since they were started.
        hashes: u64,
    },
}

/// An order of the [`Miner`](super::Miner). To be performed in the order given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The hash threads drop what they do and search for this block.
    Work {
        /// Counts up; comes back with the solution.
        generation: u64,
        /// The block.
        template: Arc<Template>,
    },
    /// The hash threads drop what they do.
    Idle,
    /// Search these nonces for a block on demand; then [`Input::Searched`].
    Search {
        /// The order's ticket, to ask whether somebody still waits.
        ticket: u64,
        /// Comes back with the result. No generation of [`Effect::Work`] has this number.
        generation: u64,
        /// The block.
        template: Arc<Template>,
        /// For this extra nonce.
        extra_nonce: u64,
        /// Nonces to try, of 0..2^32. Not empty.
        nonces: Range<u64>,
    },
    /// Submit this block if its parent still is the tip; then [`Input::Judged`].
    Submit {
        /// Comes back with the verdict.
        submission: u64,
        /// The block.
        block: RawBlock,
    },
    /// The answer to [`Input::Generate`].
    Answer {
        /// The order's.
        ticket: u64,
        /// What came of it.
        result: Result<Generated, GenerateFailure>,
    },
    /// Something for the log.
    Log(News),
}

/// Blocks made on demand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Generated {
    /// Their hashes, in the order in which they were made. Fewer than ordered when there were
    /// no tries left.
    pub hashes: Vec<BlockHash>,
    /// The block itself, of an order without submission.
    pub block: Option<RawBlock>,
}

/// Why blocks were not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GenerateFailure {
    /// The kernel refused the block.
    #[error("the block was refused: {0}")]
    Refused(Reject),
    /// Our own trouble: the block could not be judged, or not be kept.
    #[error("the block could not be judged: {0}")]
    Failed(String),
    /// Blocks cannot be submitted now: the node starts or stops.
    #[error("the node takes no blocks now")]
    NotRunning,
}

/// What is worth a line of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// A block that was mined is the tip.
    Found {
        /// The block.
        hash: BlockHash,
        /// Its height.
        height: u32,
        /// Since the block before it was found, or mining began.
        took: Duration,
        /// Blocks found since the node was started.
        found: u64,
        /// Not worth more than a debug line: there was one within the last second.
        crowded: bool,
    },
    /// A block was solved too late: another is the tip.
    Stale {
        /// Its height.
        height: u32,
        /// So many since the node was started.
        stale: u64,
    },
    /// The kernel refused our own block, or could not judge it.
    Refused {
        /// Its height.
        height: u32,
        /// The reason.
        why: String,
    },
    /// Mining goes on. Every [`PROGRESS_INTERVAL`](super::PROGRESS_INTERVAL).
    Progress,
}

/// What the hash threads do, or why they do nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// Nobody started mining.
    Off,
    /// They hash.
    Hashing,
    /// A block was found and is being judged.
    Judging,
    /// The next block is not due yet: blocks are paced.
    Paced,
    /// The chain is being downloaded.
    InitialBlockDownload,
    /// The node starts or stops.
    NotRunning,
    /// Others would refuse the next block for its time: too many were made too quickly.
    TooFarAhead,
    /// Our last block was refused, for this reason; it is tried again in a while.
    Refused(String),
    /// The miner died, of this; the node goes on without it.
    Dead(String),
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "mining is off",
            Self::Hashing => "searching for a block",
            Self::Judging => "a block was found and is being judged",
            Self::Paced => "the next block is not due yet",
            Self::InitialBlockDownload => "the chain is still being downloaded",
            Self::NotRunning => "the node starts or stops",
            Self::TooFarAhead => {
                "blocks were made so quickly that the next one's time would be too far in the future"
            }
            Self::Refused(why) => return write!(f, "the last block was refused: {why}"),
            Self::Dead(how) => {
                return write!(f, "the miner died ({how}); restart the node to mine again");
            }
        })
    }
}

/// What the machine tells of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct MiningState {
    /// What is done, or why nothing is.
    pub why: Why,
    /// Hash threads; 0 when mining is off.
    pub threads: usize,
    /// Who is paid; `None` when mining is off.
    pub payout: Option<ScriptBuf>,
    /// Least time between two blocks.
    pub interval: Duration,
    /// Hashes per second over the last minute.
    pub hashes_per_second: f64,
    /// Hashes done since the node was started, those for blocks on demand not counted.
    pub hashes: u64,
    /// Blocks found that became the tip, those on demand not counted.
    pub found: u64,
    /// Blocks on demand that became the tip.
    pub generated: u64,
    /// Blocks solved too late.
    pub stale: u64,
    /// Blocks that the kernel refused or could not judge.
    pub refused: u64,
    /// The block that is searched for.
    pub height: Option<u32>,
    /// Its target, in compact form.
    pub bits: Option<u32>,
    /// Mean time until the next block is found, pacing included. `None`: not mining, or the
    /// rate is not known yet.
    pub expected: Option<Duration>,
    /// Orders for blocks on demand that are not answered yet.
    pub orders: usize,
}

impl MiningState {
    /// What is kept from one run of the node to the next.
    #[must_use]
    pub fn totals(&self) -> Totals {
        Totals {
            found: self.found,
            generated: self.generated,
            stale: self.stale,
            refused: self.refused,
        }
    }

    /// Before anything was mined.
    #[must_use]
    pub fn off(interval: Duration) -> Self {
        Self {
            why: Why::Off,
            threads: 0,
            payout: None,
            interval,
            hashes_per_second: 0.0,
            hashes: 0,
            found: 0,
            generated: 0,
            stale: 0,
            refused: 0,
            height: None,
            bits: None,
            expected: None,
            orders: 0,
        }
    }

    /// Whether blocks are being mined, be it that something keeps the threads idle.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.threads > 0
    }
}
