//! An honest peer for a moment: dials, shakes hands, asks, leaves.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use handfast_wire::{Codec, Message};

use crate::voice::{Dialect, PROTOCOL_VERSION, honest_version};

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
    /// Any other error of the system.
    #[error("{0}")]
    Io(String),
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
pub struct Visitor {
    stream: TcpStream,
    codec: Codec,
    buffer: BytesMut,
    deadline: Instant,
    patience: Duration,
    magic: bitcoin::p2p::Magic,
    /// What the target said of itself.
    pub introduction: Introduction,
    /// From `connect()` to its `verack`.
    pub handshake: Duration,
}

impl Visitor {
    /// Dials and shakes hands, within `patience`. `nonce` must be unlike the target's.
    ///
    /// # Errors
    /// Why not.
    pub fn dial(
        target: SocketAddr,
        dialect: &Dialect,
        nonce: u64,
        patience: Duration,
    ) -> Result<Self, VisitError> {
        let begun = Instant::now();
        let stream =
            TcpStream::connect_timeout(&target, patience).map_err(|error| match error.kind() {
                io::ErrorKind::ConnectionRefused => VisitError::Refused,
                io::ErrorKind::TimedOut => VisitError::NoConnection(patience),
                _ => VisitError::Io(error.to_string()),
            })?;
        let failed = |error: io::Error| VisitError::Io(error.to_string());
        stream.set_nodelay(true).map_err(failed)?;
        stream.set_write_timeout(Some(patience)).map_err(failed)?;
        let magic = dialect.bitcoin_magic();
        let mut visitor = Self {
            stream,
            codec: Codec::new(magic),
            buffer: BytesMut::new(),
            deadline: begun + patience,
            patience,
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
        visitor.handshake = begun.elapsed();
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

    /// Whatever follows must be there in so long.
    pub fn within(&mut self, patience: Duration) {
        self.patience = patience;
        self.deadline = Instant::now() + patience;
    }

    /// Sends a message.
    ///
    /// # Errors
    /// The target is gone, or does not read.
    pub fn send(&mut self, message: &Message) -> Result<(), VisitError> {
        let encoded = message.encode(self.magic);
        let all = [&encoded.head[..], &encoded.body[..]].concat();
        self.stream
            .write_all(&all)
            .map_err(|_| VisitError::Closed("while we wrote"))
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

    fn read(&mut self, when: &'static str) -> Result<(), VisitError> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        // A read timeout of zero would be none at all.
        let left = left.max(Duration::from_millis(1));
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
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                    VisitError::Silent(self.patience)
                }
                io::ErrorKind::Interrupted => return Ok(()),
                _ => VisitError::Closed(when),
            }),
        }
    }
}
