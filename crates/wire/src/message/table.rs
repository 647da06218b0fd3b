//! The table of P2P messages: a row for each decoded message.
//!
//! A new message needs a row here, a form for its payload if no form fits
//! ([`super::forms`]), a generator in the tests of this crate, and a handler in the actor of the
//! column "handled by". Everything else (names, limits, decoding, encoding, counters, cost)
//! follows from the row.

use super::define::messages;
use super::forms::{
    AddrEntry, AddrV2Entry, FeeRate, Form, Headers, InventoryEntry, List, Nonce, PongNonce,
    RawBlockForm, SendCmpctForm, TooManyIgnored, TxForm, VersionForm, locator,
};
use super::reader::Reader;
use super::{Locator, RawBlock, SendCmpct, Version};
use crate::error::DecodeError;
use crate::limits::{MAX_ADDR, MAX_INV};
use bitcoin::block::Header;
use bitcoin::p2p::address::{AddrV2Message, Address};
use bitcoin::p2p::message_blockdata::Inventory;
use bytes::{Bytes, BytesMut};

/// When a message is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// It is part of the handshake. After `verack` it is ignored.
    Handshake,
    /// It negotiates a feature, only between `version` and `verack`: later the peer is
    /// disconnected.
    BeforeVerack,
    /// After `verack`. Before, it is ignored.
    AfterVerack,
}

/// Who handles a message after the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandledBy {
    /// The session of the connection.
    Session,
    /// PeerManager: addresses and information about the peer.
    PeerManager,
    /// SyncManager: headers and blocks.
    SyncManager,
    /// No handler: it announces a feature that is not used.
    NotUsed,
    /// It requests a service that we do not offer: the peer is disconnected.
    NotOffered,
}

/// Whether a message is a request or an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exchange {
    /// It requests data.
    Request,
    /// It can be the answer to a request.
    Answer,
    /// Neither.
    Neither,
}

/// The cost of handling a message in a manager, about a microsecond a unit: headers are hashed,
/// addresses are looked up and shuffled, inventories are looked up, a block is passed to the
/// engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Cost of the message.
    pub base: u64,
    /// Cost of ten entries of its list.
    pub ten_entries: u64,
}

/// A small message.
const SMALL: Cost = cost(2);

const fn cost(base: u64) -> Cost {
    Cost {
        base,
        ten_entries: 0,
    }
}

/// A list, by the cost of ten entries.
const fn list(ten_entries: u64) -> Cost {
    Cost {
        base: 2,
        ten_entries,
    }
}

/// Commands without a row that request services of `NODE_BLOOM` (BIP111) or
/// `NODE_COMPACT_FILTERS` (BIP157).
const SERVICES_NOT_OFFERED: [&str; 6] = [
    "filterload",
    "filteradd",
    "filterclear",
    "getcfilters",
    "getcfheaders",
    "getcfcheckpt",
];

/// `command` itself, if it has no row and requests a service that we do not offer.
pub fn service_not_offered(command: &str) -> Option<&'static str> {
    let mut commands = SERVICES_NOT_OFFERED.into_iter();
    commands.find(|known| *known == command)
}

messages! {
    // name         command        may come      handled by    exchange  cost
    without payload {
        /// Accepts the other side's `version`.
        Verack      "verack"       Handshake     Session       Neither   SMALL;
        /// Announce blocks to me by `headers` (BIP130).
        SendHeaders "sendheaders"  AfterVerack   SyncManager   Neither   SMALL;
        /// I understand `addrv2` (BIP155); before `verack` only.
        SendAddrV2  "sendaddrv2"   BeforeVerack  Session       Neither   SMALL;
        /// I relay transactions by wtxid (BIP339); before `verack` only.
        WtxidRelay  "wtxidrelay"   BeforeVerack  Session       Neither   SMALL;
        /// Send me addresses.
        GetAddr     "getaddr"      AfterVerack   PeerManager   Request   cost(50);
        /// Send an `inv` of your mempool (BIP35).
        Mempool     "mempool"      AfterVerack   NotOffered    Neither   SMALL;
    }
    // name and payload                 command       may come     handled by   exchange cost        form of the payload
    with payload {
        /// First message in both directions.
        Version(Version)                "version"     Handshake    Session      Neither  SMALL,      VersionForm;
        /// Wants the same nonce back (BIP31).
        Ping(u64)                       "ping"        AfterVerack  Session      Neither  SMALL,      Nonce;
        /// Answers a `ping` (BIP31).
        Pong(u64)                       "pong"        AfterVerack  Session      Neither  SMALL,      PongNonce;
        /// Compact block preference (BIP152).
        SendCmpct(SendCmpct)            "sendcmpct"   AfterVerack  NotUsed      Neither  SMALL,      SendCmpctForm;
        /// Do not announce transactions below this fee rate, satoshi per 1,000 vbytes (BIP133).
        FeeFilter(u64)                  "feefilter"   AfterVerack  PeerManager  Neither  SMALL,      FeeRate;
        /// Addresses with the time (Unix seconds) each was last seen.
        Addr(Vec<(u32, Address)>)       "addr"        AfterVerack  PeerManager  Answer   list(5),    List<AddrEntry, MAX_ADDR>;
        /// The same for every network (BIP155).
        AddrV2(Vec<AddrV2Message>)      "addrv2"      AfterVerack  PeerManager  Answer   list(5),    List<AddrV2Entry, MAX_ADDR>;
        /// I have these.
        Inv(Vec<Inventory>)             "inv"         AfterVerack  SyncManager  Neither  list(2),    List<InventoryEntry, MAX_INV>;
        /// Send me these.
        GetData(Vec<Inventory>)         "getdata"     AfterVerack  SyncManager  Request  list(2),    List<InventoryEntry, MAX_INV>;
        /// I do not have these.
        NotFound(Vec<Inventory>)        "notfound"    AfterVerack  SyncManager  Answer   list(2),    TooManyIgnored<List<InventoryEntry, MAX_INV>>;
        /// Send headers after the first locator hash that you know: 2,000 at most.
        GetHeaders(Locator)             "getheaders"  AfterVerack  SyncManager  Request  cost(200),  locator::LocatorForm;
        /// Send an `inv` of blocks after the first locator hash that you know: 500 at most.
        GetBlocks(Locator)              "getblocks"   AfterVerack  SyncManager  Neither  cost(50),   locator::LocatorForm;
        /// Block headers, oldest first.
        Headers(Vec<Header>)            "headers"     AfterVerack  SyncManager  Answer   list(5),    Headers;
        /// A block, as it was received.
        Block(RawBlock)                 "block"       AfterVerack  SyncManager  Answer   cost(20),   RawBlockForm;
        /// A transaction, undecoded.
        Tx(Bytes)                       "tx"          AfterVerack  Session      Neither  SMALL,      TxForm;
    }
}
