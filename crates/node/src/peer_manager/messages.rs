//! What `PeerManager` is sent.

use std::net::SocketAddr;
use std::sync::Arc;

use actix::Recipient;
use handfast_proto::address_book::Row;
use handfast_proto::lifecycle::{ConnId, Disconnection, Role, VersionInfo};
use handfast_proto::peer_table::Order;
use handfast_wire::Message as WireMessage;
use tokio::sync::oneshot;

use crate::audit::{Audit, Handled};
use crate::credit::Credit;
use crate::half_open::Listed;
use crate::peer::link::PeerLink;
use crate::peer::messages::ServeBlock;
use crate::post::{asked, posted};
use crate::slots::{Queued, Slot};

/// A connection completed its handshake.
#[derive(Debug)]
pub(crate) struct PeerAdd {
    /// Until it was handled the connection is shown as one in the handshake.
    pub(crate) listed: Listed,
    /// What it said of itself.
    pub(crate) version_info: VersionInfo,
    /// The way back to it.
    pub(crate) link: PeerLink,
    /// Counts it as queued until it, and what it becomes for subscribers, was handled.
    pub(crate) queued: Queued,
}

/// A connection received a message.
#[derive(Debug)]
pub(crate) struct PeerInput {
    /// The connection.
    pub(crate) id: ConnId,
    /// The message. The subscribers that it is forwarded to share it.
    pub(crate) message: Arc<WireMessage>,
    /// Given back when this has been handled.
    pub(crate) credit: Credit,
}

/// A connection has ended; nothing about `id` follows.
///
/// Sender: only the peer's lifecycle guard. Bound: frees `slot` when
/// *handled* by the last subscriber that it goes on to, so that at most two lifecycle messages
/// per slot and subscriber are ever queued (L5).
#[derive(Debug)]
pub(crate) struct PeerDone {
    /// Which one, and why.
    pub(crate) disconnection: Disconnection,
    /// As in [`PeerAdd`]. Goes before the slot.
    pub(crate) queued: Queued,
    /// Its slot.
    pub(crate) slot: Slot,
}

/// What a subscriber wants done with a connection.
#[derive(Debug)]
pub(crate) struct Command {
    /// Whose order it is.
    pub(crate) from: Role,
    /// What it wants.
    pub(crate) order: Order,
}

/// Serving a block has ended, sent or not.
#[derive(Debug)]
pub(crate) struct Served {
    /// Whose order it was.
    pub(crate) from: Role,
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

/// What PeerManager's table shows; goes on to the subscribers as an [`Inquiry`](crate::audit::Inquiry).
#[derive(Debug)]
pub(crate) struct AuditPeers {
    /// Gets all managers' answer.
    pub(crate) answer: oneshot::Sender<Audit>,
}

/// Phase "drain": disconnect all peers, admit none.
#[derive(Debug)]
pub(crate) struct Drain;

/// Phase "managers": stop, and answer what has to be saved and what was handled.
#[derive(Debug)]
pub(crate) struct StopPeers {
    /// All slots are free, so the table must be empty (L6).
    pub(crate) slots_free: bool,
}

posted!(by queued: PeerAdd, PeerDone);
posted!(by credit: PeerInput);
posted!(by request: Command, Served, Resolved, NotDialled, DialFailed);
posted!(rare: AuditPeers);

asked! {
    Drain => (),
    StopPeers => (Vec<Row>, Handled),
}

/// The way of a subscriber's orders.
#[derive(Clone, Debug)]
pub(crate) struct ToPeers {
    pub(crate) command: Recipient<Command>,
    pub(crate) serve: Recipient<ServeBlock>,
}
