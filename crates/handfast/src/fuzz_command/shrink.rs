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
use handfast_fuzz::trace::{Cue, LeftOut, Trace};

use super::options::{self, Setup};
use super::results::Places;
use super::{NO_RUN, stop_on_signal, the_run};
use started::Started;

/// Runs at most, unless the user says otherwise.
pub(super) const TRIES: u64 = 500;
/// How often a shorter run may fail to fail before it is given up: races need luck.
const LUCK: usize = 3;
/// How often in succession the target may fail to come up.
const STARTS: usize = 3;

/// Shrinks what the command line says.
pub(super) fn shrink(matches: &ArgMatches) -> Result<ExitCode, String> {
    let setup = options::replay(matches)?;
    let output = matches.get_one::<PathBuf>("output").expect("required");
    let _places = Places::try_out(Some(output), None, setup.overwrite)?;
    let stop = stop_on_signal()?;
    let all = setup.cues.clone();
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
        shrink::shrink(all, |cues| search.fails(cues));
    }
    search.end()
}

/// Why it ended before it was through.
enum End {
    /// The user wanted it.
    Stopped,
    /// There were as many runs as there may be.
    Runs,
    /// Something is wrong.
    Trouble(String),
}

struct Search<'a> {
    setup: &'a Setup,
    start: &'a str,
    trace: Trace,
    output: &'a PathBuf,
    stop: &'a AtomicBool,
    runs_left: u64,
    /// Connections of the shortest run that failed. Its trace is written already.
    best: Option<usize>,
    ended: Option<End>,
}

impl Search<'_> {
    /// Whether a run of these connections fails; `None`: there are no more runs. One that
    /// does is written down at once, whatever happens later.
    fn fails(&mut self, cues: &[Cue]) -> Option<bool> {
        let mut lucky = 0;
        let mut starts = 0;
        while lucky < LUCK {
            self.may_go_on()?;
            self.runs_left -= 1;
            match verdict(self.setup, self.start, cues, self.stop) {
                // What it says of a target that it had no time for is worth nothing.
                _ if self.stop.load(Ordering::Relaxed) => {}
                Ok(verdict) => {
                    eprintln!("{} connections: {verdict}", cues.len());
                    if verdict.is_trouble() {
                        self.keep(cues, verdict)?;
                        return Some(true);
                    }
                    lucky += 1;
                    starts = 0;
                }
                Err(error) => {
                    eprintln!("{} connections: {error}", cues.len());
                    starts += 1;
                    if starts == STARTS {
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
    fn keep(&mut self, cues: &[Cue], verdict: Verdict) -> Option<()> {
        let left: BTreeSet<u64> = cues.iter().map(|cue| cue.part.number).collect();
        let is_left = |number: u64| left.contains(&number);
        self.trace.connections.retain(|it| is_left(it.number));
        self.trace.verdict = verdict.to_string();
        // What the whole trace lacks is not needed for this one to fail.
        self.trace.left_out = LeftOut {
            connections: 0,
            ..self.trace.left_out
        };
        match self.trace.save(self.output) {
            Ok(()) => {
                self.best = Some(cues.len());
                Some(())
            }
            Err(error) => {
                let output = self.output.display();
                self.ended = Some(End::Trouble(format!("cannot write {output}: {error}")));
                None
            }
        }
    }

    /// Says what came of it.
    fn end(self) -> Result<ExitCode, String> {
        let Some(best) = self.best else {
            return Err(match self.ended {
                None | Some(End::Runs) => {
                    "the trace does not fail any more: there is nothing to shrink".into()
                }
                Some(End::Stopped) => "ended by a signal before a run had failed".into(),
                Some(End::Trouble(trouble)) => trouble,
            });
        };
        let why = match self.ended {
            Some(End::Stopped) => "; ended before its time, by a signal",
            Some(End::Runs) => "; no more tries",
            None | Some(End::Trouble(_)) => "",
        };
        print(&format!(
            "{best} of {} connections are left: {}{why}\n",
            self.setup.cues.len(),
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
fn verdict(setup: &Setup, start: &str, cues: &[Cue], stop: &AtomicBool) -> Result<Verdict, String> {
    let target = Started::start(start, setup.target, stop)?;
    let mut run = the_run(setup)?;
    run.cues = cues.to_vec();
    let outcome = run.carry_out(stop, |_| {});
    let verdict = outcome
        .map_err(|error| error.to_string())?
        .judgement
        .verdict;
    drop(target);
    Ok(verdict)
}
