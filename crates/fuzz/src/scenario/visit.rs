//! What many scenarios begin with: a handshake, and a ping to see that it holds.

use handfast_wire::{Kind, Message};

use super::machine::{Expect, Heard, Stage};
use crate::voice::{Memory, NONCE_AT, Voice};

/// How far a visit has come with what was just heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reached {
    /// Both sides have sent `version` and `verack`.
    Ready,
    /// The target has answered our ping as well.
    Settled,
}

/// An honest peer's first steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Visit {
    /// The target's `verack` came.
    shaken: bool,
    /// Our ping is answered.
    settled: bool,
    /// Our `verack` is somebody else's business.
    verack_is_sent_elsewhere: bool,
}

impl Visit {
    /// One whose `verack` does not follow from the target's `version`.
    pub(super) fn with_its_own_verack() -> Self {
        Self {
            verack_is_sent_elsewhere: true,
            ..Self::default()
        }
    }

    /// Takes a frame, answers what an honest peer answers, and says if something was
    /// reached by it.
    pub(super) fn hear(&mut self, heard: Heard<'_>, voice: &mut Voice<'_>) -> Option<Reached> {
        match heard.kind {
            Some(Kind::Version) => {
                remember_nonce(voice.memory, heard.payload);
                if !self.verack_is_sent_elsewhere {
                    voice.verack();
                }
                None
            }
            Some(Kind::Verack) if !self.shaken => {
                self.shaken = true;
                Some(Reached::Ready)
            }
            Some(Kind::Ping) => {
                if let Some(nonce) = number(heard.payload) {
                    voice.say(&Message::Pong(nonce));
                }
                None
            }
            Some(Kind::Pong) if !self.settled => {
                self.settled = true;
                Some(Reached::Settled)
            }
            _ => None,
        }
    }

    /// What is owed to an honest visitor who has sent its ping as soon as it could.
    pub(super) fn expect(&self) -> Expect {
        Expect::Answer(match self.shaken {
            false => Stage::Handshake,
            true => Stage::Ready,
        })
    }
}

/// The first eight bytes as a number.
fn number(payload: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(*payload.first_chunk()?))
}

fn remember_nonce(memory: &mut Memory, version: &[u8]) {
    if let Some(nonce) = version.get(NONCE_AT..).and_then(number) {
        memory.nonce = Some(nonce);
    }
}

/// Sends a ping with a nonce from the seed.
pub(super) fn ping(voice: &mut Voice<'_>) {
    let nonce = voice.dice.any();
    voice.say(&Message::Ping(nonce));
}
