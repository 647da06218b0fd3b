//! Who connects, and what it says. One connection runs the production `Session`.

use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bitcoin::block::{Header, Version as BlockVersion};
use bitcoin::hashes::Hash as _;
use bitcoin::p2p::ServiceFlags;
use bitcoin::p2p::address::Address;
use bitcoin::{CompactTarget, TxMerkleNode};
use handfast_proto::lifecycle::{ConnId, Direction, DoneReason, Reached};
use handfast_proto::session::{Session, SessionConfig, full_node};
use handfast_proto::time::Now;
use handfast_wire::{Message, Network, Version};

use crate::machines::START;

/// What kind of remote a connection leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    /// A full node that dialled us. All of them are on one host.
    Inbound,
    /// It dialled us and serves nothing: never a source. On a host of its own.
    Leech,
    /// A full node that we dialled. Always the same address, so a second one is a duplicate.
    Outbound,
}

impl Kind {
    pub(crate) fn direction(self) -> Direction {
        match self {
            Self::Inbound | Self::Leech => Direction::Inbound,
            Self::Outbound => Direction::Outbound,
        }
    }

    fn services(self) -> ServiceFlags {
        match self {
            Self::Inbound | Self::Outbound => full_node(),
            Self::Leech => ServiceFlags::NONE,
        }
    }

    pub(crate) fn host(self) -> IpAddr {
        let last = match self {
            Self::Inbound => [198, 51, 100, 1],
            Self::Leech => [192, 0, 2, 1],
            Self::Outbound => [203, 0, 113, 1],
        };
        IpAddr::V4(Ipv4Addr::from(last))
    }

    pub(crate) fn remote(self, id: ConnId) -> SocketAddr {
        let port = match self {
            Self::Inbound | Self::Leech => 50_000 + u16::try_from(id.0).expect("few connections"),
            Self::Outbound => 8_333,
        };
        SocketAddr::new(self.host(), port)
    }

    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Inbound => "a full node connects to us",
            Self::Leech => "a node that serves nothing connects to us",
            Self::Outbound => "we connect to a full node",
        }
    }
}

/// What a remote says after its handshake; once at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Say {
    /// An empty `headers`: it has nothing that we have not.
    NothingNew,
    /// A header without proof of work.
    BadHeader,
}

impl Say {
    pub(crate) fn message(self) -> Message {
        match self {
            Self::NothingNew => Message::Headers(Vec::new()),
            Self::BadHeader => Message::Headers(vec![bad_header()]),
        }
    }

    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::NothingNew => "answers with no headers",
            Self::BadHeader => "sends a header without proof of work",
        }
    }
}

fn bad_header() -> Header {
    static BAD: OnceLock<Header> = OnceLock::new();
    *BAD.get_or_init(|| {
        let genesis = Network::Regtest.genesis();
        let mut header = Header {
            version: BlockVersion::TWO,
            prev_blockhash: genesis.block_hash(),
            merkle_root: TxMerkleNode::all_zeros(),
            time: genesis.time + 600,
            bits: CompactTarget::from_consensus(genesis.bits.to_consensus()),
            nonce: 0,
        };
        while header.target().is_met_by(header.block_hash()) {
            header.nonce += 1;
        }
        header
    })
}

/// One connection: the `Peer` actor with its session and its mailbox.
#[derive(Clone, Debug)]
pub(crate) struct Conn {
    pub(crate) kind: Kind,
    pub(crate) session: Arc<Session>,
    /// The remote has said its one thing.
    pub(crate) spoke: bool,
    /// Orders of PeerManager that it has not handled, oldest first.
    pub(crate) orders: Vec<DoneReason>,
}

impl Hash for Conn {
    /// The session's inputs so far follow from how far it came and from `spoke`, and it
    /// is deterministic: so is the rest of it.
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.kind, self.reached(), self.spoke, &self.orders).hash(state);
    }
}

impl Conn {
    pub(crate) fn new(id: ConnId, kind: Kind) -> Self {
        static CONFIG: OnceLock<Arc<SessionConfig>> = OnceLock::new();
        let config =
            CONFIG.get_or_init(|| Arc::new(SessionConfig::new("/Model:1/".into(), [3; 16])));
        let mut session = Session::new(
            config.clone(),
            id,
            kind.direction(),
            kind.remote(id),
            0,
            id.0,
            START,
        );
        session.step(START, handfast_proto::session::Input::Connected);
        Self {
            kind,
            session: Arc::new(session),
            spoke: false,
            orders: Vec::new(),
        }
    }

    pub(crate) fn reached(&self) -> Reached {
        self.session.reached()
    }

    /// When everything arrives: at the very moment at which the handshake times out, so
    /// that `verack` and the timer are always due together.
    pub(crate) fn now() -> Now {
        START.after(handfast_proto::session::HANDSHAKE_TIMEOUT)
    }

    /// When the session's timer fires.
    pub(crate) fn timer(&self) -> Option<Now> {
        let at = self.session.deadline()?;
        Some(START.after(at.saturating_sub(START.mono)))
    }

    /// The remote's `version`.
    pub(crate) fn version(&self, id: ConnId) -> Message {
        Message::Version(Version {
            version: 70_016,
            services: self.kind.services(),
            timestamp: i64::from(START.unix),
            receiver: Address::new(&self.kind.remote(id), ServiceFlags::NONE),
            sender: None,
            nonce: Some(1),
            user_agent: "/Remote:1/".into(),
            start_height: Some(0),
            relay: false,
        })
    }
}

/// How long a silence is: every request for headers has run out after it.
pub(crate) const SILENCE: Duration = Duration::from_secs(125);
