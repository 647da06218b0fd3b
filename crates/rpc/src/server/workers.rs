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

use actix_http::body::BoxBody;
use actix_http::{Request, Response, ServiceConfig};
use actix_rt::Arbiter;
use actix_service::{IntoServiceFactory, Service, ServiceFactory};
use actix_web::dev::AppConfig;
use actix_web::{App, web};
use handfast_node::Entrance;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, watch};

use crate::sockets::BACKLOG;

use super::connection::Serving;
use super::gate::Caller;
use super::queue::{Listening, Queue, Turn};
use super::{Context, Counter, attention, call, plain, probes, rest};

/// In the order in which they take callers in.
const WORKERS: [Turn; 2] = [Turn::First, Turn::WhenOverdue];
/// Blocking reads at once, of a worker: each may hold a few blocks in memory.
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
    /// Keeps the clock of answers.
    config: ServiceConfig,
    stage: watch::Receiver<Stage>,
    /// A permit for each connection that there may be.
    room: Arc<Semaphore>,
    /// When the log was told that accepting pauses.
    told: Cell<Option<Instant>>,
}

impl Worker {
    fn new(turn: Turn, context: Context, stage: watch::Receiver<Stage>) -> Self {
        Self {
            turn,
            context,
            config: ServiceConfig::default(),
            stage,
            room: Arc::new(Semaphore::new(MAX_CONNECTIONS as usize)),
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
        let serving = Rc::new(self.serving(L::CALLER).await);
        let closing = reached(self.stage.clone(), Stage::Closed);
        tokio::pin!(closing);
        loop {
            let accepted = tokio::select! {
                () = &mut closing => break,
                accepted = self.accept(&queue) => accepted,
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
        for (stream, addr) in queue.last().take(QUEUED) {
            let Ok(room) = self.room.clone().try_acquire_owned() else {
                return;
            };
            let caller = Accepted { stream, addr, room };
            self.welcome(caller, entrance, &serving);
        }
    }

    /// The next caller in the queue, when there is room.
    async fn accept<L: Listening>(&self, queue: &Queue<L>) -> io::Result<Accepted<L::Stream>> {
        let room = self.room.clone().acquire_owned().await;
        let room = room.expect("nobody closes it");
        let (stream, addr) = queue.next().await?;
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

#[cfg(test)]
mod tests {
    use handfast_node::{Place, Registration};

    use super::*;
    use crate::server::tests::{Scene, config, healthy, scene, until};
    use crate::sockets::{self, Listeners};

    const CALLERS: usize = 100;

    /// A node, and a listening socket that is not served.
    struct Street {
        scene: Scene,
        context: web::Data<Context>,
        addr: SocketAddr,
        socket: std::net::TcpListener,
        entrance: Arc<Entrance>,
    }

    impl Street {
        async fn lay() -> Self {
            let scene = scene().await;
            let context = scene.context();
            let mut listeners = Listeners::bind(config(scene.dir())).expect("free places");
            let (addr, socket) = (listeners.addresses()[0], listeners.tcp.remove(0));
            sockets::listen(&socket).expect("it is bound");
            let entrances = context.methods.node.entrances();
            let entrance = entrances.register(Registration {
                name: "test",
                place: Place::Tcp(addr),
                backlog: BACKLOG.unsigned_abs(),
                recreate: Box::new(|| Box::pin(async { Ok(()) })),
            });
            Self {
                scene,
                context,
                addr,
                socket,
                entrance,
            }
        }

        fn worker(&self, turn: Turn, stage: &watch::Sender<Stage>) -> Rc<Worker> {
            let context = Context::clone(&self.context);
            Rc::new(Worker::new(turn, context, stage.subscribe()))
        }

        fn queue(&self, turn: Turn) -> Queue<std::net::TcpListener> {
            let socket = self.socket.try_clone().expect("a descriptor is left");
            Queue::new(socket, turn).expect("a reactor is here")
        }

        /// As `worker` does on its own thread.
        fn serve(&self, worker: &Rc<Worker>) -> tokio::task::JoinHandle<()> {
            let (queue, worker) = (self.queue(worker.turn), worker.clone());
            let entrance = self.entrance.clone();
            actix_rt::spawn(async move { worker.serve(queue, &entrance).await })
        }

        fn connect(&self) -> io::Result<std::net::TcpStream> {
            std::net::TcpStream::connect(self.addr)
        }
    }

    /// How many of these connections get an answer, and close.
    async fn served(callers: Vec<io::Result<std::net::TcpStream>>) -> usize {
        let served = move || {
            callers
                .into_iter()
                .filter_map(|it| healthy(it).then_some(()))
        };
        let served = tokio::task::spawn_blocking(move || served().count()).await;
        served.expect("no panic")
    }

    #[actix_rt::test]
    async fn who_is_in_the_queue_when_the_sockets_are_closed_is_served() {
        for turn in WORKERS {
            let mut street = Street::lay().await;
            let early: Vec<_> = (0..CALLERS).map(|_| street.connect()).collect();
            let stage = watch::Sender::new(Stage::Closed);
            let worker = street.worker(turn, &stage);
            let queue = street.queue(turn);
            street.socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
            worker.serve(queue, &street.entrance).await;

            let late = street.connect().expect_err("nobody listens any more");
            assert_eq!(late.kind(), io::ErrorKind::ConnectionRefused);
            assert_eq!(served(early).await, CALLERS);
            street.scene.end().await;
        }
    }

    #[actix_rt::test]
    async fn the_first_worker_has_all_callers_as_long_as_it_keeps_up() {
        let street = Street::lay().await;
        let stage = watch::Sender::new(Stage::Open);
        let workers = WORKERS.map(|turn| street.worker(turn, &stage));
        let [first, second] = workers.each_ref().map(|worker| street.serve(worker));
        let mut callers = Vec::new();
        for _ in 0..CALLERS {
            let caller = tokio::net::TcpStream::connect(street.addr).await;
            callers.push(caller.expect("there is room in the queue"));
        }
        let load = &street.context.load;
        until("all are in", || load.connections.now() == CALLERS).await;
        // Both hold a permit for the one who comes next.
        let inside =
            workers.map(|worker| MAX_CONNECTIONS as usize - worker.room.available_permits() - 1);
        assert_eq!(inside, [CALLERS, 0]);
        drop(callers);
        stage.send_replace(Stage::Closed);
        for worker in [first, second] {
            worker.await.expect("no panic");
        }
        street.scene.end().await;
    }

    #[actix_rt::test]
    async fn the_second_worker_takes_in_whom_the_first_leaves_in_the_queue() {
        let street = Street::lay().await;
        let stage = watch::Sender::new(Stage::Open);
        // There is no first one, as if a call held it up for good.
        let second = street.serve(&street.worker(Turn::WhenOverdue, &stage));
        for _ in 0..2 {
            let callers = (0..CALLERS).map(|_| street.connect()).collect();
            assert_eq!(served(callers).await, CALLERS);
        }
        stage.send_replace(Stage::Closed);
        second.await.expect("no panic");
        street.scene.end().await;
    }
}
