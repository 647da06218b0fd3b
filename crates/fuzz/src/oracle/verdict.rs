//! What is to be said of the target. Pure: observations in, a verdict with its evidence out.

use std::fmt;
use std::time::Duration;

use super::follow::Followed;
use super::inside::Unsaid;
use super::visitor::VisitError;
use crate::engine::{Failure, Tally};
use crate::scenario::{Door, Stage};

/// How slow a handshake may be at any time.
const SLOW_HANDSHAKE: Duration = Duration::from_secs(1);
/// How slow a new block may be followed, when nothing else is going on.
const SLOW_BLOCK: Duration = Duration::from_secs(10);
/// Descriptors that a target may have more than before, besides one in ten of what it had.
const SPARE_DESCRIPTORS: u64 = 16;
/// Memory that it may have more than before, besides a quarter of what it had, bytes:
/// caches fill, allocators keep.
const SPARE_MEMORY: u64 = 64 << 20;

/// In one word. Ordered: of two that apply, the later one is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// It is as well as before.
    Ok,
    /// It does all it should, and takes too long for it.
    Slow,
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
            Self::Slow => "slow",
            Self::GhostPeers => "ghost peers",
            Self::StuckSync => "stuck sync",
            Self::Refuses => "refuses",
            Self::Unreachable => "unreachable",
            Self::Crashed => "crashed",
        })
    }
}

/// How the target was at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Since the start of the run.
    pub at: Duration,
    /// How long a handshake took, waiting included.
    pub handshake: Result<Duration, VisitError>,
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
    /// Empty if all was well.
    pub evidence: Vec<Evidence>,
}

/// Judges.
#[must_use]
pub fn judge(seen: &Observations) -> Judgement {
    let mut evidence = Vec::new();
    let mut say = |verdict, text: String| evidence.push(Evidence { verdict, text });
    // A block that was not followed before the run says nothing about the run: blocks of
    // ours are not valid there, or the target is in its initial sync.
    let follows = matches!(seen.before.block, Some(Ok(Followed::After(_))));
    for (health, when) in seen
        .during
        .iter()
        .map(|health| (health, "during the run"))
        .chain([(&seen.after, "after the run")])
    {
        of_a_visit(health, when, &mut say);
        of_the_rpc(&seen.before, health, when, &mut say);
        if follows {
            of_a_block(health, when, &mut say);
        }
    }
    of_what_remains(&seen.before, &seen.after, &mut say);
    of_a_last_word(&seen.after, &mut say);
    of_the_connections(&seen.tally, &mut say);
    // The gravest first; of equal weight in the order in which they were seen.
    evidence.sort_by_key(|one| std::cmp::Reverse(one.verdict));
    evidence.dedup();
    Judgement {
        verdict: evidence.first().map_or(Verdict::Ok, |one| one.verdict),
        evidence,
    }
}

fn of_a_visit(health: &Health, when: &str, say: &mut impl FnMut(Verdict, String)) {
    if health.alive == Some(false) {
        say(Verdict::Crashed, format!("its process is gone {when}"));
    }
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
            };
            say(verdict, format!("an honest peer {when}: {error}"));
        }
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

fn of_a_block(health: &Health, when: &str, say: &mut impl FnMut(Verdict, String)) {
    match &health.block {
        None => {}
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
        Some(Ok(Followed::After(took))) if *took > SLOW_BLOCK => {
            let text = format!("a new block {when} was followed after {}", seconds(*took));
            say(Verdict::Slow, text);
        }
        Some(Ok(Followed::After(_))) => {}
        Some(Ok(Followed::Not { waited, fetched })) => {
            let how = match fetched {
                true => "was fetched and not connected",
                false => "was not even asked for",
            };
            let text = format!("a new block {when} {how} within {}", seconds(*waited));
            say(Verdict::StuckSync, text);
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
                | Failure::NoLocalPort
                | Failure::NoDescriptor
                | Failure::Io(..) => continue,
            };
            let text = format!("{scenario}: {count} of {} {failure}", counts.begun);
            say(verdict, text);
        }
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
mod tests {
    use super::*;
    use crate::scenario::{Scenario, Wrong};

    fn well(at: u64) -> Health {
        Health {
            at: Duration::from_secs(at),
            handshake: Ok(Duration::from_millis(2)),
            block: Some(Ok(Followed::After(Duration::from_millis(30)))),
            rpc: Some(Ok(())),
            peers: Some(1),
            audit: Some(Ok(())),
            memory: Some(100 << 20),
            descriptors: Some(40),
            alive: Some(true),
        }
    }

    fn seen(after: Health) -> Observations {
        Observations {
            before: well(0),
            during: vec![well(5)],
            after,
            tally: Tally::default(),
        }
    }

    fn verdict_of(change: impl FnOnce(&mut Health)) -> Verdict {
        let mut after = well(9);
        change(&mut after);
        let judgement = judge(&seen(after));
        assert_eq!(
            judgement.evidence.is_empty(),
            judgement.verdict == Verdict::Ok,
            "no verdict without evidence: {judgement:?}"
        );
        judgement.verdict
    }

    #[test]
    fn each_trouble_has_its_name() {
        let patience = Duration::from_secs(30);
        assert_eq!(verdict_of(|_| {}), Verdict::Ok);
        assert_eq!(
            verdict_of(|it| it.handshake = Ok(Duration::from_secs(3))),
            Verdict::Slow
        );
        assert_eq!(verdict_of(|it| it.peers = Some(2)), Verdict::GhostPeers);
        assert_eq!(
            verdict_of(|it| it.descriptors = Some(90)),
            Verdict::GhostPeers
        );
        assert_eq!(
            verdict_of(|it| it.memory = Some(300 << 20)),
            Verdict::GhostPeers
        );
        assert_eq!(
            verdict_of(|it| it.audit = Some(Err("L4 broken".into()))),
            Verdict::GhostPeers
        );
        let stuck = Followed::Not {
            waited: patience,
            fetched: false,
        };
        assert_eq!(
            verdict_of(|it| it.block = Some(Ok(stuck))),
            Verdict::StuckSync
        );
        assert_eq!(
            verdict_of(|it| it.block = Some(Err(VisitError::Silent(patience)))),
            Verdict::StuckSync
        );
        assert_eq!(
            verdict_of(|it| it.handshake = Err(VisitError::Silent(patience))),
            Verdict::Refuses
        );
        assert_eq!(
            verdict_of(|it| it.handshake = Err(VisitError::Refused)),
            Verdict::Unreachable
        );
        let gone = |it: &mut Health| {
            it.handshake = Err(VisitError::Refused);
            it.alive = Some(false);
        };
        assert_eq!(verdict_of(gone), Verdict::Crashed);
    }

    fn unsaid(later: bool) -> Option<Result<(), Unsaid>> {
        let why = "nobody listens".to_owned();
        Some(Err(match later {
            true => Unsaid::Later(why),
            false => Unsaid::Not(why),
        }))
    }

    #[test]
    fn an_rpc_that_answered_and_does_not_any_more_is_a_refusal() {
        let dead = |it: &mut Health| (it.rpc, it.peers, it.audit) = (unsaid(false), None, None);
        assert_eq!(verdict_of(dead), Verdict::Refuses);
        let gone = |it: &mut Health| {
            dead(it);
            it.handshake = Err(VisitError::Refused);
        };
        assert_eq!(verdict_of(gone), Verdict::Unreachable);

        let mut during = seen(well(9));
        during.during[0].rpc = unsaid(false);
        let judgement = judge(&during);
        assert_eq!(judgement.verdict, Verdict::Refuses);
        let text = "its RPC during the run: nobody listens";
        assert_eq!(judgement.evidence[0].text, text);

        // One that never answered was no part of the target.
        during.before.rpc = None;
        assert_eq!(judge(&during).verdict, Verdict::Ok);
    }

    #[test]
    fn an_rpc_may_ask_to_come_later_while_there_is_load_and_not_afterwards() {
        let mut during = seen(well(9));
        during.during[0].rpc = unsaid(true);
        assert_eq!(judge(&during).verdict, Verdict::Ok);
        assert_eq!(verdict_of(|it| it.rpc = unsaid(true)), Verdict::Refuses);
    }

    #[test]
    fn an_audit_that_is_not_told_any_more_is_not_clean() {
        assert_eq!(verdict_of(|it| it.audit = None), Verdict::GhostPeers);
        let mut other = seen(well(9));
        (other.before.audit, other.after.audit) = (None, None);
        assert_eq!(judge(&other).verdict, Verdict::Ok, "a node that has none");
    }

    #[test]
    fn a_call_that_failed_is_a_refusal_unless_the_trouble_is_ours_or_it_was_asked_to_come_later() {
        let with = |scenario, failure| {
            let mut seen = seen(well(9));
            let counts = seen.tally.scenarios.entry(scenario).or_default();
            (counts.begun, counts.ended) = (300, 300);
            counts.failures.insert(failure, 1);
            judge(&seen).verdict
        };
        for failure in [
            Failure::Refused,
            Failure::Reset(Stage::Ready),
            Failure::Closed(Stage::Ready),
            Failure::Wrong(Wrong::Status(500)),
            Failure::Wrong(Wrong::NoHttp),
            Failure::Unanswered(Stage::Ready),
        ] {
            let verdict = with(Scenario::RpcBurst, failure);
            assert_eq!(verdict, Verdict::Refuses, "{failure}");
        }
        for failure in [
            Failure::NoLocalPort,
            Failure::NoDescriptor,
            Failure::Wrong(Wrong::Later),
        ] {
            assert_eq!(with(Scenario::RpcBurst, failure), Verdict::Ok, "{failure}");
        }
        // A peer may be told to go.
        let closed = Failure::Closed(Stage::Ready);
        assert_eq!(with(Scenario::Reset, closed), Verdict::Ok);
    }

    #[test]
    fn a_block_that_was_not_followed_before_either_says_nothing() {
        let stuck = Followed::Not {
            waited: Duration::from_secs(30),
            fetched: true,
        };
        let mut seen = seen(well(9));
        seen.before.block = Some(Ok(stuck.clone()));
        seen.after.block = Some(Ok(stuck));
        assert_eq!(judge(&seen).verdict, Verdict::Ok);
    }

    #[test]
    fn a_few_descriptors_and_some_memory_more_are_no_leak() {
        let verdict = verdict_of(|it| {
            it.descriptors = Some(40 + 4 + SPARE_DESCRIPTORS);
            it.memory = Some((100 << 20) + (25 << 20) + SPARE_MEMORY);
        });
        assert_eq!(verdict, Verdict::Ok);
    }

    #[test]
    fn the_gravest_comes_first_and_nothing_is_left_out() {
        let mut after = well(9);
        after.peers = Some(7);
        after.handshake = Err(VisitError::Closed("during the handshake"));
        let judgement = judge(&seen(after));
        let verdicts: Vec<Verdict> = judgement.evidence.iter().map(|one| one.verdict).collect();
        assert_eq!(verdicts, [Verdict::Refuses, Verdict::GhostPeers]);
    }
}
