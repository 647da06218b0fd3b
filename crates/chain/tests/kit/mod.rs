//! Helpers of this crate's tests: an opened chain with its events, real data, and a small
//! regtest miner.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test binary uses a part of the kit"
)]

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use bitcoin::block::{Header, Version};
use bitcoin::consensus::{deserialize, serialize};
use bitcoin::hashes::Hash;
use bitcoin::{
    Amount, Block, BlockHash, CompactTarget, OutPoint, ScriptBuf, Sequence, Transaction, TxIn,
    TxMerkleNode, TxOut, Witness, absolute, script, transaction,
};
use bytes::Bytes;
use handfast_chain::{
    BlockOutcome, Chain, ChainOptions, Change, ConnId, Event, InitialChain, KernelEvent, Persist,
    Reject,
};
use handfast_wire::Network;

/// Timeout of an event, long enough for a busy machine.
const EVENT_TIMEOUT: Duration = Duration::from_secs(60);

/// An open chain, its events and its initial state.
pub struct Feed {
    pub chain: Chain,
    pub events: Receiver<Event>,
    pub initial: InitialChain,
}

/// The answer to a block job.
#[derive(Debug)]
pub struct Answer {
    pub hash: BlockHash,
    pub outcome: BlockOutcome,
    pub changes: Vec<Change>,
}

impl Feed {
    pub fn open(network: &Network, dir: &Path) -> Feed {
        let (send, events) = channel();
        let options = ChainOptions::new(network.clone(), dir);
        let (chain, initial) = Chain::open(options, move |event| {
            let _ = send.send(event);
        })
        .expect("opens");
        Feed {
            chain,
            events,
            initial,
        }
    }

    pub fn next(&self) -> Event {
        self.events.recv_timeout(EVENT_TIMEOUT).expect("an event")
    }

    pub fn answer(&self) -> KernelEvent {
        match self.next() {
            Event::Answer(answer) => answer,
            other => panic!("expected an answer, got {other:?}"),
        }
    }

    pub fn next_block(&self) -> Answer {
        match self.answer() {
            KernelEvent::BlockChecked {
                hash,
                outcome,
                changes,
                ..
            } => Answer {
                hash,
                outcome,
                changes,
            },
            other => panic!("expected the answer to a block, got {other:?}"),
        }
    }

    /// Submits a block and waits for its answer.
    pub fn block(&self, block: &Block) -> Answer {
        self.bytes(block.block_hash(), serialize(block).into())
    }

    pub fn bytes(&self, hash: BlockHash, bytes: Bytes) -> Answer {
        self.bytes_at(hash, bytes, None)
    }

    pub fn bytes_at(&self, hash: BlockHash, bytes: Bytes, height: Option<u32>) -> Answer {
        self.chain
            .check_block(hash, bytes, height, vec![], None, Persist::No);
        let answer = self.next_block();
        assert_eq!(answer.hash, hash);
        answer
    }

    /// Submits headers and waits for the answer: how many were accepted, and the first refused
    /// one.
    pub fn headers(&self, headers: &[Header]) -> (usize, Option<(BlockHash, Reject)>) {
        self.chain.check_headers(headers.to_vec(), Some(ConnId(7)));
        match self.answer() {
            KernelEvent::HeadersChecked {
                origin: Some(ConnId(7)),
                count_ok,
                rejected,
                ..
            } => (count_ok, rejected),
            other => panic!("expected the answer to headers, got {other:?}"),
        }
    }

    /// Submits blocks without waiting for each; returns all answers.
    pub fn blocks<'a>(&self, blocks: impl IntoIterator<Item = &'a Raw>) -> Vec<Answer> {
        let mut count = 0;
        for raw in blocks {
            self.chain.check_block(
                raw.hash(),
                raw.bytes.clone(),
                None,
                vec![],
                None,
                Persist::No,
            );
            count += 1;
        }
        (0..count).map(|_| self.next_block()).collect()
    }
}

pub fn tip(initial: &InitialChain) -> BlockHash {
    initial
        .active
        .last()
        .expect("the genesis block")
        .block_hash()
}

/// All connections of some answers, in order.
pub fn connected(answers: &[Answer]) -> Vec<BlockHash> {
    let changes = answers.iter().flat_map(|answer| &answer.changes);
    changes
        .filter_map(|change| match change {
            Change::Connected(hash, _) => Some(*hash),
            _ => None,
        })
        .collect()
}

/// A block of a data file.
#[derive(Clone, Debug)]
pub struct Raw {
    pub header: Header,
    pub bytes: Bytes,
}

impl Raw {
    pub fn hash(&self) -> BlockHash {
        self.header.block_hash()
    }
}

/// The signet of the shared data: challenge `OP_TRUE`.
pub fn signet() -> Network {
    Network::CustomSignet {
        challenge: vec![0x51],
    }
}

/// A file of the shared data; `None`, with a message, if it does not exist.
pub fn shared(name: &str) -> Option<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let path: PathBuf = dir.join(name);
    if !path.exists() {
        eprintln!("skipped: {} is not there", path.display());
        return None;
    }
    let data = std::fs::read(&path).expect("readable");
    if !name.ends_with(".bz2") {
        return Some(data);
    }
    let mut unpacked = vec![];
    bzip2::read::BzDecoder::new(&data[..])
        .read_to_end(&mut unpacked)
        .expect("bzip2");
    Some(unpacked)
}

/// The blocks of a shared file.
pub fn shared_blocks(name: &str) -> Option<Vec<Raw>> {
    let mut file = Bytes::from(shared(name)?);
    let mut blocks = vec![];
    while !file.is_empty() {
        let length = u32::from_le_bytes(file[4..8].try_into().unwrap()) as usize;
        let bytes = file.split_to(8 + length).slice(8..);
        let header = deserialize(&bytes[..80]).expect("a header");
        blocks.push(Raw { header, bytes });
    }
    Some(blocks)
}

/// Reorders within runs of `within`, by a fixed seed.
pub fn shuffle<T>(items: &mut [T], within: usize) {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for run in items.chunks_mut(within) {
        for i in (1..run.len()).rev() {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            run.swap(i, (state >> 33) as usize % (i + 1));
        }
    }
}

/// A valid empty regtest block on `parent`, which has height `height - 1`. `salt` makes blocks
/// of one height differ.
pub fn mine(parent: &Header, height: u32, salt: u8) -> Block {
    mine_with(parent, height, salt, |_| {})
}

/// The same, changed by `change` before its merkle root and proof of work.
pub fn mine_with(parent: &Header, height: u32, salt: u8, change: impl FnOnce(&mut Block)) -> Block {
    let script_sig = script::Builder::new()
        .push_int(i64::from(height))
        .push_slice([salt, 0])
        .into_script();
    let coinbase = Transaction {
        version: transaction::Version::TWO,
        lock_time: absolute::LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint::null(),
            script_sig,
            sequence: Sequence::MAX,
            witness: Witness::new(),
        }],
        output: vec![TxOut {
            // Regtest halves the subsidy every 150 blocks.
            value: Amount::from_int_btc(50) / (1 << (height / 150).min(63)),
            script_pubkey: ScriptBuf::from_bytes(vec![0x51]),
        }],
    };
    let mut block = Block {
        header: Header {
            version: Version::from_consensus(0x2000_0000),
            prev_blockhash: parent.block_hash(),
            merkle_root: TxMerkleNode::all_zeros(),
            time: parent.time + 600,
            bits: CompactTarget::from_consensus(0x207f_ffff),
            nonce: 0,
        },
        txdata: vec![coinbase],
    };
    change(&mut block);
    block.header.merkle_root = block.compute_merkle_root().expect("it has a coinbase");
    grind(&mut block.header);
    block
}

/// Finds a nonce that meets the header's target.
pub fn grind(header: &mut Header) {
    while !header.target().is_met_by(header.block_hash()) {
        header.nonce += 1;
    }
}

/// `count` empty blocks on the genesis block or on `parent` at `height`.
pub fn mine_chain(parent: &Header, height: u32, count: u32, salt: u8) -> Vec<Block> {
    let mut chain: Vec<Block> = vec![];
    for i in 1..=count {
        let parent = chain.last().map_or(*parent, |block| block.header);
        chain.push(mine(&parent, height + i, salt));
    }
    chain
}
