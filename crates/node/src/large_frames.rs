//! Memory for large frames: the machine that all connections of a node share, how each waits for
//! it, and the file for frames that do not fit in memory.
//!
//! Connections run on several threads, so the machine is behind a lock, held for moments and never
//! across an `await`. A waiter checks at intervals whether a holder blocks it: there is no actor
//! and no timer.

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
use crate::spill::SpillFile;

/// The memory was revoked: others waited for it, and the frame did not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lost;

/// Where a frame is received to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    /// It holds memory.
    Memory,
    /// No memory is free: to disk.
    Disk,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Waits,
    Has(Destination),
    Lost,
}

#[derive(Debug)]
struct Entry {
    standing: Standing,
    /// The task that reads the frame.
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
                Event::Granted(id) => (id, Standing::Has(Destination::Memory)),
                Event::Spill(id) => (id, Standing::Has(Destination::Disk)),
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

/// The memory for large frames of a node. See [`handfast_proto::receiving`].
#[derive(Debug)]
pub(crate) struct LargeFrames {
    inner: Mutex<Inner>,
    spill: Arc<SpillFile>,
}

impl LargeFrames {
    /// All memory free; frames without memory go to `spill`.
    pub(crate) fn spilling_to(spill: Arc<SpillFile>) -> Self {
        Self {
            inner: Mutex::default(),
            spill,
        }
    }

    /// The file for frames without memory.
    pub(crate) fn spill(&self) -> &Arc<SpillFile> {
        &self.spill
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Claims memory, which [`Permit::poll_granted`] waits for.
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

    /// Bytes of frames that hold memory.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.lock().machine.bytes()
    }
}

/// One frame's claim: the memory it holds, or its place in the queue. Released by `Drop`.
#[derive(Debug)]
pub(crate) struct Permit {
    id: ClaimId,
    clock: Clock,
    all: Arc<LargeFrames>,
    /// While it waits: when to check the holders.
    recheck: Option<Pin<Box<Sleep>>>,
}

impl Permit {
    /// Ready when the frame, of which so many bytes were received, may be read on. The task is
    /// woken when that changes, also when the memory is revoked while it waits for the socket.
    pub(crate) fn poll_granted(
        &mut self,
        cx: &mut Context<'_>,
        received: usize,
    ) -> Poll<Result<Destination, Lost>> {
        loop {
            let standing = self.look(cx, received);
            match standing {
                Standing::Has(destination) => {
                    self.recheck = None;
                    return Poll::Ready(Ok(destination));
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

    /// The claim's state; the task is woken when it changes.
    fn look(&self, cx: &Context<'_>, received: usize) -> Standing {
        let now = self.now();
        let mut inner = self.all.lock();
        inner.machine.progress(now, self.id, received);
        let Some(entry) = inner.entries.get_mut(&self.id) else {
            return Standing::Lost;
        };
        match &mut entry.reader {
            Some(reader) => reader.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        entry.standing
    }

    /// Whether it holds memory.
    pub(crate) fn has_memory(&self) -> bool {
        let inner = self.all.lock();
        let entry = inner.entries.get(&self.id);
        entry.is_some_and(|entry| entry.standing == Standing::Has(Destination::Memory))
    }

    /// The frame is complete: no waiter depends on the remote any more.
    pub(crate) fn complete(&self) {
        self.all.lock().machine.complete(self.id);
    }

    fn now(&self) -> Duration {
        self.clock.now().mono
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

#[cfg(test)]
impl Default for LargeFrames {
    fn default() -> Self {
        Self::spilling_to(Arc::new(SpillFile::within(&std::env::temp_dir())))
    }
}
