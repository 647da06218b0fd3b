//! The handshake room: who may be in the handshake, and how those are told to leave.
//!
//! Owned by the `listener` arbiter, where every connection begins, and by nobody else:
//! there is no lock, and no manager takes part. A connection holds a [`HandshakePermit`] from its
//! birth until its handshake is complete. It gives the place back by dropping it, and
//! the room notices when it needs places; the room takes it back by sending why.

use std::collections::VecDeque;
use std::time::Duration;

use handfast_proto::address_book::Group;
use handfast_proto::handshake_limiter::HandshakeLimiter;
use handfast_proto::lifecycle::{ConnId, Direction, DoneReason};
use tokio::sync::oneshot;

/// Leave to be in the handshake, until a reason comes out of it.
pub(crate) type HandshakePermit = oneshot::Receiver<DoneReason>;

/// Places that may be held by outgoing connections before the room looks for those
/// that were given back. They are not counted as guests: we chose them.
const OUTGOING: usize = 64;

/// See the module.
#[derive(Debug)]
pub(crate) struct HandshakePermits {
    limiter: HandshakeLimiter,
    /// More of them than this: look for places that were given back.
    sweep_at: usize,
    /// How to tell each connection to leave, by id. Ids only grow.
    revocations: VecDeque<(ConnId, oneshot::Sender<DoneReason>)>,
    /// The node stops: nobody stays.
    closed: bool,
    /// Never given twice (L1).
    next_id: u64,
}

impl HandshakePermits {
    /// A room with so many places for inbound connections.
    pub(crate) fn new(permits: usize) -> Self {
        Self {
            limiter: HandshakeLimiter::new(permits),
            sweep_at: permits + OUTGOING,
            revocations: VecDeque::new(),
            closed: false,
            next_id: 0,
        }
    }

    /// A place for a new connection, and its id. When the room is full somebody else
    /// is told to leave.
    pub(crate) fn enter(
        &mut self,
        direction: Direction,
        group: Group,
        now: Duration,
    ) -> (ConnId, HandshakePermit) {
        let id = ConnId(self.next_id);
        self.next_id += 1;
        let (revocation, permit) = oneshot::channel();
        if self.closed {
            let _ = revocation.send(DoneReason::Shutdown);
            return (id, permit);
        }
        if self.limiter.is_full() || self.revocations.len() >= self.sweep_at {
            self.sweep();
        }
        if !direction.is_outgoing()
            && let Some(leaves) = self.limiter.enter(id, group, now)
        {
            self.evict(leaves);
        }
        self.revocations.push_back((id, revocation));
        (id, permit)
    }

    /// Tells everybody to leave, those too who will come.
    pub(crate) fn close(&mut self) {
        self.closed = true;
        for (_, revocation) in self.revocations.drain(..) {
            // Whoever does not hold its place any more is PeerManager's to disconnect.
            let _ = revocation.send(DoneReason::Shutdown);
        }
    }

    /// Forgets the places that were given back.
    fn sweep(&mut self) {
        self.revocations
            .retain(|(_, revocation)| !revocation.is_closed());
        let revocations = &self.revocations;
        self.limiter
            .keep(|id| revocations.binary_search_by_key(&id, |(id, _)| *id).is_ok());
    }

    fn evict(&mut self, id: ConnId) {
        if let Ok(at) = self.revocations.binary_search_by_key(&id, |(id, _)| *id)
            && let Some((_, revocation)) = self.revocations.remove(at)
        {
            // It may have completed its handshake this moment: it has left as well.
            let _ = revocation.send(DoneReason::Evicted);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enter(handshakes: &mut HandshakePermits, direction: Direction) -> (ConnId, HandshakePermit) {
        handshakes.enter(direction, Group::V4([127, 0]), Duration::ZERO)
    }

    fn revoked(permit: &mut HandshakePermit) -> Option<DoneReason> {
        permit.try_recv().ok()
    }

    #[test]
    fn a_full_room_tells_the_oldest_to_leave_and_forgets_places_that_were_given_back() {
        let mut handshakes = HandshakePermits::new(2);
        let (first, mut one) = enter(&mut handshakes, Direction::Inbound);
        let (_, two) = enter(&mut handshakes, Direction::Inbound);
        drop(two);
        let (_, mut three) = enter(&mut handshakes, Direction::Inbound);
        assert_eq!(revoked(&mut one), None, "the second gave its place back");
        let (last, mut four) = enter(&mut handshakes, Direction::Inbound);
        assert_eq!(revoked(&mut one), Some(DoneReason::Evicted));
        assert_eq!((revoked(&mut three), revoked(&mut four)), (None, None));
        assert_eq!((first, last), (ConnId(0), ConnId(3)));
    }

    #[test]
    fn connections_that_we_dialled_take_no_place_and_lose_none() {
        let mut handshakes = HandshakePermits::new(1);
        let (_, mut dialled) = enter(&mut handshakes, Direction::Outbound);
        let (_, mut inbound) = enter(&mut handshakes, Direction::Inbound);
        let (_, mut manual) = enter(&mut handshakes, Direction::Manual);
        assert_eq!(revoked(&mut inbound), None);
        let _newcomer = enter(&mut handshakes, Direction::Inbound);
        assert_eq!(revoked(&mut inbound), Some(DoneReason::Evicted));
        assert_eq!((revoked(&mut dialled), revoked(&mut manual)), (None, None));
    }

    #[test]
    fn a_closed_room_tells_everybody_to_leave_and_whoever_comes_later() {
        let mut handshakes = HandshakePermits::new(8);
        let (_, mut inbound) = enter(&mut handshakes, Direction::Inbound);
        let (_, mut dialled) = enter(&mut handshakes, Direction::Outbound);
        handshakes.close();
        let (_, mut late) = enter(&mut handshakes, Direction::Manual);
        for permit in [&mut inbound, &mut dialled, &mut late] {
            assert_eq!(revoked(permit), Some(DoneReason::Shutdown));
        }
    }

    #[test]
    fn what_the_room_remembers_is_bounded_whoever_comes_and_goes() {
        let mut handshakes = HandshakePermits::new(4);
        for _ in 0..10_000 {
            drop(enter(&mut handshakes, Direction::Outbound));
            drop(enter(&mut handshakes, Direction::Inbound));
            assert!(handshakes.revocations.len() <= 4 + OUTGOING);
        }
    }
}
