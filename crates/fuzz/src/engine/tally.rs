//! What became of the connections of a run.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::failure::Failure;
use crate::scenario::Scenario;

/// Longest handshake time that is told from longer ones.
const LONGEST: Duration = Duration::from_secs(120);

/// Handshake times below this are not told from one another in a picture, microseconds.
const FIRST_BUCKET: u64 = 125;

/// Connections of one scenario.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Begun.
    pub begun: u64,
    /// Ended, in whatever way.
    pub ended: u64,
    /// Of those, ended by the target where that is its right.
    pub ended_by_target: u64,
    /// How many failed, by kind.
    pub failures: BTreeMap<Failure, u64>,
}

impl Counts {
    /// Begun, and neither ended nor failed when the run was over.
    #[must_use]
    pub fn unfinished(&self) -> u64 {
        self.begun.saturating_sub(self.ended)
    }

    /// All failures that say something about the target.
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
    /// Handshakes that got as far as the target's `verack`.
    pub handshakes: u32,
}

/// What became of the connections of a run.
#[derive(Clone, Debug)]
pub struct Tally {
    /// By scenario.
    pub scenarios: BTreeMap<Scenario, Counts>,
    /// Second after second since the start.
    pub seconds: Vec<Second>,
    /// From the first connection to the end.
    pub elapsed: Duration,
    /// So long after the first connection the last one had begun, and all that were there were
    /// waited for; `None`: more are to begin.
    pub waits_from: Option<Duration>,
    /// Those that were there then.
    pub waited_for: BTreeMap<Scenario, u64>,
    /// From `connect()` to the target's `verack`, or to the whole answer to a call,
    /// microseconds; of scenarios that take their time on purpose none.
    handshakes: Histogram<u64>,
}

impl Default for Tally {
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

impl Tally {
    pub(super) fn begun(&mut self, scenario: Scenario) {
        self.of(scenario).begun += 1;
    }

    /// `took`: `None` if that says nothing about the target.
    pub(crate) fn shaken(&mut self, at: Duration, scenario: Scenario, took: Option<Duration>) {
        if let Some(took) = took.filter(|_| !scenario.takes_its_time()) {
            let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
            self.handshakes.saturating_record(micros);
        }
        self.second(at).handshakes += 1;
    }

    pub(super) fn complained(&mut self, scenario: Scenario, failure: Failure) {
        *self.of(scenario).failures.entry(failure).or_default() += 1;
    }

    pub(super) fn ended(&mut self, at: Duration, scenario: Scenario, how: Ending) {
        let counts = self.of(scenario);
        counts.ended += 1;
        match how {
            Ending::Left => {}
            Ending::ByTarget => counts.ended_by_target += 1,
            Ending::Failed(failure) => *counts.failures.entry(failure).or_default() += 1,
        }
        let second = self.second(at);
        second.ended += 1;
        second.failed += u32::from(matches!(how, Ending::Failed(_)));
    }

    fn of(&mut self, scenario: Scenario) -> &mut Counts {
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
    pub fn total(&self) -> Counts {
        let mut total = Counts::default();
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
        let of = |(scenario, counts): (&Scenario, &Counts)| (*scenario, counts.unfinished());
        let all = self.scenarios.iter().map(of);
        all.filter(|(_, unfinished)| *unfinished > 0).collect()
    }

    /// How long connections were waited for after the last one had begun.
    #[must_use]
    pub fn waited(&self) -> Duration {
        let from = self.waits_from.unwrap_or(self.elapsed);
        self.elapsed.saturating_sub(from)
    }

    /// Handshakes that got as far as the target's `verack`, and calls that were answered; of
    /// scenarios that take their time on purpose none.
    #[must_use]
    pub fn handshakes(&self) -> u64 {
        self.handshakes.len()
    }

    /// The handshake time that `percent` of all stayed below; zero if there was none.
    #[must_use]
    pub fn handshake_percentile(&self, percent: f64) -> Duration {
        Duration::from_micros(self.handshakes.value_at_percentile(percent))
    }

    /// Handshake times by doublings: up to so long, and how many took that long and no less
    /// than the one before.
    #[must_use]
    pub fn handshake_buckets(&self) -> Vec<(Duration, u64)> {
        let buckets = self.handshakes.iter_log(FIRST_BUCKET, 2.0);
        let bucket = buckets.map(|it| {
            let to = Duration::from_micros(it.value_iterated_to() + 1);
            (to, it.count_since_last_iteration())
        });
        bucket.collect()
    }

    /// Connections that ended in a second, on average.
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
pub enum Ending {
    /// As its scenario wanted.
    Left,
    /// The target closed, where that is its right.
    ByTarget,
    /// Something was wrong.
    Failed(Failure),
}
