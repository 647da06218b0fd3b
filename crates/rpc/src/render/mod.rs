//! Blocks, transactions and scripts as the JSON that Bitcoin Core makes of them.

pub(crate) mod address;
mod bech32_errors;
pub(crate) mod block;
pub(crate) mod block_stats;
pub(crate) mod descriptor;
pub(crate) mod number;
pub(crate) mod script;
pub(crate) mod transaction;
pub(crate) mod wrapped;

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bitcoin::hex::DisplayHex::to_lower_hex_string(bytes)
}

/// The bytes that hex digits of either case stand for; `None` when they are none.
pub(crate) fn unhex(digits: &str) -> Option<Vec<u8>> {
    bitcoin::hex::FromHex::from_hex(digits).ok()
}
