//! The listening sockets of the RPC server.
//!
//! They are bound before anything is written: a port in use, a path that is too long or another
//! node's live socket ends the start without changes on disk.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

use crate::auth::AccessRules;

/// Longest path of the Unix socket, bytes. The system's limit is 108 or 104.
pub const MAX_SOCKET_PATH: usize = 100;

/// Depth of the accept queues: bursts of connections wait, they are not refused. The system caps
/// it at `net.core.somaxconn`.
pub(crate) const BACKLOG: i32 = 4096;

/// Default limit of calls in progress. A call holds its request and no thread.
pub const DEFAULT_MAX_CALLS: usize = 4096;

/// The sockets, access rules and limits of the RPC server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RpcConfig {
    /// TCP addresses; may be empty.
    pub listen: Vec<SocketAddr>,
    /// Path of the Unix socket, if any.
    pub socket: Option<PathBuf>,
    /// Path of the cookie file.
    pub cookie: PathBuf,
    /// Access rules for TCP clients, besides the cookie.
    pub access: AccessRules,
    /// Whether blocks and headers are served over plain `GET`. Core `-rest`.
    pub rest: bool,
    /// Most calls in progress: more are refused with `503`. Core `-rpcworkqueue`.
    pub max_calls: usize,
    /// Most connections, half of them over TCP and half over the Unix socket: as many as the
    /// process has spare descriptors.
    pub max_connections: usize,
}

/// Why the RPC server did not start. `Display` is one line: the cause and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum RpcError {
    /// A TCP address could not be bound.
    #[error("cannot listen for RPC on {addr}: {source}; {}", remedy(source))]
    Listen {
        /// The configured address.
        addr: SocketAddr,
        /// The system's error.
        source: io::Error,
    },
    /// The path of the Unix socket is too long for the system.
    #[error(
        "the path of the RPC socket {} has {} bytes, at most {MAX_SOCKET_PATH} are possible; \
         choose a shorter one with --rpc-socket, or a shorter --datadir",
        .0.display(), .0.as_os_str().len()
    )]
    SocketPath(PathBuf),
    /// A process accepts on the Unix socket already.
    #[error("the RPC socket {} belongs to a running node; stop that node, or choose another with --rpc-socket", .0.display())]
    SocketInUse(PathBuf),
    /// A file that is no socket is at its path.
    #[error("{} is not a socket and is not touched; move it away, or choose another path with --rpc-socket", .0.display())]
    NotASocket(PathBuf),
    /// The Unix socket could not be made.
    #[error("cannot make the RPC socket {}: {source}; {}", path.display(), file_remedy(source))]
    Socket {
        /// Its path.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The cookie file could not be written.
    #[error("cannot write the RPC cookie {}: {source}; {}", path.display(), file_remedy(source))]
    Cookie {
        /// Its path.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The HTTP server did not start.
    #[error(
        "cannot start the RPC server: {0}; check the limits on processes and open files (ulimit -u, -n)"
    )]
    Server(io::Error),
}

/// The remedy when a file cannot be created.
fn file_remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "free disk space, then start again"
        }
        io::ErrorKind::ReadOnlyFilesystem => "make the file system writable",
        _ => "check that its directory exists and is writable",
    }
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "stop the program that uses it, or choose another address with --rpc-listen"
        }
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need privileges; choose another with --rpc-listen"
        }
        io::ErrorKind::AddrNotAvailable => {
            "this machine has no such address; choose another with --rpc-listen"
        }
        _ => "choose another address with --rpc-listen",
    }
}

/// TCP sockets that are bound and do not listen yet, and a Unix socket path that is free.
/// Nothing is on disk yet.
#[derive(Debug)]
pub struct Listeners {
    pub(crate) tcp: Vec<TcpListener>,
    pub(crate) config: RpcConfig,
}

impl Listeners {
    /// Binds the TCP addresses and checks the path of the Unix socket.
    ///
    /// # Errors
    /// See [`RpcError`]; nothing has changed on disk then.
    pub fn bind(config: RpcConfig) -> Result<Self, RpcError> {
        if let Some(path) = &config.socket {
            check_path(path)?;
        }
        let bind = |addr: &SocketAddr| {
            bind_tcp(*addr).map_err(|source| RpcError::Listen {
                addr: *addr,
                source,
            })
        };
        let tcp = config.listen.iter().map(bind).collect::<Result<_, _>>()?;
        Ok(Self { tcp, config })
    }

    /// The TCP addresses with the ports that were really given.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.tcp
            .iter()
            .filter_map(|listener| listener.local_addr().ok())
            .collect()
    }
}

fn bind_tcp(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    // A port whose last user left connections in TIME_WAIT can be bound all the same.
    socket.set_reuse_address(true)?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Consecutive answers do not wait for the client's acknowledgement. Accepted sockets inherit
    // the option on Linux.
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    Ok(socket.into())
}

/// Starts to listen on a bound socket.
///
/// # Ordering
/// After the cookie was written: a client that connects earlier would find none, or that of a
/// killed run, and be refused for good; `bitcoin-cli -rpcwait` retries only while the connection
/// is refused.
pub(crate) fn listen(listener: &TcpListener) -> Result<(), RpcError> {
    let failed = |source| RpcError::Listen {
        addr: listener.local_addr().unwrap_or_else(|_| ([0; 4], 0).into()),
        source,
    };
    SockRef::from(listener).listen(BACKLOG).map_err(failed)
}

/// Whether a socket may be made at `path`: it is short enough, and nothing accepts there.
fn check_path(path: &Path) -> Result<Existing, RpcError> {
    if path.as_os_str().len() > MAX_SOCKET_PATH {
        return Err(RpcError::SocketPath(path.to_owned()));
    }
    match fs::symlink_metadata(path) {
        // Missing, or in a directory that does not exist yet.
        Err(_) => Ok(Existing::Nothing),
        Ok(found) if !found.file_type().is_socket() => Err(RpcError::NotASocket(path.to_owned())),
        Ok(_) => match UnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(Existing::Stale),
            // A full queue (EAGAIN) and another owner (EACCES) also mean a live socket.
            Ok(_) | Err(_) => Err(RpcError::SocketInUse(path.to_owned())),
        },
    }
}

enum Existing {
    Nothing,
    Stale,
}

/// The file of the Unix socket. Removed when dropped, unless it has been replaced.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    /// Makes the socket, replacing that of a dead node.
    ///
    /// # Security
    /// The mode is set before `listen`: until then every `connect` is refused.
    pub(crate) fn listen(path: &Path) -> Result<(Self, UnixListener), RpcError> {
        let failed = |source| RpcError::Socket {
            path: path.to_owned(),
            source,
        };
        if let Existing::Stale = check_path(path)? {
            fs::remove_file(path).map_err(failed)?;
        }
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(failed)?;
        socket.set_nonblocking(true).map_err(failed)?;
        socket
            .bind(&SockAddr::unix(path).map_err(failed)?)
            .map_err(failed)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
        socket.listen(BACKLOG).map_err(failed)?;
        let metadata = fs::symlink_metadata(path).map_err(failed)?;
        let file = Self {
            path: path.to_owned(),
            device: metadata.dev(),
            inode: metadata.ino(),
        };
        Ok((file, socket.into()))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|found| (found.dev(), found.ino()) == (self.device, self.inode));
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the RPC socket");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(dir: &Path) -> RpcConfig {
        RpcConfig {
            listen: vec![],
            socket: Some(dir.join("node.sock")),
            cookie: dir.join(".cookie"),
            access: AccessRules::default(),
            rest: false,
            max_calls: DEFAULT_MAX_CALLS,
            max_connections: 1_000,
        }
    }

    #[test]
    fn the_socket_is_private_and_gone_after_the_run() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("node.sock");
        let (file, _listener) = SocketFile::listen(&path).expect("a free path");
        assert_eq!(
            fs::metadata(&path)
                .expect("it is there")
                .permissions()
                .mode()
                & 0o777,
            0o600
        );
        drop(file);
        assert!(!path.exists());
    }

    #[test]
    fn the_socket_of_a_dead_node_is_replaced() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("node.sock");
        // A listener that is dropped leaves its file behind, as `kill -9` does.
        drop(UnixListener::bind(&path).expect("a free path"));
        assert!(Listeners::bind(config(dir.path())).is_ok());
        let (_file, listener) = SocketFile::listen(&path).expect("replaced");
        UnixStream::connect(&path).expect("the new one answers");
        drop(listener);
    }

    #[test]
    fn the_socket_of_a_live_node_is_refused_and_stays() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("node.sock");
        let _alive = UnixListener::bind(&path).expect("a free path");
        assert!(matches!(
            Listeners::bind(config(dir.path())),
            Err(RpcError::SocketInUse(_))
        ));
        UnixStream::connect(&path).expect("it still answers");
    }

    #[test]
    fn a_file_in_the_way_is_not_touched() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("node.sock");
        fs::write(&path, "precious").expect("written");
        assert!(matches!(
            Listeners::bind(config(dir.path())),
            Err(RpcError::NotASocket(_))
        ));
        assert_eq!(fs::read_to_string(&path).expect("it is there"), "precious");
    }

    #[test]
    fn a_path_that_the_system_would_cut_off_is_refused() {
        let dir = PathBuf::from(format!(
            "/{}",
            "d".repeat(MAX_SOCKET_PATH - "/node.sock".len())
        ));
        assert!(matches!(
            Listeners::bind(config(&dir)),
            Err(RpcError::SocketPath(_))
        ));
        let dir = PathBuf::from(format!(
            "/{}",
            "d".repeat(MAX_SOCKET_PATH - "//node.sock".len())
        ));
        assert!(Listeners::bind(config(&dir)).is_ok());
    }

    #[test]
    fn an_occupied_port_is_reported_with_its_remedy() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = taken.local_addr().expect("bound");
        let config = RpcConfig {
            listen: vec![addr],
            socket: None,
            cookie: PathBuf::new(),
            access: AccessRules::default(),
            rest: false,
            max_calls: DEFAULT_MAX_CALLS,
            max_connections: 1_000,
        };
        let error = Listeners::bind(config).expect_err("occupied").to_string();
        assert!(
            error.contains(&addr.to_string()) && error.contains("--rpc-listen"),
            "{error}"
        );
    }
}
