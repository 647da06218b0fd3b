//! Headers and blocks as `getblockheader` and `getblock` show them.

use bitcoin::consensus::{Decodable, deserialize};
use bitcoin::{Block, BlockHash, Transaction, VarInt};
use handfast_node::{Entry, HeaderTree, Network, SpentOutput};
use serde_json::{Map, Value, json};

use super::number::{work_fields, work_hex};
use super::{hex, transaction};
use crate::jsonrpc::{Error, code};

/// How much of its transactions a block shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BlockDetail {
    /// Verbosity 1.
    Ids,
    /// Verbosity 2.
    Transactions,
    /// Verbosity 3.
    TransactionsAndSpent,
}

/// The position of a header in the tree, as far as an answer shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChainPosition {
    /// Blocks from it to the tip, itself included; -1 off the active chain.
    confirmations: i64,
    median_time: u32,
    next: Option<BlockHash>,
}

impl ChainPosition {
    pub(crate) fn of(tree: &HeaderTree, entry: &Entry) -> Self {
        let active = tree.in_active_chain(&entry.hash);
        let depth = i64::from(tree.tip().height) - i64::from(entry.height) + 1;
        Self {
            confirmations: if active { depth } else { -1 },
            median_time: tree
                .median_time_past(&entry.hash)
                .unwrap_or(entry.header.time),
            next: active
                .then(|| tree.at_height(entry.height + 1))
                .flatten()
                .map(|next| next.hash),
        }
    }
}

/// The transaction count in a serialized block.
pub(crate) fn count_transactions(block: &[u8]) -> u64 {
    let mut after_header = block.get(80..).unwrap_or_default();
    VarInt::consensus_decode(&mut after_header).map_or(0, |count| count.0)
}

/// A header with its position in the chain.
pub(crate) fn header_to_json(
    entry: &Entry,
    position: &ChainPosition,
    transactions: u64,
) -> Map<String, Value> {
    let header = &entry.header;
    let version = header.version.to_consensus();
    let (bits, target, difficulty) = work_fields(header.bits);
    let mut object = Map::new();
    let mut put = |key: &str, value: Value| object.insert(key.to_owned(), value);
    put("hash", entry.hash.to_string().into());
    put("confirmations", position.confirmations.into());
    put("height", entry.height.into());
    put("version", version.into());
    put("versionHex", format!("{version:08x}").into());
    put("merkleroot", header.merkle_root.to_string().into());
    put("time", header.time.into());
    put("mediantime", position.median_time.into());
    put("nonce", header.nonce.into());
    put("bits", bits.into());
    put("target", target.into());
    put("difficulty", difficulty);
    put("chainwork", work_hex(entry.work).into());
    put("nTx", transactions.into());
    if entry.height > 0 {
        put(
            "previousblockhash",
            header.prev_blockhash.to_string().into(),
        );
    }
    if let Some(next) = position.next {
        put("nextblockhash", next.to_string().into());
    }
    object
}

/// A whole block. `spent`: per transaction but the coinbase, per input.
pub(crate) fn block_to_json(
    entry: &Entry,
    position: &ChainPosition,
    bytes: &[u8],
    spent: Option<Vec<Vec<SpentOutput>>>,
    detail: BlockDetail,
    network: &Network,
) -> Result<Value, Error> {
    let unreadable = |_| Error::new(code::MISC_ERROR, "Block not found on disk");
    let block: Block = deserialize(bytes).map_err(unreadable)?;
    let weight = block.weight().to_wu();
    let size = bytes.len() as u64;
    let mut object = header_to_json(entry, position, block.txdata.len() as u64);
    object.insert(
        "strippedsize".into(),
        (weight.saturating_sub(size) / 3).into(),
    );
    object.insert("size".into(), size.into());
    object.insert("weight".into(), weight.into());
    if let Some(coinbase) = block.txdata.first() {
        object.insert("coinbase_tx".into(), coinbase_to_json(coinbase));
    }
    let prevouts = detail == BlockDetail::TransactionsAndSpent;
    let render = |(index, transaction): (usize, &Transaction)| match detail {
        BlockDetail::Ids => Value::from(transaction.compute_txid().to_string()),
        BlockDetail::Transactions | BlockDetail::TransactionsAndSpent => {
            // The coinbase, first of all, spends nothing and has no undo data.
            let own = index
                .checked_sub(1)
                .and_then(|index| spent.as_ref()?.get(index));
            transaction::transaction_to_json(
                transaction,
                own.map(Vec::as_slice),
                prevouts,
                network.bitcoin(),
            )
        }
    };
    object.insert(
        "tx".into(),
        block.txdata.iter().enumerate().map(render).collect(),
    );
    Ok(object.into())
}

fn coinbase_to_json(coinbase: &Transaction) -> Value {
    let mut object = json!({
        "version": coinbase.version.0.cast_unsigned(),
        "locktime": coinbase.lock_time.to_consensus_u32(),
    });
    if let Some(input) = coinbase.input.first() {
        object["sequence"] = input.sequence.to_consensus_u32().into();
        object["coinbase"] = hex(input.script_sig.as_bytes()).into();
        if let Some(nonce) = input.witness.nth(0) {
            object["witness"] = hex(nonce).into();
        }
    }
    object
}
