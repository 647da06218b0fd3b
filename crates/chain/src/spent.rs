//! Outputs that a block spends, as plain values.

use bitcoin::{Amount, ScriptBuf, TxOut};
use bitcoinkernel::core::{CoinExt, ScriptPubkeyExt, TxOutExt};

/// An output that a block spends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpentOutput {
    /// Value and script.
    pub output: TxOut,
    /// Height of the block that made it.
    pub height: u32,
    /// Whether a coinbase transaction made it.
    pub coinbase: bool,
}

/// The kernel's coin, as a value.
pub(crate) fn spent_output(coin: &impl CoinExt) -> SpentOutput {
    let output = coin.output();
    SpentOutput {
        output: TxOut {
            // Consensus: values in connected blocks lie in 0..=21 million bitcoin.
            value: Amount::from_sat(output.value().unsigned_abs()),
            script_pubkey: ScriptBuf::from_bytes(output.script_pubkey().to_bytes()),
        },
        height: coin.confirmation_height(),
        coinbase: coin.is_coinbase(),
    }
}
