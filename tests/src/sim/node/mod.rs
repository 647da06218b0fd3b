//! A whole node: the production machines, and between them the glue of the actors of
//! `handfast-node`, arm by arm.
//!
//! | here | stands for |
//! |---|---|
//! | `peer` | `node/src/peer.rs`, `lifecycle.rs`, `outbox.rs`, `serve.rs`, `credit.rs` |
//! | `peers` | `node/src/peer_manager.rs` |
//! | `sync` | `node/src/sync_manager.rs`, and the kernel's thread |
//! | `second` | a second subscriber of PeerManager, in runs that have one |
//! | `acceptor` | `node/src/listener.rs`, `connector.rs`, `acceptor.rs`, `slots.rs`, `room.rs` |
//! | `life` | `node/src/opening.rs`, `wiring.rs`, `shutdown.rs` |
//! | `mutants` | nothing: mistakes at the border of the sync machine |
//! | `watch/` | nothing: what an outside observer checks |
//!
//! Each actor has one mailbox, FIFO; connections' messages to a manager go from it into a queue in
//! which they take turns. Which actor runs next, after what delay and for how many messages, is the
//! scheduler's choice.

mod acceptor;
mod life;
mod mutants;
mod peer;
mod peers;
mod second;
mod sync;
mod watch;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bitcoin::{BlockHash, Work};
use handfast_proto::address_book::Row;
use handfast_proto::fair_queue::FairQueue;
use handfast_proto::handshake_limiter::HandshakeLimiter;
use handfast_proto::headers::HeaderTree;
use handfast_proto::lifecycle::{ConnId, Direction, Ledger, Roles};
use handfast_proto::peer_table::PeerTable;
use handfast_proto::session::SessionConfig;
use handfast_proto::sync::SyncManager;
use handfast_proto::testing::Kernel;
use handfast_proto::time::{Now, earliest};

use super::engine::{Actor, Engine, Event, Host};
use super::net::LinkId;
use acceptor::{Dial, Slots};
pub(crate) use life::Stage;
use peer::Peer;
use peers::PeersMail;
use second::Second;
pub(crate) use sync::Job;
use sync::SyncMail;

/// The wall clock at the start of a run, Unix seconds.
pub(crate) const EPOCH: u32 = 1_400_000_000;
/// Least time between two alarms of an actor (`node/src/alarm.rs`).
const LEAST: Duration = Duration::from_millis(1);

/// The configuration of a node, for all its runs.
#[derive(Clone, Debug)]
pub(crate) struct Profile {
    pub(crate) addr: SocketAddr,
    pub(crate) max_inbound: usize,
    pub(crate) max_handshakes: usize,
    pub(crate) max_outbound: usize,
    pub(crate) add_nodes: Vec<String>,
    pub(crate) handshake_timeout: Duration,
    pub(crate) minimum_work: Option<Work>,
    /// PeerManager's subscribers.
    pub(crate) subscribers: Roles,
    pub(crate) seed: u64,
}

/// The state that survives a process.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    /// The tree at the kernel's last flush.
    pub(crate) tree: HeaderTree,
    pub(crate) addresses: Vec<Row>,
}

/// A machine with a node, which may run or not.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) index: usize,
    pub(crate) profile: Profile,
    pub(crate) life: u32,
    /// Error of its wall clock in seconds.
    pub(crate) clock_error: i64,
    /// The process is paused until then.
    pub(crate) paused_until: Duration,
    pub(crate) disk: Disk,
    pub(crate) running: Option<Box<Running>>,
}

/// When an actor's one timer fires.
#[derive(Clone, Copy, Debug, Default)]
struct Timer {
    set_for: Option<Duration>,
    not_before: Duration,
}

/// A process.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) host: Host,
    profile: Profile,
    /// When it started; its monotonic clock begins there.
    started_at: Duration,
    pub(crate) clock_error: i64,
    pub(crate) stage: Stage,
    table: PeerTable,
    /// Connections that completed their handshake and have not ended at PeerManager.
    links: BTreeSet<ConnId>,
    pub(crate) sync: SyncManager,
    pub(crate) kernel: Kernel,
    jobs: VecDeque<Job>,
    kernel_busy: bool,
    /// Until when the kernel holds its lock for a slow block.
    slow_until: Duration,
    /// The next block is slow.
    pub(crate) slow_next: bool,
    /// The next block cannot be written.
    pub(crate) disk_full_next: bool,
    peers: BTreeMap<ConnId, Peer>,
    peers_mail: VecDeque<PeersMail>,
    /// The queue by connection, so that they are served in turns.
    peers_queue: FairQueue<PeersMail>,
    /// A second queue to PeerManager, for a mutant.
    peers_express: VecDeque<PeersMail>,
    sync_mail: VecDeque<SyncMail>,
    sync_queue: FairQueue<SyncMail>,
    second: Second,
    connector_mail: VecDeque<Dial>,
    dials: BTreeMap<LinkId, Dial>,
    slots: Slots,
    room: HandshakeLimiter,
    next_id: u64,
    session: Arc<SessionConfig>,
    polls: BTreeSet<Actor>,
    timers: BTreeMap<Actor, Timer>,
    /// Actors whose thread is stalled, until when.
    pub(crate) held: BTreeMap<Actor, Duration>,
    submitted: BTreeMap<u64, BlockHash>,
    next_ticket: u64,
    /// The ledger of the outside observer.
    ledger: Ledger,
    watch: watch::Watch,
}

impl Running {
    /// `Clock::now`.
    fn now(&self, engine: &Engine) -> Now {
        let seconds = i64::try_from(engine.now.as_secs()).expect("a run lasts hours");
        let unix = i64::from(EPOCH) + seconds + self.clock_error;
        Now {
            mono: engine.now - self.started_at,
            unix: u32::try_from(unix).expect("clocks are off by days at most"),
        }
    }

    /// Schedules an actor, unless it is scheduled already.
    fn wake(&mut self, engine: &mut Engine, actor: Actor) {
        if !self.polls.insert(actor) {
            return;
        }
        let mut delay = if engine.chance(engine.faults.sluggish) {
            engine.between(Duration::from_micros(50), Duration::from_millis(15))
        } else {
            Duration::from_micros(1 + engine.random.below(60))
        };
        if let Some(until) = self.held.get(&actor) {
            delay = delay.max(until.saturating_sub(engine.now));
        }
        engine.after(delay, Event::Poll(self.host, actor));
    }

    /// An actor's turn.
    pub(crate) fn poll(&mut self, engine: &mut Engine, actor: Actor) {
        self.polls.remove(&actor);
        if self
            .held
            .get(&actor)
            .is_some_and(|until| *until > engine.now)
        {
            return self.wake(engine, actor);
        }
        self.held.remove(&actor);
        match actor {
            Actor::Peers => self.poll_peers(engine),
            Actor::Sync => self.poll_sync(engine),
            Actor::Second => self.poll_second(engine),
            Actor::Connector => self.poll_connector(engine),
            Actor::Peer(id) => self.poll_peer(engine, id),
        }
        self.arm(engine, actor);
        self.check(engine);
    }

    /// Number of messages that an actor handles in one turn.
    fn portion(engine: &mut Engine) -> usize {
        match engine.random.below(3) {
            0 => 1,
            1 => 1 + engine.random.index(8),
            _ => usize::MAX,
        }
    }

    fn deadline(&self, actor: Actor) -> Option<Duration> {
        match actor {
            Actor::Peers => self.table.deadline(),
            Actor::Sync => self.sync.deadline(),
            Actor::Connector | Actor::Second => None,
            Actor::Peer(id) => {
                let peer = self.peers.get(&id)?;
                earliest(peer.session.deadline(), peer.reads_at())
            }
        }
    }

    /// Sets an actor's timer, as `node/src/alarm.rs` does: one that is set too early fires early,
    /// and is set again.
    fn arm(&mut self, engine: &mut Engine, actor: Actor) {
        let Some(deadline) = self.deadline(actor) else {
            return;
        };
        let timer = self.timers.entry(actor).or_default();
        let due = (self.started_at + deadline)
            .max(timer.not_before)
            .max(engine.now);
        if timer.set_for.is_none_or(|at| due < at) {
            timer.set_for = Some(due);
            engine.at(due, Event::Alarm(self.host, actor));
        }
    }

    /// A timer fires.
    pub(crate) fn alarm(&mut self, engine: &mut Engine, actor: Actor) {
        let Some(timer) = self.timers.get_mut(&actor) else {
            return;
        };
        if timer.set_for.is_none_or(|at| at > engine.now) {
            return;
        }
        timer.set_for = None;
        let due = self.deadline(actor);
        if due.is_some_and(|due| self.started_at + due <= engine.now) {
            let timer = self.timers.entry(actor).or_default();
            timer.not_before = engine.now + LEAST;
            match actor {
                Actor::Peers => self.tick_peers(engine),
                Actor::Sync => self.tick_sync(engine),
                Actor::Connector | Actor::Second => {}
                Actor::Peer(id) => self.tick_peer(engine, id),
            }
        }
        self.arm(engine, actor);
        self.check(engine);
    }

    /// Bytes were received for a connection, or the window has space.
    pub(crate) fn readable(&mut self, engine: &mut Engine, id: ConnId) {
        if self.peers.contains_key(&id) {
            self.wake(engine, Actor::Peer(id));
        }
    }

    /// Whether it accepts connections.
    pub(crate) fn is_open(&self) -> bool {
        self.stage == Stage::Open
    }
}

/// A direction in a word, for the trace.
fn direction_name(direction: Direction) -> &'static str {
    match direction {
        Direction::Inbound => "inbound",
        Direction::Outbound => "outbound",
        Direction::Manual => "manual",
    }
}
