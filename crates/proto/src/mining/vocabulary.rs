//! The inputs, effects and reports of the miner's machine.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bitcoin::{BlockHash, ScriptBuf, Transaction};
use handfast_wire::RawBlock;

use super::template::Template;
use crate::headers::HeaderTree;
use crate::sync::{Reject, SubmitResult};

/// The chain as the machine knows it, at one moment.
#[derive(Clone)]
pub struct Chain {
    /// Every header, with the active chain (a snapshot).
    pub tree: HeaderTree,
    /// The node runs: blocks can be submitted.
    pub running: bool,
    /// Core's `IsInitialBlockDownload`.
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

/// Counters of our blocks; they survive a restart of the node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Mined, and became the tip.
    pub found: u64,
    /// Made on demand, and became the tip.
    pub generated: u64,
    /// Solved too late.
    pub stale: u64,
    /// Refused by the kernel, or not validated.
    pub refused: u64,
}

/// A request for blocks on demand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GenerateRequest {
    /// Repeated in the answer. Never used twice.
    pub ticket: u64,
    /// Number of blocks, one on top of the other.
    pub count: u32,
    /// Most hashes to try for all of them together.
    pub max_tries: u64,
    /// The payout script.
    pub payout: ScriptBuf,
    /// The transactions of each block after its coinbase, in order; the kernel's verdict shows
    /// whether they are valid.
    pub transactions: Vec<Transaction>,
    /// Whether blocks are submitted. If not, the first one found is the answer.
    pub submit: bool,
}

/// An event or command for the [`Miner`](super::Miner).
#[derive(Clone, Debug)]
pub enum Input {
    /// Mine until stopped. Restarts mining if it is on. The hash threads are new, and their count
    /// starts at zero.
    Start {
        /// Hash threads.
        threads: usize,
        /// The payout script.
        payout: ScriptBuf,
    },
    /// Stop mining. Blocks on demand are not affected.
    Stop,
    /// Make blocks; answered by [`Effect::Answer`], after earlier requests.
    Generate(GenerateRequest),
    /// The caller of this request is gone.
    Abandon {
        /// The ticket of the request.
        ticket: u64,
    },
    /// The chain now. Must precede any other input if it changed.
    Chain(Box<Chain>),
    /// A hash thread found a header that meets its target.
    Solved {
        /// The generation of [`Effect::Work`].
        generation: u64,
        /// The extra nonce of the header.
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
    /// The verdict of an [`Effect::Submit`].
    Judged {
        /// Its number.
        submission: u64,
        /// `None`: it was not on top of the tip any more and was not submitted.
        result: Option<SubmitResult>,
    },
    /// The deadline has passed, or may have.
    Tick {
        /// Hashes that the threads have done since they were started.
        hashes: u64,
    },
}

/// A command of the [`Miner`](super::Miner). To be performed in the given order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The hash threads switch to this block.
    Work {
        /// Counts up; repeated with the solution.
        generation: u64,
        /// The block.
        template: Arc<Template>,
    },
    /// The hash threads stop hashing.
    Idle,
    /// Search these nonces for a block on demand; then [`Input::Searched`].
    Search {
        /// The ticket of the request, to check whether its caller is still there.
        ticket: u64,
        /// Repeated in the result. No generation of [`Effect::Work`] has this number.
        generation: u64,
        /// The block.
        template: Arc<Template>,
        /// The extra nonce.
        extra_nonce: u64,
        /// Nonces to try, of 0..2^32. Not empty.
        nonces: Range<u64>,
    },
    /// Submit this block if its parent is still the tip; then [`Input::Judged`].
    Submit {
        /// Repeated in the verdict.
        submission: u64,
        /// The block.
        block: RawBlock,
    },
    /// The answer to [`Input::Generate`].
    Answer {
        /// The ticket of the request.
        ticket: u64,
        /// The result.
        result: Result<Generated, GenerateFailure>,
    },
    /// An event for the log.
    Log(News),
}

/// Blocks made on demand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Generated {
    /// Their hashes, in the order in which they were mined. Fewer than requested when the tries
    /// were used up.
    pub hashes: Vec<BlockHash>,
    /// The block itself, of a request without submission.
    pub block: Option<RawBlock>,
}

/// Why blocks were not mined.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GenerateFailure {
    /// The kernel refused the block.
    #[error("the block was refused: {0}")]
    Refused(Reject),
    /// A local error: the block could not be validated, or not be written.
    #[error("the block could not be judged: {0}")]
    Failed(String),
    /// Blocks cannot be submitted now: the node starts or stops.
    #[error("the node takes no blocks now")]
    NotRunning,
}

/// An event worth a log line.
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
        /// Blocks found since the node started.
        found: u64,
        /// Only worth a debug line: there was one within the last second.
        rate_limited: bool,
    },
    /// A block was solved too late: another is the tip.
    Stale {
        /// Its height.
        height: u32,
        /// Stale blocks since the node started.
        stale: u64,
    },
    /// The kernel refused our block, or could not validate it.
    Refused {
        /// Its height.
        height: u32,
        /// The reason.
        why: String,
    },
    /// Mining continues. Every [`PROGRESS_INTERVAL`](super::PROGRESS_INTERVAL).
    Progress,
}

/// What the hash threads do, or why they are idle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// Mining was not started.
    Off,
    /// They hash.
    Hashing,
    /// A block was found and its verdict is awaited.
    Judging,
    /// The next block is not due yet: blocks are paced.
    Paced,
    /// The chain is being downloaded.
    InitialBlockDownload,
    /// The node starts or stops.
    NotRunning,
    /// Other nodes would refuse the next block for its time: too many were mined too quickly.
    TooFarAhead,
    /// Our last block was refused, for this reason; mining continues after a pause.
    Refused(String),
    /// The miner died for this reason; the node continues without it.
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

/// The state of mining, as it is shown.
#[derive(Clone, Debug, PartialEq)]
pub struct MiningState {
    /// What the hash threads do, or why they are idle.
    pub why: Why,
    /// Hash threads; 0 when mining is off.
    pub threads: usize,
    /// The payout script; `None` when mining is off.
    pub payout: Option<ScriptBuf>,
    /// Least time between two blocks.
    pub interval: Duration,
    /// Hashes per second over the last minute.
    pub hashes_per_second: f64,
    /// Hashes computed since the node started, without those for blocks on demand.
    pub hashes: u64,
    /// Blocks found that became the tip, without those on demand.
    pub found: u64,
    /// Blocks on demand that became the tip.
    pub generated: u64,
    /// Blocks solved too late.
    pub stale: u64,
    /// Blocks that the kernel refused or could not validate.
    pub refused: u64,
    /// The block that is searched for.
    pub height: Option<u32>,
    /// Its target, in compact form.
    pub bits: Option<u32>,
    /// Mean time until the next block is found, pacing included. `None`: not mining, or the rate is
    /// unknown yet.
    pub expected: Option<Duration>,
    /// Requests for blocks on demand that are not answered yet.
    pub requests: usize,
}

impl MiningState {
    /// The counters that survive a restart of the node.
    #[must_use]
    pub fn totals(&self) -> Totals {
        Totals {
            found: self.found,
            generated: self.generated,
            stale: self.stale,
            refused: self.refused,
        }
    }

    /// The state before anything was mined.
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
            requests: 0,
        }
    }

    /// Whether mining is on, even if the threads are idle.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.threads > 0
    }
}
