//! The floor: the same exchange with nothing behind it, as a process of its own.
//!
//! One thread of tokio, a task per connection, answers built once. It decides nothing
//! and remembers nobody: what it costs is sockets and a scheduler.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use handfast_tests::connection::version;
use handfast_wire::{HEADER_BYTES, Message, Network};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The argument that makes this program the server.
pub(crate) const ARGUMENT: &str = "serve-echo";
/// The argument after it with which the server never sleeps.
const AWAKE: &str = "awake";
/// Connections that may wait to be accepted.
const BACKLOG: u32 = 4_096;
/// What one read takes, bytes.
const READ: usize = 1_024;

/// A running server. Ends when dropped.
pub(crate) struct Echo {
    child: Child,
    address: SocketAddr,
}

impl Echo {
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// One that polls its sockets all the time. Whoever sends to a sleeper pays for waking
    /// it, on a virtual machine more than for the sending: that is no cost of the sender's.
    pub(crate) fn start_awake() -> Self {
        Self::start_with(&[AWAKE])
    }

    fn start_with(arguments: &[&str]) -> Self {
        let own = std::env::current_exe().expect("a process knows its executable");
        let mut child = Command::new(own)
            .arg(ARGUMENT)
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program starts");
        let output = child.stdout.take().expect("it is piped");
        let mut line = String::new();
        BufReader::new(output)
            .read_line(&mut line)
            .expect("the server says where it listens");
        let address = line.trim().parse().expect("an address");
        Self { child, address }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Serves until it is killed.
pub(crate) fn serve() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .expect("a runtime");
    let tasks = tokio::task::LocalSet::new();
    tasks.block_on(&runtime, async {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket
            .bind((Ipv4Addr::LOCALHOST, 0).into())
            .expect("a port on loopback");
        let listener = socket.listen(BACKLOG).expect("a listening socket");
        println!("{}", listener.local_addr().expect("it is bound"));
        if std::env::args().any(|argument| argument == AWAKE) {
            tokio::task::spawn_local(async {
                loop {
                    tokio::task::yield_now().await;
                }
            });
        }
        accept(listener).await;
    });
}

async fn accept(listener: TcpListener) {
    let replies = Arc::new(Replies::new());
    loop {
        let (stream, _) = listener.accept().await.expect("descriptors are left");
        let replies = replies.clone();
        tokio::task::spawn_local(async move {
            // Its error is the other side's leaving.
            let _ = converse(stream, &replies).await;
        });
    }
}

/// What it says, built once.
struct Replies {
    /// `version`, `sendaddrv2`, `verack`.
    after_version: Vec<u8>,
    /// A `ping` of its own, as nodes send one, and `pong`.
    after_ping: Vec<u8>,
}

impl Replies {
    fn new() -> Self {
        let all = |messages: &[Message]| messages.iter().flat_map(bytes).collect();
        Self {
            after_version: all(&[
                version(0, "/echo/", 1),
                Message::SendAddrV2,
                Message::Verack,
            ]),
            // Nobody looks at the nonces.
            after_ping: all(&[Message::Ping(1), Message::Pong(1)]),
        }
    }
}

fn bytes(message: &Message) -> Vec<u8> {
    let encoded = message.encode(Network::Regtest.magic());
    encoded.to_vec()
}

/// One connection until the other side closes.
async fn converse(mut stream: TcpStream, replies: &Replies) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut held = Vec::with_capacity(READ);
    while stream.read_buf(&mut held).await? > 0 {
        let mut at = 0;
        while let Some(header) = held.get(at..at + HEADER_BYTES) {
            let length = u32::from_le_bytes([header[16], header[17], header[18], header[19]]);
            let end = at + HEADER_BYTES + length as usize;
            if end > held.len() {
                break;
            }
            match &header[4..9] {
                b"versi" => stream.write_all(&replies.after_version).await?,
                b"ping\0" => stream.write_all(&replies.after_ping).await?,
                _ => {}
            }
            at = end;
        }
        held.drain(..at);
    }
    Ok(())
}
