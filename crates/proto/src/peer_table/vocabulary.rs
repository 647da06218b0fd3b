//! Inputs, effects, and the errors of the operator's calls.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use handfast_wire::Message;

use crate::address_book::canonical;
use crate::lifecycle::{ConnId, Direction, Disconnection, DoneReason, Role, Roles, VersionInfo};
use crate::text::{count, left};

/// What `addnode` does, as in Core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AddNodeCommand {
    /// Keep a connection to the node.
    Add,
    /// No longer keep it; an open connection stays open.
    Remove,
    /// Dial once.
    OneTry,
}

/// Why `addnode` was refused. The texts are Core's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum AddNodeError {
    /// Core error −23, `RPC_CLIENT_NODE_ALREADY_ADDED`.
    #[error("Error: Node already added")]
    AlreadyAdded,
    /// Core error −24, `RPC_CLIENT_NODE_NOT_ADDED`.
    #[error("Error: Node could not be removed. It has not been added previously.")]
    NotAdded,
    /// Neither a host name nor an address, or a port that there is not. Core takes such a name
    /// and never connects to it.
    #[error(
        "Error: that is no host name or IP address with an optional port, such as 192.0.2.7:8333"
    )]
    Malformed,
    /// An address of a network that we do not reach, `onion` or `i2p`. Core, which may reach
    /// them by a proxy, takes such names, and fails to dial them while it has none.
    #[error("Error: {0} addresses cannot be reached: Handfast has no proxy for that network")]
    Unreachable(&'static str),
}

/// Why `addpeeraddress` failed. The texts are Core's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum AddAddressError {
    /// It was known, or cannot be stored.
    #[error("failed-adding-to-new")]
    New,
    /// It is new now, and not tried.
    #[error("failed-adding-to-tried")]
    Tried,
}

/// All slots for automatic outbound connections are taken. Core error −34,
/// `RPC_CLIENT_NODE_CAPACITY_REACHED`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("Error: Already at capacity for specified connection type.")]
pub struct AtCapacity;

/// Core error −29, `RPC_CLIENT_NODE_NOT_CONNECTED`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("Node not found in connected nodes")]
pub struct NotConnected;

/// The peers that `disconnectnode` selects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DisconnectTarget {
    /// The connection with this id.
    ById(ConnId),
    /// Every connection to this address and port.
    ByAddr(SocketAddr),
}

impl DisconnectTarget {
    /// Whether a connection is meant. An address is the same in every spelling.
    #[must_use]
    pub fn means(&self, peer: &VersionInfo) -> bool {
        match self {
            Self::ById(id) => peer.id == *id,
            Self::ByAddr(addr) => canonical(peer.remote) == canonical(*addr),
        }
    }
}

/// What a subscriber wants of a peer that it was notified of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Send it this.
    Send {
        /// The peer.
        id: ConnId,
        /// The message.
        message: Message,
    },
    /// Close its connection.
    Disconnect {
        /// The peer.
        id: ConnId,
        /// Why.
        reason: DoneReason,
    },
    /// It does not get on with the peers there are: find others.
    MorePeers,
    /// It brought a block that was new to us. Sent now and then, not for every block.
    Useful {
        /// The peer.
        id: ConnId,
    },
}

impl Order {
    /// The peer that it is about.
    #[must_use]
    pub fn peer(&self) -> Option<ConnId> {
        match self {
            Self::Send { id, .. } | Self::Disconnect { id, .. } | Self::Useful { id } => Some(*id),
            Self::MorePeers => None,
        }
    }
}

/// What happens to the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A connection completed its handshake.
    Add(VersionInfo),
    /// A connection has ended; nothing about `id` follows.
    Done(Disconnection),
    /// A peer sent this. Shared: it may be forwarded to several.
    Message {
        /// The peer.
        id: ConnId,
        /// The message.
        message: Arc<Message>,
    },
    /// The answer to [`Effect::Resolve`]; no address: the name has none.
    Resolved {
        /// As in the effect.
        name: String,
        /// What it stands for.
        addrs: Vec<SocketAddr>,
    },
    /// The other answer to [`Effect::Resolve`]: it failed.
    ResolveFailed {
        /// As in the effect.
        name: String,
        /// The resolver's text.
        error: String,
    },
    /// A dial ended without a connection.
    DialFailed {
        /// As in [`Effect::Dial`].
        addr: SocketAddr,
        /// As in [`Effect::Dial`].
        name: Option<String>,
        /// The operating system's text.
        error: String,
    },
    /// A dial was not even tried, because no slot was free: a slot that the table
    /// counts as free is so only when the last subscriber has handled `Done`. Says
    /// nothing about the address.
    NotDialled {
        /// As in [`Effect::Dial`].
        addr: SocketAddr,
        /// As in [`Effect::Dial`].
        name: Option<String>,
    },
    /// The operator's `setnetworkactive`. While it is off every peer is disconnected, no peer is
    /// dialled and no peer admitted.
    SetNetworkActive(bool),
    /// The shortest round trip of each peer that has one. Passed before an [`Input::Add`]
    /// for which [`PeerTable::wants_round_trips`](super::PeerTable::wants_round_trips).
    RoundTrips(Vec<(ConnId, Duration)>),
    /// A subscriber wants something. About a peer that it was not notified of, or that has gone,
    /// nothing is done.
    Order {
        /// Whose order it is.
        from: Role,
        /// What it wants.
        order: Order,
    },
    /// The node stops: close every peer, dial and admit no peer any more.
    Drain,
    /// Time has passed. Harmless when no deadline has.
    Tick,
}

/// What the table wants done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Tell subscribers of a new peer.
    Admit {
        /// The peer.
        peer: VersionInfo,
        /// Those that want it, if any.
        roles: Roles,
    },
    /// Tell subscribers that an admitted peer has ended.
    Retire {
        /// The peer.
        id: ConnId,
        /// Those that were notified of it.
        roles: Roles,
    },
    /// A message for subscribers.
    Forward {
        /// The peer.
        id: ConnId,
        /// What it sent.
        message: Arc<Message>,
        /// Those that handle it and were notified of the peer; never none.
        roles: Roles,
    },
    /// Send to a peer.
    Send {
        /// The peer.
        id: ConnId,
        /// What to send.
        message: Message,
    },
    /// Close a connection.
    Disconnect {
        /// The connection.
        id: ConnId,
        /// Why.
        reason: DoneReason,
    },
    /// Dial.
    Dial {
        /// Where.
        addr: SocketAddr,
        /// [`Direction::Outbound`] or [`Direction::Manual`].
        direction: Direction,
        /// The named node that it is for; to be given back in [`Input::DialFailed`].
        name: Option<String>,
    },
    /// Look up a host.
    Resolve {
        /// To be given back in [`Input::Resolved`] or [`Input::ResolveFailed`].
        name: String,
        /// The host.
        host: String,
        /// The port that the addresses get.
        port: u16,
        /// A DNS seed, not a named node.
        seeds: bool,
    },
    /// The list of bans changed: publish it ([`PeerTable::bans`](super::PeerTable::bans)),
    /// for those who turn connections away before they cost anything.
    BansChanged,
    /// Worth a line in the log: see [`Notice`].
    Notice(Notice),
}

/// What an operator should know about finding peers. Its `Display` is one plain line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Notice {
    /// Every DNS seed failed, or gave no address that can be dialled.
    NoSeedReached {
        /// How many were asked.
        asked: usize,
        /// When they are asked again.
        retry_in: Duration,
    },
    /// DNS seeds answered.
    SeedsAnswered {
        /// With so many addresses.
        addresses: usize,
    },
    /// No address is known, there is no seed to ask and no node was named.
    NobodyToDial,
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSeedReached { asked, retry_in } => write!(
                f,
                "none of {} gave an address to connect to; next attempt in {}",
                count(*asked, "DNS seed"),
                left(*retry_in)
            ),
            Self::SeedsAnswered { addresses } => match addresses {
                1 => f.write_str("the DNS seeds gave 1 address"),
                _ => write!(f, "the DNS seeds gave {addresses} addresses"),
            },
            Self::NobodyToDial => f.write_str(
                "no peer is known and this network has no DNS seeds; \
                 name one with --add-node or --connect, or wait for one to connect",
            ),
        }
    }
}
