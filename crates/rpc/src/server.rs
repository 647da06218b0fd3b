//! HTTP around [`crate::jsonrpc`].

use std::any::Any;
use std::net::SocketAddr;
use std::time::Duration;

use actix_web::dev::{Extensions, ServerHandle};
use actix_web::http::{Method, StatusCode, header};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use handfast_node::{NodeHandle, Phase};
use tokio::sync::watch;

use crate::auth::{Cookie, Credentials, FAILED_LOGIN_DELAY};
use crate::jsonrpc;
use crate::methods::Methods;
use crate::sockets::{Listeners, RpcConfig, RpcError, SocketFile};

/// Threads that read requests and run methods. Calls are short, blocking reads
/// have their own pool: two keep one caller from holding up another.
const WORKERS: usize = 2;
/// Blocking reads at once, all workers together: each may hold a few blocks in memory.
const BLOCKING_THREADS: usize = 8;
/// Longest request body, bytes. Core `MAX_SIZE`.
const MAX_BODY: usize = 32 * 1024 * 1024;
/// Time for a whole request to arrive. Core `DEFAULT_HTTP_SERVER_TIMEOUT`.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Time that an idle connection is kept open.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// Time for calls in progress when the server stops.
const CALLS_TIMEOUT: Duration = Duration::from_secs(5);
/// Time, after the last call, for answers to go out and idle connections to be closed. Nobody
/// is owed more: a caller that does not read, or has sent half a request.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Caller {
    /// The Unix socket: the file's mode let the caller in.
    Unix,
    /// TCP: must show the cookie.
    Tcp(SocketAddr),
}

/// What every worker has.
#[derive(Clone)]
struct Context {
    methods: Methods,
    credentials: Credentials,
    load: watch::Sender<Load>,
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
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.load.send_modify(|load| *(self.which)(load) -= 1);
    }
}

/// A running RPC server, until [`Server::stop`]. Dropping it removes socket and cookie.
#[derive(Debug)]
pub struct Server {
    handle: ServerHandle,
    load: watch::Sender<Load>,
    addresses: Vec<SocketAddr>,
    _cookie: Cookie,
    _socket: Option<SocketFile>,
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
            credentials: cookie.credentials(),
            load: load.clone(),
        };
        let connections = load.clone();

        let app = move || {
            App::new()
                .app_data(web::Data::new(context.clone()))
                .default_service(web::to(handle))
        };
        let mut server = HttpServer::new(app)
            .workers(WORKERS)
            .worker_max_blocking_threads(BLOCKING_THREADS / WORKERS)
            .keep_alive(KEEP_ALIVE)
            .client_request_timeout(READ_TIMEOUT)
            .disable_signals()
            .on_connect(move |connection, data| {
                remember_caller(connection, data);
                data.insert(Counted::new(&connections, |load| &mut load.connections));
            });
        for listener in tcp {
            server = server.listen(listener).map_err(RpcError::Server)?;
        }
        let mut socket = None;
        if let Some(path) = &config.socket {
            let (file, listener) = SocketFile::listen(path)?;
            server = server.listen_uds(listener).map_err(RpcError::Server)?;
            socket = Some(file);
        }
        let running = server.run();
        let handle = running.handle();
        actix_rt::spawn(running);
        tracing::info!(?addresses, socket = ?config.socket, "RPC server started");
        Ok(Self {
            handle,
            load,
            addresses,
            _cookie: cookie,
            _socket: socket,
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
        self.handle.pause().await;
        let mut load = self.load.subscribe();
        let calls = load.wait_for(|load| load.calls == 0);
        let calls = tokio::time::timeout(CALLS_TIMEOUT, calls).await.is_ok();
        // Closes idle connections, others after their answer. Its own end is not awaited:
        // it looks once a second whether it has come, and would wait for half requests.
        let stopping = self.handle.stop(true);
        let closed = load.wait_for(|load| load.connections == 0);
        let closed = tokio::time::timeout(CLOSE_TIMEOUT, closed).await.is_ok();
        drop(stopping);
        if !(calls && closed) {
            let Load { connections, calls } = *self.load.borrow();
            tracing::debug!(connections, calls, "RPC connections cut off at the end");
        }
    }
}

fn remember_caller(connection: &dyn Any, data: &mut Extensions) {
    if connection.is::<actix_rt::net::UnixStream>() {
        data.insert(Caller::Unix);
    } else if let Some(stream) = connection.downcast_ref::<actix_rt::net::TcpStream>()
        && let Ok(addr) = stream.peer_addr()
    {
        data.insert(Caller::Tcp(addr));
    }
}

/// One HTTP request. Nothing of the body is read before the caller is known.
async fn handle(
    request: HttpRequest,
    body: web::Payload,
    context: web::Data<Context>,
) -> HttpResponse {
    if request.path() != "/" {
        return plain(StatusCode::NOT_FOUND, "");
    }
    if request.method() != Method::POST {
        let mut response = plain(
            StatusCode::METHOD_NOT_ALLOWED,
            "JSONRPC server handles only POST requests",
        );
        response
            .headers_mut()
            .insert(header::ALLOW, header::HeaderValue::from_static("POST"));
        return response;
    }
    if let Err(refusal) = admit(&request, &context.credentials).await {
        return refusal;
    }
    if announces_too_much(&request) {
        return plain(StatusCode::PAYLOAD_TOO_LARGE, "");
    }
    let body = match read_body(body).await {
        Ok(body) => body,
        Err(refusal) => return refusal,
    };
    let call = Counted::new(&context.load, |load| &mut load.calls);
    let answer = jsonrpc::answer(&body, &context.methods).await;
    drop((body, call));
    let status =
        StatusCode::from_u16(answer.status).expect("jsonrpc answers with registered status codes");
    let mut response = HttpResponse::build(status);
    if context.methods.node.phase() == Phase::Stopping {
        // A connection kept alive would hold up the end of the server.
        response.force_close();
    }
    match answer.body {
        Some(body) => response.content_type("application/json").body(body),
        None => response.finish(),
    }
}

/// Lets the caller in, or says why not.
async fn admit(request: &HttpRequest, credentials: &Credentials) -> Result<(), HttpResponse> {
    let addr = match request.conn_data::<Caller>() {
        Some(Caller::Unix) => return Ok(()),
        Some(Caller::Tcp(addr)) => addr,
        // The peer was gone before its address could be read.
        None => return Err(plain(StatusCode::FORBIDDEN, "")),
    };
    if !addr.ip().to_canonical().is_loopback() {
        tracing::debug!(%addr, "RPC call from another machine refused");
        return Err(plain(StatusCode::FORBIDDEN, ""));
    }
    let given = request.headers().get(header::AUTHORIZATION);
    if given
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| credentials.accept(value))
    {
        return Ok(());
    }
    if given.is_some() {
        tracing::debug!(%addr, "RPC call with wrong credentials refused");
        tokio::time::sleep(FAILED_LOGIN_DELAY).await;
    }
    let mut response = plain(StatusCode::UNAUTHORIZED, "");
    let challenge = header::HeaderValue::from_static("Basic realm=\"jsonrpc\"");
    response
        .headers_mut()
        .insert(header::WWW_AUTHENTICATE, challenge);
    Err(response)
}

/// Whether the request says that its body is too long, so that nobody waits for it.
fn announces_too_much(request: &HttpRequest) -> bool {
    let length = request.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    length.is_some_and(|length| length > MAX_BODY as u64)
}

/// The whole body, bounded in size and time.
async fn read_body(mut payload: web::Payload) -> Result<Bytes, HttpResponse> {
    let mut body = BytesMut::new();
    let read = async {
        while let Some(chunk) = payload.next().await {
            let chunk = chunk.map_err(|_| plain(StatusCode::BAD_REQUEST, ""))?;
            if body.len() + chunk.len() > MAX_BODY {
                return Err(plain(StatusCode::PAYLOAD_TOO_LARGE, ""));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(())
    };
    match tokio::time::timeout(READ_TIMEOUT, read).await {
        Ok(Ok(())) => Ok(body.freeze()),
        Ok(Err(refusal)) => Err(refusal),
        Err(_) => Err(plain(StatusCode::REQUEST_TIMEOUT, "")),
    }
}

fn plain(status: StatusCode, text: &'static str) -> HttpResponse {
    HttpResponse::build(status)
        .content_type("text/plain; charset=utf-8")
        .body(text)
}
