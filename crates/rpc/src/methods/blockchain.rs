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
use handfast_node::{BlockError, ConnId, Entry, FetchFailure, HeaderTree, ReadError, Status};
use serde_json::{Value, json};

use super::{Call, Category, Kind, Method, Need, Param};
use crate::jsonrpc::{Error, code};
use crate::render::block::{BlockDetail, Place, block_to_json, count_transactions, header_to_json};
use crate::render::number::real;

const BLOCKHASH: Param = Param {
    names: &["blockhash"],
    kind: Kind::Hex,
    need: Need::Required,
    about: "The block hash",
};

pub(super) const METHODS: &[Method] = &[
    Method {
        name: "getbestblockhash",
        category: Category::Blockchain,
        params: &[],
        about: "Returns the hash of the tip of the fully validated chain with most work.",
        result: "\"hex\"  (string) the block hash",
        example: "",
        needs_chain: true,
        run: |call| {
            Box::pin(async move { Ok(call.node.view().tree.tip().hash.to_string().into()) })
        },
    },
    Method {
        name: "getblock",
        category: Category::Blockchain,
        params: &[
            BLOCKHASH,
            Param {
                names: &["verbosity", "verbose"],
                kind: Kind::Level,
                need: Need::Optional("default: 1"),
                about: "0: serialized block in hex; 1: object with transaction ids; 2: with whole transactions; \
                        3: also with the outputs that they spend",
            },
        ],
        about: "Returns a block.",
        result: "\"hex\" or {…}  as Bitcoin Core's getblock",
        example: "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f 2",
        needs_chain: true,
        run: |call| Box::pin(getblock(call)),
    },
    Method {
        name: "getblockchaininfo",
        category: Category::Blockchain,
        params: &[],
        about: "Returns the state of the chain and of its validation.",
        result: "{ chain, blocks, headers, bestblockhash, bits, target, difficulty, time, mediantime,\n  \
                 verificationprogress, initialblockdownload, chainwork, size_on_disk, pruned,\n  \
                 signet_challenge (signets only), warnings }",
        example: "",
        needs_chain: true,
        run: |call| Box::pin(getblockchaininfo(call)),
    },
    Method {
        name: "getblockcount",
        category: Category::Blockchain,
        params: &[],
        about: "Returns the height of the fully validated chain with most work. The genesis block has height 0.",
        result: "n  (numeric) the height",
        example: "",
        needs_chain: true,
        run: |call| Box::pin(async move { Ok(call.node.view().tree.tip().height.into()) }),
    },
    Method {
        name: "getblockfrompeer",
        category: Category::Blockchain,
        params: &[
            BLOCKHASH,
            Param {
                names: &["peer_id"],
                kind: Kind::Number,
                need: Need::Required,
                about: "The peer's id as getpeerinfo shows it",
            },
        ],
        about: "Asks a peer for a block whose header is known and whose data is not here, and nobody else any more.\n\
                Peers need not send blocks of branches that they left, and one that sends nothing is disconnected.",
        result: "{ }  the peer has been asked",
        example: "00000000c937983704a73af28acdec37b049d214adbda81d7e2a3dd146f6ed09 0",
        needs_chain: true,
        run: |call| Box::pin(getblockfrompeer(call)),
    },
    Method {
        name: "getblockhash",
        category: Category::Blockchain,
        params: &[Param {
            names: &["height"],
            kind: Kind::Number,
            need: Need::Required,
            about: "The height",
        }],
        about: "Returns the hash of the block of the active chain at a height.",
        result: "\"hex\"  (string) the block hash",
        example: "1000",
        needs_chain: true,
        run: |call| Box::pin(getblockhash(call)),
    },
    Method {
        name: "getblockheader",
        category: Category::Blockchain,
        params: &[
            BLOCKHASH,
            Param {
                names: &["verbose"],
                kind: Kind::Flag,
                need: Need::Optional("default: true"),
                about: "true: an object; false: the serialized header in hex",
            },
        ],
        about: "Returns the header of a block.",
        result: "\"hex\" or { hash, confirmations, height, version, versionHex, merkleroot, time, mediantime,\n  \
                 nonce, bits, target, difficulty, chainwork, nTx, previousblockhash, nextblockhash }",
        example: "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f",
        needs_chain: true,
        run: |call| Box::pin(getblockheader(call)),
    },
    statistics::GETBLOCKSTATS,
    chainstates::GETCHAINSTATES,
    Method {
        name: "getchaintips",
        category: Category::Blockchain,
        params: &[],
        about: "Returns the tips of all branches that are known, the active one among them.",
        result: "[ { height, hash, branchlen, status }, … ]\n\
                 status: active, valid-fork, valid-headers, headers-only or invalid",
        example: "",
        needs_chain: true,
        run: |call| Box::pin(getchaintips(call)),
    },
    statistics::GETCHAINTXSTATS,
    deployments::GETDEPLOYMENTINFO,
    Method {
        name: "getdifficulty",
        category: Category::Blockchain,
        params: &[],
        about: "Returns how much harder the tip was to find than a block at the easiest target of mainnet.",
        result: "n  (numeric)",
        example: "",
        needs_chain: true,
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
    // Core knows no peer with a negative number, and says so only after it looked at the block.
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
    Ok(header_to_json(&entry, &Place::of(&view.tree, &entry), transactions).into())
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
    let place = Place::of(&view.tree, &entry);
    // Rendering a full block takes tens of milliseconds: off the worker, which has other callers.
    let render = move || block_to_json(&entry, &place, &bytes, spent, detail, &network);
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
