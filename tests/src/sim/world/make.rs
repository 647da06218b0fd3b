//! The world of a seed: nodes, other peers, known addresses, times of blocks.

use super::*;

pub(super) fn machine(index: usize) -> SocketAddr {
    let group = u8::try_from(10 + index).expect("a run has dozens of machines at most");
    SocketAddr::from(([10, group, 0, 1], 18_444))
}

/// A tree whose active chain is the first `count` blocks.
pub(super) fn prefix(chain: &Blocks, count: usize) -> HeaderTree {
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
        let count = 2 + random.index(6);
        let block_every = Duration::from_secs(15 + random.below(600));
        let last = Duration::from_secs(600 + random.below(2_400));
        let mut world = Self::empty(options, oracle, faults, chain.blocks.clone());
        world.engine.healthy = options.healthy;
        world.engine.line(format_args!("{base} blocks"));
        world.until = last;
        world.block_every = block_every;
        world.quiet = vec![false; count];
        world.make_strangers(&mut random, count);
        world.make_nodes(options, &mut random, count, &chain);
        world.schedule(&mut random);
        world
    }

    /// Without nodes, other peers and events.
    pub(super) fn empty(
        options: &Options,
        oracle: Kernel,
        faults: Faults,
        blocks: Vec<RawBlock>,
    ) -> Self {
        let trace = Trace::new(options.keep_trace);
        let mut engine = Engine::new(options.seed, oracle, faults, trace);
        engine.mutant = options.mutant;
        engine.line(format_args!(
            "seed {}, {:?}",
            options.seed,
            engine.faults.clone()
        ));
        let genesis = bitcoin::consensus::serialize(&NETWORK.genesis_block());
        let genesis = RawBlock::new(genesis.into()).expect("it was serialized just now");
        for block in blocks.into_iter().chain([genesis]) {
            engine.blocks.insert(block.hash, block);
        }
        Self {
            nodes: Vec::new(),
            strangers: Vec::new(),
            act: Act::Faults,
            until: Duration::ZERO,
            stop_at: options.stop_at,
            block_every: Duration::ZERO,
            last_block: None,
            quiet: Vec::new(),
            progress: None,
            engine,
        }
    }

    fn make_strangers(&mut self, random: &mut Random, nodes: usize) {
        let few: Vec<(Kind, &str)> = (0..1 + random.index(4))
            .map(|_| KINDS[random.index(KINDS.len())])
            .collect();
        let targets: Vec<SocketAddr> = (0..nodes).map(machine).collect();
        for index in 0..self.engine.faults.strangers {
            let host = nodes + index;
            let (kind, name) = few[random.index(few.len())];
            self.engine.counts.count(&format!("stranger: {name}"));
            if kind == Kind::Behind {
                self.engine.honest.insert(host);
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

    /// Each node stays connected to the next one as a manual peer, so that a path between any two
    /// exists whatever the others do; or may dial all of them.
    fn make_nodes(&mut self, options: &Options, random: &mut Random, count: usize, chain: &Blocks) {
        let ring = random.below(10) < 7;
        let strangers = self.strangers.len();
        // Work that only a long enough chain shows; not in every run.
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
                subscribers: options.subscribers(),
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
            // The last three addresses have no machine.
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
        self.next_fault();
    }
}
