//! Settings of the miner.

use std::time::Duration;

use bitcoin::ScriptBuf;
use handfast_cli::values::{bad, number};
use handfast_cli::{Layers, SettingsError, keys};
use handfast_node::Network;
use handfast_node::config::{MAX_MINE_THREADS, MiningConfig, default_mine_interval};
use handfast_node::mining::{MAX_TAG, anyone_can_spend_payout};

use super::RunError;

/// Longest interval between blocks, seconds.
const MAX_INTERVAL: f64 = 86_400.0;

pub(super) fn mining(layers: &Layers, network: &Network) -> Result<MiningConfig, RunError> {
    let wanted = format!("a number of threads from 1 to {MAX_MINE_THREADS}");
    let wanted_interval = format!("a number of seconds from 0 to {MAX_INTERVAL}");
    let interval = number(
        layers,
        keys::MINE_INTERVAL,
        0.0..=MAX_INTERVAL,
        &wanted_interval,
    )?;
    let config = MiningConfig {
        at_start: layers.flag(keys::MINE).is_some(),
        threads: number(layers, keys::MINE_THREADS, 1..=MAX_MINE_THREADS, &wanted)?,
        interval: interval.map_or_else(|| default_mine_interval(network), Duration::from_secs_f64),
        payout: address(layers, network)?,
        ..MiningConfig::new(network)
    };
    let config = match tag(layers)? {
        None => config,
        Some(tag) => MiningConfig { tag, ..config },
    };
    if let Some(origin) = layers.flag(keys::MINE) {
        let reference = origin.reference(keys::MINE);
        if network.signet_needs_a_signature() {
            return Err(RunError::SignetNeedsSignature(reference));
        }
        if config.payout.is_none() && anyone_can_spend_payout(network).is_none() {
            return Err(RunError::MineForWhom(reference));
        }
    }
    Ok(config)
}

fn address(layers: &Layers, network: &Network) -> Result<Option<ScriptBuf>, SettingsError> {
    let Some((origin, text)) = layers.one(keys::MINE_ADDRESS) else {
        return Ok(None);
    };
    let script = handfast_rpc::address_script(text, network.bitcoin());
    let wanted = format!("an address of {network}");
    script.map_or_else(
        || Err(bad(origin, keys::MINE_ADDRESS, text, wanted)),
        |script| Ok(Some(script)),
    )
}

fn tag(layers: &Layers) -> Result<Option<Vec<u8>>, SettingsError> {
    let Some((origin, text)) = layers.one(keys::MINE_TAG) else {
        return Ok(None);
    };
    if text.len() > MAX_TAG {
        let wanted = format!("a text of at most {MAX_TAG} bytes");
        return Err(bad(origin, keys::MINE_TAG, text, wanted));
    }
    Ok(Some(text.as_bytes().to_vec()))
}
