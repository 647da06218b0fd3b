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
use crate::handshake_permits::HandshakePermits;
use crate::lifecycle::ConnectionParams;
use crate::peer::{self, PeerContext};
use crate::peer_socket::PeerSocket;
use crate::shared::Shared;
use crate::slots::{Slot, Slots};

/// Gives ids and places, counts sockets, and hands connections to the `net` arbiters in
/// turn. Made on the `listener` arbiter, and never leaves it.
#[derive(Clone, Debug)]
pub(crate) struct Acceptor {
    pub(crate) slots: Slots,
    bans: Arc<ArcSwap<BanList>>,
    context: Arc<PeerContext>,
    net: Rc<[ArbiterHandle]>,
    handshakes: Rc<RefCell<HandshakePermits>>,
    pub(crate) events: Arc<EventCounters>,
}

impl Acceptor {
    pub(crate) fn new(
        shared: &Shared,
        context: Arc<PeerContext>,
        net: Vec<ArbiterHandle>,
        handshakes: HandshakePermits,
    ) -> Self {
        Self {
            slots: shared.slots.clone(),
            bans: shared.bans.clone(),
            context,
            net: net.into(),
            handshakes: Rc::new(RefCell::new(handshakes)),
            events: shared.events.clone(),
        }
    }

    /// Whether the operator banned this address. PeerManager would refuse it too, but
    /// only after a handshake.
    pub(crate) fn is_banned(&self, remote: SocketAddr) -> bool {
        let bans = self.bans.load();
        !bans.is_empty() && bans.is_banned(remote.ip(), self.context.clock.now())
    }

    /// An accepted socket, with the slot that was taken for it. Like every socket
    /// that comes here it does not block, and does not wait for more to send (`TCP_NODELAY`).
    pub(crate) fn accepted(&self, socket: TcpStream, remote: SocketAddr, slot: Slot) {
        let params = self.params(Direction::Inbound, remote, slot);
        self.begin(socket, params);
    }

    /// The node stops: connections in the handshake end, and whatever comes now does too.
    pub(crate) fn close(&self) {
        self.handshakes.borrow_mut().close();
    }

    /// A socket that we connected, with the slot that was taken for it.
    pub(crate) fn dialled(
        &self,
        socket: TcpStream,
        direction: Direction,
        remote: SocketAddr,
        slot: Slot,
    ) {
        let params = self.params(direction, remote, slot);
        self.begin(socket, params);
    }

    fn params(&self, direction: Direction, remote: SocketAddr, slot: Slot) -> ConnectionParams {
        let (group, now) = (Group::of(remote.ip()), self.context.clock.now().mono);
        let (id, permit) = self.handshakes.borrow_mut().enter(direction, group, now);
        ConnectionParams {
            id,
            local: None,
            direction,
            remote,
            slot,
            permit,
            open: self.slots.open(),
        }
    }

    /// Moves the socket to its arbiter, where it becomes a `Peer`. When that
    /// arbiter has ended the slot is freed with the socket: no manager ever
    /// heard of this connection.
    fn begin(&self, socket: TcpStream, params: ConnectionParams) {
        let turn = usize::try_from(params.id.0).unwrap_or(0) % self.net.len();
        let context = self.context.clone();
        self.net[turn].spawn_fn(move || {
            let local = socket.local_addr().ok();
            let params = ConnectionParams { local, ..params };
            match tokio::net::TcpStream::from_std(socket) {
                Ok(socket) => {
                    // Not `into_split`: its write half shuts the socket down when it is
                    // dropped, one more system call where closing it does the same.
                    let (read, write) = tokio::io::split(PeerSocket::new(socket));
                    peer::spawn(context, params, read, write);
                }
                Err(error) => peer::failed_setup(&context, params, &error),
            }
        });
    }
}
