//! Handshakes with a repeated message, or with another peer's nonce.

use super::handshake::{Handshake, Reached, ping};
use super::machine::{Event, Expect, Leave, Machine};
use crate::writer::Writer;

/// What is wrong with a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Twist {
    /// A second `verack` after the first was accepted. It changes nothing, by the protocol.
    Verack,
    /// A second `version`, at once or later. Core ignores it, others disconnect.
    Version,
    /// The target's own nonce: it must detect a self-connection, or not care; never hang.
    Nonce,
}

/// A peer with a wrong handshake, which then behaves normally.
#[derive(Debug)]
pub(super) struct Twisted {
    twist: Twist,
    handshake: Handshake,
    /// It was sent: the target may disconnect.
    provoked: bool,
}

impl Twisted {
    pub(super) fn new(twist: Twist) -> Self {
        Self {
            twist,
            handshake: Handshake::default(),
            provoked: false,
        }
    }

    fn begin(&mut self, writer: &mut Writer<'_>) {
        match (self.twist, writer.memory.nonce) {
            (Twist::Nonce, Some(nonce)) => {
                self.provoked = true;
                writer.version_with_nonce(nonce);
            }
            (Twist::Version, _) if writer.rng.pick(0..2) == 0 => {
                self.provoked = true;
                writer.version();
                writer.version();
            }
            // Without a nonce to repeat it learns one.
            (Twist::Nonce, None) | (Twist::Version | Twist::Verack, _) => writer.version(),
        }
        // If the target falls silent, we disconnect.
        let answer_timeout = writer.rng.time(1_000..3_000);
        writer.wake(answer_timeout);
    }

    fn ready(&mut self, writer: &mut Writer<'_>) {
        match self.twist {
            Twist::Verack => writer.verack(),
            Twist::Version if !self.provoked => {
                self.provoked = true;
                writer.version();
            }
            Twist::Version | Twist::Nonce => {}
        }
        ping(writer);
    }
}

impl Machine for Twisted {
    fn step(&mut self, event: Event<'_>, writer: &mut Writer<'_>) {
        match event {
            Event::Connected => self.begin(writer),
            Event::Frame(received) => match self.handshake.receive(received, writer) {
                Some(Reached::Ready) => self.ready(writer),
                Some(Reached::Settled) => writer.leave_randomly(),
                None => {}
            },
            Event::Due if self.provoked => writer.leave(Leave::Drop),
            Event::Due | Event::Opened | Event::Raw(_) => {}
        }
    }

    fn expect(&self) -> Expect {
        match self.provoked {
            true => Expect::Anything,
            false => self.handshake.expect(),
        }
    }
}
