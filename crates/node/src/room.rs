//! The handshake room: who may be in the handshake, and how those are told to leave.
//!
//! Owned by the `listener` arbiter, where every connection begins, and by nobody else:
//! there is no lock, and no manager takes part. A connection holds a [`Place`] from its
//! birth until its handshake is complete. It gives the place back by dropping it, and
//! the room notices when it needs places; the room takes it back by sending why.

use std::collections::VecDeque;
use std::time::Duration;

use handfast_proto::address_book::Group;
use handfast_proto::handshake_room::HandshakeRoom;
use handfast_proto::lifecycle::{ConnId, Direction, DoneReason};
use tokio::sync::oneshot;

/// Leave to be in the handshake, until a reason comes out of it.
pub(crate) type Place = oneshot::Receiver<DoneReason>;

/// Places that may be held by outgoing connections before the room looks for those
/// that were given back. They are not counted as guests: we chose them.
const OUTGOING: usize = 64;

/// See the module.
#[derive(Debug)]
pub(crate) struct Room {
    guests: HandshakeRoom,
    /// More of them than this: look for places that were given back.
    crowd: usize,
    /// How to tell each connection to leave, by id. Ids only grow.
    doors: VecDeque<(ConnId, oneshot::Sender<DoneReason>)>,
    /// The node stops: nobody stays.
    closed: bool,
    /// Never given twice (L1).
    next_id: u64,
}

impl Room {
    /// A room with so many places for inbound connections.
    pub(crate) fn new(places: usize) -> Self {
        Self {
            guests: HandshakeRoom::new(places),
            crowd: places + OUTGOING,
            doors: VecDeque::new(),
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
    ) -> (ConnId, Place) {
        let id = ConnId(self.next_id);
        self.next_id += 1;
        let (door, place) = oneshot::channel();
        if self.closed {
            let _ = door.send(DoneReason::Shutdown);
            return (id, place);
        }
        if self.guests.is_full() || self.doors.len() >= self.crowd {
            self.sweep();
        }
        if !direction.is_outgoing()
            && let Some(leaves) = self.guests.enter(id, group, now)
        {
            self.evict(leaves);
        }
        self.doors.push_back((id, door));
        (id, place)
    }

    /// Tells everybody to leave, those too who will come.
    pub(crate) fn close(&mut self) {
        self.closed = true;
        for (_, door) in self.doors.drain(..) {
            // Whoever does not hold its place any more is PeerManager's to disconnect.
            let _ = door.send(DoneReason::Shutdown);
        }
    }

    /// Forgets the places that were given back.
    fn sweep(&mut self) {
        self.doors.retain(|(_, door)| !door.is_closed());
        let doors = &self.doors;
        self.guests
            .keep(|id| doors.binary_search_by_key(&id, |(id, _)| *id).is_ok());
    }

    fn evict(&mut self, id: ConnId) {
        if let Ok(at) = self.doors.binary_search_by_key(&id, |(id, _)| *id)
            && let Some((_, door)) = self.doors.remove(at)
        {
            // It may have completed its handshake this moment: it has left as well.
            let _ = door.send(DoneReason::Evicted);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enter(room: &mut Room, direction: Direction) -> (ConnId, Place) {
        room.enter(direction, Group::V4([127, 0]), Duration::ZERO)
    }

    fn told(place: &mut Place) -> Option<DoneReason> {
        place.try_recv().ok()
    }

    #[test]
    fn a_full_room_tells_the_oldest_to_leave_and_forgets_places_that_were_given_back() {
        let mut room = Room::new(2);
        let (first, mut one) = enter(&mut room, Direction::Inbound);
        let (_, two) = enter(&mut room, Direction::Inbound);
        drop(two);
        let (_, mut three) = enter(&mut room, Direction::Inbound);
        assert_eq!(told(&mut one), None, "the second gave its place back");
        let (last, mut four) = enter(&mut room, Direction::Inbound);
        assert_eq!(told(&mut one), Some(DoneReason::Evicted));
        assert_eq!((told(&mut three), told(&mut four)), (None, None));
        assert_eq!((first, last), (ConnId(0), ConnId(3)));
    }

    #[test]
    fn connections_that_we_dialled_take_no_place_and_lose_none() {
        let mut room = Room::new(1);
        let (_, mut dialled) = enter(&mut room, Direction::Outbound);
        let (_, mut inbound) = enter(&mut room, Direction::Inbound);
        let (_, mut manual) = enter(&mut room, Direction::Manual);
        assert_eq!(told(&mut inbound), None);
        let _newcomer = enter(&mut room, Direction::Inbound);
        assert_eq!(told(&mut inbound), Some(DoneReason::Evicted));
        assert_eq!((told(&mut dialled), told(&mut manual)), (None, None));
    }

    #[test]
    fn a_closed_room_tells_everybody_to_leave_and_whoever_comes_later() {
        let mut room = Room::new(8);
        let (_, mut inbound) = enter(&mut room, Direction::Inbound);
        let (_, mut dialled) = enter(&mut room, Direction::Outbound);
        room.close();
        let (_, mut late) = enter(&mut room, Direction::Manual);
        for place in [&mut inbound, &mut dialled, &mut late] {
            assert_eq!(told(place), Some(DoneReason::Shutdown));
        }
    }

    #[test]
    fn what_the_room_remembers_is_bounded_whoever_comes_and_goes() {
        let mut room = Room::new(4);
        for _ in 0..10_000 {
            drop(enter(&mut room, Direction::Outbound));
            drop(enter(&mut room, Direction::Inbound));
            assert!(room.doors.len() <= 4 + OUTGOING);
        }
    }
}
