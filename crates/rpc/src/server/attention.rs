//! A worker with a lone caller stays awake for a moment after each answer.
//!
//! A caller who makes one call after the other makes each of them to a worker that has just
//! gone to sleep, and to wake a sleeping core costs more than to answer: on a virtual machine
//! a third of the whole call. So the worker polls its sockets a little longer before it
//! sleeps, as network cards are polled for those to whom latency matters (`SO_BUSY_POLL`
//! does not reach loopback and Unix sockets).
//!
//! It costs [`MOMENT`] of processor time for each call at most, and only where a worker has
//! one connection and no more: with many there is always somebody whose call keeps it awake,
//! and its core is of use to others.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// How long a worker stays awake: about twice the time in which a program that waits for an
/// answer is woken by it and makes its next call.
const MOMENT: Duration = Duration::from_micros(100);

thread_local! {
    /// Of this worker.
    static WORKER: Worker = const {
        Worker {
            connections: Cell::new(0),
            awake_until: Cell::new(None),
        }
    };
}

struct Worker {
    /// That are open.
    connections: Cell<usize>,
    /// `None`: it sleeps when there is nothing to do.
    awake_until: Cell<Option<Instant>>,
}

/// Counts an open connection of the worker on whose thread it is, until dropped there.
pub(super) struct Present(std::marker::PhantomData<*const ()>);

impl Present {
    pub(super) fn new() -> Self {
        WORKER.with(|worker| worker.connections.set(worker.connections.get() + 1));
        Self(std::marker::PhantomData)
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        WORKER.with(|worker| worker.connections.set(worker.connections.get() - 1));
    }
}

/// An answer is about to be written.
pub(super) fn answered() {
    let begins = WORKER.with(|worker| {
        let was_awake = match worker.connections.get() {
            1 => worker.awake_until.replace(Some(Instant::now() + MOMENT)),
            _ => return false,
        };
        was_awake.is_none()
    });
    if begins {
        actix_rt::spawn(stay_awake());
    }
}

/// Between two yields the worker looks at its sockets, without waiting for them.
async fn stay_awake() {
    loop {
        tokio::task::yield_now().await;
        let over = WORKER.with(|worker| {
            let until = worker.awake_until.get();
            let over =
                worker.connections.get() != 1 || until.is_none_or(|until| until <= Instant::now());
            if over {
                worker.awake_until.set(None);
            }
            over
        });
        if over {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_awake() -> bool {
        WORKER.with(|worker| worker.awake_until.get().is_some())
    }

    async fn falls_asleep() {
        while is_awake() {
            tokio::task::yield_now().await;
        }
    }

    #[actix_rt::test]
    async fn a_worker_with_a_lone_caller_stays_awake_after_an_answer_and_then_sleeps() {
        let _caller = Present::new();
        assert!(!is_awake(), "nobody was answered");
        for _ in 0..3 {
            let answered_at = Instant::now();
            answered();
            assert!(is_awake());
            falls_asleep().await;
            assert!(answered_at.elapsed() >= MOMENT);
        }
    }

    #[actix_rt::test]
    async fn a_worker_with_more_callers_sleeps_when_it_has_nothing_to_do() {
        let _caller = Present::new();
        let other = Present::new();
        answered();
        assert!(!is_awake());
        drop(other);
        answered();
        assert!(is_awake());
        let _third = Present::new();
        falls_asleep().await;
    }

    #[actix_rt::test]
    async fn a_worker_whose_caller_has_gone_sleeps() {
        let caller = Present::new();
        answered();
        drop(caller);
        falls_asleep().await;
        answered();
        assert!(!is_awake(), "who was answered is gone");
    }
}
