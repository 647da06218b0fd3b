//! One run: sets up the world of a seed, injects faults, delivers events, and checks at the end
//! that every node has recovered.

use std::net::SocketAddr;
use std::time::Duration;

use bitcoin::BlockHash;
use bitcoin::p2p::ServiceFlags;
use handfast_proto::address_book::{Row, Source};
use handfast_proto::headers::HeaderTree;
use handfast_proto::peer_table::AddNodeCommand;
use handfast_proto::random::Random;
use handfast_proto::testing::{Blocks, Kernel};
use handfast_wire::RawBlock;

mod end;
mod inject;
mod make;
mod siege;

use super::Options;
use super::engine::{Actor, Engine, Event, Host, NETWORK};
use super::faults::{FAULTS, Fault, Faults};
use super::net::{LinkId, Owner, Packet, Side};
use super::node::{Disk, EPOCH, Node, Profile};
use super::stranger::{KINDS, Kind, Stranger};
use super::trace::Trace;

/// How often the observer checks every node.
const LOOK: Duration = Duration::from_secs(5);
/// After the faults: time until all honest nodes have chains of equal work.
const SETTLE: Duration = Duration::from_secs(40 * 60);
/// Time until all nodes have one more block.
const FOLLOW: Duration = Duration::from_secs(10 * 60);
/// Time until every queue was empty once and all tables agree.
const QUIET: Duration = Duration::from_secs(5 * 60);
/// Time for the final shutdown.
const STOP: Duration = Duration::from_secs(60);

/// The phases of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    /// Faults are injected.
    Faults,
    /// No faults any more; no blocks are found.
    Settling,
    /// One node has found one more block.
    Following,
    /// All are at the same tip; queues must become empty.
    Quieting,
    /// Every node stops.
    Stopping,
    Over,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) engine: Engine,
    pub(crate) nodes: Vec<Node>,
    strangers: Vec<Stranger>,
    act: Act,
    /// When the phase must have ended.
    until: Duration,
    /// The run is stopped then.
    stop_at: Option<Duration>,
    /// Mean time between two blocks.
    block_every: Duration,
    /// The final tip of all nodes.
    last_block: Option<BlockHash>,
    /// Nodes that were seen quiet in this phase.
    quiet: Vec<bool>,
    /// The progress of an attack, if this is one.
    progress: Option<siege::Progress>,
}

impl World {
    /// Runs to the end, or to the first breach.
    pub(crate) fn run(&mut self) {
        let mut events = 0;
        while self.act != Act::Over
            && self.engine.breach.is_none()
            && let Some(event) = self.engine.next()
        {
            if self.stop_at.is_some_and(|at| self.engine.now >= at) {
                let nodes = self.nodes.iter().filter_map(|node| node.running.as_ref());
                let all: Vec<String> = nodes.map(|running| running.dump(&self.engine)).collect();
                return self.engine.breach("stopped for inspection", all.join("\n"));
            }
            events += 1;
            self.happen(event);
        }
        self.engine.counts.add("events", events);
    }

    /// The machine of an event.
    fn machine_of(&self, event: &Event) -> Option<usize> {
        match event {
            Event::Accept(host, _)
            | Event::DialTimeout(host, _)
            | Event::Poll(host, _)
            | Event::Alarm(host, _)
            | Event::KernelDone(host)
            | Event::Flush(host)
            | Event::Deadline(host) => Some(host.node),
            Event::Mine(node) => Some(*node),
            Event::SynAck(link, _) => {
                let link = self.engine.net.links.get(link);
                link.map(|link| link.host(Side::Dialler))
            }
            // An event of the system, not of the process; or of none.
            Event::Syn(_)
            | Event::Packet(..)
            | Event::Socket(..)
            | Event::Start(_)
            | Event::Stranger(_)
            | Event::Fault
            | Event::Heal
            | Event::Observe => None,
        }
    }

    fn happen(&mut self, event: Event) {
        let paused = self
            .machine_of(&event)
            .and_then(|machine| self.nodes.get(machine))
            .map(|node| node.paused_until)
            .filter(|until| *until > self.engine.now);
        if let Some(until) = paused {
            return self.engine.at(until, event);
        }
        match event {
            Event::Syn(link) => self.syn(link),
            Event::SynAck(link, connected) => self.syn_ack(link, connected),
            Event::Packet(link, side, packet) => self.engine.arrive(link, side, packet),
            Event::Socket(link, side) => self.socket(link, side),
            Event::Stranger(index) => self.stranger(index),
            Event::Mine(node) => self.mine(node),
            Event::Start(node) => self.start(node),
            Event::Fault => self.fault(),
            Event::Heal => self.heal(),
            Event::Observe => self.observe(),
            Event::Accept(host, _)
            | Event::DialTimeout(host, _)
            | Event::Poll(host, _)
            | Event::Alarm(host, _)
            | Event::KernelDone(host)
            | Event::Flush(host)
            | Event::Deadline(host) => self.process(host, &event),
        }
    }

    /// Delivers an event to a process, if it is still running.
    fn process(&mut self, host: Host, event: &Event) {
        let engine = &mut self.engine;
        let node = &mut self.nodes[host.node];
        let Some(running) = node.running.as_mut().filter(|_| node.life == host.life) else {
            if let Event::Accept(_, link) = event {
                engine.abort(*link, Side::Acceptor);
            }
            return;
        };
        match event {
            Event::Accept(_, link) => running.accept(engine, *link),
            Event::DialTimeout(_, link) => running.dial_timed_out(engine, *link),
            Event::Poll(_, actor) => running.poll(engine, *actor),
            Event::Alarm(_, actor) => running.alarm(engine, *actor),
            Event::KernelDone(_) => running.kernel_done(engine),
            Event::Deadline(_) => running.deadline_passed(engine),
            Event::Flush(_) => {
                node.flush();
                let next = engine.around(Duration::from_secs(400));
                engine.after(next + Duration::from_secs(1), Event::Flush(host));
            }
            other => unreachable!("not a process's event: {other:?}"),
        }
        node.finish(engine);
    }

    fn syn(&mut self, id: LinkId) {
        let engine = &mut self.engine;
        let Some(link) = engine.net.links.get(&id) else {
            return;
        };
        let (from, to) = (link.host(Side::Dialler), link.host(Side::Acceptor));
        if engine.net.parted(from, to) {
            // Nodes have a timeout for it.
            engine.abandon(id);
            if from >= self.nodes.len() {
                engine.after(Duration::from_secs(5), Event::SynAck(id, false));
            }
            return;
        }
        let back = engine.between(Duration::from_millis(1), Duration::from_millis(40));
        let listens = match self.nodes.get(to) {
            Some(node) => {
                let open = node.running.as_ref().filter(|running| running.is_open());
                if let Some(running) = open {
                    let host = running.host;
                    let soon = engine.between(Duration::ZERO, Duration::from_millis(2));
                    engine.after(soon, Event::Accept(host, id));
                }
                open.is_some()
            }
            None => {
                let stranger = &mut self.strangers[to - self.nodes.len()];
                if stranger.here {
                    stranger.begin(engine, id, Side::Acceptor);
                }
                stranger.here
            }
        };
        engine.after(back, Event::SynAck(id, listens));
    }

    fn syn_ack(&mut self, id: LinkId, connected: bool) {
        let engine = &mut self.engine;
        let Some(link) = engine.net.links.get(&id) else {
            return;
        };
        let host = link.host(Side::Dialler);
        match self.nodes.get_mut(host) {
            Some(node) => match &mut node.running {
                Some(running) => {
                    running.dial_answered(engine, id, connected);
                    node.finish(engine);
                }
                None => engine.abort(id, Side::Dialler),
            },
            None => {
                let stranger = &mut self.strangers[host - self.nodes.len()];
                stranger.dial_answered(engine, id, connected);
            }
        }
        if !connected {
            engine.net.links.remove(&id);
        }
    }

    fn socket(&mut self, id: LinkId, side: Side) {
        let Some(link) = self.engine.net.links.get(&id) else {
            return;
        };
        match link.owner(side) {
            Owner::Nobody => {}
            Owner::Node { node, life, id } => {
                let node = &mut self.nodes[node];
                if let Some(running) = node.running.as_mut().filter(|_| node.life == life) {
                    running.readable(&mut self.engine, id);
                }
            }
            Owner::Stranger(index) => self.strangers[index].socket(&mut self.engine, id),
        }
    }

    fn stranger(&mut self, index: usize) {
        let stranger = &mut self.strangers[index];
        // A poisoner's blocks are good: its branch would become the best chain instead of the block
        // that the run awaits.
        let stays = self.act == Act::Faults
            || (self.engine.faults.strangers_stay
                && self.act != Act::Stopping
                && stranger.kind != Kind::Poisoner);
        if stays {
            stranger.here = true;
            stranger.tick(&mut self.engine);
        } else {
            stranger.leave(&mut self.engine);
        }
    }

    fn mine(&mut self, node: usize) {
        if self.act != Act::Faults {
            return;
        }
        if let Some(running) = &mut self.nodes[node].running {
            running.mine(&mut self.engine);
        }
        let mean = self.block_every * u32::try_from(self.nodes.len()).expect("few");
        let next = self.engine.around(mean);
        self.engine.after(next, Event::Mine(node));
    }

    fn start(&mut self, node: usize) {
        let stopping = self.nodes[node]
            .running
            .as_ref()
            .is_some_and(|running| !running.is_open());
        if self.act == Act::Stopping {
        } else if stopping {
            self.engine
                .after(Duration::from_secs(1), Event::Start(node));
        } else {
            self.nodes[node].start(&mut self.engine);
        }
    }

    /// The observer checks, and the run enters its next phase when it is time.
    fn observe(&mut self) {
        if self.progress.is_some() {
            return self.observe_siege();
        }
        for node in &mut self.nodes {
            let awake = node.paused_until <= self.engine.now;
            if let Some(running) = node.running.as_mut().filter(|_| awake) {
                running.look(&mut self.engine);
            }
        }
        let late = self.engine.now >= self.until;
        let quiet = self.act == Act::Quieting && self.all_quiet();
        match self.act {
            Act::Faults if late => self.calm(),
            Act::Faults | Act::Over => {}
            Act::Settling if self.settled() => self.follow(),
            Act::Following if self.followed() => self.begin(Act::Quieting, QUIET),
            Act::Quieting if quiet => {
                self.begin(Act::Stopping, STOP);
                for node in &mut self.nodes {
                    node.stop(&mut self.engine);
                    node.finish(&mut self.engine);
                }
            }
            Act::Stopping if self.nodes.iter().all(|node| node.running.is_none()) => {
                self.begin(Act::Over, STOP);
            }
            Act::Settling | Act::Following | Act::Quieting | Act::Stopping if late => {
                self.too_late()
            }
            Act::Settling | Act::Following | Act::Quieting | Act::Stopping => {}
        }
        self.engine.after(LOOK, Event::Observe);
    }

    /// One line per node.
    pub(crate) fn describe(&self) -> String {
        let of = |node: &Node| match &node.running {
            Some(running) => format!(
                "  {} ({:?})\n",
                running.describe(&self.engine),
                running.stage
            ),
            None => format!("  n{} is down\n", node.index),
        };
        self.nodes.iter().map(of).collect()
    }
}
