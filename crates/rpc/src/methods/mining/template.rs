//! `getblocktemplate` (BIP22, BIP23, BIP9, BIP145).

use std::collections::BTreeSet;
use std::rc::Rc;

use bitcoin::consensus::deserialize;
use bitcoin::{Block, Weight};
use handfast_api::methods::mining as specs;
use handfast_node::mining::{NextBlock, Template, objection};
use handfast_node::{ChainView, DeploymentStatus, Network, Phase};
use serde_json::{Map, Value, json};

use super::super::blockchain::hash_argument;
use super::{Call, Method};
use crate::jsonrpc::{Error, code};
use crate::render::number::work_fields;
use crate::render::{hex, unhex};

/// Core `MAX_BLOCK_SIGOPS_COST`, `MAX_BLOCK_SERIALIZED_SIZE`, and what divides them where
/// witnesses are not in force.
const MAX_SIGOPS: u64 = 80_000;
const MAX_SIZE: u64 = 4_000_000;
const WITNESS_SCALE: u64 = 4;
/// Digits of a block hash at the front of a `longpollid`.
const HASH_DIGITS: usize = 64;

pub(super) const GETBLOCKTEMPLATE: Method = Method {
    spec: &specs::GETBLOCKTEMPLATE,
    run: |call| Box::pin(getblocktemplate(call)),
};

fn bad(message: &str) -> Error {
    Error::new(code::INVALID_PARAMETER, message)
}

async fn getblocktemplate(call: Rc<Call>) -> Result<Value, Error> {
    let request = call.value(0);
    let mode = match &request["mode"] {
        Value::Null => "template",
        Value::String(mode) => mode,
        _ => return Err(bad("Invalid mode")),
    };
    if mode == "proposal" {
        return proposed(&call, &request["data"]);
    }
    let rules = rules(&request["rules"])?;
    if mode != "template" {
        return Err(bad("Invalid mode"));
    }
    let view = call.node.view();
    if view.network == Network::Mainnet {
        let network = call.node.network_info();
        if network.connections_in + network.connections_out == 0 {
            let message = "Handfast is not connected!";
            return Err(Error::new(code::CLIENT_NOT_CONNECTED, message));
        }
        if view.initial_block_download {
            let message = "Handfast is in initial sync and waiting for blocks...";
            return Err(Error::new(code::CLIENT_IN_INITIAL_DOWNLOAD, message));
        }
    }
    drop(view);
    wait(&call, &request["longpollid"]).await?;
    let view = call.node.view();
    if view.network.signet_challenge().is_some() && !rules.contains("signet") {
        return Err(bad(
            "getblocktemplate must be called with the signet rule set (call with {\"rules\": [\"segwit\", \"signet\"]})",
        ));
    }
    if !rules.contains("segwit") {
        return Err(bad(
            "getblocktemplate must be called with the segwit rule set (call with {\"rules\": [\"segwit\"]})",
        ));
    }
    call.made_template();
    Ok(template(&view, &call.node.next_block()))
}

fn rules(value: &Value) -> Result<BTreeSet<&str>, Error> {
    let listed = value.as_array().into_iter().flatten();
    let text = |rule: &'_ Value| match rule {
        Value::String(_) => Ok(()),
        other => Err(Error::wrong_type(other, "string")),
    };
    listed.clone().try_for_each(text)?;
    Ok(listed.filter_map(Value::as_str).collect())
}

/// Waits while the tip is that of the template with this id. Holds no worker. An id that is
/// no text stands for the present tip.
async fn wait(call: &Call, id: &Value) -> Result<(), Error> {
    let watched = match id {
        Value::Null => return Ok(()),
        Value::String(id) => {
            let end = id.len().min(HASH_DIGITS);
            hash_argument(id.get(..end).unwrap_or(id), "longpollid")?
        }
        _ => call.node.view().tree.tip().hash,
    };
    let moved = |view: &ChainView| view.tree.tip().hash != watched;
    let view = call.node.view_when(moved).await;
    if view.phase == Phase::Stopping {
        return Err(Error::new(code::CLIENT_NOT_CONNECTED, "Shutting down"));
    }
    Ok(())
}

fn template(view: &ChainView, next: &NextBlock) -> Value {
    let network = &view.network;
    let (bits, target, _) = work_fields(next.bits);
    let (version_rules, available) = signalled(view, next);
    let mut rules = vec!["csv"];
    if next.commits {
        rules.extend(["!segwit", "taproot"]);
    }
    if network.signet_challenge().is_some() {
        rules.push("!signet");
    }
    rules.extend(version_rules);
    let scale = if next.commits { 1 } else { WITNESS_SCALE };
    let mut answer = json!({
        "capabilities": [],
        "version": next.version.to_consensus(),
        "rules": rules,
        "vbavailable": available,
        "vbrequired": 0,
        "previousblockhash": next.parent.to_string(),
        "transactions": [],
        "coinbaseaux": {},
        "coinbasevalue": next.subsidy.to_sat(),
        // Core appends its counter of mempool changes to the hash; there is no mempool.
        "longpollid": format!("{}0", next.parent),
        "target": target,
        "mintime": next.min_time,
        "mutable": ["time", "transactions", "prevblock"],
        "noncerange": "00000000ffffffff",
        "sigoplimit": MAX_SIGOPS / scale,
        "sizelimit": MAX_SIZE / scale,
    });
    if next.commits {
        answer["weightlimit"] = Weight::MAX_BLOCK.to_wu().into();
    }
    answer["curtime"] = next.time.into();
    answer["bits"] = bits.into();
    answer["height"] = next.height.into();
    if let Some(challenge) = network.signet_challenge() {
        answer["signet_challenge"] = hex(challenge).into();
    }
    if next.commits {
        let script = Template::commitment_script(&[]);
        answer["default_witness_commitment"] = script.to_hex_string().into();
    }
    answer
}

/// The rules that were signalled for and are in force, and those that can be signalled for,
/// with their bits (BIP9). The one there is, regtest's dummy, requires nothing of a client.
fn signalled(view: &ChainView, next: &NextBlock) -> (Option<&'static str>, Value) {
    let mut available = Map::new();
    let mut in_force = None;
    if let Some(rules) = view.network.version_bits() {
        let state = view.tree.deployment_state(&next.parent, &rules);
        match state.map(|state| state.next) {
            Some(DeploymentStatus::Started | DeploymentStatus::LockedIn) => {
                available.insert(rules.name.to_owned(), rules.bit.into());
            }
            Some(DeploymentStatus::Active) => in_force = Some(rules.name),
            Some(DeploymentStatus::Defined | DeploymentStatus::Failed) | None => {}
        }
    }
    (in_force, available.into())
}

fn proposed(call: &Call, data: &Value) -> Result<Value, Error> {
    let Some(data) = data.as_str() else {
        let message = "Missing data String key for proposal";
        return Err(Error::new(code::TYPE_ERROR, message));
    };
    let block: Option<Block> = unhex(data).and_then(|bytes| deserialize(&bytes).ok());
    let Some(block) = block else {
        let message = "Block decode failed";
        return Err(Error::new(code::DESERIALIZATION_ERROR, message));
    };
    let view = call.node.view();
    let found = objection(&view.tree, &view.network, &block, call.node.unix());
    Ok(found.unwrap_or("inconclusive").into())
}
