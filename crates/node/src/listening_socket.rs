//! Listening sockets: counters of each, and the registry of all.
//!
//! An [`ListeningSocket`] is the one record of a listening socket. It is shared by the acceptor, which
//! counts; by the prober, which connects and waits to be accepted; and by readers of its state.
//! None of them waits for another.
//!
//! # Security
//!
//! The self-probe's connection is recognised by its source address, which the prober owns (it is
//! bound, exclusively, before it is given to `expect`, and that is before the first SYN). No other
//! connection can have that address: the system refuses the port to another process, and the
//! address to another machine. So a probe takes no slot and is subject to no ban, and a remote can
//! neither imitate nor suppress one.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use handfast_proto::self_probe::{Report, SelfProbe};
use rustix::io::Errno;
use tokio::sync::{Notify, oneshot, watch};

use crate::accept_queue::{self, AcceptQueue};

/// The name of the listening sockets for peers.
pub(crate) const PEERS: &str = "p2p";

/// Where a listening socket is bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// TCP; the address is that of the bound socket.
    Tcp(SocketAddr),
    /// A Unix socket at this path.
    Unix(PathBuf),
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr) => write!(f, "{addr}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// What an accepted connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// A remote's or a caller's connection.
    Connection,
    /// The self-probe: to be closed, and not counted.
    SelfProbe,
}

/// The result of a request to close a listening socket and open it again: success, or why it
/// failed.
pub type Recreated = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// Closes the listening socket of an [`ListeningSocket`] and opens it again at the same address.
pub type Recreate = Box<dyn Fn() -> Recreated + Send + Sync>;

/// A listening socket to be watched.
pub struct Registration {
    /// What it is for: `"p2p"`, `"rpc"`.
    pub name: &'static str,
    /// Where it is bound.
    pub address: ListenAddress,
    /// Depth of the accept queue that was requested.
    pub backlog: u32,
    /// Called by the prober when the socket has failed.
    pub recreate: Recreate,
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration")
            .field("name", &self.name)
            .field("place", &self.address)
            .finish_non_exhaustive()
    }
}

/// Connections that were closed at once since start, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refused {
    /// The operator banned the address.
    pub banned: u64,
    /// No slot was free.
    pub no_slot: u64,
    /// The process or the system had no descriptor left.
    pub no_descriptor: u64,
}

/// The state of one listening socket at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListeningSocketInfo {
    /// What it is for.
    pub name: &'static str,
    /// Where it is bound.
    pub address: ListenAddress,
    /// Depth of the accept queue that was requested.
    pub backlog_asked: u32,
    /// The queue now, with the depth that was granted. `None`: the system does not report it, or
    /// there is no socket.
    pub queue: Option<AcceptQueue>,
    /// Connections taken out of the accept queue since start, self-probes not counted.
    pub accepted: u64,
    /// Of those, the ones that were closed at once.
    pub refused: Refused,
    /// Pauses of accepting, because the system had no descriptor or no memory.
    pub pauses: u64,
    /// The result of the self-probe.
    pub probe: Report,
}

/// The probe that is expected.
#[derive(Debug)]
struct Expected {
    /// Its source address; `None`: the next connection, wherever it comes from, shows that the
    /// socket accepts.
    from: Option<SocketAddr>,
    seen: oneshot::Sender<()>,
}

/// One listening socket. See the module.
pub struct ListeningSocket {
    name: &'static str,
    address: ListenAddress,
    backlog: u32,
    recreate: Recreate,
    /// For queries of its accept queue. `None` while there is no socket.
    socket: Mutex<Option<Arc<dyn AsFd + Send + Sync>>>,
    pub(crate) accepted: AtomicU64,
    pub(crate) banned: AtomicU64,
    pub(crate) no_slot: AtomicU64,
    pub(crate) no_descriptor: AtomicU64,
    pub(crate) pauses: AtomicU64,
    /// Whether `expected` is set: accepting takes its lock only then.
    probing: AtomicBool,
    expected: Mutex<Option<Expected>>,
    /// The prober's machine; locked for moments, and never across an `await`.
    probe: Mutex<SelfProbe>,
    suspicion: Notify,
}

impl fmt::Debug for ListeningSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entrance")
            .field("name", &self.name)
            .field("place", &self.address)
            .finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ListeningSocket {
    fn new(registration: Registration) -> Self {
        Self {
            name: registration.name,
            address: registration.address,
            backlog: registration.backlog,
            recreate: registration.recreate,
            socket: Mutex::default(),
            accepted: AtomicU64::new(0),
            banned: AtomicU64::new(0),
            no_slot: AtomicU64::new(0),
            no_descriptor: AtomicU64::new(0),
            pauses: AtomicU64::new(0),
            probing: AtomicBool::new(false),
            expected: Mutex::default(),
            probe: Mutex::default(),
            suspicion: Notify::new(),
        }
    }

    /// What it is for.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Where it is bound.
    #[must_use]
    pub fn address(&self) -> &ListenAddress {
        &self.address
    }

    /// Depth of the accept queue that was requested.
    #[must_use]
    pub fn backlog(&self) -> u32 {
        self.backlog
    }

    /// A connection was accepted here; `remote`: its other end, for TCP.
    ///
    /// The acceptor calls it for each connection. Probes are not counted.
    pub fn on_accept(&self, remote: Option<SocketAddr>) -> Accepted {
        // Before the first SYN the prober sets the flag with its lock held, so a probe's connection
        // is never accepted before the flag is visible.
        if self.probing.load(Ordering::Acquire) && self.is_expected(remote) {
            return Accepted::SelfProbe;
        }
        self.accepted.fetch_add(1, Ordering::Relaxed);
        Accepted::Connection
    }

    fn is_expected(&self, remote: Option<SocketAddr>) -> bool {
        let mut expected = lock(&self.expected);
        let Some(awaited) = &*expected else {
            return false;
        };
        let (somebody_accepts, is_probe) = match (awaited.from, remote) {
            (Some(from), Some(remote)) => {
                // Only address and port: scope and flow of IPv6 differ by the side.
                let same = (from.ip(), from.port()) == (remote.ip(), remote.port());
                (same, same)
            }
            (Some(_), None) => (false, false),
            (None, _) => (true, false),
        };
        if somebody_accepts && let Some(awaited) = expected.take() {
            self.probing.store(false, Ordering::Release);
            let _ = awaited.seen.send(());
        }
        is_probe
    }

    /// Resolves with the first connection from `from`, or from any address, that is accepted from
    /// now on.
    pub(crate) fn expect(&self, from: Option<SocketAddr>) -> oneshot::Receiver<()> {
        let (seen, wait) = oneshot::channel();
        let mut expected = lock(&self.expected);
        *expected = Some(Expected { from, seen });
        self.probing.store(true, Ordering::Release);
        wait
    }

    /// Expects no probe any more. A probe that is accepted after it was given up counts as a
    /// remote's connection: its port may belong to another process by then.
    pub(crate) fn expect_none(&self) {
        let mut expected = lock(&self.expected);
        self.probing.store(false, Ordering::Release);
        *expected = None;
    }

    /// Sets the socket that listens here, for queries of its queue; `None`: there is none now. A
    /// reference that is not cleared keeps the socket open.
    pub fn set_socket(&self, socket: Option<Arc<dyn AsFd + Send + Sync>>) {
        *lock(&self.socket) = socket;
    }

    /// Accepting returned an error that a healthy socket does not return: a probe is due soon.
    pub fn suspect(&self) {
        self.suspicion.notify_one();
    }

    /// Accepting pauses after this error. It is counted when the system had no descriptor or no
    /// memory for the connection; any other error is not one of a healthy socket, and a probe is
    /// due soon. Returns whether it was counted.
    pub fn pauses_after(&self, error: &io::Error) -> bool {
        let shortage = matches!(
            Errno::from_io_error(error),
            Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)
        );
        match shortage {
            true => _ = self.pauses.fetch_add(1, Ordering::Relaxed),
            false => self.suspect(),
        }
        shortage
    }

    pub(crate) async fn suspected(&self) {
        self.suspicion.notified().await;
    }

    pub(crate) fn recreate(&self) -> Recreated {
        (self.recreate)()
    }

    pub(crate) fn probe(&self) -> MutexGuard<'_, SelfProbe> {
        lock(&self.probe)
    }

    /// The current state. Never blocks.
    #[must_use]
    pub fn info(&self) -> ListeningSocketInfo {
        let queue = lock(&self.socket)
            .as_ref()
            .and_then(|socket| accept_queue::of(socket.as_fd()));
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ListeningSocketInfo {
            name: self.name,
            address: self.address.clone(),
            backlog_asked: self.backlog,
            queue,
            accepted: count(&self.accepted),
            refused: Refused {
                banned: count(&self.banned),
                no_slot: count(&self.no_slot),
                no_descriptor: count(&self.no_descriptor),
            },
            pauses: count(&self.pauses),
            probe: self.probe().report().clone(),
        }
    }

    /// The socket itself, for tests that take it away.
    #[cfg(test)]
    pub(crate) fn socket(&self) -> Option<Arc<dyn AsFd + Send + Sync>> {
        lock(&self.socket).clone()
    }
}

/// All listening sockets of the process. Clones share one list.
#[derive(Clone, Debug)]
pub struct ListeningSockets {
    all: Arc<watch::Sender<Vec<Arc<ListeningSocket>>>>,
}

impl ListeningSockets {
    pub(crate) fn new() -> Self {
        Self {
            all: Arc::new(watch::Sender::new(Vec::new())),
        }
    }

    /// Adds a listening socket. It is probed once the node runs.
    pub fn register(&self, registration: Registration) -> Arc<ListeningSocket> {
        let listening = Arc::new(ListeningSocket::new(registration));
        self.all.send_modify(|all| all.push(listening.clone()));
        listening
    }

    /// Every listening socket, in the order in which they were registered.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<ListeningSocket>> {
        self.all.borrow().clone()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Vec<Arc<ListeningSocket>>> {
        self.all.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn listening() -> Arc<ListeningSocket> {
        ListeningSockets::new().register(Registration {
            name: "test",
            address: ListenAddress::Unix("/nowhere".into()),
            backlog: 1,
            recreate: Box::new(|| Box::pin(async { Ok(()) })),
        })
    }

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn only_the_address_that_was_expected_is_the_probe_and_only_once() {
        let listening = listening();
        let own = address("127.0.0.1:4000");
        let mut seen = listening.expect(Some(own));
        for port in ["127.0.0.1:4001", "127.0.0.2:4000", "[::1]:4000"] {
            assert_eq!(
                listening.on_accept(Some(address(port))),
                Accepted::Connection
            );
        }
        assert_eq!(listening.on_accept(None), Accepted::Connection);
        assert!(seen.try_recv().is_err());
        assert_eq!(listening.on_accept(Some(own)), Accepted::SelfProbe);
        assert_eq!(seen.try_recv(), Ok(()));
        assert_eq!(
            listening.on_accept(Some(own)),
            Accepted::Connection,
            "a later user of the port"
        );
        assert_eq!(listening.info().accepted, 5);
    }

    #[tokio::test]
    async fn a_shortage_of_descriptors_is_a_pause_and_any_other_error_a_suspicion() {
        let listening = listening();
        for shortage in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM] {
            assert!(listening.pauses_after(&shortage.into()), "{shortage:?}");
        }
        assert_eq!(listening.info().pauses, 4);
        assert!(listening.suspected().now_or_never().is_none());
        assert!(!listening.pauses_after(&Errno::INVAL.into()));
        assert_eq!(listening.info().pauses, 4);
        assert!(listening.suspected().now_or_never().is_some());
    }

    #[test]
    fn a_probe_is_recognised_without_its_scope() {
        let listening = listening();
        let mut seen = listening.expect(Some(address("[fe80::1%7]:4000")));
        let remote = Some(address("[fe80::1%3]:4000"));
        assert_eq!(listening.on_accept(remote), Accepted::SelfProbe);
        assert_eq!(seen.try_recv(), Ok(()));
    }

    #[test]
    fn on_a_unix_socket_any_accepted_connection_shows_that_it_accepts() {
        let listening = listening();
        let mut seen = listening.expect(None);
        assert_eq!(listening.on_accept(None), Accepted::Connection);
        assert_eq!(seen.try_recv(), Ok(()));
    }

    #[test]
    fn a_probe_that_was_given_up_counts_as_a_remote_connection() {
        let listening = listening();
        let own = address("127.0.0.1:4000");
        let mut seen = listening.expect(Some(own));
        listening.expect_none();
        assert_eq!(listening.on_accept(Some(own)), Accepted::Connection);
        assert!(seen.try_recv().is_err());
    }
}
