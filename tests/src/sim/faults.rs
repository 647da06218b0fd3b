//! The faults of a run and their rates, drawn from the seed.
//!
//! Every run switches off some kinds completely and exaggerates others. Runs in which everything
//! happens a little all look alike, and hide failures that need one kind of fault alone.

use std::collections::BTreeMap;
use std::time::Duration;

use handfast_proto::random::Random;

/// A fault that the director injects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// The network is partitioned for a while.
    Partition,
    /// A node does not run for a while; its sockets stay open.
    Pause,
    /// A node's wall clock jumps.
    ClockJump,
    /// The next block takes a node's kernel 60 s.
    SlowBlock,
    /// A manager's thread is stalled for some seconds.
    Hold,
    /// A node stops cleanly, and starts again.
    Restart,
    /// A node is killed, and starts again with what its kernel had flushed.
    Crash,
    /// The operator disconnects, adds or removes a node.
    Operator,
    /// A connection is reset.
    Kill,
    /// A block cannot be written to disk.
    DiskFull,
}

/// All faults, with the name under which they are counted.
pub(crate) const FAULTS: [(Fault, &str); 10] = [
    (Fault::Partition, "partition"),
    (Fault::Pause, "pause"),
    (Fault::ClockJump, "clock jump"),
    (Fault::SlowBlock, "block of 60 s"),
    (Fault::Hold, "manager held up"),
    (Fault::Restart, "restart"),
    (Fault::Crash, "crash"),
    (Fault::Operator, "operator"),
    (Fault::Kill, "connection reset"),
    (Fault::DiskFull, "disk full"),
];

/// The rates of one run. Per mille of the opportunities, unless stated otherwise.
#[derive(Clone, Debug)]
pub(crate) struct Faults {
    /// Connections that are lost at some byte.
    pub(crate) cut: u64,
    /// Packets that are seconds late.
    pub(crate) late: u64,
    /// Writes that arrive in small pieces.
    pub(crate) split: u64,
    /// Connections with a bandwidth of a few KB/s.
    pub(crate) thin: u64,
    /// Mean time between two faults of the director; `None`: none.
    pub(crate) every: Option<Duration>,
    /// The weight of each fault relative to the others.
    pub(crate) weights: Vec<(Fault, u64)>,
    /// Other peers that connect at the start or during the run.
    pub(crate) strangers: usize,
    /// They stay when all other faults have stopped.
    pub(crate) strangers_stay: bool,
    /// A poll of an actor that is milliseconds late.
    pub(crate) sluggish: u64,
}

impl Faults {
    /// No faults.
    pub(crate) fn none() -> Self {
        Self {
            cut: 0,
            late: 0,
            split: 20,
            thin: 0,
            every: None,
            weights: Vec::new(),
            strangers: 0,
            strangers_stay: false,
            sluggish: 20,
        }
    }

    pub(crate) fn draw(random: &mut Random) -> Self {
        let mut ratio = |most: u64| match random.below(3) {
            0 => 0,
            1 => random.below(most / 10 + 1),
            _ => random.below(most + 1),
        };
        let (cut, late, split, thin) = (ratio(500), ratio(20), ratio(500), ratio(200));
        let sluggish = ratio(300);
        let weights = FAULTS.map(|(fault, _)| (fault, ratio(100))).to_vec();
        let every = match random.below(8) {
            0 => None,
            1 => Some(Duration::from_secs(1)),
            _ => Some(Duration::from_secs(3 + random.below(60))),
        };
        let strangers = match random.below(4) {
            0 => 0,
            1 => 1 + random.index(3),
            _ => 1 + random.index(12),
        };
        Self {
            cut,
            late,
            split,
            thin,
            every,
            weights,
            strangers,
            strangers_stay: random.below(2) == 0,
            sluggish,
        }
    }

    /// Stops all faults of the network and the machines.
    pub(crate) fn calm(&mut self) {
        *self = Self {
            strangers_stay: self.strangers_stay,
            split: self.split,
            sluggish: self.sluggish.min(50),
            ..Self::none()
        };
    }

    /// The next fault, by weight.
    pub(crate) fn fault(&self, random: &mut Random) -> Option<Fault> {
        let total: u64 = self.weights.iter().map(|(_, weight)| weight).sum();
        let mut at = random.below(total);
        self.weights.iter().find_map(|(fault, weight)| {
            if at < *weight {
                return Some(*fault);
            }
            at -= weight;
            None
        })
    }
}

/// Counters of events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventCounts(BTreeMap<String, u64>);

impl EventCounts {
    pub(crate) fn count(&mut self, what: &str) {
        self.add(what, 1);
    }

    pub(crate) fn add(&mut self, what: &str, times: u64) {
        if let Some(count) = self.0.get_mut(what) {
            *count += times;
        } else {
            self.0.insert(what.to_owned(), times);
        }
    }

    /// The counter of this event.
    #[must_use]
    pub fn of(&self, what: &str) -> u64 {
        self.0.get(what).copied().unwrap_or(0)
    }

    /// Adds the counters of another run.
    pub fn merge(&mut self, other: &Self) {
        for (what, times) in &other.0 {
            self.add(what, *times);
        }
    }

    /// All counters, by name.
    pub fn rows(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(what, times)| (what.as_str(), *times))
    }
}
