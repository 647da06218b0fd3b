//! What a scenario is made of: facts in, acts out, no socket and no clock.

use std::fmt::Debug;
use std::time::Duration;

use bytes::Bytes;
use handfast_wire::Kind;

use crate::voice::Voice;

/// A frame of the target's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard<'a> {
    /// Its command, if it is one that we know.
    pub kind: Option<Kind>,
    /// What it carries.
    pub payload: &'a [u8],
}

/// What a connection is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// It is established.
    Connected,
    /// A frame came, its checksum not looked at.
    Heard(Heard<'a>),
    /// Bytes came that are not of the P2P protocol; see [`Door::Rpc`].
    Raw(&'a [u8]),
    /// The time has come that it asked for with [`Act::Wake`].
    Due,
    /// All who were awaited are at the barrier.
    Opened,
}

/// What a connection does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Writes these bytes after those that wait to be written.
    Send(Bytes),
    /// Wants [`Event::Due`] so long from now, instead of any time it asked for before.
    Wake(Duration),
    /// Waits at the barrier for the others.
    Gather,
    /// The target's answer is not what it should be. The connection goes on.
    Complain(Wrong),
    /// Ends. Nothing follows.
    Leave(Leave),
}

/// How a connection is ended from our side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Leave {
    /// Everything is written, then our half is closed and the target's end awaited.
    Orderly,
    /// What has not been written yet is lost; the target finds the connection closed.
    Drop,
    /// By a reset: both sides lose what is on its way.
    Reset,
}

/// An answer that came, and was wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Wrong {
    /// An HTTP status other than 200.
    Status(u16),
    /// Status 503 and, by `Retry-After`, when to come again: the target says that there are
    /// too many calls, and does so well.
    Later,
    /// No HTTP.
    NoHttp,
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// Before it is established.
    Connecting,
    /// Up to the target's `verack`.
    Handshake,
    /// Afterwards.
    Ready,
    /// Our half is closed; the target's is awaited.
    Closing,
}

/// What a well target does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// It answers, soon, and does not close.
    Answer(Stage),
    /// It may answer, close, or do nothing: the scenario gave it reason to.
    Anything,
}

/// Which socket of the target's a connection goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Door {
    /// That for peers.
    P2p,
    /// That for RPC calls.
    Rpc,
}

/// One connection's part. Its acts depend on its seed and on what it is told, on nothing else.
pub trait Machine: Debug + Send {
    /// Takes a fact; says by `voice` what to do.
    fn step(&mut self, event: Event<'_>, voice: &mut Voice<'_>);

    /// What the target owes at the moment.
    fn expect(&self) -> Expect;
}
