//! What a request waits for, as far as others have to know.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt;

use super::share::Seat;

/// What is known of a caller's request while it is carried out, wherever that is.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Calls and queues in which it is waited, or worked for long.
    waits: AtomicUsize,
    /// It is a batch that was carried out for long.
    long_batch: AtomicBool,
    seat: Mutex<Option<Arc<Seat>>>,
}

/// A request waits, until dropped.
pub(super) struct Waits<'a>(&'a AtomicUsize);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Progress {
    /// Whether it is carried out only for a caller who is there: it waits for something to
    /// happen or for its turn, or takes long.
    pub(super) fn waits(&self) -> bool {
        self.waits.load(Ordering::Relaxed) > 0 || self.long_batch.load(Ordering::Relaxed)
    }

    pub(super) fn wait(&self) -> Waits<'_> {
        self.waits.fetch_add(1, Ordering::Relaxed);
        Waits(&self.waits)
    }

    /// Awaits something that others have, with no wait to be seen where it is free.
    pub(super) async fn queued<T>(&self, turn: impl Future<Output = T>) -> T {
        let mut turn = pin!(turn);
        if let Some(free) = turn.as_mut().now_or_never() {
            return free;
        }
        let _waits = self.wait();
        turn.await
    }

    /// Whether it is a batch that was carried out for long.
    pub(super) fn set_long_batch(&self, long: bool) {
        self.long_batch.store(long, Ordering::Relaxed);
    }

    /// The seat of a long answer.
    pub(super) fn seat(&self) -> Option<Arc<Seat>> {
        let seat = self.seat.lock();
        seat.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The seat, which goes on with the answer.
    pub(super) fn take_seat(&self) -> Option<Arc<Seat>> {
        self.set_seat(None)
    }

    pub(super) fn set_seat(&self, new: Option<Arc<Seat>>) -> Option<Arc<Seat>> {
        let mut seat = self.seat.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *seat, new)
    }
}
