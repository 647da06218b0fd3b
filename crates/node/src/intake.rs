//! Where sockets become connections: shared by `Listener` and `Connector`.

use std::cell::RefCell;
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::Arc;

use actix_rt::ArbiterHandle;
use arc_swap::ArcSwap;
use handfast_proto::address_book::Group;
use handfast_proto::bans::BanList;
use handfast_proto::lifecycle::Direction;

use crate::event_counts::EventCounters;
use crate::lifecycle::Birth;
use crate::peer::{self, Surroundings};
use crate::peer_socket::PeerSocket;
use crate::room::Room;
use crate::shared::Shared;
use crate::slots::{Slot, Slots};

/// Gives ids and places, counts sockets, and hands connections to the `net` arbiters in
/// turn. Made on the `listener` arbiter, and never leaves it.
#[derive(Clone, Debug)]
pub(crate) struct Intake {
    pub(crate) slots: Slots,
    bans: Arc<ArcSwap<BanList>>,
    around: Arc<Surroundings>,
    net: Rc<[ArbiterHandle]>,
    room: Rc<RefCell<Room>>,
    pub(crate) events: Arc<EventCounters>,
}

impl Intake {
    pub(crate) fn new(
        shared: &Shared,
        around: Arc<Surroundings>,
        net: Vec<ArbiterHandle>,
        room: Room,
    ) -> Self {
        Self {
            slots: shared.slots.clone(),
            bans: shared.bans.clone(),
            around,
            net: net.into(),
            room: Rc::new(RefCell::new(room)),
            events: shared.events.clone(),
        }
    }

    /// Whether the operator banned this address. PeerManager would refuse it too, but
    /// only after a handshake.
    pub(crate) fn is_banned(&self, remote: SocketAddr) -> bool {
        let bans = self.bans.load();
        !bans.is_empty() && bans.is_banned(remote.ip(), self.around.clock.now())
    }

    /// An accepted socket, with the slot that was taken for it. Like every socket
    /// that comes here it does not block, and does not wait for more to send (`TCP_NODELAY`).
    pub(crate) fn accepted(&self, socket: TcpStream, remote: SocketAddr, slot: Slot) {
        let birth = self.birth(Direction::Inbound, remote, slot);
        self.begin(socket, birth);
    }

    /// The node stops: connections in the handshake end, and whatever comes now does too.
    pub(crate) fn close(&self) {
        self.room.borrow_mut().close();
    }

    /// A socket that we connected, with the slot that was taken for it.
    pub(crate) fn dialled(
        &self,
        socket: TcpStream,
        direction: Direction,
        remote: SocketAddr,
        slot: Slot,
    ) {
        let birth = self.birth(direction, remote, slot);
        self.begin(socket, birth);
    }

    fn birth(&self, direction: Direction, remote: SocketAddr, slot: Slot) -> Birth {
        let (group, now) = (Group::of(remote.ip()), self.around.clock.now().mono);
        let (id, place) = self.room.borrow_mut().enter(direction, group, now);
        Birth {
            id,
            local: None,
            direction,
            remote,
            slot,
            place,
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
            let local = socket.local_addr().ok();
            let birth = Birth { local, ..birth };
            match tokio::net::TcpStream::from_std(socket) {
                Ok(socket) => {
                    // Not `into_split`: its write half shuts the socket down when it is
                    // dropped, one more system call where closing it does the same.
                    let (read, write) = tokio::io::split(PeerSocket::new(socket));
                    peer::spawn(around, birth, read, write);
                }
                Err(error) => peer::stillborn(&around, birth, &error),
            }
        });
    }
}
