//! HTTP around [`crate::jsonrpc`], and what is had by plain `GET`.
//!
//! | path | what | who |
//! |---|---|---|
//! | `/` | calls, by `POST` | callers from allowed addresses who log in |
//! | `/health`, `/ready`, `/metrics` | for those who watch over the node | callers from allowed addresses |
//! | `/rest/…` | blocks and headers, when switched on | callers from allowed addresses |

mod call;
mod gate;
mod probes;
mod rest;
mod running;

pub(crate) use probes::lag;

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use handfast_node::NodeHandle;
use tokio::sync::watch;

use crate::auth::{Access, Cookie};
use crate::methods::Methods;
use crate::metrics::RpcMetrics;
use crate::sockets::{Listeners, RpcConfig, RpcError};

use running::Running;

/// Time for a whole request to arrive. Core `DEFAULT_HTTP_SERVER_TIMEOUT`.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Time for calls in progress when the server stops.
const CALLS_TIMEOUT: Duration = Duration::from_secs(5);
/// Time, after the last call, for answers to go out and idle connections to be closed. Nobody
/// is owed more: a caller that does not read, or has sent half a request.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// What every worker has.
#[derive(Clone)]
struct Context {
    methods: Methods,
    access: Arc<Access>,
    metrics: Arc<RpcMetrics>,
    load: watch::Sender<Load>,
    /// Calls in progress at most.
    max_calls: usize,
    /// Whether `/rest` is served.
    rest: bool,
}

/// What the end of the server waits for.
#[derive(Clone, Copy, Debug, Default)]
struct Load {
    /// Open connections.
    connections: usize,
    /// Calls that have been read and have no answer yet.
    calls: usize,
}

/// Counts one connection or call until it is dropped.
struct Counted {
    load: watch::Sender<Load>,
    which: fn(&mut Load) -> &mut usize,
}

impl Counted {
    fn new(load: &watch::Sender<Load>, which: fn(&mut Load) -> &mut usize) -> Self {
        load.send_modify(|load| *which(load) += 1);
        Self {
            load: load.clone(),
            which,
        }
    }

    /// One more call, unless there are `most` already.
    fn call(load: &watch::Sender<Load>, most: usize) -> Option<Self> {
        let room = load.send_if_modified(|load| {
            let room = load.calls < most;
            load.calls += usize::from(room);
            room
        });
        room.then(|| Self {
            load: load.clone(),
            which: |load| &mut load.calls,
        })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.load.send_modify(|load| *(self.which)(load) -= 1);
    }
}

/// A running RPC server, until [`Server::stop`]. Dropping it removes socket and cookie.
#[derive(Debug)]
pub struct Server {
    running: Rc<Running>,
    load: watch::Sender<Load>,
    addresses: Vec<SocketAddr>,
    _cookie: Cookie,
}

impl Server {
    /// Binds and starts in one go; see [`Listeners::bind`] and [`Server::start_on`].
    ///
    /// # Errors
    /// See [`RpcError`].
    pub fn start(node: NodeHandle, config: RpcConfig) -> Result<Self, RpcError> {
        Self::start_on(Listeners::bind(config)?, node)
    }

    /// Writes the cookie, makes the Unix socket and answers calls from now on.
    /// Must be called on an actix system.
    ///
    /// # Errors
    /// See [`RpcError`].
    pub fn start_on(listeners: Listeners, node: NodeHandle) -> Result<Self, RpcError> {
        let addresses = listeners.addresses();
        let Listeners { tcp, config } = listeners;
        let cookie = Cookie::write(&config.cookie).map_err(|source| RpcError::Cookie {
            path: config.cookie.clone(),
            source,
        })?;
        let load = watch::Sender::new(Load::default());
        let context = Context {
            methods: Methods { node },
            access: Arc::new(Access::new(config.access.clone(), cookie.secret())),
            metrics: Arc::new(RpcMetrics::default()),
            load: load.clone(),
            max_calls: config.max_calls,
            rest: config.rest,
        };
        let socket = config.socket.clone();
        let listeners = Listeners { tcp, config };
        let running = Running::start(listeners, context)?;
        tracing::info!(?addresses, ?socket, "RPC server started");
        Ok(Self {
            running,
            load,
            addresses,
            _cookie: cookie,
        })
    }

    /// The TCP addresses that it listens on.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Takes no more connections, lets calls in progress finish (5 s at most) and their
    /// answers go out (1 s), then removes socket and cookie. No answer is cut whose
    /// caller reads it.
    ///
    /// # Ordering
    /// To be called when the node has stopped: from its phase on every answer closes
    /// its connection. The process should end next.
    pub async fn stop(self) {
        let Some(handle) = self.running.close() else {
            return;
        };
        handle.pause().await;
        let mut load = self.load.subscribe();
        let calls = load.wait_for(|load| load.calls == 0);
        let calls = tokio::time::timeout(CALLS_TIMEOUT, calls).await.is_ok();
        // Closes idle connections, others after their answer. Its own end is not awaited:
        // it looks once a second whether it has come, and would wait for half requests.
        let stopping = handle.stop(true);
        let closed = load.wait_for(|load| load.connections == 0);
        let closed = tokio::time::timeout(CLOSE_TIMEOUT, closed).await.is_ok();
        drop(stopping);
        if !(calls && closed) {
            let Load { connections, calls } = *self.load.borrow();
            tracing::debug!(connections, calls, "RPC connections cut off at the end");
        }
        self.running.remove();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The task that makes sockets anew holds it too.
        self.running.close();
        self.running.remove();
    }
}

fn plain(status: StatusCode, text: impl Into<String>) -> HttpResponse {
    HttpResponse::build(status)
        .content_type("text/plain; charset=utf-8")
        .body(text.into())
}

#[cfg(test)]
mod tests;
