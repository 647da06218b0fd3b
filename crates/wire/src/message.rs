//! The messages of the Bitcoin P2P protocol that Handfast speaks.

mod decode;
mod encode;
mod kind;

pub(crate) use decode::decode;
pub use encode::Encoded;
pub use kind::Kind;

use bitcoin::BlockHash;
use bitcoin::block::Header;
use bitcoin::p2p::ServiceFlags;
use bitcoin::p2p::address::{AddrV2, AddrV2Message, Address};
use bitcoin::p2p::message_blockdata::Inventory;
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

impl Message {
    /// The command as it stands in a frame.
    pub fn command(&self) -> &str {
        match self {
            Message::Unknown { command } => command,
            known => known.kind().expect("only Unknown has no kind").name(),
        }
    }

    /// The command, if it is one that we know.
    pub fn kind(&self) -> Option<Kind> {
        Some(match self {
            Message::Version(_) => Kind::Version,
            Message::Verack => Kind::Verack,
            Message::Ping(_) => Kind::Ping,
            Message::Pong(_) => Kind::Pong,
            Message::SendHeaders => Kind::SendHeaders,
            Message::SendAddrV2 => Kind::SendAddrV2,
            Message::WtxidRelay => Kind::WtxidRelay,
            Message::SendCmpct { .. } => Kind::SendCmpct,
            Message::FeeFilter(_) => Kind::FeeFilter,
            Message::GetAddr => Kind::GetAddr,
            Message::Addr(_) => Kind::Addr,
            Message::AddrV2(_) => Kind::AddrV2,
            Message::Inv(_) => Kind::Inv,
            Message::GetData(_) => Kind::GetData,
            Message::NotFound(_) => Kind::NotFound,
            Message::GetHeaders(_) => Kind::GetHeaders,
            Message::GetBlocks(_) => Kind::GetBlocks,
            Message::Headers(_) => Kind::Headers,
            Message::Block(_) => Kind::Block,
            Message::Tx(_) => Kind::Tx,
            Message::Mempool => Kind::Mempool,
            Message::Unknown { .. } => return None,
        })
    }

    /// Memory that the message holds besides its own size, bytes; for byte budgets.
    ///
    /// A block that shares a read buffer with its neighbours counts its own
    /// bytes only; the buffer it keeps alive is at most
    /// [`MAX_READ_AHEAD`](crate::MAX_READ_AHEAD) longer.
    pub fn heap_size(&self) -> usize {
        match self {
            Message::Version(version) => version.user_agent.capacity(),
            Message::Addr(list) => vec_bytes(list),
            Message::AddrV2(list) => {
                let unknown = list.iter().map(|entry| match &entry.addr {
                    AddrV2::Unknown(_, bytes) => bytes.capacity(),
                    _ => 0,
                });
                vec_bytes(list) + unknown.sum::<usize>()
            }
            Message::Inv(list) | Message::GetData(list) | Message::NotFound(list) => {
                vec_bytes(list)
            }
            Message::GetHeaders(locator) | Message::GetBlocks(locator) => {
                vec_bytes(&locator.hashes)
            }
            Message::Headers(list) => vec_bytes(list),
            Message::Block(block) => block.bytes.len(),
            Message::Tx(bytes) => bytes.len(),
            Message::Unknown { command } => command.capacity(),
            Message::Verack
            | Message::Ping(_)
            | Message::Pong(_)
            | Message::SendHeaders
            | Message::SendAddrV2
            | Message::WtxidRelay
            | Message::SendCmpct { .. }
            | Message::FeeFilter(_)
            | Message::GetAddr
            | Message::Mempool => 0,
        }
    }
}

fn vec_bytes<T>(list: &Vec<T>) -> usize {
    list.capacity() * size_of::<T>()
}

#[cfg(test)]
mod tests;
