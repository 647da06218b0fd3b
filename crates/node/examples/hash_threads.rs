//! Hash threads alone: how much all cores hash together, with nothing to solve.
//!
//! ```text
//! cargo run --release -p handfast-node --example hash_threads -- [SECONDS] [THREADS]
//! ```
//!
//! Three seconds on every core by default. The threads run at `SCHED_IDLE`:
//! what else runs on the machine comes first, so the rate per processor second is printed
//! beside that of the clock on the wall.
#![allow(
    clippy::disallowed_methods,
    reason = "no arbiter and no virtual time here: it measures"
)]

use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use handfast_node::miner::hash_threads::{HashThreads, Work};
use rustix::time::{ClockId, clock_gettime};

fn main() -> ExitCode {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut numbers = std::env::args().skip(1).map(|word| word.parse().ok());
    let mut number = |default| numbers.next().unwrap_or(Some(default));
    let (Some(seconds @ 1..), Some(threads @ 1..)) = (number(3), number(cores)) else {
        eprintln!("usage: hash_threads [SECONDS] [THREADS]");
        return ExitCode::FAILURE;
    };
    match run(Duration::from_secs(seconds as u64), threads) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hash_threads: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(time: Duration, threads: usize) -> io::Result<()> {
    let all = HashThreads::start(threads, |solved| unreachable!("no hash is 0: {solved:?}"))?;
    let (header_made, begins) = channel();
    all.work(Work {
        generation: 0,
        jobs: Arc::new(move |extra_nonce| {
            let _ = header_made.send(());
            let mut header = [0; 80];
            header[36..44].copy_from_slice(&extra_nonce.to_le_bytes());
            header
        }),
        target: [0; 32],
    });
    for _ in 0..threads {
        begins.recv().expect("the work is not replaced");
    }
    let cpu = || Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default();
    let (begun, cpu_before, before) = (Instant::now(), cpu(), all.hashes());
    // Nothing comes: each thread is through with its first header only after minutes.
    while begins
        .recv_timeout(time.saturating_sub(begun.elapsed()))
        .is_ok()
    {}
    let hashes = (all.hashes() - before) as f64 / 1e6;
    println!(
        "{threads} threads, {}: {:.1} MH/s, {:.1} a processor second",
        all.engine(),
        hashes / begun.elapsed().as_secs_f64(),
        hashes / (cpu() - cpu_before).as_secs_f64(),
    );
    Ok(())
}
