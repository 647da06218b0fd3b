//! Headers of a chain that has not shown enough work yet, in bounded memory (Core
//! `HeadersSyncState`).
//!
//! Headers are cheap to make where difficulty is low, so a peer could fill our memory with a long
//! worthless chain. A chain of too little work is therefore downloaded twice. **Presync**: headers
//! are checked, counted and dropped; only one salted bit of every 600th is stored. When their work
//! reaches the minimum, **redownload**: the same headers are received again, wait in a buffer of
//! 14,400 and leave it for the tree when the 24 following bits matched.
//!
//! # Security
//!
//! Why 24: a header reaches the tree only if all 24 commitments in the buffer after it match. To
//! smuggle in one header of another, cheap chain the peer must guess 24 bits of a secret function:
//! once in 2^24 tries, each of which costs it the transfer of a whole chain of real work (80 MB on
//! mainnet) and us no lasting memory. Why this period: on mainnet both buffers then need about as
//! much, 0.7 MB each. The bound on presync is time: consensus requires each block's time to be
//! above the median of the 11 before it, hence at most 6 blocks in a second, since the chain start.

mod store;

use bitcoin::block::Header;
use bitcoin::hashes::siphash24;
use bitcoin::{BlockHash, CompactTarget, Work};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::entry::{Entry, from_work};
use super::pow::{PowError, PowParams, check_pow, permitted_difficulty_transition};
use super::rules::MAX_FUTURE_BLOCK_TIME;
use super::tree::HeaderTree;
use super::work::block_work;
use store::{Bits, Waiting};

/// Most blocks in a second that consensus permits in the long run: with the least
/// increase of median time past, six blocks share a second.
const MAX_BLOCKS_PER_SECOND: u64 = 6;

/// Sizes of the two buffers. The same for all networks; smaller in tests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LowWorkParams {
    /// Headers for each bit of commitment. At least 1.
    pub commitment_period: u32,
    /// Headers that wait in redownload for the commitments after them.
    pub lookahead: usize,
}

impl Default for LowWorkParams {
    fn default() -> Self {
        Self {
            commitment_period: 600,
            lookahead: 24 * 600,
        }
    }
}

/// Why a low-work sync failed. Only [`ProofOfWork`](Self::ProofOfWork) is proof
/// of a bad peer: an honest one may change its mind about the best chain meanwhile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LowWorkFailure {
    /// A header without proof of work.
    #[error(transparent)]
    ProofOfWork(#[from] PowError),
    /// A header does not build on the one before it.
    #[error("header at height {height} does not connect")]
    NotContinuous {
        /// The expected height of the header.
        height: u32,
    },
    /// The claimed difficulty changes more than any retarget can.
    #[error("impossible change of difficulty at height {height}")]
    Difficulty {
        /// The height of the header that claims it.
        height: u32,
    },
    /// More headers than can exist by now.
    #[error("more headers than time allows at height {height}")]
    TooLong {
        /// The height of the first header too many.
        height: u32,
    },
    /// The second download differs from the first.
    #[error("other headers than before at height {height}")]
    CommitmentMismatch {
        /// The height of the header at which it showed.
        height: u32,
    },
    /// The second download ended below the work that the first had shown.
    #[error("headers shown before are withheld above height {height}")]
    Withheld {
        /// The height of the last header that was received again.
        height: u32,
    },
}

/// What to do after a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LowWorkOutcome {
    /// Request more, from [`LowWorkStep::next`] on.
    Continue,
    /// Finished: everything was released, or the peer's chain ended with too little work and
    /// nothing was.
    Done,
    /// Failed. Headers that were released before stay valid.
    Failed(LowWorkFailure),
}

/// The result of a batch of headers.
#[derive(Clone, Debug)]
pub struct LowWorkStep {
    /// Headers of a chain with enough work, in order, each with its proof of work checked: for the
    /// tree.
    pub accepted: Vec<Header>,
    /// The hash to put in front of the locator of the next `getheaders`, before the tree's locator
    /// of [`LowWork::locator_start`].
    pub next: Option<BlockHash>,
    /// Whether to continue.
    pub outcome: LowWorkOutcome,
}

/// The low-work sync with one peer. It holds at most [`max_bytes`](Self::max_bytes).
#[derive(Clone, Debug)]
pub struct LowWork {
    pow: PowParams,
    params: LowWorkParams,
    start: Link,
    minimum_work: u128,
    salt: (u64, u64),
    offset: u32,
    max_commitments: u64,
    commitments: Bits,
    waiting: Waiting,
    phase: Phase,
    last: Link,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Presync,
    Redownload,
    Over,
}

/// The fields of the last header that the next one needs.
#[derive(Clone, Copy, Debug)]
struct Link {
    hash: BlockHash,
    height: u32,
    bits: CompactTarget,
    /// Work of one block at `bits`: a division of 256 bits, so cached while they stay.
    block_work: u128,
    work: u128,
}

impl LowWork {
    /// Starts after `chain_start`, a header of `tree` on which the peer's headers build.
    /// `seed` must be secret: the peer must not be able to guess it.
    pub fn new(
        pow: PowParams,
        params: LowWorkParams,
        tree: &HeaderTree,
        chain_start: &Entry,
        minimum_work: Work,
        now_unix: u32,
        seed: u64,
    ) -> Self {
        assert!(
            params.commitment_period > 0,
            "low work: a commitment period has headers"
        );
        let start_time = tree
            .median_time_past(&chain_start.hash)
            .expect("the chain start is in the tree");
        let seconds =
            u64::from(now_unix.saturating_sub(start_time)) + u64::from(MAX_FUTURE_BLOCK_TIME);
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let start = Link {
            hash: chain_start.hash,
            height: chain_start.height,
            bits: chain_start.header.bits,
            block_work: block_work(chain_start.header.bits),
            work: from_work(chain_start.work),
        };
        Self {
            pow,
            params,
            start,
            minimum_work: from_work(minimum_work),
            salt: (random.random(), random.random()),
            offset: random.random_range(0..params.commitment_period),
            max_commitments: MAX_BLOCKS_PER_SECOND * seconds / u64::from(params.commitment_period),
            commitments: Bits::default(),
            waiting: Waiting::after(start.hash),
            phase: Phase::Presync,
            last: start,
        }
    }

    /// Where the peer's headers fork off the tree.
    pub fn locator_start(&self) -> BlockHash {
        self.start.hash
    }

    /// Height of the last header of the current pass.
    pub fn height(&self) -> u32 {
        self.last.height
    }

    /// Whether the headers are received for the second time.
    pub fn redownloading(&self) -> bool {
        self.phase == Phase::Redownload
    }

    /// Bytes held now, without a fixed few hundred.
    pub fn bytes(&self) -> usize {
        self.waiting.bytes() + self.commitments.bytes()
    }

    /// Bytes held at most while batches have at most `batch` headers, whatever the peer does.
    pub fn max_bytes(&self, batch: usize) -> usize {
        Waiting::max_bytes(self.params.lookahead + batch) + Bits::max_bytes(self.max_commitments)
    }

    /// Takes the next batch. `full`: the message had as many headers as fit, so the
    /// peer has more.
    ///
    /// # Panics
    ///
    /// If the sync has ended: an outcome other than `Continue` was returned already.
    pub fn receive(&mut self, headers: &[Header], full: bool) -> LowWorkStep {
        let result = match self.phase {
            Phase::Presync => self.presync(headers, full),
            Phase::Redownload => self.redownload(headers, full),
            Phase::Over => panic!("low work: nothing is received after the end"),
        };
        let (accepted, outcome) = match result {
            Ok((accepted, outcome)) => (accepted, outcome),
            Err(failure) => (Vec::new(), LowWorkOutcome::Failed(failure)),
        };
        let more = outcome == LowWorkOutcome::Continue;
        if !more {
            self.phase = Phase::Over;
            self.commitments = Bits::default();
            self.waiting = Waiting::after(self.start.hash);
        }
        LowWorkStep {
            accepted,
            next: more.then_some(self.last.hash),
            outcome,
        }
    }

    fn presync(
        &mut self,
        headers: &[Header],
        full: bool,
    ) -> Result<(Vec<Header>, LowWorkOutcome), LowWorkFailure> {
        for header in headers {
            self.follow(header)?;
            if self.commits() {
                if self.commitments.len() >= self.max_commitments {
                    return Err(LowWorkFailure::TooLong {
                        height: self.last.height,
                    });
                }
                self.commitments.push(self.commitment());
            }
        }
        if self.last.work >= self.minimum_work {
            self.phase = Phase::Redownload;
            self.last = self.start;
            return Ok((Vec::new(), LowWorkOutcome::Continue));
        }
        let outcome = if full {
            LowWorkOutcome::Continue
        } else {
            LowWorkOutcome::Done
        };
        Ok((Vec::new(), outcome))
    }

    fn redownload(
        &mut self,
        headers: &[Header],
        full: bool,
    ) -> Result<(Vec<Header>, LowWorkOutcome), LowWorkFailure> {
        self.waiting.reserve(headers.len());
        for header in headers {
            self.follow(header)?;
            // Once the work is shown, the peer's chain may have grown past the commitments.
            if self.last.work < self.minimum_work && self.commits() {
                let expected = self.commitments.pop();
                if expected != Some(self.commitment()) {
                    return Err(LowWorkFailure::CommitmentMismatch {
                        height: self.last.height,
                    });
                }
            }
            self.waiting.push(header);
        }
        let proven = self.last.work >= self.minimum_work;
        let accepted = self
            .waiting
            .take_all_but(if proven { 0 } else { self.params.lookahead });
        match (proven, full) {
            (true, _) => Ok((accepted, LowWorkOutcome::Done)),
            (false, true) => Ok((accepted, LowWorkOutcome::Continue)),
            (false, false) => Ok((
                accepted,
                LowWorkOutcome::Failed(LowWorkFailure::Withheld {
                    height: self.last.height,
                }),
            )),
        }
    }

    /// Checks that `header` connects, and makes it the last one.
    fn follow(&mut self, header: &Header) -> Result<(), LowWorkFailure> {
        let height = self.last.height.saturating_add(1);
        if header.prev_blockhash != self.last.hash {
            return Err(LowWorkFailure::NotContinuous { height });
        }
        let hash = check_pow(header, self.pow.limit())?;
        if !permitted_difficulty_transition(&self.pow, height, self.last.bits, header.bits) {
            return Err(LowWorkFailure::Difficulty { height });
        }
        let block_work = if header.bits == self.last.bits {
            self.last.block_work
        } else {
            block_work(header.bits)
        };
        let work = self.last.work.saturating_add(block_work);
        self.last = Link {
            hash,
            height,
            bits: header.bits,
            block_work,
            work,
        };
        Ok(())
    }

    fn commits(&self) -> bool {
        self.last.height % self.params.commitment_period == self.offset
    }

    /// One secret bit of the last header.
    fn commitment(&self) -> bool {
        let (k0, k1) = self.salt;
        siphash24::Hash::hash_to_u64_with_keys(k0, k1, self.last.hash.as_ref()) & 1 == 1
    }
}
