//! Threads that search for nonces, at the lowest priority there is.
//!
//! They know nothing of Bitcoin but what a header's hash is. Whoever drives them gives
//! [`Work`], and hears of the first solution of it.
//!
//! # Ordering
//! [`HashThreads::work`] and [`HashThreads::idle`] take hold at once: a thread looks
//! between two slices of its search, each of a few milliseconds, and a solution that was
//! found since then is dropped. One that was found *before* may still be on its way to the
//! callback; [`Solved::generation`] tells.

mod priority;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Once, PoisonError};
use std::thread::{Builder, JoinHandle};

use handfast_sha256d::Engine;

/// Nonces between two looks at what is wanted: 0.5 ms with the fastest kernel, some 10 ms
/// on a processor that has nothing to hash with.
const SLICE: u64 = 1 << 14;
/// As many nonces has a header.
const NONCES: u64 = 1 << 32;

/// What to search.
#[derive(Clone)]
pub struct Work {
    /// Names this work in what is [`Solved`]. Nothing is concluded from its order.
    pub generation: u64,
    /// The header for an extra nonce; its own nonce does not matter. Called on the hash
    /// threads, once for all nonces of a header; thread `k` of `n` asks for `k`, `k + n`, …
    pub jobs: Arc<dyn Fn(u64) -> [u8; 80] + Send + Sync>,
    /// A hash of at most this solves it. Written as a hash is, lowest byte first.
    pub target: [u8; 32],
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Work");
        debug.field("generation", &self.generation);
        debug.field("target", &self.target).finish_non_exhaustive()
    }
}

/// A header that solves its work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Solved {
    /// Of the work.
    pub generation: u64,
    /// With which [`Work::jobs`] made it.
    pub extra_nonce: u64,
    /// With the nonce that solves it.
    pub header: [u8; 80],
}

/// Threads that hash while there is work. Dropping them stops and joins them.
#[derive(Debug)]
pub struct HashThreads {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl HashThreads {
    /// Starts `threads` threads, named `hash-0` and so on, which have nothing to do yet.
    ///
    /// They run at `SCHED_IDLE`, so that they get what nobody else wants; where that is
    /// refused, at nice 19. `on_solved` is called on one of them, once for each work that
    /// is solved; it must not block, nor drop these threads.
    ///
    /// # Errors
    /// When the system gives no more threads.
    ///
    /// # Panics
    /// When `threads` is 0.
    pub fn start(
        threads: usize,
        on_solved: impl Fn(Solved) + Send + Sync + Clone + 'static,
    ) -> io::Result<Self> {
        assert_ne!(threads, 0, "somebody must hash");
        let mut all = Self {
            shared: Arc::new(Shared::new()),
            threads: Vec::with_capacity(threads),
        };
        for index in 0..threads {
            let hasher = Hasher {
                first: index as u64,
                step: threads as u64,
                engine: Engine::best(),
                shared: all.shared.clone(),
                on_solved: on_solved.clone(),
            };
            let thread = Builder::new().name(format!("hash-{index}"));
            // When one does not start, those that did are stopped by the drop.
            all.threads.push(thread.spawn(move || hasher.run())?);
        }
        Ok(all)
    }

    /// All threads leave what they do, and search this until it is solved or replaced.
    pub fn work(&self, work: Work) {
        self.shared.order(Order::Work(work));
    }

    /// All threads leave what they do, and wait for work.
    pub fn idle(&self) {
        self.shared.order(Order::Idle);
    }

    /// Hashes computed since the start, by all threads.
    pub fn hashes(&self) -> u64 {
        self.shared.hashes.load(Ordering::Relaxed)
    }

    /// What they hash with: the name of an [`Engine`].
    pub fn engine(&self) -> &'static str {
        Engine::best().name()
    }

    /// How many there are.
    pub fn threads(&self) -> usize {
        self.threads.len()
    }
}

impl Drop for HashThreads {
    fn drop(&mut self) {
        self.shared.order(Order::Stop);
        for thread in self.threads.drain(..) {
            let name = thread.thread().name().unwrap_or_default().to_owned();
            if thread.join().is_err() {
                tracing::error!("{name} had panicked");
            }
        }
    }
}

/// What all threads are to do.
#[derive(Clone, Debug)]
enum Order {
    Idle,
    Work(Work),
    Stop,
}

/// What the threads and their owner share.
#[derive(Debug)]
struct Shared {
    order: Mutex<Order>,
    /// There is another order.
    changed: Condvar,
    /// Goes up with every order. Changes with `order` locked, so that a thread that finds
    /// its own there while it has the lock knows that its order holds.
    turn: AtomicU64,
    hashes: AtomicU64,
    /// That `SCHED_IDLE` is not to be had is said once, not by every thread.
    complained: Once,
}

impl Shared {
    fn new() -> Self {
        Self {
            order: Mutex::new(Order::Idle),
            changed: Condvar::new(),
            turn: AtomicU64::new(0),
            hashes: AtomicU64::new(0),
            complained: Once::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Order> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn order(&self, order: Order) {
        self.replace(&mut self.lock(), order);
        self.changed.notify_all();
    }

    fn replace(&self, current: &mut Order, order: Order) {
        *current = order;
        self.turn.fetch_add(1, Ordering::Relaxed);
    }

    /// Waits for work. `None`: for the end.
    fn next_work(&self) -> Option<(u64, Work)> {
        let idle = |order: &mut Order| matches!(order, Order::Idle);
        let order = self
            .changed
            .wait_while(self.lock(), idle)
            .unwrap_or_else(PoisonError::into_inner);
        match &*order {
            Order::Work(work) => Some((self.turn.load(Ordering::Relaxed), work.clone())),
            Order::Idle | Order::Stop => None,
        }
    }

    /// Whether the order of this turn still holds.
    fn holds(&self, turn: u64) -> bool {
        // It may be seen late, not wrongly: before anything follows from it the lock is taken.
        self.turn.load(Ordering::Relaxed) == turn
    }

    /// Ends the work of this turn for all threads, if nobody did so before.
    fn claim(&self, turn: u64) -> bool {
        let mut order = self.lock();
        let mine = self.holds(turn);
        if mine {
            self.replace(&mut order, Order::Idle);
        }
        mine
    }
}

/// One thread.
struct Hasher<F> {
    /// Its first extra nonce.
    first: u64,
    /// From one of its extra nonces to the next.
    step: u64,
    engine: Engine,
    shared: Arc<Shared>,
    on_solved: F,
}

impl<F: Fn(Solved)> Hasher<F> {
    fn run(self) {
        if let Err(error) = priority::lower() {
            self.shared.complained.call_once(|| {
                tracing::info!(%error, "hash threads cannot run at SCHED_IDLE, and run at nice 19");
            });
        }
        while let Some((turn, work)) = self.shared.next_work() {
            if let Some(solved) = self.search(turn, &work)
                && self.shared.claim(turn)
            {
                (self.on_solved)(solved);
            }
        }
    }

    /// Searches until it is solved, or another order came.
    fn search(&self, turn: u64, work: &Work) -> Option<Solved> {
        let mut extra_nonce = self.first;
        loop {
            let mut header = (work.jobs)(extra_nonce);
            for first in (0..NONCES).step_by(SLICE as usize) {
                if !self.shared.holds(turn) {
                    return None;
                }
                let slice = first..first + SLICE;
                let found = self.engine.search(&header, &work.target, slice);
                let done = found.map_or(SLICE, |nonce| u64::from(nonce) - first + 1);
                self.shared.hashes.fetch_add(done, Ordering::Relaxed);
                if let Some(nonce) = found {
                    header[76..].copy_from_slice(&nonce.to_le_bytes());
                    return Some(Solved {
                        generation: work.generation,
                        extra_nonce,
                        header,
                    });
                }
                // A core that hashes is not idle, so it takes no waiting thread from a busy
                // one before the next tick, 4 ms later. Whoever yields lets it look: without
                // this the slowest of many callers of the RPC wait twice as long.
                std::thread::yield_now();
            }
            extra_nonce += self.step;
        }
    }
}
