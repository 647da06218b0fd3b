//! Peers that do as a test tells them: serve a chain, fall silent, leave, lie.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use bitcoin::BlockHash;
use bitcoin::p2p::message_blockdata::Inventory;
use handfast_wire::{Message, Network};

use crate::connection::{Connection, Sender};
use crate::served_chain::ServedChain;

/// What to do with a message of the node's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// Answer as an honest peer does.
    Honest,
    /// Say nothing, as if it had not come.
    Silence,
    /// Close the connection.
    Leave,
}

/// What a peer saw.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// Handshakes that were finished.
    pub connections: usize,
    /// How often each block was asked for.
    pub requested: BTreeMap<BlockHash, usize>,
    /// How often each block was sent.
    pub sent: BTreeMap<BlockHash, usize>,
    /// `getheaders` received.
    pub header_requests: usize,
}

impl Record {
    /// Requests for blocks, repeated ones included.
    pub fn requests(&self) -> usize {
        self.requested.values().sum()
    }

    /// Blocks sent, repeated ones included.
    pub fn blocks_sent(&self) -> usize {
        self.sent.values().sum()
    }
}

/// Decides about each message before the honest answer.
type Script = dyn Fn(&Message, &Record, &Sender) -> Reaction + Send + Sync;

struct Shared {
    network: Network,
    name: String,
    chain: Mutex<ServedChain>,
    record: Mutex<Record>,
    open: Mutex<Vec<Sender>>,
    disconnection: AtomicBool,
    /// The height that its `version` claims, if not that of its chain.
    claim: Option<usize>,
    /// What its line carries when it is dialled, bytes a second, if it is a slow one.
    rate: Option<u32>,
    script: Box<Script>,
}

/// A peer that listens on loopback until it is dropped, and can dial as well.
pub struct ScriptedPeer {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

impl ScriptedPeer {
    /// A peer that serves `chain` honestly.
    pub fn honest(network: &Network, chain: ServedChain) -> Self {
        Self::scripted(network, "honest", chain, |_, _, _| Reaction::Honest)
    }

    /// A peer that asks `script` about each message first. The script sees what
    /// happened before, and may send what it likes.
    ///
    /// # Panics
    /// If loopback has no port left.
    pub fn scripted(
        network: &Network,
        name: &str,
        chain: ServedChain,
        script: impl Fn(&Message, &Record, &Sender) -> Reaction + Send + Sync + 'static,
    ) -> Self {
        Self::start(network, name, chain, None, None, Box::new(script))
    }

    /// An honest peer that is dialled by a line of so many bytes a second.
    pub fn throttled(network: &Network, chain: ServedChain, bytes_per_second: u32) -> Self {
        let script = |_: &Message, _: &Record, _: &Sender| Reaction::Honest;
        let rate = Some(bytes_per_second);
        Self::start(network, "throttled", chain, None, rate, Box::new(script))
    }

    /// A peer that completes handshakes, claims `height`, and never says another word.
    pub fn silent(network: &Network, height: usize) -> Self {
        let chain = ServedChain::new(network, []);
        let script = |_: &Message, _: &Record, _: &Sender| Reaction::Silence;
        Self::start(
            network,
            "silent",
            chain,
            Some(height),
            None,
            Box::new(script),
        )
    }

    fn start(
        network: &Network,
        name: &str,
        chain: ServedChain,
        claim: Option<usize>,
        rate: Option<u32>,
        script: Box<Script>,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port on loopback");
        let address = listener
            .local_addr()
            .expect("a bound socket has an address");
        let shared = Arc::new(Shared {
            network: network.clone(),
            name: format!("/handfast-tests:{name}/"),
            chain: Mutex::new(chain),
            record: Mutex::default(),
            open: Mutex::default(),
            disconnection: AtomicBool::new(false),
            claim,
            rate,
            script,
        });
        let acceptor = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || shared.accept(&listener)
        });
        Self {
            address,
            shared,
            acceptor: Some(acceptor),
        }
    }

    /// Dials the node: a connection that is inbound there. Done when the handshake is.
    ///
    /// # Panics
    /// If the node does not complete it.
    pub fn dial(&self, node: SocketAddr) {
        let shared = Arc::clone(&self.shared);
        let height = shared.height();
        let connection = Connection::dial_as(node, &shared.network, height, &shared.name)
            .expect("the node shakes hands");
        shared.keep(&connection);
        std::thread::spawn(move || shared.converse(connection));
    }

    /// Ends its connections. It goes on listening.
    pub fn leave(&self) {
        for sender in lock(&self.shared.open).drain(..) {
            sender.close();
        }
    }

    /// The name that the node shows as `subver`.
    pub fn user_agent(&self) -> &str {
        &self.shared.name
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it saw so far.
    pub fn record(&self) -> Record {
        lock(&self.shared.record).clone()
    }

    /// Changes the chain that it serves and announces the new tip by `headers`.
    pub fn change_chain(&self, change: impl FnOnce(&mut ServedChain)) {
        let header = {
            let mut chain = lock(&self.shared.chain);
            change(&mut chain);
            chain.tip_header()
        };
        for sender in lock(&self.shared.open).iter() {
            // One that is gone has nothing to be told.
            let _ = sender.send(&Message::Headers(vec![header]));
        }
    }
}

impl Drop for ScriptedPeer {
    fn drop(&mut self) {
        self.shared.disconnection.store(true, Ordering::SeqCst);
        for sender in lock(&self.shared.open).iter() {
            sender.close();
        }
        // Wakes the acceptor.
        let _ = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

impl Shared {
    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        for stream in listener.incoming() {
            if self.disconnection.load(Ordering::SeqCst) {
                return;
            }
            let Ok(stream) = stream else { continue };
            let shared = Arc::clone(self);
            std::thread::spawn(move || shared.answer_call(stream));
        }
    }

    /// The node dialled.
    fn answer_call(&self, stream: TcpStream) {
        let height = self.height();
        if let Ok(connection) = Connection::accept(stream, &self.network, height, &self.name) {
            if let Some(rate) = self.rate {
                connection.sender().throttle(rate);
            }
            self.keep(&connection);
            self.converse(connection);
        }
    }

    fn height(&self) -> usize {
        self.claim.unwrap_or_else(|| lock(&self.chain).height())
    }

    /// Remembers a connection whose handshake is complete.
    fn keep(&self, connection: &Connection) {
        lock(&self.open).push(connection.sender().clone());
        lock(&self.record).connections += 1;
    }

    /// One connection, to its end. Its errors are the node's leaving.
    fn converse(&self, mut connection: Connection) {
        while let Ok(Some(message)) = connection.receive() {
            let reaction = (self.script)(&message, &lock(&self.record), connection.sender());
            self.note(&message);
            match reaction {
                Reaction::Honest if self.answer(&message, connection.sender()).is_ok() => {}
                Reaction::Silence => {}
                Reaction::Honest | Reaction::Leave => break,
            }
        }
        connection.sender().close();
    }

    fn note(&self, message: &Message) {
        let mut record = lock(&self.record);
        match message {
            Message::GetHeaders(_) => record.header_requests += 1,
            Message::GetData(wanted) => {
                for hash in wanted.iter().filter_map(block_hash) {
                    *record.requested.entry(hash).or_default() += 1;
                }
            }
            _ => {}
        }
    }

    fn answer(&self, message: &Message, sender: &Sender) -> std::io::Result<()> {
        match message {
            Message::Ping(nonce) => sender.send(&Message::Pong(*nonce)),
            Message::GetHeaders(locator) => {
                let headers = lock(&self.chain).headers_after(locator);
                sender.send(&Message::Headers(headers))
            }
            Message::GetData(wanted) => wanted
                .iter()
                .try_for_each(|item| self.answer_item(*item, sender)),
            _ => Ok(()),
        }
    }

    fn answer_item(&self, item: Inventory, sender: &Sender) -> std::io::Result<()> {
        let block = block_hash(&item).and_then(|hash| lock(&self.chain).block(&hash).cloned());
        match block {
            Some(block) => {
                *lock(&self.record).sent.entry(block.hash).or_default() += 1;
                sender.send(&Message::Block(block))
            }
            None => sender.send(&Message::NotFound(vec![item])),
        }
    }
}

/// The block that an inventory item stands for.
pub fn block_hash(item: &Inventory) -> Option<BlockHash> {
    match item {
        Inventory::Block(hash) | Inventory::WitnessBlock(hash) | Inventory::CompactBlock(hash) => {
            Some(*hash)
        }
        _ => None,
    }
}

/// A thread that panicked has failed its test already; what it left is still true.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
