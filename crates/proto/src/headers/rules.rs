//! The contextual rules of a header: Core's `ContextualCheckBlockHeader`.
//!
//! They are checked before a header enters the tree, so that the tree holds nothing that the engine
//! would refuse: a header with a proof of work for bits of its own choice costs its sender nothing.
//! The engine checks them again; only its verdict about a *block* counts.

use std::collections::VecDeque;

use bitcoin::block::Header;
use bitcoin::{BlockHash, CompactTarget, Network as Chain};

use super::pow::{PowParams, next_work};
use super::tree::HeaderTree;
use super::walk::MEDIAN_TIME_SPAN;

/// Seconds that a header's time may lie ahead of ours. Core `MAX_FUTURE_BLOCK_TIME`.
pub const MAX_FUTURE_BLOCK_TIME: u32 = 2 * 60 * 60;
/// Seconds by which the first block of a period may be older than its parent, where BIP94 applies.
/// Core `MAX_TIMEWARP`.
pub(crate) const MAX_TIMEWARP: u32 = 600;

/// Why a header is refused after its parent. `Display` is Bitcoin Core's reject reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderFault {
    /// It claims another difficulty than the chain requires.
    #[error("bad-diffbits")]
    Bits {
        /// The claimed bits, in compact form.
        claimed: CompactTarget,
        /// The required bits.
        required: CompactTarget,
    },
    /// Its time is not above the median of the eleven blocks before it.
    #[error("time-too-old")]
    TooOld {
        /// Its time, Unix seconds.
        time: u32,
        /// The median, Unix seconds.
        median: u32,
    },
    /// The first block of a period lies more than ten minutes before its parent (BIP94).
    #[error("time-timewarp-attack")]
    Timewarp {
        /// Its time, Unix seconds.
        time: u32,
        /// Its parent's time, Unix seconds.
        parent: u32,
    },
    /// Its time is more than two hours ahead of our clock; it may be valid later.
    #[error("time-too-new")]
    TooNew {
        /// Its time, Unix seconds.
        time: u32,
        /// Our clock's, Unix seconds.
        clock: u32,
    },
    /// A version that a soft fork made invalid (BIP34, BIP66, BIP65).
    #[error("bad-version({0:#010x})")]
    Version(i32),
}

/// Whether a header's time (Unix seconds) is too far ahead of a clock that shows `clock`.
pub fn is_too_new(time: u32, clock: u32) -> bool {
    time > clock.saturating_add(MAX_FUTURE_BLOCK_TIME)
}

/// The heights from which on block versions 1, 2 and 3 are refused: BIP34, BIP66, BIP65.
fn version_heights(pow: &PowParams) -> [u32; 3] {
    let consensus = &pow.consensus;
    match consensus.network {
        // `bitcoin` has the heights that Core's regtest had before version 24.
        Chain::Regtest => [1; 3],
        _ => [
            consensus.bip34_height,
            consensus.bip66_height,
            consensus.bip65_height,
        ],
    }
}

/// Checks a chain of headers, one after the other, without a look-up in the tree for each.
#[derive(Clone, Debug)]
pub struct HeaderRules<'a> {
    pow: &'a PowParams,
    clock: u32,
    /// Times of the last headers, oldest first, at most eleven.
    times: VecDeque<u32>,
    parent: Header,
    height: u32,
    /// The bits of the last block of this period that is no minimum-difficulty exception.
    regular: CompactTarget,
    /// Time and bits of the first header of the parent's period.
    first: (u32, CompactTarget),
}

impl<'a> HeaderRules<'a> {
    /// The rules for headers after `parent`, a header of `tree`, when our clock shows `clock` (Unix
    /// seconds). `None` if the tree does not have it.
    #[must_use]
    pub fn after(
        pow: &'a PowParams,
        tree: &HeaderTree,
        parent: &BlockHash,
        clock: u32,
    ) -> Option<Self> {
        let entry = tree.get(parent)?;
        let span = u32::try_from(MEDIAN_TIME_SPAN).expect("eleven") - 1;
        let from = entry.height.saturating_sub(span);
        let times = tree.branch(parent, from, MEDIAN_TIME_SPAN);
        let period = entry.height - entry.height % pow.interval();
        let first = tree.ancestor(parent, period)?.header;
        // Of a child too early for an exception: the bits from which the exceptions start.
        let regular = match (entry.height + 1).is_multiple_of(pow.interval()) {
            true => entry.header.bits,
            false => next_work(pow, tree, parent, 0)?,
        };
        Some(Self {
            pow,
            clock,
            times: times.iter().map(|entry| entry.header.time).collect(),
            parent: entry.header,
            height: entry.height,
            regular,
            first: (first.time, first.bits),
        })
    }

    /// Checks the next header, which builds on the last one checked. A fault does not change the
    /// state.
    ///
    /// # Errors
    ///
    /// The first rule that it breaks, in Core's order.
    pub fn check(&mut self, header: &Header) -> Result<(), HeaderFault> {
        let required = self.required_bits(header.time);
        if header.bits != required {
            let claimed = header.bits;
            return Err(HeaderFault::Bits { claimed, required });
        }
        self.check_time(header.time)?;
        let height = self.height + 1;
        let version = header.version.to_consensus();
        let ended = version_heights(self.pow);
        let mut least = (2..).zip(ended);
        if least.any(|(least, from)| version < least && height >= from) {
            return Err(HeaderFault::Version(version));
        }
        self.advance(header);
        Ok(())
    }

    fn check_time(&self, time: u32) -> Result<(), HeaderFault> {
        let median = self.median();
        if time <= median {
            return Err(HeaderFault::TooOld { time, median });
        }
        let parent = self.parent.time;
        let begins_period = (self.height + 1).is_multiple_of(self.pow.interval());
        if self.pow.bip94 && begins_period && time < parent.saturating_sub(MAX_TIMEWARP) {
            return Err(HeaderFault::Timewarp { time, parent });
        }
        let clock = self.clock;
        if is_too_new(time, clock) {
            return Err(HeaderFault::TooNew { time, clock });
        }
        Ok(())
    }

    fn median(&self) -> u32 {
        let mut times: Vec<u32> = self.times.iter().copied().collect();
        times.sort_unstable();
        times[times.len() / 2]
    }

    fn required_bits(&self, time: u32) -> CompactTarget {
        let consensus = &self.pow.consensus;
        let begins_period = (self.height + 1).is_multiple_of(self.pow.interval());
        if begins_period {
            return self
                .pow
                .required_after_period(self.first, (self.parent.time, self.parent.bits));
        }
        if !consensus.allow_min_difficulty_blocks {
            return self.parent.bits;
        }
        match self.pow.is_exception(self.parent.time, time) {
            true => self.pow.limit_bits(),
            false => self.regular,
        }
    }

    fn advance(&mut self, header: &Header) {
        self.height += 1;
        self.parent = *header;
        if self.times.len() == MEDIAN_TIME_SPAN {
            self.times.pop_front();
        }
        self.times.push_back(header.time);
        let begins_period = self.height.is_multiple_of(self.pow.interval());
        if begins_period {
            self.first = (header.time, header.bits);
        }
        if begins_period || header.bits != self.pow.limit_bits() {
            self.regular = header.bits;
        }
    }
}
