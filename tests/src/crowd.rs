//! Peers that are connected and stay: plain blocking sockets, one after the other, and nothing of
//! the fuzzer's engine. What is found with both is not the fault of one.

use std::io;
use std::net::SocketAddr;

use handfast_wire::{Message, Network};

use crate::connection::Connection;

/// See the module.
#[derive(Debug)]
pub struct Crowd(Vec<Connection>);

impl Crowd {
    /// Connects so many peers that claim `height`. Each has shaken hands and exchanged pings.
    ///
    /// # Errors
    /// The first that goes wrong.
    pub fn gather(
        target: SocketAddr,
        network: &Network,
        size: usize,
        height: usize,
    ) -> io::Result<Self> {
        let mut crowd = Self::connect(target, network, size, height)?;
        crowd.ping();
        Ok(crowd)
    }

    /// The same, of peers that have only completed the handshake.
    ///
    /// # Errors
    /// The first that goes wrong.
    pub fn connect(
        target: SocketAddr,
        network: &Network,
        size: usize,
        height: usize,
    ) -> io::Result<Self> {
        let dial = |_| Connection::dial_as(target, network, height, "/handfast-tests:crowd/");
        let peers: io::Result<Vec<Connection>> = (0..size).map(dial).collect();
        Ok(Self(peers?))
    }

    /// Peers that were connected.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each of them asks the node whether it is there, and answers what the node asks.
    ///
    /// # Panics
    /// If the node has closed one, or does not answer.
    pub fn ping(&mut self) {
        for (nonce, peer) in (1..).zip(&mut self.0) {
            let sent = peer.send(&Message::Ping(nonce));
            sent.expect("the node has not closed it");
            peer.expect("it answered a ping", |message| {
                (message == Message::Pong(nonce)).then_some(())
            });
        }
    }

    /// All leave at once, by turns in good order, by closing, and by a reset.
    ///
    /// # Panics
    /// If the node does not close behind those who leave in good order.
    pub fn leave(self) {
        let mut orderly = Vec::new();
        for (turn, peer) in self.0.into_iter().enumerate() {
            match turn % 3 {
                0 => orderly.push(peer.close_our_half()),
                1 => drop(peer),
                _ => peer.reset(),
            }
        }
        for mut peer in orderly {
            assert!(peer.is_closed_by_node(), "it keeps its side open");
        }
    }
}
