//! Transactions and scripts given by the client, and transactions of blocks.

mod lookup;

pub(super) use lookup::{Which, read};

use std::rc::Rc;

use bitcoin::absolute::LockTime;
use bitcoin::consensus::{Decodable, deserialize};
use bitcoin::hex::FromHex;
use bitcoin::transaction::Version;
use bitcoin::{ScriptBuf, Transaction, TxIn, TxOut};
use handfast_api::methods::raw_transactions as specs;
use serde_json::Value;

use super::{Call, Method};
use crate::jsonrpc::{Error, code};
use crate::render::script::{MAX_SCRIPT_SIZE, has_valid_operations};
use crate::render::transaction;
use crate::render::wrapped::decode_script;

pub(super) const METHODS: &[Method] = &[
    Method {
        spec: &specs::DECODERAWTRANSACTION,
        run: |call| Box::pin(decoderawtransaction(call)),
    },
    Method {
        spec: &specs::DECODESCRIPT,
        run: |call| Box::pin(decodescript(call)),
    },
    lookup::GETRAWTRANSACTION,
];

async fn decoderawtransaction(call: Rc<Call>) -> Result<Value, Error> {
    let failed = || Error::new(code::DESERIALIZATION_ERROR, "TX decode failed");
    let bytes = Vec::<u8>::from_hex(call.text(0).unwrap_or_default()).map_err(|_| failed())?;
    let transaction = decode(&bytes, call.flag(1)).ok_or_else(failed)?;
    let network = call.node.view().network.bitcoin();
    Ok(transaction::describe(&transaction, None, false, network))
}

/// `witness`: with or without witness data; `None`: try both. A transaction without inputs
/// can look like one with witness data and the other way round: then scripts that make
/// sense decide. Core `DecodeTx`.
pub(super) fn decode(bytes: &[u8], witness: Option<bool>) -> Option<Transaction> {
    let extended = Some(bytes).filter(|_| witness != Some(false));
    let extended = extended.and_then(decode_extended);
    if extended.as_ref().is_some_and(is_sane) {
        return extended;
    }
    let plain = Some(bytes).filter(|_| witness != Some(true));
    let plain = plain.and_then(decode_plain);
    if plain.as_ref().is_some_and(is_sane) {
        return plain;
    }
    extended.or(plain)
}

fn decode_extended(bytes: &[u8]) -> Option<Transaction> {
    let nothing = |tx: &Transaction| tx.input.is_empty() && tx.output.is_empty();
    // With neither inputs nor outputs both forms are the same.
    let decoded: Option<Transaction> = deserialize(bytes).ok();
    decoded.or_else(|| decode_plain(bytes).filter(nothing))
}

fn decode_plain(mut bytes: &[u8]) -> Option<Transaction> {
    let transaction = Transaction {
        version: Version::consensus_decode(&mut bytes).ok()?,
        input: Vec::<TxIn>::consensus_decode(&mut bytes).ok()?,
        output: Vec::<TxOut>::consensus_decode(&mut bytes).ok()?,
        lock_time: LockTime::consensus_decode(&mut bytes).ok()?,
    };
    bytes.is_empty().then_some(transaction)
}

/// Whether its scripts could be scripts. Core `CheckTxScriptsSanity`.
fn is_sane(transaction: &Transaction) -> bool {
    let sane = |script: &ScriptBuf| has_valid_operations(script) && script.len() <= MAX_SCRIPT_SIZE;
    let inputs = || {
        transaction
            .input
            .iter()
            .all(|input| sane(&input.script_sig))
    };
    let outputs = || {
        transaction
            .output
            .iter()
            .all(|output| sane(&output.script_pubkey))
    };
    (transaction.is_coinbase() || inputs()) && outputs()
}

async fn decodescript(call: Rc<Call>) -> Result<Value, Error> {
    let text = call.text(0).unwrap_or_default();
    let script = ScriptBuf::from_hex(text).map_err(|_| {
        let message = format!("argument must be hexadecimal string (not '{text}')");
        Error::new(code::INVALID_PARAMETER, message)
    })?;
    Ok(decode_script(&script, call.node.view().network.bitcoin()))
}

#[cfg(test)]
mod tests {
    use bitcoin::consensus::encode::serialize;

    use super::*;

    fn paying() -> Transaction {
        Transaction {
            version: Version::TWO,
            lock_time: LockTime::ZERO,
            input: vec![],
            output: vec![TxOut {
                value: bitcoin::Amount::from_sat(7),
                script_pubkey: ScriptBuf::from_bytes(vec![0x51]),
            }],
        }
    }

    /// As wallets serialize it before its inputs are chosen: without a witness marker.
    fn plain(transaction: &Transaction) -> Vec<u8> {
        let mut bytes = serialize(&transaction.version);
        bytes.extend(serialize(&transaction.input));
        bytes.extend(serialize(&transaction.output));
        bytes.extend(serialize(&transaction.lock_time));
        bytes
    }

    #[test]
    fn a_transaction_without_inputs_is_decoded_unless_it_must_have_a_witness() {
        let bytes = plain(&paying());
        assert_eq!(decode(&bytes, None), Some(paying()));
        assert_eq!(decode(&bytes, Some(false)), Some(paying()));
        assert_eq!(decode(&bytes, Some(true)), None);
    }

    #[test]
    fn a_transaction_with_witness_data_is_decoded_unless_it_must_have_none() {
        let mut input = TxIn::default();
        input.witness.push([7; 3]);
        let transaction = Transaction {
            input: vec![input],
            ..paying()
        };
        let bytes = serialize(&transaction);
        assert_eq!(decode(&bytes, None), Some(transaction.clone()));
        assert_eq!(decode(&bytes, Some(true)), Some(transaction));
        assert_eq!(decode(&bytes, Some(false)), None);
    }

    #[test]
    fn bytes_that_follow_or_are_missing_and_nothing_at_all_do_not_decode() {
        let mut bytes = plain(&paying());
        bytes.push(0);
        assert_eq!(decode(&bytes, None), None);
        assert_eq!(decode(&bytes[..bytes.len() - 2], None), None);
        assert_eq!(decode(&[], None), None);
        let empty = [2, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert!(decode(&empty, Some(true)).is_some_and(|tx| tx.output.is_empty()));
    }
}
