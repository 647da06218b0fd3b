//! The threads that serve connections. Each accepts for itself, reads requests and runs methods.
//!
//! A thread that only accepts would be woken by every connection of a burst, and wake a worker
//! for each: two context switches that the client waits for where cores are few. Two workers that
//! both accept are both woken by each connection. So the first accepts all, and keeps up with
//! more clients than there are; the second accepts the connections that stay in the queue for a
//! while, because a call holds up the first, or the quota is full.
//!
//! Workers have the normal scheduling policy. Under `SCHED_BATCH` they would never preempt a
//! client, but would wait for a tick behind any busy thread.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use actix_rt::Arbiter;
use handfast_node::{Accepted, ListeningSocket};
use tokio::sync::watch;

use crate::address_group::AddressGroup;
use crate::metrics::Refusal;
use crate::sockets::BACKLOG;

use super::authorize::Caller;
use super::connection::Serving;
use super::log_limit;
use super::queue::{Listening, Queue, Role};
use super::quota::Quota;
use super::{Context, Counter};

/// In the order in which they accept.
const WORKERS: [Role; 2] = [Role::Primary, Role::Overflow];
/// Most blocking reads at once, per worker: each may hold a few blocks in memory.
const BLOCKING_THREADS: usize = 8;
/// Most connections in an accept queue.
const QUEUED: usize = BACKLOG.unsigned_abs() as usize;
/// Pause of accepting when the system has no descriptor or memory for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The answer to a client whose address may not call.
const FORBIDDEN: &[u8] =
    b"HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
/// Time that a worker waits for its last connections when it ends.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// The stage of the workers. It only advances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// They accept connections.
    Open,
    /// They have closed the listening sockets, and serve their connections.
    Closed,
    /// They close idle connections, and others after their answer.
    Disconnection,
}

/// A listening socket, and its entry in the node's list.
#[derive(Debug)]
pub(super) struct RegisteredSocket {
    pub(super) socket: Socket,
    pub(super) listening: Arc<ListeningSocket>,
}

/// A socket that listens.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

impl RegisteredSocket {
    fn try_clone(&self) -> io::Result<Self> {
        let socket = match &self.socket {
            Socket::Tcp(socket) => Socket::Tcp(socket.try_clone()?),
            Socket::Unix(socket) => Socket::Unix(socket.try_clone()?),
        };
        let listening = self.listening.clone();
        Ok(Self { socket, listening })
    }

    /// Stores the socket in its entry, so that its accept queue can be read.
    pub(super) fn show(self) {
        let socket: Arc<dyn AsFd + Send + Sync> = match self.socket {
            Socket::Tcp(socket) => Arc::new(socket),
            Socket::Unix(socket) => Arc::new(socket),
        };
        self.listening.set_socket(Some(socket));
    }
}

/// Workers that share their listening sockets. They end when all clones are dropped.
#[derive(Clone, Debug)]
pub(super) struct Workers {
    stage: watch::Sender<Stage>,
    /// Open listening sockets, counted once per worker.
    open: Counter,
}

impl Workers {
    /// Starts the threads; they accept from now on.
    ///
    /// # Errors
    /// The system has no thread, descriptor or memory left.
    pub(super) fn start(sockets: &[RegisteredSocket], context: &Context) -> io::Result<Self> {
        let workers = Self {
            stage: watch::Sender::new(Stage::Open),
            open: Counter::default(),
        };
        for role in WORKERS {
            let sockets = sockets.iter().map(RegisteredSocket::try_clone);
            let sockets = sockets.collect::<io::Result<Vec<_>>>()?;
            workers.start_one(role, sockets, context.clone())?;
        }
        Ok(workers)
    }

    fn start_one(
        &self,
        role: Role,
        sockets: Vec<RegisteredSocket>,
        context: Context,
    ) -> io::Result<()> {
        let (started, result) = mpsc::sync_channel(1);
        let (stage, open) = (self.stage.subscribe(), self.open.clone());
        let arbiter = Arbiter::try_with_tokio_rt(event_loop)?;
        arbiter.spawn_fn(move || {
            let worker = Rc::new(Worker::new(role, context, stage));
            let opened = worker.open(sockets, &open);
            actix_rt::spawn(keep_awake());
            actix_rt::spawn(async move {
                worker.ended().await;
                Arbiter::current().stop();
            });
            let _ = started.send(opened);
        });
        // A thread that ended has dropped its sender.
        result
            .recv()
            .unwrap_or_else(|_| Err(io::Error::other("a worker thread ended at once")))
    }

    /// Serves the connections in the accept queues, and closes the listening sockets. Later
    /// connections are refused.
    pub(super) async fn close(&self) {
        self.advance(Stage::Closed);
        self.open.none().await;
    }

    /// Closes idle connections, and others after their answer.
    pub(super) fn end(&self) {
        self.advance(Stage::Disconnection);
    }

    fn advance(&self, to: Stage) {
        self.stage.send_if_modified(|stage| {
            let before = std::mem::replace(stage, to.max(*stage));
            before != *stage
        });
    }
}

/// Less than any timeout of a connection.
const KEEP_AWAKE: Duration = Duration::from_secs(10);

/// Never returns. tokio wakes its event loop by a system call when a timer is set that is due
/// before all others, even from the loop's own thread: each new connection would cost one. Behind
/// this timer it costs none.
async fn keep_awake() {
    loop {
        tokio::time::sleep(KEEP_AWAKE).await;
    }
}

/// A single-threaded runtime, with a pool for blocking reads.
pub(super) fn event_loop() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .build()
}

/// Returns at that stage, or when the sender is dropped.
pub(super) async fn reached(mut now: watch::Receiver<Stage>, stage: Stage) {
    let _ = now.wait_for(|now| *now >= stage).await;
}

/// One worker, on its thread.
struct Worker {
    role: Role,
    context: Context,
    stage: watch::Receiver<Stage>,
    /// Its open connections.
    connections: Counter,
    /// When a pause of accepting was last logged.
    last_warning: Cell<Option<Instant>>,
}

impl Worker {
    fn new(role: Role, context: Context, stage: watch::Receiver<Stage>) -> Self {
        Self {
            role,
            context,
            stage,
            connections: Counter::default(),
            last_warning: Cell::new(None),
        }
    }

    /// Starts to accept on every socket.
    fn open(self: &Rc<Self>, sockets: Vec<RegisteredSocket>, open: &Counter) -> io::Result<()> {
        for RegisteredSocket { socket, listening } in sockets {
            let (worker, counted) = (self.clone(), open.one_more());
            match socket {
                Socket::Tcp(socket) => {
                    let queue = Queue::new(socket, self.role)?;
                    actix_rt::spawn(async move {
                        worker.serve(queue, &listening).await;
                        drop(counted);
                    });
                }
                Socket::Unix(socket) => {
                    let queue = Queue::new(socket, self.role)?;
                    actix_rt::spawn(async move {
                        worker.serve(queue, &listening).await;
                        drop(counted);
                    });
                }
            }
        }
        Ok(())
    }

    /// Accepts on one socket until it is to be closed.
    async fn serve<L: Listening>(&self, queue: Queue<L>, listening: &ListeningSocket) {
        let serving = Rc::new(self.serving());
        let closing = reached(self.stage.clone(), Stage::Closed);
        tokio::pin!(closing);
        loop {
            let accepted = tokio::select! {
                () = &mut closing => break,
                accepted = queue.next() => accepted,
            };
            let (stream, addr) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tokio::select! {
                        () = &mut closing => break,
                        () = self.recover(&error, listening) => continue,
                    }
                }
            };
            let Some(stream) = self.admit::<L>(stream, addr, listening) else {
                tokio::task::consume_budget().await;
                continue;
            };
            let (quota, group) = self.quota_of(addr);
            let (slot, closes) = tokio::select! {
                biased;
                slot = quota.slot(group) => (Some(slot), false),
                () = &mut closing => (quota.try_slot(group), true),
            };
            if let Some(slot) = slot {
                self.spawn_connection::<L>(stream, Caller { addr, slot }, &serving);
            }
            if closes {
                break;
            }
            // Open connections run between two accepts.
            tokio::task::consume_budget().await;
        }
        // Connections in the queue would be reset with the socket. Bounded by the queue's depth:
        // new ones may keep arriving.
        for (stream, addr) in queue.last().take(QUEUED) {
            let Some(stream) = self.admit::<L>(stream, addr, listening) else {
                continue;
            };
            let (quota, group) = self.quota_of(addr);
            let Some(slot) = quota.try_slot(group) else {
                return;
            };
            self.spawn_connection::<L>(stream, Caller { addr, slot }, &serving);
        }
    }

    /// Returns the connection if its address may call: checked before anything is read or
    /// allocated for it.
    fn admit<L: Listening>(
        &self,
        stream: L::Accepted,
        addr: Option<SocketAddr>,
        listening: &ListeningSocket,
    ) -> Option<L::Accepted> {
        // The self-probe has succeeded, and may come from an address that may not call.
        if listening.on_accept(addr) == Accepted::SelfProbe {
            return None;
        }
        let Some(addr) = addr.filter(|addr| !self.context.access.allows(addr.ip())) else {
            return Some(stream);
        };
        L::refuse(stream, FORBIDDEN);
        self.context.metrics.refused(Refusal::Address);
        tracing::debug!(%addr, "RPC connection refused: address not allowed");
        if let Some(left_out) = self.context.logs.address.now() {
            tracing::warn!(%addr, left_out, "RPC connection refused: address not allowed; allow it with --rpc-allow-ip");
        }
        None
    }

    /// The quota and the group of a connection from `addr`.
    fn quota_of(&self, addr: Option<SocketAddr>) -> (&Arc<Quota>, AddressGroup) {
        let quotas = &self.context.quotas;
        match addr {
            Some(addr) => (&quotas.tcp, addr.ip().into()),
            None => (&quotas.unix, AddressGroup::Unix),
        }
    }

    fn spawn_connection<L: Listening>(
        &self,
        stream: L::Accepted,
        caller: Caller,
        serving: &Rc<Serving>,
    ) {
        let stream = match L::open(stream) {
            Ok(stream) => stream,
            Err(error) => {
                tracing::debug!(%error, "cannot register an RPC connection with the event loop");
                return;
            }
        };
        if caller.addr.is_none() {
            // The mode of the socket's file authenticates it.
            caller.slot.logged_in();
        }
        let serving = serving.clone();
        let counted = (
            self.context.load.connections.one_more(),
            self.connections.one_more(),
        );
        actix_rt::spawn(async move {
            serving.connection(stream, caller).await;
            drop(counted);
        });
    }

    /// After an `accept` error: returns when accepting may be tried again.
    async fn recover(&self, error: &io::Error, listening: &ListeningSocket) {
        use io::ErrorKind::{ConnectionAborted, ConnectionReset};
        if matches!(error.kind(), ConnectionAborted | ConnectionReset) {
            // One client disconnected while in the queue.
            return;
        }
        let shortage = listening.pauses_after(error);
        let last_warning = self.last_warning.get();
        if shortage && last_warning.is_none_or(|at| at.elapsed() >= log_limit::INTERVAL) {
            self.last_warning.set(Some(Instant::now()));
            tracing::warn!(at = %listening.address(), %error, "cannot accept RPC connections, which wait; raise the limit on open files (ulimit -n)");
        }
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }

    /// The connection server.
    fn serving(&self) -> Serving {
        Serving::new(self.stage.clone(), self.context.clone())
    }

    /// Returns when no connection is left, or after [`DRAIN_TIMEOUT`].
    async fn ended(&self) {
        reached(self.stage.clone(), Stage::Disconnection).await;
        let _ = tokio::time::timeout(DRAIN_TIMEOUT, self.connections.none()).await;
    }
}

#[cfg(test)]
mod tests;
