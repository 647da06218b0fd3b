//! The messages of the Bitcoin P2P protocol that Handfast speaks.

use bitcoin::block::Header;
use bitcoin::p2p::address::{AddrV2Message, Address};
use bitcoin::p2p::message_blockdata::Inventory;
use bitcoin::p2p::ServiceFlags;
use bitcoin::BlockHash;
use bytes::Bytes;

/// One message, decoded or to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// First message in both directions.
    Version(Version),
    /// Accepts the other side's `version`.
    Verack,
    /// Wants the same nonce back (BIP31).
    Ping(u64),
    /// Answers a `ping` (BIP31).
    Pong(u64),
    /// Announce blocks to me by `headers` (BIP130).
    SendHeaders,
    /// I understand `addrv2` (BIP155); before `verack` only.
    SendAddrV2,
    /// I relay transactions by wtxid (BIP339); before `verack` only.
    WtxidRelay,
    /// Compact block preference (BIP152).
    SendCmpct {
        /// Announce new blocks by `cmpctblock`.
        announce: bool,
        /// Compact block version, 1 or 2.
        version: u64,
    },
    /// Do not announce transactions below this fee rate, satoshi per 1,000 vbytes (BIP133).
    FeeFilter(u64),
    /// Send me addresses.
    GetAddr,
    /// Addresses with the time (Unix seconds) each was last seen.
    Addr(Vec<(u32, Address)>),
    /// The same for every network (BIP155).
    AddrV2(Vec<AddrV2Message>),
    /// I have these.
    Inv(Vec<Inventory>),
    /// Send me these.
    GetData(Vec<Inventory>),
    /// I do not have these.
    NotFound(Vec<Inventory>),
    /// Send headers after the first locator hash that you know.
    GetHeaders(Locator),
    /// Send an `inv` of blocks after the first locator hash that you know.
    GetBlocks(Locator),
    /// Block headers, oldest first.
    Headers(Vec<Header>),
    /// A block, as it came off the wire.
    Block(RawBlock),
    /// A transaction, undecoded.
    Tx(Bytes),
    /// Send an `inv` of your mempool (BIP35).
    Mempool,
    /// A command that we do not know or do not use; its payload was dropped.
    Unknown {
        /// The command as text, at most 12 printable characters.
        command: String,
    },
}

/// A `version` message. What a short one left out is `None`, as Bitcoin Core tolerates it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Protocol version that the sender speaks.
    pub version: i32,
    /// What the sender offers.
    pub services: ServiceFlags,
    /// The sender's clock, Unix seconds.
    pub timestamp: i64,
    /// The receiver's address as the sender sees it.
    pub receiver: Address,
    /// The sender's own address; absent in the oldest form.
    pub sender: Option<Address>,
    /// Random number that detects a connection to oneself.
    pub nonce: Option<u64>,
    /// BIP14 user agent, sanitized to printable ASCII, at most [`crate::limits::MAX_USER_AGENT`] bytes.
    pub user_agent: String,
    /// The height that the sender claims. Never to be trusted.
    pub start_height: Option<i32>,
    /// Whether transactions are to be announced (BIP37); `true` when absent.
    pub relay: bool,
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
/// `bytes` is the payload as it was received: it is handed to the kernel and to
/// other peers without a copy.
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
