//! Start, stop and crash: `node/src/opening.rs`, `wiring.rs`, `shutdown.rs`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use handfast_proto::address_book::AddressBook;
use handfast_proto::fair_queue::FairQueue;
use handfast_proto::handshake_limiter::HandshakeLimiter;
use handfast_proto::headers::{HeaderTree, Status};
use handfast_proto::lifecycle::{Ledger, Scope};
use handfast_proto::peer_table::{PeerTable, PeerTableConfig};
use handfast_proto::random::Random;
use handfast_proto::session::SessionConfig;
use handfast_proto::sync::{SyncConfig, SyncManager};
use handfast_proto::testing::Kernel;
use handfast_proto::time::Now;

use super::acceptor::Slots;
use super::peers::PeersMail;
use super::second::Second;
use super::{Disk, EPOCH, Node, Running, watch};
use crate::sim::Mutant;
use crate::sim::engine::{Actor, Engine, Event, Host, NETWORK};
use crate::sim::net::{Owner, Side};

/// `shutdown::CONNECTIONS`: timeout for connections to end and every Done to be handled.
const CONNECTIONS: Duration = Duration::from_secs(10);

/// The stages of a shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    Open,
    /// The acceptor is closed, connections end; every slot is awaited.
    Draining,
    /// All slots are free; the managers are stopped.
    SlotsFree,
    PeersStopped,
    SecondStopped,
    Stopped,
}

/// `opening::tree`: the header tree of the kernel's state.
fn open_tree(kernel: &HeaderTree) -> HeaderTree {
    let genesis = kernel.at_height(0).expect("genesis is always active");
    let mut tree = HeaderTree::new(genesis.header);
    let (tip, best) = (kernel.tip(), kernel.best_header());
    for height in 1..=tip.height {
        let entry = kernel.at_height(height).expect("below the tip");
        tree.insert_hashed(entry.hash, entry.header)
            .expect("the kernel's headers follow one another");
        tree.connect(&entry.hash);
    }
    let fork = kernel
        .fork_point(&best.hash, &tip.hash)
        .expect("both are in the tree");
    for entry in kernel.branch(&best.hash, fork.height + 1, usize::MAX) {
        tree.insert_hashed(entry.hash, entry.header)
            .expect("a branch follows its fork");
        if entry.status == Status::Stored || entry.status == Status::Connected {
            tree.mark_stored(&entry.hash);
        }
    }
    tree
}

impl Node {
    /// The kernel of the disk and the rules: a block that was stored before its parent in an
    /// earlier run is checked when it is connected in this one.
    fn kernel(&self, engine: &Engine) -> Kernel {
        let mut kernel = Kernel::new(self.disk.tree.clone());
        kernel.bad_to_connect.clone_from(&engine.bad_to_connect);
        kernel.open();
        kernel
    }

    /// Starts the process, unless it is running.
    pub(crate) fn start(&mut self, engine: &mut Engine) {
        if self.running.is_some() {
            return;
        }
        self.life += 1;
        let host = Host {
            node: self.index,
            life: self.life,
        };
        engine.line(format_args!("n{} starts, life {}", self.index, self.life));
        let seed = self.profile.seed ^ u64::from(self.life).wrapping_mul(0xd1b5_4a32_d192_ed03);
        let now = Now {
            mono: Duration::ZERO,
            unix: EPOCH,
        };
        let kernel = self.kernel(engine);
        let mut running = Running {
            host,
            profile: self.profile.clone(),
            started_at: engine.now,
            clock_error: self.clock_error,
            stage: Stage::Open,
            table: self.table(seed, now),
            links: BTreeSet::new(),
            sync: SyncManager::new(
                SyncConfig::new(&NETWORK, self.profile.minimum_work, seed),
                open_tree(kernel.tree()),
            ),
            kernel,
            jobs: VecDeque::new(),
            kernel_busy: false,
            slow_until: Duration::ZERO,
            slow_next: false,
            disk_full_next: false,
            peers: BTreeMap::new(),
            peers_mail: VecDeque::new(),
            peers_queue: FairQueue::default(),
            peers_express: VecDeque::new(),
            sync_mail: VecDeque::new(),
            sync_queue: FairQueue::default(),
            second: Second::default(),
            connector_mail: VecDeque::new(),
            dials: BTreeMap::new(),
            slots: Slots::new(&self.profile),
            room: HandshakeLimiter::new(self.profile.max_handshakes),
            next_id: 0,
            session: Arc::new(self.session(seed)),
            polls: BTreeSet::new(),
            timers: BTreeMap::new(),
            held: BTreeMap::new(),
            submitted: BTreeMap::new(),
            next_ticket: 0,
            ledger: Ledger::new(Scope::Whole),
            watch: watch::Watch::default(),
        };
        running.tick_peers(engine);
        running.arm(engine, Actor::Peers);
        self.running = Some(Box::new(running));
        let flush = engine.around(Duration::from_secs(400));
        engine.after(flush, Event::Flush(host));
    }

    fn session(&self, seed: u64) -> SessionConfig {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..].copy_from_slice(&(self.index as u64).to_le_bytes());
        let mut session = SessionConfig::new("/Handfast:sim/".into(), key);
        session.handshake_timeout = self.profile.handshake_timeout;
        session
    }

    fn table(&self, seed: u64, now: Now) -> PeerTable {
        let settings = PeerTableConfig {
            max_inbound: self.profile.max_inbound,
            max_outbound: self.profile.max_outbound,
            add_nodes: self.profile.add_nodes.clone(),
            subscribers: self.profile.subscribers,
            allow_private_addresses: true,
            ..PeerTableConfig::new(NETWORK.p2p_port(), seed)
        };
        let mut random = Random::new(seed);
        let rows = self.disk.addresses.iter().cloned();
        PeerTable::new(
            settings,
            AddressBook::from_rows(true, rows, &mut random),
            now,
        )
    }

    /// `kill -9`: what the kernel had flushed remains.
    pub(crate) fn crash(&mut self, engine: &mut Engine) {
        if let Some(running) = self.running.take() {
            engine.line(format_args!("n{} is killed", self.index));
            reset_sockets(engine, self.index, &running);
            engine.trouble(self.index, engine.now);
        }
    }

    /// `Shutdown`: the barrier begins.
    pub(crate) fn stop(&mut self, engine: &mut Engine) {
        if let Some(running) = &mut self.running
            && running.stage == Stage::Open
        {
            engine.line(format_args!("n{} stops", self.index));
            running.stage = Stage::Draining;
            running.stop_intake(engine);
            running.close_handshakes(engine);
            if engine.is_mutant(Mutant::DrainDropsMail) {
                running.drop_mail();
            }
            running.post_peers(engine, PeersMail::Drain);
            engine.after(CONNECTIONS, Event::Deadline(running.host));
            running.home(engine);
        }
    }

    /// The managers have stopped: the kernel flushes and closes, the state is saved.
    pub(crate) fn finish(&mut self, engine: &mut Engine) {
        let stopped = self
            .running
            .as_ref()
            .is_some_and(|running| running.stage == Stage::Stopped);
        if stopped {
            self.flush();
            if let Some(running) = self.running.take() {
                reset_sockets(engine, self.index, &running);
            }
            engine.line(format_args!("n{} has stopped", self.index));
        }
    }

    /// The kernel writes its caches, `Node::save` the addresses.
    pub(crate) fn flush(&mut self) {
        if let Some(running) = &self.running {
            self.disk = Disk {
                tree: running.kernel.tree().clone(),
                addresses: running.table.book().rows().collect(),
            };
        }
    }
}

/// The system closes the sockets of a dead process.
fn reset_sockets(engine: &mut Engine, node: usize, running: &Running) {
    for link in engine.net.links.keys().copied().collect::<Vec<_>>() {
        for side in [Side::Dialler, Side::Acceptor] {
            let Some(open) = engine.net.links.get(&link) else {
                break;
            };
            let dialled = side == Side::Dialler && running.dials.contains_key(&link);
            let owned = matches!(open.owner(side), Owner::Node { node: of, .. } if of == node);
            let queued = side == Side::Acceptor
                && open.host(side) == node
                && open.owner(side) == Owner::Nobody;
            if owned || dialled || queued {
                engine.abort(link, side);
            }
        }
    }
}

impl Running {
    /// `Slots::all_free`, which the shutdown awaits.
    pub(super) fn home(&mut self, engine: &mut Engine) {
        if self.stage == Stage::Draining && self.slots.all_free() {
            engine.line(format_args!("n{}: all slots are free", self.host.node));
            self.stage = Stage::SlotsFree;
            self.post_peers(engine, PeersMail::Stop);
        }
    }

    /// The mutant that drops its mailbox instead of handling it.
    fn drop_mail(&mut self) {
        let queued = std::iter::from_fn(|| Some(self.peers_queue.pop()?.1));
        let queued: Vec<PeersMail> = queued.collect();
        for mail in queued
            .into_iter()
            .chain(std::mem::take(&mut self.peers_mail))
        {
            if let PeersMail::Done(_, slot) = mail {
                self.slots.free(slot);
            }
        }
    }

    /// The timeout for connections to end has passed.
    pub(crate) fn deadline_passed(&mut self, engine: &mut Engine) {
        let node = self.host.node;
        if self.stage == Stage::Draining && !engine.had_trouble(node, CONNECTIONS) {
            let text = format!(
                "n{node}: {} slots are not free after {CONNECTIONS:?}",
                self.slots.taken()
            );
            engine.breach("shutdown", text);
        }
    }
}
