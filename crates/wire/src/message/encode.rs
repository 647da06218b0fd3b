//! Messages to frames.

use bitcoin::hashes::Hash;
use bitcoin::p2p::Magic;
use bitcoin::p2p::address::{AddrV2, AddrV2Message, Address};
use bitcoin::p2p::message_blockdata::Inventory;
use bitcoin::{BlockHash, block::Header};
use bytes::{BufMut, Bytes, BytesMut};

use super::{Kind, Locator, Message, Version};
use crate::checksum::checksum;
use crate::compact_size;
use crate::frame::{HEADER_BYTES, encode_head};
use crate::limits::MAX_PAYLOAD_BYTES;

/// Protocol version in the locators we send. Core `DUMMY_VERSION`; nobody reads it.
const LOCATOR_VERSION: u32 = 70_016;

/// One frame, ready to be written: `head`, then `body`.
///
/// The payload of a block or a transaction is `body` itself, uncopied; of other
/// messages it is part of `head`, and `body` is empty. A writer passes both to a
/// vectored write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// The command, if it is one that we know.
    pub kind: Option<Kind>,
    /// Frame header, and the payload unless that is in `body`.
    pub head: Bytes,
    /// The payload of a block or a transaction.
    pub body: Bytes,
}

impl Encoded {
    /// Bytes on the wire.
    pub fn len(&self) -> usize {
        self.head.len() + self.body.len()
    }

    /// Never true: a frame has at least its header.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Both parts, in the order in which they are written.
    pub fn into_parts(self) -> [Bytes; 2] {
        [self.head, self.body]
    }
}

impl Message {
    /// Encodes the message as one v1 frame. Blocks and transactions are not copied.
    pub fn encode(&self, magic: Magic) -> Encoded {
        let body = self.shared_payload().cloned().unwrap_or_default();
        let mut head = BytesMut::with_capacity(HEADER_BYTES + self.payload_len() - body.len());
        if body.is_empty() {
            self.encode_into(magic, &mut head);
        } else {
            let frame_header = encode_head(magic, self.command(), body.len(), checksum(&body));
            head.put_slice(&frame_header);
        }
        Encoded {
            kind: self.kind(),
            head: head.freeze(),
            body,
        }
    }

    /// Appends the message to `out` as one v1 frame, copying blocks and transactions too.
    ///
    /// Reserves exactly what the frame needs.
    pub fn encode_into(&self, magic: Magic, out: &mut BytesMut) {
        let len = self.payload_len();
        out.reserve(HEADER_BYTES + len);
        let start = out.len();
        out.put_bytes(0, HEADER_BYTES);
        self.encode_payload(out);
        let (header, payload) = out[start..].split_at_mut(HEADER_BYTES);
        assert_eq!(
            payload.len(),
            len,
            "payload_len is what encode_payload writes"
        );
        header.copy_from_slice(&encode_head(magic, self.command(), len, checksum(payload)));
    }

    /// Length of the payload, bytes.
    ///
    /// # Panics
    ///
    /// When it is more than any frame may carry: what we send is ours to bound.
    pub fn payload_len(&self) -> usize {
        let len = match self {
            Message::Version(version) => version_len(version),
            Message::Ping(_) | Message::Pong(_) | Message::FeeFilter(_) => 8,
            Message::SendCmpct { .. } => 9,
            Message::Addr(list) => counted(list.len(), 30),
            Message::AddrV2(list) => counted(list.len(), 0) + sum(list, addr_v2_len),
            Message::Inv(list) | Message::GetData(list) | Message::NotFound(list) => {
                counted(list.len(), 36)
            }
            Message::GetHeaders(locator) | Message::GetBlocks(locator) => {
                4 + counted(locator.hashes.len(), 32) + 32
            }
            Message::Headers(list) => counted(list.len(), Header::SIZE + 1),
            Message::Block(block) => block.bytes.len(),
            Message::Tx(bytes) => bytes.len(),
            Message::Verack
            | Message::SendHeaders
            | Message::SendAddrV2
            | Message::WtxidRelay
            | Message::GetAddr
            | Message::Mempool
            | Message::Unknown { .. } => 0,
        };
        assert!(len <= MAX_PAYLOAD_BYTES, "no frame carries {len} bytes");
        len
    }

    /// The payload, where it already exists as bytes.
    fn shared_payload(&self) -> Option<&Bytes> {
        match self {
            Message::Block(block) => Some(&block.bytes),
            Message::Tx(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// Appends the payload to `out`. An `Unknown` has lost its own and has none.
    pub fn encode_payload(&self, out: &mut BytesMut) {
        match self {
            Message::Version(version) => put_version(out, version),
            Message::Ping(nonce) | Message::Pong(nonce) => out.put_u64_le(*nonce),
            Message::FeeFilter(rate) => out.put_u64_le(*rate),
            Message::SendCmpct { announce, version } => {
                out.put_u8(u8::from(*announce));
                out.put_u64_le(*version);
            }
            Message::Addr(list) => put_list(out, list, |out, (time, address)| {
                out.put_u32_le(*time);
                put_address(out, address);
            }),
            Message::AddrV2(list) => put_list(out, list, put_addr_v2),
            Message::Inv(list) | Message::GetData(list) | Message::NotFound(list) => {
                put_list(out, list, put_inventory);
            }
            Message::GetHeaders(locator) | Message::GetBlocks(locator) => {
                put_locator(out, locator);
            }
            Message::Headers(list) => put_list(out, list, |out, header| {
                put_header(out, header);
                out.put_u8(0);
            }),
            Message::Block(block) => out.put_slice(&block.bytes),
            Message::Tx(bytes) => out.put_slice(bytes),
            Message::Verack
            | Message::SendHeaders
            | Message::SendAddrV2
            | Message::WtxidRelay
            | Message::GetAddr
            | Message::Mempool
            | Message::Unknown { .. } => {}
        }
    }
}

/// Length of a list of `count` entries of `each` bytes.
fn counted(count: usize, each: usize) -> usize {
    compact_size::len(count as u64) + count * each
}

fn sum<T>(list: &[T], len: impl Fn(&T) -> usize) -> usize {
    list.iter().map(len).sum()
}

fn put_list<T>(out: &mut BytesMut, list: &[T], mut put: impl FnMut(&mut BytesMut, &T)) {
    compact_size::write(out, list.len() as u64);
    for entry in list {
        put(out, entry);
    }
}

/// A `version` ends where its first optional part is missing.
fn version_len(version: &Version) -> usize {
    let mut len = 4 + 8 + 8 + 26;
    if version.sender.is_some() && version.nonce.is_some() {
        len += 26 + 8 + counted(version.user_agent.len(), 1);
        if version.start_height.is_some() {
            len += 4 + 1;
        }
    }
    len
}

fn put_version(out: &mut BytesMut, version: &Version) {
    out.put_i32_le(version.version);
    out.put_u64_le(version.services.to_u64());
    out.put_i64_le(version.timestamp);
    put_address(out, &version.receiver);
    let (Some(sender), Some(nonce)) = (&version.sender, version.nonce) else {
        return;
    };
    put_address(out, sender);
    out.put_u64_le(nonce);
    compact_size::write(out, version.user_agent.len() as u64);
    out.put_slice(version.user_agent.as_bytes());
    let Some(start_height) = version.start_height else {
        return;
    };
    out.put_i32_le(start_height);
    out.put_u8(u8::from(version.relay));
}

fn put_address(out: &mut BytesMut, address: &Address) {
    out.put_u64_le(address.services.to_u64());
    for segment in address.address {
        out.put_u16(segment);
    }
    out.put_u16(address.port);
}

/// Network number and bytes of an address (BIP155), handed to `with`.
fn addr_parts<R>(addr: &AddrV2, with: impl FnOnce(u8, &[u8]) -> R) -> R {
    match addr {
        AddrV2::Ipv4(ip) => with(1, &ip.octets()),
        AddrV2::Ipv6(ip) => with(2, &ip.octets()),
        AddrV2::TorV2(bytes) => with(3, bytes),
        AddrV2::TorV3(bytes) => with(4, bytes),
        AddrV2::I2p(bytes) => with(5, bytes),
        AddrV2::Cjdns(ip) => with(6, &ip.octets()),
        AddrV2::Unknown(network, bytes) => with(*network, bytes),
    }
}

fn addr_v2_len(entry: &AddrV2Message) -> usize {
    let address = addr_parts(&entry.addr, |_, bytes| counted(bytes.len(), 1));
    4 + compact_size::len(entry.services.to_u64()) + 1 + address + 2
}

fn put_addr_v2(out: &mut BytesMut, entry: &AddrV2Message) {
    out.put_u32_le(entry.time);
    compact_size::write(out, entry.services.to_u64());
    addr_parts(&entry.addr, |network, bytes| {
        out.put_u8(network);
        compact_size::write(out, bytes.len() as u64);
        out.put_slice(bytes);
    });
    out.put_u16(entry.port);
}

fn put_inventory(out: &mut BytesMut, inventory: &Inventory) {
    let (inv_type, hash) = match inventory {
        Inventory::Error => (0, [0; 32]),
        Inventory::Transaction(txid) => (1, txid.to_byte_array()),
        Inventory::Block(hash) => (2, hash.to_byte_array()),
        Inventory::CompactBlock(hash) => (4, hash.to_byte_array()),
        Inventory::WTx(wtxid) => (5, wtxid.to_byte_array()),
        Inventory::WitnessTransaction(txid) => (0x4000_0001, txid.to_byte_array()),
        Inventory::WitnessBlock(hash) => (0x4000_0002, hash.to_byte_array()),
        Inventory::Unknown { inv_type, hash } => (*inv_type, *hash),
    };
    out.put_u32_le(inv_type);
    out.put_slice(&hash);
}

fn put_locator(out: &mut BytesMut, locator: &Locator) {
    out.put_u32_le(LOCATOR_VERSION);
    put_list(out, &locator.hashes, put_hash);
    put_hash(out, &locator.stop);
}

fn put_hash(out: &mut BytesMut, hash: &BlockHash) {
    out.put_slice(hash.as_byte_array());
}

fn put_header(out: &mut BytesMut, header: &Header) {
    out.put_i32_le(header.version.to_consensus());
    put_hash(out, &header.prev_blockhash);
    out.put_slice(header.merkle_root.as_byte_array());
    out.put_u32_le(header.time);
    out.put_u32_le(header.bits.to_consensus());
    out.put_u32_le(header.nonce);
}
