//! `gettxspendingprevout`: which transactions spend given outputs, by the index of spenders.
//! There is no mempool, so that nothing is spent there.

use std::rc::Rc;

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{OutPoint, Transaction, Txid};
use handfast_api::methods::blockchain as specs;
use handfast_node::{BlockError, IndexName, ReadError, Subject};
use serde_json::{Map, Value};

use super::super::raw_transactions::{Which, read};
use super::super::{Call, Method};
use super::hash_argument;
use crate::jsonrpc::{Error, code, type_name};

pub(super) const GETTXSPENDINGPREVOUT: Method = Method {
    spec: &specs::GETTXSPENDINGPREVOUT,
    run: |call| Box::pin(gettxspendingprevout(call)),
};

/// Most characters of spending transactions in one answer: two of the longest. A client may
/// repeat an output any number of times, and several may request at once.
const MOST_HEX: usize = 16_000_000;

/// A requested output, and the object that named it.
struct RequestedOutput<'a> {
    output: OutPoint,
    named: &'a Map<String, Value>,
}

async fn gettxspendingprevout(call: Rc<Call>) -> Result<Value, Error> {
    let outputs = call.value(0).as_array().map_or(&[][..], Vec::as_slice);
    if outputs.is_empty() {
        let message = "Invalid parameter, outputs are missing";
        return Err(Error::new(code::INVALID_PARAMETER, message));
    }
    let none = Map::new();
    let options = call.value(1).as_object().unwrap_or(&none);
    let known = ["mempool_only", "return_spending_tx"];
    check_members(options, &known, Value::is_boolean, "bool", true)?;
    no_others(options, &known)?;
    let has_index = call.node.index(IndexName::Spenders).is_some();
    let option = |name: &str| options.get(name).and_then(Value::as_bool);
    let mempool_only = option("mempool_only").unwrap_or(!has_index);
    let whole = option("return_spending_tx").unwrap_or(false);
    let asked = outputs.iter().map(asked).collect::<Result<Vec<_>, _>>()?;
    if !mempool_only && !call.node.index_at_tip(IndexName::Spenders).await {
        let message = "Mempool lacks a relevant spend, and txospenderindex is unavailable.";
        return Err(Error::new(code::MISC_ERROR, message));
    }
    let mut all = vec![];
    let mut bytes = 0;
    for RequestedOutput { output, named } in asked {
        let mut object = named.clone();
        if !mempool_only && let Some((spender, block)) = spender(&call, output).await? {
            object.insert(
                "spendingtxid".into(),
                spender.compute_txid().to_string().into(),
            );
            if whole {
                let hex = serialize_hex(&spender);
                bytes += hex.len();
                if bytes > MOST_HEX {
                    let message = "The spending transactions are too long for one answer, ask for fewer outputs";
                    return Err(Error::new(code::INVALID_PARAMETER, message));
                }
                object.insert("spendingtx".into(), hex.into());
            }
            object.insert("blockhash".into(), block.into());
        }
        all.push(object.into());
    }
    Ok(Value::Array(all))
}

/// The transaction of the active chain that spends `output`, and its block's hash.
async fn spender(call: &Call, output: OutPoint) -> Result<Option<(Transaction, String)>, Error> {
    let locations = call
        .node
        .find(IndexName::Spenders, Subject::Spender(output))
        .await?;
    for location in locations {
        // The index keeps what was spent in blocks that the chain has left.
        if !call.node.view().tree.in_active_chain(&location.block) {
            continue;
        }
        let found = read(call, location.block, Which::At(location.position)).await;
        let found = found.map_err(|error| match error {
            BlockError::Read(ReadError::Io { .. }) => unreadable(&output),
            other => other.into(),
        })?;
        let transaction = found.ok_or_else(|| unreadable(&output))?.transaction;
        let mut inputs = transaction.input.iter();
        if inputs.any(|input| input.previous_output == output) {
            return Ok(Some((transaction, location.block.to_string())));
        }
    }
    Ok(None)
}

fn unreadable(output: &OutPoint) -> Error {
    let message = format!(
        "IO error finding spending tx for outpoint {}:{}.",
        output.txid, output.vout
    );
    Error::new(code::MISC_ERROR, message)
}

fn asked(value: &Value) -> Result<RequestedOutput<'_>, Error> {
    let named = value.as_object();
    let named = named.ok_or_else(|| Error::wrong_type(value, "object"))?;
    check_members(named, &["txid"], Value::is_string, "string", false)?;
    check_members(named, &["vout"], Value::is_number, "number", false)?;
    no_others(named, &["txid", "vout"])?;
    let text = |name: &str| named.get(name).and_then(Value::as_str).unwrap_or_default();
    let txid = hash_argument(text("txid"), "txid")?.to_string();
    let txid: Txid = txid
        .parse()
        .map_err(|_| Error::new(code::INTERNAL_ERROR, "a hash is no transaction id"))?;
    let vout = named.get("vout").map(ToString::to_string);
    let vout: Result<i32, _> = vout.unwrap_or_default().parse();
    let vout = vout.map_err(|_| Error::new(code::MISC_ERROR, "JSON integer out of range"))?;
    let vout = u32::try_from(vout).map_err(|_| {
        let message = "Invalid parameter, vout cannot be negative";
        Error::new(code::INVALID_PARAMETER, message)
    })?;
    Ok(RequestedOutput {
        output: OutPoint { txid, vout },
        named,
    })
}

/// Core `RPCTypeCheckObj`, of members of one type, in their order.
fn check_members(
    object: &Map<String, Value>,
    names: &[&str],
    fits: impl Fn(&Value) -> bool,
    wanted: &str,
    may_be_missing: bool,
) -> Result<(), Error> {
    for name in names {
        let value = object.get(*name).unwrap_or(&Value::Null);
        let message = match value {
            Value::Null if may_be_missing => continue,
            Value::Null => format!("Missing {name}"),
            value if fits(value) => continue,
            value => format!(
                "JSON value of type {} for field {name} is not of expected type {wanted}",
                type_name(value)
            ),
        };
        return Err(Error::new(code::TYPE_ERROR, message));
    }
    Ok(())
}

fn no_others(object: &Map<String, Value>, names: &[&str]) -> Result<(), Error> {
    let other = object.keys().find(|key| !names.contains(&key.as_str()));
    match other {
        Some(key) => Err(Error::new(
            code::TYPE_ERROR,
            format!("Unexpected key {key}"),
        )),
        None => Ok(()),
    }
}
