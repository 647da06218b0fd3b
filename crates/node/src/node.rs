//! `Node`: start order, stop order, and who died.

pub(crate) mod messages;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix::fut::wrap_future;
use actix::{Actor, ActorFutureExt, Addr, AsyncContext, Context, Handler, System};
use handfast_chain::{ChainOptions, DirLock, OpenError};
use handfast_proto::peer_table::{EXTRA_OUTBOUND, MAX_MANUAL};
use tokio::sync::watch;

use crate::arbiters::Arbiters;
use crate::clock::Clock;
use crate::config::{NodeConfig, StartError};
use crate::descriptors::OpenFiles;
use crate::handle::NodeHandle;
use crate::handle::links::LinksCell;
use crate::listening_socket::ListeningSockets;
use crate::node::messages::{ActorDied, Open, Opened, Shutdown, ToNode};
use crate::opening::{self, Mailboxes};
use crate::post::ask_with;
use crate::shared::{self, Shared};
use crate::slots::{Limits, Slots};
use crate::view::{ExitReason, Phase};
use crate::wiring::{self, Running, Wiring};
use crate::{descriptors, indexer, listener, shutdown};

/// How often the size of the block files is looked at, when the tip moved.
const MEASURE_INTERVAL: Duration = Duration::from_secs(30);
/// How often the address book is saved, when it changed. Core: 15 min.
const SAVE_INTERVAL: Duration = Duration::from_secs(15 * 60);

/// The actor on the system arbiter that starts and stops everything else.
#[derive(Debug)]
pub struct Node {
    shared: Arc<Shared>,
    exit: watch::Sender<Option<ExitReason>>,
    state: State,
    /// Why the node stops, once it does.
    why: Option<ExitReason>,
    /// The tip's height when the disk was last looked at.
    measured_at: u64,
}

#[derive(Debug)]
enum State {
    /// The kernel is being opened on a thread of its own.
    Opening(Box<Wiring>, Arbiters),
    Running(Box<Running>, Arbiters),
    /// The shutdown is under way, or over.
    Stopping,
}

/// A node whose sockets are bound, and which has touched nothing else.
#[derive(Debug)]
pub struct BoundNode {
    config: NodeConfig,
    files: OpenFiles,
    sockets: Vec<TcpListener>,
}

impl Node {
    /// Binds the listening sockets, and raises the process's limit on open files to what
    /// the configuration needs. Changes nothing on disk: a caller with sockets of its own
    /// binds them next, then calls [`BoundNode::start`].
    ///
    /// # Errors
    /// A directory that is in use or not ours, or an address that cannot be listened on. The
    /// directory first: when a node is started twice its ports are taken as well.
    pub fn bind(mut config: NodeConfig) -> Result<BoundNode, StartError> {
        handfast_chain::check_lockable(&config.datadir, &config.network)?;
        let files = descriptors::raise(&config);
        descriptors::fit(&mut config, files);
        let sockets = config
            .listen
            .iter()
            .map(|&addr| listener::bind(addr, config.backlog));
        let sockets = sockets.collect::<Result<_, _>>()?;
        Ok(BoundNode {
            config,
            files,
            sockets,
        })
    }

    /// Binds and starts.
    ///
    /// # Errors
    /// What prevents the start; nothing was changed on disk then.
    ///
    /// # Panics
    /// Outside an actix `System`.
    pub fn start(config: NodeConfig) -> Result<NodeHandle, StartError> {
        Self::bind(config)?.start()
    }
}

impl BoundNode {
    /// The addresses that are listened on; ports asked for as 0 are known now.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.sockets
            .iter()
            .filter_map(|socket| socket.local_addr().ok())
            .collect()
    }

    /// Open files that the rest of the process may have without taking them from peers and
    /// from the chain: at most as many as [`NodeConfig::other_descriptors`] asked for.
    #[must_use]
    pub fn other_descriptors(&self) -> u64 {
        descriptors::for_others(&self.config, self.files)
    }

    /// Takes the data directory and starts. Returns at once: the kernel opens on
    /// its own thread, and [`NodeHandle::phase`] says when everything runs.
    ///
    /// # Errors
    /// A directory that is in use or not ours (unchanged then), no threads.
    ///
    /// # Panics
    /// Outside an actix `System`.
    pub fn start(self) -> Result<NodeHandle, StartError> {
        assert!(
            System::is_registered(),
            "a node starts inside an actix System"
        );
        let lock = handfast_chain::lock(&self.config.datadir, &self.config.network)?;
        let arbiters = Arbiters::start(self.config.net_arbiters)?;
        Ok(launch(self, lock, arbiters))
    }
}

/// Starts the actor and the opening of the kernel.
fn launch(bound: BoundNode, lock: DirLock, arbiters: Arbiters) -> NodeHandle {
    let listen = bound.addresses();
    let BoundNode {
        config,
        files,
        sockets,
    } = bound;
    let listening_sockets = ListeningSockets::new();
    let backlog = config.backlog;
    let listening = sockets
        .into_iter()
        .map(|socket| listener::Bound::new(socket, backlog, &listening_sockets));
    let listening = listening.collect();
    let clock = Clock::start();
    let (exit, ended) = watch::channel(None);
    let limits = Limits {
        inbound: config.max_inbound,
        handshakes: config.max_handshakes,
        // One more when sync does not get on with those it has.
        outbound: config.max_outbound + EXTRA_OUTBOUND,
        manual: MAX_MANUAL.max(config.connect.len()) + config.add_nodes.len(),
        subscribers: wiring::SUBSCRIBERS.len(),
    };
    let ctx = Context::<Node>::new();
    let shared = Arc::new(Shared::new(shared::ConnectionParams {
        network: config.network.clone(),
        datadir: config.datadir.clone(),
        user_agent: config.user_agent.clone(),
        listen,
        node: to_node(&ctx.address()),
        exit: ended,
        slots: Slots::new(limits),
        listening_sockets,
        clock,
        mining: config.mining.clone(),
        indexes: indexer::wanted(&config),
    }));
    let mut options = ChainOptions::new(config.network.clone(), config.datadir.clone());
    options.script_threads = config.script_threads;
    options.lock = Some(lock);
    let links = LinksCell::default();
    let mailboxes = Mailboxes::new();
    opening::open(options, &config, &mailboxes, shared.clone());
    let wiring = Box::new(Wiring {
        config,
        files,
        listening,
        mailboxes,
        links: links.clone(),
    });
    ctx.run(Node {
        shared: shared.clone(),
        exit,
        state: State::Opening(wiring, arbiters),
        why: None,
        measured_at: 0,
    });
    NodeHandle { shared, links }
}

pub(crate) fn to_node(node: &Addr<Node>) -> ToNode {
    ToNode {
        shutdown: node.clone().recipient(),
        died: node.clone().recipient(),
        opened: node.clone().recipient(),
    }
}

impl Actor for Node {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(0);
        ctx.run_interval(MEASURE_INTERVAL, |node, _| node.measure());
        ctx.run_interval(SAVE_INTERVAL, |node, ctx| node.save(ctx));
    }
}

impl Node {
    fn measure(&mut self) {
        let height = self
            .shared
            .height
            .load(std::sync::atomic::Ordering::Relaxed);
        if std::mem::replace(&mut self.measured_at, height) != height {
            let shared = self.shared.clone();
            drop(tokio::task::spawn_blocking(move || shared.measure_disk()));
        }
    }

    fn save(&mut self, ctx: &mut Context<Self>) {
        let shared = self.shared.clone();
        drop(tokio::task::spawn_blocking(move || {
            if let Err(error) = shared.save_mined() {
                tracing::warn!(%error, "cannot save mining.dat; trying again later");
            }
        }));
        let State::Running(running, _) = &self.state else {
            return;
        };
        let (peers, shared) = (running.peers.clone(), self.shared.clone());
        ctx.spawn(wrap_future(async move {
            let rows = ask_with(&peers, |peers| peers.table.book().rows().collect());
            let Ok(rows) = rows.await else {
                return;
            };
            let save = move || shared.state.addresses.save(|| rows);
            let saved = tokio::task::spawn_blocking(save).await;
            if let Ok(Err(error)) = saved {
                tracing::warn!(%error, "cannot save peers.dat; trying again later");
            }
        }));
    }

    /// Begins the shutdown, unless it has begun. The first reason counts, but a
    /// failure on the way out is one.
    fn stop(&mut self, why: ExitReason, ctx: &mut Context<Self>) {
        match (&self.why, &why) {
            (None, _) | (Some(ExitReason::Requested(_)), ExitReason::Failed(_)) => {
                self.why = Some(why)
            }
            (Some(_), _) => {}
        }
        self.shared.set_phase(Phase::Stopping);
        match std::mem::replace(&mut self.state, State::Stopping) {
            State::Running(running, arbiters) => {
                let shutdown = shutdown::run(*running, arbiters, self.shared.clone());
                ctx.spawn(
                    wrap_future::<_, Self>(shutdown).map(|outcome, node, _| node.ended(outcome)),
                );
            }
            // The kernel cannot be interrupted while it opens: `Opened` goes on from here.
            opening @ State::Opening(..) => self.state = opening,
            State::Stopping => {}
        }
    }

    fn ended(&mut self, outcome: Result<(), String>) {
        let asked = self
            .why
            .clone()
            .unwrap_or_else(|| ExitReason::Failed("nobody asked for the end".into()));
        let reason = match (asked, outcome) {
            (ExitReason::Requested(_), Err(failure)) => ExitReason::Failed(failure),
            (asked, _) => asked,
        };
        match &reason {
            ExitReason::Requested(why) => tracing::info!(why, "stopped"),
            ExitReason::Failed(why) => tracing::error!(why, "stopped"),
        }
        self.exit.send_replace(Some(reason));
    }

    fn begin(&mut self, opened: Open, ctx: &mut Context<Self>) {
        let State::Opening(wiring, arbiters) = std::mem::replace(&mut self.state, State::Stopping)
        else {
            unreachable!("the kernel is opened once, and nothing else leaves this state");
        };
        let running = wiring::start(*wiring, opened, &arbiters, &self.shared);
        self.state = State::Running(Box::new(running), arbiters);
        if let Some(why) = self.why.take() {
            self.stop(why, ctx);
        } else {
            self.shared.set_phase(Phase::Running);
        }
    }

    fn opening_failed(&mut self, error: &OpenError, ctx: &mut Context<Self>) {
        self.shared
            .set_starting(&format!("The start has failed: {error}"));
        self.shared.set_phase(Phase::Stopping);
        self.why = Some(ExitReason::Failed(error.to_string()));
        if let State::Opening(_, arbiters) = std::mem::replace(&mut self.state, State::Stopping) {
            let join = tokio::task::spawn_blocking(move || arbiters.join());
            ctx.spawn(wrap_future::<_, Self>(join).map(|_, node, _| node.ended(Ok(()))));
        }
    }
}

impl Handler<Opened> for Node {
    type Result = ();

    fn handle(&mut self, Opened(result): Opened, ctx: &mut Self::Context) {
        match result {
            Ok(opened) => self.begin(*opened, ctx),
            Err(error) => self.opening_failed(&error, ctx),
        }
    }
}

impl Handler<Shutdown> for Node {
    type Result = ();

    fn handle(&mut self, Shutdown { why }: Shutdown, ctx: &mut Self::Context) {
        if self.why.is_none() {
            tracing::info!(why, "shutting down");
        }
        self.stop(ExitReason::Requested(why), ctx);
    }
}

impl Handler<ActorDied> for Node {
    type Result = ();

    fn handle(&mut self, ActorDied { who, how }: ActorDied, ctx: &mut Self::Context) {
        tracing::error!(who, how, "a critical part of the node died");
        self.stop(ExitReason::Failed(format!("{who}: {how}")), ctx);
    }
}
