//! Counters of the connections of a run.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::failure::Failure;
use crate::scenario::Scenario;

/// Longest handshake time that is recorded as such.
const LONGEST: Duration = Duration::from_secs(120);

/// The first bucket of handshake times, microseconds.
const FIRST_BUCKET: u64 = 125;

/// Counters of one scenario.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScenarioCounts {
    /// Begun.
    pub begun: u64,
    /// Ended, for whatever reason.
    pub ended: u64,
    /// Of those, closed by the target where the scenario allows it.
    pub ended_by_target: u64,
    /// How many failed, by kind.
    pub failures: BTreeMap<Failure, u64>,
}

impl ScenarioCounts {
    /// Begun, and not ended when the run was over.
    #[must_use]
    pub fn unfinished(&self) -> u64 {
        self.begun.saturating_sub(self.ended)
    }

    /// All failures that count against the target.
    #[must_use]
    pub fn failed(&self) -> u64 {
        let of_the_target = self
            .failures
            .iter()
            .filter(|(failure, _)| failure.is_of_the_target());
        of_the_target.map(|(_, count)| count).sum()
    }
}

/// What happened in one second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Second {
    /// Connections that ended.
    pub ended: u32,
    /// Of those, failed.
    pub failed: u32,
    /// Handshakes up to the target's `verack`.
    pub handshakes: u32,
}

/// Counters of the connections of a run.
#[derive(Clone, Debug)]
pub struct Counters {
    /// By scenario.
    pub scenarios: BTreeMap<Scenario, ScenarioCounts>,
    /// Second after second since the start.
    pub seconds: Vec<Second>,
    /// From the first connection to the end.
    pub elapsed: Duration,
    /// Time from the first connection until the last had begun and the rest was waited for;
    /// `None`: more are to begin.
    pub waits_from: Option<Duration>,
    /// Connections open at that time.
    pub waited_for: BTreeMap<Scenario, u64>,
    /// From `connect()` to the target's `verack`, or to the whole answer to a call, microseconds;
    /// scenarios that are slow by design are not counted.
    handshakes: Histogram<u64>,
}

impl Default for Counters {
    fn default() -> Self {
        let longest = u64::try_from(LONGEST.as_micros()).expect("two minutes");
        Self {
            scenarios: BTreeMap::new(),
            seconds: Vec::new(),
            elapsed: Duration::ZERO,
            waits_from: None,
            waited_for: BTreeMap::new(),
            handshakes: Histogram::new_with_max(longest, 3).expect("valid bounds"),
        }
    }
}

impl Counters {
    pub(super) fn begun(&mut self, scenario: Scenario) {
        self.of(scenario).begun += 1;
    }

    /// `took`: `None` if the time is not the target's.
    pub(crate) fn handshake_done(
        &mut self,
        at: Duration,
        scenario: Scenario,
        took: Option<Duration>,
    ) {
        if let Some(took) = took.filter(|_| !scenario.is_slow_by_design()) {
            let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
            self.handshakes.saturating_record(micros);
        }
        self.second(at).handshakes += 1;
    }

    pub(super) fn wrong_answer(&mut self, scenario: Scenario, failure: Failure) {
        *self.of(scenario).failures.entry(failure).or_default() += 1;
    }

    pub(super) fn ended(&mut self, at: Duration, scenario: Scenario, how: Disconnection) {
        let counts = self.of(scenario);
        counts.ended += 1;
        match how {
            Disconnection::Left => {}
            Disconnection::ByTarget => counts.ended_by_target += 1,
            Disconnection::Failed(failure) => *counts.failures.entry(failure).or_default() += 1,
        }
        let second = self.second(at);
        second.ended += 1;
        second.failed += u32::from(matches!(how, Disconnection::Failed(_)));
    }

    fn of(&mut self, scenario: Scenario) -> &mut ScenarioCounts {
        self.scenarios.entry(scenario).or_default()
    }

    fn second(&mut self, at: Duration) -> &mut Second {
        let index = usize::try_from(at.as_secs()).expect("a run is shorter than the universe");
        if self.seconds.len() <= index {
            self.seconds.resize(index + 1, Second::default());
        }
        &mut self.seconds[index]
    }

    /// All scenarios together.
    #[must_use]
    pub fn total(&self) -> ScenarioCounts {
        let mut total = ScenarioCounts::default();
        for counts in self.scenarios.values() {
            total.begun += counts.begun;
            total.ended += counts.ended;
            total.ended_by_target += counts.ended_by_target;
            for (failure, count) in &counts.failures {
                *total.failures.entry(*failure).or_default() += count;
            }
        }
        total
    }

    /// Connections that have begun and not ended.
    #[must_use]
    pub fn unfinished(&self) -> BTreeMap<Scenario, u64> {
        let of =
            |(scenario, counts): (&Scenario, &ScenarioCounts)| (*scenario, counts.unfinished());
        let all = self.scenarios.iter().map(of);
        all.filter(|(_, unfinished)| *unfinished > 0).collect()
    }

    /// Time waited after the last connection had begun.
    #[must_use]
    pub fn waited(&self) -> Duration {
        let from = self.waits_from.unwrap_or(self.elapsed);
        self.elapsed.saturating_sub(from)
    }

    /// Handshakes up to the target's `verack`, and calls that were answered; scenarios that are
    /// slow by design are not counted.
    #[must_use]
    pub fn handshakes(&self) -> u64 {
        self.handshakes.len()
    }

    /// The handshake time at this percentile; zero if there was none.
    #[must_use]
    pub fn handshake_percentile(&self, percent: f64) -> Duration {
        Duration::from_micros(self.handshakes.value_at_percentile(percent))
    }

    /// A histogram of handshake times, with buckets that double: upper bound and count.
    #[must_use]
    pub fn handshake_buckets(&self) -> Vec<(Duration, u64)> {
        let buckets = self.handshakes.iter_log(FIRST_BUCKET, 2.0);
        let bucket = buckets.map(|it| {
            let to = Duration::from_micros(it.value_iterated_to() + 1);
            (to, it.count_since_last_iteration())
        });
        bucket.collect()
    }

    /// Connections that ended per second, on average.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts here are far below 2^52")]
    pub fn rate(&self) -> f64 {
        let seconds = self.elapsed.as_secs_f64();
        match seconds > 0.0 {
            true => self.total().ended as f64 / seconds,
            false => 0.0,
        }
    }
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disconnection {
    /// As its scenario planned.
    Left,
    /// The target closed it where the scenario allows that.
    ByTarget,
    /// With a failure.
    Failed(Failure),
}
