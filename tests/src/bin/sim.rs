//! Runs the simulation: `sim --seed N [--trace]`, `sim --runs N [--from SEED]`.
//!
//! Exits with 1 when a property was broken, and prints the seed that shows it.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use handfast_tests::sim::{Explored, Options, explore, run};

const USAGE: &str = "usage: sim --seed N [--trace] [--healthy] [--stop-at SECONDS] | sim --runs N [--from SEED] [--healthy] [--failures N]";

/// What the command line says.
#[derive(Debug, Default)]
struct Arguments {
    seed: Option<u64>,
    runs: Option<u64>,
    from: u64,
    trace: bool,
    healthy: bool,
    failures: usize,
    stop_at: Option<u64>,
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let mut arguments = Arguments {
        failures: 1,
        ..Arguments::default()
    };
    while let Some(word) = words.next() {
        let mut number = || -> Result<u64, String> {
            let value = words.next().ok_or(format!("{word} wants a number"))?;
            value
                .parse()
                .map_err(|error| format!("{word} {value}: {error}"))
        };
        match word.as_str() {
            "--seed" => arguments.seed = Some(number()?),
            "--runs" => arguments.runs = Some(number()?),
            "--from" => arguments.from = number()?,
            "--failures" => arguments.failures = number()? as usize,
            "--stop-at" => arguments.stop_at = Some(number()?),
            "--trace" => arguments.trace = true,
            "--healthy" => arguments.healthy = true,
            other => return Err(format!("unknown argument {other}")),
        }
    }
    Ok(arguments)
}

fn main() -> ExitCode {
    let arguments = match parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("{error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match (arguments.seed, arguments.runs) {
        (Some(seed), None) => one(seed, &arguments),
        (None, Some(runs)) => many(runs, &arguments),
        (Some(_), Some(_)) | (None, None) => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn one(seed: u64, arguments: &Arguments) -> ExitCode {
    let outcome = run(&Options {
        seed,
        healthy: arguments.healthy,
        keep_trace: arguments.trace,
        stop_at: arguments.stop_at.map(Duration::from_secs),
        ..Options::default()
    });
    if let Some(trace) = &outcome.trace {
        print!("{trace}");
    }
    println!("{outcome}");
    if outcome.failure.is_some() {
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn many(runs: u64, arguments: &Arguments) -> ExitCode {
    let options = Options {
        healthy: arguments.healthy,
        ..Options::default()
    };
    let (told, failed) = (AtomicU64::new(0), AtomicUsize::new(0));
    let progress = |explored: &Explored| {
        let failures = &explored.failures;
        for failure in &failures[failed.swap(failures.len(), Ordering::Relaxed)..] {
            println!("        seed {} failed", failure.seed);
        }
        let tenths = explored.runs * 10 / runs.max(1);
        if told.fetch_max(tenths, Ordering::Relaxed) < tenths {
            println!(
                "{:>7} runs, {:.0} virtual hours, {} failed",
                explored.runs,
                explored.lasted.as_secs_f64() / 3_600.0,
                explored.failures.len()
            );
        }
    };
    let seeds = arguments.from..arguments.from.saturating_add(runs);
    let explored = explore(seeds, &options, arguments.failures, progress);
    for (what, times) in explored.tally.rows() {
        println!("{times:>12} {what}");
    }
    println!(
        "{:>12.1} virtual hours in {} runs",
        explored.lasted.as_secs_f64() / 3_600.0,
        explored.runs
    );
    for failure in &explored.failures {
        println!("\n{failure}");
    }
    if explored.failures.is_empty() {
        println!("all properties held");
        return ExitCode::SUCCESS;
    }
    let seeds: Vec<String> = explored
        .failures
        .iter()
        .map(|failure| failure.seed.to_string())
        .collect();
    println!("\nfailed: seeds {}", seeds.join(", "));
    ExitCode::FAILURE
}
