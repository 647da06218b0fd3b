//! Proof of work: the target that a header claims, and the target that it should claim.
//!
//! Not consensus. The kernel decides whether a header is valid; these functions keep headers
//! without work out of memory, and return the target for a block that we mine.

use bitcoin::block::Header;
use bitcoin::consensus::params::Params;
use bitcoin::{BlockHash, CompactTarget, Network as Chain, Target, Work};
use handfast_wire::Network;

use super::entry::{Entry, from_work, to_work};
use super::tree::HeaderTree;
use super::work::{block_work, derive_target};

/// Blocks behind the tip at which a branch is still accepted without a low-work sync. Core
/// `GetAntiDoSWorkThreshold`.
const NEAR_TIP_BLOCKS: u128 = 144;

/// Proof-of-work parameters of a network.
#[derive(Clone, Debug)]
pub struct PowParams {
    /// Spacing, limits and exceptions.
    pub consensus: Params,
    /// BIP94: a retarget starts from the *first* block of the period, which is never
    /// one of the minimum-difficulty exceptions (testnet4).
    pub bip94: bool,
}

impl PowParams {
    /// The parameters of a network; a custom signet has those of signet.
    pub fn for_network(network: &Network) -> Self {
        let chain = match network {
            Network::Mainnet => Chain::Bitcoin,
            Network::Testnet4 => Chain::Testnet4,
            Network::Testnet3 => Chain::Testnet,
            Network::Signet | Network::CustomSignet { .. } => Chain::Signet,
            Network::Regtest => Chain::Regtest,
        };
        Self {
            consensus: Params::new(chain),
            bip94: chain == Chain::Testnet4,
        }
    }

    /// The easiest target that a header may claim.
    pub fn limit(&self) -> Target {
        self.consensus.max_attainable_target
    }

    /// Blocks between two retargets.
    pub fn interval(&self) -> u32 {
        u32::try_from(self.consensus.difficulty_adjustment_interval()).expect("a few thousand")
    }

    pub(super) fn limit_bits(&self) -> CompactTarget {
        self.limit().to_compact_lossy()
    }

    /// The bits of the first block after a period: `first` and `last` are the times (Unix seconds)
    /// and bits of its first and last block.
    pub(super) fn required_after_period(
        &self,
        first: (u32, CompactTarget),
        last: (u32, CompactTarget),
    ) -> CompactTarget {
        if self.consensus.no_pow_retargeting {
            return last.1;
        }
        let base = if self.bip94 { first.1 } else { last.1 };
        // A period can end before it began; then it counts as the shortest one.
        let timespan = last.0.saturating_sub(first.0);
        self.retarget(base, timespan.into())
    }

    /// Whether a block of that time may have minimum difficulty on a test network: it is more than
    /// 20 minutes after its parent.
    pub(super) fn is_exception(&self, parent: u32, time: u32) -> bool {
        let pause = 2 * self.consensus.pow_target_spacing;
        u64::from(time) > u64::from(parent) + pause
    }

    /// The target after a period of `timespan` seconds at `bits`.
    fn retarget(&self, bits: CompactTarget, timespan: u64) -> CompactTarget {
        let bits = if Target::from_compact(bits) > self.limit() {
            self.limit_bits()
        } else {
            bits
        };
        CompactTarget::from_next_work_required(bits, timespan, &self.consensus)
    }
}

/// A header without valid proof of work.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum PowError {
    /// The claimed target is zero, negative, above 2^256 or above the network's limit.
    #[error("header {hash}: target {bits:#010x} is out of range")]
    TargetOutOfRange {
        /// The header.
        hash: BlockHash,
        /// The claimed target, in compact form.
        bits: u32,
    },
    /// The hash does not meet the claimed target.
    #[error("header {hash}: hash above target {bits:#010x}")]
    HashAboveTarget {
        /// The header.
        hash: BlockHash,
        /// The claimed target, in compact form.
        bits: u32,
    },
}

/// Whether the header's hash meets the target that it claims, and the target is not above
/// `pow_limit`. Whether it claims the *right* target, see [`next_work`]. Returns the hash.
pub fn check_pow(header: &Header, pow_limit: Target) -> Result<BlockHash, PowError> {
    let hash = header.block_hash();
    let bits = header.bits.to_consensus();
    match derive_target(header.bits) {
        Some(target) if target <= pow_limit => {
            if target.is_met_by(hash) {
                Ok(hash)
            } else {
                Err(PowError::HashAboveTarget { hash, bits })
            }
        }
        _ => Err(PowError::TargetOutOfRange { hash, bits }),
    }
}

/// The `bits` that a header after `parent` with time `time` must have. `None` if
/// `parent` is not in the tree.
pub fn next_work(
    params: &PowParams,
    tree: &HeaderTree,
    parent: &BlockHash,
    time: u32,
) -> Option<CompactTarget> {
    let parent = tree.get(parent)?;
    if !(parent.height + 1).is_multiple_of(params.interval()) {
        return Some(if params.consensus.allow_min_difficulty_blocks {
            bits_with_exceptions(params, tree, parent, time)
        } else {
            parent.header.bits
        });
    }
    let first = tree.ancestor(&parent.hash, parent.height - (params.interval() - 1))?;
    Some(params.required_after_period(
        (first.header.time, first.header.bits),
        (parent.header.time, parent.header.bits),
    ))
}

/// Test networks: a block more than 20 minutes after its parent may have minimum difficulty; any
/// other has the bits of the last regular block.
fn bits_with_exceptions(
    params: &PowParams,
    tree: &HeaderTree,
    parent: Entry,
    time: u32,
) -> CompactTarget {
    let limit = params.limit_bits();
    if params.is_exception(parent.header.time, time) {
        return limit;
    }
    let Some(mut at) = tree.slot(&parent.hash) else {
        return parent.header.bits;
    };
    loop {
        let record = tree.record(at);
        if record.height.is_multiple_of(params.interval()) || record.bits != limit {
            return record.bits;
        }
        at = record.parent;
    }
}

/// Whether a header at `height` may claim `new` after one that claimed `old`, whatever the times
/// were: at a retarget at most four times harder or easier, else the same. Networks with
/// minimum-difficulty blocks permit everything.
pub fn permitted_difficulty_transition(
    params: &PowParams,
    height: u32,
    old: CompactTarget,
    new: CompactTarget,
) -> bool {
    if params.consensus.allow_min_difficulty_blocks {
        return true;
    }
    if !height.is_multiple_of(params.interval()) {
        return old == new;
    }
    let timespan = params.consensus.pow_target_timespan;
    let bound = |timespan| Target::from_compact(params.retarget(old, timespan));
    let new = Target::from_compact(new);
    bound(timespan / 4) <= new && new <= bound(timespan * 4)
}

/// Work that a chain must have for its headers to be added to the tree at once:
/// `minimum_work`, or more when our tip has more (less 144 blocks, so that branches
/// near the tip are followed). Compare with the work of the tree where the headers
/// fork off, plus theirs; below it they go through [`LowWork`](super::LowWork).
pub fn anti_dos_threshold(tree: &HeaderTree, minimum_work: Work) -> Work {
    let tip = tree.tip();
    let slack = block_work(tip.header.bits).saturating_mul(NEAR_TIP_BLOCKS);
    to_work(from_work(tip.work).saturating_sub(slack)).max(minimum_work)
}
