//! The accept queue of a listening socket, as one of its workers sees it.
#![allow(
    unsafe_code,
    reason = "what tokio has for listening sockets takes a caller out of the queue to see that there is one"
)]

use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest};
use tokio::net::{TcpStream, UnixStream};

/// Time in the queue after which the second worker takes callers in. A burst of hundreds is
/// through in less than half of that.
pub(super) const OVERDUE: Duration = Duration::from_millis(50);

/// When a worker accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// As soon as somebody is in the queue.
    First,
    /// When somebody has been in the queue for [`OVERDUE`].
    WhenOverdue,
}

/// A socket, and how those who come are noticed.
#[derive(Debug)]
pub(super) enum Queue<L: Listening> {
    First(AsyncFd<L>),
    WhenOverdue(L),
}

/// Registers a listening socket with the thread's event loop.
fn watch<L: AsRawFd>(socket: L) -> io::Result<AsyncFd<L>> {
    // SAFETY: `L` is one of the two listening sockets of the standard library or a borrow of
    // one. Their descriptor is always the same, and open until they are dropped, which
    // `AsyncFd` does after it has taken it out of the event loop.
    Ok(unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }?)
}

impl<L: Listening> Queue<L> {
    /// `socket` must not block.
    ///
    /// # Errors
    /// Of the system, which may have no more to watch sockets with.
    pub(super) fn new(socket: L, turn: Turn) -> io::Result<Self> {
        Ok(match turn {
            Turn::First => Self::First(watch(socket)?),
            Turn::WhenOverdue => Self::WhenOverdue(socket),
        })
    }

    fn socket(&self) -> &L {
        match self {
            Self::First(socket) => socket.get_ref(),
            Self::WhenOverdue(socket) => socket,
        }
    }

    /// The next caller, and where it comes from. Nobody is lost when this is dropped.
    ///
    /// # Errors
    /// Of `accept`.
    pub(super) async fn next(&self) -> io::Result<(L::Accepted, Option<SocketAddr>)> {
        loop {
            match self.socket().accept() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.turn().await?,
                accepted => return accepted,
            }
        }
    }

    /// Those who are in the queue now, as far as they can be accepted.
    pub(super) fn last(&self) -> impl Iterator<Item = (L::Accepted, Option<SocketAddr>)> {
        std::iter::from_fn(|| self.socket().accept().ok())
    }

    /// Waits until it is this worker's turn to look into the queue.
    async fn turn(&self) -> io::Result<()> {
        match self {
            Self::First(socket) => socket.readable().await?.clear_ready(),
            Self::WhenOverdue(socket) => {
                // Watched for the first who comes. To be woken by all others too, only to
                // leave them to the first worker, would cost them more than it is worth.
                let watched = watch(socket.as_fd())?;
                drop(watched.readable().await?);
                drop(watched);
                tokio::time::sleep(OVERDUE).await;
            }
        }
        Ok(())
    }
}

/// A socket that callers come by.
pub(super) trait Listening: AsFd + AsRawFd {
    /// A connection that nobody reads yet.
    type Accepted;
    type Stream: AsyncRead + AsyncWrite + Unpin + 'static;

    /// The next caller in the queue, who is not waited for, and where it comes from. `None`:
    /// callers of this socket have no addresses, and its file's mode has let them in.
    fn accept(&self) -> io::Result<(Self::Accepted, Option<SocketAddr>)>;

    /// The connection, to be read and written.
    fn open(accepted: Self::Accepted) -> io::Result<Self::Stream>;

    /// Closes the connection, unread, with these as the last words.
    fn refuse(accepted: Self::Accepted, last: &[u8]);
}

impl Listening for std::net::TcpListener {
    type Accepted = std::net::TcpStream;
    type Stream = TcpStream;

    fn accept(&self) -> io::Result<(std::net::TcpStream, Option<SocketAddr>)> {
        let (stream, addr) = std::net::TcpListener::accept(self)?;
        stream.set_nonblocking(true)?;
        Ok((stream, Some(addr)))
    }

    fn open(accepted: std::net::TcpStream) -> io::Result<TcpStream> {
        TcpStream::from_std(accepted)
    }

    fn refuse(mut accepted: std::net::TcpStream, last: &[u8]) {
        // A new socket has room for it. Whoever has left does not read it.
        let _ = accepted.write_all(last);
    }
}

impl Listening for std::os::unix::net::UnixListener {
    type Accepted = std::os::unix::net::UnixStream;
    type Stream = UnixStream;

    fn accept(&self) -> io::Result<(Self::Accepted, Option<SocketAddr>)> {
        let (stream, _) = std::os::unix::net::UnixListener::accept(self)?;
        stream.set_nonblocking(true)?;
        Ok((stream, None))
    }

    fn open(accepted: Self::Accepted) -> io::Result<UnixStream> {
        UnixStream::from_std(accepted)
    }

    fn refuse(mut accepted: Self::Accepted, last: &[u8]) {
        let _ = accepted.write_all(last);
    }
}
