//! The server on its sockets, which can be made anew while it runs.
//!
//! Every socket is registered with the node, whose prober connects to it now and then and
//! looks whether it gets in: as far as a worker, not only out of the accept queue. When
//! one has failed twice, all of them are closed and listened on again, by a new server
//! with the same context. Calls in progress get their answers from the old one.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use handfast_node::{Entrance, Entrances, Place, Recreate, Registration};
use tokio::sync::{mpsc, oneshot};

use crate::sockets::{self, BACKLOG, Listeners, RpcConfig, RpcError, SocketFile};

use super::Context;
use super::workers::{Door, Socket, Workers};

/// What the sockets are for, in `getlistenerinfo`.
const NAME: &str = "rpc";
/// Time for the old sockets to be closed before new ones are given up.
const REBIND_PATIENCE: Duration = Duration::from_secs(10);
/// Pause between two attempts at that.
const REBIND_PAUSE: Duration = Duration::from_millis(50);

/// An order to listen anew, and where to say what came of it.
type Order = oneshot::Sender<Result<(), String>>;

/// One server on its sockets, until the next one.
struct Current {
    workers: Workers,
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

    /// The workers that run now. From here on no others take their place.
    pub(super) fn close(&self) -> Option<Workers> {
        self.closed.set(true);
        self.forget_sockets();
        let current = self.current.borrow();
        current.as_ref().map(|current| current.workers.clone())
    }

    /// Copies that are kept for their queues to be looked at would keep the sockets open.
    fn forget_sockets(&self) {
        for entrance in self.entrances.iter() {
            entrance.set_socket(None);
        }
    }

    /// Removes the Unix socket.
    pub(super) fn remove(&self) {
        self.current.take();
    }

    fn listen(&self, listeners: Listeners) -> Result<(), RpcError> {
        for listener in &listeners.tcp {
            sockets::listen(listener)?;
        }
        let mut all: Vec<Socket> = listeners.tcp.into_iter().map(Socket::Tcp).collect();
        let mut file = None;
        if let Some(path) = &self.config.socket {
            let (made, listener) = SocketFile::listen(path)?;
            all.push(Socket::Unix(listener));
            file = Some(made);
        }
        let doors = all.into_iter().zip(self.entrances.iter());
        let doors = doors.map(|(socket, entrance)| Door {
            socket,
            entrance: entrance.clone(),
        });
        let doors: Vec<_> = doors.collect();
        let workers = Workers::start(&doors, &self.context).map_err(RpcError::Server)?;
        doors.into_iter().for_each(Door::show);
        self.current.replace(Some(Current {
            workers,
            _socket: file,
        }));
        Ok(())
    }

    /// Closes all sockets and listens again, at the same places.
    async fn listen_anew(&self) -> Result<(), String> {
        self.forget_sockets();
        let workers = |current: &Current| current.workers.clone();
        let old = self.current.borrow().as_ref().map(workers);
        if let Some(old) = old {
            let _ = tokio::time::timeout(REBIND_PATIENCE, old.close()).await;
            // They end when the last of their connections has: not awaited.
            old.end();
        }
        // Until here, so that the end of the server finds them.
        self.current.take();
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
