//! `getrawtransaction`: out of a block that the caller names, or that the transaction index
//! does.

use std::rc::Rc;

use bitcoin::consensus::deserialize;
use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{BlockHash, Transaction, Txid};
use handfast_api::methods::raw_transactions as specs;
use handfast_node::{
    BlockError, ChainView, Entry, FindError, Gone, IndexName, ReadError, SpentOutput, Status,
    Subject, Transactions,
};
use serde_json::{Value, json};

use super::super::blockchain::hash_argument;
use super::super::{Call, Method};
use crate::jsonrpc::{Error, code};
use crate::render::transaction::transaction_to_json;

pub(super) const GETRAWTRANSACTION: Method = Method {
    spec: &specs::GETRAWTRANSACTION,
    run: |call| Box::pin(getrawtransaction(call)),
};

/// A transaction and its number in its block.
pub(in crate::methods) struct Found {
    pub(in crate::methods) transaction: Transaction,
    number: usize,
}

impl From<FindError> for Error {
    fn from(error: FindError) -> Self {
        match error {
            FindError::Gone(gone) => gone.into(),
            FindError::Index(error) => Self::new(code::MISC_ERROR, error.to_string()),
        }
    }
}

fn missing(message: &str) -> Error {
    Error::new(code::INVALID_ADDRESS_OR_KEY, message)
}

async fn getrawtransaction(call: Rc<Call>) -> Result<Value, Error> {
    let view = call.node.view();
    let txid = hash_argument(call.text(0).unwrap_or_default(), "parameter 1")?;
    let txid: Txid = txid
        .to_string()
        .parse()
        .map_err(|_| Error::new(code::INTERNAL_ERROR, "a hash is no transaction id"))?;
    // The only transaction of the genesis block: its id is the merkle root.
    let genesis = view.network.genesis().merkle_root;
    if txid.to_raw_hash() == genesis.to_raw_hash() {
        let message = "The genesis block coinbase is not considered an ordinary transaction \
                       and cannot be retrieved";
        return Err(missing(message));
    }
    let verbosity = match call.value(1) {
        Value::Bool(verbose) => i32::from(*verbose),
        _ => call.integer(1)?.unwrap_or(0),
    };
    let (entry, found, in_active_chain) = match call.text(2) {
        Some(block) => {
            let block = hash_argument(block, "parameter 3")?;
            let entry = view.tree.get(&block);
            let entry = entry.ok_or_else(|| missing("Block hash not found"))?;
            let found = in_block(&call, &entry, &txid).await?;
            let active = view.tree.in_active_chain(&entry.hash);
            (entry, found, Some(active))
        }
        None => {
            let (entry, found) = by_index(&call, &txid).await?;
            (entry, found, None)
        }
    };
    if verbosity <= 0 {
        return Ok(serialize_hex(&found.transaction).into());
    }
    let spent = match verbosity {
        1 => None,
        _ if found.transaction.is_coinbase() => None,
        _ => Some(spent_by(&call, &entry, &found).await?),
    };
    // Taken after the search, so that it knows the block.
    let view = call.node.view();
    let mut object = json!({});
    if let Some(active) = in_active_chain {
        object["in_active_chain"] = active.into();
    }
    let spent = spent.as_deref();
    Ok(describe(&view, &entry, &found.transaction, spent, object))
}

/// Reads the transaction from the block that the client named.
async fn in_block(call: &Call, entry: &Entry, txid: &Txid) -> Result<Found, Error> {
    let unavailable = || Error::new(code::MISC_ERROR, "Block not available");
    if entry.status == Status::Header {
        return Err(unavailable());
    }
    let read = read(call, entry.hash, Which::Id(*txid)).await;
    let found = read.map_err(|error| match error {
        BlockError::Read(ReadError::NoData(_)) => unavailable(),
        other => other.into(),
    })?;
    found.ok_or_else(|| {
        missing(
            "No such transaction found in the provided block. \
             Use gettransaction for wallet transactions.",
        )
    })
}

/// The transaction, out of the block that the transaction index names.
async fn by_index(call: &Call, txid: &Txid) -> Result<(Entry, Found), Error> {
    let node = &call.node;
    if node.index(IndexName::Transactions).is_none() {
        return Err(missing(
            "No such mempool transaction. Use -txindex or provide a block hash to \
             enable blockchain transaction queries. Use gettransaction for wallet transactions.",
        ));
    }
    let is_complete = node.index_at_tip(IndexName::Transactions).await;
    let subject = Subject::Transaction(*txid);
    let locations = node.find(IndexName::Transactions, subject).await?;
    let Some(location) = locations.first() else {
        return Err(missing(match is_complete {
            true => {
                "No such mempool or blockchain transaction. \
                 Use gettransaction for wallet transactions."
            }
            false => {
                "No such mempool transaction. Blockchain transactions are still in the process \
                 of being indexed. Use gettransaction for wallet transactions."
            }
        }));
    };
    // A block of a branch can be lost in a crash, of which the index still has it.
    let entry = node.view().tree.get(&location.block);
    let entry = entry.ok_or_else(|| missing(&format!("Block {} is lost", location.block)))?;
    let found = read(call, location.block, Which::At(location.position)).await?;
    let found = found.filter(|found| found.transaction.compute_txid() == *txid);
    let found = found.ok_or_else(|| {
        let text = "the txindex points to a block without the transaction: it is damaged; stop \
                    the node and remove indexes/txindex in its directory to rebuild it";
        Error::new(code::MISC_ERROR, text)
    })?;
    Ok((entry, found))
}

/// Which transaction of a block.
#[derive(Clone, Copy)]
pub(in crate::methods) enum Which {
    /// The one with this id.
    Id(Txid),
    /// The one at this position, counted from 0.
    At(u32),
}

/// Reads a block, and in it a transaction. `None`: it is not there.
pub(in crate::methods) async fn read(
    call: &Call,
    block: BlockHash,
    which: Which,
) -> Result<Option<Found>, BlockError> {
    let bytes = call.node.block(block, true).await?;
    // Hashing a full block takes tens of milliseconds: off the worker, which serves other
    // clients.
    let look = move || {
        let all = Transactions::of(&bytes)?;
        let number = match which {
            Which::At(position) => usize::try_from(position).ok()?,
            Which::Id(txid) => all.position(&txid)?,
        };
        let transaction = deserialize(all.at(number)?.1).ok()?;
        Some(Found {
            transaction,
            number,
        })
    };
    let looked = tokio::task::spawn_blocking(look).await;
    looked.map_err(|_| BlockError::Gone(Gone::Stopping))
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

/// Core `TxToJSON`, of a transaction whose block is known. Added to `object`.
fn describe(
    view: &ChainView,
    entry: &Entry,
    transaction: &Transaction,
    spent: Option<&[SpentOutput]>,
    mut object: Value,
) -> Value {
    let network = view.network.bitcoin();
    let active = view.tree.in_active_chain(&entry.hash);
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
