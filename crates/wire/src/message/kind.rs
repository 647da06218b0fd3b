//! The commands that are decoded, and how long each payload may be.

use crate::limits::{
    MAX_ADDR, MAX_ADDRV2_BYTES, MAX_HEADERS, MAX_INV, MAX_LOCATOR, MAX_PAYLOAD_BYTES,
    MAX_TRAILING_BYTES, MAX_USER_AGENT,
};

/// A command that is decoded. Everything else becomes [`Message::Unknown`](super::Message).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "each is the command of the protocol that it is named after"
)]
pub enum Kind {
    Version,
    Verack,
    Ping,
    Pong,
    SendHeaders,
    SendAddrV2,
    WtxidRelay,
    SendCmpct,
    FeeFilter,
    GetAddr,
    Addr,
    AddrV2,
    Inv,
    GetData,
    NotFound,
    GetHeaders,
    GetBlocks,
    Headers,
    Block,
    Tx,
    Mempool,
}

/// Services, IPv6 address and port of one address, bytes.
const ADDRESS: usize = 8 + 16 + 2;
/// Longest count of a list: all are below 65,536.
const COUNT: usize = 3;

impl Kind {
    /// Every kind, in the order of the enum: `ALL[kind as usize] == kind`.
    pub const ALL: [Kind; 21] = [
        Kind::Version,
        Kind::Verack,
        Kind::Ping,
        Kind::Pong,
        Kind::SendHeaders,
        Kind::SendAddrV2,
        Kind::WtxidRelay,
        Kind::SendCmpct,
        Kind::FeeFilter,
        Kind::GetAddr,
        Kind::Addr,
        Kind::AddrV2,
        Kind::Inv,
        Kind::GetData,
        Kind::NotFound,
        Kind::GetHeaders,
        Kind::GetBlocks,
        Kind::Headers,
        Kind::Block,
        Kind::Tx,
        Kind::Mempool,
    ];

    /// The kind of the command called `name`.
    pub fn from_name(name: &str) -> Option<Kind> {
        Some(match name {
            "version" => Kind::Version,
            "verack" => Kind::Verack,
            "ping" => Kind::Ping,
            "pong" => Kind::Pong,
            "sendheaders" => Kind::SendHeaders,
            "sendaddrv2" => Kind::SendAddrV2,
            "wtxidrelay" => Kind::WtxidRelay,
            "sendcmpct" => Kind::SendCmpct,
            "feefilter" => Kind::FeeFilter,
            "getaddr" => Kind::GetAddr,
            "addr" => Kind::Addr,
            "addrv2" => Kind::AddrV2,
            "inv" => Kind::Inv,
            "getdata" => Kind::GetData,
            "notfound" => Kind::NotFound,
            "getheaders" => Kind::GetHeaders,
            "getblocks" => Kind::GetBlocks,
            "headers" => Kind::Headers,
            "block" => Kind::Block,
            "tx" => Kind::Tx,
            "mempool" => Kind::Mempool,
            _ => return None,
        })
    }

    /// The command as it stands in a frame.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Version => "version",
            Kind::Verack => "verack",
            Kind::Ping => "ping",
            Kind::Pong => "pong",
            Kind::SendHeaders => "sendheaders",
            Kind::SendAddrV2 => "sendaddrv2",
            Kind::WtxidRelay => "wtxidrelay",
            Kind::SendCmpct => "sendcmpct",
            Kind::FeeFilter => "feefilter",
            Kind::GetAddr => "getaddr",
            Kind::Addr => "addr",
            Kind::AddrV2 => "addrv2",
            Kind::Inv => "inv",
            Kind::GetData => "getdata",
            Kind::NotFound => "notfound",
            Kind::GetHeaders => "getheaders",
            Kind::GetBlocks => "getblocks",
            Kind::Headers => "headers",
            Kind::Block => "block",
            Kind::Tx => "tx",
            Kind::Mempool => "mempool",
        }
    }

    /// The longest payload that is kept, bytes: the longest well-formed one and what may
    /// follow it.
    pub(crate) const fn max_payload(self) -> usize {
        let well_formed = match self {
            Kind::Block | Kind::Tx => return MAX_PAYLOAD_BYTES,
            Kind::Verack
            | Kind::SendHeaders
            | Kind::SendAddrV2
            | Kind::WtxidRelay
            | Kind::GetAddr
            | Kind::Mempool => 0,
            Kind::Ping | Kind::Pong | Kind::FeeFilter => 8,
            Kind::SendCmpct => 1 + 8,
            Kind::Version => 4 + 8 + 8 + ADDRESS + ADDRESS + 8 + COUNT + MAX_USER_AGENT + 4 + 1,
            Kind::Addr => COUNT + MAX_ADDR * (4 + ADDRESS),
            Kind::AddrV2 => COUNT + MAX_ADDR * (4 + 9 + 1 + COUNT + MAX_ADDRV2_BYTES + 2),
            Kind::Inv | Kind::GetData | Kind::NotFound => COUNT + MAX_INV * (4 + 32),
            Kind::GetHeaders | Kind::GetBlocks => 4 + 1 + MAX_LOCATOR * 32 + 32,
            Kind::Headers => COUNT + MAX_HEADERS * (80 + 1),
        };
        well_formed + MAX_TRAILING_BYTES
    }
}
