//! Unsolicited actions of simulated peers.

use std::sync::OnceLock;

use bitcoin::block::Header;
use bitcoin::hashes::Hash;
use bitcoin::p2p::message_blockdata::Inventory;
use bitcoin::{BlockHash, Txid};
use bytes::{Bytes, BytesMut};
use handfast_proto::headers::{HeaderTree, TipStatus};
use handfast_proto::sync::RejectKind;
use handfast_proto::testing;
use handfast_wire::limits::{MAX_HEADERS, MAX_INV};
use handfast_wire::{Locator, Message};

use super::forged::{bad_headers, forged, garbage};
use super::{Engine, Kind, LinkId, NETWORK, Stranger};

/// How often a chain is denied and announced again in one action.
const DENIALS: u32 = 4;
/// Most blocks of a branch that it extends: no race is longer.
const RACE: u32 = 10;
/// Blocks below the tip within which a poisoner extends a branch that lost a race.
const OLD: u32 = 100;

impl Stranger {
    pub(super) fn act(&mut self, engine: &mut Engine, link: LinkId) {
        if !self.conns.get(&link).is_some_and(|conn| conn.ready) {
            return;
        }
        match self.kind {
            Kind::Withholder => self.extend(engine, link, None),
            Kind::Denier => {
                self.denials = DENIALS;
                self.extend(engine, link, None);
            }
            Kind::BadBlocks => self.extend(engine, link, Some(RejectKind::Consensus)),
            Kind::BadToConnect => self.extend(engine, link, Some(RejectKind::InvalidPrev)),
            Kind::BadHeaders => {
                let headers = bad_headers(engine);
                self.send(engine, link, &Message::Headers(headers));
            }
            Kind::Forger => self.push_forged(engine, link),
            Kind::Poisoner => self.poison(engine, link),
            Kind::Rumourer => {
                let hash = unknown_hash(engine);
                self.send(engine, link, &Message::Inv(vec![Inventory::Block(hash)]));
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
            Kind::Bulk => self.send_bulk(engine, link),
            Kind::SlowReader => self.ask_for_much(engine, link),
            Kind::Trickler => self.trickle(engine, link),
            Kind::NoBlocks | Kind::NotFound => {
                let tip = engine.oracle.tree().tip().header;
                self.send(engine, link, &Message::Headers(vec![tip]));
            }
            Kind::Mute
            | Kind::Claimer
            | Kind::Tamperer
            | Kind::Useless
            | Kind::Churner
            | Kind::HalfCloser
            | Kind::Behind => {}
        }
    }

    /// Extends the honest chain by some headers, and announces them. Those whose blocks must be bad
    /// have blocks.
    fn extend(&mut self, engine: &mut Engine, link: LinkId, bad: Option<RejectKind>) {
        if self.is_behind(engine) {
            let mut chain = engine.oracle.tree().clone();
            for _ in 0..1 + engine.random.below(3) {
                let parent = chain.tip().header;
                let (hash, header) = lengthen(engine, &mut chain);
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
        let pushes = bad.is_some() && engine.chance(300);
        let first = self.own_headers(engine).first().map(Header::block_hash);
        if let Some(first) = first.filter(|_| pushes) {
            // Unsolicited.
            let block = engine.blocks[&first].clone();
            self.send(engine, link, &Message::Block(block));
        } else {
            self.announce_chain(engine, link);
        }
    }

    fn is_behind(&self, engine: &Engine) -> bool {
        let honest = engine.oracle.tree().tip().work;
        let chain = self.chain.as_ref();
        chain.is_none_or(|chain| chain.tip().work <= honest)
    }

    /// The headers of its chain that are not in the honest one; none when that has taken another
    /// branch since.
    fn own_headers(&self, engine: &Engine) -> Vec<Header> {
        let Some(chain) = &self.chain else {
            return Vec::new();
        };
        let honest = engine.oracle.tree().tip().hash;
        let Some(fork) = chain
            .contains(&honest)
            .then(|| chain.fork_point(&honest, &chain.tip().hash))
            .flatten()
        else {
            return Vec::new();
        };
        let own = chain.branch(&chain.tip().hash, fork.height + 1, MAX_HEADERS);
        own.iter().map(|entry| entry.header).collect()
    }

    pub(super) fn announce_chain(&mut self, engine: &mut Engine, link: LinkId) {
        let headers = self.own_headers(engine);
        if !headers.is_empty() {
            self.send(engine, link, &Message::Headers(headers));
        }
    }

    /// One of the latest honest blocks with other data.
    fn push_forged(&mut self, engine: &mut Engine, link: LinkId) {
        let tip = engine.oracle.tree().tip();
        let below = u32::try_from(engine.random.below(3)).expect("0, 1 or 2");
        let height = tip.height.saturating_sub(below);
        let entry = engine.oracle.tree().at_height(height);
        let entry = entry.filter(|entry| entry.height > 0);
        let block = entry.and_then(|entry| engine.blocks.get(&entry.hash).cloned());
        if let Some(block) = block {
            let block = forged(engine, &block);
            engine.counts.count("forged block pushed");
            self.send(engine, link, &Message::Block(block));
        }
    }

    /// Makes a branch that lost a race the longest, and announces it. The new blocks are good, and
    /// it sends them; it sends the branch's first with other data.
    fn poison(&mut self, engine: &mut Engine, link: LinkId) {
        let honest = engine.oracle.tree().tip().work;
        let chain = self.chain.as_ref();
        if chain.is_none_or(|chain| chain.tip().work < honest) {
            let Some(lost) = lost_race(engine) else {
                return;
            };
            let mut chain = engine.oracle.tree().clone();
            let fork = chain.fork_point(&lost, &chain.tip().hash);
            let fork = fork.expect("both are in the tree");
            while chain.tip().hash != fork.hash {
                let tip = chain.tip().hash;
                chain.disconnect(&tip);
            }
            let branch = chain.branch(&lost, fork.height + 1, usize::MAX);
            for entry in &branch {
                chain.connect(&entry.hash);
            }
            while chain.tip().work <= honest {
                let (hash, header) = lengthen(engine, &mut chain);
                let block = testing::block(header, 200);
                engine.blocks.insert(hash, block.clone());
                engine.oracle.block(&block, None);
            }
            engine.counts.count("poisoned branch");
            self.poison = branch.first().map(|entry| entry.hash);
            self.announced = Some((fork.height, chain.clone()));
            self.chain = Some(chain);
        }
        // The honest chain is this one now: from the fork on, whatever happened to it.
        if let Some((fork, chain)) = &self.announced {
            let branch = chain.branch(&chain.tip().hash, fork + 1, MAX_HEADERS);
            let headers = branch.iter().map(|entry| entry.header).collect();
            self.send(engine, link, &Message::Headers(headers));
        }
    }

    fn send_bulk(&mut self, engine: &mut Engine, link: LinkId) {
        static BULK: OnceLock<[Bytes; 2]> = OnceLock::new();
        let bulk = BULK.get_or_init(|| {
            let tx = Inventory::WTx(bitcoin::Wtxid::from_byte_array([9; 32]));
            let gone = Inventory::Transaction(Txid::from_byte_array([9; 32]));
            [
                encoded(&Message::Inv(vec![tx; MAX_INV])),
                encoded(&Message::NotFound(vec![gone; MAX_INV])),
            ]
        });
        engine.counts.count("big frame");
        match engine.random.index(3) {
            2 => {
                let tree = engine.oracle.tree();
                let known = tree.branch(&tree.tip().hash, 1, MAX_HEADERS);
                let known = known.iter().map(|entry| entry.header).collect();
                self.send(engine, link, &Message::Headers(known));
            }
            which => self.send_bytes(engine, link, bulk[which].clone()),
        }
    }

    /// Requests the whole chain again and again.
    fn ask_for_much(&mut self, engine: &mut Engine, link: LinkId) {
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

    /// Sends one byte of a message that never ends.
    fn trickle(&mut self, engine: &mut Engine, link: LinkId) {
        let conn = self.conns.get_mut(&link).expect("checked by the caller");
        if conn.drops.is_empty() {
            conn.drops = encoded(&Message::Ping(engine.random.draw()));
        }
        let drop = conn.drops.split_to(1);
        self.send_bytes(engine, link, drop);
    }
}

fn encoded(message: &Message) -> Bytes {
    let mut bytes = BytesMut::new();
    message.encode_into(NETWORK.magic(), &mut bytes);
    bytes.freeze()
}

/// Adds a header to the chain of a simulated peer.
fn lengthen(engine: &mut Engine, chain: &mut HeaderTree) -> (BlockHash, Header) {
    let parent = chain.tip().header;
    let salt = engine.random.draw();
    let header = testing::mine(&parent, parent.time + 1, salt);
    let hash = header.block_hash();
    chain
        .insert_hashed(hash, header)
        .expect("it builds on the tip");
    chain.connect(&hash);
    (hash, header)
}

/// A hash of no block.
fn unknown_hash(engine: &mut Engine) -> BlockHash {
    let mut bytes = [0xee; 32];
    bytes[..8].copy_from_slice(&engine.random.draw().to_le_bytes());
    BlockHash::from_byte_array(bytes)
}

/// The tip of a branch of good blocks that is not in the honest chain.
fn lost_race(engine: &mut Engine) -> Option<BlockHash> {
    let tree = engine.oracle.tree();
    let least = tree.tip().height.saturating_sub(OLD);
    let lost: Vec<BlockHash> = tree
        .chain_tips()
        .iter()
        .filter(|end| matches!(end.status, TipStatus::ValidFork | TipStatus::ValidHeaders))
        .filter(|end| end.height > least && end.branch_len <= RACE)
        .map(|end| end.hash)
        .collect();
    if lost.is_empty() {
        return None;
    }
    Some(lost[engine.random.index(lost.len())])
}
