//! Talks to the running node: over its Unix socket, else over TCP with its cookie.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST};
use hyper::rt::{Read, Write};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream};

use crate::settings::Place;

/// Time to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Why there is no answer. `Display` is one line: the cause and the remedy.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error(
        "no {network} node is running in {} (nobody answers on {} or {tcp}); start one with `handfast run --network {network}`",
        dir.display(), socket.display()
    )]
    NotRunning {
        network: &'static str,
        dir: PathBuf,
        socket: PathBuf,
        tcp: String,
    },
    #[error("{at} refuses the cookie in {}; another node runs there: name the right --datadir or --rpc-listen", cookie.display())]
    Unauthorized { at: String, cookie: PathBuf },
    #[error("{at} accepted the call but did not answer within {} s; see the node's log", ANSWER_TIMEOUT.as_secs())]
    Silent { at: String },
    #[error(
        "{at} does not speak HTTP ({source}); another program runs there: name the right --rpc-listen or --rpc-socket"
    )]
    Http { at: String, source: hyper::Error },
    #[error("{at} answered with HTTP status {status} and no JSON-RPC; is it a Handfast node?")]
    Status { at: String, status: u16 },
}

/// Posts a JSON-RPC body and returns the body of the answer.
pub(crate) async fn post(place: &Place, body: String) -> Result<Vec<u8>, ClientError> {
    let socket =
        tokio::time::timeout(CONNECT_TIMEOUT, UnixStream::connect(&place.rpc_socket)).await;
    if let Ok(Ok(stream)) = socket {
        let at = place.rpc_socket.display().to_string();
        return exchange(stream, place, &at, None, body).await;
    }
    let missing = || ClientError::NotRunning {
        network: place.network.name(),
        dir: place.network_dir.clone(),
        socket: place.rpc_socket.clone(),
        tcp: place
            .rpc_listen
            .iter()
            .map(SocketAddr::to_string)
            .collect::<Vec<_>>()
            .join(" or "),
    };
    let cookie = fs::read_to_string(place.cookie()).map_err(|_| missing())?;
    for addr in &place.rpc_listen {
        let connected =
            tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(reachable(*addr))).await;
        if let Ok(Ok(stream)) = connected {
            return exchange(stream, place, &addr.to_string(), Some(cookie.trim()), body).await;
        }
    }
    Err(missing())
}

/// A node that listens on every address is reached on the loopback one.
fn reachable(mut addr: SocketAddr) -> SocketAddr {
    if addr.ip().is_unspecified() {
        addr.set_ip(match addr {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    addr
}

async fn exchange(
    stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + 'static,
    place: &Place,
    at: &str,
    credentials: Option<&str>,
    body: String,
) -> Result<Vec<u8>, ClientError> {
    let talk = talk(TokioIo::new(stream), credentials, body);
    let answer = tokio::time::timeout(ANSWER_TIMEOUT, talk).await;
    let answer = answer.map_err(|_| ClientError::Silent { at: at.to_owned() })?;
    let (status, body) = answer.map_err(|source| ClientError::Http {
        at: at.to_owned(),
        source,
    })?;
    if status == StatusCode::UNAUTHORIZED {
        return Err(ClientError::Unauthorized {
            at: at.to_owned(),
            cookie: place.cookie(),
        });
    }
    // Whatever the status: JSON-RPC puts its errors into the body.
    match body.first() {
        Some(b'{' | b'[') => Ok(body),
        _ => Err(ClientError::Status {
            at: at.to_owned(),
            status: status.as_u16(),
        }),
    }
}

/// One request, one answer, no connection left behind.
async fn talk(
    io: impl Read + Write + Unpin + 'static,
    credentials: Option<&str>,
    body: String,
) -> Result<(StatusCode, Vec<u8>), hyper::Error> {
    let (mut sender, connection) = http1::handshake(io).await?;
    let mut request = Request::builder()
        .method(Method::POST)
        .uri("/")
        .header(HOST, "localhost")
        .header(CONNECTION, "close")
        .header(CONTENT_TYPE, "application/json");
    if let Some(credentials) = credentials {
        request = request.header(
            AUTHORIZATION,
            format!("Basic {}", STANDARD.encode(credentials)),
        );
    }
    let request = request
        .body(Full::new(Bytes::from(body)))
        .expect("every part is valid: constants and base64");
    let answer = async move {
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        Ok((status, body.to_vec()))
    };
    // The connection ends by itself once the answer is there; until then it has to be polled.
    tokio::pin!(answer);
    tokio::pin!(connection);
    let mut closed = false;
    loop {
        tokio::select! {
            result = &mut answer => return result,
            result = &mut connection, if !closed => {
                closed = true;
                // A failure reaches `answer` too, with a better text.
                drop(result);
            }
        }
    }
}

/// Runs a client on a runtime of its own.
pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime =
        runtime.map_err(|error: io::Error| format!("cannot start an event loop: {error}"))?;
    Ok(runtime.block_on(work))
}
