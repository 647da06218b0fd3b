//! Peers that are no nodes: silent, dishonest, broken, or in a hurry. They speak through
//! the same codec over the same lines, and nodes dial some of them.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bitcoin::BlockHash;
use bitcoin::block::Header;
use bitcoin::hashes::Hash;
use bitcoin::p2p::ServiceFlags;
use bitcoin::p2p::address::Address;
use bitcoin::p2p::message_blockdata::Inventory;
use bytes::{Bytes, BytesMut};
use handfast_proto::headers::HeaderTree;
use handfast_proto::session::full_node;
use handfast_proto::sync::RejectKind;
use handfast_proto::testing;
use handfast_wire::{Codec, Locator, Message, Version};

use super::engine::{Engine, Event, NETWORK};
use super::net::{LinkId, Owner, Read, Side, Unwritten};

/// What a stranger is up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Connects and never says a word.
    Mute,
    /// Handshakes, claims height 1,000,000, answers pings and nothing else.
    Claimer,
    /// Shows the honest chain and never sends a block.
    NoBlocks,
    /// The same, and says `notfound`.
    NotFound,
    /// Shows a longer chain of its own, whose blocks it keeps.
    Withholder,
    /// Offers blocks that are found invalid when they are looked at.
    BadBlocks,
    /// Offers blocks that are found invalid when they are connected.
    BadToConnect,
    /// Sends headers that do not follow one another, or that build on nothing.
    BadHeaders,
    /// Gives honest blocks whose data was tampered with.
    Tamperer,
    /// Sends garbage, wrong checksums, lengths beyond all bounds.
    Garbage,
    /// Connects, handshakes and drops as fast as it can.
    Churner,
    /// Asks for the whole chain again and again, and does not read.
    SlowReader,
    /// Sends more than anybody could want.
    Flooder,
    /// Sends a byte now and then.
    Trickler,
    /// Closes its side after the handshake.
    HalfCloser,
    /// Honest, and has nothing but genesis: its headers are always empty.
    Behind,
}

/// All kinds, with the name under which they are counted.
pub(crate) const KINDS: [(Kind, &str); 16] = [
    (Kind::Mute, "mute"),
    (Kind::Claimer, "claims a height"),
    (Kind::NoBlocks, "sends no blocks"),
    (Kind::NotFound, "says notfound"),
    (Kind::Withholder, "withholds a longer chain"),
    (Kind::BadBlocks, "invalid blocks"),
    (Kind::BadToConnect, "blocks that do not connect"),
    (Kind::BadHeaders, "invalid headers"),
    (Kind::Tamperer, "tampers with blocks"),
    (Kind::Garbage, "garbage"),
    (Kind::Churner, "churner"),
    (Kind::SlowReader, "slow reader"),
    (Kind::Flooder, "flooder"),
    (Kind::Trickler, "trickler"),
    (Kind::HalfCloser, "half-closes"),
    (Kind::Behind, "behind"),
];

/// One connection of a stranger.
#[derive(Debug)]
struct Conn {
    side: Side,
    codec: Codec,
    inbuf: BytesMut,
    out: Unwritten,
    ready: bool,
    /// What a trickler still has to send.
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
    /// The chain it shows, when that is not the honest one.
    chain: Option<HeaderTree>,
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
            chain: None,
        }
    }

    /// Leaves for good.
    pub(crate) fn leave(&mut self, engine: &mut Engine) {
        self.here = false;
        for (link, conn) in std::mem::take(&mut self.conns) {
            engine.close(link, conn.side);
        }
    }

    fn most_connections(&self) -> usize {
        match self.kind {
            Kind::Churner => 8,
            Kind::Mute => 4,
            _ => 2,
        }
    }

    fn interval(&self) -> Duration {
        Duration::from_millis(match self.kind {
            Kind::Churner => 150,
            Kind::Trickler => 700,
            Kind::Garbage => 4_000,
            Kind::Flooder | Kind::SlowReader => 15_000,
            _ => 9_000,
        })
    }

    /// Dials when it has too few connections, and does its mischief on those it has.
    pub(crate) fn tick(&mut self, engine: &mut Engine) {
        if !self.here {
            return;
        }
        if self.conns.len() + self.dialling < self.most_connections() {
            self.dial(engine);
        }
        for link in self.conns.keys().copied().collect::<Vec<_>>() {
            self.act(engine, link);
        }
        let interval = engine.around(self.interval());
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

    /// Takes a connection.
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

    /// Something can be read or written.
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

    fn serve_headers(&mut self, engine: &mut Engine, link: LinkId, locator: &Locator) {
        let after = |tree: &HeaderTree| tree.headers_after(&locator.hashes, &locator.stop, 2_000);
        let headers = match self.kind {
            Kind::Behind => Vec::new(),
            Kind::NoBlocks | Kind::NotFound | Kind::Tamperer | Kind::Garbage | Kind::Flooder => {
                after(engine.oracle.tree())
            }
            Kind::Withholder | Kind::BadBlocks | Kind::BadToConnect => {
                after(self.chain.as_ref().unwrap_or(engine.oracle.tree()))
            }
            Kind::BadHeaders => bad_headers(engine),
            Kind::Mute
            | Kind::Claimer
            | Kind::Churner
            | Kind::SlowReader
            | Kind::Trickler
            | Kind::HalfCloser => return,
        };
        self.send(engine, link, &Message::Headers(headers));
    }

    fn serve_blocks(&mut self, engine: &mut Engine, link: LinkId, items: &[Inventory]) {
        match self.kind {
            Kind::NotFound => self.send(engine, link, &Message::NotFound(items.to_vec())),
            Kind::Tamperer | Kind::BadBlocks | Kind::BadToConnect | Kind::Flooder => {
                for item in items {
                    let (Inventory::Block(hash) | Inventory::WitnessBlock(hash)) = item else {
                        continue;
                    };
                    if let Some(block) = engine.blocks.get(hash).cloned() {
                        self.send(engine, link, &Message::Block(block));
                    }
                }
            }
            _ => {}
        }
    }

    /// What it does of its own accord.
    fn act(&mut self, engine: &mut Engine, link: LinkId) {
        if !self.conns.get(&link).is_some_and(|conn| conn.ready) {
            return;
        }
        match self.kind {
            Kind::Withholder => self.extend(engine, link, None),
            Kind::BadBlocks => self.extend(engine, link, Some(RejectKind::Consensus)),
            Kind::BadToConnect => self.extend(engine, link, Some(RejectKind::InvalidPrev)),
            Kind::BadHeaders => {
                let headers = bad_headers(engine);
                self.send(engine, link, &Message::Headers(headers));
            }
            Kind::Garbage => {
                let garbage = garbage(engine);
                self.send_bytes(engine, link, garbage);
            }
            Kind::Flooder => {
                for _ in 0..200 {
                    let nonce = engine.random.draw();
                    self.send(engine, link, &Message::Ping(nonce));
                }
                let hash = BlockHash::from_byte_array([7; 32]);
                let inv = vec![Inventory::Block(hash); 3_000];
                self.send(engine, link, &Message::Inv(inv));
            }
            Kind::SlowReader => {
                let tree = engine.oracle.tree();
                let end = tree.tip().height;
                let first = tree
                    .at_height(end.saturating_sub(200))
                    .expect("below the tip");
                let all = tree.branch(&tree.tip().hash, first.height, usize::MAX);
                let items: Vec<Inventory> = all
                    .iter()
                    .map(|entry| Inventory::WitnessBlock(entry.hash))
                    .collect();
                let locator = Locator {
                    hashes: vec![tree.at_height(0).expect("genesis").hash],
                    stop: BlockHash::all_zeros(),
                };
                for _ in 0..40 {
                    self.send(engine, link, &Message::GetHeaders(locator.clone()));
                    self.send(engine, link, &Message::GetData(items.clone()));
                }
            }
            Kind::Trickler => self.trickle(engine, link),
            Kind::NoBlocks | Kind::NotFound => {
                let tip = engine.oracle.tree().tip().header;
                self.send(engine, link, &Message::Headers(vec![tip]));
            }
            Kind::Mute
            | Kind::Claimer
            | Kind::Tamperer
            | Kind::Churner
            | Kind::HalfCloser
            | Kind::Behind => {}
        }
    }

    /// Makes the honest chain longer by some headers of its own, and announces them.
    /// Those whose blocks are to be bad have blocks.
    fn extend(&mut self, engine: &mut Engine, link: LinkId, bad: Option<RejectKind>) {
        let behind = self
            .chain
            .as_ref()
            .is_none_or(|chain| chain.tip().work <= engine.oracle.tree().tip().work);
        if behind {
            let mut chain = engine.oracle.tree().clone();
            for _ in 0..1 + engine.random.below(3) {
                let parent = chain.tip().header;
                let salt = engine.random.draw();
                let header = testing::mine(&parent, parent.time + 1, salt);
                let hash = header.block_hash();
                chain
                    .insert_hashed(hash, header)
                    .expect("it builds on the tip");
                chain.connect(&hash);
                let Some(kind) = bad else { continue };
                engine.blocks.insert(hash, testing::block(header, 200));
                let first = parent.block_hash() == engine.oracle.tree().tip().hash;
                match kind {
                    _ if !first => {}
                    RejectKind::Consensus => drop(engine.bad.insert(hash, kind)),
                    _ => drop(engine.bad_to_connect.insert(hash)),
                }
            }
            self.chain = Some(chain);
        }
        let chain = self.chain.as_ref().expect("just made");
        let (tip, fork) = (chain.tip(), engine.oracle.tree().tip());
        let Some(shared) = chain.get(&fork.hash) else {
            return;
        };
        let own = chain.branch(&tip.hash, shared.height + 1, 8);
        let headers: Vec<Header> = own.iter().map(|entry| entry.header).collect();
        if let Some(first) = own.first().filter(|_| bad.is_some() && engine.chance(300)) {
            // Pushed, unasked.
            let block = engine.blocks[&first.hash].clone();
            self.send(engine, link, &Message::Block(block));
        } else if !headers.is_empty() {
            self.send(engine, link, &Message::Headers(headers));
        }
    }

    /// One byte of a message that never seems to end.
    fn trickle(&mut self, engine: &mut Engine, link: LinkId) {
        let conn = self.conns.get_mut(&link).expect("the caller looked");
        if conn.drops.is_empty() {
            let mut bytes = BytesMut::new();
            Message::Ping(engine.random.draw()).encode_into(NETWORK.magic(), &mut bytes);
            conn.drops = bytes.freeze();
        }
        let drop = conn.drops.split_to(1);
        self.send_bytes(engine, link, drop);
    }
}

fn version(engine: &mut Engine) -> Version {
    let nobody = SocketAddr::from(([0, 0, 0, 0], 0));
    Version {
        version: 70_016,
        services: full_node(),
        timestamp: i64::from(super::node::EPOCH),
        receiver: Address::new(&nobody, ServiceFlags::NONE),
        sender: Some(Address::new(&nobody, ServiceFlags::NONE)),
        nonce: Some(engine.random.draw()),
        user_agent: "/stranger/".into(),
        start_height: Some(1_000_000),
        relay: false,
    }
}

/// Headers that break a rule.
fn bad_headers(engine: &mut Engine) -> Vec<Header> {
    let tip = engine.oracle.tree().tip().header;
    let (a, b) = (engine.random.draw(), engine.random.draw());
    let good = testing::mine(&tip, tip.time + 1, a);
    match engine.random.below(3) {
        // They do not follow one another.
        0 => vec![good, testing::mine(&tip, tip.time + 2, b)],
        // Without proof of work.
        1 => {
            let mut bad = good;
            while bad.target().is_met_by(bad.block_hash()) {
                bad.nonce = bad.nonce.wrapping_add(1);
            }
            vec![bad]
        }
        // They build on nothing.
        _ => vec![testing::mine(&good, tip.time + 2, b)],
    }
}

/// Bytes that are no frame, or a bad one.
fn garbage(engine: &mut Engine) -> Bytes {
    let mut bytes = BytesMut::new();
    Message::Ping(engine.random.draw()).encode_into(NETWORK.magic(), &mut bytes);
    match engine.random.below(4) {
        // A wrong magic.
        0 => bytes[0] ^= 0x55,
        // A length beyond all bounds.
        1 => bytes[16..20].copy_from_slice(&u32::MAX.to_le_bytes()),
        // A wrong checksum.
        2 => bytes[20] ^= 0xff,
        // Noise.
        _ => {
            for byte in bytes.iter_mut() {
                *byte = engine.random.draw().to_le_bytes()[0];
            }
        }
    }
    bytes.freeze()
}
