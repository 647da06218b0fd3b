//! Scenarios that complete the handshake as an honest peer does, and then do one thing.

use std::fmt::Debug;

use super::handshake::{Handshake, Reached};
use super::machine::{Event, Expect, Machine, ReceivedFrame};
use crate::writer::Writer;

/// What a connection does once its handshake is complete. Until then it is an honest peer, which
/// the target has to answer; from then on the target may answer, close, or do nothing.
pub(super) trait Behaviour: Debug + Send {
    /// Sends the `version`, with the height that it claims.
    fn version(&mut self, writer: &mut Writer<'_>) {
        writer.version();
    }

    /// Whether the handshake is skipped, by the seed: [`Self::ready`] then follows at once, and
    /// the target's messages are ignored.
    fn skips_the_handshake(&mut self, _: &mut Writer<'_>) -> bool {
        false
    }

    /// The handshake is complete. Sets a timer for its end.
    fn ready(&mut self, writer: &mut Writer<'_>);

    /// A frame was received after the handshake. Pings are answered already.
    fn received(&mut self, _: ReceivedFrame<'_>, _: &mut Writer<'_>) {}

    /// The timer fired.
    fn due(&mut self, writer: &mut Writer<'_>) {
        writer.leave_randomly();
    }
}

/// Drives a [`Behaviour`] as a [`Machine`].
#[derive(Debug)]
pub(super) struct AfterHandshake<B> {
    behaviour: B,
    handshake: Handshake,
    /// The handshake was skipped.
    skipped: bool,
    /// The handshake is complete, or was skipped.
    ready: bool,
}

impl<B: Behaviour> AfterHandshake<B> {
    pub(super) fn new(behaviour: B) -> Self {
        Self {
            behaviour,
            handshake: Handshake::default(),
            skipped: false,
            ready: false,
        }
    }

    fn ready(&mut self, writer: &mut Writer<'_>) {
        self.ready = true;
        self.behaviour.ready(writer);
    }
}

impl<B: Behaviour> Machine for AfterHandshake<B> {
    fn step(&mut self, event: Event<'_>, writer: &mut Writer<'_>) {
        match event {
            Event::Connected => {
                self.skipped = self.behaviour.skips_the_handshake(writer);
                match self.skipped {
                    true => self.ready(writer),
                    false => self.behaviour.version(writer),
                }
            }
            Event::Frame(received) if !self.skipped => {
                match self.handshake.receive(received, writer) {
                    Some(Reached::Ready) => self.ready(writer),
                    Some(Reached::Settled) | None if self.ready => {
                        self.behaviour.received(received, writer)
                    }
                    Some(Reached::Settled) | None => {}
                }
            }
            Event::Due => self.behaviour.due(writer),
            Event::Frame(_) | Event::Opened | Event::Raw(_) => {}
        }
    }

    fn expect(&self) -> Expect {
        match self.ready {
            true => Expect::Anything,
            false => self.handshake.expect(),
        }
    }
}
