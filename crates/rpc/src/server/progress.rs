//! The state of a request, as far as the connection must know it.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt;

use super::quota::Slot;

/// The state of a client's request while it is executed.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Waits and queues that it is in, and long work.
    waits: AtomicUsize,
    /// It is a batch that has run for long.
    long_batch: AtomicBool,
    slot: Mutex<Option<Arc<Slot>>>,
}

/// A wait, until dropped.
pub(super) struct WaitGuard<'a>(&'a AtomicUsize);

impl Drop for WaitGuard<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Progress {
    /// Whether it is dropped when its client disconnects: it waits, is queued, or takes long.
    pub(super) fn waits(&self) -> bool {
        self.waits.load(Ordering::Relaxed) > 0 || self.long_batch.load(Ordering::Relaxed)
    }

    pub(super) fn wait(&self) -> WaitGuard<'_> {
        self.waits.fetch_add(1, Ordering::Relaxed);
        WaitGuard(&self.waits)
    }

    /// Awaits a shared resource; counts as a wait unless it is free at once.
    pub(super) async fn queued<T>(&self, turn: impl Future<Output = T>) -> T {
        let mut turn = pin!(turn);
        if let Some(free) = turn.as_mut().now_or_never() {
            return free;
        }
        let _waits = self.wait();
        turn.await
    }

    /// Sets whether it is a batch that has run for long.
    pub(super) fn set_long_batch(&self, long: bool) {
        self.long_batch.store(long, Ordering::Relaxed);
    }

    /// The slot of a long answer.
    pub(super) fn slot(&self) -> Option<Arc<Slot>> {
        let slot = self.slot.lock();
        slot.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes the slot, which stays with the answer.
    pub(super) fn take_slot(&self) -> Option<Arc<Slot>> {
        self.set_slot(None)
    }

    pub(super) fn set_slot(&self, new: Option<Arc<Slot>>) -> Option<Arc<Slot>> {
        let mut slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *slot, new)
    }
}
