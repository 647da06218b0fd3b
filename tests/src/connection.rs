//! One P2P connection held by a test, on blocking sockets.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bitcoin::p2p::ServiceFlags;
use bitcoin::p2p::address::Address;
use bytes::BytesMut;
use handfast_wire::constants::PROTOCOL_VERSION;
use handfast_wire::{Codec, Message, Network, Version};
use socket2::SockRef;

use crate::wait::PATIENCE;

/// Not zero and unlike any nonce of the node's: it must not take us for itself.
pub(crate) const NONCE: u64 = 0x6861_6e64_6661_7374;

/// The sending half, shared between threads.
#[derive(Clone, Debug)]
pub struct Sender {
    stream: Arc<TcpStream>,
    /// Held by the thread that sends: messages do not mix.
    line: Arc<Mutex<Line>>,
    network: Network,
}

/// What a line carries.
#[derive(Debug, Default)]
struct Line {
    /// Bytes a second; `None`: as fast as the socket takes them.
    rate: Option<u32>,
}

impl Line {
    /// Writes these bytes in pieces of a tenth of a second.
    #[expect(
        clippy::disallowed_methods,
        reason = "the pace of the line is what is wanted, and no condition"
    )]
    fn write(&self, mut stream: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
        let Some(rate) = self.rate else {
            return stream.write_all(bytes);
        };
        let piece = (rate as usize / 10).max(1);
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(piece.min(bytes.len()));
            stream.write_all(now)?;
            std::thread::sleep(Duration::from_secs(now.len() as u64) / rate);
            bytes = later;
        }
        Ok(())
    }
}

impl Sender {
    /// Sends one message.
    pub fn send(&self, message: &Message) -> io::Result<()> {
        let encoded = message.encode(self.network.magic());
        let line = self.line();
        line.write(&self.stream, &encoded)
    }

    /// Sends bytes that need not be a message.
    pub fn send_bytes(&self, bytes: &[u8]) -> io::Result<()> {
        self.line().write(&self.stream, bytes)
    }

    /// From now on the line carries so many bytes a second, at least one.
    pub fn throttle(&self, bytes_per_second: u32) {
        self.line().rate = Some(bytes_per_second.max(1));
    }

    /// Ends the connection in both directions, also for a thread that reads from it or sends.
    pub fn close(&self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection to the node under test.
#[derive(Debug)]
pub struct Connection {
    sender: Sender,
    stream: TcpStream,
    codec: Codec,
    buffer: BytesMut,
}

impl Connection {
    /// Takes over a connected socket.
    pub fn new(stream: TcpStream, network: &Network) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let sender = Sender {
            stream: Arc::new(stream.try_clone()?),
            line: Arc::default(),
            network: network.clone(),
        };
        Ok(Self {
            sender,
            stream,
            codec: Codec::new(network.magic()),
            buffer: BytesMut::new(),
        })
    }

    /// Connects to a node and finishes the handshake.
    pub fn dial(address: SocketAddr, network: &Network) -> io::Result<Self> {
        Self::dial_as(address, network, 0, "/handfast-tests:dialled/")
    }

    /// The same with a height to claim and a name to show.
    pub fn dial_as(
        address: SocketAddr,
        network: &Network,
        height: usize,
        user_agent: &str,
    ) -> io::Result<Self> {
        let mut connection = Self::new(TcpStream::connect(address)?, network)?;
        connection.send_version(height, user_agent)?;
        connection.finish_handshake()?;
        Ok(connection)
    }

    /// Connects to a node and says in our `version` that it was reached at `receiver`.
    pub fn dial_seeing(
        address: SocketAddr,
        network: &Network,
        receiver: SocketAddr,
    ) -> io::Result<Self> {
        let mut connection = Self::new(TcpStream::connect(address)?, network)?;
        let mut version = version(0, "/handfast-tests:seeing/", NONCE);
        if let Message::Version(version) = &mut version {
            version.receiver = Address::new(&receiver, ServiceFlags::NONE);
        }
        connection.send(&version)?;
        connection.finish_handshake()?;
        Ok(connection)
    }

    /// Sends nothing but our `version`.
    pub fn send_version(&self, height: usize, user_agent: &str) -> io::Result<()> {
        self.send(&version(height, user_agent, NONCE))
    }

    /// Answers a node that dialled us, and claims `height`.
    ///
    /// Says nothing before the node does: one that tries BIP324 first sees from an
    /// unbroken silence and a close that it has to come back in version 1.
    pub fn accept(
        stream: TcpStream,
        network: &Network,
        height: usize,
        user_agent: &str,
    ) -> io::Result<Self> {
        let mut connection = Self::new(stream, network)?;
        match connection.receive()? {
            Some(Message::Version(_)) => {}
            Some(_) | None => return Err(io::ErrorKind::InvalidData.into()),
        }
        connection.send_version(height, user_agent)?;
        connection.send(&Message::Verack)?;
        connection.finish_handshake()?;
        Ok(connection)
    }

    /// Reads what the node says until the handshake is done, and does our part of it.
    pub(crate) fn finish_handshake(&mut self) -> io::Result<()> {
        loop {
            match self.receive()? {
                Some(Message::Version(_)) => self.send(&Message::Verack)?,
                Some(Message::Verack) => return Ok(()),
                // Feature messages come between the two.
                Some(_) => {}
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
    }

    /// Our end of the socket: what the node sees as the peer's address.
    ///
    /// # Panics
    /// If the system does not know it.
    pub fn local_addr(&self) -> SocketAddr {
        let addr = self.stream.local_addr();
        addr.expect("a connected socket has an address")
    }

    /// The sending half.
    pub fn sender(&self) -> &Sender {
        &self.sender
    }

    /// Sends one message.
    pub fn send(&self, message: &Message) -> io::Result<()> {
        self.sender.send(message)
    }

    /// The next message; `None` when the node closed.
    pub fn receive(&mut self) -> io::Result<Option<Message>> {
        loop {
            let frame = self
                .codec
                .next_frame(&mut self.buffer)
                .map_err(io::Error::other)?;
            if let Some(frame) = frame {
                return frame.message.map(Some).map_err(io::Error::other);
            }
            let mut chunk = [0; 64 * 1024];
            match self.stream.read(&mut chunk)? {
                0 => return Ok(None),
                read => self.buffer.extend_from_slice(&chunk[..read]),
            }
        }
    }

    /// The first message for which `pick` has an answer. Answers pings on the way.
    ///
    /// # Panics
    /// If the node closes first, with `what` was awaited.
    pub fn expect<T>(&mut self, what: &str, mut pick: impl FnMut(Message) -> Option<T>) -> T {
        loop {
            match self.receive() {
                Ok(Some(Message::Ping(nonce))) => {
                    self.send(&Message::Pong(nonce)).expect("the node reads")
                }
                Ok(Some(message)) => {
                    if let Some(picked) = pick(message) {
                        return picked;
                    }
                }
                Ok(None) => panic!("the node closed before {what}"),
                Err(error) => panic!("{error} before {what}"),
            }
        }
    }

    /// Closes in an orderly way. Dropping the connection would reset it when something of
    /// the node's is unread.
    pub fn leave(self) {
        self.close_our_half().is_closed_by_node();
    }

    /// The first half of that: nothing more is said.
    #[must_use]
    pub fn close_our_half(self) -> Self {
        // One that the node has reset is left already.
        let _ = self.stream.shutdown(Shutdown::Write);
        self
    }

    /// Ends by a reset: what is on its way is lost on both sides.
    pub fn reset(self) {
        // Fails only for a socket that is gone already.
        let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }

    /// Whether the node closes the connection, whatever it says before.
    pub fn is_closed_by_node(&mut self) -> bool {
        loop {
            match self.receive() {
                Ok(Some(_)) => {}
                Ok(None) => return true,
                Err(error) => {
                    return matches!(
                        error.kind(),
                        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
                    );
                }
            }
        }
    }
}

/// A `version` that claims `height` and wants no transactions (BIP37). The nonce must be unlike
/// any of the node's.
///
/// # Panics
/// If the clock is before 1970, or the height above all that a `version` can carry.
pub fn version(height: usize, user_agent: &str, nonce: u64) -> Message {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("the clock is past 1970")
        .as_secs();
    let nowhere = Address::new(
        &SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        ServiceFlags::NONE,
    );
    Message::Version(Version {
        version: PROTOCOL_VERSION,
        services: ServiceFlags::NETWORK | ServiceFlags::WITNESS,
        timestamp: i64::try_from(now).expect("the year is before 292 billion"),
        receiver: nowhere.clone(),
        sender: Some(nowhere),
        nonce: Some(nonce),
        user_agent: user_agent.to_owned(),
        start_height: Some(i32::try_from(height).expect("a test chain is short")),
        relay: false,
    })
}
