//! Slots: a connection exists only while it holds one.
//!
//! A slot is taken before a `Peer` exists, rides inside `PeerDone` and the
//! `SubscriberDone`s that this becomes, and is free again when the last manager has *handled*
//! Done. So a remote that reconnects as fast as it can never has more than two lifecycle
//! messages per slot queued on the way to one subscriber (L5), and all slots free proves every
//! Done handled (L6).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use handfast_proto::lifecycle::Direction;
use tokio::sync::Semaphore;

/// Leave for one connection to exist, until its Done has been handled.
#[derive(Debug)]
pub(crate) struct Slot {
    pools: Arc<Pools>,
    direction: Direction,
}

impl Slot {
    /// Counts one lifecycle message of this connection as queued.
    pub(crate) fn queue(&self) -> Queued {
        Queued::new(self.pools.clone())
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.pools.of(self.direction).put_back();
    }
}

/// One lifecycle message that was posted and not yet handled: an `Add` or a `Done`,
/// from the connection until the manager that it is for has handled it. What becomes of it on
/// the way (`PeerAdd` to `SubscriberAdd`) is still the same one, where there is one subscriber;
/// each other subscriber's is one more.
///
/// To be dropped before the connection's [`Slot`] is: a slot that is taken again
/// must not find messages of the connection before.
#[derive(Debug)]
pub(crate) struct Queued {
    pools: Arc<Pools>,
}

impl Queued {
    fn new(pools: Arc<Pools>) -> Self {
        let queued = pools.queued.fetch_add(1, Ordering::Relaxed) + 1;
        if queued > pools.most_queued.load(Ordering::Relaxed) {
            pools.most_queued.fetch_max(queued, Ordering::Relaxed);
        }
        Self { pools }
    }

    /// The message as it goes on to so many subscribers: one for each. This one is the last of
    /// them, so that at no moment more are counted than there are.
    pub(crate) fn among(self, subscribers: usize) -> impl Iterator<Item = Self> {
        let mut first = Some(self);
        (0..subscribers).rev().filter_map(move |left| match left {
            0 => first.take(),
            _ => Some(Self::new(first.as_ref()?.pools.clone())),
        })
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        self.pools.queued.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Inbound slots on top of those for peers and for the handshake: for connections that
/// lost their handshake permit and whose Done is on its way. With none of them free
/// newcomers wait for one, and are closed when the managers are late.
pub(crate) const LEAVING: usize = 32;

/// How many connections of each kind may exist.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Inbound after the handshake, by PeerManager's table. A peer that is evicted for a
    /// newcomer keeps its slot until its Done has been handled, and the newcomer is admitted
    /// before that: this is why the pool, inbound and handshakes together, bounds the
    /// connections and not the table. Of peers on their way out the table bears
    /// `max_leaving`, so that they do not eat up the places in the handshake.
    pub(crate) inbound: usize,
    /// Inbound in the handshake; they come on top, so that silent connections keep no others out.
    pub(crate) handshakes: usize,
    pub(crate) outbound: usize,
    pub(crate) manual: usize,
    /// PeerManager's subscribers, each of which is notified of connections.
    pub(crate) subscribers: usize,
}

/// All slots of the node.
#[derive(Clone, Debug)]
pub(crate) struct Slots {
    pools: Arc<Pools>,
}

#[derive(Debug)]
struct Pools {
    inbound: Pool,
    outbound: Pool,
    manual: Pool,
    subscribers: usize,
    /// Whether slots are given away at all: the operator may switch the network off.
    active: AtomicBool,
    /// Connections that ever were.
    opened: AtomicU64,
    sockets: AtomicUsize,
    in_handshake: AtomicUsize,
    /// Lifecycle messages that are queued, and the most that ever were. Counted and
    /// shown, and ordered by the slots themselves: `Relaxed` is enough.
    queued: AtomicUsize,
    most_queued: AtomicUsize,
}

impl Pools {
    fn of(&self, direction: Direction) -> &Pool {
        match direction {
            Direction::Inbound => &self.inbound,
            Direction::Outbound => &self.outbound,
            Direction::Manual => &self.manual,
        }
    }

    fn total(&self) -> usize {
        let slots = [&self.inbound, &self.outbound, &self.manual];
        slots.map(|pool| pool.size as usize).iter().sum()
    }

    /// Lifecycle messages that may be queued (L5).
    fn bound(&self) -> usize {
        2 * self.subscribers * self.total()
    }
}

#[derive(Debug)]
struct Pool {
    size: u32,
    permits: Semaphore,
}

impl Pool {
    fn new(size: usize) -> Self {
        let size = u32::try_from(size).expect("a limit on connections fits 32 bits");
        Self {
            size,
            permits: Semaphore::new(size as usize),
        }
    }

    /// Takes one permit, which [`Pool::put_back`] returns.
    fn take(&self) -> bool {
        let permit = self.permits.try_acquire();
        permit.map(|permit| permit.forget()).is_ok()
    }

    fn put_back(&self) {
        self.permits.add_permits(1);
    }

    fn taken(&self) -> usize {
        self.size as usize - self.permits.available_permits()
    }

    /// Takes the next permit that is returned, which [`Pool::put_back`] returns.
    async fn take_next(&self) {
        match self.permits.acquire().await {
            Ok(permit) => permit.forget(),
            // The node stops: there is none to come.
            Err(_) => std::future::pending().await,
        }
    }

    /// Waits until every permit is home, and keeps them: nothing can be taken any more.
    async fn retire(&self) {
        if let Ok(all) = self.permits.acquire_many(self.size).await {
            all.forget();
        }
    }
}

/// What is taken and what is queued, for the audit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SlotCounts {
    /// Connections that ever were.
    pub(crate) opened: u64,
    pub(crate) sockets: usize,
    pub(crate) in_handshake: usize,
    pub(crate) total: usize,
    /// Of those, the ones for connections that we open.
    #[cfg(test)]
    pub(crate) outgoing: usize,
    pub(crate) taken: usize,
    pub(crate) queued: usize,
    pub(crate) most_queued: usize,
    /// Lifecycle messages that may be queued (L5).
    pub(crate) bound: usize,
}

impl Slots {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            pools: Arc::new(Pools {
                inbound: Pool::new(limits.inbound + limits.handshakes + LEAVING),
                outbound: Pool::new(limits.outbound),
                manual: Pool::new(limits.manual),
                // PeerManager's own queue holds two of a slot without any.
                subscribers: limits.subscribers.max(1),
                active: AtomicBool::new(true),
                opened: AtomicU64::new(0),
                sockets: AtomicUsize::new(0),
                in_handshake: AtomicUsize::new(0),
                queued: AtomicUsize::new(0),
                most_queued: AtomicUsize::new(0),
            }),
        }
    }

    /// Hands out slots, or none any more: then accepted connections are closed at once, and
    /// no peer is dialled.
    pub(crate) fn set_active(&self, active: bool) {
        self.pools.active.store(active, Ordering::Relaxed);
    }

    /// Whether slots are given away.
    pub(crate) fn is_active(&self) -> bool {
        self.pools.active.load(Ordering::Relaxed)
    }

    /// A slot for one more connection, unless all of this kind are taken.
    pub(crate) fn take(&self, direction: Direction) -> Option<Slot> {
        let taken = self.is_active() && self.pools.of(direction).take();
        taken.then(|| Slot {
            pools: self.pools.clone(),
            direction,
        })
    }

    /// The next slot of this kind that is freed. Never, when the node stops.
    ///
    /// # Cancel safety
    /// May be dropped: no slot is lost.
    pub(crate) async fn next(&self, direction: Direction) -> Slot {
        self.pools.of(direction).take_next().await;
        Slot {
            pools: self.pools.clone(),
            direction,
        }
    }

    /// Counts a socket as open until the token is dropped.
    pub(crate) fn open(&self) -> OpenSocket {
        self.pools.opened.fetch_add(1, Ordering::Relaxed);
        self.pools.sockets.fetch_add(1, Ordering::Relaxed);
        self.pools.in_handshake.fetch_add(1, Ordering::Relaxed);
        OpenSocket {
            pools: self.pools.clone(),
            ready: false,
        }
    }

    pub(crate) fn counts(&self) -> SlotCounts {
        let pools = &self.pools;
        let slots = [&pools.inbound, &pools.outbound, &pools.manual];
        SlotCounts {
            opened: pools.opened.load(Ordering::Relaxed),
            sockets: pools.sockets.load(Ordering::Relaxed),
            in_handshake: pools.in_handshake.load(Ordering::Relaxed),
            total: pools.total(),
            #[cfg(test)]
            outgoing: (pools.outbound.size + pools.manual.size) as usize,
            taken: slots.map(Pool::taken).iter().sum(),
            queued: pools.queued.load(Ordering::Relaxed),
            most_queued: pools.most_queued.load(Ordering::Relaxed),
            bound: pools.bound(),
        }
    }

    /// A manager handles a lifecycle message: there never were more than two per slot and
    /// subscriber.
    ///
    /// # Panics
    /// When there were (L5); in release builds too.
    pub(crate) fn assert_bounded(&self) {
        let most = self.pools.most_queued.load(Ordering::Relaxed);
        let bound = self.pools.bound();
        assert!(
            most <= bound,
            "L5: {most} lifecycle messages were queued, at most {bound} may be"
        );
    }

    /// Resolves when every slot is home, and no more can be taken (L6).
    ///
    /// # Cancel safety
    /// May be dropped and called again.
    pub(crate) async fn all_free(&self) {
        for pool in [
            &self.pools.inbound,
            &self.pools.outbound,
            &self.pools.manual,
        ] {
            pool.retire().await;
            pool.permits.close();
        }
    }
}

/// Counts one open socket.
#[derive(Debug)]
pub(crate) struct OpenSocket {
    pools: Arc<Pools>,
    ready: bool,
}

impl OpenSocket {
    /// The handshake is complete.
    pub(crate) fn ready(&mut self) {
        if !self.ready {
            self.ready = true;
            self.pools.in_handshake.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for OpenSocket {
    fn drop(&mut self) {
        self.ready();
        self.pools.sockets.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn slots() -> Slots {
        slots_for(1)
    }

    fn slots_for(subscribers: usize) -> Slots {
        Slots::new(Limits {
            inbound: 2,
            handshakes: 1,
            outbound: 1,
            manual: 1,
            subscribers,
        })
    }

    #[test]
    fn no_more_connections_exist_than_there_are_slots_of_their_kind() {
        let slots = slots();
        let inbound: Vec<_> = std::iter::from_fn(|| slots.take(Direction::Inbound)).collect();
        assert_eq!(inbound.len(), 2 + 1 + LEAVING);
        assert!(
            slots.take(Direction::Outbound).is_some(),
            "kinds do not take each other's slots"
        );
        drop(inbound);
        assert!(slots.take(Direction::Inbound).is_some());
    }

    #[test]
    fn who_waits_for_a_slot_gets_the_one_that_comes_home_and_loses_none_by_leaving() {
        let slots = slots();
        let only = slots.take(Direction::Outbound).expect("all are free");
        let mut context = Context::from_waker(Waker::noop());
        let mut impatient = Box::pin(slots.next(Direction::Outbound));
        let mut next = Box::pin(slots.next(Direction::Outbound));
        assert!(impatient.as_mut().poll(&mut context).is_pending());
        assert!(next.as_mut().poll(&mut context).is_pending());
        drop(only);
        drop(impatient);
        let Poll::Ready(slot) = next.as_mut().poll(&mut context) else {
            panic!("it was given back");
        };
        assert!(slots.take(Direction::Outbound).is_none());
        drop(slot);
        assert!(slots.take(Direction::Outbound).is_some());
    }

    #[test]
    fn all_home_waits_for_the_last_slot_and_then_gives_none_away() {
        let slots = slots();
        let last = slots.take(Direction::Manual);
        let mut home = pin!(slots.all_free());
        let mut context = Context::from_waker(Waker::noop());
        assert_eq!(home.as_mut().poll(&mut context), Poll::Pending);
        drop(last);
        assert_eq!(home.as_mut().poll(&mut context), Poll::Ready(()));
        assert!(slots.take(Direction::Inbound).is_none());
    }

    #[test]
    fn while_the_network_is_off_no_slot_is_given_and_those_taken_come_home() {
        let slots = slots();
        let taken = slots.take(Direction::Inbound);
        slots.set_active(false);
        assert!(slots.take(Direction::Inbound).is_none());
        assert!(slots.take(Direction::Manual).is_none());
        drop(taken);
        assert_eq!(slots.counts().taken, 0);
        slots.set_active(true);
        assert!(slots.take(Direction::Inbound).is_some());
    }

    #[test]
    fn the_census_counts_a_socket_once_whether_or_not_it_became_ready() {
        let slots = slots();
        let silent = slots.open();
        let mut ready = slots.open();
        ready.ready();
        ready.ready();
        let sockets = || {
            let slot_counts = slots.counts();
            (
                slot_counts.sockets,
                slot_counts.in_handshake,
                slot_counts.opened,
            )
        };
        assert_eq!(sockets(), (2, 1, 2));
        drop((silent, ready));
        assert_eq!(sockets(), (0, 0, 2));
    }

    #[test]
    fn two_lifecycle_messages_of_every_slot_are_within_the_bound() {
        let slots = slots();
        let one = slots.take(Direction::Outbound).expect("all are free");
        let bound = slots.counts().bound;
        assert_eq!(bound, 2 * (2 + 1 + LEAVING + 1 + 1));
        let queued: Vec<_> = (0..bound).map(|_| one.queue()).collect();
        slots.assert_bounded();
        assert_eq!(slots.counts().queued, bound);
        drop(queued);
        let slot_counts = slots.counts();
        assert_eq!((slot_counts.queued, slot_counts.most_queued), (0, bound));
    }

    #[test]
    #[should_panic(expected = "L5: 75 lifecycle messages were queued, at most 74 may be")]
    fn one_lifecycle_message_more_than_two_per_slot_is_a_violation() {
        let slots = slots();
        let one = slots.take(Direction::Outbound).expect("all are free");
        let _too_many: Vec<_> = (0..75).map(|_| one.queue()).collect();
        slots.assert_bounded();
    }

    #[test]
    fn one_lifecycle_message_more_than_two_per_slot_and_subscriber_is_a_violation() {
        let slots = slots_for(2);
        let one = slots.take(Direction::Outbound).expect("all are free");
        let bound = slots.counts().bound;
        assert_eq!(bound, 2 * 2 * slots.counts().total);
        let _queued: Vec<_> = (0..bound).map(|_| one.queue()).collect();
        slots.assert_bounded();
        let _one_more = one.queue();
        let asserting = std::panic::AssertUnwindSafe(|| slots.assert_bounded());
        let asserted = std::panic::catch_unwind(asserting);
        assert!(asserted.is_err());
    }

    #[test]
    fn a_message_that_goes_on_is_counted_once_for_each_subscriber_and_never_twice() {
        let slots = slots_for(2);
        let one = slots.take(Direction::Outbound).expect("all are free");
        for subscribers in 0..4 {
            let before = slots.counts().most_queued;
            let passed_on: Vec<_> = one.queue().among(subscribers).collect();
            assert_eq!(passed_on.len(), subscribers);
            let slot_counts = slots.counts();
            let most = before.max(subscribers).max(1);
            assert_eq!(
                (slot_counts.queued, slot_counts.most_queued),
                (subscribers, most)
            );
        }
        assert_eq!(slots.counts().queued, 0);
    }
}
