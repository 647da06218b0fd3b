//! A node under attack, and its one honest peer: the duration of its first sync, and whether it
//! follows each new block at once.

use super::make::{machine, prefix};
use super::*;
use crate::sim::siege::{Attack, Who};
use handfast_proto::lifecycle::Role;

/// How often the observer looks.
const GLANCE: Duration = Duration::from_millis(100);
/// Time for the honest peer to connect, or to be dialled; and again after a restart.
const COME: Duration = Duration::from_secs(240);
/// Added to three times the duration without an attack.
const GRACE: Duration = Duration::from_secs(10);
/// Time from a new block at the honest peer until the node has it.
const FOLLOW_AT_TIP: Duration = Duration::from_secs(2);
/// Blocks that are followed; after half of them the node is restarted.
const ROUNDS: u32 = 6;
/// Most peers that are dialled.
const DIALLED: usize = 8;
/// Blocks that lost a race; in some runs the attacked node has their data.
const LOST: usize = 2;

/// The attacked node, and its honest peer.
const VICTIM: usize = 0;
const HONEST: usize = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Until the honest peer is connected.
    Waiting,
    Syncing,
    /// At the tip, until this time.
    Resting(Duration),
    /// The honest peer found a block.
    Following,
}

/// The state of the attack.
#[derive(Clone, Copy, Debug)]
pub(super) struct Progress {
    stage: Stage,
    since: Duration,
    rounds: u32,
    synced: bool,
    /// Limit of the first sync; `None`: a run without attackers, to measure it.
    limit: Option<Duration>,
    /// Limit for a new block.
    follow: Duration,
    /// When S1 and the bounds are checked next.
    looks: Duration,
}

impl World {
    /// `alone`: the duration of the first sync without an attack; `None` to measure it.
    pub(crate) fn besieged(options: &Options, attack: &Attack, alone: Option<Duration>) -> Self {
        let mut random = Random::new(options.seed ^ 0x51e6_e000);
        let base = [120, 500, 1_200, 2_400][random.index(4)];
        let minimum = base > 2_000 && random.below(2) == 0;
        let chain = Blocks::new(base, options.seed);
        let mut oracle = Kernel::new(chain.tree());
        let lost = chain.fork(base - 6, LOST, !options.seed);
        let lost = &lost.blocks[base - 6..];
        let mut blocks = chain.blocks.clone();
        for block in lost {
            oracle.block(block, None);
            blocks.push(block.clone());
        }
        let mut world = Self::empty(options, oracle, Faults::none(), blocks);
        world.engine.siege = true;
        world.engine.net.line = Some((Duration::from_millis(20), 1_000_000, 256 << 10));
        world.engine.line(format_args!(
            "{base} blocks, {attack}, alone {:?}",
            alone.unwrap_or_default()
        ));
        let begun = random.below(3) == 0 || attack.who == Who::All(Kind::Poisoner);
        let late = random.below(2) == 0;
        world.besiege(attack);
        for (index, tree) in [
            (VICTIM, victims_tree(&chain, lost, begun)),
            (HONEST, chain.tree()),
        ] {
            let dials = (index == VICTIM) == attack.honest_dialled;
            let least = minimum.then(|| prefix(&chain, base - 100).tip().work);
            world.add_node_of(&mut random, attack, index, tree, dials, least);
        }
        world.progress = Some(Progress {
            stage: Stage::Waiting,
            since: Duration::ZERO,
            rounds: 0,
            synced: false,
            limit: alone
                .map(|alone| alone * 3 + GRACE)
                .map(|limit| if attack.patient { SETTLE } else { limit }),
            follow: if attack.patient {
                FOLLOW
            } else {
                FOLLOW_AT_TIP
            },
            looks: Duration::ZERO,
        });
        // Peers that are dialled must be there; peers that dial may come last.
        let ms = Duration::from_millis;
        let honest = if attack.honest_dialled || !late {
            0
        } else {
            3_000
        };
        world.engine.after(ms(honest), Event::Start(HONEST));
        world.engine.after(ms(50), Event::Start(VICTIM));
        for index in 0..world.strangers.len() {
            let comes = ms(if world.strangers[index].dials() {
                60 + random.below(1_500)
            } else {
                0
            });
            world.engine.after(comes, Event::Stranger(index));
        }
        world.engine.after(GLANCE, Event::Observe);
        world
    }

    fn besiege(&mut self, attack: &Attack) {
        for index in 0..attack.hostile {
            let host = 2 + index;
            let kind = attack.kind(index);
            self.engine
                .counts
                .count(&format!("hostile: {}", kind.name()));
            self.engine.net.hosts.insert(machine(host), host);
            let dials = !attack.hostile_dialled || index >= DIALLED;
            let targets = Vec::from_iter(dials.then(|| machine(VICTIM)));
            let stranger = Stranger::new(index, host, machine(host), kind, targets);
            self.strangers.push(stranger.with_one_connection());
        }
    }

    fn add_node_of(
        &mut self,
        random: &mut Random,
        attack: &Attack,
        index: usize,
        tree: HeaderTree,
        dials: bool,
        minimum_work: Option<bitcoin::Work>,
    ) {
        let addr = machine(index);
        self.engine.net.hosts.insert(addr, index);
        self.engine.honest.insert(index);
        let other = machine(VICTIM + HONEST - index);
        let dialled = if index == VICTIM && attack.hostile_dialled {
            DIALLED.min(attack.hostile)
        } else {
            0
        };
        let rows = (0..dialled).map(|stranger| Row {
            addr: machine(2 + stranger),
            services: (ServiceFlags::NETWORK | ServiceFlags::WITNESS).to_u64(),
            last_seen: EPOCH - 3_600,
            last_success: None,
            failures: 0,
            source: Source::Own,
        });
        self.nodes.push(Node {
            index,
            profile: Profile {
                addr,
                max_inbound: 8 + attack.hostile,
                max_handshakes: 64,
                max_outbound: dialled,
                add_nodes: dials.then(|| other.to_string()).into_iter().collect(),
                handshake_timeout: Duration::from_secs(60),
                minimum_work,
                subscribers: Role::Sync.into(),
                seed: random.draw(),
            },
            life: 0,
            clock_error: 0,
            paused_until: Duration::ZERO,
            disk: Disk {
                tree,
                addresses: rows.collect(),
            },
            running: None,
        });
    }

    /// The duration of the first sync, once it has ended.
    pub(crate) fn first_sync(&self) -> Option<Duration> {
        let progress = self.progress.filter(|progress| progress.synced)?;
        Some(progress.since)
    }

    pub(super) fn observe_siege(&mut self) {
        let Some(mut progress) = self.progress else {
            return;
        };
        if self.engine.now >= progress.looks {
            progress.looks = self.engine.now + LOOK;
            for node in &mut self.nodes {
                if let Some(running) = &mut node.running {
                    running.look(&mut self.engine);
                }
            }
        }
        if self.act == Act::Stopping {
            if self.nodes.iter().all(|node| node.running.is_none()) {
                self.begin(Act::Over, STOP);
            } else if self.engine.now >= self.until {
                self.too_late();
            }
        } else {
            self.advance(&mut progress);
        }
        // A run without attackers only returns its time.
        self.progress = Some(progress);
        self.engine.after(GLANCE, Event::Observe);
    }

    fn advance(&mut self, progress: &mut Progress) {
        let now = self.engine.now;
        let took = now - progress.since;
        match progress.stage {
            Stage::Waiting if self.is_met() => {
                progress.stage = Stage::Syncing;
                progress.since = now;
            }
            Stage::Waiting if took > COME => {
                let text = format!("the honest peer was not admitted for {took:?}");
                self.engine.breach("admission", text);
            }
            Stage::Syncing if self.is_level() => self.synced(progress, took),
            Stage::Syncing => {
                let limit = progress.limit.unwrap_or(SETTLE);
                if took > limit {
                    let text = format!("the first sync is not over after {took:?}");
                    self.engine.breach("sync in time", text);
                }
            }
            Stage::Resting(until) if now >= until => {
                if let Some(honest) = &mut self.nodes[HONEST].running {
                    honest.mine(&mut self.engine);
                }
                progress.stage = Stage::Following;
                progress.since = now;
            }
            // Its kernel is as slow as the honest peer's.
            Stage::Following if self.is_level() && took > Duration::ZERO => {
                self.engine.counts.count("followed at the tip");
                progress.rounds += 1;
                if progress.rounds == ROUNDS / 2 {
                    self.restart(progress);
                } else {
                    self.rest(progress);
                }
            }
            Stage::Following if took > progress.follow => {
                let text = format!("a new honest block is not followed after {took:?}");
                self.engine.breach("following", text);
            }
            Stage::Waiting | Stage::Resting(_) | Stage::Following => {}
        }
    }

    fn synced(&mut self, progress: &mut Progress, took: Duration) {
        self.engine.line(format_args!("synced in {took:?}"));
        if progress.limit.is_none() {
            progress.synced = true;
            progress.since = took;
            return self.begin(Act::Over, STOP);
        }
        self.rest(progress);
    }

    fn rest(&mut self, progress: &mut Progress) {
        if progress.rounds == ROUNDS {
            self.begin(Act::Stopping, STOP);
            for node in &mut self.nodes {
                node.stop(&mut self.engine);
                node.finish(&mut self.engine);
            }
            return;
        }
        let least = Duration::from_secs(1);
        let until = self.engine.now + self.engine.between(least, Duration::from_secs(25));
        progress.stage = Stage::Resting(until);
    }

    /// Restarts the node: the header tree has less then than the kernel.
    fn restart(&mut self, progress: &mut Progress) {
        let victim = &mut self.nodes[VICTIM];
        if self.engine.chance(500) {
            victim.flush();
            victim.crash(&mut self.engine);
        } else {
            victim.stop(&mut self.engine);
            victim.finish(&mut self.engine);
        }
        self.engine
            .after(Duration::from_secs(2), Event::Start(VICTIM));
        progress.stage = Stage::Waiting;
        progress.since = self.engine.now;
    }

    /// The victim runs and the honest peer is one of its peers.
    fn is_met(&self) -> bool {
        let victim = self.nodes[VICTIM].running.as_ref();
        victim.is_some_and(|victim| victim.is_open() && victim.has_met(HONEST))
    }

    /// The victim has as much work as the honest peer, and no pending block.
    fn is_level(&self) -> bool {
        let [victim, honest] = [VICTIM, HONEST].map(|node| self.nodes[node].running.as_ref());
        let (Some(victim), Some(honest)) = (victim, honest) else {
            return false;
        };
        let work = |running: &crate::sim::node::Running| running.kernel.tree().tip().work;
        honest.has_no_block_in_hand() && work(victim) >= work(honest)
    }
}

/// Empty; or nearly the whole chain, and the blocks that lost a race too.
fn victims_tree(chain: &Blocks, lost: &[RawBlock], begun: bool) -> HeaderTree {
    if !begun {
        return prefix(chain, 0);
    }
    let mut tree = prefix(chain, chain.blocks.len() - 3);
    for block in lost {
        tree.insert_hashed(block.hash, block.header)
            .expect("it builds on the chain");
        tree.mark_stored(&block.hash);
    }
    tree
}
