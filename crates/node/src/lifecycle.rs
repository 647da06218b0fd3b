//! The guard that reports the end of a connection, exactly once, whatever ends it.

use std::net::SocketAddr;

use actix::Recipient;
use handfast_proto::lifecycle::{ConnId, Direction, DoneReason, Ending, Introduction, Reached};
use handfast_proto::time::Now;

use crate::half_open::Listed;
use crate::peer::link::PeerLink;
use crate::peer_manager::messages::{PeerAdd, PeerDone};
use crate::post::post_to;
use crate::room::Place;
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
pub(crate) struct Birth {
    pub(crate) id: ConnId,
    /// Our end of the socket; `None` if there is no socket.
    pub(crate) local: Option<SocketAddr>,
    pub(crate) direction: Direction,
    pub(crate) remote: SocketAddr,
    pub(crate) slot: Slot,
    /// In the handshake.
    pub(crate) place: Place,
    pub(crate) open: OpenSocket,
}

impl Lifecycle {
    /// The guard of a connection, and its place in the handshake.
    pub(crate) fn new(
        birth: Birth,
        now: Now,
        add: Recipient<PeerAdd>,
        done: Recipient<PeerDone>,
    ) -> (Self, Place) {
        let life = Self {
            id: birth.id,
            add,
            done,
            // Holds when the node drops the actor without a word: at an arbiter's end.
            reason: DoneReason::Shutdown,
            reached: Reached::Connected,
            connected_at: now,
            remote: birth.remote,
            direction: birth.direction,
            open: birth.open,
            slot: Some(birth.slot),
        };
        (life, birth.place)
    }

    pub(crate) fn id(&self) -> ConnId {
        self.id
    }

    /// The handshake is complete: sends `Add`.
    pub(crate) fn ready(&mut self, introduction: Introduction, link: PeerLink, listed: Listed) {
        let Some(slot) = &self.slot else {
            panic!("L2: Add after Done of {}", self.id)
        };
        self.open.ready();
        self.reached = Reached::Handshake;
        post_to(
            &self.add,
            PeerAdd {
                listed,
                introduction,
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
        let ending = Ending {
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
                ending,
                queued,
                slot,
            },
        );
    }
}
