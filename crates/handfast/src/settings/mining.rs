//! What is mined, for whom and how fast.

use std::time::Duration;

use bitcoin::ScriptBuf;
use handfast_node::Network;
use handfast_node::config::{MiningConfig, default_mine_interval};
use handfast_node::mining::{MAX_TAG, payout_for_anybody};

use super::layers::{Layers, Reference};
use super::{SettingsError, bad, number};

/// Most threads that may be asked for: more than any machine has cores.
const MAX_THREADS: usize = 1_024;
/// Longest pace, seconds.
const MAX_INTERVAL: f64 = 86_400.0;

pub(super) fn mining(layers: &Layers, network: &Network) -> Result<MiningConfig, SettingsError> {
    let wanted = format!("a number of threads from 1 to {MAX_THREADS}");
    let wanted_interval = format!("a number of seconds from 0 to {MAX_INTERVAL}");
    let interval = number(
        layers,
        "mine-interval",
        0.0..=MAX_INTERVAL,
        &wanted_interval,
    )?;
    let config = MiningConfig {
        at_start: layers.flag("mine").is_some(),
        threads: number(layers, "mine-threads", 1..=MAX_THREADS, &wanted)?,
        interval: interval.map_or_else(|| default_mine_interval(network), Duration::from_secs_f64),
        payout: address(layers, network)?,
        ..MiningConfig::new(network)
    };
    let config = match tag(layers)? {
        None => config,
        Some(tag) => MiningConfig { tag, ..config },
    };
    if let Some(origin) = layers.flag("mine") {
        let reference = Reference(origin, "mine").to_string();
        if network.signet_needs_a_signature() {
            return Err(SettingsError::SignetNeedsSignature(reference));
        }
        if config.payout.is_none() && payout_for_anybody(network).is_none() {
            return Err(SettingsError::MineForWhom(reference));
        }
    }
    Ok(config)
}

fn address(layers: &Layers, network: &Network) -> Result<Option<ScriptBuf>, SettingsError> {
    let Some((origin, text)) = layers.one("mine-address") else {
        return Ok(None);
    };
    let script = handfast_rpc::address_script(text, network.bitcoin());
    let wanted = format!("an address of {network}");
    script.map_or_else(
        || Err(bad(origin, "mine-address", text, wanted)),
        |script| Ok(Some(script)),
    )
}

fn tag(layers: &Layers) -> Result<Option<Vec<u8>>, SettingsError> {
    let Some((origin, text)) = layers.one("mine-tag") else {
        return Ok(None);
    };
    if text.len() > MAX_TAG {
        let wanted = format!("a text of at most {MAX_TAG} bytes");
        return Err(bad(origin, "mine-tag", text, wanted));
    }
    Ok(Some(text.as_bytes().to_vec()))
}
