//! A scenario's machine: events in, actions out, no socket and no clock.

use std::fmt::Debug;
use std::time::Duration;

use bytes::Bytes;
use handfast_wire::Kind;

use crate::writer::Writer;

/// A frame of the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceivedFrame<'a> {
    /// Its command, if known.
    pub kind: Option<Kind>,
    /// Its payload.
    pub payload: &'a [u8],
}

/// An event of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// It is established.
    Connected,
    /// A frame was received; its checksum is not verified.
    Frame(ReceivedFrame<'a>),
    /// Bytes of another protocol were received; see [`Interface::Rpc`].
    Raw(&'a [u8]),
    /// The timer of [`Act::Wake`] fired.
    Due,
    /// The barrier opened.
    Opened,
}

/// An action of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Writes these bytes after those that wait to be written.
    Send(Bytes),
    /// Sets the timer of [`Event::Due`], replacing an earlier one.
    Wake(Duration),
    /// Waits at the barrier.
    Gather,
    /// Reports a wrong answer. The connection goes on.
    ReportWrong(Wrong),
    /// Disconnects. Nothing follows.
    Leave(Leave),
}

/// How we disconnect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Leave {
    /// Everything is written, then our half is closed and the target's close awaited.
    Orderly,
    /// Unsent bytes are dropped; the target finds the connection closed.
    Drop,
    /// By a reset: both sides lose what is on its way.
    Reset,
}

/// A wrong answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Wrong {
    /// An HTTP status other than 200.
    Status(u16),
    /// Status 503 with `Retry-After`: a correct refusal under load.
    Later,
    /// No HTTP.
    NoHttp,
}

/// The stage of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// Before it is established.
    Connecting,
    /// Before the target's `verack`.
    Handshake,
    /// After it.
    Ready,
    /// Our half is closed; the target's close is awaited.
    Closing,
}

/// What a correct target does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// It answers, soon, and does not close.
    Answer(Stage),
    /// It may answer, close, or do nothing: the scenario gave it reason to.
    Anything,
}

/// The target's socket that a connection uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Interface {
    /// P2P.
    P2p,
    /// RPC.
    Rpc,
}

/// The machine of one connection. Its actions depend on its seed and its events only.
pub trait Machine: Debug + Send {
    /// Handles an event; adds actions to `writer`.
    fn step(&mut self, event: Event<'_>, writer: &mut Writer<'_>);

    /// What is expected of the target at the moment.
    fn expect(&self) -> Expect;
}
