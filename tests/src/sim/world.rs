//! One run: sets up what the seed says, deals strokes of fate, delivers events, and asks
//! at the end whether everything came right.

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

use super::Options;
use super::engine::{Actor, Engine, Event, Host, NETWORK};
use super::faults::{Faults, STROKES, Stroke};
use super::net::{LinkId, Owner, Packet, Side};
use super::node::{Disk, EPOCH, Node, Profile};
use super::stranger::{KINDS, Kind, Stranger};
use super::trace::Trace;

/// How often the observer asks every node.
const LOOK: Duration = Duration::from_secs(5);
/// Once all is calm: for all honest nodes to have chains of equal work.
const SETTLE: Duration = Duration::from_secs(40 * 60);
/// From one more block to all of them having it.
const FOLLOW: Duration = Duration::from_secs(10 * 60);
/// For every queue to be empty once, and all tables to agree.
const QUIET: Duration = Duration::from_secs(5 * 60);
/// For the last shutdown of all.
const STOP: Duration = Duration::from_secs(60);

/// How far a run has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    /// Whatever may happen happens.
    Faults,
    /// Nothing goes wrong any more; no blocks are found.
    Settling,
    /// One node has found one more block.
    Following,
    /// All are at the same tip; queues must run empty.
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
    /// When the act must be over.
    until: Duration,
    /// The run is cut short then.
    stop_at: Option<Duration>,
    /// Mean time between two blocks.
    block_every: Duration,
    /// The block that all must end on.
    last_block: Option<BlockHash>,
    /// Nodes that were seen quiet in this act.
    quiet: Vec<bool>,
}

fn machine(index: usize) -> SocketAddr {
    let group = u8::try_from(10 + index).expect("a run has dozens of machines at most");
    SocketAddr::from(([10, group, 0, 1], 18_444))
}

/// A tree whose active chain is the first `count` blocks.
fn prefix(chain: &Blocks, count: usize) -> HeaderTree {
    Blocks {
        genesis: chain.genesis,
        blocks: chain.blocks[..count].to_vec(),
    }
    .tree()
}

impl World {
    pub(crate) fn new(options: &Options) -> Self {
        let mut random = Random::new(options.seed);
        let drawn = Faults::draw(&mut random);
        let faults = if options.healthy {
            Faults::none()
        } else {
            drawn
        };
        let base = match random.below(20) {
            0 => 0,
            1 => 2_050,
            2 => 4_200,
            3..=8 => 1 + random.index(400),
            _ => 1 + random.index(30),
        };
        let chain = Blocks::new(base, options.seed);
        let oracle = Kernel::new(chain.tree());
        let trace = Trace::new(options.keep_trace);
        let mut engine = Engine::new(options.seed, oracle, faults, trace);
        engine.mutant = options.mutant;
        engine.healthy = options.healthy;
        engine.line(format_args!(
            "seed {}, {:?}, {base} blocks",
            options.seed,
            engine.faults.clone()
        ));
        let genesis = bitcoin::consensus::serialize(&NETWORK.genesis_block());
        let genesis = RawBlock::new(genesis.into()).expect("it was serialized just now");
        for block in chain.blocks.iter().chain([&genesis]) {
            engine.blocks.insert(block.hash, block.clone());
        }
        let count = 2 + random.index(6);
        let block_every = Duration::from_secs(15 + random.below(600));
        let last = Duration::from_secs(600 + random.below(2_400));
        let mut world = Self {
            nodes: Vec::new(),
            strangers: Vec::new(),
            act: Act::Faults,
            until: last,
            stop_at: options.stop_at,
            block_every,
            last_block: None,
            quiet: vec![false; count],
            engine,
        };
        world.make_strangers(&mut random, count);
        world.make_nodes(&mut random, count, &chain);
        world.schedule(&mut random);
        world
    }

    fn make_strangers(&mut self, random: &mut Random, nodes: usize) {
        let few: Vec<(Kind, &str)> = (0..1 + random.index(4))
            .map(|_| KINDS[random.index(KINDS.len())])
            .collect();
        let targets: Vec<SocketAddr> = (0..nodes).map(machine).collect();
        for index in 0..self.engine.faults.strangers {
            let host = nodes + index;
            let (kind, name) = few[random.index(few.len())];
            self.engine.tally.count(&format!("stranger: {name}"));
            match kind {
                Kind::Behind => drop(self.engine.honest.insert(host)),
                Kind::Tamperer => drop(self.engine.tampering.insert(host)),
                _ => {}
            }
            self.engine.net.hosts.insert(machine(host), host);
            self.strangers.push(Stranger::new(
                index,
                host,
                machine(host),
                kind,
                targets.clone(),
            ));
        }
    }

    /// Each node is told to stay connected to the next one, so that there is a way from
    /// each to each whatever the others do; or else may dial all of them.
    fn make_nodes(&mut self, random: &mut Random, count: usize, chain: &Blocks) {
        let ring = random.below(10) < 7;
        let strangers = self.strangers.len();
        // Work that only a chain from far enough shows; not in every run.
        let minimum_work = (chain.blocks.len() > 2_000 && random.below(2) == 0)
            .then(|| prefix(chain, chain.blocks.len() - 100).tip().work);
        for index in 0..count {
            let addr = machine(index);
            let next = machine((index + 1) % count);
            let outbound = if ring {
                random.index(5)
            } else {
                count + strangers
            };
            let handshake_timeout = Duration::from_secs(5 + random.below(60));
            let height = match random.below(4) {
                0 if index > 0 => 0,
                1 if index > 0 => random.index(chain.blocks.len() + 1),
                _ => chain.blocks.len(),
            };
            let tree = prefix(chain, height);
            self.engine.net.hosts.insert(addr, index);
            self.engine.honest.insert(index);
            let profile = Profile {
                addr,
                max_inbound: 2 * count + 8 * strangers,
                max_handshakes: 4 + random.index(60) + 8 * strangers,
                max_outbound: outbound,
                add_nodes: ring.then(|| next.to_string()).into_iter().collect(),
                handshake_timeout,
                minimum_work,
                seed: random.draw(),
            };
            self.nodes.push(Node {
                index,
                profile,
                life: 0,
                clock_error: 0,
                paused_until: Duration::ZERO,
                disk: Disk {
                    tree,
                    addresses: self.known_addresses(random, count, ring),
                },
                running: None,
            });
        }
    }

    fn known_addresses(&self, random: &mut Random, nodes: usize, ring: bool) -> Vec<Row> {
        let mut rows = Vec::new();
        let total = nodes + self.strangers.len() + 3;
        for host in 0..total {
            // The last three belong to nobody.
            let known = if host < nodes {
                !ring || random.below(2) == 0
            } else {
                random.below(3) == 0
            };
            if known {
                rows.push(Row {
                    addr: machine(host),
                    services: (ServiceFlags::NETWORK | ServiceFlags::WITNESS).to_u64(),
                    last_seen: EPOCH - 3_600,
                    last_success: None,
                    failures: 0,
                    source: Source::Own,
                });
            }
        }
        rows
    }

    fn schedule(&mut self, random: &mut Random) {
        for index in 0..self.nodes.len() {
            let late = if random.below(4) == 0 { 300_000 } else { 3_000 };
            let start = Duration::from_millis(random.below(late));
            self.engine.after(start, Event::Start(index));
            let mean = self.block_every * u32::try_from(self.nodes.len()).expect("few");
            let first = self.engine.around(mean);
            self.engine.after(first, Event::Mine(index));
        }
        for index in 0..self.strangers.len() {
            let late = if random.below(3) == 0 { 900_000 } else { 5_000 };
            let comes = Duration::from_millis(random.below(late));
            self.engine.after(comes, Event::Stranger(index));
        }
        self.engine.after(LOOK, Event::Observe);
        self.next_stroke();
    }

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
                return self
                    .engine
                    .breach("stopped to be looked at", all.join("\n"));
            }
            events += 1;
            self.happen(event);
        }
        self.engine.tally.add("events", events);
    }

    /// The machine that an event happens on.
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
            // The system's, not the process's; or nobody's.
            Event::Syn(_)
            | Event::Packet(..)
            | Event::Socket(..)
            | Event::Start(_)
            | Event::Stranger(_)
            | Event::Stroke
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
            Event::Stroke => self.stroke(),
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

    /// Something happens to a process, if it still lives.
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
            // Nodes have a timeout of their own.
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
        let stays = self.act == Act::Faults
            || (self.engine.faults.strangers_stay && self.act != Act::Stopping);
        let stranger = &mut self.strangers[index];
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

    fn next_stroke(&mut self) {
        if let Some(every) = self.engine.faults.every {
            let next = self.engine.around(every);
            self.engine
                .after(next + Duration::from_millis(1), Event::Stroke);
        }
    }

    fn stroke(&mut self) {
        if self.act != Act::Faults {
            return;
        }
        let stroke = self.engine.faults.stroke(&mut self.engine.random);
        if let Some(stroke) = stroke {
            self.deal(stroke);
        }
        self.next_stroke();
    }

    fn deal(&mut self, stroke: Stroke) {
        let name = STROKES
            .iter()
            .find(|(of, _)| *of == stroke)
            .expect("listed")
            .1;
        let engine = &mut self.engine;
        engine.tally.count(name);
        let at = engine.random.index(self.nodes.len());
        engine.line(format_args!("stroke: {name} (n{at})"));
        let node = &mut self.nodes[at];
        match stroke {
            Stroke::Partition => self.partition(),
            Stroke::Pause => {
                let most = if engine.chance(200) { 90 } else { 5 };
                let long = engine.between(Duration::from_millis(100), Duration::from_secs(most));
                node.paused_until = engine.now + long;
                engine.trouble(at, node.paused_until);
            }
            Stroke::ClockJump => {
                let draw = i64::try_from(engine.random.below(6_001)).expect("small") - 3_000;
                node.clock_error = if engine.chance(120) {
                    draw * 28 - 84_000
                } else {
                    draw
                };
                if let Some(running) = &mut node.running {
                    running.clock_error = node.clock_error;
                }
            }
            Stroke::Restart | Stroke::Crash => {
                if stroke == Stroke::Crash {
                    node.crash(engine);
                } else {
                    node.stop(engine);
                    node.finish(engine);
                }
                let away = engine.around(Duration::from_secs(20));
                engine.after(away, Event::Start(at));
            }
            Stroke::Kill => {
                let count = engine.net.links.len();
                let nth = engine.random.index(count);
                let link = engine.net.links.keys().copied().nth(nth);
                if let Some(link) = link {
                    engine.after(
                        Duration::ZERO,
                        Event::Packet(link, Side::Dialler, Packet::Rst),
                    );
                    engine.after(
                        Duration::ZERO,
                        Event::Packet(link, Side::Acceptor, Packet::Rst),
                    );
                }
            }
            Stroke::SlowBlock | Stroke::Hold | Stroke::Operator | Stroke::DiskFull => {
                self.deal_to_process(stroke, at);
            }
        }
    }

    fn deal_to_process(&mut self, stroke: Stroke, at: usize) {
        let engine = &mut self.engine;
        let nodes = self.nodes.len();
        let Some(running) = &mut self.nodes[at].running else {
            return;
        };
        match stroke {
            Stroke::SlowBlock => running.slow_next = true,
            Stroke::DiskFull => running.disk_full_next = true,
            Stroke::Hold => {
                let long = engine.between(Duration::from_millis(100), Duration::from_secs(5));
                let actor = if engine.chance(500) {
                    Actor::Peers
                } else {
                    Actor::Sync
                };
                running.held.insert(actor, engine.now + long);
                engine.trouble(at, engine.now + long);
            }
            _ => match engine.random.below(4) {
                0 => {
                    let name = machine(engine.random.index(nodes)).to_string();
                    running.add_node(engine, name, AddNodeCommand::OneTry);
                }
                1 => {
                    let name = machine(engine.random.index(nodes)).to_string();
                    running.add_node(engine, name, AddNodeCommand::Add);
                }
                _ => running.disconnect_some(engine),
            },
        }
    }

    fn partition(&mut self) {
        let engine = &mut self.engine;
        let machines = self.nodes.len() + self.strangers.len();
        for host in 0..machines {
            let part = u8::from(engine.chance(500));
            engine.net.part.insert(host, part);
            engine.trouble(host, engine.now);
        }
        let mean = if engine.chance(100) { 1_200 } else { 45 };
        let heal = engine.around(Duration::from_secs(mean));
        engine.after(heal, Event::Heal);
    }

    fn heal(&mut self) {
        self.engine.net.part.clear();
        for host in 0..self.nodes.len() + self.strangers.len() {
            self.engine.trouble(host, self.engine.now);
        }
        self.engine.release_held();
    }

    /// The observer looks, and the run goes on to its next act when it is time.
    fn observe(&mut self) {
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

    fn begin(&mut self, act: Act, lasts: Duration) {
        self.engine.line(format_args!("act: {act:?}"));
        self.act = act;
        self.until = self.engine.now + lasts;
    }

    /// From here on nothing goes wrong but what strangers do.
    fn calm(&mut self) {
        self.engine.faults.calm();
        self.heal();
        self.engine.uncut();
        for node in &mut self.nodes {
            node.clock_error = 0;
            if let Some(running) = &mut node.running {
                running.clock_error = 0;
                running.slow_next = false;
                running.disk_full_next = false;
            }
            self.engine.after(Duration::ZERO, Event::Start(node.index));
        }
        self.begin(Act::Settling, SETTLE);
    }

    /// Whether all run and have chains of the same work.
    fn settled(&self) -> bool {
        let mut works = self.nodes.iter().map(|node| {
            let running = node.running.as_ref()?;
            let settled = running.is_open() && running.has_no_block_in_hand();
            settled.then(|| running.kernel.tree().tip().work)
        });
        let first = works.next().flatten();
        first.is_some() && works.all(|work| work == first)
    }

    /// One node finds one more block: the chain with most work is one now.
    fn follow(&mut self) {
        let at = self.engine.random.index(self.nodes.len());
        if let Some(running) = &mut self.nodes[at].running {
            self.last_block = running.mine(&mut self.engine);
        }
        self.begin(Act::Following, FOLLOW);
    }

    /// Whether all are at that block.
    fn followed(&self) -> bool {
        self.nodes.iter().all(|node| {
            let tips = node.running.as_ref().map(|running| running.tips());
            tips.is_some_and(|tips| tips.map(Some) == [self.last_block; 2])
        })
    }

    fn all_quiet(&mut self) -> bool {
        for node in &self.nodes {
            let running = node.running.as_ref();
            self.quiet[node.index] |= running.is_some_and(|running| running.is_quiet());
        }
        self.quiet.iter().all(|quiet| *quiet)
    }

    fn too_late(&mut self) {
        let property = match self.act {
            Act::Settling | Act::Following => "convergence",
            Act::Faults | Act::Quieting | Act::Over => "audit",
            Act::Stopping => "shutdown",
        };
        let text = format!("not over in time: {:?}", self.act);
        self.engine.breach(property, text);
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
