//! All connections: admission, dialling, addresses. The PeerManager's machine.
//!
//! Admission lives here and nowhere else (L3): a connection is admitted exactly
//! while it is in this table. [`Effect::Admit`] and [`Effect::Retire`] are what subscribers
//! hear, in this order, each for exactly the admitted connections that it wants. Which that are
//! is decided with the admission, and noted beside the peer.
//!
//! The table owns parts with private fields and routes between them: what one returns another
//! takes.
//!
//! | part | what it decides |
//! |---|---|
//! | `admission` | which connections are peers, with the account of their lifecycle and the history |
//! | `admitted_peers` | nothing: it holds and counts the admitted peers |
//! | `eviction` | who leaves for a newcomer |
//! | `bans` | bans of the operator, and discouraged hosts |
//! | `dialer` | which addresses to dial, and what a failed dial teaches |
//! | `more_peers` | how many outbound peers there may be when sync does not get on |
//! | `manual` | when the peers that an operator named are dialled |
//! | `seeds` | when to ask DNS seeds |
//! | `gossip` | what peers that ask for addresses get, and what is learnt from others |
//!
//! The router is here and in `timers` (what the table waits for), `connections` (the way of a connection), `routes` (what is due,
//! dials and look-ups) and `operator` (calls with an answer); `vocabulary`, `rows` and `outlook` are what goes in
//! and out.
//!
//! # Contract with the caller
//!
//! * Every [`Effect::Dial`] is answered: by [`Input::DialFailed`] or
//!   [`Input::NotDialled`], or by a
//!   connection with that `remote`, which ends in [`Input::Done`] like any other.
//! * Every [`Effect::Resolve`] is answered by [`Input::Resolved`] or
//!   [`Input::ResolveFailed`].
//!
//! An answer that never comes costs its dial or look-up no more than a timeout.

mod admission;
mod admitted_peers;
mod bans;
mod comparable;
mod connections;
mod dialer;
mod eviction;
mod gossip;
mod manual;
mod more_peers;
mod operator;
mod outlook;
mod routes;
mod rows;
mod seeds;
mod timers;
mod vocabulary;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bitcoin::p2p::ServiceFlags;

use crate::address_book::AddressBook;
use crate::address_relay::{OwnAddress, OwnAddresses};
use crate::bans::{BanList, Discouraged};
use crate::lifecycle::{ConnId, Direction, Role, Roles};
use crate::random::Random;
use crate::session::offered;
use crate::time::Now;

use admission::Admission;
use admitted_peers::{AdmittedPeers, Peer};
use bans::Bans;
pub use comparable::TableLifecycle;
use dialer::Dialer;
use eviction::Eviction;
pub use eviction::{Displaced, NEWCOMER_GRACE, max_leaving};
use gossip::Gossip;
use manual::Manual;
pub use manual::{Target, parse_target};
use more_peers::MorePeers;
pub use more_peers::{EXTRA_FOR, EXTRA_OUTBOUND};
pub use outlook::{Attempt, DialFailure, ManualPeer, Outlook, SeedRow};
pub use rows::{AddedNode, HistoryRow, PeerRow};
use seeds::Seeds;
use timers::PeerTimer;
pub use vocabulary::{
    AddAddressError, AddNodeCommand, AddNodeError, AtCapacity, DisconnectTarget, Effect, Input,
    NotConnected, Notice, Order,
};

/// Inbound connections at most. 125 in all less 10, as Core's default.
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
    /// How long an inbound newcomer is not evicted for others like it.
    pub newcomer_grace: Duration,
    /// Where we are, to be announced to peers.
    pub own: OwnAddresses,
    /// What we offer, announced with it.
    pub services: ServiceFlags,
    /// After this, a dial that no peer answered for is forgotten. Must exceed
    /// connect and handshake timeout together.
    pub dial_timeout: Duration,
    /// The subscribers that are notified of peers, and get what these send.
    pub subscribers: Roles,
    /// Secret of this process; all choices follow from it.
    pub seed: u64,
}

impl PeerTableConfig {
    /// The usual limits; no seeds, no named nodes, automatic dialling on. SyncManager is the
    /// only subscriber.
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
            newcomer_grace: NEWCOMER_GRACE,
            own: OwnAddresses::default(),
            services: offered(),
            dial_timeout: Duration::from_secs(600),
            subscribers: Role::Sync.into(),
            seed,
        }
    }
}

/// The table. See the module.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PeerTable {
    config: PeerTableConfig,
    random: Random,
    admission: Admission,
    /// The admitted connections, and no others.
    peers: AdmittedPeers,
    book: AddressBook,
    gossip: Gossip,
    eviction: Eviction,
    dialer: Dialer,
    manual: Manual,
    seeds: Seeds,
    more: MorePeers,
    bans: Bans,
}

impl PeerTable {
    /// A table without peers that finds them in `book` and as `config` says.
    ///
    /// The first [`Input::Tick`] is due at once.
    #[must_use]
    pub fn new(config: PeerTableConfig, book: AddressBook, now: Now) -> Self {
        Self {
            random: Random::new(config.seed),
            admission: Admission::new(),
            peers: AdmittedPeers::default(),
            book,
            gossip: Gossip::new(&config),
            eviction: Eviction::new(&config),
            dialer: Dialer::new(&config, now),
            manual: Manual::new(&config, now),
            seeds: Seeds::new(&config, now),
            more: MorePeers::default(),
            bans: Bans::default(),
            config,
        }
    }

    /// The table with the operator's bans that were in force when they were saved.
    #[must_use]
    pub fn with_bans(mut self, bans: BanList) -> Self {
        self.bans = Bans::new(bans);
        self
    }

    /// Handles one input.
    ///
    /// # Panics
    /// When the lifecycle of a connection is broken (L1-L3): our own bug.
    pub fn step(&mut self, now: Now, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        match input {
            Input::Add(version_info) => self.add(now, version_info, &mut effects),
            Input::Done(disconnection) => self.done(now, disconnection, &mut effects),
            Input::Message { id, message } => self.message(now, id, message, &mut effects),
            Input::Resolved { name, addrs } => self.resolved(now, &name, &addrs, &mut effects),
            Input::ResolveFailed { name, error } => {
                self.resolve_failed(now, &name, &error, &mut effects);
            }
            Input::DialFailed { addr, name, error } => {
                self.dial_failed(now, addr, name.as_deref(), &error);
            }
            Input::NotDialled { addr, name } => self.not_dialled(now, addr, name.as_deref()),
            Input::Order { from, order } => self.order(now, from, order, &mut effects),
            Input::SetNetworkActive(active) => self.set_network_active(active, &mut effects),
            Input::RoundTrips(round_trips) => self.eviction.record_round_trips(round_trips),
            Input::Drain => self.drain(&mut effects),
            Input::Tick => {}
        }
        self.plan(now, &mut effects);
        effects
    }

    /// When [`Input::Tick`] is due, time since node start.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        let timers = PeerTimer::ALL.into_iter();
        timers.filter_map(|timer| self.due(timer)).min()
    }

    /// The admitted peers, for `getpeerinfo`.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerRow> {
        let row = |peer: &Peer| peer.row(self.gossip.counts(peer.id()));
        self.peers.values().map(row).collect()
    }

    /// Our end of the socket of an admitted peer. To be passed after its [`Input::Add`], if it is
    /// known.
    pub fn set_local_address(&mut self, id: ConnId, local: SocketAddr) {
        self.gossip.set_local_address(id, local);
    }

    /// Whether the node is in its initial download, in which it does not announce itself. It
    /// stays until the next call; what is due then is sent in the next step.
    pub fn set_initial_download(&mut self, initial_download: bool) {
        self.gossip.set_initial_download(initial_download);
    }

    /// Inbound connections that were evicted for others, and ones that were refused since all
    /// slots were taken, since the start.
    #[must_use]
    pub fn displaced(&self) -> Displaced {
        self.eviction.displaced()
    }

    /// Whether an inbound newcomer costs another peer the slot: the caller tells the
    /// round trips then ([`Input::RoundTrips`]).
    #[must_use]
    pub fn wants_round_trips(&self, direction: Direction) -> bool {
        match direction {
            Direction::Inbound => self.eviction.inbound_is_full(&self.peers),
            Direction::Outbound | Direction::Manual => false,
        }
    }

    /// Leaves inbound connections from `host`, and from no other, out of [`Self::history`];
    /// `None`: all are in it.
    pub fn leave_out_of_history(&mut self, host: Option<IpAddr>) {
        self.admission.leave_out_of_history(host);
    }

    /// The last [`MAX_HISTORY`] ended connections, oldest first.
    #[must_use]
    pub fn history(&self) -> Vec<HistoryRow> {
        self.admission.history()
    }

    /// The nodes that were added (`getaddednodeinfo`).
    #[must_use]
    pub fn added_nodes(&self) -> Vec<AddedNode> {
        self.manual.added(&self.peers)
    }

    /// Whether the connection is one of the admitted peers.
    #[must_use]
    pub fn is_admitted(&self, id: ConnId) -> bool {
        self.peers.contains_key(&id)
    }

    /// The ids of the admitted peers.
    #[must_use]
    pub fn ids(&self) -> BTreeSet<ConnId> {
        self.peers.keys().copied().collect()
    }

    /// The admitted peers that this subscriber was notified of.
    #[must_use]
    pub fn ids_of(&self, role: Role) -> BTreeSet<ConnId> {
        let known = self.peers.values().filter(|peer| peer.is_known_to(role));
        known.map(Peer::id).collect()
    }

    /// The address book, to be saved and counted.
    #[must_use]
    pub fn book(&self) -> &AddressBook {
        &self.book
    }

    /// Where peers can reach us, by address, with how sure that is.
    pub fn own_addresses(&self) -> impl Iterator<Item = OwnAddress> + '_ {
        self.gossip.own()
    }

    /// The operator's bans.
    #[must_use]
    pub fn bans(&self) -> &BanList {
        self.bans.list()
    }

    /// The hosts whose peer broke rules.
    #[must_use]
    pub fn discouraged(&self) -> &Discouraged {
        self.bans.discouraged()
    }

    /// What keeps the table from finding peers, while it does.
    #[must_use]
    pub fn notice(&self) -> Option<Notice> {
        self.seeds.notice()
    }

    /// All slots are free: the table must be empty.
    ///
    /// # Panics
    /// When it is not (L6).
    pub fn assert_all_free(&self) {
        self.admission.assert_all_free(&self.peers);
    }
}

#[cfg(test)]
mod tests;
