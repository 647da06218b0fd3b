//! An honest peer for a moment: dials, shakes hands, asks, leaves.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use bytes::BytesMut;
use handfast_wire::{Codec, Message};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use socket2::{Domain, Socket, Type};

use super::wait::Wait;
use crate::voice::{Dialect, PROTOCOL_VERSION, honest_version};

/// How often whoever waits looks whether somebody wants the run to end.
const PIECE: Duration = Duration::from_millis(200);

/// Why a visit came to nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VisitError {
    /// Nobody listens there.
    #[error("connection refused")]
    Refused,
    /// `connect()` had no answer in time.
    #[error("no answer to connect within {} s", .0.as_secs())]
    NoConnection(Duration),
    /// The connection was made, and then nothing came.
    #[error("connected, but no answer within {} s", .0.as_secs())]
    Silent(Duration),
    /// The target closed or reset in the middle.
    #[error("closed by the target {0}")]
    Closed(&'static str),
    /// What it says is not of this network.
    #[error("what it says is not of this network: {0}")]
    Foreign(String),
    /// Nothing came, and the run was ended before the time for it was over.
    #[error("the run was ended before there was an answer")]
    Ended,
    /// Any other error of the system.
    #[error("{0}")]
    Io(String),
}

impl VisitError {
    /// Nothing came while `wait` went on.
    pub(super) fn silent(wait: &Wait<'_>) -> Self {
        match wait.is_cut() {
            true => Self::Ended,
            false => Self::Silent(wait.took()),
        }
    }
}

/// Where a visit goes, and where it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The target's socket for peers.
    pub target: SocketAddr,
    /// An address of this machine; `None`: the system chooses.
    pub source: Option<IpAddr>,
}

/// What a node says of itself in its `version`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Introduction {
    /// BIP14 user agent.
    pub user_agent: String,
    /// Protocol version.
    pub version: i32,
    /// The height that it claims.
    pub height: i32,
}

/// A connection whose handshake is complete.
#[derive(Debug)]
pub struct Visitor<'a> {
    stream: TcpStream,
    codec: Codec,
    buffer: BytesMut,
    wait: Wait<'a>,
    /// How long a write may take: what the whole visit has, not a piece of it.
    whole: Wait<'a>,
    magic: bitcoin::p2p::Magic,
    /// What the target said of itself.
    pub introduction: Introduction,
    /// From `connect()` to its `verack`.
    pub handshake: Duration,
}

impl<'a> Visitor<'a> {
    /// Dials and shakes hands, while `wait` goes on. `nonce` must be unlike the target's.
    ///
    /// # Errors
    /// Why not.
    pub fn dial(
        route: Route,
        dialect: &Dialect,
        nonce: u64,
        wait: Wait<'a>,
    ) -> Result<Self, VisitError> {
        // Of its own, where it is one of several tries.
        let wait = wait.shorter(Duration::MAX);
        let stream = connect(route, wait).map_err(|error| match error.kind() {
            io::ErrorKind::ConnectionRefused => VisitError::Refused,
            io::ErrorKind::TimedOut if wait.is_cut() => VisitError::Ended,
            io::ErrorKind::TimedOut => VisitError::NoConnection(wait.took()),
            _ => VisitError::Io(error.to_string()),
        })?;
        let failed = |error: io::Error| VisitError::Io(error.to_string());
        stream.set_nodelay(true).map_err(failed)?;
        let magic = dialect.bitcoin_magic();
        let mut visitor = Self {
            stream,
            codec: Codec::new(magic),
            buffer: BytesMut::new(),
            wait,
            whole: wait,
            magic,
            introduction: Introduction {
                user_agent: String::new(),
                version: PROTOCOL_VERSION,
                height: 0,
            },
            handshake: Duration::ZERO,
        };
        visitor.send(&honest_version(dialect, nonce))?;
        visitor.shake_hands()?;
        visitor.handshake = wait.took();
        Ok(visitor)
    }

    fn shake_hands(&mut self) -> Result<(), VisitError> {
        loop {
            match self.receive("during the handshake")? {
                Message::Version(version) => {
                    self.introduction = Introduction {
                        user_agent: version.user_agent,
                        version: version.version,
                        height: version.start_height.unwrap_or(0),
                    };
                    self.send(&Message::Verack)?;
                }
                Message::Verack => return Ok(()),
                // Feature messages come between the two.
                _ => {}
            }
        }
    }

    /// Whatever follows must be there while `wait` goes on.
    pub fn within(&mut self, wait: Wait<'a>) {
        self.wait = wait;
    }

    /// Sends a message.
    ///
    /// # Errors
    /// The target is gone, or does not read.
    pub fn send(&mut self, message: &Message) -> Result<(), VisitError> {
        let encoded = message.encode(self.magic);
        self.write(&encoded)
    }

    /// Piece by piece: a target that takes one byte a second must not begin the wait anew
    /// with every one of them.
    fn write(&mut self, mut bytes: &[u8]) -> Result<(), VisitError> {
        while !bytes.is_empty() {
            if self.whole.is_over() {
                return Err(VisitError::silent(&self.whole));
            }
            // A timeout of zero would be none at all.
            let left = self.whole.left().clamp(Duration::from_millis(1), PIECE);
            let failed = |error: io::Error| VisitError::Io(error.to_string());
            self.stream.set_write_timeout(Some(left)).map_err(failed)?;
            match self.stream.write(bytes) {
                Ok(written @ 1..) => bytes = &bytes[written..],
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock
                            | io::ErrorKind::TimedOut
                            | io::ErrorKind::Interrupted
                    ) => {}
                Ok(_) | Err(_) => return Err(VisitError::Closed("while we wrote")),
            }
        }
        Ok(())
    }

    /// The next message. Answers pings on the way.
    ///
    /// # Errors
    /// None came in time, or what came was none.
    pub fn receive(&mut self, when: &'static str) -> Result<Message, VisitError> {
        loop {
            let frame = self.codec.next_frame(&mut self.buffer);
            let frame = frame.map_err(|error| VisitError::Foreign(error.to_string()))?;
            match frame.map(|frame| frame.message) {
                Some(Ok(Message::Ping(nonce))) => self.send(&Message::Pong(nonce))?,
                Some(Ok(message)) => return Ok(message),
                Some(Err(error)) => return Err(VisitError::Foreign(error.to_string())),
                None => self.read(when)?,
            }
        }
    }

    /// The same of one who has nothing that the target has not: its `getheaders` is answered, as
    /// honest peers do. Bitcoin Core asks a peer for no more while one is unanswered.
    ///
    /// # Errors
    /// See [`Self::receive`].
    pub(super) fn receive_up_to_date(&mut self, when: &'static str) -> Result<Message, VisitError> {
        loop {
            match self.receive(when)? {
                Message::GetHeaders(_) => self.send(&Message::Headers(Vec::new()))?,
                message => return Ok(message),
            }
        }
    }

    fn read(&mut self, when: &'static str) -> Result<(), VisitError> {
        // Also of one that talks without a pause, and never says what it was asked.
        if self.wait.is_over() {
            return Err(VisitError::silent(&self.wait));
        }
        // A read timeout of zero would be none at all.
        let left = self.wait.left().clamp(Duration::from_millis(1), PIECE);
        let failed = |error: io::Error| VisitError::Io(error.to_string());
        self.stream.set_read_timeout(Some(left)).map_err(failed)?;
        let mut chunk = [0; 64 * 1024];
        match self.stream.read(&mut chunk) {
            Ok(0) => Err(VisitError::Closed(when)),
            Ok(read) => {
                self.buffer.extend_from_slice(&chunk[..read]);
                Ok(())
            }
            Err(error) => Err(match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut if self.wait.is_over() => {
                    VisitError::silent(&self.wait)
                }
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => return Ok(()),
                io::ErrorKind::Interrupted => return Ok(()),
                _ => VisitError::Closed(when),
            }),
        }
    }
}

/// Connects while `wait` goes on. The system would wait on, whatever anybody wants.
fn connect(Route { target, source }: Route, wait: Wait<'_>) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    if let Some(source) = source {
        socket.bind(&SocketAddr::from((source, 0)).into())?;
    }
    match socket.connect(&target.into()) {
        Err(error) if error.raw_os_error() == Some(Errno::INPROGRESS.raw_os_error()) => {
            while !is_writable(&socket)? {
                if wait.is_over() {
                    return Err(io::ErrorKind::TimedOut.into());
                }
            }
            if let Some(error) = socket.take_error()? {
                return Err(error);
            }
        }
        done => done?,
    }
    socket.set_nonblocking(false)?;
    Ok(socket.into())
}

/// Whether it can be written, after a piece of time at most.
fn is_writable(socket: &Socket) -> io::Result<bool> {
    let piece = Timespec::try_from(PIECE).expect("a fraction of a second");
    let mut polled = [PollFd::new(socket, PollFlags::OUT)];
    match poll(&mut polled, Some(&piece)) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};
    use std::sync::atomic::AtomicBool;
    use std::thread;

    use handfast_wire::Network;

    use super::*;

    /// Shakes hands, and then talks without a pause until it is left alone.
    fn chatterbox(dialect: Dialect) -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port on loopback");
        let address = listener.local_addr().expect("it is bound");
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("it comes");
            let mut say = |message: &Message| {
                let encoded = message.encode(dialect.bitcoin_magic());
                stream.write_all(&encoded)
            };
            let mut said = say(&honest_version(&dialect, 1)).and_then(|()| say(&Message::Verack));
            while said.is_ok() {
                said = say(&Message::Ping(7));
            }
        });
        address
    }

    #[test]
    fn a_target_that_talks_without_a_pause_is_waited_for_no_longer_than_one_that_is_silent() {
        let dialect = Dialect::new(&Network::Regtest, 1_700_000_000);
        let hurry = AtomicBool::new(false);
        let wait = Wait::new(Duration::from_secs(20), &hurry);
        let route = Route {
            target: chatterbox(dialect.clone()),
            source: None,
        };
        let mut visitor = Visitor::dial(route, &dialect, 2, wait).expect("it shakes hands");
        visitor.within(Wait::new(Duration::from_millis(300), &hurry));
        let error = visitor
            .receive("while it talked")
            .expect_err("nothing but pings");
        assert!(matches!(error, VisitError::Silent(_)), "{error}");
    }
}
