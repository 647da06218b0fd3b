//! Peers that send too much.

use std::net::{Ipv4Addr, SocketAddr};

use bitcoin::p2p::ServiceFlags;
use bitcoin::p2p::address::Address;
use bitcoin::p2p::message_blockdata::Inventory;
use handfast_wire::limits::{MAX_ADDR, MAX_INV};
use handfast_wire::{Kind, Message};

use super::behaviour::Behaviour;
use super::handshake::ping;
use super::machine::{Leave, ReceivedFrame};
use super::syncing::random_hash;
use crate::writer::Writer;

/// The kind of message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flood {
    /// Addresses, as many as a message holds, several times.
    Addr,
    /// Pings, each of which is to be answered.
    Ping,
    /// Announcements of unknown blocks.
    Inv,
    /// Requests for unknown blocks.
    GetData,
}

/// A peer that floods.
#[derive(Debug)]
pub(super) struct Flooding {
    flood: Flood,
    /// Pings that are not answered yet.
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
    fn ready(&mut self, writer: &mut Writer<'_>) {
        match self.flood {
            Flood::Addr => {
                for _ in 0..writer.rng.pick(1..10) {
                    addresses(writer);
                }
            }
            Flood::Ping => {
                self.unanswered = writer.rng.pick(50..500);
                for _ in 0..self.unanswered {
                    ping(writer);
                }
            }
            Flood::Inv | Flood::GetData => {
                for _ in 0..writer.rng.pick(1..4) {
                    hashes(self.flood, writer);
                }
            }
        }
        let stay = writer.rng.time(100..2_000);
        writer.wake(stay);
    }

    fn received(&mut self, received: ReceivedFrame<'_>, writer: &mut Writer<'_>) {
        if received.kind == Some(Kind::Pong) {
            self.unanswered = self.unanswered.saturating_sub(1);
            if self.flood == Flood::Ping && self.unanswered == 0 {
                writer.leave(Leave::Orderly);
            }
        }
    }
}

/// A full `addr` of hosts in the documentation networks (RFC 5737), which are never dialled.
fn addresses(writer: &mut Writer<'_>) {
    let time = writer.frame_set.params.time;
    let list = (0..MAX_ADDR).map(|_| {
        let host = u8::try_from(writer.rng.pick(1..255)).expect("a byte");
        let network = match writer.rng.pick(0..3) {
            0 => Ipv4Addr::new(192, 0, 2, host),
            1 => Ipv4Addr::new(198, 51, 100, host),
            _ => Ipv4Addr::new(203, 0, 113, host),
        };
        let port = u16::try_from(writer.rng.pick(1..65_536)).expect("a port");
        let address = SocketAddr::from((network, port));
        (time, Address::new(&address, ServiceFlags::NETWORK))
    });
    let list = list.collect();
    writer.send(&Message::Addr(list));
}

/// A full list of random block hashes.
fn hashes(flood: Flood, writer: &mut Writer<'_>) {
    let list = (0..MAX_INV)
        .map(|_| Inventory::WitnessBlock(random_hash(writer.rng)))
        .collect();
    writer.send(&match flood {
        Flood::GetData => Message::GetData(list),
        Flood::Addr | Flood::Ping | Flood::Inv => Message::Inv(list),
    });
}
