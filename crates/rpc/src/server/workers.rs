//! The threads that callers are served on. Each accepts for itself, reads requests and runs
//! methods.
//!
//! A thread that only accepts would be woken by every caller of a burst, and wake a worker
//! for each: two changes of context that the callers' own thread waits for where cores are
//! few. Two workers that accept side by side are woken both by whoever comes, and share few
//! callers so that both are awake for half as many calls each. So the first takes all, and
//! keeps up with more callers than there are; the second takes in whom the first has left in
//! the queue for a while, since one call holds it up, or it has no room.
//!
//! They are scheduled as all threads are. `SCHED_BATCH`, under which they would never take
//! the core of a caller, has them wait for a tick behind somebody else's busy thread.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use actix_rt::Arbiter;
use handfast_node::{Arrival, Entrance};
use tokio::sync::watch;

use crate::address_group::AddressGroup;
use crate::metrics::Refusal;
use crate::sockets::BACKLOG;

use super::connection::Serving;
use super::gate::Visitor;
use super::queue::{Listening, Queue, Turn};
use super::share::Share;
use super::{Context, Counter};

/// In the order in which they take callers in.
const WORKERS: [Turn; 2] = [Turn::First, Turn::WhenOverdue];
/// Blocking reads at once, of a worker: each may hold a few blocks in memory.
const BLOCKING_THREADS: usize = 8;
/// Callers in an accept queue, at most.
const QUEUED: usize = BACKLOG.unsigned_abs() as usize;
/// Pause of accepting when the system has no descriptor or no memory for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Least time between two lines in the log about that.
const LOG_INTERVAL: Duration = Duration::from_secs(600);
/// What callers hear from whose address nobody may call.
const FORBIDDEN: &[u8] =
    b"HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
/// Time that a worker stays for its last connections, after it was told to end.
const LAST_CONNECTIONS: Duration = Duration::from_secs(30);

/// What workers do. It only ever advances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// They accept callers.
    Open,
    /// They serve those who are in, and have closed the listening sockets.
    Closed,
    /// They close connections that are idle, others after their answer.
    Ending,
}

/// A listening socket, and its record.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) socket: Socket,
    pub(super) entrance: Arc<Entrance>,
}

/// A socket that listens.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

impl Door {
    fn try_clone(&self) -> io::Result<Self> {
        let socket = match &self.socket {
            Socket::Tcp(socket) => Socket::Tcp(socket.try_clone()?),
            Socket::Unix(socket) => Socket::Unix(socket.try_clone()?),
        };
        let entrance = self.entrance.clone();
        Ok(Self { socket, entrance })
    }

    /// Keeps the socket in the record, to be asked for its queue.
    pub(super) fn show(self) {
        let socket: Arc<dyn AsFd + Send + Sync> = match self.socket {
            Socket::Tcp(socket) => Arc::new(socket),
            Socket::Unix(socket) => Arc::new(socket),
        };
        self.entrance.set_socket(Some(socket));
    }
}

/// Workers that share their listening sockets. When all clones are dropped they end.
#[derive(Clone, Debug)]
pub(super) struct Workers {
    stage: watch::Sender<Stage>,
    /// Sockets that are accepted on, each as often as there are workers.
    open: Counter,
}

impl Workers {
    /// Starts the threads; they accept from now on.
    ///
    /// # Errors
    /// Of the system, for want of threads, descriptors or memory.
    pub(super) fn start(doors: &[Door], context: &Context) -> io::Result<Self> {
        let workers = Self {
            stage: watch::Sender::new(Stage::Open),
            open: Counter::default(),
        };
        for turn in WORKERS {
            let doors = doors.iter().map(Door::try_clone);
            let doors = doors.collect::<io::Result<Vec<_>>>()?;
            workers.start_one(turn, doors, context.clone())?;
        }
        Ok(workers)
    }

    fn start_one(&self, turn: Turn, doors: Vec<Door>, context: Context) -> io::Result<()> {
        let (started, result) = mpsc::sync_channel(1);
        let (stage, open) = (self.stage.subscribe(), self.open.clone());
        let arbiter = Arbiter::try_with_tokio_rt(event_loop)?;
        arbiter.spawn_fn(move || {
            let worker = Rc::new(Worker::new(turn, context, stage));
            let opened = worker.open(doors, &open);
            actix_rt::spawn(beat());
            actix_rt::spawn(async move {
                worker.ended().await;
                Arbiter::current().stop();
            });
            let _ = started.send(opened);
        });
        // A thread that is gone has dropped its sender.
        result
            .recv()
            .unwrap_or_else(|_| Err(io::Error::other("a worker thread ended at once")))
    }

    /// Serves those who are in the accept queues, and closes the sockets. Whoever connects
    /// from then on is refused.
    pub(super) async fn close(&self) {
        self.advance(Stage::Closed);
        self.open.none().await;
    }

    /// Closes connections that are idle, others after their answer.
    pub(super) fn end(&self) {
        self.advance(Stage::Ending);
    }

    fn advance(&self, to: Stage) {
        self.stage.send_if_modified(|stage| {
            let before = std::mem::replace(stage, to.max(*stage));
            before != *stage
        });
    }
}

/// Less than any time that a connection is given.
const BEAT: Duration = Duration::from_secs(10);

/// Never ends. tokio wakes its event loop by a system call when a timer is set that goes off
/// before all others, also from the loop's own thread: on a worker without other timers each
/// new connection would cost one. Behind this timer it costs none.
async fn beat() {
    loop {
        tokio::time::sleep(BEAT).await;
    }
}

/// Single-threaded, with threads for reads that block.
pub(super) fn event_loop() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .build()
}

/// Returns at that stage; also when nobody is left to tell of it.
pub(super) async fn reached(mut now: watch::Receiver<Stage>, stage: Stage) {
    let _ = now.wait_for(|now| *now >= stage).await;
}

/// One of them, on its thread.
struct Worker {
    turn: Turn,
    context: Context,
    stage: watch::Receiver<Stage>,
    /// Connections that it has.
    inside: Counter,
    /// When the log was told that accepting pauses.
    told: Cell<Option<Instant>>,
}

impl Worker {
    fn new(turn: Turn, context: Context, stage: watch::Receiver<Stage>) -> Self {
        Self {
            turn,
            context,
            stage,
            inside: Counter::default(),
            told: Cell::new(None),
        }
    }

    /// Begins to accept at every door.
    fn open(self: &Rc<Self>, doors: Vec<Door>, open: &Counter) -> io::Result<()> {
        for Door { socket, entrance } in doors {
            let (worker, counted) = (self.clone(), open.one_more());
            match socket {
                Socket::Tcp(socket) => {
                    let queue = Queue::new(socket, self.turn)?;
                    actix_rt::spawn(async move {
                        worker.serve(queue, &entrance).await;
                        drop(counted);
                    });
                }
                Socket::Unix(socket) => {
                    let queue = Queue::new(socket, self.turn)?;
                    actix_rt::spawn(async move {
                        worker.serve(queue, &entrance).await;
                        drop(counted);
                    });
                }
            }
        }
        Ok(())
    }

    /// Accepts on one socket until there is to be no more of it.
    async fn serve<L: Listening>(&self, queue: Queue<L>, entrance: &Entrance) {
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
                        () = self.recover(&error, entrance) => continue,
                    }
                }
            };
            let Some(stream) = self.judged::<L>(stream, addr, entrance) else {
                tokio::task::consume_budget().await;
                continue;
            };
            let (share, group) = self.share_of(addr);
            let (seat, closes) = tokio::select! {
                biased;
                seat = share.seat(group) => (Some(seat), false),
                () = &mut closing => (share.try_seat(group), true),
            };
            if let Some(seat) = seat {
                self.welcome::<L>(stream, Visitor { addr, seat }, &serving);
            }
            if closes {
                break;
            }
            // Those who are in have their turn beside those who come.
            tokio::task::consume_budget().await;
        }
        // Whoever is in the queue has connected, and would be reset with the socket. As many
        // as there can be at once: others may go on to come.
        for (stream, addr) in queue.last().take(QUEUED) {
            let Some(stream) = self.judged::<L>(stream, addr, entrance) else {
                continue;
            };
            let (share, group) = self.share_of(addr);
            let Some(seat) = share.try_seat(group) else {
                return;
            };
            self.welcome::<L>(stream, Visitor { addr, seat }, &serving);
        }
    }

    /// The connection, if whoever made it may call at all: judged by the address alone, before
    /// anything is read, or held for it.
    fn judged<L: Listening>(
        &self,
        stream: L::Accepted,
        addr: Option<SocketAddr>,
        entrance: &Entrance,
    ) -> Option<L::Accepted> {
        // The self-probe has seen enough, and may come from an address that may not call.
        if entrance.on_accept(addr) == Arrival::SelfProbe {
            return None;
        }
        let Some(addr) = addr.filter(|addr| !self.context.access.allows(addr.ip())) else {
            return Some(stream);
        };
        L::refuse(stream, FORBIDDEN);
        self.context.metrics.refused(Refusal::Address);
        tracing::debug!(%addr, "RPC caller from an address that is not allowed refused");
        if let Some(left_out) = self.context.logs.address.now() {
            tracing::warn!(%addr, left_out, "RPC caller refused: its address may not call; allow it with --rpc-allow-ip");
        }
        None
    }

    /// Where somebody from there has a seat, and among whom.
    fn share_of(&self, addr: Option<SocketAddr>) -> (&Arc<Share>, AddressGroup) {
        let shares = &self.context.shares;
        match addr {
            Some(addr) => (&shares.tcp, addr.ip().into()),
            None => (&shares.unix, AddressGroup::Unix),
        }
    }

    fn welcome<L: Listening>(&self, stream: L::Accepted, visitor: Visitor, serving: &Rc<Serving>) {
        let stream = match L::open(stream) {
            Ok(stream) => stream,
            Err(error) => {
                tracing::debug!(%error, "an RPC connection cannot be watched");
                return;
            }
        };
        if visitor.addr.is_none() {
            // The mode of the socket's file has let it in.
            visitor.seat.logged_in();
        }
        let serving = serving.clone();
        let counted = (
            self.context.load.connections.one_more(),
            self.inside.one_more(),
        );
        actix_rt::spawn(async move {
            serving.connection(stream, visitor).await;
            drop(counted);
        });
    }

    /// After an error of `accept`: returns when it is worth another try.
    async fn recover(&self, error: &io::Error, entrance: &Entrance) {
        use io::ErrorKind::{ConnectionAborted, ConnectionReset};
        if matches!(error.kind(), ConnectionAborted | ConnectionReset) {
            // Of one caller, who left while in the queue.
            return;
        }
        let shortage = entrance.pauses_after(error);
        let told = self.told.get();
        if shortage && told.is_none_or(|at| at.elapsed() >= LOG_INTERVAL) {
            self.told.set(Some(Instant::now()));
            tracing::warn!(at = %entrance.place(), %error, "cannot accept RPC callers, who wait; raise the limit on open files (ulimit -n)");
        }
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }

    /// What serves the connections.
    fn serving(&self) -> Serving {
        Serving::new(self.stage.clone(), self.context.clone())
    }

    /// Returns when no connection is left, or they were waited for long enough.
    async fn ended(&self) {
        reached(self.stage.clone(), Stage::Ending).await;
        let _ = tokio::time::timeout(LAST_CONNECTIONS, self.inside.none()).await;
    }
}

#[cfg(test)]
mod tests;
