//! A load like that of somebody else's miner: harder than our own, whose threads get only
//! what nobody else wants. These have the normal priority, and there is one for every core.

use std::hint::black_box;
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

/// Threads that use all of their cores until it is dropped.
#[derive(Debug)]
pub struct MinerStandIn {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl MinerStandIn {
    /// A busy thread for every core.
    pub fn on_every_core() -> Self {
        Self::on(thread::available_parallelism().map_or(1, NonZero::get))
    }

    /// So many busy threads.
    pub fn on(cores: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let burn = |_| {
            let stop = stop.clone();
            thread::spawn(move || {
                let mut nonce = 0_u64;
                while !stop.load(Ordering::Relaxed) {
                    for _ in 0..10_000 {
                        nonce = black_box(nonce.wrapping_mul(6_364_136_223_846_793_005) ^ 1);
                    }
                }
            })
        };
        Self {
            threads: (0..cores).map(burn).collect(),
            stop,
        }
    }
}

impl Drop for MinerStandIn {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
