//! Where sockets become connections: shared by `Listener` and `Connector`.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use actix_rt::ArbiterHandle;
use arc_swap::ArcSwap;
use handfast_proto::bans::BanList;
use handfast_proto::lifecycle::{ConnId, Direction};

use crate::lifecycle::Birth;
use crate::peer::{self, Surroundings};
use crate::shared::Shared;
use crate::slots::{HandshakeSlot, Slot, Slots};

/// Gives ids, counts sockets, and hands connections to the `net` arbiters in turn.
#[derive(Clone, Debug)]
pub(crate) struct Intake {
    pub(crate) slots: Slots,
    bans: Arc<ArcSwap<BanList>>,
    around: Arc<Surroundings>,
    net: Arc<[ArbiterHandle]>,
    /// Never given twice (L1).
    next_id: Arc<AtomicU64>,
}

impl Intake {
    pub(crate) fn new(shared: &Shared, around: Arc<Surroundings>, net: &[ArbiterHandle]) -> Self {
        Self {
            slots: shared.slots.clone(),
            bans: shared.bans.clone(),
            around,
            net: net.into(),
            next_id: Arc::default(),
        }
    }

    /// Whether the operator banned this address. PeerManager would refuse it too, but
    /// only after a handshake.
    pub(crate) fn is_banned(&self, remote: SocketAddr) -> bool {
        let bans = self.bans.load();
        !bans.is_empty() && bans.is_banned(remote.ip(), self.around.clock.now())
    }

    /// An accepted socket, with the slots that were taken for it. Like every socket
    /// that comes here it does not block, and does not wait for more to send (`TCP_NODELAY`).
    pub(crate) fn accepted(
        &self,
        socket: TcpStream,
        remote: SocketAddr,
        slot: Slot,
        handshake: HandshakeSlot,
    ) {
        let birth = self.birth(Direction::Inbound, remote, slot, Some(handshake));
        self.begin(socket, birth);
    }

    /// A socket that we connected, with the slot that was taken for it.
    pub(crate) fn dialled(
        &self,
        socket: TcpStream,
        direction: Direction,
        remote: SocketAddr,
        slot: Slot,
    ) {
        let birth = self.birth(direction, remote, slot, None);
        self.begin(socket, birth);
    }

    fn birth(
        &self,
        direction: Direction,
        remote: SocketAddr,
        slot: Slot,
        handshake: Option<HandshakeSlot>,
    ) -> Birth {
        let id = ConnId(self.next_id.fetch_add(1, Ordering::Relaxed));
        Birth {
            id,
            direction,
            remote,
            slot,
            handshake,
            open: self.slots.open(),
        }
    }

    /// Moves the socket to its arbiter, where it becomes a `Peer`. When that
    /// arbiter has ended the slot goes home with the socket: no manager ever
    /// heard of this connection.
    fn begin(&self, socket: TcpStream, birth: Birth) {
        let turn = usize::try_from(birth.id.0).unwrap_or(0) % self.net.len();
        let around = self.around.clone();
        self.net[turn].spawn_fn(move || {
            match tokio::net::TcpStream::from_std(socket) {
                Ok(socket) => {
                    // Not `into_split`: its write half shuts the socket down when it is
                    // dropped, one more system call where closing it does the same.
                    let (read, write) = tokio::io::split(socket);
                    peer::spawn(around, birth, read, write);
                }
                Err(error) => peer::stillborn(&around, birth, &error),
            }
        });
    }
}
