//! What `PeerManager` is sent.

use std::net::{IpAddr, SocketAddr};

use actix::Recipient;
use handfast_proto::address_book::Row;
use handfast_proto::bans::{BanCommand, BanError};
use handfast_proto::lifecycle::{ConnId, Ending, Introduction};
use handfast_proto::peer_table::{
    AddAddressError, AddNodeCommand, AddNodeError, AddedNode, AtCapacity, DisconnectTarget,
    HistoryRow, SyncOrder,
};
use handfast_wire::{Message as WireMessage, Packet};
use tokio::sync::oneshot;

use crate::audit::{Audit, Handled};
use crate::credit::Credit;
use crate::half_open::Listed;
use crate::peer::link::PeerLink;
use crate::peer::messages::ServeBlock;
use crate::post::{asked, posted};
use crate::slots::{Queued, Slot};
use crate::view::PeerInfo;

/// A connection completed its handshake.
#[derive(Debug)]
pub(crate) struct PeerAdd {
    /// Until it was handled the connection is shown as one in the handshake.
    pub(crate) listed: Listed,
    /// What it said of itself.
    pub(crate) introduction: Introduction,
    /// The way back to it.
    pub(crate) link: PeerLink,
    /// Counts it as queued until it, and what it becomes for SyncManager, was handled.
    pub(crate) queued: Queued,
}

/// A connection received a message.
#[derive(Debug)]
pub(crate) struct PeerInput {
    /// The connection.
    pub(crate) id: ConnId,
    /// The message.
    pub(crate) message: WireMessage,
    /// Given back when this has been handled.
    pub(crate) credit: Credit,
}

/// A connection has ended; nothing about `id` follows.
///
/// Sender: the peer's lifecycle guard, nobody else. Bound: frees `slot` when
/// *handled*, so at most two lifecycle messages per slot are ever queued (L5).
#[derive(Debug)]
pub(crate) struct PeerDone {
    /// Which one, and why.
    pub(crate) ending: Ending,
    /// As in [`PeerAdd`]. Goes before the slot.
    pub(crate) queued: Queued,
    /// Its slot.
    pub(crate) slot: Slot,
}

/// What SyncManager wants done with a connection.
#[derive(Debug)]
pub(crate) struct SyncCommand(pub(crate) SyncOrder);

/// Serving a block has ended, sent or not.
#[derive(Debug)]
pub(crate) struct Served {
    /// The connection.
    pub(crate) id: ConnId,
    /// Of the order.
    pub(crate) ticket: u64,
}

/// The addresses of a name, or why it could not be looked up.
#[derive(Debug)]
pub(crate) struct Resolved {
    /// The name.
    pub(crate) name: String,
    /// Its addresses.
    pub(crate) addrs: Result<Vec<SocketAddr>, String>,
}

/// A dial was not tried: no slot is free.
#[derive(Debug)]
pub(crate) struct NotDialled {
    /// Where to.
    pub(crate) addr: SocketAddr,
    /// The operator's name for it.
    pub(crate) name: Option<String>,
}

/// A dial did not lead to a connection.
#[derive(Debug)]
pub(crate) struct DialFailed {
    /// Where to.
    pub(crate) addr: SocketAddr,
    /// The operator's name for it.
    pub(crate) name: Option<String>,
    /// Why.
    pub(crate) error: String,
}

/// What PeerManager's table shows; goes on to SyncManager as [`AuditSync`].
#[derive(Debug)]
pub(crate) struct AuditPeers {
    /// Gets both managers' answer.
    pub(crate) answer: oneshot::Sender<Audit>,
}

/// Every admitted peer.
#[derive(Debug)]
pub(crate) struct Peers;

/// The connections that ended last.
#[derive(Debug)]
pub(crate) struct PeerHistory;

/// Inbound connections from this address are left out of the history from now on, and those
/// from any other are in it.
#[derive(Debug)]
pub(crate) struct LeaveOutOfHistory(pub(crate) Option<IpAddr>);

/// The operator's addresses.
#[derive(Debug)]
pub(crate) struct AddedNodes;

/// The `addnode` RPC.
#[derive(Debug)]
pub(crate) struct AddNode {
    /// The address or name.
    pub(crate) name: String,
    /// What to do with it.
    pub(crate) command: AddNodeCommand,
}

/// The `disconnectnode` RPC.
#[derive(Debug)]
pub(crate) struct DisconnectPeer {
    /// Which.
    pub(crate) target: DisconnectTarget,
}

/// The `setban` and `clearbanned` RPCs.
#[derive(Debug)]
pub(crate) struct BanPeers {
    /// What to do.
    pub(crate) order: BanCommand,
}

/// The `ping` RPC.
#[derive(Debug)]
pub(crate) struct PingPeers;

/// The `setnetworkactive` RPC.
#[derive(Debug)]
pub(crate) struct SetNetworkActive {
    /// On or off.
    pub(crate) active: bool,
}

/// The address book, for `getnodeaddresses` and `getaddrmaninfo`.
#[derive(Debug)]
pub(crate) struct KnownAddresses {
    /// Only those worth telling.
    pub(crate) good: bool,
}

/// The `addpeeraddress` RPC.
#[derive(Debug)]
pub(crate) struct AddAddress {
    /// The address.
    pub(crate) addr: SocketAddr,
    /// As if we had been connected to it.
    pub(crate) tried: bool,
}

/// The `addconnection` RPC.
#[derive(Debug)]
pub(crate) struct Connect {
    /// Where to.
    pub(crate) addr: SocketAddr,
}

/// The `sendmsgtopeer` RPC. False: no such peer, or its queue is full.
#[derive(Debug)]
pub(crate) struct SendPacket {
    /// The peer.
    pub(crate) id: ConnId,
    /// What to send.
    pub(crate) packet: Packet,
}

/// Phase "drain": disconnect everybody, admit nobody.
#[derive(Debug)]
pub(crate) struct Drain;

/// Phase "managers": stop, and answer what has to be saved and what was handled.
#[derive(Debug)]
pub(crate) struct StopPeers {
    /// Every slot is home, so the table must be empty (L6).
    pub(crate) slots_home: bool,
}

/// The rows of `peers.dat`.
#[derive(Debug)]
pub(crate) struct AddressRows;

posted!(by queued: PeerAdd, PeerDone);
posted!(by credit: PeerInput);
posted!(by request: SyncCommand, Served, Resolved, NotDialled, DialFailed);
posted!(rare: AuditPeers);

asked! {
    Peers => Vec<PeerInfo>,
    PeerHistory => Vec<HistoryRow>,
    LeaveOutOfHistory => (),
    AddedNodes => Vec<AddedNode>,
    AddNode => Result<(), AddNodeError>,
    DisconnectPeer => bool,
    BanPeers => Result<(), BanError>,
    PingPeers => (),
    SetNetworkActive => (),
    KnownAddresses => Vec<Row>,
    AddAddress => Result<(), AddAddressError>,
    Connect => Result<(), AtCapacity>,
    SendPacket => bool,
    Drain => (),
    StopPeers => (Vec<Row>, Handled),
    AddressRows => Vec<Row>,
}

/// The way of SyncManager's orders.
#[derive(Clone, Debug)]
pub(crate) struct ToPeers {
    pub(crate) command: Recipient<SyncCommand>,
    pub(crate) serve: Recipient<ServeBlock>,
}
