//! What is to be said of the target. Pure: observations in, a verdict with its evidence out.

mod unjudged;

use std::fmt;
use std::time::Duration;

use super::answers::{Answers, Served};
use super::follow::Followed;
use super::inside::Unsaid;
use super::visitor::VisitError;
use crate::engine::{Counts, Failure, Tally};
use crate::scenario::{Door, Stage};
use unjudged::{
    of_an_early_end, of_those_that_did_not_end, of_what_is_not_served, of_what_was_not_followed,
};

/// How slow a handshake may be at any time.
const SLOW_HANDSHAKE: Duration = Duration::from_secs(1);
/// How slow pings of an honest peer may be answered at any time, at the median.
const SLOW_PING: Duration = Duration::from_millis(500);
/// How slow a new block may be followed at any time.
pub(super) const SLOW_BLOCK: Duration = Duration::from_secs(5);
/// Descriptors that a target may have more than before, besides one in ten of what it had.
const SPARE_DESCRIPTORS: u64 = 16;
/// Memory that it may have more than before, besides a quarter of what it had, bytes:
/// caches fill, allocators keep.
const SPARE_MEMORY: u64 = 64 << 20;

/// Memory that it may hold at any time during a run more than before, besides a quarter of what
/// it had, bytes.
const SPARE_PEAK: u64 = 256 << 20;

/// Of so many connections one may fail for a reason of our own.
const MOST_OF_OURS: u64 = 20;

/// In one word. Ordered: of two that apply, the later one is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// It is as well as before.
    Ok,
    /// Nothing was shown: hardly anything was played.
    Nothing,
    /// It does all it should, and takes too long for it.
    Slow,
    /// It holds far more memory while connections are there than it may for them.
    MemoryGrowth,
    /// Something remains of connections that are gone: peers, descriptors or memory.
    GhostPeers,
    /// It takes connections, and does not follow a new block.
    StuckSync,
    /// It takes connections, or lets them wait to be taken, and does not answer them.
    Refuses,
    /// No connection can be made.
    Unreachable,
    /// The process is gone.
    Crashed,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "ok",
            Self::Nothing => "none",
            Self::Slow => "slow",
            Self::MemoryGrowth => "memory growth",
            Self::GhostPeers => "ghost peers",
            Self::StuckSync => "stuck sync",
            Self::Refuses => "refuses",
            Self::Unreachable => "unreachable",
            Self::Crashed => "crashed",
        })
    }
}

impl Verdict {
    /// Whether the target is not well.
    #[must_use]
    pub fn is_trouble(self) -> bool {
        self > Self::Nothing
    }
}

/// How the target was at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Since the start of the run.
    pub at: Duration,
    /// How long a handshake took, waiting included.
    pub handshake: Result<Duration, VisitError>,
    /// What it answered an honest peer.
    pub answers: Answers,
    /// What became of a block; `None` where none can be made.
    pub block: Option<Result<Followed, VisitError>>,
    /// Whether its RPC answered; `None` where none was named.
    pub rpc: Option<Result<(), Unsaid>>,
    /// Peers by its own account, ours not counted; `None` without an RPC.
    pub peers: Option<u64>,
    /// What its own audit says; `None` where it has none.
    pub audit: Option<Result<(), String>>,
    /// Resident memory, bytes.
    pub memory: Option<u64>,
    /// The most of it that there ever was, bytes.
    pub peak: Option<u64>,
    /// Open descriptors.
    pub descriptors: Option<u64>,
    /// Whether the process is there; `None` where that cannot be told.
    pub alive: Option<bool>,
}

/// Everything that was seen.
#[derive(Clone, Debug)]
pub struct Observations {
    /// Before the first connection.
    pub before: Health,
    /// Now and then while connections came and went.
    pub during: Vec<Health>,
    /// When they had gone, and the target had had time to take note of it.
    pub after: Health,
    /// What became of the connections.
    pub tally: Tally,
    /// The target's process was found to be gone so long after the start of the run.
    pub gone: Option<Duration>,
    /// Whether the target had its time, after the last connection, to let go of what was
    /// theirs, or needed none. Not if somebody ended the run before.
    pub let_settle: bool,
}

/// One thing that was seen, and what it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// What it would be called on its own.
    pub verdict: Verdict,
    /// What was seen, in one line.
    pub text: String,
}

/// A verdict and what it rests on, the gravest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// The gravest of the evidence.
    pub verdict: Verdict,
    /// Empty if all was well and all was looked at.
    pub evidence: Vec<Evidence>,
}

/// Judges.
#[must_use]
pub fn judge(seen: &Observations) -> Judgement {
    let mut evidence = Vec::new();
    let mut say = |verdict, text: String| evidence.push(Evidence { verdict, text });
    of_a_ping(&seen.before, "before the run", &mut say);
    of_what_is_not_served(&seen.before, &mut say);
    of_what_was_not_followed(seen, &mut say);
    // Before one was followed, a block that is not says nothing about the run: blocks of ours
    // are not valid there, or the target is in its initial sync.
    let mut follows = is_followed(&seen.before);
    for (health, when) in seen
        .during
        .iter()
        .map(|health| (health, "during the run"))
        .chain([(&seen.after, "after the run")])
    {
        of_a_visit(health, when, &mut say);
        of_a_ping(health, when, &mut say);
        of_headers(&seen.before, health, when, &mut say);
        of_the_rpc(&seen.before, health, when, &mut say);
        if follows {
            of_a_block(health, when, &mut say);
        }
        follows |= is_followed(health);
    }
    of_its_end(seen, &mut say);
    if seen.let_settle {
        of_what_remains(&seen.before, &seen.after, &mut say);
        of_a_last_word(&seen.after, &mut say);
    }
    of_an_early_end(seen, &mut say);
    of_the_peak(&seen.before, &seen.after, &mut say);
    of_nothing_done(seen, &mut say);
    of_the_connections(&seen.tally, &mut say);
    of_those_that_did_not_end(&seen.tally, &mut say);
    of_ourselves(&seen.tally.total(), &mut say);
    // The gravest first; of equal weight in the order in which they were seen.
    evidence.sort_by_key(|one| std::cmp::Reverse(one.verdict));
    evidence.dedup();
    Judgement {
        verdict: evidence.first().map_or(Verdict::Ok, |one| one.verdict),
        evidence,
    }
}

fn of_a_visit(health: &Health, when: &str, say: &mut impl FnMut(Verdict, String)) {
    match &health.handshake {
        Ok(took) if *took > SLOW_HANDSHAKE => {
            let text = format!("a handshake {when} took {}", seconds(*took));
            say(Verdict::Slow, text);
        }
        Ok(_) => {}
        Err(error) => {
            let verdict = match error {
                VisitError::Refused | VisitError::NoConnection(_) | VisitError::Io(_) => {
                    Verdict::Unreachable
                }
                VisitError::Silent(_) | VisitError::Closed(_) | VisitError::Foreign(_) => {
                    Verdict::Refuses
                }
                VisitError::Ended => return,
            };
            say(verdict, format!("an honest peer {when}: {error}"));
        }
    }
}

/// To shake hands is not enough: a peer that gets no pong takes the target for gone.
fn of_a_ping(health: &Health, when: &str, say: &mut impl FnMut(Verdict, String)) {
    match &health.answers.pong {
        None => {}
        Some(Ok(took)) if *took <= SLOW_PING => {}
        Some(Ok(took)) => {
            let text = format!(
                "pings of an honest peer {when} were answered after {} at the median",
                seconds(*took)
            );
            say(Verdict::Slow, text);
        }
        Some(Err(VisitError::Ended)) => {}
        Some(Err(error)) => {
            let text = format!(
                "an honest peer {when} shook hands, and its ping was not answered: {error}"
            );
            say(Verdict::Refuses, text);
        }
    }
}

/// One that served headers before the run serves them afterwards.
fn of_headers(before: &Health, health: &Health, when: &str, say: &mut impl FnMut(Verdict, String)) {
    let Some(Ok(was)) = &before.answers.headers else {
        return;
    };
    match &health.answers.headers {
        Some(Err(VisitError::Ended)) => {}
        Some(Err(error)) => {
            let text = format!("getheaders of an honest peer {when} was not answered: {error}");
            say(Verdict::Refuses, text);
        }
        Some(Ok(Served { headers: 0, .. })) if was.headers > 0 => {
            let text = format!(
                "an honest peer {when} was served no headers, and {} before the run",
                was.headers
            );
            say(Verdict::Refuses, text);
        }
        Some(Ok(_)) | None => {}
    }
}

/// Nobody is well of whom nothing was seen.
fn of_nothing_done(seen: &Observations, say: &mut impl FnMut(Verdict, String)) {
    let looks = [&seen.before, &seen.after];
    let looks = looks.into_iter().chain(&seen.during);
    let does = |it: &Health| {
        matches!(it.answers.pong, Some(Ok(_)))
            || matches!(it.answers.headers, Some(Ok(_)))
            || matches!(it.block, Some(Ok(Followed::After(_))))
    };
    let comes_in = seen.after.handshake.is_ok();
    if comes_in && !looks.into_iter().any(does) {
        let text = "it was seen to shake hands and to do nothing else".to_owned();
        say(Verdict::Nothing, text);
    }
}

/// One that answered calls before the run, and does not answer them any more, is as little
/// well as one that does not answer peers. Where it is gone altogether, an honest peer says so.
fn of_the_rpc(before: &Health, health: &Health, when: &str, say: &mut impl FnMut(Verdict, String)) {
    if let (Some(Ok(())), Some(Err(Unsaid::Not(why)))) = (&before.rpc, &health.rpc) {
        say(Verdict::Refuses, format!("its RPC {when}: {why}"));
    }
}

/// Overload is a reason to be asked later only while there is load.
fn of_a_last_word(after: &Health, say: &mut impl FnMut(Verdict, String)) {
    if let Some(Err(Unsaid::Later(why))) = &after.rpc {
        let text = format!("its RPC after the run, with all of ours gone: {why}");
        say(Verdict::Refuses, text);
    }
}

/// The process is gone: when, and after how many connections.
fn of_its_end(seen: &Observations, say: &mut impl FnMut(Verdict, String)) {
    if let Some(at) = seen.gone {
        let text = format!(
            "its process was gone at {}, after {} connections",
            seconds(at),
            seen.tally.total().begun
        );
        return say(Verdict::Crashed, text);
    }
    let looks = seen.during.iter().map(|it| (it, "during the run"));
    for (health, when) in looks.chain([(&seen.after, "after the run")]) {
        if health.alive == Some(false) {
            say(Verdict::Crashed, format!("its process is gone {when}"));
        }
    }
}

fn how_it_was_not_followed(followed: &Followed) -> String {
    match followed {
        Followed::After(took) => format!("was followed after {}", seconds(*took)),
        Followed::Not { waited, fetched } => {
            let how = match fetched {
                true => "was fetched and not connected",
                false => "was not even asked for",
            };
            format!("{how} within {}", seconds(*waited))
        }
        Followed::Overtaken { waited, blocks } => format!(
            "came too late each time, as its own chain grew by {blocks} blocks in {}",
            seconds(*waited)
        ),
        Followed::Unmade { waited } => {
            format!("could not be made within {}", seconds(*waited))
        }
    }
}

fn is_followed(health: &Health) -> bool {
    matches!(health.block, Some(Ok(Followed::After(_))))
}

fn of_a_block(health: &Health, when: &str, say: &mut impl FnMut(Verdict, String)) {
    match &health.block {
        // Of a chain that grows by itself faster, and of a run that was ended, nothing is said.
        None | Some(Err(VisitError::Ended)) => {}
        Some(Ok(Followed::Overtaken { .. } | Followed::Unmade { .. })) => {}
        Some(Err(error)) => {
            let verdict = match error {
                VisitError::Silent(_) => Verdict::StuckSync,
                _ => Verdict::Refuses,
            };
            say(
                verdict,
                format!("an honest peer with a new block {when}: {error}"),
            );
        }
        Some(Ok(Followed::After(took))) if *took <= SLOW_BLOCK => {}
        Some(Ok(followed)) => {
            let verdict = match followed {
                Followed::After(_) => Verdict::Slow,
                _ => Verdict::StuckSync,
            };
            let how = how_it_was_not_followed(followed);
            say(verdict, format!("a new block {when} {how}"));
        }
    }
}

fn of_what_remains(before: &Health, after: &Health, say: &mut impl FnMut(Verdict, String)) {
    if let (Some(was), Some(is)) = (before.peers, after.peers)
        && is > was
    {
        let text = format!("it counts {is} peers, {was} before, and all of ours are gone");
        say(Verdict::GhostPeers, text);
    }
    if before.audit.is_some() && after.audit.is_none() && after.rpc == Some(Ok(())) {
        let text = "it does not tell its audit any more".to_owned();
        say(Verdict::GhostPeers, text);
    }
    if let Some(Err(broken)) = &after.audit {
        say(Verdict::GhostPeers, format!("its audit: {broken}"));
    }
    if let (Some(was), Some(is)) = (before.descriptors, after.descriptors)
        && are_left_open(is, was)
    {
        let text = format!("{is} open descriptors, {was} before");
        say(Verdict::GhostPeers, text);
    }
    if let (Some(was), Some(is)) = (before.memory, after.memory)
        && is > was + was / 4 + SPARE_MEMORY
    {
        let text = format!("{} MiB of memory, {} before", is >> 20, was >> 20);
        say(Verdict::GhostPeers, text);
    }
}

/// What it held at its most, if that was during the run: what each of many connections may
/// cost is bounded over all of them.
fn of_the_peak(before: &Health, after: &Health, say: &mut impl FnMut(Verdict, String)) {
    let (Some(was), Some(peak_before), Some(peak)) = (before.memory, before.peak, after.peak)
    else {
        return;
    };
    if peak > peak_before && peak > was + was / 4 + SPARE_PEAK {
        let text = format!(
            "{} MiB of memory at the most during the run, {} before",
            peak >> 20,
            was >> 20
        );
        say(Verdict::MemoryGrowth, text);
    }
}

/// A connection that was made, and on which nothing ever came, is a refusal that nobody was
/// told of.
fn of_the_connections(tally: &Tally, say: &mut impl FnMut(Verdict, String)) {
    for (scenario, counts) in &tally.scenarios {
        for (failure, count) in &counts.failures {
            let verdict = match failure {
                // Our own trouble says nothing, and it is no failure to ask for less.
                failure if !failure.is_of_the_target() => continue,
                // A call has one end: its answer.
                _ if scenario.door() == Door::Rpc => Verdict::Refuses,
                Failure::Unanswered(Stage::Connecting | Stage::Handshake | Stage::Ready) => {
                    Verdict::Refuses
                }
                Failure::Unanswered(Stage::Closing) => Verdict::GhostPeers,
                // Whoever is told to go knows where they are.
                Failure::Refused
                | Failure::Reset(_)
                | Failure::Closed(_)
                | Failure::Garbled(_)
                | Failure::Wrong(_)
                | Failure::NoSource
                | Failure::NoLocalPort
                | Failure::NoDescriptor
                | Failure::Io(..) => continue,
            };
            let text = format!("{scenario}: {count} of {} {failure}", counts.begun);
            say(verdict, text);
        }
    }
}

/// A run that hardly took place is no reason to call anybody well.
fn of_ourselves(total: &Counts, say: &mut impl FnMut(Verdict, String)) {
    let Counts { begun, ended, .. } = total;
    if *ended == 0 {
        let text = format!(
            "none of {begun} connections came to its end; give them more time, by --duration or \
             by --cycles alone"
        );
        return say(Verdict::Nothing, text);
    }
    let ours = total
        .failures
        .iter()
        .filter(|(failure, _)| failure.is_ours());
    let count: u64 = ours.clone().map(|(_, count)| count).sum();
    if count > begun / MOST_OF_OURS {
        let kinds: Vec<String> = ours.map(|(failure, _)| failure.to_string()).collect();
        let text = format!(
            "{count} of {begun} connections were never made: {}; lower --concurrency or --rate, \
             or come from more addresses with --source-range",
            kinds.join(", ")
        );
        say(Verdict::Nothing, text);
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

/// Whether so many open descriptors, after so many before, are more than a node opens for
/// itself meanwhile: a file of its database, a log.
pub(super) fn are_left_open(is: u64, was: u64) -> bool {
    is > was + was / 10 + SPARE_DESCRIPTORS
}

#[cfg(test)]
mod tests;
