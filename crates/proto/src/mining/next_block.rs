//! The requirements of the chain on the next block's header.

use bitcoin::block::Version;
use bitcoin::{Amount, BlockHash, CompactTarget, ScriptBuf, Target};
use handfast_wire::Network;

use crate::headers::{
    DeploymentStatus, Entry, HeaderTree, MAX_FUTURE_BLOCK_TIME, MAX_TIMEWARP, PowParams, TOP_BITS,
    next_work,
};

/// Parent, height and required header fields of the next block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextBlock {
    /// Its parent.
    pub parent: BlockHash,
    /// Its height.
    pub height: u32,
    /// Its version, with the bits of started and locked-in deployments (BIP9).
    pub version: Version,
    /// The target that it must meet at `time`.
    pub bits: CompactTarget,
    /// Unix seconds: now, or the earliest allowed time if that is later.
    pub time: u32,
    /// The earliest allowed time: above the median of the last eleven blocks, and at the start of a
    /// difficulty period at most 600 s before the parent. The latter is a rule only where BIP94
    /// applies; like Core we follow it everywhere.
    pub min_time: u32,
    /// From this time on the block may have minimum difficulty, which it does not have at `time`
    /// (test networks: 20 minutes after the parent).
    pub easier_from: Option<u32>,
    /// What it may create, without fees.
    pub subsidy: Amount,
    /// Whether its coinbase commits to the witnesses: SegWit is active (BIP141). A block of a
    /// signet must, even without any transaction: the solution of the challenge is part of the
    /// commitment's output (BIP325).
    pub commits: bool,
}

impl NextBlock {
    /// The next block after `parent` when the clock shows `unix`. `None`: the parent is not in the
    /// tree.
    #[must_use]
    pub fn after(
        tree: &HeaderTree,
        parent: &BlockHash,
        network: &Network,
        unix: u32,
    ) -> Option<Self> {
        let parent = tree.get(parent)?;
        let height = parent.height + 1;
        let min_time = min_time(tree, &parent, network)?;
        let time = unix.max(min_time);
        let params = PowParams::for_network(network);
        let bits = next_work(&params, tree, &parent.hash, time)?;
        let [.., segwit] = network.buried_deployments();
        Some(Self {
            parent: parent.hash,
            height,
            version: version(tree, &parent, network)?,
            bits,
            time,
            min_time,
            easier_from: easier_from(&params, &parent, network, bits),
            subsidy: Amount::from_sat(network.block_subsidy(height)),
            commits: height >= segwit.height,
        })
    }

    /// The target that the hash must not exceed.
    #[must_use]
    pub fn target(&self) -> Target {
        Target::from_compact(self.bits)
    }

    /// Whether other nodes would refuse the block now for a time too far in the future. That
    /// happens when blocks are mined faster than one in six seconds for hours: each must be timed
    /// after the median of the eleven before it.
    #[must_use]
    pub fn is_too_far_ahead(&self, unix: u32) -> bool {
        self.time > unix.saturating_add(MAX_FUTURE_BLOCK_TIME)
    }
}

/// Core `GetMinimumTime`.
fn min_time(tree: &HeaderTree, parent: &Entry, network: &Network) -> Option<u32> {
    let past_median = tree.median_time_past(&parent.hash)?.saturating_add(1);
    let starts_period = (parent.height + 1).is_multiple_of(network.pow().adjustment_interval());
    Some(if starts_period {
        past_median.max(parent.header.time.saturating_sub(MAX_TIMEWARP))
    } else {
        past_median
    })
}

/// Core `ComputeBlockVersion`.
fn version(tree: &HeaderTree, parent: &Entry, network: &Network) -> Option<Version> {
    let mut version = TOP_BITS;
    if let Some(rules) = network.version_bits() {
        match tree.deployment_state(&parent.hash, &rules)?.next {
            DeploymentStatus::Started | DeploymentStatus::LockedIn => version |= 1 << rules.bit,
            DeploymentStatus::Defined | DeploymentStatus::Active | DeploymentStatus::Failed => {}
        }
    }
    Some(Version::from_consensus(version.cast_signed()))
}

fn easier_from(
    params: &PowParams,
    parent: &Entry,
    network: &Network,
    bits: CompactTarget,
) -> Option<u32> {
    let rules = network.pow();
    let starts_period = (parent.height + 1).is_multiple_of(params.interval());
    let possible = rules.allow_min_difficulty_blocks
        && !starts_period
        && bits != params.limit().to_compact_lossy();
    possible.then(|| {
        parent
            .header
            .time
            .saturating_add(2 * rules.target_spacing + 1)
    })
}

/// The payout script when none is configured: anyone can spend, on networks whose coins have no
/// value. `None` where coins have, or may have, a value.
#[must_use]
pub fn anyone_can_spend_payout(network: &Network) -> Option<ScriptBuf> {
    let anyone_can_spend = ScriptBuf::from_bytes(vec![bitcoin::opcodes::OP_TRUE.to_u8()]);
    (!network.always_mined()).then_some(anyone_can_spend)
}
