//! What the peers say, built once, and in what they differ.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{SystemTime, UNIX_EPOCH};

use bitcoin::p2p::ServiceFlags;
use bitcoin::p2p::address::Address;
use handfast_wire::{Message, Network, Version};

/// Core `PROTOCOL_VERSION` since `wtxidrelay`.
const PROTOCOL_VERSION: i32 = 70_016;
/// What our pings carry. Their answers are told from the node's pings by command.
const PING_NONCE: u64 = 0x6368_7572_6e21;

/// How a connection goes, up to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Variant {
    /// Handshake, ping answered, then our side is closed and the node's awaited.
    Orderly,
    /// The same, but `version`, `verack` and `ping` go out in one write.
    Pipelined,
    /// The same as orderly, but ended by a reset.
    Reset,
    /// When the node's `verack` comes, ours goes out and the socket is closed in the
    /// same breath.
    DropOnVerack,
    /// Closed when the node's `verack` comes, without ours.
    BeforeVerack,
    /// Reset as soon as our `version` is written; whether the node saw it, nobody knows.
    AfterVersion,
}

impl Variant {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Orderly,
        Self::Pipelined,
        Self::Reset,
        Self::DropOnVerack,
        Self::BeforeVerack,
        Self::AfterVersion,
    ];

    /// Whether such a peer lives past its handshake, and so can wait for others.
    pub fn stays(self) -> bool {
        match self {
            Self::Orderly | Self::Pipelined | Self::Reset => true,
            Self::DropOnVerack | Self::BeforeVerack | Self::AfterVersion => false,
        }
    }
}

/// The bytes of one run.
#[derive(Clone, Debug)]
pub(super) struct Script {
    pub(super) magic: [u8; 4],
    /// `version`.
    pub(super) version: Vec<u8>,
    /// `verack`.
    pub(super) verack: Vec<u8>,
    /// `verack` and `ping`.
    pub(super) verack_ping: Vec<u8>,
    /// `version`, `verack` and `ping`.
    pub(super) all_at_once: Vec<u8>,
}

impl Script {
    pub(super) fn new(network: &Network, claimed_height: i32) -> Self {
        let bytes = |message: &Message| {
            let encoded = message.encode(network.magic());
            encoded.to_vec()
        };
        let version = bytes(&version(claimed_height));
        let verack = bytes(&Message::Verack);
        let verack_ping = [verack.clone(), bytes(&Message::Ping(PING_NONCE))].concat();
        Self {
            magic: network.magic().to_bytes(),
            all_at_once: [version.clone(), verack_ping.clone()].concat(),
            version,
            verack,
            verack_ping,
        }
    }
}

/// The `version` of a churn's peers, who want no transactions (BIP37).
///
/// All connections of a run say the same. A nonce only has to be unlike the node's
/// own, which it is but for one chance in 2^32.
/// # Panics
/// If the clock is before 1970.
pub fn version(claimed_height: i32) -> Message {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("the clock is past 1970")
        .as_secs();
    let nowhere = Address::new(
        &SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        ServiceFlags::NONE,
    );
    Message::Version(Version {
        version: PROTOCOL_VERSION,
        services: ServiceFlags::NETWORK | ServiceFlags::WITNESS,
        timestamp: i64::try_from(now).expect("the year is before 292 billion"),
        receiver: nowhere.clone(),
        sender: Some(nowhere),
        nonce: Some(now ^ 0x6368_7572_6e00_0000),
        user_agent: "/handfast-tests:churn/".to_owned(),
        start_height: Some(claimed_height),
        relay: false,
    })
}
