//! Hostile peers on one thread.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use handfast_wire::{Codec, Message, Network};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, watch};

use super::behaviour::{Behaviour, Common};
use super::frames::frame;
use super::{Addresses, Attack, Ground, Side};
use crate::connection;
use crate::served_chain::ServedChain;

/// Pause of a peer that was cut off before it comes back.
const PAUSE: Duration = Duration::from_millis(500);
/// The same of one whose next try costs 4 MB.
const LONG_PAUSE: Duration = Duration::from_secs(3);
/// Bytes that [`Attack::Trickle`] sends at a time, and how often: 130 kB/s.
const DROP: (usize, Duration) = (13_000, Duration::from_millis(100));
/// How long [`Attack::Late`] keeps a block that it is asked for.
const LATENESS: Duration = Duration::from_millis(1_900);
/// Connections without a handshake for each peer of [`Attack::HalfFrames`] that dials.
const NAMELESS: usize = 4;
/// Frames that a peer holds which the node does not read.
const QUEUE: usize = 64;

/// Who attacks, and how.
#[derive(Clone, Debug)]
pub struct Crew {
    /// What they do.
    pub attack: Attack,
    /// How many there are.
    pub count: usize,
    /// Who opens their connections.
    pub side: Side,
    /// Where they are.
    pub addresses: Addresses,
    /// What it is about.
    pub ground: Ground,
}

/// What the attackers saw so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Connections at this moment whose handshake is done (or which want none).
    pub present: usize,
    /// Such connections ever.
    pub connections: usize,
    /// `getheaders` received.
    pub header_requests: usize,
    /// Blocks asked for, repeated requests included.
    pub block_requests: usize,
    /// Messages that are out, those of a flood not counted.
    pub written: usize,
}

/// Running attackers. They leave when it is dropped.
#[derive(Debug)]
pub struct Adversary {
    orders: watch::Sender<Orders>,
    counts: Arc<Counts>,
    addresses: Vec<SocketAddr>,
    thread: Option<JoinHandle<()>>,
}

/// What they are told.
#[derive(Clone, Copy, Debug, Default)]
struct Orders {
    target: Option<SocketAddr>,
    news: usize,
    over: bool,
}

#[derive(Debug, Default)]
struct Counts {
    present: AtomicUsize,
    connections: AtomicUsize,
    header_requests: AtomicUsize,
    block_requests: AtomicUsize,
    written: AtomicUsize,
}

impl Adversary {
    /// Gets ready. Nobody dials, or answers who dials, before [`Self::attack`].
    ///
    /// # Panics
    /// If loopback has no port left.
    pub fn new(crew: Crew) -> Self {
        let attacks: Vec<Attack> = (0..crew.count)
            .map(|number| crew.attack.of_peer(number))
            .collect();
        let (orders, heard) = watch::channel(Orders::default());
        let counts = Arc::new(Counts::default());
        let (send_addresses, addresses) = std::sync::mpsc::channel();
        let thread = std::thread::spawn({
            let counts = Arc::clone(&counts);
            move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .expect("a runtime");
                let tasks = tokio::task::LocalSet::new();
                let common = Arc::new(Common::new(crew.ground.clone(), &attacks));
                let shared = Shared {
                    common,
                    counts,
                    heard: heard.clone(),
                };
                tasks.block_on(&runtime, async {
                    let addresses = begin(&crew, &attacks, &shared).await;
                    // The caller waits for it.
                    let _ = send_addresses.send(addresses);
                    over(heard).await;
                });
            }
        });
        let addresses = addresses.recv().expect("the thread begins");
        Self {
            orders,
            counts,
            addresses,
            thread: Some(thread),
        }
    }

    /// Where they listen, those that are to be dialled.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// They begin.
    pub fn attack(&self, node: SocketAddr) {
        self.orders.send_modify(|orders| orders.target = Some(node));
    }

    /// They learn of the first `news` new blocks, before the node does.
    pub fn tell(&self, news: usize) {
        self.orders.send_modify(|orders| orders.news = news);
    }

    /// What they saw so far.
    pub fn seen(&self) -> Seen {
        let get = |count: &AtomicUsize| count.load(Ordering::Relaxed);
        Seen {
            present: get(&self.counts.present),
            connections: get(&self.counts.connections),
            header_requests: get(&self.counts.header_requests),
            block_requests: get(&self.counts.block_requests),
            written: get(&self.counts.written),
        }
    }
}

impl Drop for Adversary {
    fn drop(&mut self) {
        self.orders.send_modify(|orders| orders.over = true);
        if let Some(thread) = self.thread.take() {
            // One that panicked has said so.
            let _ = thread.join();
        }
    }
}

/// Sends these when [`LATENESS`] is over, and nothing now.
fn later(queue: &mpsc::Sender<Bytes>, frames: Vec<Bytes>) -> Vec<Bytes> {
    let queue = queue.clone();
    tokio::task::spawn_local(async move {
        tokio::time::sleep(LATENESS).await;
        for frame in frames {
            // An error is the end of the connection.
            let _ = queue.send(frame).await;
        }
    });
    vec![]
}

async fn over(mut heard: watch::Receiver<Orders>) {
    // An error is the end of who gives orders.
    let _ = heard.wait_for(|orders| orders.over).await;
}

#[derive(Clone)]
struct Shared {
    common: Arc<Common>,
    counts: Arc<Counts>,
    heard: watch::Receiver<Orders>,
}

/// One hostile peer.
#[derive(Clone)]
struct Peer {
    attack: Attack,
    number: usize,
    /// Sends its frames instead of a handshake.
    nameless: bool,
    address: Ipv4Addr,
    branch: Option<Arc<ServedChain>>,
    shared: Shared,
}

/// Starts all peers. Where those listen that are to be dialled.
async fn begin(crew: &Crew, attacks: &[Attack], shared: &Shared) -> Vec<SocketAddr> {
    let mut addresses = vec![];
    for (number, &attack) in attacks.iter().enumerate() {
        let peer = Peer {
            attack,
            number,
            nameless: false,
            address: crew.addresses.of_peer(number),
            branch: Behaviour::branch_of(attack, &crew.ground, number),
            shared: shared.clone(),
        };
        match crew.side {
            Side::Inbound => {
                let more = match attack {
                    Attack::HalfFrames => NAMELESS,
                    _ => 0,
                };
                for _ in 0..more {
                    let nameless = true;
                    let peer = peer.clone();
                    tokio::task::spawn_local(Peer { nameless, ..peer }.dial_for_ever());
                }
                tokio::task::spawn_local(peer.dial_for_ever());
            }
            Side::Dialled | Side::Chosen => {
                let listener = TcpListener::bind((peer.address, 0)).await;
                let listener = listener.expect("a port on loopback");
                addresses.push(listener.local_addr().expect("it is bound"));
                tokio::task::spawn_local(peer.accept_for_ever(listener));
            }
        }
    }
    addresses
}

impl Peer {
    async fn dial_for_ever(mut self) {
        let target = self.shared.heard.wait_for(|orders| orders.target.is_some());
        let Ok(Some(target)) = target.await.map(|orders| orders.target) else {
            return;
        };
        for earlier in 0.. {
            if let Ok(stream) = self.dial(target).await {
                // Its error is the node's leaving.
                let _ = self.converse(stream, earlier, true).await;
            }
            let pause = match self.attack {
                Attack::HalfFrames => LONG_PAUSE,
                _ => PAUSE,
            };
            tokio::time::sleep(pause).await;
        }
    }

    async fn dial(&self, target: SocketAddr) -> io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((self.address, 0).into())?;
        socket.connect(target).await
    }

    async fn accept_for_ever(mut self, listener: TcpListener) {
        // Before that the node's dials wait for an answer.
        let begun = self.shared.heard.wait_for(|orders| orders.target.is_some());
        if begun.await.is_err() {
            return;
        }
        for earlier in 0.. {
            if let Ok((stream, _)) = listener.accept().await {
                let _ = self.converse(stream, earlier, false).await;
            }
        }
    }

    /// One connection, to its end.
    async fn converse(&self, stream: TcpStream, earlier: usize, dialled: bool) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let network = &self.shared.common.ground.network;
        let (mut reader, mut writer) = stream.into_split();
        let mut messages = Messages::new(&mut reader, network);
        if self.nameless {
            let present = Present::new(&self.shared.counts);
            writer.write_all(&self.shared.common.unfinished).await?;
            while messages.next().await?.is_some() {}
            drop(present);
            return Ok(());
        }
        self.shake_hands(&mut messages, &mut writer, dialled)
            .await?;
        let _present = Present::new(&self.shared.counts);
        let (queue, waiting) = mpsc::channel(QUEUE);
        let flood = match self.attack {
            Attack::Big => self.shared.common.big.clone(),
            _ => vec![],
        };
        let first = self.number + earlier;
        tokio::select! {
            result = self.write(&mut writer, waiting, flood, first) => result,
            result = self.talk(&mut messages, &queue, earlier) => result,
        }
    }

    async fn shake_hands(
        &self,
        messages: &mut Messages<'_>,
        writer: &mut OwnedWriteHalf,
        dialled: bool,
    ) -> io::Result<()> {
        let network = &self.shared.common.ground.network;
        let height = self.shared.common.ground.trunk.len();
        let name = format!("/hostile:{}/", self.attack);
        let nonce = 0x6861_0000 + self.number as u64;
        let version = frame(network, &connection::version(height, &name, nonce));
        let verack = frame(network, &Message::Verack);
        if dialled {
            writer.write_all(&version).await?;
        }
        loop {
            match messages.next().await? {
                Some(Message::Version(_)) => {
                    if !dialled {
                        writer.write_all(&version).await?;
                    }
                    writer.write_all(&verack).await?;
                }
                Some(Message::Verack) => return Ok(()),
                Some(_) => {}
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
    }

    /// Answers the node, and hears of news.
    async fn talk(
        &self,
        messages: &mut Messages<'_>,
        queue: &mpsc::Sender<Bytes>,
        earlier: usize,
    ) -> io::Result<()> {
        let mut heard = self.shared.heard.clone();
        let told = heard.borrow_and_update().news;
        let place = (self.number, earlier);
        let branch = self.branch.as_ref();
        let common = &self.shared.common;
        let mut behaviour = Behaviour::new(self.attack, common, branch, place, told);
        let mut frames = behaviour.connected();
        loop {
            for frame in frames {
                queue.send(frame).await.map_err(io::Error::other)?;
            }
            frames = tokio::select! {
                message = messages.next() => match message? {
                    Some(message) => {
                        let asked = matches!(message, Message::GetData(_));
                        let answer = self.answer(&mut behaviour, message);
                        match asked && self.attack == Attack::Late {
                            true => later(queue, answer),
                            false => answer,
                        }
                    }
                    None => return Ok(()),
                },
                changed = heard.changed() => {
                    changed.map_err(io::Error::other)?;
                    let told = heard.borrow_and_update().news;
                    behaviour.news(told)
                }
            };
        }
    }

    fn answer(&self, behaviour: &mut Behaviour, message: Message) -> Vec<Bytes> {
        let counts = &self.shared.counts;
        match message {
            Message::Ping(nonce) => {
                vec![frame(
                    &self.shared.common.ground.network,
                    &Message::Pong(nonce),
                )]
            }
            Message::GetHeaders(locator) => {
                counts.header_requests.fetch_add(1, Ordering::Relaxed);
                behaviour.get_headers(&locator)
            }
            Message::GetData(wanted) => {
                counts
                    .block_requests
                    .fetch_add(wanted.len(), Ordering::Relaxed);
                behaviour.get_data(&wanted)
            }
            _ => vec![],
        }
    }

    /// Writes what is queued, and between that the flood, from its `first` frame on.
    async fn write(
        &self,
        writer: &mut OwnedWriteHalf,
        mut waiting: mpsc::Receiver<Bytes>,
        flood: Vec<Bytes>,
        first: usize,
    ) -> io::Result<()> {
        let mut turn = first;
        loop {
            let queued = match flood.is_empty() {
                true => waiting.recv().await,
                false => waiting.try_recv().ok(),
            };
            match queued {
                Some(frame) if self.attack == Attack::Trickle && frame.len() > DROP.0 => {
                    for piece in frame.chunks(DROP.0) {
                        writer.write_all(piece).await?;
                        tokio::time::sleep(DROP.1).await;
                    }
                }
                Some(frame) => {
                    writer.write_all(&frame).await?;
                    self.shared.counts.written.fetch_add(1, Ordering::Relaxed);
                }
                None if flood.is_empty() => return Ok(()),
                None => {
                    turn += 1;
                    writer.write_all(&flood[turn % flood.len()]).await?;
                }
            }
        }
    }
}

/// A connection that counts as there until it is dropped.
struct Present<'a>(&'a Counts);

impl<'a> Present<'a> {
    fn new(counts: &'a Counts) -> Self {
        counts.present.fetch_add(1, Ordering::Relaxed);
        counts.connections.fetch_add(1, Ordering::Relaxed);
        Self(counts)
    }
}

impl Drop for Present<'_> {
    fn drop(&mut self) {
        self.0.present.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What the node says.
struct Messages<'a> {
    reader: &'a mut OwnedReadHalf,
    codec: Codec,
    buffer: BytesMut,
}

impl<'a> Messages<'a> {
    fn new(reader: &'a mut OwnedReadHalf, network: &Network) -> Self {
        Self {
            reader,
            codec: Codec::new(network.magic()),
            buffer: BytesMut::new(),
        }
    }

    /// The next message; `None` when the node closed.
    ///
    /// # Cancel safety
    ///
    /// What was read stays in the buffer.
    async fn next(&mut self) -> io::Result<Option<Message>> {
        loop {
            let frame = self
                .codec
                .next_frame(&mut self.buffer)
                .map_err(io::Error::other)?;
            if let Some(frame) = frame {
                return frame.message.map(Some).map_err(io::Error::other);
            }
            if self.reader.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }
}
