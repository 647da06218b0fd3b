//! Those who say too much.

use std::net::{Ipv4Addr, SocketAddr};

use bitcoin::p2p::ServiceFlags;
use bitcoin::p2p::address::Address;
use bitcoin::p2p::message_blockdata::Inventory;
use handfast_wire::limits::{MAX_ADDR, MAX_INV};
use handfast_wire::{Kind, Message};

use super::behaviour::Behaviour;
use super::machine::{Heard, Leave};
use super::syncing::random_hash;
use super::visit::ping;
use crate::voice::Voice;

/// What there is too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flood {
    /// Addresses, as many as a message holds, several times.
    Addr,
    /// Pings, each of which wants an answer.
    Ping,
    /// Announcements of blocks that nobody has.
    Inv,
    /// Requests for blocks that nobody has.
    GetData,
}

/// A peer that floods.
#[derive(Debug)]
pub(super) struct Flooding {
    flood: Flood,
    /// Pings without an answer.
    unanswered: u64,
}

impl Flooding {
    pub(super) fn new(flood: Flood) -> Self {
        Self {
            flood,
            unanswered: 0,
        }
    }
}

impl Behaviour for Flooding {
    fn ready(&mut self, voice: &mut Voice<'_>) {
        match self.flood {
            Flood::Addr => {
                for _ in 0..voice.dice.pick(1..10) {
                    addresses(voice);
                }
            }
            Flood::Ping => {
                self.unanswered = voice.dice.pick(50..500);
                for _ in 0..self.unanswered {
                    ping(voice);
                }
            }
            Flood::Inv | Flood::GetData => {
                for _ in 0..voice.dice.pick(1..4) {
                    hashes(self.flood, voice);
                }
            }
        }
        let stay = voice.dice.time(100..2_000);
        voice.wake(stay);
    }

    fn heard(&mut self, heard: Heard<'_>, voice: &mut Voice<'_>) {
        if heard.kind == Some(Kind::Pong) {
            self.unanswered = self.unanswered.saturating_sub(1);
            if self.flood == Flood::Ping && self.unanswered == 0 {
                voice.leave(Leave::Orderly);
            }
        }
    }
}

/// A full `addr` of hosts in the documentation networks (RFC 5737), which nobody dials.
fn addresses(voice: &mut Voice<'_>) {
    let time = voice.phrases.dialect.time;
    let list = (0..MAX_ADDR).map(|_| {
        let host = u8::try_from(voice.dice.pick(1..255)).expect("a byte");
        let network = match voice.dice.pick(0..3) {
            0 => Ipv4Addr::new(192, 0, 2, host),
            1 => Ipv4Addr::new(198, 51, 100, host),
            _ => Ipv4Addr::new(203, 0, 113, host),
        };
        let port = u16::try_from(voice.dice.pick(1..65_536)).expect("a port");
        let address = SocketAddr::from((network, port));
        (time, Address::new(&address, ServiceFlags::NETWORK))
    });
    let list = list.collect();
    voice.say(&Message::Addr(list));
}

/// A full list of random block hashes.
fn hashes(flood: Flood, voice: &mut Voice<'_>) {
    let list = (0..MAX_INV)
        .map(|_| Inventory::WitnessBlock(random_hash(voice.dice)))
        .collect();
    voice.say(&match flood {
        Flood::GetData => Message::GetData(list),
        Flood::Addr | Flood::Ping | Flood::Inv => Message::Inv(list),
    });
}
