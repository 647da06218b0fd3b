//! Which connection runs which scenario, with which random numbers.

use std::time::Duration;

use crate::scenario::{Interface, Scenario, StartMode};
use crate::writer::ConnectionRng;

/// One scenario and its weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// The scenario.
    pub scenario: Scenario,
    /// At least 1.
    pub weight: u32,
}

/// The limit of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Connections at most.
    pub cycles: u64,
    /// No connection begins after this time.
    pub duration: Duration,
}

/// A run, as far as it does not depend on the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The random seed.
    pub seed: u64,
    /// The scenarios. Never empty.
    pub shares: Vec<Share>,
    /// Most connections open at the same time.
    pub concurrency: usize,
    /// When no more begin.
    pub limit: Limit,
    /// Most connections begun per second; `None`: no limit.
    pub rate: Option<u32>,
    /// Timeout of an answer to a connection.
    pub answer_timeout: Duration,
}

/// The part of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// ScenarioCounts connections from 0.
    pub number: u64,
    /// Its scenario.
    pub scenario: Scenario,
    /// The seed of its random numbers.
    pub seed: u64,
}

/// The greatest seed: JSON numbers are exact in all programs up to there.
pub const MAX_SEED: u64 = (1 << 53) - 1;

impl Plan {
    /// Any seed up to [`MAX_SEED`].
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the seed itself")]
    pub fn any_seed() -> u64 {
        rand::random::<u64>() & MAX_SEED
    }

    /// The default timeout of answers. Generous: actual times are in the report.
    pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

    /// A mix of all scenarios by their weights; those that need an RPC only if there is one.
    #[must_use]
    pub fn mix(rpc: bool) -> Vec<Share> {
        let played = |scenario: &Scenario| rpc || scenario.interface() == Interface::P2p;
        let share = |scenario: Scenario| Share {
            scenario,
            weight: scenario.weight(),
        };
        Scenario::ALL
            .into_iter()
            .filter(played)
            .map(share)
            .collect()
    }

    /// The part of connection `number`.
    ///
    /// # Panics
    /// If there is no scenario.
    #[must_use]
    pub fn part(&self, number: u64) -> Part {
        let mut rng = ConnectionRng::new(self.seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let total: u64 = self
            .shares
            .iter()
            .map(|share| u64::from(share.weight))
            .sum();
        let mut drawn = rng.pick(0..total);
        let share = self.shares.iter().find(|share| {
            let weight = u64::from(share.weight);
            let found = drawn < weight;
            drawn = drawn.saturating_sub(weight);
            found
        });
        Part {
            number,
            scenario: share.expect("drawn below the sum of the weights").scenario,
            seed: rng.any(),
        }
    }

    /// How connections begin. A mix includes its bursts.
    #[must_use]
    pub fn start_mode(&self) -> StartMode {
        match self.shares.as_slice() {
            [only] => only.scenario.start_mode(),
            _ => StartMode::Continuous,
        }
    }

    /// How many wait at the barrier before it opens: all of them; in a mix, those that can be
    /// expected.
    #[must_use]
    pub fn gathering(&self) -> usize {
        match self.shares.as_slice() {
            [_] => self.concurrency,
            _ => (self.concurrency / 8).max(2),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn plan(seed: u64) -> Plan {
        Plan {
            seed,
            shares: Plan::mix(true),
            concurrency: 100,
            limit: Limit {
                cycles: 1_000,
                duration: Duration::from_secs(60),
            },
            rate: None,
            answer_timeout: Plan::ANSWER_TIMEOUT,
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_parts_and_each_connection_its_own_seed() {
        let parts = |seed| (0..1_000).map(|number| plan(seed).part(number)).collect();
        let (one, again, other): (Vec<Part>, Vec<Part>, Vec<Part>) = (parts(1), parts(1), parts(2));
        assert_eq!(one, again);
        assert_ne!(one, other);
        let mut seeds: Vec<u64> = one.iter().map(|part| part.seed).collect();
        seeds.sort_unstable();
        seeds.dedup();
        assert_eq!(seeds.len(), 1_000);
    }

    #[test]
    fn a_mix_draws_every_scenario_about_as_often_as_it_weighs() {
        let mut drawn = BTreeMap::<Scenario, u32>::new();
        for number in 0..400_000 {
            *drawn.entry(plan(3).part(number).scenario).or_default() += 1;
        }
        let total: u32 = Scenario::ALL.into_iter().map(Scenario::weight).sum();
        for scenario in Scenario::ALL {
            let expected = 400_000 * scenario.weight() / total;
            let is = drawn.get(&scenario).copied().unwrap_or_default();
            // Five standard deviations of the rarest, and more for all others.
            assert!(
                is.abs_diff(expected) < expected / 3,
                "{scenario}: {is} for {expected}"
            );
        }
    }

    #[test]
    fn without_an_rpc_no_calls_are_planned() {
        let calls = |share: &Share| share.scenario == Scenario::RpcBurst;
        assert!(!Plan::mix(false).iter().any(calls) && Plan::mix(true).iter().any(calls));
    }
}
