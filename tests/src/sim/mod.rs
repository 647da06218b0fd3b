//! A deterministic simulation: whole nodes made of the production machines on a simulated
//! network, under a seeded scheduler, with an outside observer.
//!
//! A run is determined by its seed, to the last byte: time is virtual, random choices come from the
//! seed, nothing depends on the order of a hash map or on a thread. Its trace proves that; a
//! failure prints the seed, and the seed reproduces the failure.
//!
//! | file | what |
//! |---|---|
//! | `engine` | time, random choices, the event queue, the verdict |
//! | `net` | connections as byte streams: latency, bandwidth, window, loss, partition |
//! | `node/` | a node: the machines of `handfast-proto`, the glue of `handfast-node` |
//! | `stranger/` | silent, dishonest and broken peers |
//! | `siege` | an attack on one node: kind, number and direction of the attackers |
//! | `faults` | faults and their rates |
//! | `world` | one run from start to end |
//! | `trace`, `label` | the log of events, one line each |
//! | `explore` | many runs on all cores |
//!
//! # What must hold
//!
//! At every step: L1-L6 by a ledger over all managers, the tables equal to what the ledger saw
//! handled, every bound. Every five seconds: S1, V1 and V2, judged from the messages on the wire
//! and the kernel's verdicts. Always: no honest peer is disconnected for a rule that it did not
//! break (S2 among them), no good block of an honest miner is refused, a shutdown ends within its
//! time. Once the faults stop: all honest nodes reach the chain with most work, every queue becomes
//! empty, all tables agree, every slot is free.
//!
//! Under attack, by up to 114 hostile peers against one honest peer: the first sync ends within
//! three times its duration without them and 10 s; at the tip a new honest block is followed within
//! 2 s, before and after a restart; the honest peer is never disconnected.

mod engine;
mod explore;
mod faults;
mod label;
mod net;
mod node;
mod siege;
mod stranger;
mod trace;
mod world;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

pub use engine::Breach;
pub use explore::{Explored, explore};
pub use faults::EventCounts;
pub use siege::{HOSTILE, Siege, Who};
pub use stranger::Kind;

use handfast_proto::lifecycle::{Role, Roles};
use handfast_proto::random::Random;
use world::World;

/// A mistake built into the glue, never into production: the observer must find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// The connection itself reports its end to SyncManager.
    SeparateSenders,
    /// `Done` goes to PeerManager by a separate queue.
    TwoQueues,
    /// PeerManager does not forward `Done`.
    SyncIsNotTold,
    /// A slot is freed when `Done` is sent, not when it was handled.
    SlotFreedWhenSent,
    /// A slot is free when one of two subscribers has handled `Done`, not when both have.
    SlotFreedAfterOne,
    /// The drain at shutdown drops queued messages.
    DrainDropsMail,
    /// The credit of sync's messages is never returned.
    CreditIsLost,
    /// Some verdicts of the kernel are lost.
    VerdictIsLost,
    /// SyncManager's timer never fires.
    TimerIsLost,
    /// SyncManager does not receive that a block was served.
    ServedIsForgotten,
    /// A refused block is reported as marked invalid, whatever the reason.
    VerdictMarksHash,
    /// SyncManager does not receive announcements of peers other than its source.
    AnnouncementIsLost,
    /// Peers other than the source are not asked for headers.
    OnlySourceIsAsked,
    /// Only blocks on the path to the best header are requested.
    OnlyBestChainIsFetched,
    /// While one peer is stalling, no block is requested from others.
    OneIsWaitedFor,
    /// A block is requested from one peer until that disconnects, and only then from others.
    LateIsNotReplaced,
    /// While an outbound peer is connected, inbound peers get no requests.
    InboundIsNotAsked,
}

/// All of them.
pub const MUTANTS: [Mutant; 17] = [
    Mutant::SeparateSenders,
    Mutant::TwoQueues,
    Mutant::SyncIsNotTold,
    Mutant::SlotFreedWhenSent,
    Mutant::SlotFreedAfterOne,
    Mutant::DrainDropsMail,
    Mutant::CreditIsLost,
    Mutant::VerdictIsLost,
    Mutant::TimerIsLost,
    Mutant::ServedIsForgotten,
    Mutant::VerdictMarksHash,
    Mutant::AnnouncementIsLost,
    Mutant::OnlySourceIsAsked,
    Mutant::OnlyBestChainIsFetched,
    Mutant::OneIsWaitedFor,
    Mutant::LateIsNotReplaced,
    Mutant::InboundIsNotAsked,
];

/// The options of a run.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Determines everything else.
    pub seed: u64,
    /// Without any fault.
    pub healthy: bool,
    /// PeerManager has a second subscriber beside SyncManager. Not under attack.
    pub second: bool,
    /// With this mistake built in.
    pub mutant: Option<Mutant>,
    /// A node under attack, instead of a network of nodes with faults.
    pub siege: Option<Siege>,
    /// Stops the run at this time and describes every node at length.
    pub stop_at: Option<Duration>,
    /// Keeps every line of the trace, not only the last ones.
    pub keep_trace: bool,
}

impl Options {
    fn subscribers(&self) -> Roles {
        match self.second {
            true => Role::ALL.into(),
            false => Role::Sync.into(),
        }
    }
}

/// The result of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The seed of the run.
    pub seed: u64,
    /// The violated property.
    pub failure: Option<Failure>,
    /// The arguments that name the run, besides its seed.
    pub arguments: Option<String>,
    /// SHA-256 of the trace.
    pub digest: String,
    /// Number of lines in the trace.
    pub lines: u64,
    /// Virtual time that passed.
    pub lasted: Duration,
    /// How often each event happened.
    pub counts: EventCounts,
    /// The whole trace, if requested.
    pub trace: Option<String>,
}

/// A violated property, with the state at that time.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The property.
    pub breach: Breach,
    /// Virtual time.
    pub at: Duration,
    /// The last lines of the trace.
    pub tail: String,
    /// One line per node.
    pub nodes: String,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(failure) = &self.failure else {
            return write!(
                f,
                "seed {}: all held for {:?}; {} lines, {}",
                self.seed, self.lasted, self.lines, self.digest
            );
        };
        writeln!(f, "{}{}", failure.tail, failure.nodes)?;
        writeln!(
            f,
            "seed {}: {} broken at {:?}: {}",
            self.seed, failure.breach.property, failure.at, failure.breach.detail
        )?;
        match &self.arguments {
            Some(arguments) => write!(
                f,
                "replay with: make sim SEED={} ARGS=\"{arguments}\"",
                self.seed
            ),
            None => write!(f, "replay with: make sim SEED={}", self.seed),
        }
    }
}

/// The world of these options. An attack is first run without attackers, to measure the first sync.
fn world(options: &Options) -> (World, Option<String>) {
    let Some(siege) = options.siege else {
        return (World::new(options), None);
    };
    let attack = siege.drawn(&mut Random::new(options.seed));
    let no_attack = siege::Attack {
        hostile: 0,
        ..attack
    };
    let healthy = Options {
        seed: options.seed,
        ..Options::default()
    };
    let mut alone = World::besieged(&healthy, &no_attack, None);
    alone.run();
    let what = Some(attack.to_string());
    match alone.first_sync() {
        Some(took) => (World::besieged(options, &attack, Some(took)), what),
        // It failed without an attack: that is its result.
        None => (alone, what),
    }
}

/// Runs one simulation.
#[must_use]
pub fn run(options: &Options) -> Outcome {
    let (mut world, attack) = world(options);
    let second = || options.second.then(|| "--second".to_owned());
    let arguments = attack.or_else(second);
    // The machines assert their invariants: a panic is a finding like any other.
    let ran = catch_unwind(AssertUnwindSafe(|| world.run()));
    if let Err(panic) = ran {
        let text = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let text = text.unwrap_or_else(|| "a panic without a text".into());
        world.engine.breach("assertion", text);
    }
    let nodes = catch_unwind(AssertUnwindSafe(|| world.describe())).unwrap_or_default();
    let engine = world.engine;
    let failure = engine.breach.map(|breach| Failure {
        breach,
        at: engine.now,
        tail: engine.trace.tail(),
        nodes,
    });
    Outcome {
        seed: options.seed,
        failure,
        arguments,
        digest: engine.trace.digest(),
        lines: engine.trace.lines(),
        lasted: engine.now,
        counts: engine.counts,
        trace: engine.trace.into_whole(),
    }
}
