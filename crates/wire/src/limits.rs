//! Limits of the protocol. Each names its unit and the constant of Bitcoin Core it equals.

/// Longest command, bytes. Core `CMessageHeader::MESSAGE_TYPE_SIZE`.
pub const MAX_COMMAND: usize = 12;
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
/// Length of one address in BIP155's encoding, bytes. Core `MAX_ADDRV2_SIZE`.
pub const MAX_ADDRV2_BYTES: usize = 512;
/// Bytes tolerated after the longest well-formed payload of a command.
///
/// Bitcoin Core ignores bytes after the fields it knows, so that messages can be extended, up to
/// [`MAX_PAYLOAD_BYTES`]. So do we, without buffering them: of a short command more bytes are
/// hashed and discarded as they come, and of a long one ([`LONGEST_PREFIX`]) the whole message.
/// No protocol extension has appended more than a few bytes.
pub const MAX_TRAILING_BYTES: usize = 1_024;
/// Longest [`max_payload`](crate::message::max_payload) of a command whose overlong payload is read as far as that and
/// the rest ignored, bytes; that of a command with a longer one is dropped. Core reads all of it.
pub const LONGEST_PREFIX: usize = 32 * 1_024;
/// Largest count that a list may announce. Core `MAX_SIZE`.
pub const MAX_COUNT: u64 = 0x0200_0000;
/// Longest payload of a frame before the remote's handshake is complete, bytes: a
/// `version` (1,368), and a `getheaders` that comes too early and is ignored (up to 4,325).
///
/// Bitcoin Core reads up to [`MAX_PAYLOAD_BYTES`] of any command, and ignores it.
pub const MAX_EARLY_PAYLOAD: usize = 5_000;
/// All frames of a connection before the remote's handshake is complete, bytes with
/// headers. A handshake takes less than 2,000. Bitcoin Core has no such limit.
pub const MAX_EARLY_BYTES: usize = 32 * 1_024;
/// Largest amount of money, satoshi. Core `MAX_MONEY`.
pub const MAX_MONEY: u64 = 21_000_000 * 100_000_000;
