//! The accept queue of a listening socket, as one worker sees it.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::{TcpStream, UdpSocket, UnixStream};

use super::connection::Stream;

/// Time in the accept queue after which the second worker accepts. A burst of hundreds takes less
/// than half of that.
pub(super) const OVERFLOW_AFTER: Duration = Duration::from_millis(50);

/// When a worker accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// As soon as a connection is in the queue.
    Primary,
    /// When a connection has been in the queue for [`OVERFLOW_AFTER`].
    Overflow,
}

/// A listening socket, and how the worker waits for connections.
#[derive(Debug)]
pub(super) enum Queue<L: Listening> {
    Primary(L, Watched),
    Overflow(L),
}

/// A copy of a listening socket's descriptor, in the thread's event loop. A tokio listener cannot
/// wait for a connection without accepting it, and the second worker must leave it in the queue.
///
/// It is a datagram socket in name only: tokio reports the readiness of that type without
/// assuming anything else.
#[derive(Debug)]
pub(super) struct Watched(UdpSocket);

impl Watched {
    fn new(socket: &impl AsFd) -> io::Result<Self> {
        let copy = socket.as_fd().try_clone_to_owned()?;
        Ok(Self(UdpSocket::from_std(copy.into())?))
    }

    /// Waits until a connection is in the queue, or was since it was last found empty.
    async fn readable(&self) -> io::Result<()> {
        self.0.readable().await
    }

    /// Records that the queue was found empty.
    fn is_empty(&self) {
        let empty = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
        // The error is the one made here.
        let _ = self.0.try_io(Interest::READABLE, empty);
    }
}

impl<L: Listening> Queue<L> {
    /// `socket` must not block.
    ///
    /// # Errors
    /// The system has no more resources to watch sockets with.
    pub(super) fn new(socket: L, role: Role) -> io::Result<Self> {
        Ok(match role {
            Role::Primary => {
                let watched = Watched::new(&socket)?;
                Self::Primary(socket, watched)
            }
            Role::Overflow => Self::Overflow(socket),
        })
    }

    fn socket(&self) -> &L {
        match self {
            Self::Primary(socket, _) | Self::Overflow(socket) => socket,
        }
    }

    /// The next connection and its remote address. Dropping the future loses none.
    ///
    /// # Errors
    /// Those of `accept`.
    pub(super) async fn next(&self) -> io::Result<(L::Accepted, Option<SocketAddr>)> {
        loop {
            match self.socket().accept() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.role().await?,
                accepted => return accepted,
            }
        }
    }

    /// The connections that are in the queue now, as far as they can be accepted.
    pub(super) fn last(&self) -> impl Iterator<Item = (L::Accepted, Option<SocketAddr>)> {
        std::iter::from_fn(|| self.socket().accept().ok())
    }

    /// Waits until this worker is to look into the queue, which was empty.
    async fn role(&self) -> io::Result<()> {
        match self {
            Self::Primary(_, watched) => {
                // Connections since then raise a new event.
                watched.is_empty();
                watched.readable().await?;
            }
            Self::Overflow(socket) => {
                // Watched for the first connection only: to wake for all others, and leave them
                // to the first worker, would cost more than it is worth.
                let watched = Watched::new(socket)?;
                watched.readable().await?;
                drop(watched);
                tokio::time::sleep(OVERFLOW_AFTER).await;
            }
        }
        Ok(())
    }
}

/// A listening socket of the RPC server.
pub(super) trait Listening: AsFd {
    /// An accepted connection that is not registered with the event loop.
    type Accepted;
    type Stream: Stream;

    /// Accepts the next connection, without waiting, with its remote address; `None` for the Unix
    /// socket, whose file mode authenticates.
    fn accept(&self) -> io::Result<(Self::Accepted, Option<SocketAddr>)>;

    /// Registers the connection with the event loop.
    fn open(accepted: Self::Accepted) -> io::Result<Self::Stream>;

    /// Writes `last` and closes the connection, unread.
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
        // A new socket's send buffer takes it. The error of a closed connection does not matter.
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
