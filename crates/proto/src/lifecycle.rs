//! The life of a connection, stated once.
//!
//! * **L1** A connection id is never used again.
//! * **L2** Per connection: `Add` at most once, `Done` exactly once, `Add`
//!   first. `Add` is sent when the handshake completed; it may be missing
//!   altogether.
//! * **L3** SyncManager sees `Add`, `Done` for exactly the connections that
//!   PeerManager admitted. Admission is PeerManager's table, never a flag in
//!   the peer.
//! * **L4** SyncManager's peers are a subset of PeerManager's table and the
//!   connections whose `Done` is in flight; the sync peer is one of
//!   SyncManager's peers.
//! * **L5** Queued lifecycle messages never exceed two per slot.
//! * **L6** All slots home: both tables are empty.
//!
//! # Ordering
//!
//! There is one sender per connection (the peer's lifecycle guard) and one path,
//! peer → PeerManager → SyncManager, each hop a FIFO mailbox. Two senders, or
//! two mailboxes picked at random, let `Done` overtake `Add`: the receiver then
//! keeps a dead peer for ever. That is the failure these invariants exclude.
//!
//! [`Ledger`] checks them; both managers assert it in release builds too.

pub mod ledger;

pub use handfast_verdict::ConnId;
pub use ledger::{AssertHeld, Ledger, Scope, Violation};

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use bitcoin::BlockHash;
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

/// Why a connection ended. Its `Display` is one plain line for log and history.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum DoneReason {
    /// The remote closed its side in an orderly way.
    #[error("the peer closed the connection")]
    RemoteClosed,
    /// Reading or writing failed; the operating system's text.
    #[error("the connection failed: {0}")]
    RemoteReset(String),
    /// `version` and `verack` did not arrive in time.
    #[error("the handshake was not completed in time")]
    HandshakeTimeout,
    /// Our own nonce came back: we dialled ourselves.
    #[error("connected to ourselves")]
    SelfConnection,
    /// The peer's protocol version is too old.
    #[error("protocol version {got} is below {min}")]
    ObsoleteVersion {
        /// The version it announced.
        got: i32,
        /// The least that we speak to.
        min: i32,
    },
    /// We dialled for a full node and the peer does not offer what one has.
    #[error("the peer does not offer the services we dialled it for")]
    MissingServices,
    /// Another connection to the same address exists.
    #[error("already connected to this address")]
    DuplicateConnection,
    /// The bytes were no frame that can be read; the decoder's text.
    #[error("what it sent cannot be read: {0}")]
    Undecodable(String),
    /// Too many messages that could not be read and were dropped.
    #[error("too many malformed messages, the last one: {0}")]
    MalformedFlood(String),
    /// A message that no honest node sends. Core `Misbehaving`.
    #[error("misbehaving: {0}")]
    Misbehaving(String),
    /// It asked for a service that our `version` does not offer; the command. So it tries
    /// somebody else (BIP35, BIP111, BIP157).
    #[error("it wants a service that we do not offer: {0}")]
    ServiceNotOffered(String),
    /// A well-formed message that the protocol does not allow there.
    #[error("protocol violation: {0}")]
    ProtocolViolation(String),
    /// A ping stayed unanswered.
    #[error("a ping was not answered in time")]
    PingTimeout,
    /// Nothing was received, or nothing could be sent, for too long.
    #[error("the connection was silent for too long")]
    Inactive,
    /// The peer does not read what we send.
    #[error("the peer reads too slowly")]
    SlowReader,
    /// A large message of the peer stayed unfinished while others waited to send theirs.
    #[error("the peer sends too slowly while others wait")]
    SlowSender,
    /// The peer table did not admit it.
    #[error("refused: {0}")]
    Refused(String),
    /// Its slot was wanted for others, who were worth more.
    #[error("evicted in favour of others")]
    Evicted,
    /// The operator banned its address.
    #[error("its address is banned (setban)")]
    Banned,
    /// A peer at its address broke rules before.
    #[error("its address is discouraged: a peer there broke the protocol before")]
    Discouraged,
    /// It sent an invalid header.
    #[error("invalid header: {0}")]
    InvalidHeader(String),
    /// It sent an invalid block.
    #[error("invalid block {hash}: {reason}")]
    InvalidBlock {
        /// The block.
        hash: BlockHash,
        /// The consensus engine's token, e.g. `bad-cb-amount`.
        reason: String,
    },
    /// Its chain has too little work to be followed.
    #[error("its chain has too little work")]
    LowWorkChain,
    /// We dialled it for its chain, and that stayed behind ours. Core `ConsiderEviction`.
    #[error("its chain stayed behind ours")]
    StaleChain,
    /// It did not deliver headers in time.
    #[error("headers were not delivered in time")]
    HeadersTimeout,
    /// It did not deliver a block in time.
    #[error("block {hash} was not delivered in time")]
    BlockStalled {
        /// The block that was waited for.
        hash: BlockHash,
    },
    /// The operator asked for it (`disconnectnode`).
    #[error("disconnected by request")]
    Requested,
    /// The node stops.
    #[error("the node is shutting down")]
    Shutdown,
    /// The peer's actor panicked: our own bug.
    #[error("internal error: the peer's actor panicked")]
    Panicked,
}

impl DoneReason {
    /// Whether the remote's host is discouraged for it ([`crate::bans`]), having come so far.
    ///
    /// As Core: for what an honest node cannot send, but not for lateness, silence or a
    /// chain with little work, nor for features announced too late, nor for bytes that are no
    /// frame or message: they cost little and are no lie. What misbehaves before its handshake
    /// is complete is most likely no Bitcoin node of our network at all.
    #[must_use]
    pub fn discourages(&self, reached: Reached) -> bool {
        match self {
            Self::InvalidHeader(_) | Self::InvalidBlock { .. } => true,
            Self::Misbehaving(_) => reached >= Reached::Handshake,
            Self::Undecodable(_)
            | Self::MalformedFlood(_)
            | Self::ServiceNotOffered(_)
            | Self::ProtocolViolation(_)
            | Self::LowWorkChain
            | Self::StaleChain
            | Self::HeadersTimeout
            | Self::BlockStalled { .. }
            | Self::RemoteClosed
            | Self::RemoteReset(_)
            | Self::HandshakeTimeout
            | Self::SelfConnection
            | Self::ObsoleteVersion { .. }
            | Self::MissingServices
            | Self::DuplicateConnection
            | Self::PingTimeout
            | Self::Inactive
            | Self::SlowReader
            | Self::SlowSender
            | Self::Refused(_)
            | Self::Evicted
            | Self::Banned
            | Self::Discouraged
            | Self::Requested
            | Self::Shutdown
            | Self::Panicked => false,
        }
    }

    /// Every [`DoneReason::label`].
    pub const LABELS: [&'static str; 29] = [
        "remote_closed",
        "remote_reset",
        "handshake_timeout",
        "self_connection",
        "obsolete_version",
        "missing_services",
        "duplicate_connection",
        "undecodable",
        "malformed_flood",
        "misbehaving",
        "service_not_offered",
        "protocol_violation",
        "ping_timeout",
        "inactive",
        "slow_reader",
        "slow_sender",
        "refused",
        "evicted",
        "banned",
        "discouraged",
        "invalid_header",
        "invalid_block",
        "low_work_chain",
        "stale_chain",
        "headers_timeout",
        "block_stalled",
        "requested",
        "shutdown",
        "panicked",
    ];

    /// The kind of reason in one word, without what a remote had to say: for counting.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::RemoteClosed => "remote_closed",
            Self::RemoteReset(_) => "remote_reset",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::SelfConnection => "self_connection",
            Self::ObsoleteVersion { .. } => "obsolete_version",
            Self::MissingServices => "missing_services",
            Self::DuplicateConnection => "duplicate_connection",
            Self::Undecodable(_) => "undecodable",
            Self::MalformedFlood(_) => "malformed_flood",
            Self::Misbehaving(_) => "misbehaving",
            Self::ServiceNotOffered(_) => "service_not_offered",
            Self::ProtocolViolation(_) => "protocol_violation",
            Self::PingTimeout => "ping_timeout",
            Self::Inactive => "inactive",
            Self::SlowReader => "slow_reader",
            Self::SlowSender => "slow_sender",
            Self::Refused(_) => "refused",
            Self::Evicted => "evicted",
            Self::Banned => "banned",
            Self::Discouraged => "discouraged",
            Self::InvalidHeader(_) => "invalid_header",
            Self::InvalidBlock { .. } => "invalid_block",
            Self::LowWorkChain => "low_work_chain",
            Self::StaleChain => "stale_chain",
            Self::HeadersTimeout => "headers_timeout",
            Self::BlockStalled { .. } => "block_stalled",
            Self::Requested => "requested",
            Self::Shutdown => "shutdown",
            Self::Panicked => "panicked",
        }
    }

    /// Whether the remote did what the protocol forbids, or withheld what it owed:
    /// what an operator wants to hear of.
    #[must_use]
    pub fn breaks_rules(&self) -> bool {
        match self {
            Self::Undecodable(_)
            | Self::MalformedFlood(_)
            | Self::Misbehaving(_)
            | Self::ProtocolViolation(_)
            | Self::InvalidHeader(_)
            | Self::InvalidBlock { .. }
            | Self::LowWorkChain
            | Self::HeadersTimeout
            | Self::BlockStalled { .. } => true,
            // A light client does so, in good faith.
            Self::ServiceNotOffered(_) => false,
            Self::RemoteClosed
            | Self::RemoteReset(_)
            | Self::HandshakeTimeout
            | Self::SelfConnection
            | Self::ObsoleteVersion { .. }
            | Self::MissingServices
            | Self::DuplicateConnection
            | Self::PingTimeout
            | Self::Inactive
            | Self::SlowReader
            | Self::SlowSender
            | Self::Refused(_)
            | Self::Evicted
            | Self::Banned
            | Self::Discouraged
            | Self::Requested
            | Self::Shutdown
            | Self::Panicked
            | Self::StaleChain => false,
        }
    }
}

/// Facts about a peer that finished its handshake.
///
/// Given to PeerManager with `Add`, and on to SyncManager when it was admitted.
/// Everything but `id`, `direction`, `remote` and the times is the remote's claim.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Introduction {
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
pub struct Ending {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_label_of_a_reason_is_listed() {
        let source = include_str!("lifecycle.rs");
        let (_, from) = source.split_once("pub fn label(").expect("it is there");
        let (label, _) = from.split_once("\n    }\n").expect("it ends");
        let written: Vec<&str> = label.split('"').skip(1).step_by(2).collect();
        assert_eq!(written, DoneReason::LABELS);
    }
}
