//! Many runs on all cores.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::{EventCounts, Options, Outcome, run};

/// The result of many runs.
#[derive(Clone, Debug, Default)]
pub struct Explored {
    /// Runs that ended.
    pub runs: u64,
    /// Virtual time in all of them.
    pub lasted: Duration,
    /// How often each event happened in all of them.
    pub counts: EventCounts,
    /// The failed runs, by seed.
    pub failures: Vec<Outcome>,
}

/// Runs the seeds on as many threads as there are cores, and stops early once `most` of them have
/// failed. `progress` is called after each run.
///
/// # Panics
/// When a thread of it panics: a bug of the simulator.
pub fn explore(
    seeds: Range<u64>,
    options: &Options,
    most: usize,
    progress: impl Fn(&Explored) + Sync,
) -> Explored {
    let next = AtomicU64::new(seeds.start);
    let enough = AtomicBool::new(false);
    let explored = Mutex::new(Explored::default());
    let work = || {
        while !enough.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            let outcome = run(&Options {
                seed,
                ..options.clone()
            });
            let mut explored = explored
                .lock()
                .expect("no thread panics while it holds this");
            explored.runs += 1;
            explored.lasted += outcome.lasted;
            explored.counts.merge(&outcome.counts);
            if outcome.failure.is_some() {
                explored.failures.push(outcome);
                enough.fetch_or(explored.failures.len() >= most, Ordering::Relaxed);
            }
            progress(&explored);
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let mut explored = explored.into_inner().expect("all threads have ended");
    explored.failures.sort_by_key(|failure| failure.seed);
    explored
}
