//! Threads that search for nonces at the lowest priority.
//!
//! All they know of Bitcoin is a header's hash. Their owner gives them [`Work`] and receives its
//! first solution.
//!
//! # Ordering
//! [`HashThreads::work`] and [`HashThreads::idle`] take effect at once: a thread checks between two
//! slices of its search, each of a few milliseconds, and a solution that was found later is
//! dropped. One that was found *before* may still be on its way to the callback;
//! [`Solved::generation`] shows it.

mod priority;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Once, PoisonError};
use std::thread::{Builder, JoinHandle};

use handfast_sha256d::Engine;

/// Nonces between two checks for new work: 0.5 ms with the fastest kernel, some 10 ms on a
/// processor without SHA instructions.
const SLICE: u64 = 1 << 14;
/// Number of nonces of a header.
const NONCES: u64 = 1 << 32;

/// What to search.
#[derive(Clone)]
pub struct Work {
    /// Identifies this work in [`Solved`]. Its order has no meaning.
    pub generation: u64,
    /// The header for an extra nonce; its own nonce does not matter. Called on the hash
    /// threads, once for all nonces of a header; thread `k` of `n` calls it for `k`, `k + n`, …
    pub jobs: Arc<dyn Fn(u64) -> [u8; 80] + Send + Sync>,
    /// The highest hash that solves it, in the byte order of a hash: lowest byte first.
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
    /// The generation of the work.
    pub generation: u64,
    /// The extra nonce that was given to [`Work::jobs`].
    pub extra_nonce: u64,
    /// The header with the nonce that solves it.
    pub header: [u8; 80],
}

/// Threads that hash while there is work. Dropping them stops and joins them.
#[derive(Debug)]
pub struct HashThreads {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl HashThreads {
    /// Starts `threads` threads, named `hash-0` and so on, without work.
    ///
    /// They run at `SCHED_IDLE`, so that they get only unused time; where that is refused, at nice
    /// 19. `on_solved` is called on one of them, once for each work that is solved; it must not
    /// block, nor drop these threads.
    ///
    /// # Errors
    /// When the system cannot start a thread.
    ///
    /// # Panics
    /// When `threads` is 0.
    pub fn start(
        threads: usize,
        on_solved: impl Fn(Solved) + Send + Sync + Clone + 'static,
    ) -> io::Result<Self> {
        assert_ne!(threads, 0, "at least one thread");
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
            // When one does not start, the drop stops those that did.
            all.threads.push(thread.spawn(move || hasher.run())?);
        }
        Ok(all)
    }

    /// All threads switch to this work, until it is solved or replaced.
    pub fn work(&self, work: Work) {
        self.shared.command(Command::Work(work));
    }

    /// All threads stop hashing and wait for work.
    pub fn idle(&self) {
        self.shared.command(Command::Idle);
    }

    /// Hashes computed by all threads since the start.
    pub fn hashes(&self) -> u64 {
        self.shared.hashes.load(Ordering::Relaxed)
    }

    /// The implementation in use: the name of an [`Engine`].
    pub fn engine(&self) -> &'static str {
        Engine::best().name()
    }

    /// Number of threads.
    pub fn threads(&self) -> usize {
        self.threads.len()
    }
}

impl Drop for HashThreads {
    fn drop(&mut self) {
        self.shared.command(Command::Stop);
        for thread in self.threads.drain(..) {
            let name = thread.thread().name().unwrap_or_default().to_owned();
            if thread.join().is_err() {
                tracing::error!("{name} had panicked");
            }
        }
    }
}

/// The command to all threads.
#[derive(Clone, Debug)]
enum Command {
    Idle,
    Work(Work),
    Stop,
}

/// What the threads and their owner share.
#[derive(Debug)]
struct Shared {
    command: Mutex<Command>,
    /// The command changed.
    changed: Condvar,
    /// Incremented by every command, with `command` locked, so that a thread that sees an unchanged
    /// turn under the lock knows that its command is current.
    turn: AtomicU64,
    hashes: AtomicU64,
    /// A refused `SCHED_IDLE` is logged once, not by every thread.
    logged: Once,
}

impl Shared {
    fn new() -> Self {
        Self {
            command: Mutex::new(Command::Idle),
            changed: Condvar::new(),
            turn: AtomicU64::new(0),
            hashes: AtomicU64::new(0),
            logged: Once::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Command> {
        self.command.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn command(&self, command: Command) {
        self.replace(&mut self.lock(), command);
        self.changed.notify_all();
    }

    fn replace(&self, current: &mut Command, command: Command) {
        *current = command;
        self.turn.fetch_add(1, Ordering::Relaxed);
    }

    /// Waits for work. `None`: the threads end.
    fn next_work(&self) -> Option<(u64, Work)> {
        let idle = |command: &mut Command| matches!(command, Command::Idle);
        let command = self
            .changed
            .wait_while(self.lock(), idle)
            .unwrap_or_else(PoisonError::into_inner);
        match &*command {
            Command::Work(work) => Some((self.turn.load(Ordering::Relaxed), work.clone())),
            Command::Idle | Command::Stop => None,
        }
    }

    /// Whether the command of this turn is current.
    fn is_current(&self, turn: u64) -> bool {
        // A late view is harmless: the lock is taken before a solution counts.
        self.turn.load(Ordering::Relaxed) == turn
    }

    /// Ends the work of this turn for all threads, unless another thread did.
    fn claim(&self, turn: u64) -> bool {
        let mut command = self.lock();
        let mine = self.is_current(turn);
        if mine {
            self.replace(&mut command, Command::Idle);
        }
        mine
    }
}

/// One thread.
struct Hasher<F> {
    /// Its first extra nonce.
    first: u64,
    /// Step between its extra nonces.
    step: u64,
    engine: Engine,
    shared: Arc<Shared>,
    on_solved: F,
}

impl<F: Fn(Solved)> Hasher<F> {
    fn run(self) {
        if let Err(error) = priority::lower() {
            self.shared.logged.call_once(|| {
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

    /// Searches until a solution is found or the command changes.
    fn search(&self, turn: u64, work: &Work) -> Option<Solved> {
        let mut extra_nonce = self.first;
        loop {
            let mut header = (work.jobs)(extra_nonce);
            for first in (0..NONCES).step_by(SLICE as usize) {
                if !self.shared.is_current(turn) {
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
                // A core that hashes is not idle, so the scheduler moves no waiting thread to it
                // before the next tick, 4 ms later. Yielding lets the scheduler check: without it
                // the slowest of many RPC callers wait twice as long.
                std::thread::yield_now();
            }
            extra_nonce += self.step;
        }
    }
}
