//! Handfast beside Bitcoin Core on the same machine, from the same source, by turns.
//!
//! Prints the median of each and their ratio. Both get the same treatment: an empty
//! data directory, default caches, every script checked (`-assumevalid=0`), one
//! peer on loopback. The clock runs from process start to the first RPC answer
//! that names the right best block; CPU and memory are read at that moment.
//! What connections cost is in [`churn`], what callers of the RPC get in [`rpc`], how
//! fast headers are hashed in [`mining`], what the fuzzer can drive in [`fuzz`],
//! what hostile peers can do in [`attack`].

mod attack;
mod churn;
mod echo;
mod fuzz;
mod mining;
mod options;
mod report;
mod rpc;
mod run;

use std::process::ExitCode;

use handfast_tests::process::Program;
use options::{Chain, Options};
use report::Samples;

const PROGRAMS: [Program; 2] = [Program::Handfast, Program::Bitcoind];

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some(echo::ARGUMENT) {
        echo::serve();
        return ExitCode::SUCCESS;
    }
    if std::env::args().nth(1).as_deref() == Some(attack::child::ARGUMENT) {
        attack::child::serve();
        return ExitCode::SUCCESS;
    }
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::FAILURE;
        }
    };
    if let Some(address) = options.against {
        churn::against(address, options.churn.unwrap_or(options::CYCLES));
        return ExitCode::SUCCESS;
    }
    if let Some(choice) = &options.attack {
        attack::run(choice);
        return ExitCode::SUCCESS;
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    println!(
        "{} runs of each by turns, medians, {cores} cores\n",
        options.runs
    );
    for chain in &options.chains {
        match chain {
            Chain::Start => start(options.runs),
            Chain::Light | Chain::Signed => sync(*chain, options.runs),
        }
    }
    if let Some(cycles) = options.churn {
        churn::run(options.runs, cycles);
    }
    if let Some(cycles) = options.fuzz {
        fuzz::run(options.runs, cycles);
    }
    if options.rpc {
        rpc::run(options.runs);
    }
    if options.mining {
        mining::run(options.runs);
    }
    ExitCode::SUCCESS
}

/// Syncs one chain with each program by turns.
fn sync(chain: Chain, runs: usize) {
    let Some(source) = run::Source::start(chain) else {
        println!("{}: skipped, its data is not there\n", chain.title());
        return;
    };
    let mut samples = [Samples::default(), Samples::default()];
    for round in 0..runs {
        for index in order(round) {
            let sample = run::sync(PROGRAMS[index], &source);
            eprintln!(
                "  run {}: {}",
                round + 1,
                report::line(PROGRAMS[index], &sample)
            );
            samples[index].push(sample);
        }
    }
    report::print(chain.title(), PROGRAMS, &samples);
    run::print_kernel_alone(chain, runs);
    println!();
}

/// Starts each program by turns on an empty regtest directory.
fn start(runs: usize) {
    let mut samples = [Samples::default(), Samples::default()];
    for round in 0..runs {
        for index in order(round) {
            samples[index].push(run::start(PROGRAMS[index]));
        }
    }
    report::print_start(PROGRAMS, &samples);
    println!();
}

/// Who goes first changes each round, so that neither always finds the warmer machine.
fn order(round: usize) -> [usize; 2] {
    if round.is_multiple_of(2) {
        [0, 1]
    } else {
        [1, 0]
    }
}
