//! Simulated peers that are no nodes: silent, dishonest, broken or churning. They use the same
//! codec over the same lines, and nodes dial some of them.
//!
//! | file | what |
//! |---|---|
//! | `kind` | the behaviour of each, and its rate |
//! | `serve` | its answers |
//! | `act` | its unsolicited actions |
//! | `forged` | messages that no node would send |

mod act;
mod forged;
mod kind;
mod serve;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bitcoin::BlockHash;
use bytes::{Bytes, BytesMut};
use handfast_proto::headers::HeaderTree;
use handfast_wire::{Codec, Message};

use super::engine::{Engine, Event, NETWORK};
use super::net::{LinkId, Owner, Read, Side, Unwritten};
use forged::version;
pub(crate) use kind::KINDS;
pub use kind::Kind;

/// One connection of a simulated peer.
#[derive(Debug)]
struct Conn {
    side: Side,
    codec: Codec,
    inbuf: BytesMut,
    out: Unwritten,
    ready: bool,
    /// The rest of a trickler's message.
    drops: Bytes,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Stranger {
    index: usize,
    host: usize,
    pub(crate) addr: SocketAddr,
    pub(crate) kind: Kind,
    pub(crate) here: bool,
    targets: Vec<SocketAddr>,
    conns: BTreeMap<LinkId, Conn>,
    dialling: usize,
    /// Number of connections that it keeps open.
    connections: usize,
    /// The chain it shows, when that is not the honest one.
    chain: Option<HeaderTree>,
    /// The last height of the honest chain that it shows, if it shows only the beginning.
    last_shown: Option<u32>,
    /// The block that it sends with other data, and the chain with it as it was announced, from
    /// this height on.
    poison: Option<BlockHash>,
    announced: Option<(u32, HeaderTree)>,
    /// How often it may deny and announce again until its next action.
    denials: u32,
}

impl Stranger {
    pub(crate) fn new(
        index: usize,
        host: usize,
        addr: SocketAddr,
        kind: Kind,
        targets: Vec<SocketAddr>,
    ) -> Self {
        Self {
            index,
            host,
            addr,
            kind,
            here: false,
            targets,
            conns: BTreeMap::new(),
            dialling: 0,
            connections: kind.connections(),
            chain: None,
            last_shown: None,
            poison: None,
            announced: None,
            denials: 0,
        }
    }

    /// Takes one slot of a node, as one hostile peer among many.
    pub(crate) fn with_one_connection(self) -> Self {
        Self {
            connections: 1,
            ..self
        }
    }

    /// Whether it dials.
    pub(crate) fn dials(&self) -> bool {
        !self.targets.is_empty()
    }

    /// Disconnects for good.
    pub(crate) fn leave(&mut self, engine: &mut Engine) {
        self.here = false;
        for (link, conn) in std::mem::take(&mut self.conns) {
            engine.close(link, conn.side);
        }
    }

    /// Dials when it has too few connections, and acts on those that it has.
    pub(crate) fn tick(&mut self, engine: &mut Engine) {
        if !self.here {
            return;
        }
        if self.conns.len() + self.dialling < self.connections && !self.targets.is_empty() {
            self.dial(engine);
        }
        for link in self.conns.keys().copied().collect::<Vec<_>>() {
            self.act(engine, link);
        }
        let interval = engine.around(self.kind.interval());
        engine.after(
            interval + Duration::from_millis(10),
            Event::Stranger(self.index),
        );
    }

    fn dial(&mut self, engine: &mut Engine) {
        let to = self.targets[engine.random.index(self.targets.len())];
        let IpAddr::V4(ip) = self.addr.ip() else {
            unreachable!("all machines have IPv4 addresses");
        };
        let port = 32_768 + u16::try_from(engine.random.below(28_000)).expect("it fits");
        if engine
            .dial(self.host, SocketAddr::from((ip, port)), to)
            .is_some()
        {
            self.dialling += 1;
        }
    }

    /// A dial was answered.
    pub(crate) fn dial_answered(&mut self, engine: &mut Engine, link: LinkId, connected: bool) {
        self.dialling = self.dialling.saturating_sub(1);
        if connected && self.here {
            self.begin(engine, link, Side::Dialler);
        } else {
            engine.abort(link, Side::Dialler);
        }
    }

    /// Accepts a connection.
    pub(crate) fn begin(&mut self, engine: &mut Engine, link: LinkId, side: Side) {
        engine.net.own(link, side, Owner::Stranger(self.index));
        self.conns.insert(
            link,
            Conn {
                side,
                codec: Codec::new(NETWORK.magic()),
                inbuf: BytesMut::new(),
                out: Unwritten::default(),
                ready: false,
                drops: Bytes::new(),
            },
        );
        if side == Side::Dialler && self.kind != Kind::Mute {
            let version = version(engine);
            self.send(engine, link, &Message::Version(version));
            if self.kind == Kind::Churner && engine.chance(300) {
                // Version and verack pipelined.
                self.send(engine, link, &Message::Verack);
            }
        }
    }

    fn send(&mut self, engine: &mut Engine, link: LinkId, message: &Message) {
        let mut bytes = BytesMut::new();
        message.encode_into(NETWORK.magic(), &mut bytes);
        self.send_bytes(engine, link, bytes.freeze());
    }

    fn send_bytes(&mut self, engine: &mut Engine, link: LinkId, bytes: Bytes) {
        if let Some(conn) = self.conns.get_mut(&link) {
            conn.out.push(bytes);
            conn.out.write(engine, link, conn.side);
        }
    }

    fn drop_link(&mut self, engine: &mut Engine, link: LinkId) {
        if let Some(conn) = self.conns.remove(&link) {
            if engine.chance(300) {
                engine.abort(link, conn.side);
            } else {
                engine.close(link, conn.side);
            }
        }
    }

    /// A socket is readable or writable.
    pub(crate) fn socket(&mut self, engine: &mut Engine, link: LinkId) {
        let reads_not = self.kind == Kind::SlowReader;
        loop {
            let Some(conn) = self.conns.get_mut(&link) else {
                return;
            };
            conn.out.write(engine, link, conn.side);
            if reads_not && conn.ready {
                if engine.is_reset(link, conn.side) {
                    self.drop_link(engine, link);
                }
                return;
            }
            match conn.codec.next_frame(&mut conn.inbuf) {
                Ok(Some(frame)) => {
                    if let Ok(message) = frame.message {
                        self.receive(engine, link, message);
                    }
                }
                Ok(None) => match engine.read(link, conn.side, 65_536) {
                    Read::Data(data) => conn.inbuf.extend_from_slice(&data),
                    Read::Empty => return,
                    Read::Eof | Read::Reset => return self.drop_link(engine, link),
                },
                Err(_) => return self.drop_link(engine, link),
            }
        }
    }

    fn receive(&mut self, engine: &mut Engine, link: LinkId, message: Message) {
        if self.kind == Kind::Mute {
            return;
        }
        match message {
            Message::Version(_) => {
                if self.conns[&link].side == Side::Acceptor {
                    let version = version(engine);
                    self.send(engine, link, &Message::Version(version));
                }
                if self.kind == Kind::Churner && engine.chance(200) {
                    return self.drop_link(engine, link);
                }
                self.send(engine, link, &Message::Verack);
            }
            Message::Verack => {
                if let Some(conn) = self.conns.get_mut(&link) {
                    conn.ready = true;
                }
                match self.kind {
                    Kind::Churner if engine.chance(700) => self.drop_link(engine, link),
                    Kind::HalfCloser => engine.shut_down(link, self.conns[&link].side),
                    _ => {}
                }
            }
            Message::Ping(nonce) => {
                self.send(engine, link, &Message::Pong(nonce));
                if self.kind == Kind::Churner {
                    self.drop_link(engine, link);
                }
            }
            Message::GetHeaders(locator) => self.serve_headers(engine, link, &locator),
            Message::GetData(items) => self.serve_blocks(engine, link, &items),
            _ => {}
        }
    }
}
