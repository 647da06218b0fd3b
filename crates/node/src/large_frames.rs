//! Permits for large frames: the machine that all connections of a node share, and how
//! each waits for it.
//!
//! Connections run on several threads, so the machine is behind a lock, held for
//! moments and never across a wait. Whoever waits also checks, now and then, whether a
//! holder is in the way: there is no actor and no timer of its own.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use handfast_proto::address_book::Group;
use handfast_proto::receiving::{Claim, ClaimId, Event, LargeFrames as Machine, Pool, RECHECK};
use tokio::time::Sleep;

use crate::clock::Clock;

/// The permit was taken back: others waited for it, and the frame did not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lost;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Waits,
    Granted,
    Lost,
}

#[derive(Debug)]
struct Entry {
    standing: Standing,
    /// Of the task that reads the frame.
    reader: Option<Waker>,
}

#[derive(Debug, Default)]
struct Inner {
    machine: Machine,
    entries: BTreeMap<ClaimId, Entry>,
    next_id: u64,
}

impl Inner {
    fn apply(&mut self, events: Vec<Event>) {
        for event in events {
            let (id, standing) = match event {
                Event::Granted(id) => (id, Standing::Granted),
                Event::Lost(id) => (id, Standing::Lost),
            };
            if let Some(entry) = self.entries.get_mut(&id) {
                entry.standing = standing;
                if let Some(reader) = entry.reader.take() {
                    reader.wake();
                }
            }
        }
    }
}

/// The permits of a node. See [`handfast_proto::receiving`].
#[derive(Debug, Default)]
pub(crate) struct LargeFrames {
    inner: Mutex<Inner>,
}

impl LargeFrames {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for a permit, which [`Permit::poll_granted`] waits for.
    pub(crate) fn claim(
        this: &Arc<Self>,
        clock: Clock,
        group: Group,
        pool: Pool,
        bytes: usize,
    ) -> Permit {
        let mut inner = this.lock();
        let id = ClaimId(inner.next_id);
        inner.next_id += 1;
        let entry = Entry {
            standing: Standing::Waits,
            reader: None,
        };
        inner.entries.insert(id, entry);
        let claim = Claim {
            id,
            group,
            pool,
            bytes,
        };
        let events = inner.machine.claim(clock.now().mono, claim);
        inner.apply(events);
        drop(inner);
        Permit {
            id,
            clock,
            all: this.clone(),
            recheck: None,
        }
    }

    /// Bytes of frames that hold a permit.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.lock().machine.bytes()
    }
}

/// One frame's permit, or its place among those who wait; given back by `Drop`.
#[derive(Debug)]
pub(crate) struct Permit {
    id: ClaimId,
    clock: Clock,
    all: Arc<LargeFrames>,
    /// While it waits: when to look next.
    recheck: Option<Pin<Box<Sleep>>>,
}

impl Permit {
    /// Ready when the frame may be read on, of which so many bytes have come. The task is
    /// woken when that changes, also when the permit is lost while it waits for the socket.
    pub(crate) fn poll_granted(
        &mut self,
        cx: &mut Context<'_>,
        received: usize,
    ) -> Poll<Result<(), Lost>> {
        loop {
            let standing = self.look(cx, received);
            match standing {
                Standing::Granted => {
                    self.recheck = None;
                    return Poll::Ready(Ok(()));
                }
                Standing::Lost => return Poll::Ready(Err(Lost)),
                Standing::Waits => {}
            }
            let recheck = self
                .recheck
                .get_or_insert_with(|| Box::pin(tokio::time::sleep(RECHECK)));
            if recheck.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.recheck = None;
            let now = self.now();
            let mut inner = self.all.lock();
            let events = inner.machine.check(now);
            inner.apply(events);
        }
    }

    fn look(&self, cx: &Context<'_>, received: usize) -> Standing {
        let now = self.now();
        self.all.lock().machine.progress(now, self.id, received);
        self.register(cx)
    }

    /// How it stands; the task is woken when that changes.
    fn register(&self, cx: &Context<'_>) -> Standing {
        let mut inner = self.all.lock();
        let Some(entry) = inner.entries.get_mut(&self.id) else {
            return Standing::Lost;
        };
        match &mut entry.reader {
            Some(reader) => reader.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        entry.standing
    }

    /// Waits for [`Permit::poll_granted`].
    pub(crate) async fn granted(&mut self) -> Result<(), Lost> {
        std::future::poll_fn(|cx| self.poll_granted(cx, 0)).await
    }

    /// Resolves when the permit is lost, after it was granted.
    pub(crate) async fn lost(&self) {
        std::future::poll_fn(|cx| match self.register(cx) {
            Standing::Lost => Poll::Ready(()),
            Standing::Waits | Standing::Granted => Poll::Pending,
        })
        .await;
    }

    /// To tell how much was moved, from where that is known.
    pub(crate) fn meter(&self) -> Meter {
        Meter {
            id: self.id,
            clock: self.clock,
            all: self.all.clone(),
        }
    }

    /// The frame is complete: nobody waits for the remote any more.
    pub(crate) fn complete(&self) {
        self.all.lock().machine.complete(self.id);
    }

    fn now(&self) -> Duration {
        self.clock.now().mono
    }
}

/// Tells how much of what holds a permit was moved.
#[derive(Clone, Debug)]
pub(crate) struct Meter {
    id: ClaimId,
    clock: Clock,
    all: Arc<LargeFrames>,
}

impl Meter {
    /// So much in all, bytes.
    pub(crate) fn progress(&self, bytes: usize) {
        let now = self.clock.now().mono;
        self.all.lock().machine.progress(now, self.id, bytes);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let now = self.now();
        let mut inner = self.all.lock();
        inner.entries.remove(&self.id);
        let events = inner.machine.release(now, self.id);
        inner.apply(events);
    }
}
