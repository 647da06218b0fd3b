//! HTTP around [`crate::jsonrpc`], and the pages served by plain `GET`.
//!
//! | path | what | who |
//! |---|---|---|
//! | `/` | calls, by `POST` | authenticated clients from allowed addresses |
//! | `/health`, `/ready`, `/metrics` | for monitoring | clients from allowed addresses |
//! | `/rest/…` | blocks and headers, when switched on | clients from allowed addresses |
//!
//! What an unauthenticated client can hold or consume:
//!
//! | what | bound | of one address | where |
//! |---|---|---|---|
//! | connections, and their descriptors | half of what peers and files leave; closed when other clients need them | the address with most is evicted first | [`quota`] |
//! | time of an idle connection | 30 s to its first request, 75 s between two, 30 s for an answer of which nothing is read | | [`connection`] |
//! | memory for heads of requests | 8 KB each | | [`connection`] |
//! | memory for bodies | none: no body is read before the login | | [`call`] |
//! | pages of metrics, readiness checks | one at a time, shared by all who wait | | [`coalesced`] |
//! | blocks and headers by `/rest` | 16 at once, until they are read; after 30 s evicted for others | the address with most is evicted first | [`rest`] |
//! | password guesses | 64 addresses counted apart, the others together | four a second | [`Guesses`] |
//! | log lines | one of a kind in ten minutes | | [`log_limit`] |
//!
//! And an authenticated one:
//!
//! | what | bound | where |
//! |---|---|---|
//! | calls in progress | those of `--rpc-work-queue`; more get `503`, unless it is `stop` | [`call`] |
//! | calls that wait for a block | a quarter of the connections, apart from the work queue; the oldest yields | [`waiting_calls`] |
//! | memory for bodies of requests | 64 KB each; longer ones: 128 MB in all | [`call`] |
//! | values of a call | 200,000 | [`crate::jsonrpc`] |
//! | results made of whole blocks | 2 at once | [`large_results`] |
//! | long answers | 16 at once, until they are read; after 5 s without a byte evicted for others. A batch is sent ahead from 8 MB on | [`execution`], [`content`] |

mod authorize;
mod call;
mod coalesced;
mod connection;
mod content;
mod execution;
mod large_results;
mod log_limit;
mod long_calls;
mod probes;
mod progress;
mod queue;
mod quota;
mod rebind;
mod rest;
mod waiting_calls;
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

use coalesced::Coalesced;
use large_results::LargeResults;
use log_limit::LogLimit;
use long_calls::LongCalls;
use quota::Quota;
use rebind::Running;
use waiting_calls::WaitingCalls;

/// Time to receive a whole request. Core `DEFAULT_HTTP_SERVER_TIMEOUT`.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// An answer is sent in pieces of about this many bytes.
const PIECE: usize = 64 * 1024;
/// Time for calls in progress when the server stops. The node has stopped before that, so only
/// answers that are being written remain. With [`CLOSE_TIMEOUT`] it is half of the two seconds in
/// which a node stops, whatever its clients do.
const CALLS_TIMEOUT: Duration = Duration::from_millis(700);
/// Time, after the last call, to send answers and close idle connections. Clients that do not
/// read, or have sent half a request, are cut off then.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(300);

/// State shared by all workers.
#[derive(Clone)]
struct Context {
    methods: Methods,
    access: Arc<Access>,
    guesses: Arc<Guesses>,
    quotas: Quotas,
    logs: Arc<Logs>,
    metrics: Arc<RpcMetrics>,
    load: Load,
    waiting_calls: Arc<WaitingCalls>,
    long_calls: Arc<LongCalls>,
    /// Whether `/rest` is served.
    rest: bool,
    /// The page of metrics, and the answer of `/ready`.
    page: Arc<Coalesced<Bytes>>,
    ready: Arc<Coalesced<Option<String>>>,
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
            quotas: Quotas::new(config),
            logs: Arc::default(),
            metrics: Arc::default(),
            load: Load::new(config.max_calls),
            waiting_calls: Arc::new(WaitingCalls::new(max_waiting(config))),
            long_calls: Arc::new(LongCalls::start()?),
            rest: config.rest,
            page: Arc::default(),
            ready: Arc::default(),
        })
    }
}

/// Quotas of connections and of long answers, shared by all workers.
#[derive(Clone, Debug)]
struct Quotas {
    tcp: Arc<Quota>,
    unix: Arc<Quota>,
    /// Unauthenticated TCP clients whose `/rest` answer is being made or sent.
    rest: Arc<Quota>,
    /// Authenticated clients whose long answer is being made or sent.
    answers: Arc<Quota>,
}

/// An authenticated client that is idle for so long may be evicted.
const IDLE: Duration = Duration::from_secs(1);
/// Most `/rest` answers to unauthenticated clients; each may be a block.
const REST_ANSWERS: usize = 16;
/// Time for such an answer to be made and read, when others wait for a slot.
const REST_TIMEOUT: Duration = Duration::from_secs(30);
/// Most long answers to authenticated clients.
const ANSWERS: usize = 16;
/// Time without a byte read of such an answer, when others wait for a slot.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Most connections that are accepted and have no slot yet, or are being refused.
const UNADMITTED: usize = 8;

impl Quotas {
    /// Half the connections each, or all of them if only one kind of socket listens.
    fn new(config: &RpcConfig) -> Self {
        let most = config.max_connections.saturating_sub(UNADMITTED);
        let (tcp, unix) = match (config.listen.is_empty(), &config.socket) {
            (false, Some(_)) => (most - most / 2, most / 2),
            (_, None) => (most, 0),
            (true, Some(_)) => (0, most),
        };
        Self {
            tcp: Quota::new(tcp, IDLE),
            unix: Quota::new(unix, IDLE),
            rest: Quota::new(REST_ANSWERS, REST_TIMEOUT),
            answers: Quota::new(ANSWERS, ANSWER_TIMEOUT),
        }
    }

    fn evicted(&self) -> u64 {
        let all = [&self.tcp, &self.unix, &self.rest, &self.answers];
        all.iter().map(|quota| quota.evicted()).sum()
    }
}

/// Most waiting calls: no more than the work queue has permits, nor than leave half of the
/// connections of either kind to others.
fn max_waiting(config: &RpcConfig) -> usize {
    config.max_calls.min(config.max_connections / 4)
}

/// Rate limits of the log lines that clients can provoke.
#[derive(Debug, Default)]
struct Logs {
    address: LogLimit,
    host: LogLimit,
    login: LogLimit,
    guesses: LogLimit,
}

/// Memory for bodies of long requests, bytes: four of the maximum length, or dozens with a block
/// each.
const MEMORY: usize = 128 * 1024 * 1024;
/// The unit of its permits, bytes.
const MEMORY_UNIT: usize = 1024;

/// Limits on the work of all workers together.
#[derive(Clone, Debug)]
struct Load {
    /// The work queue: a permit for each call that was read and has no answer yet, unless it
    /// waits for a block.
    calls: Arc<Semaphore>,
    /// Limit on results made of whole blocks.
    large_results: Arc<LargeResults>,
    /// A permit for each [`MEMORY_UNIT`].
    memory: Arc<Semaphore>,
    /// Calls that have no answer yet. [`Server::stop`] waits for them.
    in_progress: InProgress,
    /// Open connections.
    connections: Counter,
}

impl Load {
    fn new(most_calls: usize) -> Self {
        let most_calls = most_calls.min(Semaphore::MAX_PERMITS);
        Self {
            calls: Arc::new(Semaphore::new(most_calls)),
            large_results: Arc::default(),
            memory: Arc::new(Semaphore::new(MEMORY / MEMORY_UNIT)),
            in_progress: InProgress::default(),
            connections: Counter::default(),
        }
    }

    /// A permit of the work queue; `None` when it is full.
    fn call(&self) -> Option<OwnedSemaphorePermit> {
        self.calls.clone().try_acquire_owned().ok()
    }

    /// Whether the work queue is full.
    fn is_full(&self) -> bool {
        self.calls.available_permits() == 0
    }

    /// Waits for memory for a body of `length` bytes.
    async fn memory(&self, length: usize) -> Option<OwnedSemaphorePermit> {
        let units = length.min(MEMORY).div_ceil(MEMORY_UNIT);
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        // Fails only when the semaphore is closed, which never happens.
        self.memory.clone().acquire_many_owned(units).await.ok()
    }
}

/// The number of calls in progress. An atomic, because every call counts and only the shutdown
/// waits for zero.
#[derive(Clone, Debug, Default)]
struct InProgress(Arc<AtomicUsize>);

/// One call in progress, until dropped.
struct OneCall<'a>(&'a AtomicUsize);

/// Interval of polling for zero.
const LOOK: Duration = Duration::from_millis(5);

impl InProgress {
    fn one_more(&self) -> OneCall<'_> {
        self.0.fetch_add(1, Ordering::AcqRel);
        OneCall(&self.0)
    }

    /// Waits until no call is in progress.
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

/// A counter whose zero can be awaited.
#[derive(Clone, Debug, Default)]
struct Counter(watch::Sender<usize>);

impl Counter {
    /// Counts one more, until dropped.
    fn one_more(&self) -> Counted {
        self.0.send_modify(|count| *count += 1);
        Counted(self.0.clone())
    }

    fn now(&self) -> usize {
        *self.0.borrow()
    }

    /// Waits until the count is zero.
    async fn none(&self) {
        // Fails only when the sender is dropped; `self` holds it.
        let _ = self.0.subscribe().wait_for(|count| *count == 0).await;
    }
}

/// One counted item, until dropped.
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
    /// Writes the cookie, makes the Unix socket and starts to answer calls. Must be called on an
    /// actix system.
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

    /// Stops accepting, lets calls in progress finish and their answers go out
    /// (`CALLS_TIMEOUT`, `CLOSE_TIMEOUT`), then removes socket and cookie. An answer is cut
    /// only if its client does not read it.
    ///
    /// # Ordering
    /// Call it when the node has stopped: from then on every answer closes its connection. The
    /// process should end next.
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
        // The task that rebinds the sockets holds `running` too.
        self.running.close();
        self.running.remove();
    }
}

#[cfg(test)]
mod tests;
