//! `handfast fuzz shrink`: a shorter trace that still fails.

mod started;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::ArgMatches;
use handfast_cli::output::{print, print_error};
use handfast_fuzz::oracle::Verdict;
use handfast_fuzz::shrink;
use handfast_fuzz::trace::{LeftOut, ReplayEntry, Trace};

use super::options::{self, Setup};
use super::results::ReportDirs;
use super::{NO_RUN, stop_on_signal, the_run};
use started::Started;

/// Default limit of runs.
pub(super) const TRIES: u64 = 500;
/// How often a shorter run is tried before it counts as passing: races need several tries.
const RETRIES_PER_STEP: usize = 3;
/// How often in a row the target may fail to start.
const MAX_FAILED_STARTS: usize = 3;

/// Shrinks what the command line says.
pub(super) fn shrink(matches: &ArgMatches) -> Result<ExitCode, String> {
    let setup = options::replay(matches)?;
    let output = matches.get_one::<PathBuf>("output").expect("required");
    let _dirs = ReportDirs::try_out(Some(output), None, setup.overwrite)?;
    let stop = stop_on_signal()?;
    let all = setup.entries.clone();
    let mut search = Search {
        start: matches.get_one::<String>("start").expect("required"),
        runs_left: matches.get_one::<u64>("tries").copied().unwrap_or(TRIES),
        trace: options::trace(matches)?,
        setup: &setup,
        output,
        stop: &stop,
        best: None,
        ended: None,
    };
    if search.fails(&all) == Some(true) {
        shrink::shrink(all, |entries| search.fails(entries));
    }
    search.end()
}

/// Why the search ended early.
enum End {
    /// A signal.
    Stopped,
    /// The limit of runs was reached.
    Runs,
    /// An error.
    Trouble(String),
}

struct Search<'a> {
    setup: &'a Setup,
    start: &'a str,
    trace: Trace,
    output: &'a PathBuf,
    stop: &'a AtomicBool,
    runs_left: u64,
    /// Connections of the shortest run that failed. Its trace is on disk.
    best: Option<usize>,
    ended: Option<End>,
}

impl Search<'_> {
    /// Whether a run of these connections fails; `None`: no run is left. A failing run is written
    /// to disk at once.
    fn fails(&mut self, entries: &[ReplayEntry]) -> Option<bool> {
        let mut lucky = 0;
        let mut starts = 0;
        while lucky < RETRIES_PER_STEP {
            self.may_go_on()?;
            self.runs_left -= 1;
            match verdict(self.setup, self.start, entries, self.stop) {
                // The verdict of a run that was cut short does not count.
                _ if self.stop.load(Ordering::Relaxed) => {}
                Ok(verdict) => {
                    eprintln!("{} connections: {verdict}", entries.len());
                    if verdict.is_trouble() {
                        self.keep(entries, verdict)?;
                        return Some(true);
                    }
                    lucky += 1;
                    starts = 0;
                }
                Err(error) => {
                    eprintln!("{} connections: {error}", entries.len());
                    starts += 1;
                    if starts == MAX_FAILED_STARTS {
                        self.ended = Some(End::Trouble(error));
                    }
                }
            }
        }
        Some(false)
    }

    fn may_go_on(&mut self) -> Option<()> {
        if self.stop.load(Ordering::Relaxed) {
            self.ended = Some(End::Stopped);
        } else if self.runs_left == 0 && self.ended.is_none() {
            self.ended = Some(End::Runs);
        }
        self.ended.is_none().then_some(())
    }

    /// Writes the trace with these connections only.
    fn keep(&mut self, entries: &[ReplayEntry], verdict: Verdict) -> Option<()> {
        let left: BTreeSet<u64> = entries.iter().map(|entry| entry.part.number).collect();
        let is_left = |number: u64| left.contains(&number);
        self.trace.connections.retain(|it| is_left(it.number));
        self.trace.verdict = verdict.to_string();
        // What the original trace lacks is not needed for this one to fail.
        self.trace.left_out = LeftOut {
            connections: 0,
            ..self.trace.left_out
        };
        match self.trace.save(self.output) {
            Ok(()) => {
                self.best = Some(entries.len());
                Some(())
            }
            Err(error) => {
                let output = self.output.display();
                self.ended = Some(End::Trouble(format!("cannot write {output}: {error}")));
                None
            }
        }
    }

    /// Prints the result.
    fn end(self) -> Result<ExitCode, String> {
        let Some(best) = self.best else {
            return Err(match self.ended {
                None | Some(End::Runs) => {
                    "the trace does not fail any more: nothing to shrink".into()
                }
                Some(End::Stopped) => "stopped by a signal before a run failed".into(),
                Some(End::Trouble(trouble)) => trouble,
            });
        };
        let why = match self.ended {
            Some(End::Stopped) => "; stopped early by a signal",
            Some(End::Runs) => "; no more tries",
            None | Some(End::Trouble(_)) => "",
        };
        print(&format!(
            "{best} of {} connections remain: {}{why}\n",
            self.setup.entries.len(),
            self.output.display()
        ));
        Ok(match self.ended {
            Some(End::Trouble(trouble)) => {
                print_error(&trouble);
                ExitCode::from(NO_RUN)
            }
            _ => ExitCode::SUCCESS,
        })
    }
}

/// One try: a fresh target, these connections, a verdict.
fn verdict(
    setup: &Setup,
    start: &str,
    entries: &[ReplayEntry],
    stop: &AtomicBool,
) -> Result<Verdict, String> {
    let target = Started::start(start, setup.target, stop)?;
    let mut run = the_run(setup)?;
    run.entries = entries.to_vec();
    let outcome = run.execute(stop, |_| {});
    let verdict = outcome
        .map_err(|error| error.to_string())?
        .judgement
        .verdict;
    drop(target);
    Ok(verdict)
}
