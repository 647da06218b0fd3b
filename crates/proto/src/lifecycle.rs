//! The life of a connection, stated once.
//!
//! PeerManager notifies its *subscribers* of connections: SyncManager, and others beside it. What
//! a subscriber is, is its [`Role`].
//!
//! * **L1** A connection id is never used again.
//! * **L2** Per connection: `Add` at most once, `Done` exactly once, `Add`
//!   first. `Add` is sent when the handshake completed; it may be missing
//!   altogether.
//! * **L3** Each subscriber sees `Add`, `Done` for exactly the connections that
//!   PeerManager admitted and that the subscriber wants. Admission is PeerManager's
//!   table, never a flag in the peer; who wants a connection is decided with it, once.
//! * **L4** A subscriber's peers are a subset of PeerManager's table and the
//!   connections whose `Done` is in flight; the sync peer is one of
//!   SyncManager's peers.
//! * **L5** On the way to one subscriber at most two lifecycle messages of a slot are
//!   queued, at PeerManager and there: with N subscribers at most 2 N in all.
//! * **L6** All slots are free: all tables are empty.
//!
//! # Ordering
//!
//! There is one sender per connection (the peer's lifecycle guard) and one path,
//! peer → PeerManager → each subscriber, each hop a FIFO mailbox. Two senders, or
//! two mailboxes picked at random, let `Done` overtake `Add`: the receiver then
//! keeps a dead peer for ever. That is the failure these invariants exclude.
//!
//! # Slots
//!
//! A slot is taken before a connection exists, travels with `Done`, and is free again when
//! the *last* subscriber that was notified of the connection has handled `Done`. Free after the
//! first, it would be taken again while another subscriber still has the messages of the
//! connection before it: L5 would not hold, and free slots would prove nothing (L6).
//!
//! Why not 1 + N: PeerManager may have handled both messages of a connection before any
//! subscriber has handled the first, and then there are two with each of them.
//!
//! [`Ledger`] checks them; all managers assert it in release builds too.

mod done_reason;
pub mod ledger;
mod roles;

pub use done_reason::{
    BackOff, Blame, Class, DoneReason, IoFailure, Misbehavior, OutOfPlace, SlotRefusal,
};
pub use handfast_verdict::ConnId;
pub use ledger::{AssertHeld, Ledger, Scope, Violation};
pub use roles::{Role, Roles};

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use bitcoin::p2p::ServiceFlags;

use crate::time::Now;

/// Who opened a connection, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// The remote connected to us.
    Inbound,
    /// We dialled an address of the address book.
    Outbound,
    /// We dialled an address that the operator named (`addnode`, `--connect`, `--add-node`).
    Manual,
}

impl Direction {
    /// Whether we dialled.
    #[must_use]
    pub fn is_outgoing(self) -> bool {
        match self {
            Self::Inbound => false,
            Self::Outbound | Self::Manual => true,
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
            Self::Manual => "manual",
        })
    }
}

/// Facts about a peer that finished its handshake.
///
/// Given to PeerManager with `Add`, and on to its subscribers when it was admitted.
/// Everything but `id`, `direction`, `remote` and the times is the remote's claim.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct VersionInfo {
    /// The connection.
    pub id: ConnId,
    /// Who opened it.
    pub direction: Direction,
    /// The remote end of the socket.
    pub remote: SocketAddr,
    /// The peer's protocol version.
    pub version: i32,
    /// The services it offers.
    pub services: ServiceFlags,
    /// Its BIP14 user agent, sanitized by `wire`.
    pub user_agent: String,
    /// The height it claims; `None` when its `version` was short. Never to be trusted.
    pub claimed_height: Option<i32>,
    /// Whether it wants transaction announcements (BIP37).
    pub relay: bool,
    /// Whether it sent `sendaddrv2` (BIP155).
    pub wants_addrv2: bool,
    /// Whether it sent `wtxidrelay` (BIP339).
    pub wtxid_relay: bool,
    /// When the transport was connected.
    pub connected_at: Now,
    /// Its clock minus ours, seconds.
    pub time_offset: i64,
    /// Our address as it says that it sees it; `None` if it does not say. Never to be trusted.
    pub sees_us_at: Option<SocketAddr>,
    /// Transport connected to handshake complete.
    pub handshake: Duration,
}

/// How far a connection came, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reached {
    /// The transport was connected; no `version` came.
    Connected,
    /// Its `version` came, its `verack` did not.
    Version,
    /// The handshake was completed; PeerManager did not admit it.
    Handshake,
    /// It was admitted.
    Admitted,
}

impl fmt::Display for Reached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connected => "connected",
            Self::Version => "version received",
            Self::Handshake => "handshake completed",
            Self::Admitted => "admitted",
        })
    }
}

/// Facts about a connection that has ended, given to PeerManager with `Done`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Disconnection {
    /// The connection; nothing about it follows.
    pub id: ConnId,
    /// Who opened it.
    pub direction: Direction,
    /// The remote end of the socket.
    pub remote: SocketAddr,
    /// When the transport was connected.
    pub connected_at: Now,
    /// How far it came, as the connection itself knows: never [`Reached::Admitted`],
    /// which PeerManager's table alone can tell (L3).
    pub reached: Reached,
    /// Why it ended.
    pub reason: DoneReason,
}
