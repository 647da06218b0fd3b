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

/// The bytes that hex digits of either case stand for; `None` when they are none.
pub(crate) fn unhex(digits: &str) -> Option<Vec<u8>> {
    bitcoin::hex::FromHex::from_hex(digits).ok()
}
