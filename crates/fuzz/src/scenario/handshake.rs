//! The handshake of many scenarios, and a ping to see that it holds.

use handfast_wire::{Kind, Message};

use super::machine::{Expect, ReceivedFrame, Stage};
use crate::writer::{Memory, Writer};

/// Where the nonce is in the payload of a `version`.
const NONCE_AT: usize = 72;

/// What a received frame has completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reached {
    /// Both sides have sent `version` and `verack`.
    Ready,
    /// The target has answered our ping as well.
    Settled,
}

/// The handshake of an honest peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Handshake {
    /// The target's `verack` was received.
    handshake_done: bool,
    /// Our ping is answered.
    settled: bool,
    /// The scenario sends our `verack`.
    verack_is_sent_elsewhere: bool,
}

impl Handshake {
    /// A handshake whose `verack` the scenario sends.
    pub(super) fn with_its_own_verack() -> Self {
        Self {
            verack_is_sent_elsewhere: true,
            ..Self::default()
        }
    }

    /// Handles a frame as an honest peer does; returns what it has completed.
    pub(super) fn receive(
        &mut self,
        received: ReceivedFrame<'_>,
        writer: &mut Writer<'_>,
    ) -> Option<Reached> {
        match received.kind {
            Some(Kind::Version) => {
                remember_nonce(writer.memory, received.payload);
                if !self.verack_is_sent_elsewhere {
                    writer.verack();
                }
                None
            }
            Some(Kind::Verack) if !self.handshake_done => {
                self.handshake_done = true;
                Some(Reached::Ready)
            }
            Some(Kind::Ping) => {
                if let Some(nonce) = number(received.payload) {
                    writer.send(&Message::Pong(nonce));
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

    /// What an honest peer that sends its ping as soon as possible expects.
    pub(super) fn expect(&self) -> Expect {
        Expect::Answer(match self.handshake_done {
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
pub(super) fn ping(writer: &mut Writer<'_>) {
    let nonce = writer.rng.any();
    writer.send(&Message::Ping(nonce));
}
