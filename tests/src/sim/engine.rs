//! The state of a run besides its nodes and attackers: time, random choices, the event queue, the
//! network, the chain as an omniscient observer sees it, the verdict.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Arguments;
use std::time::Duration;

use bitcoin::BlockHash;
use handfast_proto::headers::HeaderTree;
use handfast_proto::lifecycle::ConnId;
use handfast_proto::random::Random;
use handfast_proto::sync::RejectKind;
use handfast_proto::testing::Kernel;
use handfast_wire::{Network, RawBlock};

use super::Mutant;
use super::faults::{EventCounts, Faults};
use super::net::{LinkId, Net, Packet, Side};
use super::trace::Trace;

/// The network of every run.
pub(crate) const NETWORK: Network = Network::Regtest;

/// An actor of a node: it has a mailbox, a timer and a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Actor {
    Peers,
    Sync,
    /// The test subscriber.
    Second,
    Connector,
    Peer(ConnId),
}

/// A node in one of its runs; events of an earlier run are not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Host {
    pub(crate) node: usize,
    pub(crate) life: u32,
}

/// A scheduled event.
#[derive(Debug)]
pub(crate) enum Event {
    /// The first packet of a connection arrives at the listener.
    Syn(LinkId),
    /// The answer arrives at the dialler; `false`: refused.
    SynAck(LinkId, bool),
    /// Bytes, or a FIN or RST, arrive at that side.
    Packet(LinkId, Side, Packet),
    /// That side is readable or writable.
    Socket(LinkId, Side),
    /// The listener accepts a connection.
    Accept(Host, LinkId),
    DialTimeout(Host, LinkId),
    Poll(Host, Actor),
    Alarm(Host, Actor),
    KernelDone(Host),
    Flush(Host),
    Mine(usize),
    Start(usize),
    /// The timeout of a stopping node for its connections expires.
    Deadline(Host),
    Stranger(usize),
    /// The director injects a fault.
    Fault,
    Heal,
    Observe,
}

/// A broken property, in one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breach {
    /// The property, e.g. `"L3"`, `"S1"`, `"convergence"`.
    pub property: String,
    /// The observation.
    pub detail: String,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Engine {
    /// Time since the start of the run.
    pub(crate) now: Duration,
    pub(crate) random: Random,
    queue: BTreeMap<(Duration, u64), Event>,
    queued: u64,
    pub(crate) net: Net,
    pub(crate) trace: Trace,
    pub(crate) counts: EventCounts,
    pub(crate) faults: Faults,
    pub(crate) breach: Option<Breach>,
    pub(crate) mutant: Option<Mutant>,
    /// No faults in this run.
    pub(crate) healthy: bool,
    /// A node is under attack: its honest peer must never be disconnected, whatever the reason.
    pub(crate) siege: bool,
    /// Every block that was ever made.
    pub(crate) blocks: BTreeMap<BlockHash, RawBlock>,
    /// Has all blocks that honest nodes found, and connects the best chain of them.
    pub(crate) oracle: Kernel,
    /// All headers that were ever sent, with proof of work and known ancestors.
    pub(crate) seen: HeaderTree,
    /// Blocks that every kernel refuses when it checks them.
    pub(crate) bad: BTreeMap<BlockHash, RejectKind>,
    /// Blocks that every kernel refuses when it would connect them.
    pub(crate) bad_to_connect: BTreeSet<BlockHash>,
    /// Machines that break no rule: the nodes, and some of the other peers.
    pub(crate) honest: BTreeSet<usize>,
    /// When each machine was last stalled.
    troubles: BTreeMap<usize, Duration>,
}

impl Engine {
    pub(crate) fn new(seed: u64, oracle: Kernel, faults: Faults, trace: Trace) -> Self {
        Self {
            now: Duration::ZERO,
            seen: oracle.tree().clone(),
            random: Random::new(seed ^ 0x5eed_0f5c_4ed0_1e55),
            queue: BTreeMap::new(),
            queued: 0,
            net: Net::default(),
            trace,
            counts: EventCounts::default(),
            faults,
            breach: None,
            mutant: None,
            healthy: false,
            siege: false,
            blocks: BTreeMap::new(),
            oracle,
            bad: BTreeMap::new(),
            bad_to_connect: BTreeSet::new(),
            honest: BTreeSet::new(),
            troubles: BTreeMap::new(),
        }
    }

    /// Schedules `event` after `delay`. Events of one instant stay in order.
    pub(crate) fn after(&mut self, delay: Duration, event: Event) {
        self.queued += 1;
        self.queue.insert((self.now + delay, self.queued), event);
    }

    pub(crate) fn at(&mut self, at: Duration, event: Event) {
        self.after(at.saturating_sub(self.now), event);
    }

    /// The next event; time advances to it.
    pub(crate) fn next(&mut self) -> Option<Event> {
        let ((at, _), event) = self.queue.pop_first()?;
        self.now = at;
        Some(event)
    }

    /// True in `per_mille` of 1,000 cases. A ratio of zero draws nothing.
    pub(crate) fn chance(&mut self, per_mille: u64) -> bool {
        per_mille > 0 && self.random.below(1_000) < per_mille
    }

    /// A duration between the two, in microseconds.
    pub(crate) fn between(&mut self, least: Duration, most: Duration) -> Duration {
        let span = u64::try_from((most - least).as_micros()).expect("a run lasts hours");
        least + Duration::from_micros(self.random.below(span + 1))
    }

    /// A duration of this mean, at most four times that; short ones are more likely.
    pub(crate) fn around(&mut self, mean: Duration) -> Duration {
        let (a, b) = (self.random.below(2_001), self.random.below(2_001));
        mean.mul_f64((a * b) as f64 / 1_000_000.0)
    }

    pub(crate) fn line(&mut self, what: Arguments<'_>) {
        self.trace.line(self.now, what);
    }

    /// Reports a violated property. The first one counts, and ends the run.
    pub(crate) fn breach(&mut self, property: &str, detail: String) {
        if self.breach.is_none() {
            self.line(format_args!("BREACH {property}: {detail}"));
            self.breach = Some(Breach {
                property: property.to_owned(),
                detail,
            });
        }
    }

    pub(crate) fn is_mutant(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }
}

impl Engine {
    /// Machine `host` is stalled until `until`: peers may rightly find it late.
    pub(crate) fn trouble(&mut self, host: usize, until: Duration) {
        let before = self.troubles.entry(host).or_default();
        *before = until.max(*before);
    }

    /// Whether it was stalled within the last `span`.
    pub(crate) fn had_trouble(&self, host: usize, span: Duration) -> bool {
        let last = self.troubles.get(&host);
        last.is_some_and(|last| last.saturating_add(span) >= self.now)
    }

    /// When a connection, or a machine at one of its ends, was last stalled.
    pub(crate) fn trouble_between(&self, link: LinkId, a: usize, b: usize) -> Duration {
        let of = |host| self.troubles.get(host).copied().unwrap_or_default();
        let line = self.net.links.get(&link).map(|link| link.trouble);
        of(&a).max(of(&b)).max(line.unwrap_or_default())
    }
}
