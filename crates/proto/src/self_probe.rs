//! The self-probe: finds out by connecting whether a listening socket still accepts.
//!
//! A listening socket that is never polled again looks healthy from inside: no error, no event, a
//! status that says "listening" because nothing corrects it. So the node connects to itself, and
//! trusts the result: the state of a socket is [`Health::Unknown`] until the first probe has ended.
//! A socket that fails [`FAILURES`] probes in a row is reopened.
//!
//! The machine of one socket. It decides when to probe and when to reopen; connecting and accepting
//! is done in `node`.

use std::time::Duration;

use crate::time::Now;

/// Time between two probes of a socket that accepts.
pub const INTERVAL: Duration = Duration::from_secs(30);
/// Time in which a connection must have been accepted.
pub const TIMEOUT: Duration = Duration::from_secs(2);
/// Time from a failed probe to the next one. Doubles with each reopening that did not help, and
/// with each probe that was not possible, up to [`INTERVAL`].
pub const RETRY: Duration = Duration::from_secs(1);
/// Failures in a row after which the socket is reopened.
pub const FAILURES: u32 = 2;

/// The result of one probe.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Our connection was accepted after this time.
    Accepted(Duration),
    /// It was not accepted within [`TIMEOUT`], but others were: the socket is busy, not broken.
    /// Reopening it would drop a full accept queue.
    Overtaken,
    /// Neither ours nor any other was accepted, or we could not connect; the reason.
    Failed(String),
    /// The probe was not possible, for example without a free descriptor; the reason. It says
    /// nothing about the socket.
    NotTried(String),
}

/// The state of the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Health {
    /// No probe of it has ended yet.
    Unknown,
    /// The last probe was accepted.
    Accepting,
    /// Connections are accepted, but ours was not in time.
    Busy,
    /// The last probe failed.
    Failing,
}

/// An event for the machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// The deadline has passed.
    Tick,
    /// A probe has ended.
    Ended(Outcome),
    /// Accepting returned an error that a healthy socket does not return.
    Suspected,
    /// The socket was reopened, or cannot be; the reason.
    Recreated(Result<(), String>),
}

/// A command of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Connect to the socket; [`Input::Ended`] is the answer.
    Probe,
    /// Close the socket and open it again; [`Input::Recreated`] is the answer.
    Recreate,
}

/// A probe that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Last {
    /// When, Unix seconds.
    pub at: u32,
    /// Its result.
    pub outcome: Outcome,
}

/// The results so far.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Report {
    /// The state of the socket.
    pub health: Health,
    /// Probes that have ended.
    pub probes: u64,
    /// The latest failures in a row.
    pub failures: u32,
    /// How often the socket was reopened.
    pub recreated: u64,
    /// Why the last attempt to reopen it failed.
    pub not_recreated: Option<String>,
    /// The last probe.
    pub last: Option<Last>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum State {
    /// For this time since node start.
    Waiting(Duration),
    /// For [`Input::Ended`].
    Probing,
    /// For [`Input::Recreated`].
    Recreating,
}

/// The machine of one listening socket. See the module.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SelfProbe {
    state: State,
    report: Report,
    /// Reopenings since a connection was last accepted.
    failed_attempts: u32,
    /// Probes in a row that could not be tried.
    untried: u32,
}

impl SelfProbe {
    /// The machine of a new socket: it is probed at once.
    #[must_use]
    pub fn new() -> Self {
        Self {
            state: State::Waiting(Duration::ZERO),
            report: Report {
                health: Health::Unknown,
                probes: 0,
                failures: 0,
                recreated: 0,
                not_recreated: None,
                last: None,
            },
            failed_attempts: 0,
            untried: 0,
        }
    }

    /// When [`Input::Tick`] is due, time since node start; `None`: an answer is awaited.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        match self.state {
            State::Waiting(until) => Some(until),
            State::Probing | State::Recreating => None,
        }
    }

    /// The results so far.
    #[must_use]
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Takes one input.
    pub fn step(&mut self, now: Now, input: Input) -> Option<Effect> {
        match (self.state, input) {
            (State::Waiting(until), Input::Tick) if now.mono >= until => {
                self.state = State::Probing;
                Some(Effect::Probe)
            }
            (State::Waiting(until), Input::Suspected) => {
                // A failing socket is probed on schedule: remotes decide how fast its errors come.
                if self.report.health != Health::Failing {
                    self.state = State::Waiting(until.min(now.mono));
                }
                None
            }
            (State::Probing, Input::Ended(outcome)) => self.ended(now, outcome),
            (State::Recreating, Input::Recreated(result)) => {
                self.recreated(now, result);
                None
            }
            // Too early, or an unexpected answer: changes nothing.
            (State::Waiting(_), Input::Tick | Input::Ended(_) | Input::Recreated(_))
            | (State::Probing, Input::Tick | Input::Suspected | Input::Recreated(_))
            | (State::Recreating, Input::Tick | Input::Suspected | Input::Ended(_)) => None,
        }
    }

    fn ended(&mut self, now: Now, outcome: Outcome) -> Option<Effect> {
        let report = &mut self.report;
        report.probes += 1;
        let untried = self.untried;
        self.untried = 0;
        let wait = match &outcome {
            Outcome::Accepted(_) | Outcome::Overtaken => {
                report.failures = 0;
                report.not_recreated = None;
                self.failed_attempts = 0;
                let alone = matches!(outcome, Outcome::Accepted(_));
                report.health = if alone {
                    Health::Accepting
                } else {
                    Health::Busy
                };
                INTERVAL
            }
            Outcome::Failed(_) => {
                report.failures = report.failures.saturating_add(1);
                report.health = Health::Failing;
                self.retry()
            }
            Outcome::NotTried(_) => {
                self.untried = untried.saturating_add(1);
                doubled(untried.max(self.failed_attempts))
            }
        };
        let failed = matches!(outcome, Outcome::Failed(_));
        self.report.last = Some(Last {
            at: now.unix,
            outcome,
        });
        if failed && self.report.failures >= FAILURES {
            self.state = State::Recreating;
            return Some(Effect::Recreate);
        }
        self.state = State::Waiting(now.mono + wait);
        None
    }

    fn recreated(&mut self, now: Now, result: Result<(), String>) {
        self.failed_attempts = self.failed_attempts.saturating_add(1);
        match result {
            Ok(()) => {
                // It is another socket: the results of the last one say nothing about it.
                self.report.health = Health::Unknown;
                self.report.failures = 0;
                self.report.recreated += 1;
                self.report.not_recreated = None;
                self.state = State::Waiting(now.mono);
            }
            Err(why) => {
                self.report.not_recreated = Some(why);
                self.state = State::Waiting(now.mono + self.retry());
            }
        }
    }

    fn retry(&self) -> Duration {
        doubled(self.failed_attempts)
    }
}

/// [`RETRY`], doubled `times`, and [`INTERVAL`] at most.
fn doubled(times: u32) -> Duration {
    // Five doublings exceed the interval.
    (RETRY * (1 << times.min(5))).min(INTERVAL)
}

impl Default for SelfProbe {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn at(seconds: u64) -> Now {
        Now {
            mono: Duration::from_secs(seconds),
            unix: 1_700_000_000 + u32::try_from(seconds).expect("soon"),
        }
    }

    fn failed() -> Input {
        Input::Ended(Outcome::Failed("connection refused".into()))
    }

    fn accepted() -> Input {
        Input::Ended(Outcome::Accepted(Duration::from_millis(1)))
    }

    /// Advances to the deadline, which must start a probe; returns its time.
    #[track_caller]
    fn probe(machine: &mut SelfProbe) -> Now {
        let due = machine.deadline().expect("a probe is due some time");
        let now = at(due.as_secs());
        assert_eq!(machine.step(now, Input::Tick), Some(Effect::Probe));
        now
    }

    #[test]
    fn the_state_is_unknown_until_the_first_probe_which_starts_at_once() {
        let mut machine = SelfProbe::new();
        assert_eq!(machine.report().health, Health::Unknown);
        assert_eq!(machine.deadline(), Some(Duration::ZERO));
        let now = probe(&mut machine);
        assert_eq!(machine.report().health, Health::Unknown);
        assert_eq!(machine.step(now, accepted()), None);
        let report = machine.report();
        assert_eq!((report.health, report.probes), (Health::Accepting, 1));
        assert_eq!(machine.deadline(), Some(INTERVAL));
    }

    #[test]
    fn one_failure_is_probed_again_soon_and_the_second_reopens_the_socket() {
        let mut machine = SelfProbe::new();
        let now = probe(&mut machine);
        assert_eq!(machine.step(now, failed()), None);
        assert_eq!(machine.report().health, Health::Failing);
        assert_eq!(machine.deadline(), Some(now.mono + RETRY));
        let now = probe(&mut machine);
        assert_eq!(machine.step(now, failed()), Some(Effect::Recreate));
        assert_eq!(machine.deadline(), None, "the answer is awaited");
        machine.step(now, Input::Recreated(Ok(())));
        let report = machine.report();
        assert_eq!((report.health, report.recreated), (Health::Unknown, 1));
        assert_eq!(machine.deadline(), Some(now.mono), "probed at once");
        let now = probe(&mut machine);
        machine.step(now, accepted());
        assert_eq!(machine.report().health, Health::Accepting);
    }

    #[test]
    fn a_success_between_two_failures_keeps_the_socket() {
        let mut machine = SelfProbe::new();
        for _ in 0..10 {
            let now = probe(&mut machine);
            assert_eq!(machine.step(now, failed()), None);
            let now = probe(&mut machine);
            assert_eq!(machine.step(now, accepted()), None);
        }
        assert_eq!(machine.report().recreated, 0);
    }

    #[test]
    fn a_busy_socket_is_never_reopened() {
        let mut machine = SelfProbe::new();
        for _ in 0..10 {
            let now = probe(&mut machine);
            assert_eq!(machine.step(now, Input::Ended(Outcome::Overtaken)), None);
            assert_eq!(machine.report().health, Health::Busy);
        }
    }

    #[test]
    fn an_impossible_probe_says_nothing_about_the_socket_and_is_repeated_ever_more_rarely() {
        let mut machine = SelfProbe::new();
        for health in [Health::Unknown, Health::Accepting, Health::Failing] {
            let begun = machine.report().clone();
            assert_eq!(begun.health, health);
            for pause in [1, 2, 4, 8, 16, 30, 30] {
                let now = probe(&mut machine);
                let outcome = Outcome::NotTried("no descriptor".into());
                assert_eq!(machine.step(now, Input::Ended(outcome)), None);
                let due = now.mono + Duration::from_secs(pause);
                assert_eq!(machine.deadline(), Some(due));
            }
            assert_eq!(machine.report().health, health);
            assert_eq!(machine.report().failures, begun.failures);
            let now = probe(&mut machine);
            let next = if health == Health::Unknown {
                accepted()
            } else {
                failed()
            };
            machine.step(now, next);
        }
    }

    #[test]
    fn failed_reopenings_are_repeated_ever_more_slowly_and_never_given_up() {
        for result in [Ok(()), Err("address in use".to_owned())] {
            let mut machine = SelfProbe::new();
            let mut orders = Vec::new();
            while orders.len() < 12 {
                let now = probe(&mut machine);
                if machine.step(now, failed()) == Some(Effect::Recreate) {
                    orders.push(now.mono);
                    machine.step(now, Input::Recreated(result.clone()));
                }
            }
            let pauses: Vec<_> = orders.windows(2).map(|pair| pair[1] - pair[0]).collect();
            assert!(pauses.is_sorted(), "{result:?}: {pauses:?}");
            assert_eq!(pauses.last(), Some(&INTERVAL), "{result:?}");
            assert_eq!(machine.report().not_recreated, result.err());
            let now = probe(&mut machine);
            machine.step(now, accepted());
            assert_eq!(machine.report().not_recreated, None);
            let now = probe(&mut machine);
            machine.step(now, failed());
            assert_eq!(machine.deadline(), Some(now.mono + RETRY), "quick again");
        }
    }

    #[test]
    fn a_suspicion_brings_the_next_probe_forward_and_cannot_make_it_spin() {
        let mut machine = SelfProbe::new();
        let now = probe(&mut machine);
        machine.step(now, accepted());
        assert_eq!(machine.step(at(5), Input::Suspected), None);
        assert_eq!(machine.deadline(), Some(at(5).mono));
        let now = probe(&mut machine);
        assert_eq!(
            machine.step(now, Input::Suspected),
            None,
            "one is under way"
        );
        machine.step(now, failed());
        machine.step(now, Input::Suspected);
        assert_eq!(machine.deadline(), Some(now.mono + RETRY));
    }

    #[test]
    fn the_machine_always_waits_for_exactly_one_thing_and_reopens_only_a_socket_that_failed_twice()
    {
        for seed in 0..200 {
            let mut random = Random::new(seed);
            let mut machine = SelfProbe::new();
            let mut awaited = None;
            let mut in_a_row = 0;
            for second in 0..500 {
                let input = match random.below(8) {
                    0 => Input::Suspected,
                    1 => Input::Recreated(Ok(())),
                    2 => Input::Recreated(Err("no".into())),
                    3 => accepted(),
                    4 => failed(),
                    5 => Input::Ended(Outcome::Overtaken),
                    _ => Input::Tick,
                };
                if awaited == Some(Effect::Probe) {
                    match &input {
                        Input::Ended(Outcome::Failed(_)) => in_a_row += 1,
                        Input::Ended(_) => in_a_row = 0,
                        _ => {}
                    }
                }
                let answers = match (awaited, &input) {
                    (Some(Effect::Probe), Input::Ended(_)) => true,
                    (Some(Effect::Recreate), Input::Recreated(result)) => {
                        if result.is_ok() {
                            in_a_row = 0;
                        }
                        true
                    }
                    _ => false,
                };
                let effect = machine.step(at(second), input);
                if effect == Some(Effect::Recreate) {
                    assert!(in_a_row >= FAILURES, "seed {seed}");
                }
                if answers || effect.is_some() {
                    awaited = effect;
                }
                assert_eq!(
                    machine.deadline().is_none(),
                    awaited.is_some(),
                    "seed {seed}"
                );
            }
        }
    }
}
