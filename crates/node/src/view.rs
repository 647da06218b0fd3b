//! What is published of a running node, for its readers. No actor is known here.

use std::net::SocketAddr;

use bitcoin::p2p::ServiceFlags;
use handfast_proto::address_relay::OwnAddress;
use handfast_proto::headers::HeaderTree;
use handfast_proto::peer_table::PeerRow;
use handfast_wire::Network;

use crate::accept_queue::Overflows;
use crate::listening_socket::ListeningSocketInfo;
use crate::stats::{Totals, Traffic};

/// Where the node is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// The block index is being opened; nothing can be answered yet (RPC error -28).
    Starting,
    /// Everything runs.
    Running,
    /// The node shuts down: nothing new is accepted.
    Stopping,
}

/// What is known of the chain, at one moment. Cheap to take, never changes once taken.
#[derive(Clone, Debug)]
pub struct ChainView {
    /// Every header known, with the active chain (O(1) snapshot).
    pub tree: HeaderTree,
    /// The network.
    pub network: Network,
    /// Where the node is in its life.
    pub phase: Phase,
    /// Whether `tree` and what is said of the chain below is what the kernel has. Not while
    /// the node starts, and never when the start fails or is given up: `tree` is the
    /// genesis block then, which is not to be reported as the chain.
    pub open: bool,
    /// What the start is at, one line, as long as the chain is not open.
    pub starting: String,
    /// Whether the tip is still far behind (Core's sense of the word).
    pub initial_block_download: bool,
    /// Bytes of blocks and undo data on disk.
    pub size_on_disk: u64,
    /// What an operator should know, one line each.
    pub warnings: Vec<String>,
}

/// The node is not there to answer: not yet, or no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Gone {
    /// The block index is still being opened.
    #[error("the node is starting")]
    Starting,
    /// It shuts down or has stopped.
    #[error("the node is shutting down")]
    Stopping,
}

/// A peer: what the table knows of it, and what went over its socket.
#[derive(Clone, Debug)]
pub struct PeerInfo {
    /// The table's row: address, direction, version, services, claims.
    pub row: PeerRow,
    /// Bytes, times, ping.
    pub traffic: Traffic,
    /// Its handshake is not complete: the table does not know it yet.
    pub half_open: bool,
}

/// A socket that we accept peers on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalAddress {
    /// The bound address.
    pub addr: SocketAddr,
}

/// Connections that arrived since start, all listening sockets together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Acceptor {
    /// Taken out of the accept queue.
    pub accepted: u64,
    /// Of those, closed at once because the operator banned their address.
    pub banned: u64,
    /// Of those, closed at once because no slot was free.
    pub no_slot: u64,
    /// Of those, closed at once because no descriptor was free.
    pub no_descriptor: u64,
    /// Pauses because the system was out of descriptors or memory.
    pub exhausted: u64,
    /// Peers that lost their slot to a newcomer.
    pub evicted: u64,
    /// Newcomers that were refused after their handshake, since all slots were taken by peers
    /// that are worth more or have just come.
    pub turned_away: u64,
}

/// What `getlistenerinfo` shows.
#[derive(Clone, Debug)]
pub struct ListenerInfo {
    /// Every listening socket, those for peers first.
    pub sockets: Vec<ListeningSocketInfo>,
    /// Connections that the system could not queue since the node started, those of all
    /// programs in its network namespace; `None` where the system does not tell.
    pub overflows: Option<Overflows>,
}

/// What `getnetworkinfo` shows.
#[derive(Clone, Debug)]
pub struct NetworkInfo {
    /// BIP14 user agent.
    pub user_agent: String,
    /// The protocol version that we speak.
    pub protocol_version: i32,
    /// What we offer.
    pub local_services: ServiceFlags,
    /// The sockets that we accept peers on.
    pub local_addresses: Vec<LocalAddress>,
    /// Where peers can reach us, by address: what is announced to them is chosen from these.
    pub own_addresses: Vec<OwnAddress>,
    /// Whether peers may connect to us.
    pub listening: bool,
    /// Whether the operator did not switch the network off.
    pub active: bool,
    /// Inbound peers: their handshake is complete.
    pub peers_in: usize,
    /// Outbound and manual peers: their handshake is complete.
    pub peers_out: usize,
    /// Inbound connections, those in the handshake among them.
    pub connections_in: usize,
    /// Outbound and manual connections, those in the handshake among them.
    pub connections_out: usize,
    /// What became of connections that arrived.
    pub acceptor: Acceptor,
    /// Seconds by which the clocks of peers that we dialled differ from ours (median); never used.
    pub time_offset: i64,
    /// Bytes and messages since start, all connections that ever were.
    pub totals: Totals,
}

/// Why the node ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExitReason {
    /// It was requested; by whom or why.
    Requested(String),
    /// Something broke that the node cannot run without.
    Failed(String),
}

impl ExitReason {
    /// What the process ends with: 0 only if the end was requested and everything
    /// ended as it should.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Requested(_) => 0,
            Self::Failed(_) => 1,
        }
    }
}
