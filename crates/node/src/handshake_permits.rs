//! Handshake permits: which connections may be in the handshake, and how a permit is revoked.
//!
//! Owned by the `listener` arbiter, where every connection begins, and by no other thread:
//! there is no lock, and no manager takes part. A connection holds a [`HandshakePermit`] from its
//! start until its handshake is complete. It returns the permit by dropping it, which
//! is noticed when permits run out; a permit is revoked by sending the reason.

use std::collections::VecDeque;
use std::time::Duration;

use handfast_proto::address_book::Group;
use handfast_proto::handshake_limiter::HandshakeLimiter;
use handfast_proto::lifecycle::{ConnId, Direction, DoneReason};
use tokio::sync::oneshot;

/// The right to be in the handshake. A reason received from it revokes it.
pub(crate) type HandshakePermit = oneshot::Receiver<DoneReason>;

/// Permits that outgoing connections may hold before the returned ones are looked
/// for. The limiter does not count them: we chose to dial.
const OUTGOING: usize = 64;

/// See the module.
#[derive(Debug)]
pub(crate) struct HandshakePermits {
    limiter: HandshakeLimiter,
    /// With more permits than this, the returned ones are removed.
    sweep_at: usize,
    /// Revokes the permit of each connection, by id. Ids only grow.
    revocations: VecDeque<(ConnId, oneshot::Sender<DoneReason>)>,
    /// The node stops: no permit is valid.
    closed: bool,
    /// Never given twice (L1).
    next_id: u64,
}

impl HandshakePermits {
    /// So many permits for inbound connections.
    pub(crate) fn new(permits: usize) -> Self {
        Self {
            limiter: HandshakeLimiter::new(permits),
            sweep_at: permits + OUTGOING,
            revocations: VecDeque::new(),
            closed: false,
            next_id: 0,
        }
    }

    /// A permit for a new connection, and its id. At the limit the permit of another
    /// connection is revoked.
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
            && let Some(evicted) = self.limiter.enter(id, group, now)
        {
            self.evict(evicted);
        }
        self.revocations.push_back((id, revocation));
        (id, permit)
    }

    /// Revokes all permits, those of later connections too.
    pub(crate) fn close(&mut self) {
        self.closed = true;
        for (_, revocation) in self.revocations.drain(..) {
            // A connection without a permit is PeerManager's to disconnect.
            let _ = revocation.send(DoneReason::Shutdown);
        }
    }

    /// Removes the permits that were returned.
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
            // It may have completed its handshake this moment: then the revocation has no effect.
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
    fn at_the_limit_the_oldest_permit_is_revoked_and_returned_ones_do_not_count() {
        let mut handshakes = HandshakePermits::new(2);
        let (first, mut one) = enter(&mut handshakes, Direction::Inbound);
        let (_, two) = enter(&mut handshakes, Direction::Inbound);
        drop(two);
        let (_, mut three) = enter(&mut handshakes, Direction::Inbound);
        assert_eq!(revoked(&mut one), None, "the second returned its permit");
        let (last, mut four) = enter(&mut handshakes, Direction::Inbound);
        assert_eq!(revoked(&mut one), Some(DoneReason::Evicted));
        assert_eq!((revoked(&mut three), revoked(&mut four)), (None, None));
        assert_eq!((first, last), (ConnId(0), ConnId(3)));
    }

    #[test]
    fn outgoing_connections_do_not_count_and_are_not_evicted() {
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
    fn after_closing_all_permits_are_revoked_also_later_ones() {
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
    fn the_memory_of_permits_is_bounded_under_churn() {
        let mut handshakes = HandshakePermits::new(4);
        for _ in 0..10_000 {
            drop(enter(&mut handshakes, Direction::Outbound));
            drop(enter(&mut handshakes, Direction::Inbound));
            assert!(handshakes.revocations.len() <= 4 + OUTGOING);
        }
    }
}
