//! `handfast fuzz shrink`: a shorter trace that still fails.

use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::ArgMatches;
use handfast_fuzz::oracle::Verdict;
use handfast_fuzz::shrink;
use handfast_fuzz::trace::{Cue, Trace};

use super::options::{self, Setup};
use super::{stop_on_signal, the_run};

/// Runs at most, unless the user says otherwise.
const TRIES: u64 = 200;
/// How often a shorter run may fail to fail before it is given up: races need luck.
const LUCK: usize = 3;
/// How long the target may take to start.
const START: Duration = Duration::from_secs(60);

/// Shrinks what the command line says.
pub(super) fn shrink(matches: &ArgMatches) -> Result<ExitCode, String> {
    let setup = options::replay(matches)?;
    let trace = options::trace(matches)?;
    let output = matches.get_one::<PathBuf>("output").expect("required");
    let start = matches.get_one::<String>("start").expect("required");
    let tries = matches.get_one::<u64>("tries").copied().unwrap_or(TRIES);
    let tries = usize::try_from(tries).expect("at most 100,000");
    let stop = stop_on_signal()?;
    let began_with = setup.cues.len();
    let mut trouble = None;
    let mut fails = |cues: &[Cue]| {
        (0..LUCK).any(|_| {
            if trouble.is_some() || stop.load(Ordering::Relaxed) {
                return false;
            }
            match verdict(&setup, start, cues, &stop) {
                Ok(verdict) => {
                    eprintln!("{} connections: {verdict}", cues.len());
                    verdict.is_trouble()
                }
                Err(error) => {
                    trouble = Some(error);
                    false
                }
            }
        })
    };
    if !fails(&setup.cues) {
        return Err(trouble.unwrap_or_else(|| {
            "the trace does not fail any more: there is nothing to shrink".into()
        }));
    }
    let left = shrink::shrink(setup.cues.clone(), tries, fails);
    if let Some(trouble) = trouble {
        return Err(trouble);
    }
    keep(trace, &left)
        .save(output)
        .map_err(|error| format!("cannot write {}: {error}", output.display()))?;
    crate::print(&format!(
        "{} of {began_with} connections are left: {}\n",
        left.len(),
        output.display()
    ));
    Ok(ExitCode::SUCCESS)
}

/// The trace with these connections only.
fn keep(mut trace: Trace, left: &[Cue]) -> Trace {
    let is_left = |number: u64| left.iter().any(|cue| cue.part.number == number);
    trace.connections.retain(|record| is_left(record.number));
    trace
}

/// One try: a fresh target, these connections, a verdict.
fn verdict(setup: &Setup, start: &str, cues: &[Cue], stop: &AtomicBool) -> Result<Verdict, String> {
    let _target = Started::start(start, setup, stop)?;
    let mut run = the_run(setup)?;
    run.cues = cues.to_vec();
    let outcome = run.carry_out(stop, |_| {});
    Ok(outcome
        .map_err(|error| error.to_string())?
        .judgement
        .verdict)
}

/// The target, with all that it started. It is killed when this is dropped.
struct Started(Child);

impl Started {
    fn start(command: &str, setup: &Setup, stop: &AtomicBool) -> Result<Self, String> {
        let child = Command::new("sh")
            .args(["-c", command])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // A group of its own: what it starts ends with it, and nothing else does.
            .process_group(0)
            .spawn()
            .map_err(|error| format!("cannot start {command:?}: {error}"))?;
        let mut started = Self(child);
        let until = Instant::now() + START;
        while TcpStream::connect(setup.target).is_err() {
            let ended = started.0.try_wait().ok().flatten();
            if let Some(status) = ended {
                return Err(format!(
                    "{command:?} ended ({status}) and nobody listens on {}",
                    setup.target
                ));
            }
            if Instant::now() > until || stop.load(Ordering::Relaxed) {
                return Err(format!("{command:?} does not listen on {}", setup.target));
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
        Ok(started)
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let group = i32::try_from(self.0.id())
            .ok()
            .and_then(rustix::process::Pid::from_raw);
        if let Some(group) = group {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        let _ = self.0.wait();
    }
}
