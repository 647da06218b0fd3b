//! What one connection does.
//!
//! Each scenario is a [`Machine`]: it receives the events of its connection and returns actions,
//! with random numbers from its own seed. It has no socket and no clock, so the same seed and the
//! same answers of the target give the same bytes.

mod behaviour;
mod broken;
mod calls;
mod floods;
mod handshake;
mod heavy;
mod learned;
mod leaving;
mod machine;
mod steering;
mod syncing;
mod twisted;

pub use machine::{Act, Event, Expect, Interface, Leave, Machine, ReceivedFrame, Stage, Wrong};

use std::fmt;
use std::str::FromStr;

use bytes::{Bytes, BytesMut};

use crate::writer::Writer;
use behaviour::{AfterHandshake, Behaviour};
use broken::{Broken, BrokenKind};
use calls::Caller;
use floods::{Flood, Flooding};
pub(crate) use heavy::Frames;
use heavy::{HalfFrame, LegalFlood};
use leaving::{AtTheDeadline, Leaving, Moment, Silent, SlowLoris};
use steering::{Steer, Steering};
use syncing::{Promise, Promising};
use twisted::{Twist, Twisted};

/// A scenario: what a connection does, and what it is meant to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scenario {
    /// Disconnects on the target's `verack`; [`Scenario::page`] describes each scenario.
    HandshakeDrop,
    /// Disconnects before its `verack`.
    PreVerack,
    /// Leaves its handshake incomplete.
    HalfOpen,
    /// Sends everything in one write.
    Pipelined,
    /// Disconnects by a reset.
    Reset,
    /// Waits for all others, and disconnects with them.
    Barrier,
    /// Completes its handshake at the target's timeout.
    NegotiateTimeout,
    /// Sends `verack` twice.
    DoubleVerack,
    /// Sends `version` twice.
    DoubleVersion,
    /// Sends one byte at a time.
    SlowLoris,
    /// Sends nothing.
    Silent,
    /// Sends bytes that are no frame.
    Garbage,
    /// Announces a frame above the size limit.
    Oversize,
    /// Claims a great height, and does not answer `getheaders`.
    HighClaim,
    /// Answers the first `getheaders`, and disconnects.
    SyncThenDrop,
    /// Announces a block and never delivers it.
    Stall,
    /// Uses the target's own nonce.
    SelfConnect,
    /// Sends thousands of addresses.
    AddrFlood,
    /// Sends hundreds of pings.
    PingFlood,
    /// Announces a hundred thousand unknown blocks.
    InvFlood,
    /// Requests a hundred thousand unknown blocks.
    GetDataFlood,
    /// Sends a block with the header of a valid one and other content.
    TamperedBlock,
    /// Announces a branch with more work whose first block it delivers tampered with.
    PoisonedBranch,
    /// Answers every `getheaders` with headers that the target knows.
    StaleSource,
    /// Announces a branch with more work and delivers none of its blocks.
    WithheldBranch,
    /// The same, says `notfound`, and announces it again.
    NotFoundBranch,
    /// Announces the next block of the chain and does not deliver it.
    WithheldChain,
    /// The same, and answers the request with a long block, slowly.
    SlowBlock,
    /// Announces a long block and withholds its last byte.
    HalfFrame,
    /// Floods with the largest messages that are allowed.
    LegalFlood,
    /// Connects at the same instant as all others.
    Burst,
    /// Calls the RPC at the same instant as all others.
    RpcBurst,
}

/// How the connections of a scenario begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartMode {
    /// The next one begins as soon as one has ended.
    Continuous,
    /// All at once, and again when the last has ended.
    Waves,
}

/// An unknown scenario.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown scenario {0:?}; `handfast fuzz scenarios` lists them")]
pub struct UnknownScenario(pub String);

impl Scenario {
    /// All scenarios, in the order in which they are listed.
    pub const ALL: [Self; 32] = [
        Self::HandshakeDrop,
        Self::PreVerack,
        Self::HalfOpen,
        Self::Pipelined,
        Self::Reset,
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

    /// The name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::HandshakeDrop => "handshake-drop",
            Self::PreVerack => "pre-verack",
            Self::HalfOpen => "half-open",
            Self::Pipelined => "pipelined",
            Self::Reset => "reset",
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

    /// The description: what a connection does, and what it finds.
    #[must_use]
    pub fn page(self) -> &'static str {
        match self {
            Self::HandshakeDrop => include_str!("pages/handshake-drop.md"),
            Self::PreVerack => include_str!("pages/pre-verack.md"),
            Self::HalfOpen => include_str!("pages/half-open.md"),
            Self::Pipelined => include_str!("pages/pipelined.md"),
            Self::Reset => include_str!("pages/reset.md"),
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

    /// The target's socket that it connects to.
    #[must_use]
    pub fn interface(self) -> Interface {
        match self {
            Self::RpcBurst => Interface::Rpc,
            _ => Interface::P2p,
        }
    }

    /// Whether its connections fail if a ping is not answered. Pongs are sent only to peers with
    /// a version above [`PONG_ABOVE_VERSION`](crate::writer::PONG_ABOVE_VERSION).
    #[must_use]
    pub fn waits_for_pong(self) -> bool {
        matches!(
            self,
            Self::Pipelined
                | Self::Reset
                | Self::Barrier
                | Self::DoubleVerack
                | Self::SelfConnect
                | Self::Burst
        )
    }

    /// Whether its connections delay their own handshake, so that its time is not the target's.
    #[must_use]
    pub fn is_slow_by_design(self) -> bool {
        matches!(self, Self::NegotiateTimeout | Self::SlowLoris)
    }

    /// How its connections begin when it is the only scenario.
    #[must_use]
    pub fn start_mode(self) -> StartMode {
        match self {
            Self::Burst | Self::RpcBurst => StartMode::Waves,
            _ => StartMode::Continuous,
        }
    }

    /// Its weight in the mix.
    ///
    /// Scenarios that stay for seconds have a low weight, so that they do not take all slots of a
    /// mix: by time, all scenarios are open at once.
    #[must_use]
    pub fn weight(self) -> u32 {
        match self {
            // Fast disconnects find races.
            Self::HandshakeDrop | Self::Pipelined | Self::Reset => 200,
            Self::PreVerack | Self::Burst | Self::DoubleVerack | Self::Barrier => 100,
            Self::DoubleVersion | Self::Garbage | Self::SelfConnect => 50,
            Self::SyncThenDrop | Self::HalfOpen | Self::Oversize | Self::PingFlood => 20,
            Self::HighClaim | Self::Stall | Self::SlowLoris | Self::Silent => 10,
            Self::AddrFlood | Self::InvFlood | Self::GetDataFlood => 5,
            // Seconds each, and expensive for the target.
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
            // Only if an RPC is given.
            Self::RpcBurst => 100,
        }
    }

    /// The machine of one connection. `call`: the HTTP request of an RPC call.
    #[must_use]
    pub fn machine(self, call: &Bytes) -> Box<dyn Machine> {
        match self {
            Self::HandshakeDrop => Box::new(Leaving::new(Moment::OnVerack)),
            Self::PreVerack => Box::new(Leaving::new(Moment::BeforeVerack)),
            Self::HalfOpen => Box::new(Leaving::new(Moment::HalfOpen)),
            Self::Pipelined => Box::new(Leaving::new(Moment::Pipelined)),
            Self::Reset => Box::new(Leaving::new(Moment::ResetWhenSettled)),
            Self::Barrier => Box::new(Leaving::new(Moment::Together)),
            Self::Burst => Box::new(Leaving::new(Moment::Orderly)),
            Self::NegotiateTimeout => Box::new(AtTheDeadline::new()),
            Self::DoubleVerack => Box::new(Twisted::new(Twist::Verack)),
            Self::DoubleVersion => Box::new(Twisted::new(Twist::Version)),
            Self::SelfConnect => Box::new(Twisted::new(Twist::Nonce)),
            Self::SlowLoris => Box::new(SlowLoris::default()),
            Self::Silent => Box::new(Silent),
            Self::Garbage => Box::new(Broken::new(BrokenKind::Garbage)),
            Self::Oversize => Box::new(Broken::new(BrokenKind::Oversize)),
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

/// Removes and returns the bytes sent since there were `before` actions.
fn said_since(before: usize, writer: &mut Writer<'_>) -> Bytes {
    let mut said = BytesMut::new();
    for act in writer.acts.drain(before..) {
        if let Act::Send(bytes) = act {
            said.extend_from_slice(&bytes);
        }
    }
    said.freeze()
}

#[cfg(test)]
mod tests;
