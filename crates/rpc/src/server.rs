//! HTTP around [`crate::jsonrpc`], and what is had by plain `GET`.
//!
//! | path | what | who |
//! |---|---|---|
//! | `/` | calls, by `POST` | callers from allowed addresses who log in |
//! | `/health`, `/ready`, `/metrics` | for those who watch over the node | callers from allowed addresses |
//! | `/rest/…` | blocks and headers, when switched on | callers from allowed addresses |
//!
//! What a caller without a password can hold or burn:
//!
//! | what | bound | of one address | where |
//! |---|---|---|---|
//! | connections, and their descriptors | half of what peers and files leave, and nobody's when others want them | the largest makes room first | [`share`] |
//! | time of a connection on which nothing is asked | 30 s to its first request, 75 s between two, 30 s for an answer of which nothing is read | | [`connection`] |
//! | memory for heads of requests | 8 KB each | | [`connection`] |
//! | memory for bodies | none: no body is read before the login | | [`call`] |
//! | pages of metrics, looks at sync | one at a time, for all who wait | | [`once`] |
//! | blocks and headers by `/rest` | 16 at once, until they are read; after 30 s others may have their turn | the largest makes room first | [`rest`] |
//! | guesses of passwords | 64 addresses told apart, the others together | four a second | [`Guesses`] |
//! | lines in the log | one of a kind in ten minutes | | [`seldom`] |
//!
//! And one with a password:
//!
//! | what | bound | where |
//! |---|---|---|
//! | calls in progress | those of `--rpc-work-queue`; more are told to come again, unless it is `stop` | [`call`] |
//! | calls that wait for a block | a quarter of the connections, apart from the work queue; the oldest yields | [`waits`] |
//! | memory for bodies of requests | 64 KB each; longer ones: 128 MB in all | [`call`] |
//! | values of a call | 200,000 | [`crate::jsonrpc`] |
//! | blocks as JSON being made | 2 at once | [`large`] |
//! | long answers | 16 at once, until they are read; after 5 s without a byte others may have their turn. A batch is sent ahead from 8 MB on | [`execution`], [`content`] |

mod call;
mod connection;
mod content;
mod execution;
mod gate;
mod large;
mod long_calls;
mod once;
mod probes;
mod progress;
mod queue;
mod rest;
mod running;
mod seldom;
mod share;
mod waits;
mod workers;

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use handfast_node::NodeHandle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::auth::{Access, Cookie, Guesses};
use crate::controls::Controls;
use crate::methods::Methods;
use crate::metrics::RpcMetrics;
use crate::sockets::{Listeners, RpcConfig, RpcError};

use large::Large;
use long_calls::LongCalls;
use once::Once;
use running::Running;
use seldom::Seldom;
use share::Share;
use waits::Waits;

/// Time for a whole request to arrive. Core `DEFAULT_HTTP_SERVER_TIMEOUT`.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// An answer is sent in pieces of about this many bytes.
const PIECE: usize = 64 * 1024;
/// Time for calls in progress when the server stops: the node has stopped before that, so that
/// nothing is left to wait for but what is being written. With [`CLOSE_TIMEOUT`] it is half of
/// the two seconds in which a node has stopped, whatever its callers do.
const CALLS_TIMEOUT: Duration = Duration::from_millis(700);
/// Time, after the last call, for answers to go out and idle connections to be closed. Nobody
/// is owed more: a caller that does not read, or has sent half a request.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(300);

/// What every worker has.
#[derive(Clone)]
struct Context {
    methods: Methods,
    access: Arc<Access>,
    guesses: Arc<Guesses>,
    shares: Shares,
    logs: Arc<Logs>,
    metrics: Arc<RpcMetrics>,
    load: Load,
    waits: Arc<Waits>,
    long_calls: Arc<LongCalls>,
    /// Whether `/rest` is served.
    rest: bool,
    /// The page of metrics, and what `/ready` says.
    page: Arc<Once<Bytes>>,
    ready: Arc<Once<Option<String>>>,
}

impl Context {
    fn new(
        config: &RpcConfig,
        cookie: &str,
        node: NodeHandle,
        controls: Controls,
    ) -> io::Result<Self> {
        Ok(Self {
            methods: Methods::new(node, controls),
            access: Arc::new(Access::new(config.access.clone(), cookie)),
            guesses: Arc::default(),
            shares: Shares::new(config),
            logs: Arc::default(),
            metrics: Arc::default(),
            load: Load::new(config.max_calls),
            waits: Arc::new(Waits::new(most_waits(config))),
            long_calls: Arc::new(LongCalls::start()?),
            rest: config.rest,
            page: Arc::default(),
            ready: Arc::default(),
        })
    }
}

/// Who may have how many connections, of all workers together.
#[derive(Clone, Debug)]
struct Shares {
    tcp: Arc<Share>,
    unix: Arc<Share>,
    /// Of those over TCP who have not logged in, the ones whose answer by `/rest` is made or
    /// being sent.
    rest: Arc<Share>,
    /// Of those who have logged in, the ones whose long answer is made or being sent.
    answers: Arc<Share>,
}

/// An idle caller who has logged in may be asked to leave after so long.
const IDLE: Duration = Duration::from_secs(1);
/// Answers by `/rest` to callers who have not logged in, at most; each may be a block.
const REST_ANSWERS: usize = 16;
/// Time for such an answer to be made and read, when others wait for theirs.
const REST_PATIENCE: Duration = Duration::from_secs(30);
/// Long answers to callers who have logged in, at most.
const ANSWERS: usize = 16;
/// Time in which something of such an answer is read, when others wait for theirs.
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);
/// Connections that may have been accepted, and are refused or not yet let in.
const BEFORE_ADMISSION: usize = 8;

impl Shares {
    /// Halves, unless there is one kind of callers only.
    fn new(config: &RpcConfig) -> Self {
        let most = config.max_connections.saturating_sub(BEFORE_ADMISSION);
        let (tcp, unix) = match (config.listen.is_empty(), &config.socket) {
            (false, Some(_)) => (most - most / 2, most / 2),
            (_, None) => (most, 0),
            (true, Some(_)) => (0, most),
        };
        Self {
            tcp: Share::new(tcp, IDLE),
            unix: Share::new(unix, IDLE),
            rest: Share::new(REST_ANSWERS, REST_PATIENCE),
            answers: Share::new(ANSWERS, ANSWER_PATIENCE),
        }
    }

    fn evicted(&self) -> u64 {
        let all = [&self.tcp, &self.unix, &self.rest, &self.answers];
        all.iter().map(|share| share.evicted()).sum()
    }
}

/// Calls that wait, at most: no more than the work queue has places, and than leave half of
/// the connections of either kind to others.
fn most_waits(config: &RpcConfig) -> usize {
    config.max_calls.min(config.max_connections / 4)
}

/// Lines that callers could fill the log with.
#[derive(Debug, Default)]
struct Logs {
    address: Seldom,
    host: Seldom,
    login: Seldom,
    guesses: Seldom,
}

/// Memory for bodies of long requests, bytes: of four as long as they may be, or of dozens
/// with a block each.
const MEMORY: usize = 128 * 1024 * 1024;
/// The unit in which it is given out, bytes.
const MEMORY_UNIT: usize = 1024;

/// What is carried out, by all workers together.
#[derive(Clone, Debug)]
struct Load {
    /// The work queue: a permit for each call that has been read and has no answer yet,
    /// unless it waits for a block.
    calls: Arc<Semaphore>,
    /// Results that are made of whole blocks.
    large: Arc<Large>,
    /// A permit for each [`MEMORY_UNIT`].
    memory: Arc<Semaphore>,
    /// Calls that have no answer yet. The end of the server waits for them.
    in_progress: InProgress,
    /// Open connections.
    connections: Counter,
}

impl Load {
    fn new(most_calls: usize) -> Self {
        let most_calls = most_calls.min(Semaphore::MAX_PERMITS);
        Self {
            calls: Arc::new(Semaphore::new(most_calls)),
            large: Arc::default(),
            memory: Arc::new(Semaphore::new(MEMORY / MEMORY_UNIT)),
            in_progress: InProgress::default(),
            connections: Counter::default(),
        }
    }

    /// One more call, until dropped; `None` when there are as many as may be.
    fn call(&self) -> Option<OwnedSemaphorePermit> {
        self.calls.clone().try_acquire_owned().ok()
    }

    /// Whether there are as many calls as may be.
    fn is_full(&self) -> bool {
        self.calls.available_permits() == 0
    }

    /// Memory for a body of so many bytes, when it is there.
    async fn memory(&self, length: usize) -> Option<OwnedSemaphorePermit> {
        let units = length.min(MEMORY).div_ceil(MEMORY_UNIT);
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        // Fails only if somebody closed it, which nobody does.
        self.memory.clone().acquire_many_owned(units).await.ok()
    }
}

/// How many calls are carried out. Counted with each, so that it has to cost nothing, and
/// waited for once.
#[derive(Clone, Debug, Default)]
struct InProgress(Arc<AtomicUsize>);

/// One of them.
struct OneCall<'a>(&'a AtomicUsize);

/// How often it is looked whether there is none.
const LOOK: Duration = Duration::from_millis(5);

impl InProgress {
    fn one_more(&self) -> OneCall<'_> {
        self.0.fetch_add(1, Ordering::AcqRel);
        OneCall(&self.0)
    }

    /// Waits until there is none.
    async fn none(&self) {
        while self.0.load(Ordering::Acquire) > 0 {
            tokio::time::sleep(LOOK).await;
        }
    }
}

impl Drop for OneCall<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// How many there are of something, to be waited for.
#[derive(Clone, Debug, Default)]
struct Counter(watch::Sender<usize>);

impl Counter {
    /// One more, until dropped.
    fn one_more(&self) -> Counted {
        self.0.send_modify(|count| *count += 1);
        Counted(self.0.clone())
    }

    fn now(&self) -> usize {
        *self.0.borrow()
    }

    /// Waits until there is none.
    async fn none(&self) {
        // Fails only when the sender is gone, which is here.
        let _ = self.0.subscribe().wait_for(|count| *count == 0).await;
    }
}

/// One of them.
#[derive(Debug)]
struct Counted(watch::Sender<usize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

/// A running RPC server, until [`Server::stop`]. Dropping it removes socket and cookie.
#[derive(Debug)]
pub struct Server {
    running: Rc<Running>,
    load: Load,
    addresses: Vec<SocketAddr>,
    _cookie: Cookie,
}

impl Server {
    /// Writes the cookie, makes the Unix socket and answers calls from now on.
    /// Must be called on an actix system.
    ///
    /// # Errors
    /// See [`RpcError`].
    pub fn start(
        listeners: Listeners,
        node: NodeHandle,
        controls: Controls,
    ) -> Result<Self, RpcError> {
        let addresses = listeners.addresses();
        let Listeners { tcp, config } = listeners;
        let cookie = Cookie::write(&config.cookie).map_err(|source| RpcError::Cookie {
            path: config.cookie.clone(),
            source,
        })?;
        let context = Context::new(&config, cookie.secret(), node, controls);
        let context = context.map_err(RpcError::Server)?;
        let load = context.load.clone();
        let socket = config.socket.clone();
        let listeners = Listeners { tcp, config };
        let running = Running::start(listeners, context)?;
        let socket = socket
            .as_ref()
            .map(|path| tracing::field::display(path.display()));
        tracing::info!(?addresses, socket, "RPC server started");
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

    /// Takes no more connections, lets calls in progress finish (1 s at most) and their
    /// answers go out (0.5 s), then removes socket and cookie. No answer is cut whose
    /// caller reads it.
    ///
    /// # Ordering
    /// To be called when the node has stopped: from its phase on every answer closes
    /// its connection. The process should end next.
    pub async fn stop(self) {
        let Some(workers) = self.running.close() else {
            return;
        };
        let calls = async {
            workers.close().await;
            self.load.in_progress.none().await;
        };
        let calls = tokio::time::timeout(CALLS_TIMEOUT, calls).await.is_ok();
        workers.end();
        let closed = self.load.connections.none();
        let closed = tokio::time::timeout(CLOSE_TIMEOUT, closed).await.is_ok();
        if !(calls && closed) {
            let connections = self.load.connections.now();
            tracing::debug!(
                connections,
                calls_ended = calls,
                "RPC connections cut off at the end"
            );
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

#[cfg(test)]
mod tests;
