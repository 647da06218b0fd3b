//! `handfast fuzz`: runs against any node, and what they found.

mod cli;
mod descriptors;
mod introspection;
mod options;
mod progress;
mod results;
mod shrink;
mod terms;

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Instant;

use clap::ArgMatches;
use handfast_cli::output::{print, print_error};
use handfast_cli::signals::DUPLICATE_WITHIN;
use handfast_fuzz::Scenario;
use handfast_fuzz::oracle::Verdict;
use handfast_fuzz::report::{Report, in_words};
use handfast_fuzz::run::{Outcome, Run};
use handfast_fuzz::terms::MIX;
use handfast_fuzz::trace::LeftOut;

pub(crate) use cli::{NAME, command};
use options::{Setup, setup};
use progress::Progress;
use results::{ReportDirs, Saved};

/// The exit code if the target fails.
const NOT_WELL: u8 = 1;
/// The exit code for wrong options, no reachable target, a run that proves nothing, or results
/// that could not be written.
const NO_RUN: u8 = 2;

/// Executes the subcommand. Exit code 0: the verdict is `ok`, or nothing was judged.
pub(crate) fn execute(matches: &ArgMatches) -> ExitCode {
    let (name, matches) = matches.subcommand().expect("clap requires a subcommand");
    let done = match name {
        "scenarios" => scenarios(matches.get_one::<String>("SCENARIO").map(String::as_str)),
        "run" => run(setup(matches)),
        "replay" => run(options::replay(matches)),
        "show" => show(matches),
        "shrink" => shrink::shrink(matches),
        other => unreachable!("clap knows no subcommand {other}"),
    };
    done.unwrap_or_else(|line| no_run(&line))
}

/// Prints why there was no run.
pub(crate) fn no_run(line: &str) -> ExitCode {
    print_error(line);
    ExitCode::from(NO_RUN)
}

/// Whether an invalid command line is one of this subcommand.
pub(crate) fn is_meant() -> bool {
    std::env::args().nth(1).as_deref() == Some(NAME)
}

/// Lists the scenarios, or describes one.
fn scenarios(name: Option<&str>) -> Result<ExitCode, String> {
    let text = match name {
        Some(MIX) => format!(
            "Runs every scenario, the common ones more often; what `{NAME} run` does unless \
             --scenario selects others.\n"
        ),
        Some(name) => {
            let scenario: Scenario = name.parse().map_err(|error| format!("{error}"))?;
            scenario.page().to_owned()
        }
        None => Scenario::ALL
            .into_iter()
            .map(|scenario| {
                let first = scenario.page().lines().next().unwrap_or_default();
                format!("{:18} {first}\n", scenario.name())
            })
            .collect(),
    };
    print(&text);
    Ok(ExitCode::SUCCESS)
}

/// Prints a trace as text.
fn show(matches: &ArgMatches) -> Result<ExitCode, String> {
    let trace = options::trace(matches)?;
    print(&trace.to_string());
    Ok(ExitCode::SUCCESS)
}

fn run(setup: Result<Setup, String>) -> Result<ExitCode, String> {
    let setup = setup?;
    let run = the_run(&setup)?;
    descriptors::raise_limit(&setup)?;
    let _dirs = ReportDirs::try_out(
        setup.trace.as_deref(),
        setup.report.as_deref(),
        setup.overwrite,
    )?;
    let stop = stop_on_signal()?;
    let progress = Progress::new(&setup.plan);
    let outcome = run.execute(&stop, |event| progress.show(&event));
    let outcome = outcome.map_err(|error| error.to_string())?;
    progress.end();
    let report = report(&setup, &outcome);
    let saved = results::save(&setup, &report);
    print(&summary(&setup, &report, &saved));
    for error in &saved.errors {
        print_error(error);
    }
    Ok(match outcome.judgement.verdict {
        _ if !saved.errors.is_empty() => ExitCode::from(NO_RUN),
        Verdict::Ok => ExitCode::SUCCESS,
        Verdict::Nothing => no_run(&proves_nothing(&outcome)),
        _ => ExitCode::from(NOT_WELL),
    })
}

fn proves_nothing(outcome: &Outcome) -> String {
    let evidence = &outcome.judgement.evidence;
    let why = evidence.first().map_or("", |one| &one.text);
    format!("the run proves nothing: {why}")
}

fn the_run(setup: &Setup) -> Result<Run, String> {
    Ok(Run {
        plan: setup.plan.clone(),
        params: setup.params.clone(),
        target: setup.target,
        endpoints: setup.endpoints()?,
        sources: setup.sources,
        honest_peers_from: None,
        mines: setup.mines,
        introspection: introspection::introspection(setup),
        answer_timeout: setup.answer_timeout,
        network: setup.network.clone(),
        entries: setup.entries.clone(),
        records: setup.trace.is_some(),
    })
}

fn report<'a>(setup: &'a Setup, outcome: &'a Outcome) -> Report<'a> {
    Report {
        outcome,
        target: setup.target,
        network: setup.network.name(),
        scenarios: setup.scenarios.join(", "),
        seed: setup.plan.seed,
        concurrency: setup.plan.concurrency,
        command: setup.command(),
    }
}

/// The summary: verdict, evidence, figures, and the command to repeat the run.
fn summary(setup: &Setup, report: &Report<'_>, saved: &Saved) -> String {
    let outcome = report.outcome;
    let counters = &outcome.seen.counters;
    let total = counters.total();
    let mut lines = vec![format!("Verdict   {}", outcome.judgement.verdict)];
    for one in &outcome.judgement.evidence {
        lines.push(format!("          {}: {}", one.verdict, one.text));
    }
    lines.push(format!(
        "Target    {} {} ({})",
        report.target, outcome.version_info.user_agent, report.network
    ));
    lines.push(format!(
        "Cycles    {} in {:.1} s, {:.0} a second; {} ended by the target",
        total.ended,
        counters.elapsed.as_secs_f64(),
        counters.rate(),
        total.ended_by_target
    ));
    if total.unfinished() > 0 {
        lines.push(format!(
            "Begun     {}; {} had not ended when the run ended: {}",
            total.begun,
            total.unfinished(),
            in_words(&counters.unfinished())
        ));
    }
    for wait in report.waits() {
        lines.push(format!("Waited    {wait}"));
    }
    let handshake = |percent| counters.handshake_percentile(percent).as_secs_f64() * 1e3;
    lines.push(match counters.handshakes() {
        0 => "Handshake none was measured".to_owned(),
        _ => format!(
            "Handshake p50 {:.1} ms, p99 {:.1} ms, longest {:.1} ms",
            handshake(50.0),
            handshake(99.0),
            handshake(100.0)
        ),
    });
    for (failure, count) in &total.failures {
        lines.push(format!("Failed    {count} x {failure}"));
    }
    if outcome.interrupted {
        lines.push("Ended     early, by a signal".into());
    }
    if let Some(dir) = setup.report.as_ref().filter(|_| saved.report) {
        lines.push(format!("Report    {}", dir.join("report.html").display()));
    }
    let trace = outcome.trace.as_ref().filter(|_| saved.trace);
    if let (Some(path), Some(trace)) = (&setup.trace, trace) {
        let cut = match trace.left_out == LeftOut::default() {
            true => String::new(),
            false => format!("; not in it: {}", trace.left_out),
        };
        lines.push(format!("Trace     {}{cut}", path.display()));
    }
    lines.push(format!("Again     {}", report.command));
    lines.join("\n") + "\n"
}

/// Set by the first SIGINT, SIGTERM or SIGHUP; another one ends the process.
fn stop_on_signal() -> Result<Arc<AtomicBool>, String> {
    use tokio::signal::unix::{SignalKind, signal};
    let stop = Arc::new(AtomicBool::new(false));
    let stop_flag = stop.clone();
    // Before this a signal would end the process without a message.
    let (listens, listened) = mpsc::channel();
    let wait = async move {
        let (Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)) = (
            signal(SignalKind::interrupt()),
            signal(SignalKind::terminate()),
            signal(SignalKind::hangup()),
        ) else {
            return;
        };
        drop(listens);
        let mut first: Option<Instant> = None;
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
            }
            stop_flag.store(true, Ordering::Relaxed);
            if first.is_some_and(|first| first.elapsed() >= DUPLICATE_WITHIN) {
                std::process::exit(130);
            }
            first.get_or_insert_with(Instant::now);
        }
    };
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || crate::client::block_on(wait))
        .map_err(|error| format!("cannot start a thread: {error}"))?;
    // The thread's end is the message.
    let _: Result<(), _> = listened.recv();
    Ok(stop)
}
