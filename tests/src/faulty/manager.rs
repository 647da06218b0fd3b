//! Who owns peers and chain of a faulty node. It handles what it is told in the order in
//! which it is told, and believes it: most faults are in who tells.

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpStream;
use std::sync::mpsc;
use std::thread;

use bitcoin::block::Header;
use bitcoin::consensus::deserialize;
use bitcoin::hashes::Hash;
use bitcoin::p2p::message_blockdata::Inventory;
use bitcoin::{Block, BlockHash};
use handfast_wire::{Locator, Message, Network, RawBlock};

use super::Fault;
use super::peer::send;

/// What the manager is told.
#[derive(Debug)]
pub(super) enum Event {
    /// A peer's handshake is complete.
    Ready(u64, TcpStream),
    /// A peer is gone.
    Done(u64),
    /// A peer said something.
    Message(u64, Message),
}

#[derive(Debug)]
pub(super) struct Manager {
    fault: Fault,
    peers: BTreeMap<u64, TcpStream>,
    /// Whose headers and blocks are followed.
    source: Option<u64>,
    /// From the genesis block on.
    chain: Vec<Header>,
    /// What was said by those of whom nobody has told yet.
    early: BTreeMap<u64, Vec<Message>>,
    /// Hashes of blocks that are refused for good.
    invalid: BTreeSet<BlockHash>,
    /// Who was asked for a block last, and has not given one.
    asked: Option<u64>,
}

impl Manager {
    /// Runs until nobody can tell it anything any more.
    pub(super) fn start(fault: Fault) -> mpsc::Sender<Event> {
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            let mut manager = Self {
                fault,
                peers: BTreeMap::new(),
                source: None,
                chain: vec![Network::Regtest.genesis()],
                early: BTreeMap::new(),
                invalid: BTreeSet::new(),
                asked: None,
            };
            while let Ok(event) = told.recv() {
                manager.handle(event);
            }
        });
        tell
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Ready(id, stream) => {
                self.peers.insert(id, stream);
                self.choose_source();
                for message in self.early.remove(&id).unwrap_or_default() {
                    self.message(id, message);
                }
            }
            Event::Done(id) => {
                self.early.remove(&id);
                self.peers.remove(&id);
                if self.source == Some(id) {
                    self.source = None;
                }
                if self.asked == Some(id) {
                    self.asked = None;
                }
                self.choose_source();
            }
            Event::Message(id, message) if self.peers.contains_key(&id) => {
                self.message(id, message);
            }
            Event::Message(id, message) => self.early.entry(id).or_default().push(message),
        }
    }

    /// Nobody is chosen anew while there is one.
    fn choose_source(&mut self) {
        if self.source.is_some() {
            return;
        }
        if let Some((id, stream)) = self.peers.first_key_value() {
            self.source = Some(*id);
            let question = Message::GetHeaders(Locator {
                hashes: vec![self.tip()],
                stop: BlockHash::all_zeros(),
            });
            let _ = send(stream, &question);
        }
    }

    fn tip(&self) -> BlockHash {
        self.chain[self.chain.len() - 1].block_hash()
    }

    /// Whose headers are looked at.
    fn listens_to(&self, id: u64) -> bool {
        match self.fault {
            Fault::AddDoneRace => self.source == Some(id),
            Fault::AsksOnce => self.asked.is_none(),
            _ => true,
        }
    }

    fn block(&mut self, id: u64, block: &RawBlock) {
        if self.asked == Some(id) {
            self.asked = None;
        }
        let is_whole =
            |block: &Block| block.check_merkle_root() && block.check_witness_commitment();
        let whole: Result<Block, _> = deserialize(&block.bytes);
        if !whole.is_ok_and(|block| is_whole(&block)) {
            if self.fault == Fault::BlamesTheHash {
                self.invalid.insert(block.hash);
            }
        } else if block.header.prev_blockhash == self.tip() && !self.invalid.contains(&block.hash) {
            self.chain.push(block.header);
        }
    }

    fn message(&mut self, id: u64, message: Message) {
        let answer = match message {
            Message::GetHeaders(locator) => {
                let known =
                    |hash: &BlockHash| self.chain.iter().position(|it| it.block_hash() == *hash);
                let at = locator.hashes.iter().find_map(known).unwrap_or(0);
                Some(Message::Headers(self.chain[at + 1..].to_vec()))
            }
            Message::Headers(headers) if self.listens_to(id) => {
                let next = headers.first();
                let next = next.filter(|header| header.prev_blockhash == self.tip());
                next.map(|header| {
                    self.asked = Some(id);
                    Message::GetData(vec![Inventory::WitnessBlock(header.block_hash())])
                })
            }
            Message::Block(block) => {
                self.block(id, &block);
                None
            }
            // Whoever announces a block by its hash is asked for its header.
            Message::Inv(items) if matches!(items[..], [Inventory::Block(_)]) => {
                Some(Message::GetHeaders(Locator {
                    hashes: vec![self.tip()],
                    stop: BlockHash::all_zeros(),
                }))
            }
            _ => None,
        };
        if let (Some(answer), Some(stream)) = (answer, self.peers.get(&id)) {
            let _ = send(stream, &answer);
        }
    }
}
