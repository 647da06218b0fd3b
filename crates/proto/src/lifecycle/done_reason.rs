//! Why a connection ended: data up to the edge, where [`DoneReason`]'s `Display` makes text
//! of it, and one classification from which all that follows from a reason is derived.

mod cause;
mod class;
#[cfg(test)]
mod tests;

pub use cause::{IoFailure, Misbehavior, OutOfPlace, SlotRefusal};
pub use class::{BackOff, Blame, Class};

use bitcoin::BlockHash;
use handfast_verdict::Reject;
use handfast_wire::{DecodeError, Garbled};

use super::Reached;
use crate::headers::HeaderError;

/// Why a connection ended. Its `Display` is one plain line for log and history.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum DoneReason {
    /// The remote closed its side in an orderly way.
    #[error("the peer closed the connection")]
    RemoteClosed,
    /// Reading or writing failed.
    #[error("the connection failed: {0}")]
    RemoteReset(IoFailure),
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
    /// The bytes were no frame that can be read.
    #[error("what it sent cannot be read: {0}")]
    Undecodable(DecodeError),
    /// Too many messages that could not be read and were dropped; the last one.
    #[error("too many malformed messages, the last one: {0}")]
    MalformedFlood(Garbled),
    /// A message that no honest node sends. Core `Misbehaving`.
    #[error("misbehaving: {0}")]
    Misbehaving(Misbehavior),
    /// It asked for a service that our `version` does not offer; the command. So it tries
    /// another peer (BIP35, BIP111, BIP157).
    #[error("it wants a service that we do not offer: {0}")]
    ServiceNotOffered(&'static str),
    /// A well-formed message that the protocol does not allow there.
    #[error("protocol violation: {0}")]
    ProtocolViolation(OutOfPlace),
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
    Refused(SlotRefusal),
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
    InvalidHeader(HeaderError),
    /// It sent an invalid block.
    #[error("invalid block {hash}: {reject}")]
    InvalidBlock {
        /// The block.
        hash: BlockHash,
        /// The consensus engine's refusal.
        reject: Reject,
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
    /// What kind of end it is. All that follows from a reason is derived from this.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::DuplicateConnection
            | Self::Refused(_)
            | Self::Evicted
            | Self::Banned
            | Self::Discouraged
            | Self::Requested
            | Self::Shutdown => Class::Ours,
            Self::Panicked => Class::Bug,
            Self::RemoteClosed | Self::RemoteReset(_) => Class::Lost,
            Self::HandshakeTimeout | Self::PingTimeout | Self::Inactive => Class::Silent,
            Self::SlowReader | Self::SlowSender | Self::StaleChain => Class::Slow,
            Self::HeadersTimeout => Class::Unanswered,
            Self::BlockStalled { .. } => Class::Stalling,
            Self::SelfConnection
            | Self::ObsoleteVersion { .. }
            | Self::MissingServices
            | Self::ServiceNotOffered(_) => Class::Unsuitable,
            Self::Undecodable(_)
            | Self::MalformedFlood(_)
            | Self::ProtocolViolation(_)
            | Self::LowWorkChain => Class::Faulty,
            Self::Misbehaving(_) => Class::Misbehaving,
            Self::InvalidHeader(_) | Self::InvalidBlock { .. } => Class::Invalid,
        }
    }

    /// Whether the remote's host is discouraged for it ([`crate::bans`]), having come so far.
    #[must_use]
    pub fn discourages(&self, reached: Reached) -> bool {
        matches!(self.class().blame(), Blame::Discouraged { from } if reached >= from)
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
}
