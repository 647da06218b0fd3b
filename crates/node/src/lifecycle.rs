//! The guard that reports the end of a connection, exactly once, whatever ends it.

use std::net::SocketAddr;

use actix::Recipient;
use handfast_proto::lifecycle::{
    ConnId, Direction, Disconnection, DoneReason, Reached, VersionInfo,
};
use handfast_proto::time::Now;

use crate::half_open::Listed;
use crate::handshake_permits::HandshakePermit;
use crate::peer::link::PeerLink;
use crate::peer_manager::messages::{PeerAdd, PeerDone};
use crate::post::post_to;
use crate::slots::{OpenSocket, Slot};

/// Owned by the `Peer` of one connection; sends its `Add` and its `Done`.
///
/// # Ordering
/// Both go to the same mailbox from the same place, so `Add` is first (L2). The
/// guard is a field of the actor: it is dropped when the actor stopped, was
/// terminated, panicked or never started because its arbiter was gone; and a
/// value is dropped once.
#[derive(Debug)]
pub(crate) struct Lifecycle {
    id: ConnId,
    add: Recipient<PeerAdd>,
    done: Recipient<PeerDone>,
    reason: DoneReason,
    reached: Reached,
    connected_at: Now,
    remote: SocketAddr,
    direction: Direction,
    open: OpenSocket,
    /// `None` after `Done` was sent.
    slot: Option<Slot>,
}

/// What a connection holds before it is one.
#[derive(Debug)]
pub(crate) struct ConnectionParams {
    pub(crate) id: ConnId,
    /// Our end of the socket; `None` if there is no socket.
    pub(crate) local: Option<SocketAddr>,
    pub(crate) direction: Direction,
    pub(crate) remote: SocketAddr,
    pub(crate) slot: Slot,
    /// In the handshake.
    pub(crate) permit: HandshakePermit,
    pub(crate) open: OpenSocket,
}

impl Lifecycle {
    /// The guard of a connection, and its place in the handshake.
    pub(crate) fn new(
        params: ConnectionParams,
        now: Now,
        add: Recipient<PeerAdd>,
        done: Recipient<PeerDone>,
    ) -> (Self, HandshakePermit) {
        let life = Self {
            id: params.id,
            add,
            done,
            // Holds when the node drops the actor without a word: at an arbiter's end.
            reason: DoneReason::Shutdown,
            reached: Reached::Connected,
            connected_at: now,
            remote: params.remote,
            direction: params.direction,
            open: params.open,
            slot: Some(params.slot),
        };
        (life, params.permit)
    }

    pub(crate) fn id(&self) -> ConnId {
        self.id
    }

    /// The handshake is complete: sends `Add`.
    pub(crate) fn ready(&mut self, version_info: VersionInfo, link: PeerLink, listed: Listed) {
        let Some(slot) = &self.slot else {
            panic!("L2: Add after Done of {}", self.id)
        };
        self.open.ready();
        self.reached = Reached::Handshake;
        post_to(
            &self.add,
            PeerAdd {
                listed,
                version_info,
                link,
                queued: slot.queue(),
            },
        );
    }

    /// Notes how far the connection came and why it ends; `Done` follows when the
    /// actor is dropped.
    pub(crate) fn ends(&mut self, reached: Reached, reason: DoneReason) {
        self.reached = reached;
        self.reason = reason;
    }
}

impl Drop for Lifecycle {
    fn drop(&mut self) {
        let Some(slot) = self.slot.take() else { return };
        let reason = if std::thread::panicking() {
            DoneReason::Panicked
        } else {
            self.reason.clone()
        };
        let disconnection = Disconnection {
            id: self.id,
            direction: self.direction,
            remote: self.remote,
            connected_at: self.connected_at,
            reached: self.reached,
            reason,
        };
        let queued = slot.queue();
        post_to(
            &self.done,
            PeerDone {
                disconnection,
                queued,
                slot,
            },
        );
    }
}
