//! Payloads to messages, as tolerant as Bitcoin Core and no more.
//!
//! Tolerated: bytes after the last field, payloads of commands that have none, a
//! `version` that ends after any of its optional parts, a `ping` without nonce
//! (BIP31), transaction counts other than zero in `headers`, a `notfound` of any length.
//!
//! Where this fails, Core does: what its deserialization throws at is [`DecodeError::Truncated`]
//! or [`DecodeError::Invalid`], and what it calls misbehaving is neither.
//!
//! # Security
//!
//! A count is compared with its limit, and with what the payload can hold, before
//! anything is allocated for it.

use std::net::{Ipv4Addr, Ipv6Addr};

use bitcoin::BlockHash;
use bitcoin::block::Header;
use bitcoin::hashes::Hash;
use bitcoin::p2p::ServiceFlags;
use bitcoin::p2p::address::{AddrV2, AddrV2Message, Address};
use bitcoin::p2p::message_blockdata::Inventory;
use bytes::Bytes;

use super::{Kind, Locator, Message, RawBlock, Version};
use crate::error::DecodeError;
use crate::limits::{
    MAX_ADDR, MAX_ADDRV2_BYTES, MAX_COUNT, MAX_HEADERS, MAX_INV, MAX_LOCATOR, MAX_MONEY,
    MAX_USER_AGENT,
};

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
}

/// `ignored`: bytes of the payload that came after `payload` and were not kept.
pub(crate) fn decode(kind: Kind, payload: Bytes, ignored: usize) -> Result<Message, DecodeError> {
    let reader = &mut Reader {
        ignored,
        ..Reader::new(kind.name(), &payload)
    };
    Ok(match kind {
        Kind::Version => Message::Version(version(reader)?),
        Kind::Verack => Message::Verack,
        // Before BIP31 a ping had no nonce and wanted no answer.
        Kind::Ping if payload.len() < 8 => Message::unknown(kind.name()),
        Kind::Ping => Message::Ping(reader.u64("nonce")?),
        // Core gives up the ping in flight; a zero nonce has the same effect there.
        Kind::Pong if payload.len() < 8 => Message::Pong(0),
        Kind::Pong => Message::Pong(reader.u64("nonce")?),
        Kind::SendHeaders => Message::SendHeaders,
        Kind::SendAddrV2 => Message::SendAddrV2,
        Kind::WtxidRelay => Message::WtxidRelay,
        Kind::SendCmpct => send_cmpct(reader)?,
        Kind::FeeFilter => match reader.u64("fee rate")? {
            rate @ 0..=MAX_MONEY => Message::FeeFilter(rate),
            _ => Message::unknown(kind.name()),
        },
        Kind::GetAddr => Message::GetAddr,
        Kind::Addr => Message::Addr(reader.list(MAX_ADDR, 30, timed_address)?),
        Kind::AddrV2 => Message::AddrV2(reader.list(MAX_ADDR, 9, addr_v2)?),
        Kind::Inv => Message::Inv(reader.list(MAX_INV, 36, inventory)?),
        Kind::GetData => Message::GetData(reader.list(MAX_INV, 36, inventory)?),
        Kind::NotFound => match reader.list(MAX_INV, 36, inventory) {
            Ok(items) => Message::NotFound(items),
            // Core passes over one that is longer than any answer to what it asked for.
            Err(DecodeError::TooManyEntries { .. }) => Message::unknown(kind.name()),
            Err(error) => return Err(error),
        },
        Kind::GetHeaders => Message::GetHeaders(locator(reader)?),
        Kind::GetBlocks => Message::GetBlocks(locator(reader)?),
        Kind::Headers => Message::Headers(headers(reader)?),
        Kind::Block => Message::Block(RawBlock::new(payload)?),
        Kind::Tx => Message::Tx(payload),
        Kind::Mempool => Message::Mempool,
    })
}

impl RawBlock {
    /// Wraps a serialized block. Only the header is looked at.
    pub fn new(bytes: Bytes) -> Result<RawBlock, DecodeError> {
        let reader = &mut Reader::new(Kind::Block.name(), &bytes);
        let header = header(reader)?;
        if reader.is_empty() {
            return Err(reader.truncated("transactions"));
        }
        Ok(RawBlock {
            hash: header.block_hash(),
            header,
            bytes,
        })
    }
}

fn version(reader: &mut Reader<'_>) -> Result<Version, DecodeError> {
    let version = reader.i32("version")?;
    let services = ServiceFlags::from(reader.u64("services")?);
    // Core: a clock before 1970 counts as 1970.
    let timestamp = reader.i64("timestamp")?.max(0);
    let receiver = address(reader)?;
    let (mut sender, mut nonce) = (None, None);
    if !reader.is_empty() {
        sender = Some(address(reader)?);
        nonce = Some(reader.u64("nonce")?);
    }
    let mut user_agent = String::new();
    if !reader.is_empty() {
        let len = reader.length("user agent", MAX_USER_AGENT)?;
        user_agent = sanitize(reader.take(len, "user agent")?);
    }
    let mut start_height = None;
    if !reader.is_empty() {
        start_height = Some(reader.i32("start height")?);
    }
    let mut relay = true;
    if !reader.is_empty() {
        relay = reader.u8("relay")? != 0;
    }
    Ok(Version {
        version,
        services,
        timestamp,
        receiver,
        sender,
        nonce,
        user_agent,
        start_height,
        relay,
    })
}

/// What may go into a log or an RPC answer. Core `SanitizeString`, default characters.
fn sanitize(bytes: &[u8]) -> String {
    bytes
        .iter()
        .map(|&byte| char::from(byte))
        .filter(|c| c.is_ascii_alphanumeric() || " .,;-_/:?@()".contains(*c))
        .collect()
}

fn send_cmpct(reader: &mut Reader<'_>) -> Result<Message, DecodeError> {
    let announce = match reader.u8("announce")? {
        0 => false,
        1 => true,
        _ => {
            reader.u64("version")?;
            return Err(DecodeError::Forbidden {
                command: reader.command,
                field: "announce",
            });
        }
    };
    let version = reader.u64("version")?;
    Ok(Message::SendCmpct { announce, version })
}

fn address(reader: &mut Reader<'_>) -> Result<Address, DecodeError> {
    let services = ServiceFlags::from(reader.u64("services")?);
    let ip = Ipv6Addr::from(reader.array::<16>("address")?);
    let port = u16::from_be_bytes(reader.array("port")?);
    Ok(Address {
        services,
        address: ip.segments(),
        port,
    })
}

fn timed_address(reader: &mut Reader<'_>) -> Result<(u32, Address), DecodeError> {
    Ok((reader.u32("time")?, address(reader)?))
}

fn addr_v2(reader: &mut Reader<'_>) -> Result<AddrV2Message, DecodeError> {
    let time = reader.u32("time")?;
    let services = ServiceFlags::from(reader.compact_size("services")?);
    let network = reader.u8("network")?;
    let len = reader.length("address", MAX_ADDRV2_BYTES)?;
    let bytes = reader.take(len, "address")?;
    let Some(addr) = addr_of(network, bytes) else {
        return Err(reader.invalid("address length"));
    };
    let port = u16::from_be_bytes(reader.array("port")?);
    Ok(AddrV2Message {
        time,
        services,
        addr,
        port,
    })
}

/// `None`: the length is wrong for a network that has a fixed one (BIP155).
///
/// What cannot be an address of its network (IPv4 inside IPv6, CJDNS outside
/// fc00::/8) stays `Unknown`: Core skips such entries and uses the others.
fn addr_of(network: u8, bytes: &[u8]) -> Option<AddrV2> {
    let unknown = || AddrV2::Unknown(network, bytes.to_vec());
    Some(match network {
        1 => AddrV2::Ipv4(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        2 => {
            let ip = Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?);
            let onion_cat = ip.segments()[..3] == [0xfd87, 0xd87e, 0xeb43];
            if onion_cat || ip.to_ipv4_mapped().is_some() {
                unknown()
            } else {
                AddrV2::Ipv6(ip)
            }
        }
        3 => <[u8; 10]>::try_from(bytes).map_or_else(|_| unknown(), AddrV2::TorV2),
        4 => AddrV2::TorV3(bytes.try_into().ok()?),
        5 => AddrV2::I2p(bytes.try_into().ok()?),
        6 => {
            let ip = Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?);
            if ip.octets()[0] == 0xfc {
                AddrV2::Cjdns(ip)
            } else {
                unknown()
            }
        }
        _ => unknown(),
    })
}

fn inventory(reader: &mut Reader<'_>) -> Result<Inventory, DecodeError> {
    let inv_type = reader.u32("type")?;
    let hash = reader.array::<32>("hash")?;
    Ok(match inv_type {
        1 => Inventory::Transaction(Hash::from_byte_array(hash)),
        2 => Inventory::Block(Hash::from_byte_array(hash)),
        4 => Inventory::CompactBlock(Hash::from_byte_array(hash)),
        5 => Inventory::WTx(Hash::from_byte_array(hash)),
        0x4000_0001 => Inventory::WitnessTransaction(Hash::from_byte_array(hash)),
        0x4000_0002 => Inventory::WitnessBlock(Hash::from_byte_array(hash)),
        _ => Inventory::Unknown { inv_type, hash },
    })
}

fn locator(reader: &mut Reader<'_>) -> Result<Locator, DecodeError> {
    // The sender's protocol version, which nobody reads.
    reader.u32("version")?;
    let hashes = reader.list(MAX_LOCATOR, 32, |reader| block_hash(reader, "locator"))?;
    let stop = block_hash(reader, "stop hash")?;
    Ok(Locator { hashes, stop })
}

fn block_hash(reader: &mut Reader<'_>, field: &'static str) -> Result<BlockHash, DecodeError> {
    Ok(BlockHash::from_byte_array(reader.array(field)?))
}

fn header(reader: &mut Reader<'_>) -> Result<Header, DecodeError> {
    let bytes = reader.take(Header::SIZE, "header")?;
    Ok(bitcoin::consensus::deserialize(bytes).expect("every 80 bytes are a header"))
}

/// Core judges the count of headers before it reads any, that of other lists afterwards.
fn headers(reader: &mut Reader<'_>) -> Result<Vec<Header>, DecodeError> {
    let got = reader.count("count")?;
    if got > MAX_HEADERS as u64 {
        return Err(reader.too_many(got, MAX_HEADERS));
    }
    reader.entries(got, MAX_HEADERS, 81, counted_header)
}

fn counted_header(reader: &mut Reader<'_>) -> Result<Header, DecodeError> {
    let header = header(reader)?;
    // Always zero, for no transactions follow. Core reads and ignores it.
    reader.compact_size("transaction count")?;
    Ok(header)
}

/// Reads fields off a payload; a failure names the command and the field.
struct Reader<'a> {
    command: &'static str,
    rest: &'a [u8],
    /// Bytes that came behind `rest` and were not kept.
    ignored: usize,
}

impl<'a> Reader<'a> {
    fn new(command: &'static str, rest: &'a [u8]) -> Self {
        Reader {
            command,
            rest,
            ignored: 0,
        }
    }

    fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    fn truncated(&self, field: &'static str) -> DecodeError {
        DecodeError::Truncated {
            command: self.command,
            field,
        }
    }

    fn invalid(&self, field: &'static str) -> DecodeError {
        DecodeError::Invalid {
            command: self.command,
            field,
        }
    }

    fn take(&mut self, len: usize, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(len)
            .ok_or_else(|| self.truncated(field))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let taken = self.take(N, field)?;
        Ok(taken.try_into().expect("take returns N bytes"))
    }

    fn u8(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        Ok(self.array::<1>(field)?[0])
    }

    fn u32(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        Ok(u32::from_le_bytes(self.array(field)?))
    }

    fn i32(&mut self, field: &'static str) -> Result<i32, DecodeError> {
        Ok(i32::from_le_bytes(self.array(field)?))
    }

    fn u64(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        Ok(u64::from_le_bytes(self.array(field)?))
    }

    fn i64(&mut self, field: &'static str) -> Result<i64, DecodeError> {
        Ok(i64::from_le_bytes(self.array(field)?))
    }

    /// A variable-length number; only its shortest form is valid, as in Core.
    fn compact_size(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        let (value, least) = match self.u8(field)? {
            0xfd => (u64::from(u16::from_le_bytes(self.array(field)?)), 0xfd),
            0xfe => (u64::from(self.u32(field)?), 0x1_0000),
            0xff => (self.u64(field)?, 0x1_0000_0000),
            small => (u64::from(small), 0),
        };
        if value < least {
            return Err(self.invalid(field));
        }
        Ok(value)
    }

    /// A count as Core reads one; larger ones are no counts.
    fn count(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        let got = self.compact_size(field)?;
        if got > MAX_COUNT {
            return Err(self.invalid(field));
        }
        Ok(got)
    }

    /// The length of a field that has at most `max` bytes.
    fn length(&mut self, field: &'static str, max: usize) -> Result<usize, DecodeError> {
        let got = self.count(field)?;
        match usize::try_from(got) {
            Ok(length) if length <= max => Ok(length),
            _ => Err(self.invalid(field)),
        }
    }

    fn too_many(&self, got: u64, max: usize) -> DecodeError {
        DecodeError::TooManyEntries {
            command: self.command,
            got,
            max,
        }
    }

    /// A counted list. `least` is the length of the shortest entry, bytes.
    fn list<T>(
        &mut self,
        max: usize,
        least: usize,
        entry: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let got = self.count("count")?;
        self.entries(got, max, least, entry)
    }

    /// The entries of a list: the allocation is never larger than the payload can fill.
    fn entries<T>(
        &mut self,
        got: u64,
        max: usize,
        least: usize,
        mut entry: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let there = self.rest.len().saturating_add(self.ignored) / least;
        let count = usize::try_from(got).unwrap_or(usize::MAX);
        if count > there {
            return Err(self.truncated("entries"));
        }
        if count > max {
            return Err(self.too_many(got, max));
        }
        let mut list = Vec::with_capacity(count.min(self.rest.len() / least));
        for _ in 0..count {
            list.push(entry(self)?);
        }
        Ok(list)
    }
}
