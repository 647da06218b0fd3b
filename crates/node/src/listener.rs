//! `Listener`: accepts, and nothing else.
//!
//! A full accept queue looks like a connection to the remote and is none. So the
//! queue is deep, and at every wake-up all of it is taken out and handed over; without
//! a descriptor to take it out with, it is emptied all the same (see
//! [`Reserve`]). And because a socket that is never polled again looks like a healthy
//! one from inside, the node calls itself: see [`crate::prober`].

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
use crate::clock::Clock;
use crate::config::StartError;
use crate::connector::messages::StopIntake;
use crate::descriptors::Reserve;
use crate::entrance::{Arrival, Entrance, Entrances, Place, Registration};
use crate::intake::Intake;
use crate::prober;
use crate::vital::Vital;

/// What the sockets for peers are called.
use crate::entrance::PEERS as NAME;

/// First pause when the system has no descriptor or memory for another socket.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Connections that are closed for want of a descriptor before there is a pause, at most.
const SHED_AT_ONCE: usize = 4_096;
/// Time that a caller waits for a slot when none is free. With connections on their way
/// out one comes home within milliseconds; with none in this time the managers are late.
const SLOT_WAIT: Duration = Duration::from_millis(250);
/// Least time between two lines in the log about pauses: remotes can cause them.
const LOG_INTERVAL: Duration = Duration::from_secs(600);

/// Binds one listening socket. Touches no file.
pub(crate) fn bind(addr: SocketAddr, backlog: u32) -> Result<TcpListener, StartError> {
    let listen = || -> io::Result<TcpListener> {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
        // A restart must not wait for connections of the last run to time out.
        socket.set_reuse_address(true)?;
        if addr.is_ipv6() {
            // So that 0.0.0.0 and [::] can both be listened on.
            socket.set_only_v6(true)?;
        }
        socket.set_nonblocking(true)?;
        // Small messages in both directions; waiting for more only delays them. Linux
        // gives the option to the sockets that are accepted.
        socket.set_tcp_nodelay(true)?;
        socket.bind(&SockAddr::from(addr))?;
        socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
        Ok(socket.into())
    };
    listen().map_err(|source| StartError::Listen { addr, source })
}

/// The order to close the socket and listen anew.
type Anew = oneshot::Sender<Result<(), String>>;

/// A socket that is listened on, known to the registry, and not yet accepted on.
#[derive(Debug)]
pub(crate) struct Bound {
    socket: TcpListener,
    entrance: Arc<Entrance>,
    anew: mpsc::Receiver<Anew>,
}

impl Bound {
    /// Makes the socket known to the registry.
    pub(crate) fn new(socket: TcpListener, backlog: u32, entrances: &Entrances) -> Self {
        let addr = socket.local_addr();
        let addr = addr.expect("the system knows the address of a bound socket");
        // One: the prober waits for the answer before it asks again.
        let (order, anew) = mpsc::channel::<Anew>(1);
        let recreate = move || {
            let order = order.clone();
            let made: crate::entrance::Recreated = Box::pin(async move {
                let (answer, wait) = oneshot::channel();
                let gone = || "nobody accepts here any more".to_owned();
                order.send(answer).await.map_err(|_| gone())?;
                wait.await.map_err(|_| gone())?
            });
            made
        };
        let entrance = entrances.register(Registration {
            name: NAME,
            place: Place::Tcp(addr),
            backlog,
            recreate: Box::new(recreate),
        });
        Self {
            socket,
            entrance,
            anew,
        }
    }

    fn addr(&self) -> SocketAddr {
        match self.entrance.place() {
            Place::Tcp(addr) => *addr,
            Place::Unix(path) => unreachable!("{} is no TCP socket", path.display()),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Listener {
    bound: Vec<Bound>,
    entrances: Entrances,
    intake: Intake,
    clock: Clock,
    vital: Vital,
}

impl Listener {
    pub(crate) fn new(
        bound: Vec<Bound>,
        entrances: Entrances,
        intake: Intake,
        clock: Clock,
        vital: Vital,
    ) -> Self {
        Self {
            bound,
            entrances,
            intake,
            clock,
            vital,
        }
    }
}

impl Actor for Listener {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        warn_of_cap(&self.bound);
        let reserve = Rc::new(Reserve::new());
        for bound in std::mem::take(&mut self.bound) {
            let (intake, reserve) = (self.intake.clone(), reserve.clone());
            ctx.spawn(wrap_future(keep(bound, intake, reserve)));
        }
        ctx.spawn(wrap_future(prober::run(self.entrances.clone(), self.clock)));
    }
}

impl Handler<StopIntake> for Listener {
    type Result = ();

    fn handle(&mut self, _: StopIntake, ctx: &mut Self::Context) {
        self.vital.relieved();
        self.intake.close();
        ctx.stop();
    }
}

/// Says once that the system grants less than was asked for.
fn warn_of_cap(bound: &[Bound]) {
    let capped = bound.iter().find_map(|bound| {
        let granted = accept_queue::of(bound.socket.as_fd())?.granted;
        let asked = bound.entrance.backlog();
        (granted < asked).then_some((asked, granted))
    });
    if let Some((asked, granted)) = capped {
        tracing::warn!(
            asked,
            granted,
            "the system caps the accept queue, callers of a burst that exceeds it are dropped; raise net.core.somaxconn (sysctl -w net.core.somaxconn={asked}), or ask for less with --backlog"
        );
    }
}

/// Tells the registry of a socket, until dropped.
struct Shown<'a>(&'a Entrance);

impl<'a> Shown<'a> {
    fn new(entrance: &'a Entrance, socket: &Arc<TcpListener>) -> Self {
        entrance.listens_with(Some(socket.clone()));
        Self(entrance)
    }
}

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        self.0.listens_with(None);
    }
}

/// Accepts at one address until dropped, on a new socket whenever the prober asks for one.
async fn keep(mut bound: Bound, intake: Intake, reserve: Rc<Reserve>) {
    let addr = bound.addr();
    let backlog = bound.entrance.backlog();
    let mut socket = Some(bound.socket);
    loop {
        let order = match socket.take().map(Arc::new) {
            Some(socket) => {
                let _shown = Shown::new(&bound.entrance, &socket);
                tokio::select! {
                    biased;
                    order = bound.anew.recv() => order,
                    () = accept(socket, &bound.entrance, &intake, &reserve) => None,
                }
            }
            None => bound.anew.recv().await,
        };
        // The socket is closed by now: its address is free for the next one.
        let Some(answer) = order else { return };
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

/// Why a connection could not be taken out of the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Obstacle {
    /// There is none.
    Empty,
    /// This one is gone, or was never whole; the next one may be there.
    Gone,
    /// One was taken out, and no slot is free for it.
    Slots,
    /// No descriptor is free.
    Descriptors,
    /// The system has no memory for it.
    Memory,
    /// What no sound listening socket answers.
    Broken,
}

impl Obstacle {
    fn of(error: &io::Error) -> Self {
        match Errno::from_io_error(error) {
            Some(Errno::AGAIN) => Self::Empty,
            Some(Errno::MFILE | Errno::NFILE) => Self::Descriptors,
            Some(Errno::NOBUFS | Errno::NOMEM) => Self::Memory,
            // Of the connection, not of the socket: it left while it was queued, a firewall
            // did not let it in, or Linux tells what the network said of it (accept(2)).
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
async fn accept(socket: Arc<TcpListener>, entrance: &Entrance, intake: &Intake, reserve: &Reserve) {
    // Its unsafe successor wants a promise about the type's file descriptor, which
    // holds for a listener of the standard library.
    #[allow(
        deprecated,
        reason = "sound for this type, and this file has no unsafe code"
    )]
    let socket = AsyncFd::new(socket)
        .expect("an arbiter has a reactor, and a listening socket can be polled");
    let mut pause = FIRST_PAUSE;
    let mut told: Option<Instant> = None;
    let mut caller = None;
    loop {
        let Ok(mut ready) = socket.readable().await else {
            return;
        };
        let (obstacle, error) = drain(socket.get_ref(), entrance, intake, &mut caller);
        match obstacle {
            Obstacle::Slots => {
                settle(&mut caller, socket.get_ref(), entrance, intake).await;
                continue;
            }
            Obstacle::Empty | Obstacle::Gone => {
                pause = FIRST_PAUSE;
                reserve.fill();
                ready.clear_ready();
                continue;
            }
            Obstacle::Descriptors => {
                if shed(socket.get_ref(), entrance, reserve) {
                    // Nobody waits; the next one to come is noticed.
                    pause = FIRST_PAUSE;
                    ready.clear_ready();
                }
            }
            Obstacle::Memory => {}
            Obstacle::Broken => {
                tracing::debug!(at = %entrance.place(), %error, "accepting fails");
                entrance.suspect();
                tokio::time::sleep(LONGEST_PAUSE).await;
                continue;
            }
        }
        // Accepting again at once would spin.
        entrance.pauses.fetch_add(1, Ordering::Relaxed);
        if told.is_none_or(|at| at.elapsed() >= LOG_INTERVAL) {
            told = Some(Instant::now());
            tracing::warn!(at = %entrance.place(), %error, "cannot accept connections and closes them; raise the limit on open files (ulimit -n)");
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// One who was taken out of the queue.
type Caller = (TcpStream, SocketAddr);

/// Takes out everything that is in the accept queue; what stopped it. Whoever finds no
/// slot is left in `caller`.
fn drain(
    socket: &TcpListener,
    entrance: &Entrance,
    intake: &Intake,
    caller: &mut Option<Caller>,
) -> (Obstacle, io::Error) {
    loop {
        let (stream, remote) = match take_one(socket) {
            Ok(accepted) => accepted,
            Err(error) => match Obstacle::of(&error) {
                Obstacle::Gone => continue,
                obstacle => return (obstacle, error),
            },
        };
        if entrance.arrived(Some(remote)) == Arrival::SelfProbe {
            continue;
        }
        if intake.is_banned(remote) {
            entrance.banned.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(%remote, "banned; closed");
            continue;
        }
        match intake.slots.take(Direction::Inbound) {
            Some(slot) => intake.accepted(stream, remote, slot),
            // Nothing to wait for: the operator switched the network off.
            None if !intake.slots.is_active() => no_slot(entrance, stream, remote),
            None => {
                *caller = Some((stream, remote));
                return (Obstacle::Slots, io::ErrorKind::WouldBlock.into());
            }
        }
    }
}

/// Waits for a slot for the caller; those behind it wait in the accept queue, which is deep
/// for just that. Without one in time it is closed, and with it all who wait.
///
/// # Security
/// Were whoever finds no slot closed at once, a flood that renews itself faster than
/// its ends are handled would have honest callers closed as well. This way it waits for
/// its own ends, and everybody's turn comes.
async fn settle(
    caller: &mut Option<Caller>,
    socket: &TcpListener,
    entrance: &Entrance,
    intake: &Intake,
) {
    let slot = tokio::time::timeout(SLOT_WAIT, intake.slots.next(Direction::Inbound)).await;
    match (slot, caller.take()) {
        (Ok(slot), Some((stream, remote))) if intake.slots.is_active() => {
            intake.accepted(stream, remote, slot);
        }
        (Ok(_), None) => {}
        (Ok(_) | Err(_), mut waits) => {
            while let Some((stream, remote)) = waits.take() {
                no_slot(entrance, stream, remote);
                let _ = drain(socket, entrance, intake, &mut waits);
            }
        }
    }
}

fn no_slot(entrance: &Entrance, stream: TcpStream, remote: SocketAddr) {
    entrance.no_slot.fetch_add(1, Ordering::Relaxed);
    tracing::debug!(%remote, "no slot is free; closed");
    turn_away(stream);
}

/// Empties the queue without a descriptor to spare: each connection is taken out with the
/// reserve, and closed. Whether it is empty now; another thread may have been faster to
/// take the descriptor.
///
/// Linux looks for a descriptor before it looks into the queue: without one, an empty
/// queue gives an error as well.
fn shed(socket: &TcpListener, entrance: &Entrance, reserve: &Reserve) -> bool {
    let mut empty = false;
    reserve.release();
    for _ in 0..SHED_AT_ONCE {
        let (stream, remote) = match take_one(socket) {
            Ok(accepted) => accepted,
            Err(error) => match Obstacle::of(&error) {
                Obstacle::Gone => continue,
                obstacle => {
                    empty = obstacle == Obstacle::Empty;
                    break;
                }
            },
        };
        if entrance.arrived(Some(remote)) == Arrival::Guest {
            entrance.no_descriptor.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(%remote, "no descriptor is free; closed");
            turn_away(stream);
        }
    }
    reserve.fill();
    empty
}

/// Closes a connection so that its remote sees an end and not an error: what it has sent
/// is read first, or closing would reset the connection.
fn turn_away(stream: TcpStream) {
    let mut unread = [0; 1_024];
    let _ = io::Read::read(&mut &stream, &mut unread);
}

/// Takes one connection out of the accept queue, ready for [`Intake::accepted`]:
/// in one system call, of which a churning remote causes thousands a second.
#[cfg(target_os = "linux")]
fn take_one(socket: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    use rustix::net::{SocketFlags, acceptfrom_with};

    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let (stream, remote) = acceptfrom_with(socket, flags)?;
    let remote = remote.and_then(|remote| SocketAddr::try_from(remote).ok());
    // Somebody put another kind of socket in the place of ours.
    let remote = remote.ok_or_else(|| io::Error::from(Errno::NOTSOCK))?;
    Ok((stream.into(), remote))
}

/// Takes one connection out of the accept queue.
#[cfg(not(target_os = "linux"))]
fn take_one(socket: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
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
        let obstacle = |errno: Errno| Obstacle::of(&errno.into());
        assert_eq!(obstacle(Errno::AGAIN), Obstacle::Empty);
        assert_eq!(obstacle(Errno::CONNABORTED), Obstacle::Gone);
        assert_eq!(obstacle(Errno::HOSTUNREACH), Obstacle::Gone);
        assert_eq!(obstacle(Errno::MFILE), Obstacle::Descriptors);
        assert_eq!(obstacle(Errno::NFILE), Obstacle::Descriptors);
        assert_eq!(obstacle(Errno::NOBUFS), Obstacle::Memory);
        assert_eq!(obstacle(Errno::NOMEM), Obstacle::Memory);
        for broken in [Errno::INVAL, Errno::BADF, Errno::NOTSOCK, Errno::OPNOTSUPP] {
            assert_eq!(obstacle(broken), Obstacle::Broken, "{broken:?}");
        }
        let unknown = io::Error::other("no error of the system");
        assert_eq!(Obstacle::of(&unknown), Obstacle::Broken);
    }
}
