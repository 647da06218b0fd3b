//! Slots: a connection exists only while it holds one.
//!
//! A slot is taken before a `Peer` exists, rides inside `PeerDone` and
//! `SyncDone`, and is free again when the last manager has *handled* Done. So a
//! remote that reconnects as fast as it can never has more than two lifecycle
//! messages per slot queued (L5), and all slots home proves every Done handled (L6).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use handfast_proto::lifecycle::Direction;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Leave for one connection to exist, until its Done has been handled.
#[derive(Debug)]
pub(crate) struct Slot {
    _permit: OwnedSemaphorePermit,
}

/// Leave for one inbound connection to be in the handshake; free when its `Add`
/// (or its Done) has been handled.
#[derive(Debug)]
pub(crate) struct HandshakeSlot {
    _permit: OwnedSemaphorePermit,
}

/// How many connections of each kind may exist.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Inbound after the handshake, by PeerManager's table.
    pub(crate) inbound: usize,
    /// Inbound in the handshake; they come on top, so that silence keeps nobody out.
    pub(crate) handshakes: usize,
    pub(crate) outbound: usize,
    pub(crate) manual: usize,
}

/// All slots of the node.
#[derive(Clone, Debug)]
pub(crate) struct Slots {
    pools: Arc<Pools>,
}

#[derive(Debug)]
struct Pools {
    inbound: Pool,
    handshakes: Pool,
    outbound: Pool,
    manual: Pool,
    sockets: AtomicUsize,
    in_handshake: AtomicUsize,
}

#[derive(Debug)]
struct Pool {
    size: u32,
    permits: Arc<Semaphore>,
}

impl Pool {
    fn new(size: usize) -> Self {
        let size = u32::try_from(size).expect("a limit on connections fits 32 bits");
        Self {
            size,
            permits: Arc::new(Semaphore::new(size as usize)),
        }
    }

    fn take(&self) -> Option<OwnedSemaphorePermit> {
        self.permits.clone().try_acquire_owned().ok()
    }

    fn taken(&self) -> usize {
        self.size as usize - self.permits.available_permits()
    }

    /// Waits until every permit is home, and keeps them: nothing can be taken any more.
    async fn retire(&self) {
        if let Ok(all) = self.permits.acquire_many(self.size).await {
            all.forget();
        }
    }
}

/// What is taken, for the audit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Census {
    pub(crate) sockets: usize,
    pub(crate) in_handshake: usize,
    pub(crate) taken: usize,
}

impl Slots {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            pools: Arc::new(Pools {
                inbound: Pool::new(limits.inbound + limits.handshakes),
                handshakes: Pool::new(limits.handshakes),
                outbound: Pool::new(limits.outbound),
                manual: Pool::new(limits.manual),
                sockets: AtomicUsize::new(0),
                in_handshake: AtomicUsize::new(0),
            }),
        }
    }

    /// A slot for one more connection, unless all of this kind are taken.
    pub(crate) fn take(&self, direction: Direction) -> Option<Slot> {
        let pool = match direction {
            Direction::Inbound => &self.pools.inbound,
            Direction::Outbound => &self.pools.outbound,
            Direction::Manual => &self.pools.manual,
        };
        pool.take().map(|permit| Slot { _permit: permit })
    }

    /// A place in the handshake for one more inbound connection.
    pub(crate) fn take_handshake(&self) -> Option<HandshakeSlot> {
        self.pools
            .handshakes
            .take()
            .map(|permit| HandshakeSlot { _permit: permit })
    }

    /// Counts a socket as open until the token is dropped.
    pub(crate) fn open(&self) -> OpenSocket {
        self.pools.sockets.fetch_add(1, Ordering::Relaxed);
        self.pools.in_handshake.fetch_add(1, Ordering::Relaxed);
        OpenSocket {
            pools: self.pools.clone(),
            ready: false,
        }
    }

    pub(crate) fn census(&self) -> Census {
        let pools = &self.pools;
        Census {
            sockets: pools.sockets.load(Ordering::Relaxed),
            in_handshake: pools.in_handshake.load(Ordering::Relaxed),
            taken: pools.inbound.taken() + pools.outbound.taken() + pools.manual.taken(),
        }
    }

    /// Resolves when every slot is home, and no more can be taken (L6).
    ///
    /// # Cancel safety
    /// May be dropped and called again.
    pub(crate) async fn all_home(&self) {
        for pool in [
            &self.pools.inbound,
            &self.pools.handshakes,
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
        Slots::new(Limits {
            inbound: 2,
            handshakes: 1,
            outbound: 1,
            manual: 1,
        })
    }

    #[test]
    fn no_more_connections_exist_than_there_are_slots_of_their_kind() {
        let slots = slots();
        let inbound: Vec<_> = std::iter::from_fn(|| slots.take(Direction::Inbound)).collect();
        assert_eq!(inbound.len(), 3);
        assert!(
            slots.take(Direction::Outbound).is_some(),
            "kinds do not take each other's slots"
        );
        drop(inbound);
        assert!(slots.take(Direction::Inbound).is_some());
    }

    #[test]
    fn all_home_waits_for_the_last_slot_and_then_gives_none_away() {
        let slots = slots();
        let last = slots.take(Direction::Manual);
        let mut home = pin!(slots.all_home());
        let mut context = Context::from_waker(Waker::noop());
        assert_eq!(home.as_mut().poll(&mut context), Poll::Pending);
        drop(last);
        assert_eq!(home.as_mut().poll(&mut context), Poll::Ready(()));
        assert!(slots.take(Direction::Inbound).is_none());
        assert!(slots.take_handshake().is_none());
    }

    #[test]
    fn the_census_counts_a_socket_once_whether_or_not_it_became_ready() {
        let slots = slots();
        let silent = slots.open();
        let mut ready = slots.open();
        ready.ready();
        ready.ready();
        assert_eq!(
            slots.census(),
            Census {
                sockets: 2,
                in_handshake: 1,
                taken: 0
            }
        );
        drop((silent, ready));
        assert_eq!(
            slots.census(),
            Census {
                sockets: 0,
                in_handshake: 0,
                taken: 0
            }
        );
    }
}
