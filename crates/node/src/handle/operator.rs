//! What an operator asks of the network for tests and diagnosis.

use std::net::SocketAddr;

use bytes::Bytes;
use handfast_proto::address_book::Row;
use handfast_proto::lifecycle::ConnId;
use handfast_proto::peer_table::{AddAddressError, AtCapacity};
use handfast_wire::{Network, Packet};

use super::NodeHandle;
use crate::view::Gone;

/// Why `addpeeraddress` changed nothing, or not all.
#[derive(Debug, thiserror::Error)]
pub enum AddAddressFailure {
    /// The node is not there to answer.
    #[error(transparent)]
    Gone(#[from] Gone),
    /// The book says no.
    #[error(transparent)]
    Refused(#[from] AddAddressError),
}

/// What is asked for is only for regtest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("for regression testing (-regtest mode) only")]
pub struct NotRegtest;

/// Why `addconnection` dialled no peer.
#[derive(Debug, thiserror::Error)]
pub enum ConnectFailure {
    /// The node is not there to answer.
    #[error(transparent)]
    Gone(#[from] Gone),
    /// All slots are taken.
    #[error(transparent)]
    AtCapacity(#[from] AtCapacity),
}

impl NodeHandle {
    /// Sets the clock of the consensus engine, of the machines and of the node to `unix`
    /// seconds, where it stands until it is set again; 0 gives it back to the system. All
    /// nodes of the process share it. Time-outs of connections run on the monotonic clock,
    /// which goes on.
    ///
    /// # Errors
    /// [`NotRegtest`]: elsewhere blocks are judged by the time that it is.
    pub fn set_time(&self, unix: u32) -> Result<(), NotRegtest> {
        if self.view().network != Network::Regtest {
            return Err(NotRegtest);
        }
        handfast_chain::clock::set(unix);
        Ok(())
    }

    /// Measures the round trip to every peer; [`PeerInfo::traffic`](super::PeerInfo::traffic) shows it when they have
    /// answered.
    ///
    /// # Errors
    /// [`Gone`] while the node starts and after it stopped.
    pub async fn ping(&self) -> Result<(), Gone> {
        self.ask_peers(|peers| peers.ping()).await
    }

    /// Switches the network on or off. Off: every peer is disconnected, a new connection is
    /// closed at once, no peer is dialled. Connections in the handshake end too.
    ///
    /// # Errors
    /// [`Gone`] while the node starts and after it stopped.
    pub async fn set_network_active(&self, active: bool) -> Result<(), Gone> {
        self.ask_peers(move |peers| peers.set_network_active(active))
            .await
    }

    /// The address book, by address; `good`: only what is worth telling and dialling.
    ///
    /// # Errors
    /// [`Gone`] while the node starts and after it stopped.
    pub async fn known_addresses(&self, good: bool) -> Result<Vec<Row>, Gone> {
        let now = self.shared.clock.now();
        self.ask_peers(move |peers| match good {
            true => peers.table.book().good_rows(now).collect(),
            false => peers.table.book().rows().collect(),
        })
        .await
    }

    /// Adds an address to the book as if it had announced itself; `tried`: as if we had been
    /// connected to it, too.
    ///
    /// # Errors
    /// The book's refusal, or [`Gone`].
    pub async fn add_address(
        &self,
        addr: SocketAddr,
        tried: bool,
    ) -> Result<(), AddAddressFailure> {
        self.ask_peers(move |peers| peers.answer(|table, now| table.add_address(now, addr, tried)))
            .await??;
        Ok(())
    }

    /// Dials an address once, as one that was chosen automatically.
    ///
    /// # Errors
    /// No slot is free, or [`Gone`].
    pub async fn connect(&self, addr: SocketAddr) -> Result<(), ConnectFailure> {
        self.ask_peers(move |peers| peers.answer(|table, now| table.connect(now, addr)))
            .await??;
        Ok(())
    }

    /// Sends any bytes as a message. `command`: at most 12 bytes of ASCII. False: no such
    /// peer, it does not read what we send, or no frame carries so much.
    ///
    /// # Errors
    /// [`Gone`] while the node starts and after it stopped.
    pub async fn send_raw(&self, id: ConnId, command: &str, body: Bytes) -> Result<bool, Gone> {
        let Some(packet) = Packet::new(command, body) else {
            return Ok(false);
        };
        self.ask_peers(move |peers| peers.send_packet(id, packet))
            .await
    }
}
