//! The accept queue of a listening socket, as one of its workers sees it.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::{TcpStream, UdpSocket, UnixStream};

use super::connection::Stream;

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
    First(L, Watched),
    WhenOverdue(L),
}

/// A copy of a listening socket's descriptor, in the thread's event loop. Accepting by a
/// listener of tokio would do for the first worker, but takes a caller out of the queue to
/// see that there is one, which the second must not.
///
/// A datagram socket in name only: it is the one kind whose readiness tokio tells without
/// anything else that it takes for granted.
#[derive(Debug)]
pub(super) struct Watched(UdpSocket);

impl Watched {
    fn new(socket: &impl AsFd) -> io::Result<Self> {
        let copy = socket.as_fd().try_clone_to_owned()?;
        Ok(Self(UdpSocket::from_std(copy.into())?))
    }

    /// Waits until somebody is in the queue, or was since it was last found empty.
    async fn readable(&self) -> io::Result<()> {
        self.0.readable().await
    }

    /// The queue was found empty.
    fn is_empty(&self) {
        let empty = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
        // The error is the one that is made here.
        let _ = self.0.try_io(Interest::READABLE, empty);
    }
}

impl<L: Listening> Queue<L> {
    /// `socket` must not block.
    ///
    /// # Errors
    /// Of the system, which may have no more to watch sockets with.
    pub(super) fn new(socket: L, turn: Turn) -> io::Result<Self> {
        Ok(match turn {
            Turn::First => {
                let watched = Watched::new(&socket)?;
                Self::First(socket, watched)
            }
            Turn::WhenOverdue => Self::WhenOverdue(socket),
        })
    }

    fn socket(&self) -> &L {
        match self {
            Self::First(socket, _) | Self::WhenOverdue(socket) => socket,
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

    /// Waits until it is this worker's turn to look into the queue, which was empty.
    async fn turn(&self) -> io::Result<()> {
        match self {
            Self::First(_, watched) => {
                // Who came since then is told by a new event.
                watched.is_empty();
                watched.readable().await?;
            }
            Self::WhenOverdue(socket) => {
                // Watched for the first who comes. To be woken by all others too, only to
                // leave them to the first worker, would cost them more than it is worth.
                let watched = Watched::new(socket)?;
                watched.readable().await?;
                drop(watched);
                tokio::time::sleep(OVERDUE).await;
            }
        }
        Ok(())
    }
}

/// A socket that callers come by.
pub(super) trait Listening: AsFd {
    /// A connection that nobody reads yet.
    type Accepted;
    type Stream: Stream;

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
