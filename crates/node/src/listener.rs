//! `Listener`: accepts connections.
//!
//! A connection in a full accept queue looks established to the remote and is not. So the queue is
//! deep, and at every wake-up all of it is accepted and handed over; without a free descriptor it
//! is emptied all the same (see [`Reserve`]). And because a socket that is never polled again looks
//! healthy from inside, the node connects to itself: see [`crate::prober`].

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actix::fut::wrap_future;
use actix::{Actor, ActorContext, AsyncContext, Context, Handler};
use handfast_proto::lifecycle::Direction;
use rustix::io::Errno;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::accept_queue;
use crate::acceptor::Acceptor;
use crate::clock::Clock;
use crate::config::StartError;
use crate::connector::messages::StopAccepting;
use crate::critical_guard::CriticalGuard;
use crate::descriptors::Reserve;
use crate::listening_socket::{
    Accepted, ListenAddress, ListeningSocket, ListeningSockets, Registration,
};
use crate::prober;

/// The name of the sockets for peers.
use crate::listening_socket::PEERS as NAME;

/// First pause when the system has no descriptor or memory for another socket.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Most connections that are closed without a free descriptor before accepting pauses.
const MAX_DROPPED_AT_ONCE: usize = 4_096;
/// Time that a pending connection waits for a slot when none is free. While connections are ending
/// a slot is freed within milliseconds; if none is in this time, the managers are late.
const SLOT_WAIT: Duration = Duration::from_millis(250);
/// Least time between two log lines about pauses: remotes can cause them.
const LOG_INTERVAL: Duration = Duration::from_secs(600);

/// Binds one listening socket. Touches no file.
pub(crate) fn bind(addr: SocketAddr, backlog: u32) -> Result<TcpListener, StartError> {
    let listen = || -> io::Result<TcpListener> {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
        // A restart must not wait until connections of the last run time out.
        socket.set_reuse_address(true)?;
        if addr.is_ipv6() {
            // Allows to listen on both 0.0.0.0 and [::].
            socket.set_only_v6(true)?;
        }
        socket.set_nonblocking(true)?;
        // Small messages in both directions, which Nagle's algorithm would delay. Linux gives the
        // option to accepted sockets.
        socket.set_tcp_nodelay(true)?;
        socket.bind(&SockAddr::from(addr))?;
        socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
        Ok(socket.into())
    };
    listen().map_err(|source| StartError::Listen { addr, source })
}

/// A request to close the socket and open it again.
type Reopen = oneshot::Sender<Result<(), String>>;

/// A bound socket, in the registry, on which nothing accepts yet.
#[derive(Debug)]
pub(crate) struct Bound {
    socket: TcpListener,
    listening: Arc<ListeningSocket>,
    reopen: mpsc::Receiver<Reopen>,
}

impl Bound {
    /// Adds the socket to the registry.
    pub(crate) fn new(
        socket: TcpListener,
        backlog: u32,
        listening_sockets: &ListeningSockets,
    ) -> Self {
        let addr = socket.local_addr();
        let addr = addr.expect("the system knows the address of a bound socket");
        // One: the prober waits for the answer before its next request.
        let (request, reopen) = mpsc::channel::<Reopen>(1);
        let recreate = move || {
            let request = request.clone();
            let made: crate::listening_socket::Recreated = Box::pin(async move {
                let (answer, wait) = oneshot::channel();
                let gone = || "accepting on this socket has ended".to_owned();
                request.send(answer).await.map_err(|_| gone())?;
                wait.await.map_err(|_| gone())?
            });
            made
        };
        let listening = listening_sockets.register(Registration {
            name: NAME,
            address: ListenAddress::Tcp(addr),
            backlog,
            recreate: Box::new(recreate),
        });
        Self {
            socket,
            listening,
            reopen,
        }
    }

    fn addr(&self) -> SocketAddr {
        match self.listening.address() {
            ListenAddress::Tcp(addr) => *addr,
            ListenAddress::Unix(path) => unreachable!("{} is no TCP socket", path.display()),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Listener {
    bound: Vec<Bound>,
    listening_sockets: ListeningSockets,
    acceptor: Acceptor,
    clock: Clock,
    critical_guard: CriticalGuard,
}

impl Listener {
    pub(crate) fn new(
        bound: Vec<Bound>,
        listening_sockets: ListeningSockets,
        acceptor: Acceptor,
        clock: Clock,
        critical_guard: CriticalGuard,
    ) -> Self {
        Self {
            bound,
            listening_sockets,
            acceptor,
            clock,
            critical_guard,
        }
    }
}

impl Actor for Listener {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        warn_of_cap(&self.bound);
        let reserve = Rc::new(Reserve::new());
        for bound in std::mem::take(&mut self.bound) {
            let (acceptor, reserve) = (self.acceptor.clone(), reserve.clone());
            ctx.spawn(wrap_future(reopen_and_accept(bound, acceptor, reserve)));
        }
        ctx.spawn(wrap_future(prober::run(
            self.listening_sockets.clone(),
            self.clock,
        )));
    }
}

impl Handler<StopAccepting> for Listener {
    type Result = ();

    fn handle(&mut self, _: StopAccepting, ctx: &mut Self::Context) {
        self.critical_guard.disarm();
        self.acceptor.close();
        ctx.stop();
    }
}

/// Logs once that the system grants a smaller queue than requested.
fn warn_of_cap(bound: &[Bound]) {
    let capped = bound.iter().find_map(|bound| {
        let granted = accept_queue::of(bound.socket.as_fd())?.granted;
        let asked = bound.listening.backlog();
        (granted < asked).then_some((asked, granted))
    });
    if let Some((asked, granted)) = capped {
        tracing::warn!(
            asked,
            granted,
            "the system caps the accept queue, connections beyond it are dropped by the system; raise net.core.somaxconn (sysctl -w net.core.somaxconn={asked}), or ask for less with --backlog"
        );
    }
}

/// Publishes a socket in the registry, until dropped.
struct Published<'a>(&'a ListeningSocket);

impl<'a> Published<'a> {
    fn new(listening: &'a ListeningSocket, socket: &Arc<TcpListener>) -> Self {
        listening.set_socket(Some(socket.clone()));
        Self(listening)
    }
}

impl Drop for Published<'_> {
    fn drop(&mut self) {
        self.0.set_socket(None);
    }
}

/// Accepts at one address until dropped, on a new socket when the prober requests one.
async fn reopen_and_accept(mut bound: Bound, acceptor: Acceptor, reserve: Rc<Reserve>) {
    let addr = bound.addr();
    let backlog = bound.listening.backlog();
    let mut socket = Some(bound.socket);
    loop {
        let request = match socket.take().map(Arc::new) {
            Some(socket) => {
                let _published = Published::new(&bound.listening, &socket);
                tokio::select! {
                    biased;
                    request = bound.reopen.recv() => request,
                    () = accept(socket, &bound.listening, &acceptor, &reserve) => None,
                }
            }
            None => bound.reopen.recv().await,
        };
        // The socket is closed by now: its address is free for the next one.
        let Some(answer) = request else { return };
        let result = match bind(addr, backlog) {
            Ok(made) => {
                socket = Some(made);
                Ok(())
            }
            Err(error) => Err(error.to_string()),
        };
        let _ = answer.send(result);
    }
}

/// Why no connection could be accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AcceptError {
    /// The queue is empty.
    Empty,
    /// This connection is gone, or was never complete; the next one may be there.
    Gone,
    /// One was accepted, and no slot is free for it.
    Slots,
    /// No descriptor is free.
    Descriptors,
    /// The system has no memory for it.
    Memory,
    /// An error that a healthy listening socket does not return.
    Broken,
}

impl AcceptError {
    fn of(error: &io::Error) -> Self {
        match Errno::from_io_error(error) {
            Some(Errno::AGAIN) => Self::Empty,
            Some(Errno::MFILE | Errno::NFILE) => Self::Descriptors,
            Some(Errno::NOBUFS | Errno::NOMEM) => Self::Memory,
            // An error of the connection, not of the socket: it was closed while queued, a firewall
            // rejected it, or Linux passes on a pending network error (accept(2)).
            Some(
                Errno::CONNABORTED
                | Errno::INTR
                | Errno::PERM
                | Errno::PROTO
                | Errno::NOPROTOOPT
                | Errno::NETDOWN
                | Errno::NETUNREACH
                | Errno::HOSTDOWN
                | Errno::HOSTUNREACH,
            ) => Self::Gone,
            _ => Self::Broken,
        }
    }
}

/// Accepts on one socket until dropped.
async fn accept(
    socket: Arc<TcpListener>,
    listening: &ListeningSocket,
    acceptor: &Acceptor,
    reserve: &Reserve,
) {
    // Its unsafe successor requires a promise about the type's file descriptor, which holds for a
    // listener of the standard library.
    #[allow(
        deprecated,
        reason = "sound for this type, and this file has no unsafe code"
    )]
    let socket = AsyncFd::new(socket)
        .expect("an arbiter has a reactor, and a listening socket can be polled");
    let mut pause = FIRST_PAUSE;
    let mut logged: Option<Instant> = None;
    let mut caller = None;
    loop {
        let Ok(mut ready) = socket.readable().await else {
            return;
        };
        let (cause, error) = drain(socket.get_ref(), listening, acceptor, &mut caller);
        match cause {
            AcceptError::Slots => {
                wait_for_slot(&mut caller, socket.get_ref(), listening, acceptor).await;
                continue;
            }
            AcceptError::Empty | AcceptError::Gone => {
                pause = FIRST_PAUSE;
                reserve.fill();
                ready.clear_ready();
                continue;
            }
            AcceptError::Descriptors => {
                if drop_pending(socket.get_ref(), listening, reserve) {
                    // The queue is empty; the next connection is noticed.
                    pause = FIRST_PAUSE;
                    ready.clear_ready();
                }
            }
            AcceptError::Memory => {}
            AcceptError::Broken => {
                tracing::debug!(at = %listening.address(), %error, "accepting fails");
                listening.suspect();
                tokio::time::sleep(LONGEST_PAUSE).await;
                continue;
            }
        }
        // Accepting again at once would spin.
        listening.pauses.fetch_add(1, Ordering::Relaxed);
        if logged.is_none_or(|at| at.elapsed() >= LOG_INTERVAL) {
            logged = Some(Instant::now());
            tracing::warn!(at = %listening.address(), %error, "cannot accept connections and closes them; raise the limit on open files (ulimit -n)");
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// A connection that was taken out of the queue.
type Caller = (TcpStream, SocketAddr);

/// Accepts everything in the queue; returns what stopped it. A connection without a slot is left in
/// `caller`.
fn drain(
    socket: &TcpListener,
    listening: &ListeningSocket,
    acceptor: &Acceptor,
    caller: &mut Option<Caller>,
) -> (AcceptError, io::Error) {
    loop {
        let (stream, remote) = match accept_one(socket) {
            Ok(accepted) => accepted,
            Err(error) => match AcceptError::of(&error) {
                AcceptError::Gone => continue,
                cause => return (cause, error),
            },
        };
        if listening.on_accept(Some(remote)) == Accepted::SelfProbe {
            continue;
        }
        if acceptor.is_banned(remote) {
            listening.banned.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(%remote, "banned; closed");
            continue;
        }
        match acceptor.slots.take(Direction::Inbound) {
            Some(slot) => acceptor.accepted(stream, remote, slot),
            // No use in waiting: the operator switched the network off.
            None if !acceptor.slots.is_active() => no_slot(listening, stream, remote),
            None => {
                *caller = Some((stream, remote));
                return (AcceptError::Slots, io::ErrorKind::WouldBlock.into());
            }
        }
    }
}

/// Waits for a slot for the pending connection; later ones wait in the accept queue, which is deep
/// for that. Without a slot in time it is closed, and all that wait with it.
///
/// # Security
/// If a connection without a slot were closed at once, a flood that reconnects faster than its
/// disconnections are handled would have honest peers refused too. This way the flood waits for its
/// own disconnections, and every connection gets its turn.
async fn wait_for_slot(
    caller: &mut Option<Caller>,
    socket: &TcpListener,
    listening: &ListeningSocket,
    acceptor: &Acceptor,
) {
    let slot = tokio::time::timeout(SLOT_WAIT, acceptor.slots.next(Direction::Inbound)).await;
    match (slot, caller.take()) {
        (Ok(slot), Some((stream, remote))) if acceptor.slots.is_active() => {
            acceptor.accepted(stream, remote, slot);
        }
        (Ok(_), None) => {}
        (Ok(_) | Err(_), mut waits) => {
            while let Some((stream, remote)) = waits.take() {
                no_slot(listening, stream, remote);
                let _ = drain(socket, listening, acceptor, &mut waits);
            }
        }
    }
}

fn no_slot(listening: &ListeningSocket, stream: TcpStream, remote: SocketAddr) {
    listening.no_slot.fetch_add(1, Ordering::Relaxed);
    tracing::debug!(%remote, "no slot is free; closed");
    close_with_fin(stream);
}

/// Empties the queue without a free descriptor: each connection is accepted with the reserve, and
/// closed. Returns whether it is empty; another thread may have taken the descriptor first.
///
/// Linux allocates the descriptor before it looks into the queue: without one, an empty queue
/// returns an error too.
fn drop_pending(socket: &TcpListener, listening: &ListeningSocket, reserve: &Reserve) -> bool {
    let mut empty = false;
    reserve.release();
    for _ in 0..MAX_DROPPED_AT_ONCE {
        let (stream, remote) = match accept_one(socket) {
            Ok(accepted) => accepted,
            Err(error) => match AcceptError::of(&error) {
                AcceptError::Gone => continue,
                cause => {
                    empty = cause == AcceptError::Empty;
                    break;
                }
            },
        };
        if listening.on_accept(Some(remote)) == Accepted::Connection {
            listening.no_descriptor.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(%remote, "no descriptor is free; closed");
            close_with_fin(stream);
        }
    }
    reserve.fill();
    empty
}

/// Closes a connection with FIN instead of RST: received data is read first, since closing with
/// unread data resets the connection.
fn close_with_fin(stream: TcpStream) {
    let mut unread = [0; 1_024];
    let _ = io::Read::read(&mut &stream, &mut unread);
}

/// Accepts one connection, ready for [`Acceptor::accepted`], in one system call: a churning remote
/// causes thousands a second.
#[cfg(target_os = "linux")]
fn accept_one(socket: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    use rustix::net::{SocketFlags, acceptfrom_with};

    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let (stream, remote) = acceptfrom_with(socket, flags)?;
    let remote = remote.and_then(|remote| SocketAddr::try_from(remote).ok());
    // Another part of the process replaced the descriptor by another kind of socket.
    let remote = remote.ok_or_else(|| io::Error::from(Errno::NOTSOCK))?;
    Ok((stream.into(), remote))
}

/// Accepts one connection.
#[cfg(not(target_os = "linux"))]
fn accept_one(socket: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    let (stream, remote) = socket.accept()?;
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)?;
    Ok((stream, remote))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_accept_is_one_of_the_connection_the_system_or_the_socket() {
        let cause = |errno: Errno| AcceptError::of(&errno.into());
        assert_eq!(cause(Errno::AGAIN), AcceptError::Empty);
        assert_eq!(cause(Errno::CONNABORTED), AcceptError::Gone);
        assert_eq!(cause(Errno::HOSTUNREACH), AcceptError::Gone);
        assert_eq!(cause(Errno::MFILE), AcceptError::Descriptors);
        assert_eq!(cause(Errno::NFILE), AcceptError::Descriptors);
        assert_eq!(cause(Errno::NOBUFS), AcceptError::Memory);
        assert_eq!(cause(Errno::NOMEM), AcceptError::Memory);
        for broken in [Errno::INVAL, Errno::BADF, Errno::NOTSOCK, Errno::OPNOTSUPP] {
            assert_eq!(cause(broken), AcceptError::Broken, "{broken:?}");
        }
        let unknown = io::Error::other("no error of the system");
        assert_eq!(AcceptError::of(&unknown), AcceptError::Broken);
    }
}
