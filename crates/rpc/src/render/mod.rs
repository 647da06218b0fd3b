//! Blocks, transactions and scripts as the JSON that Bitcoin Core makes of them.

pub(crate) mod block;
mod descriptor;
pub(crate) mod number;
mod script;
mod transaction;

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bitcoin::hex::DisplayHex::to_lower_hex_string(bytes)
}
