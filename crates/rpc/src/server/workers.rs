//! The threads that callers are served on. Each accepts for itself, reads requests and runs
//! methods.
//!
//! A thread that only accepts would be woken by every caller of a burst, and wake a worker
//! for each: two changes of context that the callers' own thread waits for where cores are
//! few. Here whoever is awake takes all that are in the queue.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use actix_http::body::BoxBody;
use actix_http::{Request, Response, ServiceConfig};
use actix_rt::Arbiter;
use actix_service::{IntoServiceFactory, Service, ServiceFactory};
use actix_web::dev::AppConfig;
use actix_web::{App, web};
use handfast_node::Entrance;
use handfast_node::scheduling::{Policy, schedule_this_thread};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};

use crate::sockets::BACKLOG;

use super::connection::Serving;
use super::gate::Caller;
use super::{Context, Counter, attention, call, plain, probes, rest};

/// How many there are. Calls are short, blocking reads have their own pool: two keep one
/// caller from holding up another.
const WORKERS: usize = 2;
/// Blocking reads at once, all workers together: each may hold a few blocks in memory.
const BLOCKING_THREADS: usize = 8;
/// Connections of a worker; further callers wait in the accept queue.
const MAX_CONNECTIONS: u32 = 25_600;
/// Callers in an accept queue, at most.
const QUEUED: usize = BACKLOG.unsigned_abs() as usize;
/// Pause of accepting when the system has no descriptor or no memory for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Least time between two lines in the log about that.
const LOG_INTERVAL: Duration = Duration::from_secs(600);
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
        self.entrance.listens_with(Some(socket));
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
        for _ in 0..WORKERS {
            let doors = doors.iter().map(Door::try_clone);
            let doors = doors.collect::<io::Result<Vec<_>>>()?;
            workers.start_one(doors, context.clone())?;
        }
        Ok(workers)
    }

    fn start_one(&self, doors: Vec<Door>, context: Context) -> io::Result<()> {
        let (started, result) = mpsc::sync_channel(1);
        let (stage, open) = (self.stage.subscribe(), self.open.clone());
        let arbiter = Arbiter::try_with_tokio_rt(event_loop)?;
        arbiter.spawn_fn(move || {
            // A worker that takes the core of the callers' thread, to look at the first of
            // their connections, makes all others of the burst wait. Where it is refused,
            // bursts are served all the same, only later.
            let _ = schedule_this_thread(Policy::Batch);
            let worker = Rc::new(Worker {
                context,
                config: ServiceConfig::default(),
                stage,
                room: Arc::new(Semaphore::new(MAX_CONNECTIONS as usize)),
                told: Cell::new(None),
            });
            let opened = worker.open(doors, &open);
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

/// Single-threaded, with threads for reads that block.
fn event_loop() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS / WORKERS)
        .build()
}

/// Returns at that stage; also when nobody is left to tell of it.
pub(super) async fn reached(mut now: watch::Receiver<Stage>, stage: Stage) {
    let _ = now.wait_for(|now| *now >= stage).await;
}

/// One of them, on its thread.
struct Worker {
    context: Context,
    /// Keeps the clock of answers.
    config: ServiceConfig,
    stage: watch::Receiver<Stage>,
    /// A permit for each connection that there may be.
    room: Arc<Semaphore>,
    /// When the log was told that accepting pauses.
    told: Cell<Option<Instant>>,
}

impl Worker {
    /// Begins to accept at every door.
    fn open(self: &Rc<Self>, doors: Vec<Door>, open: &Counter) -> io::Result<()> {
        for Door { socket, entrance } in doors {
            let (worker, counted) = (self.clone(), open.one_more());
            match socket {
                Socket::Tcp(socket) => {
                    let socket = TcpListener::from_std(socket)?;
                    actix_rt::spawn(async move {
                        worker.serve(socket, &entrance).await;
                        drop(counted);
                    });
                }
                Socket::Unix(socket) => {
                    let socket = UnixListener::from_std(socket)?;
                    actix_rt::spawn(async move {
                        worker.serve(socket, &entrance).await;
                        drop(counted);
                    });
                }
            }
        }
        Ok(())
    }

    /// Accepts on one socket until there is to be no more of it.
    async fn serve<L: Listening>(&self, socket: L, entrance: &Entrance) {
        let serving = Rc::new(self.serving(L::CALLER).await);
        let closing = reached(self.stage.clone(), Stage::Closed);
        tokio::pin!(closing);
        loop {
            let accepted = tokio::select! {
                () = &mut closing => break,
                accepted = self.accept(&socket) => accepted,
            };
            match accepted {
                Ok(caller) => self.welcome(caller, entrance, &serving),
                Err(error) => tokio::select! {
                    () = &mut closing => break,
                    () = self.recover(&error, entrance) => {}
                },
            }
        }
        // Whoever is in the queue has connected, and would be reset with the socket. As many
        // as there can be at once: others may go on to come.
        for (stream, addr) in socket.last().take(QUEUED) {
            let Ok(room) = self.room.clone().try_acquire_owned() else {
                return;
            };
            let caller = Accepted { stream, addr, room };
            self.welcome(caller, entrance, &serving);
        }
    }

    /// The next caller in the queue, when there is room.
    async fn accept<L: Listening>(&self, socket: &L) -> io::Result<Accepted<L::Stream>> {
        let room = self.room.clone().acquire_owned().await;
        let room = room.expect("nobody closes it");
        let (stream, addr) = socket.accept().await?;
        Ok(Accepted { stream, addr, room })
    }

    fn welcome<S, A>(&self, caller: Accepted<S>, entrance: &Entrance, serving: &Rc<Serving<A>>)
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
        A: Service<Request> + 'static,
        A::Response: Into<Response<BoxBody>>,
        A::Error: Into<Response<BoxBody>>,
    {
        // A self-probe has seen enough, and closes its connection itself.
        entrance.arrived(caller.addr);
        let serving = serving.clone();
        let counted = self.context.load.connections.one_more();
        actix_rt::spawn(async move {
            let _present = attention::Present::new();
            serving.connection(caller.stream, caller.addr).await;
            drop((counted, caller.room));
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

    /// What serves the connections of one socket.
    async fn serving(
        &self,
        caller: Caller,
    ) -> Serving<
        impl Service<Request, Response: Into<Response<BoxBody>>, Error: Into<Response<BoxBody>>> + use<>,
    > {
        let app = App::new()
            .app_data(web::Data::new(self.context.clone()))
            .route("/", web::to(call::handle))
            .route("/health", web::to(probes::health))
            .route("/ready", web::to(probes::ready))
            .route("/metrics", web::to(probes::metrics))
            .route("/rest/{path:.*}", web::to(rest::handle))
            .default_service(web::to(async || {
                plain(actix_web::http::StatusCode::NOT_FOUND, "")
            }));
        let app = app.into_factory().new_service(AppConfig::default()).await;
        Serving {
            app: app.unwrap_or_else(|()| unreachable!("handlers need nothing to be made")),
            config: self.config.clone(),
            stage: self.stage.clone(),
            caller,
        }
    }

    /// Returns when no connection is left, or they were waited for long enough.
    async fn ended(&self) {
        reached(self.stage.clone(), Stage::Ending).await;
        let last = self.room.acquire_many(MAX_CONNECTIONS);
        let _ = tokio::time::timeout(LAST_CONNECTIONS, last).await;
    }
}

/// A connection, and the room that it takes.
struct Accepted<S> {
    stream: S,
    addr: Option<SocketAddr>,
    room: tokio::sync::OwnedSemaphorePermit,
}

/// A socket that callers come by.
trait Listening {
    type Stream: AsyncRead + AsyncWrite + Unpin + 'static;
    /// Who comes by it.
    const CALLER: Caller;

    /// The next one, and where it comes from.
    async fn accept(&self) -> io::Result<(Self::Stream, Option<SocketAddr>)>;

    /// Those who are in the queue, asked of the system itself: the reactor may not have
    /// looked since they came.
    fn last(self) -> impl Iterator<Item = (Self::Stream, Option<SocketAddr>)>;
}

impl Listening for TcpListener {
    type Stream = TcpStream;
    const CALLER: Caller = Caller::Tcp;

    async fn accept(&self) -> io::Result<(TcpStream, Option<SocketAddr>)> {
        let (stream, addr) = TcpListener::accept(self).await?;
        Ok((stream, Some(addr)))
    }

    fn last(self) -> impl Iterator<Item = (TcpStream, Option<SocketAddr>)> {
        let socket = self.into_std();
        std::iter::from_fn(move || {
            let (stream, addr) = socket.as_ref().ok()?.accept().ok()?;
            stream.set_nonblocking(true).ok()?;
            Some((TcpStream::from_std(stream).ok()?, Some(addr)))
        })
    }
}

impl Listening for UnixListener {
    type Stream = UnixStream;
    const CALLER: Caller = Caller::Unix;

    async fn accept(&self) -> io::Result<(UnixStream, Option<SocketAddr>)> {
        let (stream, _) = UnixListener::accept(self).await?;
        Ok((stream, None))
    }

    fn last(self) -> impl Iterator<Item = (UnixStream, Option<SocketAddr>)> {
        let socket = self.into_std();
        std::iter::from_fn(move || {
            let (stream, _) = socket.as_ref().ok()?.accept().ok()?;
            stream.set_nonblocking(true).ok()?;
            Some((UnixStream::from_std(stream).ok()?, None))
        })
    }
}

#[cfg(test)]
mod tests {
    use handfast_node::{Phase, Place, Registration};

    use super::*;
    use crate::auth::Access;
    use crate::methods::Methods;
    use crate::metrics::RpcMetrics;
    use crate::server::Load;
    use crate::server::tests::{config, healthy, node, until};
    use crate::sockets::{self, Listeners};

    const EARLY: usize = 100;

    #[test]
    fn who_is_in_the_queue_when_the_sockets_are_closed_is_served() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        actix_rt::System::new().block_on(async {
            let node = node(dir.path());
            until("the node runs", || node.phase() == Phase::Running).await;
            let config = config(dir.path());
            let stage = watch::Sender::new(Stage::Closed);
            let worker = Worker {
                context: Context {
                    methods: Methods { node: node.clone() },
                    access: Arc::new(Access::new(config.access.clone(), "secret")),
                    metrics: Arc::new(RpcMetrics::default()),
                    load: Load::new(config.max_calls),
                    rest: false,
                },
                config: ServiceConfig::default(),
                stage: stage.subscribe(),
                room: Arc::new(Semaphore::new(2 * EARLY)),
                told: Cell::new(None),
            };
            let mut listeners = Listeners::bind(config).expect("free places");
            let (addr, socket) = (listeners.addresses()[0], listeners.tcp.remove(0));
            sockets::listen(&socket).expect("it is bound");
            let connect = || std::net::TcpStream::connect(addr);
            let early: Vec<_> = (0..EARLY).map(|_| connect()).collect();

            let entrance = node.entrances().register(Registration {
                name: "test",
                place: Place::Tcp(addr),
                backlog: BACKLOG.unsigned_abs(),
                recreate: Box::new(|| Box::pin(async { Ok(()) })),
            });
            let socket = TcpListener::from_std(socket).expect("a reactor is here");
            worker.serve(socket, &entrance).await;

            let late = connect().expect_err("nobody listens any more");
            assert_eq!(late.kind(), io::ErrorKind::ConnectionRefused);
            let served = move || early.into_iter().filter_map(|it| healthy(it).then_some(()));
            let served = tokio::task::spawn_blocking(move || served().count()).await;
            assert_eq!(served.expect("no panic"), EARLY);
            node.shutdown("the test is over");
            node.stopped().await;
        });
    }
}
