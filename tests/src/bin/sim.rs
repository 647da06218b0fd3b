//! Runs the simulation: `sim --seed N [--trace]`, `sim --runs N [--from SEED]`.
//!
//! Exits with 1 when a property was broken, and prints the seed that shows it.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use handfast_tests::sim::{
    Explored, HOSTILE, Kind, MUTANTS, Mutant, Options, Siege, Who, explore, run,
};

const USAGE: &str = "usage:
  sim --seed N [--trace] [--stop-at SECONDS] [--healthy] [--second] [--attack ...]
  sim --runs N [--from SEED] [--failures N] [--healthy] [--second] [--attack ...]
  --second gives PeerManager a second subscriber, beside SyncManager.
A node under attack, instead of a network with faults; what is not given is drawn:
  --attack [--kind NAME|mixed] [--hostile 0..114] [--hostile-dialled 0|1] [--honest-dialled 0|1]
    [--patient 0|1]: S1 alone is the limit
Without --healthy and --attack, a fifth as many attacks are run after the networks, 100 at most.
  --mutant NAME puts a mistake into the glue.";
/// Attacks that are run beside networks, when nothing is said of them.
const MOST_ATTACKS: u64 = 100;

/// What the command line says.
#[derive(Debug, Default)]
struct Arguments {
    seed: Option<u64>,
    runs: Option<u64>,
    from: u64,
    trace: bool,
    healthy: bool,
    second: bool,
    siege: Option<Siege>,
    mutant: Option<Mutant>,
    failures: usize,
    stop_at: Option<u64>,
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let mut arguments = Arguments {
        failures: 1,
        ..Arguments::default()
    };
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} wants a value"));
        let siege = arguments.siege.unwrap_or_default();
        match word.as_str() {
            "--trace" => arguments.trace = true,
            "--healthy" => arguments.healthy = true,
            "--second" => arguments.second = true,
            "--attack" => arguments.siege = Some(siege),
            "--kind" => {
                let who = Some(who(&value()?)?);
                arguments.siege = Some(Siege { who, ..siege });
            }
            "--mutant" => arguments.mutant = Some(mutant(&value()?)?),
            _ => {
                let value = value()?;
                let number: u64 = value
                    .parse()
                    .map_err(|error| format!("{word} {value}: {error}"))?;
                arguments.number(&word, number)?;
            }
        }
    }
    Ok(arguments)
}

impl Arguments {
    fn number(&mut self, word: &str, number: u64) -> Result<(), String> {
        let siege = self.siege.unwrap_or_default();
        match word {
            "--seed" => self.seed = Some(number),
            "--runs" => self.runs = Some(number),
            "--from" => self.from = number,
            "--failures" => self.failures = number as usize,
            "--stop-at" => self.stop_at = Some(number),
            "--hostile" => {
                let hostile = Some(number.min(114) as usize);
                self.siege = Some(Siege { hostile, ..siege });
            }
            "--hostile-dialled" => {
                let hostile_dialled = Some(number != 0);
                self.siege = Some(Siege {
                    hostile_dialled,
                    ..siege
                });
            }
            "--patient" => {
                let patient = number != 0;
                self.siege = Some(Siege { patient, ..siege });
            }
            "--honest-dialled" => {
                let honest_dialled = Some(number != 0);
                self.siege = Some(Siege {
                    honest_dialled,
                    ..siege
                });
            }
            other => return Err(format!("unknown argument {other}")),
        }
        Ok(())
    }
}

fn who(name: &str) -> Result<Who, String> {
    let all = || {
        let names: Vec<&str> = HOSTILE.iter().map(|kind| kind.name()).collect();
        format!("--kind {name}: one of mixed, {}", names.join(", "))
    };
    match Kind::of(name) {
        _ if name == "mixed" => Ok(Who::Mixed),
        Some(kind) => Ok(Who::All(kind)),
        None => Err(all()),
    }
}

fn mutant(name: &str) -> Result<Mutant, String> {
    let found = MUTANTS.iter().find(|mutant| format!("{mutant:?}") == name);
    found
        .copied()
        .ok_or(format!("--mutant {name}: one of {MUTANTS:?}"))
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
        second: arguments.second,
        siege: arguments.siege,
        mutant: arguments.mutant,
        keep_trace: arguments.trace,
        stop_at: arguments.stop_at.map(Duration::from_secs),
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
        second: arguments.second,
        siege: arguments.siege,
        mutant: arguments.mutant,
        ..Options::default()
    };
    let networks = explored(runs, arguments, &options);
    if networks != ExitCode::SUCCESS || options.healthy || options.siege.is_some() {
        return networks;
    }
    let attacks = (runs / 5).min(MOST_ATTACKS);
    println!("\n{attacks} attacks");
    let siege = Some(Siege::default());
    explored(attacks, arguments, &Options { siege, ..options })
}

/// Runs them and prints what came of it.
fn explored(runs: u64, arguments: &Arguments, options: &Options) -> ExitCode {
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
    let explored = explore(seeds, options, arguments.failures, progress);
    for (what, times) in explored.counts.rows() {
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
