//! One connection: handshake, ping, inactivity.
//!
//! The machine behind a `Peer` actor. It answers `ping` and consumes `pong`
//! itself; everything else that arrives after the handshake and is of use goes up by
//! [`Effect::Deliver`]: of an `inv` no more than [`MAX_ANNOUNCED`] entries, no `notfound` of
//! more than [`MAX_NOT_FOUND`], nothing about transactions, since we asked for none. [`Effect::Close`] is the last effect that a session ever
//! has: it is emitted exactly once, and nothing follows it.
//!
//! # What cannot be read
//!
//! | what came | then, as in Core |
//! |---|---|
//! | a wrong checksum, an invalid command, a payload that ends early | it is dropped and counted, up to [`MALFORMED_BURST`] and one in [`MALFORMED_INTERVAL`] |
//! | other magic, a length that no frame has | the connection ends |
//! | a service that we do not offer (BIP35, BIP111, BIP157) | the connection ends |
//! | a list longer than the protocol allows | the connection ends, and the host is discouraged |
//!
//! # Ordering
//!
//! `Ready` and `Close` leave through the same list in the order in which they
//! were decided. A timeout that falls on the very instant of the `verack` ends
//! the connection before or after `Ready`, never both ways: whichever input is
//! stepped first decides.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bitcoin::p2p::ServiceFlags;
use bitcoin::p2p::message_blockdata::Inventory;
use handfast_wire::{DecodeError, Fault, Garbled, HandledBy, Message, When, service_not_offered};

use crate::lifecycle::{
    ConnId, Direction, DoneReason, IoFailure, Misbehavior, OutOfPlace, Reached, VersionInfo,
};
use crate::random::Random;
use crate::time::Now;

mod handshake;
mod malformed;

use handshake::{Handshake, Progress};
pub use handshake::{
    MIN_PEER_VERSION, PONG_ABOVE_VERSION, PROTOCOL_VERSION, SENDADDRV2_VERSION, SENDHEADERS_VERSION,
};
use malformed::Malformed;
pub use malformed::{MALFORMED_BURST, MALFORMED_INTERVAL};

/// Silence after which we send `ping`. 120 s; Core `PING_INTERVAL`.
pub const PING_INTERVAL: Duration = Duration::from_secs(120);
/// How long a `pong`, or any message at all, may stay out. 20 min; Core `TIMEOUT_INTERVAL`.
pub const INACTIVITY_TIMEOUT: Duration = Duration::from_secs(20 * 60);
/// From connected transport to `verack`. 60 s; Core `DEFAULT_PEER_CONNECT_TIMEOUT`.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(60);

/// Blocks of one `inv` that are looked at: the last ones, which are the highest. 500, what
/// a node announces in answer to `getblocks`.
pub const MAX_ANNOUNCED: usize = 500;
/// Entries of a `notfound` that are looked at; a longer one is dropped, as it answers
/// nothing that we asked for. Core: 5,016, most of them for transactions.
pub const MAX_NOT_FOUND: usize = 500;

/// What all sessions of a node share.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SessionConfig {
    /// Peers below this protocol version are refused.
    pub network_min_version: i32,
    /// What we offer.
    pub services: ServiceFlags,
    /// What a peer that we dialled automatically must offer.
    pub required_services: ServiceFlags,
    /// Our BIP14 user agent, e.g. `/Handfast:0.1.0/`.
    pub user_agent: String,
    /// From connected transport to complete handshake.
    pub handshake_timeout: Duration,
    /// Random key of this process; recognises our own nonces (see `handshake`).
    pub nonce_key: [u8; 16],
}

impl SessionConfig {
    /// The usual limits with this user agent and key.
    #[must_use]
    pub fn new(user_agent: String, nonce_key: [u8; 16]) -> Self {
        Self {
            network_min_version: MIN_PEER_VERSION,
            services: offered(),
            required_services: full_node(),
            user_agent,
            handshake_timeout: HANDSHAKE_TIMEOUT,
            nonce_key,
        }
    }
}

/// What our `version` offers: the whole chain with witnesses, and hence the last 288 blocks
/// (`NODE_NETWORK_LIMITED`, BIP159), which a node offers beside `NODE_NETWORK` as Core does.
#[must_use]
pub fn offered() -> ServiceFlags {
    full_node() | ServiceFlags::NETWORK_LIMITED
}

/// `NODE_NETWORK | NODE_WITNESS`: serves the whole chain with witnesses.
#[must_use]
pub fn full_node() -> ServiceFlags {
    ServiceFlags::NETWORK | ServiceFlags::WITNESS
}

/// What happens to a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The transport is connected. To be passed first; an outgoing session sends `version` then.
    Connected,
    /// A message was decoded.
    Received(Message),
    /// The decoder reads no more: what it means is [`DecodeError::fault`].
    Undecodable(DecodeError),
    /// A frame came whose content cannot be read.
    Malformed(Garbled),
    /// The remote closed its side.
    RemoteClosed,
    /// Reading or writing failed.
    ReadFailed(IoFailure),
    /// The send queue is full: the remote does not read.
    SlowReader,
    /// A large message stays unfinished, and others wait to send theirs.
    SlowSender,
    /// A manager wants the connection closed.
    Disconnect(DoneReason),
    /// The operator wants to know the round trip. Nothing before the handshake, and while an
    /// earlier `ping` is unanswered: its time is running already.
    Ping,
    /// Time has passed. Harmless when no deadline has.
    Deadline,
}

/// What a session wants done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Send this to the remote.
    Send(Message),
    /// The handshake is complete: tell PeerManager (`Add`).
    Ready(VersionInfo),
    /// For PeerManager; only after `Ready`.
    Deliver(Message),
    /// A ping was answered after this time.
    Rtt(Duration),
    /// Close the connection. The last effect ever.
    Close(DoneReason),
}

/// A `ping` that waits for its `pong`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Ping {
    nonce: u64,
    sent: Duration,
}

/// A connection after its handshake.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Ready {
    id: ConnId,
    /// Whether the remote answers `ping` (BIP31).
    answers_ping: bool,
    last_received: Duration,
    outstanding: Option<Ping>,
    next_ping: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum State {
    Handshaking(Box<Handshake>),
    Ready(Ready),
    Closed,
}

/// One connection. See the module.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Session {
    state: State,
    reached: Reached,
    random: Random,
    malformed: Malformed,
}

impl Session {
    /// A connection whose transport connects at `now`; its handshake clock starts.
    ///
    /// `start_height` is the height of our tip, sent to the remote. `seed` must
    /// differ between connections and be unknown to remotes.
    #[must_use]
    pub fn new(
        config: Arc<SessionConfig>,
        id: ConnId,
        direction: Direction,
        remote: SocketAddr,
        start_height: u32,
        seed: u64,
        now: Now,
    ) -> Self {
        let mut random = Random::new(seed);
        let handshake = Handshake::new(
            config,
            id,
            direction,
            remote,
            start_height,
            &mut random,
            now,
        );
        Self {
            state: State::Handshaking(Box::new(handshake)),
            reached: Reached::Connected,
            random,
            malformed: Malformed::default(),
        }
    }

    /// Whether `verack` is still to come.
    #[must_use]
    pub fn awaiting_handshake(&self) -> bool {
        matches!(self.state, State::Handshaking(_))
    }

    /// What the remote said of itself, while its `verack` is to come.
    #[must_use]
    pub fn introduced(&self, now: Now) -> Option<VersionInfo> {
        match &self.state {
            State::Handshaking(handshake) => handshake.introduced(now),
            State::Ready(_) | State::Closed => None,
        }
    }

    /// How far the connection came, also after its end.
    #[must_use]
    pub fn reached(&self) -> Reached {
        self.reached
    }

    /// When [`Input::Deadline`] is due, time since node start; `None` once closed.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        match &self.state {
            State::Handshaking(handshake) => Some(handshake.deadline()),
            State::Ready(ready) => Some(ready.deadline()),
            State::Closed => None,
        }
    }

    /// Handles one input.
    ///
    /// # Panics
    /// When a message is received on an outgoing connection before
    /// [`Input::Connected`]: the caller's bug.
    pub fn step(&mut self, now: Now, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        let end = match (&mut self.state, input) {
            (State::Closed, _) => None,
            (State::Handshaking(handshake), Input::Connected) => {
                effects.extend(handshake.connected(now).map(Effect::Send));
                None
            }
            (State::Handshaking(_), Input::Received(message)) => {
                self.handshake(now, message, &mut effects)
            }
            (State::Handshaking(handshake), Input::Deadline) => {
                (handshake.deadline() <= now.mono).then_some(DoneReason::HandshakeTimeout)
            }
            (State::Ready(_), Input::Connected) | (State::Handshaking(_), Input::Ping) => None,
            (State::Ready(ready), Input::Ping) => {
                ready.next_ping = ready.next_ping.min(now.mono);
                ready.check(now, &mut self.random, &mut effects)
            }
            (State::Ready(ready), Input::Received(message)) => {
                ready.receive(now, message, &mut effects)
            }
            (State::Ready(ready), Input::Deadline) => {
                ready.check(now, &mut self.random, &mut effects)
            }
            (State::Handshaking(_) | State::Ready(_), Input::Undecodable(error)) => {
                self.undecodable(now, error)
            }
            (State::Handshaking(_) | State::Ready(_), Input::Malformed(why)) => {
                self.malformed(now, why)
            }
            (State::Handshaking(_) | State::Ready(_), Input::SlowSender) => {
                Some(DoneReason::SlowSender)
            }
            (State::Handshaking(_) | State::Ready(_), Input::RemoteClosed) => {
                Some(DoneReason::RemoteClosed)
            }
            (State::Handshaking(_) | State::Ready(_), Input::ReadFailed(why)) => {
                Some(DoneReason::RemoteReset(why))
            }
            (State::Handshaking(_) | State::Ready(_), Input::SlowReader) => {
                Some(DoneReason::SlowReader)
            }
            (State::Handshaking(_) | State::Ready(_), Input::Disconnect(reason)) => Some(reason),
        };
        if let Some(reason) = end {
            self.state = State::Closed;
            effects.push(Effect::Close(reason));
        }
        effects
    }

    /// What the decoder's error costs.
    fn undecodable(&mut self, now: Now, error: DecodeError) -> Option<DoneReason> {
        match error.fault() {
            Fault::Malformed => self.malformed(now, Garbled::Payload(error)),
            Fault::Framing => Some(DoneReason::Undecodable(error)),
            Fault::OutOfPlace => Some(DoneReason::ProtocolViolation(OutOfPlace::Frame(error))),
            Fault::Misbehaving => Some(DoneReason::Misbehaving(Misbehavior::Message(error))),
        }
    }

    /// A message is dropped, unless there were too many of these. Something came all the same.
    fn malformed(&mut self, now: Now, why: Garbled) -> Option<DoneReason> {
        if let State::Ready(ready) = &mut self.state {
            ready.last_received = now.mono;
        }
        if self.malformed.exceeds(now.mono) {
            return Some(DoneReason::MalformedFlood(why));
        }
        tracing::debug!(%why, "a malformed message is dropped");
        None
    }

    fn handshake(
        &mut self,
        now: Now,
        message: Message,
        effects: &mut Vec<Effect>,
    ) -> Option<DoneReason> {
        let State::Handshaking(handshake) = &mut self.state else {
            return None;
        };
        let mut send = Vec::new();
        let progress = handshake.receive(now, message, &mut send);
        if handshake.has_version() {
            self.reached = Reached::Version;
        }
        effects.extend(send.into_iter().map(Effect::Send));
        match progress {
            Progress::Pending => None,
            Progress::Failed(reason) => Some(reason),
            Progress::Complete(version_info) => {
                self.become_ready(now, version_info, effects);
                None
            }
        }
    }

    /// `Ready` comes before anything we send, so that PeerManager knows the peer
    /// before an answer can arrive.
    fn become_ready(&mut self, now: Now, version_info: VersionInfo, effects: &mut Vec<Effect>) {
        let common = version_info.version.min(PROTOCOL_VERSION);
        let mut ready = Ready {
            id: version_info.id,
            answers_ping: common > PONG_ABOVE_VERSION,
            last_received: now.mono,
            outstanding: None,
            next_ping: now.mono,
        };
        self.reached = Reached::Handshake;
        effects.push(Effect::Ready(version_info));
        if common >= SENDHEADERS_VERSION {
            effects.push(Effect::Send(Message::SendHeaders));
        }
        // The first ping goes out at once, as Core's does: the round trip is known early.
        let none = ready.check(now, &mut self.random, effects);
        debug_assert!(none.is_none(), "nothing can have timed out at the start");
        self.state = State::Ready(ready);
    }
}

impl Ready {
    fn deadline(&self) -> Duration {
        let silence = self.last_received.saturating_add(INACTIVITY_TIMEOUT);
        match (self.answers_ping, self.outstanding) {
            (false, _) => silence,
            (true, Some(ping)) => silence.min(ping.sent.saturating_add(INACTIVITY_TIMEOUT)),
            (true, None) => silence.min(self.next_ping),
        }
    }

    /// Times out, or sends a `ping` when one is due.
    ///
    /// That nothing of ours gets through shows here too: a `ping` that cannot
    /// be sent is not answered.
    fn check(
        &mut self,
        now: Now,
        random: &mut Random,
        effects: &mut Vec<Effect>,
    ) -> Option<DoneReason> {
        if self.last_received.saturating_add(INACTIVITY_TIMEOUT) <= now.mono {
            return Some(DoneReason::Inactive);
        }
        match self.outstanding {
            Some(ping) if ping.sent.saturating_add(INACTIVITY_TIMEOUT) <= now.mono => {
                Some(DoneReason::PingTimeout)
            }
            Some(_) => None,
            None if self.answers_ping && self.next_ping <= now.mono => {
                // Zero means "cancel" when it comes back, so it is never sent.
                let nonce = random.draw().max(1);
                self.outstanding = Some(Ping {
                    nonce,
                    sent: now.mono,
                });
                self.next_ping = now.mono.saturating_add(PING_INTERVAL);
                effects.push(Effect::Send(Message::Ping(nonce)));
                None
            }
            None => None,
        }
    }

    fn receive(
        &mut self,
        now: Now,
        message: Message,
        effects: &mut Vec<Effect>,
    ) -> Option<DoneReason> {
        self.last_received = now.mono;
        match message {
            // Peers that predate BIP31 do not know `pong`.
            Message::Ping(nonce) if self.answers_ping => {
                effects.push(Effect::Send(Message::Pong(nonce)));
            }
            Message::Pong(nonce) => self.pong(now, nonce, effects),
            // We said relay=false (BIP37). As Core with -blocksonly: the connection ends.
            Message::Tx(_) => return Some(unwanted_transaction()),
            Message::Inv(items) if items.iter().any(is_transaction) => {
                return Some(unwanted_transaction());
            }
            Message::Inv(mut items) => {
                if let Some(excess) = items.len().checked_sub(MAX_ANNOUNCED) {
                    // A list of its own: the long one is not kept for its end.
                    items = items.split_off(excess);
                }
                effects.push(Effect::Deliver(Message::Inv(items)));
            }
            Message::NotFound(items) if items.len() > MAX_NOT_FOUND => {
                tracing::debug!(id = %self.id, count = items.len(), "notfound of what we never asked for");
            }
            Message::Unknown { command } => {
                return self.unknown(&command);
            }
            known => return self.by_table(known, effects),
        }
        None
    }

    /// A command that has no row in the table of messages.
    fn unknown(&self, command: &str) -> Option<DoneReason> {
        let service = service_not_offered(command).map(DoneReason::ServiceNotOffered);
        if service.is_none() {
            tracing::trace!(id = %self.id, "an unknown command is ignored");
        }
        service
    }

    /// What becomes of a message that needs no look inside: its row in the table of messages
    /// says it.
    fn by_table(&self, message: Message, effects: &mut Vec<Effect>) -> Option<DoneReason> {
        let kind = message.kind()?;
        match (kind.when(), kind.handled_by()) {
            (When::BeforeVerack, _) => Some(DoneReason::ProtocolViolation(
                OutOfPlace::FeatureAfterVerack,
            )),
            (When::AfterVerack, HandledBy::NotOffered) => {
                Some(DoneReason::ServiceNotOffered(kind.name()))
            }
            (When::AfterVerack, HandledBy::PeerManager | HandledBy::SyncManager) => {
                effects.push(Effect::Deliver(message));
                None
            }
            (When::Handshake, _) => {
                tracing::debug!(id = %self.id, "a second {} changes nothing", kind.name());
                None
            }
            (When::AfterVerack, HandledBy::Session | HandledBy::NotUsed) => {
                tracing::trace!(id = %self.id, "{} is ignored", kind.name());
                None
            }
        }
    }

    /// As Core: an unknown nonce is an old answer and ignored, zero cancels the ping.
    fn pong(&mut self, now: Now, nonce: u64, effects: &mut Vec<Effect>) {
        let Some(ping) = self.outstanding else { return };
        if nonce == ping.nonce {
            self.outstanding = None;
            effects.push(Effect::Rtt(now.mono.saturating_sub(ping.sent)));
        } else if nonce == 0 {
            self.outstanding = None;
        }
    }
}

fn is_transaction(item: &Inventory) -> bool {
    matches!(
        item,
        Inventory::Transaction(_) | Inventory::WTx(_) | Inventory::WitnessTransaction(_)
    )
}

fn unwanted_transaction() -> DoneReason {
    DoneReason::ProtocolViolation(OutOfPlace::Transaction)
}

#[cfg(test)]
mod tests;
