//! Scenarios that shake hands as an honest peer does, and then do one thing.

use std::fmt::Debug;

use super::machine::{Event, Expect, Heard, Machine};
use super::visit::{Reached, Visit};
use crate::voice::Voice;

/// What a connection does once its handshake is complete. Until then it is an honest peer, to
/// which the target owes an answer; from then on the target may answer, close, or do nothing.
pub(super) trait Behaviour: Debug + Send {
    /// Sends the `version`, with what it claims.
    fn version(&mut self, voice: &mut Voice<'_>) {
        voice.version();
    }

    /// Whether the handshake is left out, by the seed: [`Self::ready`] then follows at once,
    /// and nothing that the target sends is looked at.
    fn skips_the_handshake(&mut self, _: &mut Voice<'_>) -> bool {
        false
    }

    /// The handshake is complete. Asks for a time at which it is over.
    fn ready(&mut self, voice: &mut Voice<'_>);

    /// A frame came after the handshake. Pings are answered already.
    fn heard(&mut self, _: Heard<'_>, _: &mut Voice<'_>) {}

    /// The time that was asked for has come.
    fn due(&mut self, voice: &mut Voice<'_>) {
        voice.leave_somehow();
    }
}

/// Drives a [`Behaviour`] as a [`Machine`].
#[derive(Debug)]
pub(super) struct AfterHandshake<B> {
    behaviour: B,
    visit: Visit,
    /// The handshake was left out.
    skipped: bool,
    /// The handshake is complete, or was left out.
    ready: bool,
}

impl<B: Behaviour> AfterHandshake<B> {
    pub(super) fn new(behaviour: B) -> Self {
        Self {
            behaviour,
            visit: Visit::default(),
            skipped: false,
            ready: false,
        }
    }

    fn ready(&mut self, voice: &mut Voice<'_>) {
        self.ready = true;
        self.behaviour.ready(voice);
    }
}

impl<B: Behaviour> Machine for AfterHandshake<B> {
    fn step(&mut self, event: Event<'_>, voice: &mut Voice<'_>) {
        match event {
            Event::Connected => {
                self.skipped = self.behaviour.skips_the_handshake(voice);
                match self.skipped {
                    true => self.ready(voice),
                    false => self.behaviour.version(voice),
                }
            }
            Event::Heard(heard) if !self.skipped => match self.visit.hear(heard, voice) {
                Some(Reached::Ready) => self.ready(voice),
                Some(Reached::Settled) | None if self.ready => self.behaviour.heard(heard, voice),
                Some(Reached::Settled) | None => {}
            },
            Event::Due => self.behaviour.due(voice),
            Event::Heard(_) | Event::Opened | Event::Raw(_) => {}
        }
    }

    fn expect(&self) -> Expect {
        match self.ready {
            true => Expect::Anything,
            false => self.visit.expect(),
        }
    }
}
