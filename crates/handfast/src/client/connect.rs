//! Connecting to a node: its Unix socket, then its TCP addresses.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use handfast_cli::{NodeLocation, chosen_by, reachable, running_in};
use handfast_disk::{Unreadable, quoted, read_text};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, sleep, timeout_at};

use super::{ClientError, RETRY_INTERVAL};

/// A byte stream of either socket.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

/// A connection on which nothing was sent yet.
pub(super) struct Connection {
    pub(super) stream: Box<dyn Stream>,
    /// The socket's path or address, for messages.
    pub(super) at: String,
    /// `user:password`; `None` for the Unix socket, whose mode authenticates.
    pub(super) credentials: Option<String>,
}

/// Why a socket cannot be used.
enum Closed {
    /// Nothing listens there.
    Absent,
    /// The accept queue is full.
    Full(String),
    /// Permission denied.
    Forbidden(ClientError),
}

/// Connects to the first socket that accepts. A full accept queue is retried for `wait` (`None`:
/// without limit); if nothing listens anywhere, that is returned at once.
pub(super) async fn connect(
    place: &NodeLocation,
    wait: Option<Duration>,
) -> Result<Connection, ClientError> {
    let by = wait.map(|wait| Instant::now() + wait);
    loop {
        let mut full = None;
        let mut forbidden = None;
        let mut note = |closed| match closed {
            Closed::Absent => {}
            Closed::Full(at) => full = full.take().or(Some(at)),
            Closed::Forbidden(error) => forbidden = forbidden.take().or(Some(error)),
        };
        match unix(place).await {
            Ok(connection) => return Ok(connection),
            Err(closed) => note(closed),
        }
        match tcp(place, by).await {
            Ok(connection) => return Ok(connection),
            Err(closed) => closed.into_iter().for_each(note),
        }
        match (full, forbidden) {
            (Some(at), _) if by.is_some_and(|by| Instant::now() >= by) => {
                let wait = wait.unwrap_or_default();
                return Err(ClientError::Full { at, wait });
            }
            (Some(_), _) => sleep(RETRY_INTERVAL).await,
            (None, Some(error)) => return Err(error),
            (None, None) => return Err(missing(place)),
        }
    }
}

async fn unix(place: &NodeLocation) -> Result<Connection, Closed> {
    let path = &place.rpc_socket;
    // Never blocks: the system reports a full queue at once.
    match UnixStream::connect(path).await {
        Ok(stream) => Ok(Connection {
            stream: Box::new(stream),
            at: path.display().to_string(),
            credentials: None,
        }),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(Closed::Full(path.display().to_string()))
        }
        Err(source) if source.kind() == io::ErrorKind::PermissionDenied => {
            let path = path.clone();
            Err(Closed::Forbidden(ClientError::Forbidden { path, source }))
        }
        Err(_) => Err(Closed::Absent),
    }
}

async fn tcp(place: &NodeLocation, by: Option<Instant>) -> Result<Connection, Vec<Closed>> {
    let mut closed = Vec::new();
    for addr in &place.rpc_listen {
        let stream = TcpStream::connect(reachable(*addr));
        let stream = match by {
            Some(by) => timeout_at(by, stream).await,
            None => Ok(stream.await),
        };
        match stream {
            // A node writes its cookie before it listens.
            Ok(Ok(stream)) => match cookie(place, addr) {
                Ok(cookie) => {
                    return Ok(Connection {
                        stream: Box::new(stream),
                        at: addr.to_string(),
                        credentials: Some(cookie),
                    });
                }
                Err(error) => closed.push(Closed::Forbidden(error)),
            },
            Ok(Err(error)) if error.kind() == io::ErrorKind::TimedOut => {
                closed.push(Closed::Full(addr.to_string()));
            }
            Ok(Err(_)) => closed.push(Closed::Absent),
            Err(_) => closed.push(Closed::Full(addr.to_string())),
        }
    }
    Err(closed)
}

/// Longest cookie file, bytes.
pub(crate) const MAX_COOKIE: u64 = 4_096;

/// The cookie for calls over TCP.
fn cookie(place: &NodeLocation, addr: &SocketAddr) -> Result<String, ClientError> {
    let path = place.cookie.clone();
    match read_text(&path, MAX_COOKIE) {
        Ok(cookie) => Ok(cookie.trim().to_owned()),
        Err(error) if error.is_absent() => Err(ClientError::NoCookie {
            at: addr.to_string(),
            path,
            remedy: elsewhere(place)
                .unwrap_or_else(|| "give the --datadir of the node that runs there".to_owned()),
        }),
        Err(Unreadable::Io(source)) => Err(ClientError::Forbidden { path, source }),
        Err(found) => Err(ClientError::NotACookie { path, found }),
    }
}

fn missing(place: &NodeLocation) -> ClientError {
    let socket = Some(&place.rpc_socket).filter(|path| !path.as_os_str().is_empty());
    let socket = socket.map(|path| path.display().to_string());
    let places = place.rpc_listen.iter().map(SocketAddr::to_string);
    let places: Vec<String> = socket.into_iter().chain(places).collect();
    ClientError::NotRunning {
        network: place.network.name(),
        dir: place.network_dir.clone(),
        places: places.join(" or "),
        remedy: remedy(place),
    }
}

/// The remedy if no node runs. It suggests a network only if the user gave one, so that nobody
/// starts a mainnet node by accident.
fn remedy(place: &NodeLocation) -> String {
    if let Some(elsewhere) = elsewhere(place) {
        return elsewhere;
    }
    let datadir = place.hints.datadir.as_deref();
    let datadir = datadir.map(|dir| format!(" --datadir {}", quoted(dir)));
    let datadir = datadir.unwrap_or_default();
    if !place.hints.network {
        return format!(
            "give its network with --network, or start one with `handfast run --network \
             NAME{datadir}`: regtest is a private network, testnet4 and signet are for tests"
        );
    }
    let network = chosen_by(&place.network);
    format!(
        "start one with `handfast run --network {network}{datadir}`, or wait for it with \
         `handfast rpc --network {network}{datadir} --wait`"
    )
}

/// The remedy if another network's node runs in this data directory.
fn elsewhere(place: &NodeLocation) -> Option<String> {
    let running = place.network_dir.parent().map(running_in);
    let elsewhere: Vec<String> = running
        .iter()
        .flatten()
        .filter(|network| **network != place.network)
        .map(|network| format!("--network {}", chosen_by(network)))
        .collect();
    let options = elsewhere.join(" or ");
    (!elsewhere.is_empty())
        .then(|| format!("another network's node is running there: call it with {options}"))
}
