//! An honest peer: connects, completes the handshake, sends requests, disconnects.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use bytes::BytesMut;
use handfast_wire::{Codec, Message};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use socket2::{Domain, Socket, Type};

use super::wait::Wait;
use crate::writer::{PROTOCOL_VERSION, PeerParams, honest_version};

/// Interval of checking whether the run is to stop.
const PIECE: Duration = Duration::from_millis(200);

/// Why an honest peer failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HonestPeerError {
    /// Nothing listens there.
    #[error("connection refused")]
    Refused,
    /// `connect()` had no answer in time.
    #[error("no answer to connect within {} s", .0.as_secs())]
    NoConnection(Duration),
    /// The connection was made, and then nothing was received.
    #[error("connected, but no answer within {} s", .0.as_secs())]
    Silent(Duration),
    /// The target closed or reset in the middle.
    #[error("closed by the target {0}")]
    Closed(&'static str),
    /// Its messages are not of this network.
    #[error("its messages are not of this network: {0}")]
    Foreign(String),
    /// Nothing was received before the run was stopped.
    #[error("the run was ended before there was an answer")]
    Ended,
    /// Any other error of the system.
    #[error("{0}")]
    Io(String),
}

impl HonestPeerError {
    /// Nothing was received within `wait`.
    pub(super) fn silent(wait: &Wait<'_>) -> Self {
        match wait.is_cut() {
            true => Self::Ended,
            false => Self::Silent(wait.took()),
        }
    }
}

/// Target and source address of an honest peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The target's socket for peers.
    pub target: SocketAddr,
    /// An address of this machine; `None`: the system chooses.
    pub source: Option<IpAddr>,
}

/// The contents of the target's `version`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionInfo {
    /// BIP14 user agent.
    pub user_agent: String,
    /// Protocol version.
    pub version: i32,
    /// Its height.
    pub height: i32,
}

/// A connection whose handshake is complete.
#[derive(Debug)]
pub struct HonestPeer<'a> {
    stream: TcpStream,
    codec: Codec,
    buffer: BytesMut,
    wait: Wait<'a>,
    /// Time for writes: that of all requests together.
    whole: Wait<'a>,
    magic: bitcoin::p2p::Magic,
    /// The target's `version`.
    pub version_info: VersionInfo,
    /// From `connect()` to its `verack`.
    pub handshake: Duration,
}

impl<'a> HonestPeer<'a> {
    /// Connects and completes the handshake, within `wait`. `nonce` must differ from the
    /// target's.
    ///
    /// # Errors
    /// Why not.
    pub fn dial(
        route: Route,
        params: &PeerParams,
        nonce: u64,
        wait: Wait<'a>,
    ) -> Result<Self, HonestPeerError> {
        // Its own wait, if it is one of several tries.
        let wait = wait.shorter(Duration::MAX);
        let stream = connect(route, wait).map_err(|error| match error.kind() {
            io::ErrorKind::ConnectionRefused => HonestPeerError::Refused,
            io::ErrorKind::TimedOut if wait.is_cut() => HonestPeerError::Ended,
            io::ErrorKind::TimedOut => HonestPeerError::NoConnection(wait.took()),
            _ => HonestPeerError::Io(error.to_string()),
        })?;
        let failed = |error: io::Error| HonestPeerError::Io(error.to_string());
        stream.set_nodelay(true).map_err(failed)?;
        let magic = params.bitcoin_magic();
        let mut honest_peer = Self {
            stream,
            codec: Codec::new(magic),
            buffer: BytesMut::new(),
            wait,
            whole: wait,
            magic,
            version_info: VersionInfo {
                user_agent: String::new(),
                version: PROTOCOL_VERSION,
                height: 0,
            },
            handshake: Duration::ZERO,
        };
        honest_peer.send(&honest_version(params, nonce))?;
        honest_peer.complete_handshake()?;
        honest_peer.handshake = wait.took();
        Ok(honest_peer)
    }

    fn complete_handshake(&mut self) -> Result<(), HonestPeerError> {
        loop {
            match self.receive("during the handshake")? {
                Message::Version(version) => {
                    self.version_info = VersionInfo {
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

    /// Sets the time for what follows.
    pub fn within(&mut self, wait: Wait<'a>) {
        self.wait = wait;
    }

    /// Sends a message.
    ///
    /// # Errors
    /// The target has closed, or does not read.
    pub fn send(&mut self, message: &Message) -> Result<(), HonestPeerError> {
        let encoded = message.encode(self.magic);
        self.write(&encoded)
    }

    /// In pieces: a target that takes one byte a second must not restart the timeout with each of
    /// them.
    fn write(&mut self, mut bytes: &[u8]) -> Result<(), HonestPeerError> {
        while !bytes.is_empty() {
            if self.whole.is_over() {
                return Err(HonestPeerError::silent(&self.whole));
            }
            // A timeout of zero would be none at all.
            let left = self.whole.left().clamp(Duration::from_millis(1), PIECE);
            let failed = |error: io::Error| HonestPeerError::Io(error.to_string());
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
                Ok(_) | Err(_) => return Err(HonestPeerError::Closed("while we wrote")),
            }
        }
        Ok(())
    }

    /// The next message. Pings are answered on the way.
    ///
    /// # Errors
    /// None was received in time, or it was invalid.
    pub fn receive(&mut self, when: &'static str) -> Result<Message, HonestPeerError> {
        loop {
            let frame = self.codec.next_frame(&mut self.buffer);
            let frame = frame.map_err(|error| HonestPeerError::Foreign(error.to_string()))?;
            match frame.map(|frame| frame.message) {
                Some(Ok(Message::Ping(nonce))) => self.send(&Message::Pong(nonce))?,
                Some(Ok(message)) => return Ok(message),
                Some(Err(error)) => return Err(HonestPeerError::Foreign(error.to_string())),
                None => self.read(when)?,
            }
        }
    }

    /// The same for a peer without new headers: `getheaders` is answered with none, as honest
    /// peers do. Bitcoin Core sends a peer no other request while one is unanswered.
    ///
    /// # Errors
    /// See [`Self::receive`].
    pub(super) fn receive_up_to_date(
        &mut self,
        when: &'static str,
    ) -> Result<Message, HonestPeerError> {
        loop {
            match self.receive(when)? {
                Message::GetHeaders(_) => self.send(&Message::Headers(Vec::new()))?,
                message => return Ok(message),
            }
        }
    }

    fn read(&mut self, when: &'static str) -> Result<(), HonestPeerError> {
        // Also for a target that sends messages without a pause, but never the answer.
        if self.wait.is_over() {
            return Err(HonestPeerError::silent(&self.wait));
        }
        // A read timeout of zero would be none at all.
        let left = self.wait.left().clamp(Duration::from_millis(1), PIECE);
        let failed = |error: io::Error| HonestPeerError::Io(error.to_string());
        self.stream.set_read_timeout(Some(left)).map_err(failed)?;
        let mut chunk = [0; 64 * 1024];
        match self.stream.read(&mut chunk) {
            Ok(0) => Err(HonestPeerError::Closed(when)),
            Ok(read) => {
                self.buffer.extend_from_slice(&chunk[..read]);
                Ok(())
            }
            Err(error) => Err(match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut if self.wait.is_over() => {
                    HonestPeerError::silent(&self.wait)
                }
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => return Ok(()),
                io::ErrorKind::Interrupted => return Ok(()),
                _ => HonestPeerError::Closed(when),
            }),
        }
    }
}

/// Connects within `wait`. The system would wait longer, even if the run is to stop.
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

/// Whether it can be written, after one polling interval at most.
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

    /// Completes the handshake, and then sends pings without a pause.
    fn chatterbox(params: PeerParams) -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port on loopback");
        let address = listener.local_addr().expect("it is bound");
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("it comes");
            let mut say = |message: &Message| {
                let encoded = message.encode(params.bitcoin_magic());
                stream.write_all(&encoded)
            };
            let mut said = say(&honest_version(&params, 1)).and_then(|()| say(&Message::Verack));
            while said.is_ok() {
                said = say(&Message::Ping(7));
            }
        });
        address
    }

    #[test]
    fn a_target_that_sends_without_a_pause_gets_no_more_time_than_a_silent_one() {
        let params = PeerParams::new(&Network::Regtest, 1_700_000_000);
        let stop = AtomicBool::new(false);
        let wait = Wait::new(Duration::from_secs(20), &stop);
        let route = Route {
            target: chatterbox(params.clone()),
            source: None,
        };
        let mut honest_peer = HonestPeer::dial(route, &params, 2, wait).expect("it shakes hands");
        honest_peer.within(Wait::new(Duration::from_millis(300), &stop));
        let error = honest_peer
            .receive("while it talked")
            .expect_err("nothing but pings");
        assert!(matches!(error, HonestPeerError::Silent(_)), "{error}");
    }
}
