//! Handshakes that say a thing twice, or say what is somebody else's.

use super::machine::{Event, Expect, Leave, Machine};
use super::visit::{Reached, Visit, ping};
use crate::voice::Voice;

/// What is odd about a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Twist {
    /// A second `verack` when the first has been taken. Changes nothing, by the protocol.
    Verack,
    /// A second `version`, at once or later. Core ignores it, others disconnect.
    Version,
    /// The nonce that the target itself has used: it must take us for itself, or not care;
    /// never hang.
    Nonce,
}

/// A peer with an odd handshake, which then does as others do.
#[derive(Debug)]
pub(super) struct Twisted {
    twist: Twist,
    visit: Visit,
    /// Said that for which it may be shown the door.
    provoked: bool,
}

impl Twisted {
    pub(super) fn new(twist: Twist) -> Self {
        Self {
            twist,
            visit: Visit::default(),
            provoked: false,
        }
    }

    fn begin(&mut self, voice: &mut Voice<'_>) {
        match (self.twist, voice.memory.nonce) {
            (Twist::Nonce, Some(nonce)) => {
                self.provoked = true;
                voice.version_with_nonce(nonce);
            }
            (Twist::Version, _) if voice.dice.pick(0..2) == 0 => {
                self.provoked = true;
                voice.version();
                voice.version();
            }
            // Without a nonce to repeat it learns one.
            (Twist::Nonce, None) | (Twist::Version | Twist::Verack, _) => voice.version(),
        }
        // If the target falls silent about it, we leave by ourselves.
        let patience = voice.dice.time(1_000..3_000);
        voice.wake(patience);
    }

    fn ready(&mut self, voice: &mut Voice<'_>) {
        match self.twist {
            Twist::Verack => voice.verack(),
            Twist::Version if !self.provoked => {
                self.provoked = true;
                voice.version();
            }
            Twist::Version | Twist::Nonce => {}
        }
        ping(voice);
    }
}

impl Machine for Twisted {
    fn step(&mut self, event: Event<'_>, voice: &mut Voice<'_>) {
        match event {
            Event::Connected => self.begin(voice),
            Event::Heard(heard) => match self.visit.hear(heard, voice) {
                Some(Reached::Ready) => self.ready(voice),
                Some(Reached::Settled) => voice.leave_somehow(),
                None => {}
            },
            Event::Due if self.provoked => voice.leave(Leave::Drop),
            Event::Due | Event::Opened | Event::Raw(_) => {}
        }
    }

    fn expect(&self) -> Expect {
        match self.provoked {
            true => Expect::Anything,
            false => self.visit.expect(),
        }
    }
}
