//! The state of mining: our own, and the network's.

use std::rc::Rc;

use bitcoin::Work;
use handfast_api::methods::mining as specs;
use handfast_node::ChainView;
use serde_json::{Value, json};

use super::control::describe;
use super::{Call, Method};
use crate::jsonrpc::{Error, code};
use crate::policy;
use crate::render::number::{amount, real, work_fields};

/// The default number of blocks of the estimate.
const DEFAULT_LOOKUP: i32 = 120;

pub(super) const GETMININGINFO: Method = Method {
    spec: &specs::GETMININGINFO,
    run: |call| Box::pin(getmininginfo(call)),
};

pub(super) const GETNETWORKHASHPS: Method = Method {
    spec: &specs::GETNETWORKHASHPS,
    run: |call| Box::pin(getnetworkhashps(call)),
};

pub(super) const GETPRIORITISEDTRANSACTIONS: Method = Method {
    spec: &specs::GETPRIORITISEDTRANSACTIONS,
    run: |_| Box::pin(async { Ok(json!({})) }),
};

pub(super) const PRIORITISETRANSACTION: Method = Method {
    spec: &specs::PRIORITISETRANSACTION,
    run: |_| {
        Box::pin(async {
            let message = "prioritisetransaction is not offered: Handfast relays no transactions and has no mempool, so that none can be preferred";
            Err(Error::new(code::METHOD_NOT_FOUND, message))
        })
    },
};

async fn getmininginfo(call: Rc<Call>) -> Result<Value, Error> {
    let view = call.node.view();
    let tip = view.tree.tip();
    let (bits, target, difficulty) = work_fields(tip.header.bits);
    let mut info = json!({ "blocks": tip.height });
    if call.has_made_template() || call.node.mining().is_on() {
        info["currentblockweight"] = policy::RESERVED_WEIGHT.into();
        info["currentblocktx"] = 0.into();
    }
    info["bits"] = bits.into();
    info["difficulty"] = difficulty;
    info["target"] = target.into();
    info["networkhashps"] = network_hashes(&view, DEFAULT_LOOKUP, -1)?;
    info["pooledtx"] = 0.into();
    info["blockmintxfee"] = amount(policy::BLOCK_MIN_FEE);
    info["chain"] = view.network.core_chain_name().into();
    let next = call.node.next_block();
    let (bits, target, difficulty) = work_fields(next.bits);
    info["next"] = json!({
        "height": next.height,
        "bits": bits,
        "difficulty": difficulty,
        "target": target,
    });
    if let Some(challenge) = view.network.signet_challenge() {
        info["signet_challenge"] = crate::render::hex(challenge).into();
    }
    info["warnings"] = view.warnings.clone().into();
    info["handfast"] = describe(&call.node.mining(), view.network.bitcoin());
    Ok(info)
}

async fn getnetworkhashps(call: Rc<Call>) -> Result<Value, Error> {
    let lookup = call.integer::<i32>(0)?.unwrap_or(DEFAULT_LOOKUP);
    let height = call.integer::<i32>(1)?.unwrap_or(-1);
    network_hashes(&call.node.view(), lookup, height)
}

/// Core `GetNetworkHashPS`.
fn network_hashes(view: &ChainView, lookup: i32, height: i32) -> Result<Value, Error> {
    let bad = |message: &str| Err(Error::new(code::INVALID_PARAMETER, message));
    if lookup < -1 || lookup == 0 {
        return bad("Invalid nblocks. Must be a positive number or -1.");
    }
    let last = match u32::try_from(height) {
        Ok(height) => view.tree.at_height(height),
        Err(_) if height == -1 => Some(view.tree.tip()),
        Err(_) => None,
    };
    let Some(last) = last else {
        return bad("Block does not exist at specified height");
    };
    let interval = view.network.pow().adjustment_interval();
    let lookup = u32::try_from(lookup).unwrap_or(last.height % interval + 1);
    let lookup = lookup.min(last.height);
    let blocks = view
        .tree
        .branch(&last.hash, last.height - lookup, lookup as usize + 1);
    let times = || blocks.iter().map(|block| block.header.time);
    let seconds = times().max().unwrap_or(0) - times().min().unwrap_or(0);
    if last.height == 0 || seconds == 0 {
        return Ok(0.into());
    }
    let work = number(last.work) - number(blocks[0].work);
    Ok(real(work as f64 / f64::from(seconds)))
}

/// The tree keeps at most 2^128 - 1.
fn number(work: Work) -> u128 {
    let bytes = work.to_be_bytes();
    u128::from_be_bytes(*bytes.last_chunk().expect("32 bytes hold 16"))
}
