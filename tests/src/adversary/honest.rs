//! The honest peer: it has the right chain, and measures what the node does for it.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bitcoin::p2p::message_blockdata::Inventory;
use handfast_wire::{Message, Network, RawBlock};
use socket2::{Domain, Socket, Type};

use super::Addresses;
use crate::connection::{Connection, Sender};
use crate::scripted_peer::block_hash;
use crate::served_chain::ServedChain;

/// Between two pings.
const PING_INTERVAL: Duration = Duration::from_millis(100);
/// Pause before it comes again when it was cut off.
const PAUSE: Duration = Duration::from_millis(500);

/// What it saw.
#[derive(Clone, Debug, Default)]
pub struct HonestRecord {
    /// Handshakes that were done.
    pub connections: usize,
    /// Connections that the node ended after the handshake.
    pub cut_off: usize,
    /// Connections that the node ended before, or did not take.
    pub turned_away: usize,
    /// `getheaders` received.
    pub header_requests: usize,
    /// Blocks asked for, repeated requests included.
    pub block_requests: usize,
    /// Round trips of its pings, in order.
    pub round_trips: Vec<Duration>,
    /// Pings on their way.
    open: BTreeMap<u64, Instant>,
}

impl HonestRecord {
    /// The middle round trip; a ping that is not answered counts with its age. `None`
    /// before the first.
    pub fn median_round_trip(&self) -> Option<Duration> {
        let mut all = self.round_trips.clone();
        all.extend(self.open.values().map(Instant::elapsed));
        all.sort_unstable();
        all.get(all.len() / 2).copied()
    }
}

/// An honest peer. It leaves when it is dropped.
#[derive(Debug)]
pub struct Honest {
    shared: Arc<Shared>,
    /// Where it listens, when it is to be dialled.
    address: Option<SocketAddr>,
    stop_pings: Option<mpsc::Sender<()>>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    network: Network,
    chain: Mutex<ServedChain>,
    record: Mutex<HonestRecord>,
    sender: Mutex<Option<Sender>>,
    /// The handshake is done: pings may be sent.
    shaken: AtomicBool,
    disconnection: AtomicBool,
}

impl Honest {
    /// The name that the node shows as `subver`.
    pub const USER_AGENT: &str = "/honest/";

    /// Dials the node now, and again whenever the connection ends.
    pub fn dial(
        network: &Network,
        chain: ServedChain,
        node: SocketAddr,
        addresses: Addresses,
    ) -> Self {
        Self::start(network, chain, None, move |shared| {
            let ended = shared.conversation(|| dial(addresses.of_honest(), node));
            if ended {
                pause(&shared.disconnection);
            }
        })
    }

    /// Listens for the node, at [`Self::address`].
    ///
    /// # Panics
    /// If loopback has no port left.
    pub fn listen(network: &Network, chain: ServedChain, addresses: Addresses) -> Self {
        let listener = TcpListener::bind((addresses.of_honest(), 0)).expect("a port on loopback");
        let address = listener.local_addr().expect("it is bound");
        Self::start(network, chain, Some(address), move |shared| {
            shared.conversation(|| listener.accept().map(|(stream, _)| (stream, false)));
        })
    }

    fn start(
        network: &Network,
        chain: ServedChain,
        address: Option<SocketAddr>,
        mut next: impl FnMut(&Shared) + Send + 'static,
    ) -> Self {
        let shared = Arc::new(Shared {
            network: network.clone(),
            chain: Mutex::new(chain),
            record: Mutex::default(),
            sender: Mutex::default(),
            shaken: AtomicBool::new(false),
            disconnection: AtomicBool::new(false),
        });
        let (stop_pings, stopped) = mpsc::channel();
        let talking = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                while !shared.disconnection.load(Ordering::SeqCst) {
                    next(&shared);
                }
            }
        });
        let pinging = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || shared.ping_until(&stopped)
        });
        Self {
            shared,
            address,
            stop_pings: Some(stop_pings),
            threads: vec![talking, pinging],
        }
    }

    /// Where it listens.
    ///
    /// # Panics
    /// If it dials.
    pub fn address(&self) -> SocketAddr {
        self.address.expect("it listens")
    }

    /// What it saw so far.
    pub fn record(&self) -> HonestRecord {
        lock(&self.shared.record).clone()
    }

    /// Has found a block on its chain, and announces it by `headers`.
    pub fn find(&self, block: RawBlock) {
        let header = block.header;
        lock(&self.shared.chain).extend([block]);
        let sender = lock(&self.shared.sender).clone();
        if let Some(sender) = sender {
            // Without a connection it is told when there is one.
            let _ = sender.send(&Message::Headers(vec![header]));
        }
    }
}

impl Drop for Honest {
    fn drop(&mut self) {
        self.shared.disconnection.store(true, Ordering::SeqCst);
        self.stop_pings = None;
        if let Some(sender) = lock(&self.shared.sender).take() {
            sender.close();
        }
        if let Some(address) = self.address {
            // Wakes the acceptor.
            let _ = TcpStream::connect(address);
        }
        for thread in self.threads.drain(..) {
            // One that panicked has said so.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// One connection, to its end. Whether it was the node that ended it.
    fn conversation(&self, connect: impl FnOnce() -> io::Result<(TcpStream, bool)>) -> bool {
        let result = connect().and_then(|(stream, dialled)| {
            let mut connection = Connection::new(stream, &self.network)?;
            *lock(&self.sender) = Some(connection.sender().clone());
            self.shake_hands(&mut connection, dialled)?;
            self.shaken.store(true, Ordering::SeqCst);
            lock(&self.record).connections += 1;
            self.serve(&mut connection)
        });
        let shaken = self.shaken.swap(false, Ordering::SeqCst);
        let sender = lock(&self.sender).take();
        if let Some(sender) = sender {
            sender.close();
        }
        let by_node = !self.disconnection.load(Ordering::SeqCst);
        if by_node {
            let mut record = lock(&self.record);
            record.open.clear();
            match shaken {
                true => record.cut_off += 1,
                false => record.turned_away += 1,
            }
            if let Err(error) = result {
                eprintln!("the honest peer lost its connection: {error}");
            }
        }
        by_node
    }

    fn shake_hands(&self, connection: &mut Connection, dialled: bool) -> io::Result<()> {
        let height = lock(&self.chain).height();
        if dialled {
            connection.send_version(height, Honest::USER_AGENT)?;
            return connection.finish_handshake();
        }
        match connection.receive()? {
            Some(Message::Version(_)) => {}
            Some(_) | None => return Err(io::ErrorKind::InvalidData.into()),
        }
        connection.send_version(height, Honest::USER_AGENT)?;
        connection.send(&Message::Verack)?;
        connection.finish_handshake()
    }

    fn serve(&self, connection: &mut Connection) -> io::Result<()> {
        let sender = connection.sender().clone();
        while let Some(message) = connection.receive()? {
            match message {
                Message::Ping(nonce) => sender.send(&Message::Pong(nonce))?,
                Message::Pong(nonce) => {
                    let mut record = lock(&self.record);
                    if let Some(sent) = record.open.remove(&nonce) {
                        record.round_trips.push(sent.elapsed());
                    }
                }
                Message::GetHeaders(locator) => {
                    lock(&self.record).header_requests += 1;
                    let headers = lock(&self.chain).headers_after(&locator);
                    sender.send(&Message::Headers(headers))?;
                }
                Message::GetData(wanted) => {
                    lock(&self.record).block_requests += wanted.len();
                    for item in wanted {
                        self.give(item, &sender)?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn give(&self, item: Inventory, sender: &Sender) -> io::Result<()> {
        let block = block_hash(&item).and_then(|hash| lock(&self.chain).block(&hash).cloned());
        sender.send(&match block {
            Some(block) => Message::Block(block),
            None => Message::NotFound(vec![item]),
        })
    }

    fn ping_until(&self, stopped: &mpsc::Receiver<()>) {
        let mut nonce = 1;
        while stopped.recv_timeout(PING_INTERVAL) == Err(RecvTimeoutError::Timeout) {
            let sender = lock(&self.sender).clone();
            let shaken = self.shaken.load(Ordering::SeqCst);
            let Some(sender) = sender.filter(|_| shaken) else {
                continue;
            };
            nonce += 1;
            lock(&self.record).open.insert(nonce, Instant::now());
            // It may have gone this moment.
            let _ = sender.send(&Message::Ping(nonce));
        }
    }
}

fn dial(from: Ipv4Addr, node: SocketAddr) -> io::Result<(TcpStream, bool)> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((from, 0)).into())?;
    socket.connect(&node.into())?;
    Ok((socket.into(), true))
}

/// Waits a little, or until the end.
fn pause(disconnection: &AtomicBool) {
    let _ = crate::wait::poll(PAUSE, || disconnection.load(Ordering::SeqCst).then_some(()));
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
