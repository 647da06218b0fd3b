//! All connections: admission, dialling, addresses. The PeerManager's machine.
//!
//! Admission lives here and nowhere else (L3): a connection is admitted exactly
//! while it is in this table. [`Effect::Admit`] and [`Effect::Retire`] are what
//! SyncManager hears, in this order and for exactly the admitted connections.
//!
//! What the table decides about a peer that asks for addresses or sends some is in
//! `gossip`, whom to dial in `dialing`, the nodes that an operator named in `named`,
//! DNS seeds in `seeds`.
//!
//! Left out for now: telling others our own address, and relaying fresh addresses
//! from peer to peer (addresses are told to those who ask with `getaddr`).
//!
//! # Contract with the caller
//!
//! * Every [`Effect::Dial`] is answered: by [`Input::DialFailed`] or
//!   [`Input::NotDialled`], or by a
//!   connection with that `remote`, which ends in [`Input::Done`] like any other.
//! * Every [`Effect::Resolve`] is answered by [`Input::Resolved`].
//!
//! An answer that never comes costs its dial or look-up no more than a timeout.

mod admission;
mod dialing;
mod gossip;
mod named;
mod rows;
mod seeds;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use handfast_wire::Message;

use crate::address_book::AddressBook;
use crate::lifecycle::{
    AssertHeld, ConnId, Direction, DoneReason, Ending, Introduction, Ledger, Scope,
};
use crate::random::Random;
use crate::time::{Now, earliest};

use admission::Peer;
use dialing::Dials;
use gossip::Told;
use named::Named;
pub use named::{Target, parse_target};
pub use rows::{AddedNode, HistoryRow, PeerRow};
use seeds::Seeds;

/// Connections that strangers may open. 125 in all less 10, as Core's default.
pub const MAX_INBOUND: usize = 115;
/// Connections that we open by ourselves. 10; Core has 8 full-relay and 2 block-relay ones.
pub const MAX_OUTBOUND: usize = 10;
/// Connections to added nodes at a time. Core `MAX_ADDNODE_CONNECTIONS`.
pub const MAX_MANUAL: usize = 8;
/// Ended connections that are remembered.
pub const MAX_HISTORY: usize = 1_000;

/// What the table is allowed to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PeerTableConfig {
    /// Most inbound peers.
    pub max_inbound: usize,
    /// Most automatic outbound peers, dials in flight included.
    pub max_outbound: usize,
    /// Most added nodes connected or being dialled; `connect_only` is not limited.
    pub max_manual: usize,
    /// If not empty: dial these, and nothing automatically (`--connect`). Nodes that
    /// the operator adds besides are dialled too.
    pub connect_only: Vec<String>,
    /// Dial these too, and again whenever they are lost (`--add-node`).
    pub add_nodes: Vec<String>,
    /// Whether to dial automatically, and to ask DNS seeds (`--no-dial` clears it).
    /// What the operator names is dialled all the same, as with Core's `-connect=0`.
    pub dial: bool,
    /// Host names that answer with addresses of nodes.
    pub dns_seeds: Vec<String>,
    /// The network's port, for names that give none.
    pub default_port: u16,
    /// Learn loopback and private addresses, and dial several of one group (regtest).
    pub allow_private_addresses: bool,
    /// After this, a dial that nobody answered for is forgotten. Must exceed
    /// connect and handshake timeout together.
    pub dial_timeout: Duration,
    /// Secret of this process; all choices follow from it.
    pub seed: u64,
}

impl PeerTableConfig {
    /// The usual limits; no seeds, no named nodes, automatic dialling on.
    #[must_use]
    pub fn new(default_port: u16, seed: u64) -> Self {
        Self {
            max_inbound: MAX_INBOUND,
            max_outbound: MAX_OUTBOUND,
            max_manual: MAX_MANUAL,
            connect_only: Vec::new(),
            add_nodes: Vec::new(),
            dial: true,
            dns_seeds: Vec::new(),
            default_port,
            allow_private_addresses: false,
            dial_timeout: Duration::from_secs(600),
            seed,
        }
    }
}

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
}

/// Core error −29, `RPC_CLIENT_NODE_NOT_CONNECTED`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("Node not found in connected nodes")]
pub struct NotConnected;

/// Whom `disconnectnode` means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DisconnectTarget {
    /// The connection with this id.
    ById(ConnId),
    /// Every connection to this address and port.
    ByAddr(SocketAddr),
}

/// What SyncManager wants of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SyncOrder {
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
    /// Sync does not get on with the peers there are: find others.
    MorePeers,
}

/// What happens to the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A connection completed its handshake.
    Add(Introduction),
    /// A connection has ended; nothing about `id` follows.
    Done(Ending),
    /// A peer sent this.
    Message {
        /// The peer.
        id: ConnId,
        /// The message.
        message: Message,
    },
    /// The answer to [`Effect::Resolve`]; no address means that it failed.
    Resolved {
        /// As in the effect.
        name: String,
        /// What it stands for.
        addrs: Vec<SocketAddr>,
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
    /// A dial was not even tried, for want of a connection slot: a slot that the table
    /// counts as free comes home only when SyncManager has handled `Done`. Says
    /// nothing about the address.
    NotDialled {
        /// As in [`Effect::Dial`].
        addr: SocketAddr,
        /// As in [`Effect::Dial`].
        name: Option<String>,
    },
    /// The operator's `addnode`. Answered by [`Reply::AddNode`] in the same step.
    AddNode {
        /// Address or host, with or without a port.
        name: String,
        /// What to do.
        command: AddNodeCommand,
    },
    /// The operator's `disconnectnode`. Answered by [`Reply::Disconnect`] in the same step.
    Disconnect(DisconnectTarget),
    /// SyncManager wants something.
    FromSync(SyncOrder),
    /// The node stops: close every peer, dial and admit nobody any more.
    Drain,
    /// Time has passed. Harmless when no deadline has.
    Tick,
}

/// What the table wants done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Tell SyncManager of a new peer.
    Admit(Introduction),
    /// Tell SyncManager that an admitted peer has ended.
    Retire {
        /// The peer.
        id: ConnId,
    },
    /// For SyncManager.
    Forward {
        /// The peer.
        id: ConnId,
        /// What it sent.
        message: Message,
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
        /// To be given back in [`Input::Resolved`].
        name: String,
        /// The host.
        host: String,
        /// The port that the addresses get.
        port: u16,
        /// A DNS seed, not a named node.
        seeds: bool,
    },
    /// The answer to an operator's order; the first effect of its step.
    Reply(Reply),
    /// Worth a line in the log: see [`Notice`].
    Notice(Notice),
}

/// An answer to the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// To [`Input::AddNode`].
    AddNode(Result<(), AddNodeError>),
    /// To [`Input::Disconnect`].
    Disconnect(Result<(), NotConnected>),
}

/// What an operator should know about finding peers. Its `Display` is one plain line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Notice {
    /// Every DNS seed failed.
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
                "none of the {asked} DNS seeds could be reached; trying again in {} s",
                retry_in.as_secs()
            ),
            Self::SeedsAnswered { addresses } => {
                write!(f, "the DNS seeds named {addresses} addresses")
            }
            Self::NobodyToDial => f.write_str(
                "no peer is known and this network has no DNS seeds; \
                 name one with --add-node or --connect, or wait for one to connect",
            ),
        }
    }
}

/// The table. See the module.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PeerTable {
    config: PeerTableConfig,
    random: Random,
    ledger: Ledger,
    /// The admitted connections, and no others.
    peers: BTreeMap<ConnId, Peer>,
    /// Refused connections whose `Done` is still to come, with their user agents.
    refused: BTreeMap<ConnId, String>,
    history: VecDeque<HistoryRow>,
    book: AddressBook,
    told: Option<Told>,
    dials: Dials,
    named: BTreeMap<String, Named>,
    seeds: Seeds,
    /// Since when there is no automatic outbound peer.
    lonely_since: Option<Duration>,
    notice: Option<Notice>,
    draining: bool,
}

impl PeerTable {
    /// A table without peers that finds them in `book` and as `config` says.
    ///
    /// The first [`Input::Tick`] is due at once.
    #[must_use]
    pub fn new(config: PeerTableConfig, book: AddressBook, now: Now) -> Self {
        let mut table = Self {
            random: Random::new(config.seed),
            ledger: Ledger::new(Scope::PeerManager),
            peers: BTreeMap::new(),
            refused: BTreeMap::new(),
            history: VecDeque::new(),
            book,
            told: None,
            dials: Dials::new(now),
            named: BTreeMap::new(),
            seeds: Seeds::new(now),
            lonely_since: Some(now.mono),
            notice: None,
            draining: false,
            config,
        };
        table.name_configured_nodes(now);
        table
    }

    /// Handles one input.
    ///
    /// # Panics
    /// When the lifecycle of a connection is broken (L1-L3): our own bug.
    pub fn step(&mut self, now: Now, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        match input {
            Input::Add(introduction) => self.add(now, introduction, &mut effects),
            Input::Done(ending) => self.done(now, ending, &mut effects),
            Input::Message { id, message } => self.message(now, id, message, &mut effects),
            Input::Resolved { name, addrs } => self.resolved(now, &name, &addrs, &mut effects),
            Input::DialFailed { addr, name, error } => {
                self.dial_failed(now, addr, name.as_deref(), &error);
            }
            Input::NotDialled { addr, name } => self.not_dialled(now, addr, name.as_deref()),
            Input::AddNode { name, command } => {
                let result = self.add_node(now, name, command);
                effects.push(Effect::Reply(Reply::AddNode(result)));
            }
            Input::Disconnect(target) => self.disconnect_named(target, &mut effects),
            Input::FromSync(SyncOrder::Send { id, message }) => {
                // SyncManager may not have handled Done yet (L4).
                if self.peers.contains_key(&id) {
                    effects.push(Effect::Send { id, message });
                }
            }
            Input::FromSync(SyncOrder::Disconnect { id, reason }) => {
                self.close(id, reason, &mut effects);
            }
            Input::FromSync(SyncOrder::MorePeers) => self.look_for_more_peers(now),
            Input::Drain => self.drain(&mut effects),
            Input::Tick => {}
        }
        self.plan(now, &mut effects);
        effects
    }

    /// When [`Input::Tick`] is due, time since node start.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        if self.draining {
            return None;
        }
        let named = self.named.values().filter_map(Named::due).min();
        [self.outbound_due(), self.dials.expiry(), self.seeds_due()]
            .into_iter()
            .fold(named, earliest)
    }

    /// The admitted peers, for `getpeerinfo`.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerRow> {
        self.peers.values().map(Peer::row).collect()
    }

    /// The last [`MAX_HISTORY`] ended connections, oldest first.
    #[must_use]
    pub fn history(&self) -> Vec<HistoryRow> {
        self.history.iter().cloned().collect()
    }

    /// The nodes that were added (`getaddednodeinfo`).
    #[must_use]
    pub fn added_nodes(&self) -> Vec<AddedNode> {
        self.named
            .iter()
            .filter_map(|(name, node)| node.row(name, &self.peers))
            .collect()
    }

    /// The ids of the admitted peers.
    #[must_use]
    pub fn ids(&self) -> BTreeSet<ConnId> {
        self.peers.keys().copied().collect()
    }

    /// The address book, to be saved and counted.
    #[must_use]
    pub fn book(&self) -> &AddressBook {
        &self.book
    }

    /// What keeps the table from finding peers, while it does.
    #[must_use]
    pub fn notice(&self) -> Option<Notice> {
        self.notice
    }

    /// All slots are home: the table must be empty.
    ///
    /// # Panics
    /// When it is not (L6).
    pub fn assert_all_home(&self) {
        self.ledger.slots_home().assert_held();
        assert!(
            self.peers.is_empty() && self.refused.is_empty(),
            "L6: the peer table is not empty"
        );
    }
}

#[cfg(test)]
mod tests;
