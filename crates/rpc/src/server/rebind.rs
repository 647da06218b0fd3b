//! The running server, whose sockets can be bound again.
//!
//! Every socket is registered with the node, whose self-probe connects to it and checks that a
//! worker accepts it. When one has failed twice, all sockets are closed and bound again, by new
//! workers with the same context. Calls in progress get their answers from the old ones.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use handfast_node::{ListenAddress, ListeningSocket, ListeningSockets, Recreate, Registration};
use tokio::sync::{mpsc, oneshot};

use crate::sockets::{self, BACKLOG, Listeners, RpcConfig, RpcError, SocketFile};

use super::Context;
use super::workers::{RegisteredSocket, Socket, Workers};

/// The name of the sockets in `getlistenerinfo`.
const NAME: &str = "rpc";
/// Time to close the old sockets, and again to bind new ones.
const REBIND_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause between two attempts at that.
const REBIND_PAUSE: Duration = Duration::from_millis(50);

/// A request to bind the sockets again, and where its result goes.
type RebindRequest = oneshot::Sender<Result<(), String>>;

/// The workers on their sockets.
struct Current {
    workers: Workers,
    /// Removed when dropped.
    _socket: Option<SocketFile>,
}

/// See the module.
pub(super) struct Running {
    context: Context,
    /// With the ports that the system assigned.
    config: RpcConfig,
    listening_sockets: Arc<[Arc<ListeningSocket>]>,
    current: RefCell<Option<Current>>,
    /// No more workers are started.
    closed: Cell<bool>,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Running({:?})", self.listening_sockets)
    }
}

impl Running {
    /// Registers the sockets and starts to answer on them.
    pub(super) fn start(listeners: Listeners, context: Context) -> Result<Rc<Self>, RpcError> {
        let mut config = listeners.config.clone();
        config.listen = listeners.addresses();
        let (requests, taken) = mpsc::unbounded_channel();
        let running = Rc::new(Self {
            listening_sockets: register(
                context.methods.node.listening_sockets(),
                &config,
                &requests,
            ),
            context,
            config,
            current: RefCell::default(),
            closed: Cell::new(false),
        });
        running.listen(listeners)?;
        actix_rt::spawn(run_rebinds(running.clone(), taken));
        Ok(running)
    }

    /// The running workers; no others replace them from here on.
    pub(super) fn close(&self) -> Option<Workers> {
        self.closed.set(true);
        self.forget_sockets();
        let current = self.current.borrow();
        current.as_ref().map(|current| current.workers.clone())
    }

    /// The copies for reading the accept queues would keep the sockets open.
    fn forget_sockets(&self) {
        for listening in self.listening_sockets.iter() {
            listening.set_socket(None);
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
        let sockets = all.into_iter().zip(self.listening_sockets.iter());
        let sockets = sockets.map(|(socket, listening)| RegisteredSocket {
            socket,
            listening: listening.clone(),
        });
        let sockets: Vec<_> = sockets.collect();
        let workers = Workers::start(&sockets, &self.context).map_err(RpcError::Server)?;
        sockets.into_iter().for_each(RegisteredSocket::show);
        self.current.replace(Some(Current {
            workers,
            _socket: file,
        }));
        Ok(())
    }

    /// Closes all sockets and binds the same addresses and path again.
    async fn rebind(&self) -> Result<(), String> {
        self.forget_sockets();
        let workers = |current: &Current| current.workers.clone();
        let old = self.current.borrow().as_ref().map(workers);
        if let Some(old) = old {
            let _ = tokio::time::timeout(REBIND_TIMEOUT, old.close()).await;
            // They end with the last of their connections: not awaited.
            old.end();
        }
        // Kept until here, so that [`Self::close`] finds them.
        self.current.take();
        let deadline = tokio::time::Instant::now() + REBIND_TIMEOUT;
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
    listening_sockets: &ListeningSockets,
    config: &RpcConfig,
    requests: &mpsc::UnboundedSender<RebindRequest>,
) -> Arc<[Arc<ListeningSocket>]> {
    let tcp = config.listen.iter().copied().map(ListenAddress::Tcp);
    let unix = config.socket.iter().cloned().map(ListenAddress::Unix);
    let register = |address| {
        listening_sockets.register(Registration {
            name: NAME,
            address,
            backlog: BACKLOG.unsigned_abs(),
            recreate: recreate(requests.clone()),
        })
    };
    tcp.chain(unix).map(register).collect()
}

/// The prober waits for the answer before it requests again: at most one request per socket is
/// queued.
fn recreate(requests: mpsc::UnboundedSender<RebindRequest>) -> Recreate {
    Box::new(move || {
        let (order, result) = oneshot::channel();
        let _ = requests.send(order);
        Box::pin(async move {
            let result = result.await;
            result.unwrap_or_else(|_| Err("the RPC server has stopped".into()))
        })
    })
}

/// Sockets that fail together are bound again once.
async fn run_rebinds(running: Rc<Running>, mut requests: mpsc::UnboundedReceiver<RebindRequest>) {
    while let Some(first) = requests.recv().await {
        let mut waiting = vec![first];
        while let Ok(more) = requests.try_recv() {
            waiting.push(more);
        }
        let result = running.rebind().await;
        for order in waiting {
            let _ = order.send(result.clone());
        }
    }
}
