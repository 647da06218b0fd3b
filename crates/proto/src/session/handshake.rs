//! `version` and `verack` in both roles.
//!
//! Who dialled sends `version` first; who was dialled answers with its own when
//! one arrived. Each side follows up with its feature messages (ours:
//! `sendaddrv2`, BIP155) and `verack`, and is through when the other's `verack`
//! arrived. As in Bitcoin Core, whatever comes before `version` or between
//! `version` and `verack` and is no feature message is ignored, and a second
//! `version` changes nothing; the handshake's deadline bounds how long that can
//! go on.
//!
//! We do not relay transactions yet: our `version` says `relay = false` (BIP37)
//! so that no peer announces any to us, and we do not send `wtxidrelay` (BIP339).
//! We note when the peer does.
//!
//! # Self-connection
//!
//! Every nonce we send carries a MAC of its random half under a key that lives
//! as long as the process. A `version` with such a nonce is our own, whatever
//! happened to the connection that sent it: there is no list of nonces to keep,
//! to fill up or to race with. A remote that replays our nonce ends only its own
//! connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bitcoin::hashes::siphash24;
use bitcoin::p2p::ServiceFlags;
use bitcoin::p2p::address::Address;
pub use handfast_wire::constants::{PONG_ABOVE_VERSION, PROTOCOL_VERSION};
use handfast_wire::message::{Message, Version};

use crate::lifecycle::{ConnId, Direction, DoneReason, VersionInfo};
use crate::random::Random;
use crate::time::Now;

use super::SessionConfig;

/// The oldest version that we speak to. Core `MIN_PEER_PROTO_VERSION`.
pub const MIN_PEER_VERSION: i32 = 31_800;
/// First version that knows `sendheaders` (BIP130). Core `SENDHEADERS_VERSION`.
pub const SENDHEADERS_VERSION: i32 = 70_012;
/// First version to which `sendaddrv2` is sent; BIP155 names none, but software
/// that announces less may reject a message it does not know.
pub const SENDADDRV2_VERSION: i32 = 70_016;

/// What the handshake wants after a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Nothing yet.
    Pending,
    /// Both sides said `verack`.
    Complete(VersionInfo),
    /// The connection must end.
    Failed(DoneReason),
}

/// What the remote sent about itself so far.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Remote {
    version: i32,
    services: ServiceFlags,
    user_agent: String,
    claimed_height: Option<i32>,
    relay: bool,
    time_offset: i64,
    sees_us_at: Option<SocketAddr>,
    wants_addrv2: bool,
    wtxid_relay: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum State {
    /// We dialled; our `version` goes out once the transport is connected.
    Dialled,
    AwaitVersion,
    AwaitVerack(Remote),
    /// Completed or failed: nothing follows.
    Over,
}

/// One handshake; part of a [`crate::session::Session`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Handshake {
    config: Arc<SessionConfig>,
    id: ConnId,
    direction: Direction,
    remote: SocketAddr,
    start_height: u32,
    nonce: u64,
    started: Now,
    state: State,
}

impl Handshake {
    pub(crate) fn new(
        config: Arc<SessionConfig>,
        id: ConnId,
        direction: Direction,
        remote: SocketAddr,
        start_height: u32,
        random: &mut Random,
        now: Now,
    ) -> Self {
        let nonce = own_nonce(&config.nonce_key, random.draw());
        let state = match direction {
            Direction::Inbound => State::AwaitVersion,
            Direction::Outbound | Direction::Manual => State::Dialled,
        };
        Self {
            config,
            id,
            direction,
            remote,
            start_height,
            nonce,
            started: now,
            state,
        }
    }

    /// Whether the remote's `version` came, and was good.
    pub(crate) fn has_version(&self) -> bool {
        matches!(self.state, State::AwaitVerack(_))
    }

    /// What the remote's `version` said, while its `verack` is to come.
    pub(crate) fn introduced(&self, now: Now) -> Option<VersionInfo> {
        match &self.state {
            State::AwaitVerack(remote) => Some(self.introduce(now, remote.clone())),
            State::Dialled | State::AwaitVersion | State::Over => None,
        }
    }

    /// When the handshake must be complete, time since node start.
    pub(crate) fn deadline(&self) -> Duration {
        self.started
            .mono
            .saturating_add(self.config.handshake_timeout)
    }

    /// The transport is connected. Telling it twice, or of an inbound one, does nothing.
    pub(crate) fn connected(&mut self, now: Now) -> Option<Message> {
        match self.state {
            State::Dialled => {
                self.state = State::AwaitVersion;
                Some(self.our_version(now))
            }
            State::AwaitVersion | State::AwaitVerack(_) | State::Over => None,
        }
    }

    /// Handles one message; what is to be sent is appended to `send`.
    pub(crate) fn receive(
        &mut self,
        now: Now,
        message: Message,
        send: &mut Vec<Message>,
    ) -> Progress {
        match (&mut self.state, message) {
            (State::Dialled, _) => {
                panic!(
                    "Received before Connected on the outgoing connection {}",
                    self.id
                )
            }
            (State::AwaitVersion, Message::Version(version)) => self.version(now, version, send),
            (State::AwaitVersion, _) => Progress::Pending,
            (State::AwaitVerack(remote), Message::SendAddrV2) => {
                remote.wants_addrv2 = true;
                Progress::Pending
            }
            (State::AwaitVerack(remote), Message::WtxidRelay) => {
                remote.wtxid_relay = true;
                Progress::Pending
            }
            (State::AwaitVerack(remote), Message::Verack) => {
                let remote = remote.clone();
                self.state = State::Over;
                Progress::Complete(self.introduce(now, remote))
            }
            (State::AwaitVerack(_) | State::Over, _) => Progress::Pending,
        }
    }

    fn version(&mut self, now: Now, theirs: Version, send: &mut Vec<Message>) -> Progress {
        if let Some(reason) = self.objection(&theirs) {
            self.state = State::Over;
            return Progress::Failed(reason);
        }
        if !self.direction.is_outgoing() {
            send.push(self.our_version(now));
        }
        if theirs.version.min(PROTOCOL_VERSION) >= SENDADDRV2_VERSION {
            send.push(Message::SendAddrV2);
        }
        send.push(Message::Verack);
        self.state = State::AwaitVerack(Remote {
            version: theirs.version,
            services: theirs.services,
            user_agent: theirs.user_agent,
            claimed_height: theirs.start_height,
            relay: theirs.relay,
            time_offset: theirs.timestamp.max(0).saturating_sub(i64::from(now.unix)),
            sees_us_at: said(&theirs.receiver),
            wants_addrv2: false,
            wtxid_relay: false,
        });
        Progress::Pending
    }

    /// Why this `version` ends the connection, if it does.
    fn objection(&self, theirs: &Version) -> Option<DoneReason> {
        if theirs
            .nonce
            .is_some_and(|nonce| is_own_nonce(&self.config.nonce_key, nonce))
        {
            return Some(DoneReason::SelfConnection);
        }
        let min = self.config.network_min_version;
        if theirs.version < min {
            return Some(DoneReason::ObsoleteVersion {
                got: theirs.version,
                min,
            });
        }
        match self.direction {
            // Automatic connections are for syncing, so the peer must be able to
            // serve. Pruned peers (NODE_NETWORK_LIMITED) are not dialled even near
            // the tip, where Core takes them: one rule that does not depend on how
            // far we are.
            Direction::Outbound if !theirs.services.has(self.config.required_services) => {
                Some(DoneReason::MissingServices)
            }
            Direction::Outbound | Direction::Inbound | Direction::Manual => None,
        }
    }

    fn our_version(&self, now: Now) -> Message {
        Message::Version(Version {
            version: PROTOCOL_VERSION,
            services: self.config.services,
            timestamp: i64::from(now.unix),
            receiver: Address::new(&self.remote, ServiceFlags::NONE),
            // Core sends no address of its own here either: who listens, and
            // where, is for `addr` messages.
            sender: Some(Address {
                services: self.config.services,
                address: [0; 8],
                port: 0,
            }),
            nonce: Some(self.nonce),
            user_agent: self.config.user_agent.clone(),
            start_height: Some(i32::try_from(self.start_height).unwrap_or(i32::MAX)),
            relay: false,
        })
    }

    fn introduce(&self, now: Now, remote: Remote) -> VersionInfo {
        VersionInfo {
            id: self.id,
            direction: self.direction,
            remote: self.remote,
            version: remote.version,
            services: remote.services,
            user_agent: remote.user_agent,
            claimed_height: remote.claimed_height,
            relay: remote.relay,
            wants_addrv2: remote.wants_addrv2,
            wtxid_relay: remote.wtxid_relay,
            connected_at: self.started,
            time_offset: remote.time_offset,
            sees_us_at: remote.sees_us_at,
            handshake: now.mono.saturating_sub(self.started.mono),
        }
    }
}

/// An address of a `version`, if it says one.
fn said(address: &Address) -> Option<SocketAddr> {
    let address = address.socket_addr().ok()?;
    (!address.ip().is_unspecified()).then_some(address)
}

/// A nonce of ours: the high half of `random`, and its MAC under `key`.
fn own_nonce(key: &[u8; 16], random: u64) -> u64 {
    let high = random & 0xffff_ffff_0000_0000;
    high | mac(key, high)
}

/// Whether `nonce` is one of [`own_nonce`]; a foreign one passes with probability 2^-32.
fn is_own_nonce(key: &[u8; 16], nonce: u64) -> bool {
    nonce & 0xffff_ffff == mac(key, nonce & 0xffff_ffff_0000_0000)
}

/// 32 bits of SipHash-2-4.
fn mac(key: &[u8; 16], high: u64) -> u64 {
    let half = |at: usize| {
        u64::from_le_bytes(
            key[at..at + 8]
                .try_into()
                .expect("8 bytes of a 16-byte key"),
        )
    };
    siphash24::Hash::hash_to_u64_with_keys(half(0), half(8), &high.to_le_bytes()) & 0xffff_ffff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_nonces_are_recognised_and_foreign_ones_are_not() {
        let mut random = Random::new(11);
        let (ours, theirs) = ([1; 16], [2; 16]);
        for _ in 0..1_000 {
            let nonce = own_nonce(&ours, random.draw());
            assert!(is_own_nonce(&ours, nonce));
            assert!(!is_own_nonce(&theirs, nonce));
            assert!(!is_own_nonce(&ours, random.draw()));
        }
        assert!(
            !is_own_nonce(&ours, 0),
            "a remote that sends zero is not us"
        );
    }
}
