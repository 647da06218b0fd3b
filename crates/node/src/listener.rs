//! `Listener`: accepts, and nothing else.
//!
//! A full accept queue looks like a connection to the remote and is none. So the
//! queue is deep, and at every wake-up all of it is taken out and handed over.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actix::fut::wrap_future;
use actix::{Actor, ActorContext, AsyncContext, Context, Handler};
use handfast_proto::lifecycle::Direction;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::io::unix::AsyncFd;

use crate::config::StartError;
use crate::handle::Intake;
use crate::intake;
use crate::mail::StopIntake;
use crate::vital::Vital;

/// First pause when the system has no descriptor or memory for another socket.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What became of the connections that arrived.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) accepted: AtomicU64,
    /// Closed at once: the operator banned the address.
    pub(crate) banned: AtomicU64,
    /// Closed at once: no slot was free.
    pub(crate) no_slot: AtomicU64,
    /// Pauses because the system was out of descriptors or memory.
    pub(crate) exhausted: AtomicU64,
}

impl Tally {
    pub(crate) fn read(&self) -> Intake {
        Intake {
            accepted: self.accepted.load(Ordering::Relaxed),
            banned: self.banned.load(Ordering::Relaxed),
            no_slot: self.no_slot.load(Ordering::Relaxed),
            exhausted: self.exhausted.load(Ordering::Relaxed),
        }
    }
}

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

/// See the module.
#[derive(Debug)]
pub(crate) struct Listener {
    sockets: Vec<TcpListener>,
    intake: intake::Intake,
    tally: Arc<Tally>,
    vital: Vital,
}

impl Listener {
    pub(crate) fn new(
        sockets: Vec<TcpListener>,
        intake: intake::Intake,
        tally: Arc<Tally>,
        vital: Vital,
    ) -> Self {
        Self {
            sockets,
            intake,
            tally,
            vital,
        }
    }
}

impl Actor for Listener {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        for socket in std::mem::take(&mut self.sockets) {
            let intake = self.intake.clone();
            let tally = self.tally.clone();
            ctx.spawn(wrap_future(accept(socket, intake, tally)));
        }
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

/// Accepts on one socket until dropped.
async fn accept(socket: TcpListener, intake: intake::Intake, tally: Arc<Tally>) {
    // Its unsafe successor wants a promise about the type's file descriptor, which
    // holds for a listener of the standard library.
    #[allow(
        deprecated,
        reason = "sound for this type, and this crate has no unsafe code"
    )]
    let socket = AsyncFd::new(socket)
        .expect("an arbiter has a reactor, and a listening socket can be polled");
    let mut pause = FIRST_PAUSE;
    loop {
        let Ok(mut ready) = socket.readable().await else {
            return;
        };
        match drain(socket.get_ref(), &intake, &tally) {
            Ok(()) => {
                pause = FIRST_PAUSE;
                ready.clear_ready();
            }
            Err(error) => {
                // EMFILE, ENFILE, ENOBUFS, ENOMEM: accepting again at once would spin.
                if tally.exhausted.fetch_add(1, Ordering::Relaxed) == 0 {
                    tracing::warn!(%error, "cannot accept connections; raise the limit on open files (ulimit -n)");
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

/// Takes out everything that is in the accept queue.
fn drain(socket: &TcpListener, intake: &intake::Intake, tally: &Tally) -> io::Result<()> {
    loop {
        let (stream, remote) = match take_one(socket) {
            Ok(accepted) => accepted,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            // The remote left while it was queued.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted
                ) =>
            {
                continue;
            }
            Err(error) => return Err(error),
        };
        tally.accepted.fetch_add(1, Ordering::Relaxed);
        if intake.is_banned(remote) {
            tally.banned.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(%remote, "banned; closed");
            continue;
        }
        let Some(slot) = intake.slots.take(Direction::Inbound) else {
            tally.no_slot.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(%remote, "no slot is free; closed");
            continue;
        };
        intake.accepted(stream, remote, slot);
    }
}

/// Takes one connection out of the accept queue, ready for [`Intake::accepted`](intake::Intake::accepted):
/// in one system call, of which a churning remote causes thousands a second.
#[cfg(target_os = "linux")]
fn take_one(socket: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    use rustix::net::{SocketFlags, acceptfrom_with};

    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let (stream, remote) = acceptfrom_with(socket, flags)?;
    let remote = remote.and_then(|remote| SocketAddr::try_from(remote).ok());
    let remote = remote.expect("the remote end of a TCP socket is an IP address");
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
