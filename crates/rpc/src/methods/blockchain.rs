//! Blocks, headers and the state of the chain.

mod chainstates;
mod deployments;
mod mempool;
mod spenders;
mod statistics;
mod waiting;

use std::rc::Rc;

use bitcoin::BlockHash;
use bitcoin::consensus::encode::serialize_hex;
use handfast_api::methods::blockchain as specs;
use handfast_node::{BlockError, ConnId, Entry, FetchFailure, HeaderTree, ReadError, Status};
use serde_json::{Value, json};

use super::{Call, Method};
use crate::jsonrpc::{Error, code};
use crate::render::block::{
    BlockDetail, ChainPosition, block_to_json, count_transactions, header_to_json,
};
use crate::render::number::real;

pub(super) const METHODS: &[Method] = &[
    Method {
        spec: &specs::GETBESTBLOCKHASH,
        run: |call| {
            Box::pin(async move { Ok(call.node.view().tree.tip().hash.to_string().into()) })
        },
    },
    Method {
        spec: &specs::GETBLOCK,
        run: |call| Box::pin(getblock(call)),
    },
    Method {
        spec: &specs::GETBLOCKCHAININFO,
        run: |call| Box::pin(getblockchaininfo(call)),
    },
    Method {
        spec: &specs::GETBLOCKCOUNT,
        run: |call| Box::pin(async move { Ok(call.node.view().tree.tip().height.into()) }),
    },
    Method {
        spec: &specs::GETBLOCKFROMPEER,
        run: |call| Box::pin(getblockfrompeer(call)),
    },
    Method {
        spec: &specs::GETBLOCKHASH,
        run: |call| Box::pin(getblockhash(call)),
    },
    Method {
        spec: &specs::GETBLOCKHEADER,
        run: |call| Box::pin(getblockheader(call)),
    },
    statistics::GETBLOCKSTATS,
    chainstates::GETCHAINSTATES,
    Method {
        spec: &specs::GETCHAINTIPS,
        run: |call| Box::pin(getchaintips(call)),
    },
    statistics::GETCHAINTXSTATS,
    deployments::GETDEPLOYMENTINFO,
    Method {
        spec: &specs::GETDIFFICULTY,
        run: |call| {
            Box::pin(async move {
                let bits = call.node.view().tree.tip().header.bits;
                Ok(crate::render::number::work_fields(bits).2)
            })
        },
    },
    mempool::GETMEMPOOLINFO,
    mempool::GETRAWMEMPOOL,
    spenders::GETTXSPENDINGPREVOUT,
    waiting::WAITFORBLOCK,
    waiting::WAITFORBLOCKHEIGHT,
    waiting::WAITFORNEWBLOCK,
];

/// A block hash argument, or Core's words for what is wrong with it.
pub(super) fn hash_argument(text: &str, name: &str) -> Result<BlockHash, Error> {
    let bad = |message| Err(Error::new(code::INVALID_PARAMETER, message));
    if text.len() != 64 {
        return bad(format!(
            "{name} must be of length 64 (not {}, for '{text}')",
            text.len()
        ));
    }
    match text.parse() {
        Ok(hash) => Ok(hash),
        Err(_) => bad(format!("{name} must be hexadecimal string (not '{text}')")),
    }
}

fn known(tree: &HeaderTree, hash: &BlockHash) -> Result<Entry, Error> {
    tree.get(hash)
        .ok_or_else(|| Error::new(code::INVALID_ADDRESS_OR_KEY, "Block not found"))
}

impl From<BlockError> for Error {
    fn from(error: BlockError) -> Self {
        match error {
            BlockError::Gone(gone) => gone.into(),
            BlockError::Read(ReadError::Unknown(_)) => {
                Self::new(code::INVALID_ADDRESS_OR_KEY, "Block not found")
            }
            BlockError::Read(ReadError::NoData(_)) => Self::new(
                code::MISC_ERROR,
                "Block not available (not fully downloaded)",
            ),
            BlockError::Read(ReadError::Io { .. }) => {
                Self::new(code::MISC_ERROR, "Block not found on disk")
            }
            BlockError::Read(ReadError::Closed) => {
                Self::new(code::CLIENT_NOT_CONNECTED, "Shutting down")
            }
        }
    }
}

async fn getblockchaininfo(call: Rc<Call>) -> Result<Value, Error> {
    let view = call.node.view();
    let tip = view.tree.tip();
    let (bits, target, difficulty) = crate::render::number::work_fields(tip.header.bits);
    let mut info = json!({
        "chain": view.network.core_chain_name(),
        "blocks": tip.height,
        "headers": view.tree.best_header().height,
        "bestblockhash": tip.hash.to_string(),
        "bits": bits,
        "target": target,
        "difficulty": difficulty,
        "time": tip.header.time,
        "mediantime": view.tree.median_time_past(&tip.hash),
        "verificationprogress": real(call.node.verification_progress()),
        "initialblockdownload": view.initial_block_download,
        "chainwork": crate::render::number::work_hex(tip.work),
        "size_on_disk": view.size_on_disk,
        "pruned": false,
    });
    if let Some(challenge) = view.network.signet_challenge() {
        info["signet_challenge"] = crate::render::hex(challenge).into();
    }
    info["warnings"] = view.warnings.clone().into();
    Ok(info)
}

async fn getblockfrompeer(call: Rc<Call>) -> Result<Value, Error> {
    let hash = hash_argument(call.text(0).unwrap_or_default(), "blockhash")?;
    // Core has no peer with a negative id, and reports it only after the checks of the block.
    let id = call.integer::<i64>(1)?.unwrap_or(-1);
    let id = ConnId(u64::try_from(id).unwrap_or(u64::MAX));
    match call.node.fetch_block(id, hash).await {
        Ok(()) => Ok(json!({})),
        Err(FetchFailure::Gone(gone)) => Err(gone.into()),
        Err(FetchFailure::Refused(refusal)) => {
            Err(Error::new(code::MISC_ERROR, refusal.to_string()))
        }
    }
}

async fn getblockhash(call: Rc<Call>) -> Result<Value, Error> {
    let height: i32 = call.integer(0)?.unwrap_or(-1);
    let view = call.node.view();
    let entry = u32::try_from(height)
        .ok()
        .and_then(|height| view.tree.at_height(height));
    match entry {
        Some(entry) => Ok(entry.hash.to_string().into()),
        None => Err(Error::new(
            code::INVALID_PARAMETER,
            "Block height out of range",
        )),
    }
}

async fn getblockheader(call: Rc<Call>) -> Result<Value, Error> {
    let hash = hash_argument(call.text(0).unwrap_or_default(), "hash")?;
    let view = call.node.view();
    let entry = known(&view.tree, &hash)?;
    if call.flag(1) == Some(false) {
        return Ok(serialize_hex(&entry.header).into());
    }
    // Only the block itself knows how many transactions it has; without data it is 0, as in Core.
    let transactions = match entry.status {
        Status::Header => 0,
        Status::Stored | Status::Connected | Status::Invalid => {
            match call.node.block(hash, true).await {
                Ok(bytes) => count_transactions(&bytes),
                Err(BlockError::Read(_)) => 0,
                Err(error) => return Err(error.into()),
            }
        }
    };
    Ok(header_to_json(&entry, &ChainPosition::of(&view.tree, &entry), transactions).into())
}

async fn getblock(call: Rc<Call>) -> Result<Value, Error> {
    let hash = hash_argument(call.text(0).unwrap_or_default(), "blockhash")?;
    let verbosity = match call.value(1) {
        Value::Bool(verbose) => i32::from(*verbose),
        _ => call.integer(1)?.unwrap_or(1),
    };
    let view = call.node.view();
    let entry = known(&view.tree, &hash)?;
    let bytes = call.node.block(hash, true).await?;
    if verbosity <= 0 {
        return Ok(crate::render::hex(&bytes).into());
    }
    let detail = match verbosity {
        1 => BlockDetail::Ids,
        2 => BlockDetail::Transactions,
        _ => BlockDetail::TransactionsAndSpent,
    };
    // Undo data exists for blocks that were connected; the genesis block spends nothing.
    let spent = match (detail, entry.status) {
        (BlockDetail::Ids, _) => None,
        (_, Status::Connected) if entry.height > 0 => match call.node.spent_outputs(hash).await {
            Ok(spent) => Some(spent),
            Err(BlockError::Read(ReadError::NoData(_))) => None,
            Err(error) => return Err(error.into()),
        },
        (_, Status::Connected | Status::Header | Status::Stored | Status::Invalid) => None,
    };
    let network = view.network.clone();
    let position = ChainPosition::of(&view.tree, &entry);
    // Rendering a full block takes tens of milliseconds: off the worker, which serves other
    // clients.
    let render = move || block_to_json(&entry, &position, &bytes, spent, detail, &network);
    let rendered = tokio::task::spawn_blocking(render).await;
    rendered.map_err(|_| Error::new(code::INTERNAL_ERROR, "rendering the block failed"))?
}

async fn getchaintips(call: Rc<Call>) -> Result<Value, Error> {
    let view = call.node.view();
    // Looks at every header known, which takes a while on a long chain.
    let tips = tokio::task::spawn_blocking(move || view.tree.chain_tips()).await;
    let tips = tips.map_err(|_| Error::new(code::INTERNAL_ERROR, "listing the tips failed"))?;
    let row = |tip: &handfast_node::ChainTip| {
        json!({
            "height": tip.height,
            "hash": tip.hash.to_string(),
            "branchlen": tip.branch_len,
            "status": tip.status.as_str(),
        })
    };
    Ok(tips.iter().map(row).collect())
}
