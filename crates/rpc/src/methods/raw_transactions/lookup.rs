//! `getrawtransaction`: out of a block that the caller names.

use std::rc::Rc;

use bitcoin::consensus::deserialize;
use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{Block, Transaction, Txid};
use handfast_node::{BlockError, ChainView, Entry, ReadError, SpentOutput, Status};
use serde_json::{Value, json};

use super::super::blockchain::hash_argument;
use super::super::{Call, Category, Kind, Method, Need, Param};
use crate::jsonrpc::{Error, code};
use crate::render::transaction::transaction_to_json;

pub(super) const GETRAWTRANSACTION: Method = Method {
    name: "getrawtransaction",
    category: Category::RawTransactions,
    params: &[
        Param {
            names: &["txid"],
            kind: Kind::Hex,
            need: Need::Required,
            about: "The transaction id",
        },
        Param {
            names: &["verbosity", "verbose"],
            kind: Kind::Level,
            need: Need::Optional("default: 0"),
            about: "0: serialized in hex; 1: an object; 2: also with its fee and the outputs that it spends",
        },
        Param {
            names: &["blockhash"],
            kind: Kind::Hex,
            need: Need::Optional("without it nothing is found: there is no mempool and no index"),
            about: "The block that the transaction is in",
        },
    ],
    about: "Returns a transaction of a block.",
    result: "\"hex\" or { in_active_chain, txid, hash, version, size, vsize, weight, locktime, vin, vout, fee, hex,\n  \
             blockhash, confirmations, time, blocktime }",
    example: "4a5e1e4baab89f3a32518a88c31bc87f618f76673e2cc77ab2127b7afdeda33b 1 \
              00000000839a8e6886ab5951d76f411475428afc90947ee320161bbf18eb6048",
    needs_chain: true,
    run: |call| Box::pin(getrawtransaction(call)),
};

/// A transaction and its number in its block.
struct Found {
    transaction: Transaction,
    number: usize,
}

fn missing(message: &str) -> Error {
    Error::new(code::INVALID_ADDRESS_OR_KEY, message)
}

async fn getrawtransaction(call: Rc<Call>) -> Result<Value, Error> {
    let view = call.node.view();
    let txid = hash_argument(call.text(0).unwrap_or_default(), "parameter 1")?;
    // The only transaction of the genesis block: its id is the merkle root.
    let genesis = view.network.genesis().merkle_root;
    if txid.to_string() == genesis.to_string() {
        let message = "The genesis block coinbase is not considered an ordinary transaction \
                       and cannot be retrieved";
        return Err(missing(message));
    }
    let verbosity = match call.value(1) {
        Value::Bool(verbose) => i32::from(*verbose),
        _ => call.integer(1)?.unwrap_or(0),
    };
    let Some(block) = call.text(2) else {
        let message = "No such mempool transaction. Use -txindex or provide a block hash to \
                       enable blockchain transaction queries. Use gettransaction for wallet transactions.";
        return Err(missing(message));
    };
    let block = hash_argument(block, "parameter 3")?;
    let entry = view.tree.get(&block);
    let entry = entry.ok_or_else(|| missing("Block hash not found"))?;
    let found = find(&call, &entry, &txid.to_string()).await?;
    if verbosity <= 0 {
        return Ok(serialize_hex(&found.transaction).into());
    }
    let spent = match verbosity {
        1 => None,
        _ if found.transaction.is_coinbase() => None,
        _ => Some(spent_by(&call, &entry, &found).await?),
    };
    Ok(describe(
        &view,
        &entry,
        &found.transaction,
        spent.as_deref(),
    ))
}

async fn find(call: &Call, entry: &Entry, txid: &str) -> Result<Found, Error> {
    let unavailable = || Error::new(code::MISC_ERROR, "Block not available");
    if entry.status == Status::Header {
        return Err(unavailable());
    }
    let read = call.node.block(entry.hash, true).await;
    let bytes = read.map_err(|error| match error {
        BlockError::Read(ReadError::NoData(_)) => unavailable(),
        other => other.into(),
    })?;
    let txid: Txid = txid
        .parse()
        .map_err(|_| Error::new(code::INTERNAL_ERROR, "a hash is no transaction id"))?;
    // Hashing a full block takes tens of milliseconds: off the worker, which has other callers.
    let look = move || {
        let block: Block = deserialize(&bytes).ok()?;
        let number = block
            .txdata
            .iter()
            .position(|one| one.compute_txid() == txid)?;
        let transaction = block.txdata.into_iter().nth(number)?;
        Some(Found {
            transaction,
            number,
        })
    };
    let found = tokio::task::spawn_blocking(look).await;
    let found = found.map_err(|_| Error::new(code::INTERNAL_ERROR, "reading the block failed"))?;
    found.ok_or_else(|| {
        missing(
            "No such transaction found in the provided block. \
             Use gettransaction for wallet transactions.",
        )
    })
}

async fn spent_by(call: &Call, entry: &Entry, found: &Found) -> Result<Vec<SpentOutput>, Error> {
    let unreadable = || {
        Error::new(
            code::INTERNAL_ERROR,
            "Undo data expected but can't be read. This could be due to disk corruption or a \
             conflict with a pruning event.",
        )
    };
    let read = call.node.spent_outputs(entry.hash).await;
    let all = read.map_err(|error| match error {
        BlockError::Gone(gone) => gone.into(),
        BlockError::Read(_) => unreadable(),
    })?;
    // The coinbase spends nothing, and has no entry.
    let own = found.number.checked_sub(1);
    own.and_then(|own| all.into_iter().nth(own))
        .ok_or_else(unreadable)
}

/// Core `TxToJSON`, of a transaction whose block is known.
fn describe(
    view: &ChainView,
    entry: &Entry,
    transaction: &Transaction,
    spent: Option<&[SpentOutput]>,
) -> Value {
    let network = view.network.bitcoin();
    let active = view.tree.in_active_chain(&entry.hash);
    let mut object = json!({ "in_active_chain": active });
    let described = transaction_to_json(transaction, spent, spent.is_some(), network);
    if let (Value::Object(object), Value::Object(described)) = (&mut object, described) {
        object.extend(described);
    }
    object["blockhash"] = entry.hash.to_string().into();
    if !active {
        object["confirmations"] = 0.into();
        return object;
    }
    let depth = view.tree.tip().height.saturating_sub(entry.height);
    object["confirmations"] = (u64::from(depth) + 1).into();
    object["time"] = entry.header.time.into();
    object["blocktime"] = entry.header.time.into();
    object
}
