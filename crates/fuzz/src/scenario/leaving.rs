//! Peers that disconnect at every stage of a connection.

use std::time::Duration;

use super::handshake::{Handshake, Reached, ping};
use super::machine::{Event, Expect, Leave, Machine, Stage};
use crate::writer::Writer;

/// When and how a peer disconnects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    /// On the target's `verack`: ours is sent and the socket closed at once, so that the target
    /// learns of the peer and of its disconnection together.
    OnVerack,
    /// On the target's `verack`, without ours: it never was a peer.
    BeforeVerack,
    /// Only our `version` is sent; it stays a while, then resets.
    HalfOpen,
    /// Once settled, orderly; everything is sent in one write.
    Pipelined,
    /// Once settled, by a reset.
    ResetWhenSettled,
    /// Once all are settled, all together.
    Together,
    /// Once settled, orderly.
    Orderly,
}

/// A peer that disconnects.
#[derive(Debug)]
pub(super) struct Leaving {
    moment: Moment,
    handshake: Handshake,
    /// No answer is expected any more: it waits for its timer, or for the others.
    waits: bool,
}

impl Leaving {
    pub(super) fn new(moment: Moment) -> Self {
        let handshake = match moment {
            Moment::Orderly | Moment::ResetWhenSettled | Moment::Together => Handshake::default(),
            Moment::OnVerack | Moment::BeforeVerack | Moment::HalfOpen | Moment::Pipelined => {
                Handshake::with_its_own_verack()
            }
        };
        Self {
            moment,
            handshake,
            waits: false,
        }
    }

    fn begin(&mut self, writer: &mut Writer<'_>) {
        writer.version();
        match self.moment {
            Moment::Pipelined => {
                writer.verack();
                ping(writer);
            }
            Moment::HalfOpen => {
                let stay = writer.rng.time(50..3_000);
                writer.wake(stay);
                self.waits = true;
            }
            Moment::OnVerack
            | Moment::BeforeVerack
            | Moment::ResetWhenSettled
            | Moment::Together
            | Moment::Orderly => {}
        }
    }

    fn reached(&mut self, reached: Reached, writer: &mut Writer<'_>) {
        match (self.moment, reached) {
            (Moment::OnVerack, Reached::Ready) => {
                writer.verack();
                writer.leave(Leave::Drop);
            }
            (Moment::BeforeVerack, Reached::Ready) => writer.leave(Leave::Drop),
            (Moment::ResetWhenSettled | Moment::Together | Moment::Orderly, Reached::Ready) => {
                ping(writer)
            }
            (Moment::Pipelined | Moment::Orderly, Reached::Settled) => {
                writer.leave(Leave::Orderly);
            }
            (Moment::ResetWhenSettled, Reached::Settled) => writer.leave(Leave::Reset),
            (Moment::Together, Reached::Settled) => {
                self.waits = true;
                writer.gather();
            }
            (Moment::Pipelined | Moment::HalfOpen, Reached::Ready)
            | (Moment::OnVerack | Moment::BeforeVerack | Moment::HalfOpen, Reached::Settled) => {}
        }
    }
}

impl Machine for Leaving {
    fn step(&mut self, event: Event<'_>, writer: &mut Writer<'_>) {
        match event {
            Event::Connected => self.begin(writer),
            Event::Frame(received) => {
                if let Some(reached) = self.handshake.receive(received, writer) {
                    self.reached(reached, writer);
                }
            }
            Event::Opened => writer.leave_randomly(),
            Event::Due => writer.leave(Leave::Reset),
            Event::Raw(_) => {}
        }
    }

    fn expect(&self) -> Expect {
        match self.waits {
            true => Expect::Anything,
            false => self.handshake.expect(),
        }
    }
}

/// Sends its `verack` at the target's handshake timeout.
///
/// A node that reports a timeout and a completed handshake on separate paths reports both for
/// this peer.
/// two stories of this peer.
#[derive(Debug)]
pub(super) struct AtTheDeadline {
    handshake: Handshake,
    verack_sent: bool,
}

impl AtTheDeadline {
    /// How far before and after the timeout the `verack` may be sent.
    const AROUND: Duration = Duration::from_millis(60);

    pub(super) fn new() -> Self {
        Self {
            handshake: Handshake::with_its_own_verack(),
            verack_sent: false,
        }
    }
}

impl Machine for AtTheDeadline {
    fn step(&mut self, event: Event<'_>, writer: &mut Writer<'_>) {
        match event {
            Event::Connected => {
                writer.version();
                let earliest = writer
                    .params()
                    .handshake_deadline
                    .saturating_sub(Self::AROUND);
                let width = u64::try_from(2 * Self::AROUND.as_millis()).unwrap_or(1);
                let wait = earliest + writer.rng.time(0..width);
                writer.wake(wait);
            }
            Event::Frame(received) => {
                let _ = self.handshake.receive(received, writer);
            }
            Event::Due if self.verack_sent => writer.leave_randomly(),
            Event::Due => {
                self.verack_sent = true;
                writer.verack();
                let stay = writer.rng.time(0..20);
                writer.wake(stay);
            }
            Event::Opened | Event::Raw(_) => {}
        }
    }

    /// It may be disconnected at any moment.
    fn expect(&self) -> Expect {
        Expect::Anything
    }
}

/// Connects and sends nothing, or too little.
#[derive(Debug)]
pub(super) struct Silent;

impl Machine for Silent {
    fn step(&mut self, event: Event<'_>, writer: &mut Writer<'_>) {
        match event {
            Event::Connected => {
                let stay = writer.rng.time(200..5_000);
                writer.wake(stay);
            }
            Event::Due => writer.leave_randomly(),
            Event::Frame(_) | Event::Opened | Event::Raw(_) => {}
        }
    }

    fn expect(&self) -> Expect {
        Expect::Anything
    }
}

/// Sends a handshake byte by byte.
#[derive(Debug, Default)]
pub(super) struct SlowLoris {
    /// The bytes left to send.
    rest: bytes::Bytes,
    handshake: Handshake,
    /// Bytes after which it stops.
    gives_up_after: u64,
}

impl SlowLoris {
    fn next_byte(&mut self, writer: &mut Writer<'_>) {
        if self.rest.is_empty() || self.gives_up_after == 0 {
            return writer.leave_randomly();
        }
        self.gives_up_after -= 1;
        let byte = self.rest.split_to(1);
        writer.raw(byte);
        let pause = writer.rng.time(5..40);
        writer.wake(pause);
    }
}

impl Machine for SlowLoris {
    fn step(&mut self, event: Event<'_>, writer: &mut Writer<'_>) {
        match event {
            Event::Connected => {
                self.gives_up_after = writer.rng.pick(1..200);
                let before = writer.acts.len();
                writer.version();
                writer.verack();
                ping(writer);
                self.rest = super::said_since(before, writer);
                self.handshake = Handshake::with_its_own_verack();
                self.next_byte(writer);
            }
            Event::Due => self.next_byte(writer),
            Event::Frame(received) => {
                let _ = self.handshake.receive(received, writer);
            }
            Event::Opened | Event::Raw(_) => {}
        }
    }

    fn expect(&self) -> Expect {
        Expect::Anything
    }
}

/// The stage of a machine without a handshake.
pub(super) const READY: Expect = Expect::Answer(Stage::Ready);
