//! What one connection does.
//!
//! Each scenario is a [`Machine`]: it is told what happens to its connection and says what
//! to do, with random numbers from its own seed. It knows no socket and no clock, so the
//! same seed and the same answers of the target give the same bytes.

mod behaviour;
mod broken;
mod calls;
mod floods;
mod heavy;
mod learned;
mod leaving;
mod machine;
mod steering;
mod syncing;
mod twisted;
mod visit;

pub use machine::{Act, Door, Event, Expect, Heard, Leave, Machine, Stage, Wrong};

use std::fmt;
use std::str::FromStr;

use bytes::{Bytes, BytesMut};

use crate::voice::Voice;
use behaviour::{AfterHandshake, Behaviour};
use broken::{Broken, Kin};
use calls::Caller;
use floods::{Flood, Flooding};
pub(crate) use heavy::Frames;
use heavy::{HalfFrame, LegalFlood};
use leaving::{AtTheDeadline, Leaving, Moment, Silent, SlowLoris};
use steering::{Steer, Steering};
use syncing::{Promise, Promising};
use twisted::{Twist, Twisted};

/// What a connection does, and what it is meant to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scenario {
    /// See [`Scenario::page`], which every one of these has.
    HandshakeDrop,
    /// Leaves before its `verack`.
    PreVerack,
    /// Leaves its handshake half done.
    HalfOpen,
    /// Resets behind its `version`.
    VersionReset,
    /// Says all it has to say in one write.
    Pipelined,
    /// Ends by a reset.
    Reset,
    /// Ends in good order.
    Orderly,
    /// Waits for all others, and leaves with them.
    Barrier,
    /// Completes its handshake at the target's deadline.
    NegotiateTimeout,
    /// Says `verack` twice.
    DoubleVerack,
    /// Says `version` twice.
    DoubleVersion,
    /// Says one byte at a time.
    SlowLoris,
    /// Says nothing.
    Silent,
    /// Says what is no frame.
    Garbage,
    /// Promises a frame longer than any may be.
    Oversize,
    /// Claims a great height, and is silent when it is asked.
    HighClaim,
    /// Answers the first `getheaders`, and leaves.
    SyncThenDrop,
    /// Announces a block and never delivers it.
    Stall,
    /// Uses the target's own nonce.
    SelfConnect,
    /// Sends thousands of addresses.
    AddrFlood,
    /// Sends hundreds of pings.
    PingFlood,
    /// Announces a hundred thousand blocks that nobody has.
    InvFlood,
    /// Asks for a hundred thousand blocks that nobody has.
    GetDataFlood,
    /// Sends a block with the header of a valid one and other content.
    TamperedBlock,
    /// Announces a branch with more work whose first block it delivers tampered with.
    PoisonedBranch,
    /// Answers every `getheaders` with headers that the target knows.
    StaleSource,
    /// Shows a branch of its own with more work and gives none of its blocks.
    WithheldBranch,
    /// The same, says `notfound`, and announces it again.
    NotFoundBranch,
    /// Shows the next block of the chain and does not give it.
    WithheldChain,
    /// The same, and answers for the block with a long one, slowly.
    SlowBlock,
    /// Promises a long block and keeps back its last byte.
    HalfFrame,
    /// Floods with the most that messages may carry.
    LegalFlood,
    /// Connects at the same instant as all others.
    Burst,
    /// Calls the RPC at the same instant as all others.
    RpcBurst,
}

/// How the connections of a scenario follow one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// As soon as one has ended the next one begins.
    Continuous,
    /// All at once, and again when the last of them has ended.
    Waves,
}

/// No scenario has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no scenario is called {0:?}; `handfast fuzz scenarios` lists them")]
pub struct UnknownScenario(pub String);

impl Scenario {
    /// All of them, in the order in which they are listed.
    pub const ALL: [Self; 34] = [
        Self::HandshakeDrop,
        Self::PreVerack,
        Self::HalfOpen,
        Self::VersionReset,
        Self::Pipelined,
        Self::Reset,
        Self::Orderly,
        Self::Barrier,
        Self::NegotiateTimeout,
        Self::DoubleVerack,
        Self::DoubleVersion,
        Self::SlowLoris,
        Self::Silent,
        Self::Garbage,
        Self::Oversize,
        Self::HighClaim,
        Self::SyncThenDrop,
        Self::Stall,
        Self::SelfConnect,
        Self::AddrFlood,
        Self::PingFlood,
        Self::InvFlood,
        Self::GetDataFlood,
        Self::TamperedBlock,
        Self::PoisonedBranch,
        Self::StaleSource,
        Self::WithheldBranch,
        Self::NotFoundBranch,
        Self::WithheldChain,
        Self::SlowBlock,
        Self::HalfFrame,
        Self::LegalFlood,
        Self::Burst,
        Self::RpcBurst,
    ];

    /// Its name, as users give it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::HandshakeDrop => "handshake-drop",
            Self::PreVerack => "pre-verack",
            Self::HalfOpen => "half-open",
            Self::VersionReset => "version-reset",
            Self::Pipelined => "pipelined",
            Self::Reset => "reset",
            Self::Orderly => "orderly",
            Self::Barrier => "barrier",
            Self::NegotiateTimeout => "negotiate-timeout",
            Self::DoubleVerack => "double-verack",
            Self::DoubleVersion => "double-version",
            Self::SlowLoris => "slow-loris",
            Self::Silent => "silent",
            Self::Garbage => "garbage",
            Self::Oversize => "oversize",
            Self::HighClaim => "high-claim",
            Self::SyncThenDrop => "sync-then-drop",
            Self::Stall => "stall",
            Self::SelfConnect => "self-connect",
            Self::AddrFlood => "addr-flood",
            Self::PingFlood => "ping-flood",
            Self::InvFlood => "inv-flood",
            Self::GetDataFlood => "getdata-flood",
            Self::TamperedBlock => "tampered-block",
            Self::PoisonedBranch => "poisoned-branch",
            Self::StaleSource => "stale-source",
            Self::WithheldBranch => "withheld-branch",
            Self::NotFoundBranch => "notfound-branch",
            Self::WithheldChain => "withheld-chain",
            Self::SlowBlock => "slow-block",
            Self::HalfFrame => "half-frame",
            Self::LegalFlood => "legal-flood",
            Self::Burst => "burst",
            Self::RpcBurst => "rpc-burst",
        }
    }

    /// Its page: what a connection does, and what a target is found out by.
    #[must_use]
    pub fn page(self) -> &'static str {
        match self {
            Self::HandshakeDrop => include_str!("pages/handshake-drop.md"),
            Self::PreVerack => include_str!("pages/pre-verack.md"),
            Self::HalfOpen => include_str!("pages/half-open.md"),
            Self::VersionReset => include_str!("pages/version-reset.md"),
            Self::Pipelined => include_str!("pages/pipelined.md"),
            Self::Reset => include_str!("pages/reset.md"),
            Self::Orderly => include_str!("pages/orderly.md"),
            Self::Barrier => include_str!("pages/barrier.md"),
            Self::NegotiateTimeout => include_str!("pages/negotiate-timeout.md"),
            Self::DoubleVerack => include_str!("pages/double-verack.md"),
            Self::DoubleVersion => include_str!("pages/double-version.md"),
            Self::SlowLoris => include_str!("pages/slow-loris.md"),
            Self::Silent => include_str!("pages/silent.md"),
            Self::Garbage => include_str!("pages/garbage.md"),
            Self::Oversize => include_str!("pages/oversize.md"),
            Self::HighClaim => include_str!("pages/high-claim.md"),
            Self::SyncThenDrop => include_str!("pages/sync-then-drop.md"),
            Self::Stall => include_str!("pages/stall.md"),
            Self::SelfConnect => include_str!("pages/self-connect.md"),
            Self::AddrFlood => include_str!("pages/addr-flood.md"),
            Self::PingFlood => include_str!("pages/ping-flood.md"),
            Self::InvFlood => include_str!("pages/inv-flood.md"),
            Self::GetDataFlood => include_str!("pages/getdata-flood.md"),
            Self::TamperedBlock => include_str!("pages/tampered-block.md"),
            Self::PoisonedBranch => include_str!("pages/poisoned-branch.md"),
            Self::StaleSource => include_str!("pages/stale-source.md"),
            Self::WithheldBranch => include_str!("pages/withheld-branch.md"),
            Self::NotFoundBranch => include_str!("pages/notfound-branch.md"),
            Self::WithheldChain => include_str!("pages/withheld-chain.md"),
            Self::SlowBlock => include_str!("pages/slow-block.md"),
            Self::HalfFrame => include_str!("pages/half-frame.md"),
            Self::LegalFlood => include_str!("pages/legal-flood.md"),
            Self::Burst => include_str!("pages/burst.md"),
            Self::RpcBurst => include_str!("pages/rpc-burst.md"),
        }
    }

    /// Which socket it goes to.
    #[must_use]
    pub fn door(self) -> Door {
        match self {
            Self::RpcBurst => Door::Rpc,
            _ => Door::P2p,
        }
    }

    /// Whether its connections take a target for hanging that leaves a ping unanswered. Only
    /// those are answered who claim a version above
    /// [`PONG_ABOVE_VERSION`](crate::voice::PONG_ABOVE_VERSION).
    #[must_use]
    pub fn waits_for_pong(self) -> bool {
        matches!(
            self,
            Self::Pipelined
                | Self::Reset
                | Self::Orderly
                | Self::Barrier
                | Self::DoubleVerack
                | Self::SelfConnect
                | Self::Burst
        )
    }

    /// Whether its connections delay their own handshake: how long it took says nothing about
    /// the target.
    #[must_use]
    pub fn takes_its_time(self) -> bool {
        matches!(self, Self::NegotiateTimeout | Self::SlowLoris)
    }

    /// How its connections follow one another when it is played alone.
    #[must_use]
    pub fn arrival(self) -> Arrival {
        match self {
            Self::Burst | Self::RpcBurst => Arrival::Waves,
            _ => Arrival::Continuous,
        }
    }

    /// How often the mix draws it, against the others.
    ///
    /// Those that stay for seconds are drawn seldom, so that they do not take up all places
    /// of a mix: by time, all kinds are there at once.
    #[must_use]
    pub fn weight(self) -> u32 {
        match self {
            // What leaves fast is what races are found by.
            Self::HandshakeDrop | Self::Pipelined | Self::Reset => 200,
            Self::PreVerack | Self::Burst | Self::DoubleVerack | Self::Barrier => 100,
            Self::DoubleVersion
            | Self::Garbage
            | Self::SelfConnect
            | Self::VersionReset
            | Self::Orderly => 50,
            Self::SyncThenDrop | Self::HalfOpen | Self::Oversize | Self::PingFlood => 20,
            Self::HighClaim | Self::Stall | Self::SlowLoris | Self::Silent => 10,
            Self::AddrFlood | Self::InvFlood | Self::GetDataFlood => 5,
            // Seconds each, and much to do for the target.
            Self::TamperedBlock
            | Self::PoisonedBranch
            | Self::StaleSource
            | Self::WithheldBranch
            | Self::NotFoundBranch
            | Self::WithheldChain
            | Self::SlowBlock => 4,
            Self::HalfFrame | Self::LegalFlood => 2,
            // A minute each.
            Self::NegotiateTimeout => 1,
            // Played only where an RPC is named.
            Self::RpcBurst => 100,
        }
    }

    /// The part of one connection. `call`: the HTTP request of those who call.
    #[must_use]
    pub fn machine(self, call: &Bytes) -> Box<dyn Machine> {
        match self {
            Self::HandshakeDrop => Box::new(Leaving::new(Moment::OnVerack)),
            Self::PreVerack => Box::new(Leaving::new(Moment::BeforeVerack)),
            Self::HalfOpen => Box::new(Leaving::new(Moment::HalfOpen)),
            Self::VersionReset => Box::new(Leaving::new(Moment::BehindVersion)),
            Self::Pipelined => Box::new(Leaving::new(Moment::Pipelined)),
            Self::Reset => Box::new(Leaving::new(Moment::ResetWhenSettled)),
            Self::Barrier => Box::new(Leaving::new(Moment::Together)),
            Self::Burst | Self::Orderly => Box::new(Leaving::new(Moment::Orderly)),
            Self::NegotiateTimeout => Box::new(AtTheDeadline::new()),
            Self::DoubleVerack => Box::new(Twisted::new(Twist::Verack)),
            Self::DoubleVersion => Box::new(Twisted::new(Twist::Version)),
            Self::SelfConnect => Box::new(Twisted::new(Twist::Nonce)),
            Self::SlowLoris => Box::new(SlowLoris::default()),
            Self::Silent => Box::new(Silent),
            Self::Garbage => Box::new(Broken::new(Kin::Garbage)),
            Self::Oversize => Box::new(Broken::new(Kin::Oversize)),
            Self::HighClaim => drive(Promising(Promise::HighClaim)),
            Self::SyncThenDrop => drive(Promising(Promise::SyncThenDrop)),
            Self::Stall => drive(Promising(Promise::Stall)),
            Self::AddrFlood => drive(Flooding::new(Flood::Addr)),
            Self::PingFlood => drive(Flooding::new(Flood::Ping)),
            Self::InvFlood => drive(Flooding::new(Flood::Inv)),
            Self::GetDataFlood => drive(Flooding::new(Flood::GetData)),
            Self::TamperedBlock => drive(Steering::new(Steer::TamperedBlock)),
            Self::PoisonedBranch => drive(Steering::new(Steer::PoisonedBranch)),
            Self::StaleSource => drive(Steering::new(Steer::StaleSource)),
            Self::WithheldBranch => drive(Steering::new(Steer::WithheldBranch)),
            Self::NotFoundBranch => drive(Steering::new(Steer::NotFoundBranch)),
            Self::WithheldChain => drive(Steering::new(Steer::WithheldChain)),
            Self::SlowBlock => drive(Steering::new(Steer::SlowBlock)),
            Self::HalfFrame => drive(HalfFrame),
            Self::LegalFlood => drive(LegalFlood::default()),
            Self::RpcBurst => Box::new(Caller::new(call.clone())),
        }
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Scenario {
    type Err = UnknownScenario;

    fn from_str(name: &str) -> Result<Self, UnknownScenario> {
        let found = Self::ALL.into_iter().find(|one| one.name() == name);
        found.ok_or_else(|| UnknownScenario(name.to_owned()))
    }
}

/// The machine of a behaviour after the handshake.
fn drive(behaviour: impl Behaviour + 'static) -> Box<dyn Machine> {
    Box::new(AfterHandshake::new(behaviour))
}

/// Takes back what has been said since there were `before` acts.
fn said_since(before: usize, voice: &mut Voice<'_>) -> Bytes {
    let mut said = BytesMut::new();
    for act in voice.acts.drain(before..) {
        if let Act::Send(bytes) = act {
            said.extend_from_slice(&bytes);
        }
    }
    said.freeze()
}

#[cfg(test)]
mod tests;
