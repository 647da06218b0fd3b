//! Faults of a proposed block that are found without the kernel, which would store the block.
//!
//! Not consensus, and not complete: a block without a fault may still break a rule. The result only
//! informs a miner that asks before it works.

use bitcoin::{Block, Weight};
use handfast_wire::Network;

use super::next_block::NextBlock;
use crate::headers::{HeaderTree, MAX_FUTURE_BLOCK_TIME, Status};

/// Lengths of a coinbase's script, bytes.
const COINBASE_SCRIPT: std::ops::RangeInclusive<usize> = 2..=100;

/// The reject reason of BIP22 for the block, apart from its proof of work; `None`: no fault was
/// found. In Core's order.
#[must_use]
pub fn objection(
    tree: &HeaderTree,
    network: &Network,
    block: &Block,
    unix: u32,
) -> Option<&'static str> {
    match tree.get(&block.block_hash()).map(|entry| entry.status) {
        Some(Status::Connected) => return Some("duplicate"),
        Some(Status::Invalid) => return Some("duplicate-invalid"),
        Some(Status::Header | Status::Stored) => return Some("duplicate-inconclusive"),
        None => {}
    }
    let tip = tree.tip().hash;
    if block.header.prev_blockhash != tip {
        return Some("inconclusive-not-best-prevblk");
    }
    of_its_own(block).or_else(|| of_its_place(tree, network, block, unix))
}

/// The rules of Core's `CheckBlock`.
fn of_its_own(block: &Block) -> Option<&'static str> {
    let Some(coinbase) = block.txdata.first() else {
        return Some("bad-blk-length");
    };
    if !block.check_merkle_root() {
        return Some("bad-txnmrklroot");
    }
    if block.weight() > Weight::MAX_BLOCK {
        return Some("bad-blk-weight");
    }
    if !coinbase.is_coinbase() {
        return Some("bad-cb-missing");
    }
    if block.txdata[1..]
        .iter()
        .any(bitcoin::Transaction::is_coinbase)
    {
        return Some("bad-cb-multiple");
    }
    let script = &coinbase.input[0].script_sig;
    (!COINBASE_SCRIPT.contains(&script.len())).then_some("bad-cb-length")
}

/// Core `ContextualCheckBlockHeader`, `ContextualCheckBlock`, and the amount that a coinbase
/// without other transactions may not exceed.
fn of_its_place(
    tree: &HeaderTree,
    network: &Network,
    block: &Block,
    unix: u32,
) -> Option<&'static str> {
    let tip = tree.tip();
    let time = block.header.time;
    // The required fields at the time of the block.
    let next = NextBlock::after(tree, &tip.hash, network, time)?;
    let median = tree.median_time_past(&tip.hash)?;
    let asked = if time == next.time {
        next.bits
    } else {
        // Too early, which is reported next; the difficulty follows from the time all the same.
        block.header.bits
    };
    if block.header.bits != asked {
        return Some("bad-diffbits");
    }
    if time <= median {
        return Some("time-too-old");
    }
    if network.pow().enforce_bip94 && time < next.min_time {
        return Some("time-timewarp-attack");
    }
    if time > unix.saturating_add(MAX_FUTURE_BLOCK_TIME) {
        return Some("time-too-new");
    }
    let [bip34, ..] = network.buried_deployments();
    let coinbase = &block.txdata[0];
    let height = bitcoin::script::Builder::new().push_int(next.height.into());
    let script = coinbase.input[0].script_sig.as_bytes();
    if next.height >= bip34.height && !script.starts_with(height.as_bytes()) {
        return Some("bad-cb-height");
    }
    if next.commits && !block.check_witness_commitment() {
        return Some("bad-witness-merkle-match");
    }
    let paid: u64 = coinbase
        .output
        .iter()
        .fold(0, |sum, output| sum.saturating_add(output.value.to_sat()));
    let lone = block.txdata.len() == 1;
    (lone && paid > next.subsidy.to_sat()).then_some("bad-cb-amount")
}
