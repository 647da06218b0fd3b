//! Transactions as `getblock` and `decoderawtransaction` show them.

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{Amount, Network, Transaction, TxIn, Weight};
use handfast_node::SpentOutput;
use serde_json::{Map, Value, json};

use super::number::amount;
use super::{hex, script};

/// A transaction of a block, in Core's form. `spent`: the outputs that it spends, when they
/// are known, which gives the fee; `prevouts`: show them too.
pub(crate) fn transaction_to_json(
    transaction: &Transaction,
    spent: Option<&[SpentOutput]>,
    prevouts: bool,
    network: Network,
) -> Value {
    let mut object = describe(transaction, spent, prevouts, network);
    if let Some(fee) = spent.and_then(|spent| fee(transaction, spent)) {
        object["fee"] = amount(fee);
    }
    object["hex"] = serialize_hex(transaction).into();
    object
}

/// The fields of a transaction.
pub(crate) fn describe(
    transaction: &Transaction,
    spent: Option<&[SpentOutput]>,
    prevouts: bool,
    network: Network,
) -> Value {
    let Sizes { hash, size, weight } = Sizes::of(transaction);
    let inputs = transaction.input.iter().enumerate().map(|(index, input)| {
        let spent = spent
            .and_then(|spent| spent.get(index))
            .filter(|_| prevouts);
        input_to_json(input, transaction.is_coinbase(), spent, network)
    });
    let outputs = transaction
        .output
        .iter()
        .enumerate()
        .map(|(index, output)| {
            json!({
                "value": amount(output.value),
                "n": index,
                "scriptPubKey": script::output_script(&output.script_pubkey, network),
            })
        });
    json!({
        "txid": transaction.compute_txid().to_string(),
        "hash": hash,
        // Unsigned, as Core reads it since version 28.
        "version": transaction.version.0.cast_unsigned(),
        "size": size,
        "vsize": weight.to_vbytes_ceil(),
        "weight": weight.to_wu(),
        "locktime": transaction.lock_time.to_consensus_u32(),
        "vin": inputs.collect::<Value>(),
        "vout": outputs.collect::<Value>(),
    })
}

/// What depends on how a transaction is serialized.
struct Sizes {
    hash: String,
    /// Bytes.
    size: usize,
    weight: Weight,
}

impl Sizes {
    /// Without witness data both forms are one. (`bitcoin` serializes a transaction without
    /// inputs with a witness marker, lest it be taken for one that has one; Core does not.)
    fn of(transaction: &Transaction) -> Self {
        let has_witness = |input: &TxIn| !input.witness.is_empty();
        if transaction.input.iter().any(has_witness) {
            return Self {
                hash: transaction.compute_wtxid().to_string(),
                size: transaction.total_size(),
                weight: transaction.weight(),
            };
        }
        let size = transaction.base_size();
        Self {
            hash: transaction.compute_txid().to_string(),
            size,
            weight: Weight::from_non_witness_data_size(size as u64),
        }
    }
}

/// What the inputs are worth more than the outputs. `None` would be a block that the kernel refused.
fn fee(transaction: &Transaction, spent: &[SpentOutput]) -> Option<Amount> {
    let total_in = spent
        .iter()
        .try_fold(Amount::ZERO, |sum, coin| sum.checked_add(coin.output.value))?;
    let total_out = transaction
        .output
        .iter()
        .try_fold(Amount::ZERO, |sum, output| sum.checked_add(output.value))?;
    total_in.checked_sub(total_out)
}

fn input_to_json(
    input: &TxIn,
    coinbase: bool,
    spent: Option<&SpentOutput>,
    network: Network,
) -> Value {
    let mut object = Map::new();
    if coinbase {
        object.insert("coinbase".into(), hex(input.script_sig.as_bytes()).into());
    } else {
        object.insert("txid".into(), input.previous_output.txid.to_string().into());
        object.insert("vout".into(), input.previous_output.vout.into());
        let script = json!({
            "asm": script::assembly(&input.script_sig, true),
            "hex": hex(input.script_sig.as_bytes()),
        });
        object.insert("scriptSig".into(), script);
    }
    if !input.witness.is_empty() {
        object.insert(
            "txinwitness".into(),
            input.witness.iter().map(hex).collect(),
        );
    }
    if let Some(coin) = spent {
        let prevout = json!({
            "generated": coin.coinbase,
            "height": coin.height,
            "value": amount(coin.output.value),
            "scriptPubKey": script::output_script(&coin.output.script_pubkey, network),
        });
        object.insert("prevout".into(), prevout);
    }
    object.insert("sequence".into(), input.sequence.to_consensus_u32().into());
    object.into()
}
