//! The messages of the Bitcoin P2P protocol that Handfast supports.
//!
//! `table` has a row for each; `forms` reads and writes their payloads.

mod define;
mod encode;
mod forms;
mod reader;
mod table;

pub use encode::{Packet, PacketHead};
pub(crate) use table::decode;
pub use table::{Cost, Exchange, HandledBy, Kind, Message, When, service_not_offered};

use bitcoin::BlockHash;
use bitcoin::block::Header;
use bitcoin::p2p::ServiceFlags;
use bitcoin::p2p::address::Address;
use bytes::Bytes;

use crate::error::DecodeError;
use crate::limits::{MAX_PAYLOAD_BYTES, MAX_TRAILING_BYTES};

/// A `version` message. Fields that a short one lacks are `None`; Bitcoin Core tolerates that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The sender's protocol version.
    pub version: i32,
    /// The services that the sender offers.
    pub services: ServiceFlags,
    /// The sender's clock, Unix seconds.
    pub timestamp: i64,
    /// The receiver's address as the sender sees it.
    pub receiver: Address,
    /// The sender's own address; absent in the oldest form.
    pub sender: Option<Address>,
    /// Random number that detects a connection to itself.
    pub nonce: Option<u64>,
    /// BIP14 user agent, sanitized to printable ASCII, at most [`crate::limits::MAX_USER_AGENT`] bytes.
    pub user_agent: String,
    /// The height that the sender claims, which is not verified.
    pub start_height: Option<i32>,
    /// Whether the sender wants transaction announcements (BIP37); `true` when absent.
    pub relay: bool,
}

/// A `sendcmpct` message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendCmpct {
    /// Announce new blocks by `cmpctblock`.
    pub announce: bool,
    /// Compact block version, 1 or 2.
    pub version: u64,
}

/// The hashes of a `getheaders` or `getblocks`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Locator {
    /// Known blocks, newest first, at most [`crate::limits::MAX_LOCATOR`].
    pub hashes: Vec<BlockHash>,
    /// Where to stop; all zero means as far as the message allows.
    pub stop: BlockHash,
}

/// A serialized block with its header decoded and its hash computed.
///
/// `bytes` is the received payload, which is passed to the kernel and to other peers
/// without a copy.
#[derive(Clone, PartialEq, Eq)]
pub struct RawBlock {
    /// Double SHA-256 of the header.
    pub hash: BlockHash,
    /// The first 80 bytes.
    pub header: Header,
    /// The whole serialized block, header included.
    pub bytes: Bytes,
}

impl std::fmt::Debug for RawBlock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RawBlock({}, {} bytes)", self.hash, self.bytes.len())
    }
}

impl Message {
    /// Decodes the payload of one frame.
    ///
    /// Blocks and transactions keep `payload` itself; nothing is copied.
    pub fn decode(command: &str, payload: Bytes) -> Result<Message, DecodeError> {
        match Kind::from_name(command) {
            Some(kind) => decode(kind, payload, 0),
            None => Ok(Message::unknown(command)),
        }
    }

    pub(crate) fn unknown(command: &str) -> Message {
        Message::Unknown {
            command: command.to_owned(),
        }
    }

    /// The command as it is in a frame.
    pub fn command(&self) -> &str {
        match self {
            Message::Unknown { command } => command,
            known => known.kind().expect("only Unknown has no kind").name(),
        }
    }
}

impl Kind {
    /// The longest payload that is buffered, bytes: the longest well-formed one and the tolerated
    /// bytes after it.
    pub(crate) const fn max_payload(self) -> usize {
        let longest = self.longest() + MAX_TRAILING_BYTES;
        if longest < MAX_PAYLOAD_BYTES {
            longest
        } else {
            MAX_PAYLOAD_BYTES
        }
    }
}

/// The longest payload of a frame of `command` that is buffered, bytes.
///
/// Unknown commands, blocks and transactions may have [`MAX_PAYLOAD_BYTES`].
pub fn max_payload(command: &str) -> usize {
    Kind::from_name(command).map_or(MAX_PAYLOAD_BYTES, Kind::max_payload)
}

#[cfg(test)]
mod tests;
