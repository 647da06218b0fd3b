//! The verdict on the target. Pure: observations in, a verdict with its evidence out.

mod unjudged;

use std::fmt;
use std::time::Duration;

use super::answers::{Answers, Served};
use super::follow::Followed;
use super::honest_peer::HonestPeerError;
use super::introspection::NoAnswer;
use crate::engine::{Counters, Failure, ScenarioCounts};
use crate::scenario::{Interface, Stage};
use unjudged::{
    of_an_early_end, of_those_that_did_not_end, of_what_is_not_served, of_what_was_not_followed,
};

/// Longest handshake.
const SLOW_HANDSHAKE: Duration = Duration::from_secs(1);
/// Longest ping time of an honest peer, at the median.
const SLOW_PING: Duration = Duration::from_millis(500);
/// Longest time to follow a new block.
pub(super) const SLOW_BLOCK: Duration = Duration::from_secs(5);
/// Descriptors that a target may have more than before, besides one in ten of what it had.
const SPARE_DESCRIPTORS: u64 = 16;
/// Memory that it may have more than before, besides a quarter of what it had, bytes: for caches
/// and the allocator.
const SPARE_MEMORY: u64 = 64 << 20;

/// Memory that it may have more than before at any time during a run, besides a quarter of what
/// it had, bytes.
const SPARE_PEAK: u64 = 256 << 20;

/// One in so many connections may fail by our own fault.
const MOST_OF_OURS: u64 = 20;

/// The verdict. Ordered: of several that apply, the greatest is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// It is as healthy as before.
    Ok,
    /// Nothing was tested: hardly any connection completed.
    Nothing,
    /// It works, but is too slow.
    Slow,
    /// It uses far more memory during the run than connections may cost.
    MemoryGrowth,
    /// Something remains of closed connections: peers, descriptors or memory.
    GhostPeers,
    /// It accepts connections, and does not follow a new block.
    StuckSync,
    /// It accepts connections, or queues them, and does not answer.
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
    /// Whether the target failed.
    #[must_use]
    pub fn is_trouble(self) -> bool {
        self > Self::Nothing
    }
}

/// The state of the target at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Since the start of the run.
    pub at: Duration,
    /// The time of a handshake, retries included.
    pub handshake: Result<Duration, HonestPeerError>,
    /// The answers to an honest peer.
    pub answers: Answers,
    /// The result of a block; `None` where none can be made.
    pub block: Option<Result<Followed, HonestPeerError>>,
    /// Whether its RPC answered; `None` where none was given.
    pub rpc: Option<Result<(), NoAnswer>>,
    /// Its own count of peers, without ours; `None` without an RPC.
    pub peers: Option<u64>,
    /// The result of its own audit; `None` where it has none.
    pub audit: Option<Result<(), String>>,
    /// Resident memory, bytes.
    pub memory: Option<u64>,
    /// The peak of it, bytes.
    pub peak: Option<u64>,
    /// Open descriptors.
    pub descriptors: Option<u64>,
    /// Whether the process runs; `None` where that is unknown.
    pub alive: Option<bool>,
}

/// All observations of a run.
#[derive(Clone, Debug)]
pub struct Observations {
    /// Before the first connection.
    pub before: Health,
    /// During the run.
    pub during: Vec<Health>,
    /// After the connections had ended and the target had settled.
    pub after: Health,
    /// The counters of the connections.
    pub counters: Counters,
    /// The target's process was found to have exited so long after the start of the run.
    pub gone: Option<Duration>,
    /// Whether the target had time after the last connection to release their resources, or
    /// needed none. False if the run was stopped before.
    pub let_settle: bool,
}

/// One observation that counts, and its verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// The verdict by itself.
    pub verdict: Verdict,
    /// What was seen, in one line.
    pub text: String,
}

/// A verdict and its evidence, the gravest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// The gravest of the evidence.
    pub verdict: Verdict,
    /// Empty if the target is healthy and everything was judged.
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
    // If no block was followed before the run, one that is not followed later proves nothing: our
    // blocks are not valid there, or the target is in its initial sync.
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
    of_the_connections(&seen.counters, &mut say);
    of_those_that_did_not_end(&seen.counters, &mut say);
    of_ourselves(&seen.counters.total(), &mut say);
    // The gravest first; of equal ones in the order in which they were seen.
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
                HonestPeerError::Refused
                | HonestPeerError::NoConnection(_)
                | HonestPeerError::Io(_) => Verdict::Unreachable,
                HonestPeerError::Silent(_)
                | HonestPeerError::Closed(_)
                | HonestPeerError::Foreign(_) => Verdict::Refuses,
                HonestPeerError::Ended => return,
            };
            say(verdict, format!("an honest peer {when}: {error}"));
        }
    }
}

/// A handshake is not enough: a peer that gets no pong disconnects.
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
        Some(Err(HonestPeerError::Ended)) => {}
        Some(Err(error)) => {
            let text = format!(
                "an honest peer {when} completed the handshake, but its ping was not answered: {error}"
            );
            say(Verdict::Refuses, text);
        }
    }
}

/// A target that served headers before the run must serve them afterwards.
fn of_headers(before: &Health, health: &Health, when: &str, say: &mut impl FnMut(Verdict, String)) {
    let Some(Ok(was)) = &before.answers.headers else {
        return;
    };
    match &health.answers.headers {
        Some(Err(HonestPeerError::Ended)) => {}
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

/// A target of which nothing was seen is not healthy.
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
        let text = "it completed handshakes and did nothing else".to_owned();
        say(Verdict::Nothing, text);
    }
}

/// A target whose RPC answered before the run, and does not any more, fails like one that does
/// not answer peers. If it has exited, an honest peer shows that.
fn of_the_rpc(before: &Health, health: &Health, when: &str, say: &mut impl FnMut(Verdict, String)) {
    if let (Some(Ok(())), Some(Err(NoAnswer::Not(why)))) = (&before.rpc, &health.rpc) {
        say(Verdict::Refuses, format!("its RPC {when}: {why}"));
    }
}

/// An RPC may refuse calls as overloaded only while there is load.
fn of_a_last_word(after: &Health, say: &mut impl FnMut(Verdict, String)) {
    if let Some(Err(NoAnswer::Later(why))) = &after.rpc {
        let text = format!("its RPC after the run, without calls of ours: {why}");
        say(Verdict::Refuses, text);
    }
}

/// The process has exited: when, and after how many connections.
fn of_its_end(seen: &Observations, say: &mut impl FnMut(Verdict, String)) {
    if let Some(at) = seen.gone {
        let text = format!(
            "its process was gone at {}, after {} connections",
            seconds(at),
            seen.counters.total().begun
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
                false => "was not even requested",
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
        // A chain that grows faster by itself, or a run that was stopped, is no evidence.
        None | Some(Err(HonestPeerError::Ended)) => {}
        Some(Ok(Followed::Overtaken { .. } | Followed::Unmade { .. })) => {}
        Some(Err(error)) => {
            let verdict = match error {
                HonestPeerError::Silent(_) => Verdict::StuckSync,
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
        let text = format!("it counts {is} peers, {was} before, after all of ours disconnected");
        say(Verdict::GhostPeers, text);
    }
    if before.audit.is_some() && after.audit.is_none() && after.rpc == Some(Ok(())) {
        let text = "it no longer answers audit".to_owned();
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

/// Its peak memory, if that was during the run: the cost of connections must be bounded over all
/// of them.
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

/// A connection that was accepted, and on which nothing was ever received, counts as a refusal.
fn of_the_connections(counters: &Counters, say: &mut impl FnMut(Verdict, String)) {
    for (scenario, counts) in &counters.scenarios {
        for (failure, count) in &counts.failures {
            let verdict = match failure {
                // Our own faults, and 503 with `Retry-After`, do not count.
                failure if !failure.is_of_the_target() => continue,
                // A call must end with its answer.
                _ if scenario.interface() == Interface::Rpc => Verdict::Refuses,
                Failure::Unanswered(Stage::Connecting | Stage::Handshake | Stage::Ready) => {
                    Verdict::Refuses
                }
                Failure::Unanswered(Stage::Closing) => Verdict::GhostPeers,
                // A refused connection is no failure of a peer.
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

/// A run with hardly any completed connection does not show that the target is healthy.
fn of_ourselves(total: &ScenarioCounts, say: &mut impl FnMut(Verdict, String)) {
    let ScenarioCounts { begun, ended, .. } = total;
    if *ended == 0 {
        let text = format!(
            "none of {begun} connections completed; give them more time, by --duration or \
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
             or use more source addresses with --source-range",
            kinds.join(", ")
        );
        say(Verdict::Nothing, text);
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

/// Whether so many open descriptors, after so many before, are more than a node opens by itself
/// meanwhile: a database file, a log.
pub(super) fn are_left_open(is: u64, was: u64) -> bool {
    is > was + was / 10 + SPARE_DESCRIPTORS
}

#[cfg(test)]
mod tests;
