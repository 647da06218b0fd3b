//! The server on its sockets, which can be made anew while it runs.
//!
//! Every socket is registered with the node, whose prober connects to it now and then and
//! looks whether it gets in: as far as a worker, not only out of the accept queue. When
//! one has failed twice, all of them are closed and listened on again, by a new server
//! with the same context. Calls in progress get their answers from the old one.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_rt::net::{TcpStream, UnixStream};
use actix_web::dev::ServerHandle;
use actix_web::http::StatusCode;
use actix_web::{App, HttpServer, web};
use handfast_node::{Entrance, Entrances, Place, Recreate, Registration};
use tokio::sync::{mpsc, oneshot};

use crate::sockets::{self, BACKLOG, Listeners, RpcConfig, RpcError, SocketFile};

use super::{Context, READ_TIMEOUT, attention, call, gate, plain, probes, rest};

/// What the sockets are for, in `getlistenerinfo`.
const NAME: &str = "rpc";
/// Threads that read requests and run methods. Calls are short, blocking reads
/// have their own pool: two keep one caller from holding up another.
const WORKERS: usize = 2;
/// Blocking reads at once, all workers together: each may hold a few blocks in memory.
const BLOCKING_THREADS: usize = 8;
/// Time that an idle connection is kept open.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// Time for the old sockets to be closed before new ones are given up.
const REBIND_PATIENCE: Duration = Duration::from_secs(10);
/// Pause between two attempts at that.
const REBIND_PAUSE: Duration = Duration::from_millis(50);

/// An order to listen anew, and where to say what came of it.
type Order = oneshot::Sender<Result<(), String>>;

/// One server on its sockets, until the next one.
struct Current {
    handle: ServerHandle,
    /// Removed when dropped.
    _socket: Option<SocketFile>,
}

/// See the module.
pub(super) struct Running {
    context: Context,
    /// With the ports that were really given.
    config: RpcConfig,
    entrances: Arc<[Arc<Entrance>]>,
    current: RefCell<Option<Current>>,
    /// No new server from now on.
    closed: Cell<bool>,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Running({:?})", self.entrances)
    }
}

impl Running {
    /// Registers the sockets and starts to answer on them.
    pub(super) fn start(listeners: Listeners, context: Context) -> Result<Rc<Self>, RpcError> {
        let mut config = listeners.config.clone();
        config.listen = listeners.addresses();
        let (orders, taken) = mpsc::unbounded_channel();
        let running = Rc::new(Self {
            entrances: register(context.methods.node.entrances(), &config, &orders),
            context,
            config,
            current: RefCell::default(),
            closed: Cell::new(false),
        });
        running.listen(listeners)?;
        actix_rt::spawn(obey(running.clone(), taken));
        Ok(running)
    }

    /// The handle of the server that runs now. From here on no other takes its place.
    pub(super) fn close(&self) -> Option<ServerHandle> {
        self.closed.set(true);
        let current = self.current.borrow();
        current.as_ref().map(|current| current.handle.clone())
    }

    /// Removes the Unix socket.
    pub(super) fn remove(&self) {
        self.current.take();
    }

    fn listen(&self, listeners: Listeners) -> Result<(), RpcError> {
        let (context, entrances) = (self.context.clone(), self.entrances.clone());
        let load = context.load.clone();
        let app = move || {
            App::new()
                .app_data(web::Data::new(context.clone()))
                .route("/", web::to(call::handle))
                .route("/health", web::to(probes::health))
                .route("/ready", web::to(probes::ready))
                .route("/metrics", web::to(probes::metrics))
                .route("/rest/{path:.*}", web::to(rest::handle))
                .default_service(web::to(async || plain(StatusCode::NOT_FOUND, "")))
        };
        let mut server = HttpServer::new(app)
            .workers(WORKERS)
            .worker_max_blocking_threads(BLOCKING_THREADS / WORKERS)
            .keep_alive(KEEP_ALIVE)
            .client_request_timeout(READ_TIMEOUT)
            .disable_signals()
            .on_connect(move |connection, data| {
                arrived(&entrances, connection);
                gate::remember_caller(connection, data);
                data.insert(load.connection());
                data.insert(attention::Present::new());
            });
        let mut entrances = self.entrances.iter();
        for listener in listeners.tcp {
            sockets::listen(&listener)?;
            if let (Some(entrance), Ok(copy)) = (entrances.next(), listener.try_clone()) {
                entrance.listens_with(Some(Arc::new(copy)));
            }
            server = server.listen(listener).map_err(RpcError::Server)?;
        }
        let mut socket = None;
        if let Some(path) = &self.config.socket {
            let (file, listener) = SocketFile::listen(path)?;
            if let (Some(entrance), Ok(copy)) = (entrances.next(), listener.try_clone()) {
                entrance.listens_with(Some(Arc::new(copy)));
            }
            server = server.listen_uds(listener).map_err(RpcError::Server)?;
            socket = Some(file);
        }
        let server = server.run();
        let handle = server.handle();
        actix_rt::spawn(server);
        let _socket = socket;
        self.current.replace(Some(Current { handle, _socket }));
        Ok(())
    }

    /// Closes all sockets and listens again, at the same places.
    async fn listen_anew(&self) -> Result<(), String> {
        for entrance in self.entrances.iter() {
            // Our copies would keep the old sockets open.
            entrance.listens_with(None);
        }
        if let Some(old) = self.current.take() {
            // Ends when the last of its connections has: not awaited.
            actix_rt::spawn(old.handle.stop(true));
        }
        let deadline = tokio::time::Instant::now() + REBIND_PATIENCE;
        loop {
            if self.closed.get() {
                return Err("the RPC server has stopped".into());
            }
            let result = Listeners::bind(self.config.clone());
            match result.and_then(|listeners| self.listen(listeners)) {
                Ok(()) => return Ok(()),
                Err(error) if tokio::time::Instant::now() >= deadline => {
                    return Err(error.to_string());
                }
                Err(_) => tokio::time::sleep(REBIND_PAUSE).await,
            }
        }
    }
}

/// Registers every socket, TCP first, in the order of `config`.
fn register(
    entrances: &Entrances,
    config: &RpcConfig,
    orders: &mpsc::UnboundedSender<Order>,
) -> Arc<[Arc<Entrance>]> {
    let tcp = config.listen.iter().copied().map(Place::Tcp);
    let unix = config.socket.iter().cloned().map(Place::Unix);
    let register = |place| {
        entrances.register(Registration {
            name: NAME,
            place,
            backlog: BACKLOG.unsigned_abs(),
            recreate: recreate(orders.clone()),
        })
    };
    tcp.chain(unix).map(register).collect()
}

/// The prober waits for the answer before it gives the next order: at most one per socket
/// is queued.
fn recreate(orders: mpsc::UnboundedSender<Order>) -> Recreate {
    Box::new(move || {
        let (order, result) = oneshot::channel();
        let _ = orders.send(order);
        Box::pin(async move {
            let result = result.await;
            result.unwrap_or_else(|_| Err("the RPC server has stopped".into()))
        })
    })
}

/// Sockets that fail together are made anew once.
async fn obey(running: Rc<Running>, mut orders: mpsc::UnboundedReceiver<Order>) {
    while let Some(first) = orders.recv().await {
        let mut waiting = vec![first];
        while let Ok(more) = orders.try_recv() {
            waiting.push(more);
        }
        let result = running.listen_anew().await;
        for order in waiting {
            let _ = order.send(result.clone());
        }
    }
}

/// Tells the socket that somebody got in by it. A self-probe closes its connection itself.
fn arrived(entrances: &[Arc<Entrance>], connection: &dyn Any) {
    let (local, remote) = if connection.is::<UnixStream>() {
        (None, None)
    } else if let Some(stream) = connection.downcast_ref::<TcpStream>()
        && let (Ok(local), Ok(remote)) = (stream.local_addr(), stream.peer_addr())
    {
        (Some(local), Some(remote))
    } else {
        return;
    };
    let entrance = entrances
        .iter()
        .find(|entrance| leads_here(entrance.place(), local));
    if let Some(entrance) = entrance {
        entrance.arrived(remote);
    }
}

fn leads_here(place: &Place, local: Option<SocketAddr>) -> bool {
    match (place, local) {
        (Place::Unix(_), None) => true,
        (Place::Tcp(listens), Some(local)) => {
            let same_ip = listens.ip().is_unspecified() || listens.ip() == local.ip();
            same_ip && listens.port() == local.port() && listens.is_ipv4() == local.is_ipv4()
        }
        (Place::Unix(_), Some(_)) | (Place::Tcp(_), None) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_connection_belongs_to_the_socket_that_it_came_by() {
        let any = Place::Tcp(tcp("0.0.0.0:80"));
        let one = Place::Tcp(tcp("127.0.0.1:81"));
        let unix = Place::Unix("/run/node.sock".into());
        for (place, local, belongs) in [
            (&any, Some("10.0.0.1:80"), true),
            (&any, Some("10.0.0.1:81"), false),
            (&any, Some("[::1]:80"), false),
            (&any, None, false),
            (&one, Some("127.0.0.1:81"), true),
            (&one, Some("127.0.0.2:81"), false),
            (&unix, None, true),
            (&unix, Some("127.0.0.1:81"), false),
        ] {
            assert_eq!(
                leads_here(place, local.map(tcp)),
                belongs,
                "{place} {local:?}"
            );
        }
    }
}
