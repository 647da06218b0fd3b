//! Limits of the protocol. Each names its unit and the constant of Bitcoin Core it equals.

/// Longest payload of any message, bytes. Core `MAX_PROTOCOL_MESSAGE_LENGTH`.
pub const MAX_PAYLOAD_BYTES: usize = 4_000_000;
/// Headers in one `headers` message. Core `MAX_HEADERS_RESULTS`.
pub const MAX_HEADERS: usize = 2_000;
/// Entries in one `inv`, `getdata` or `notfound`. Core `MAX_INV_SZ`.
pub const MAX_INV: usize = 50_000;
/// Addresses in one `addr` or `addrv2`. Core `MAX_ADDR_TO_SEND`.
pub const MAX_ADDR: usize = 1_000;
/// Hashes in a block locator. Core `MAX_LOCATOR_SZ`.
pub const MAX_LOCATOR: usize = 101;
/// Length of the user agent in `version`, bytes. Core `MAX_SUBVERSION_LENGTH`.
pub const MAX_USER_AGENT: usize = 256;

const _: () = assert!(3 + MAX_HEADERS * 81 <= MAX_PAYLOAD_BYTES);
const _: () = assert!(3 + MAX_INV * 36 <= MAX_PAYLOAD_BYTES);
