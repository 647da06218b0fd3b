//! A regtest chain full of signatures, the same bytes on every machine.
//!
//! Real chains are too large for a test and empty ones keep only one core busy.
//! These blocks make script validation the main cost, as it is on mainnet: every
//! transaction spends P2PKH, P2WPKH and P2TR (key path) coins in turn. Keys,
//! times, signatures (RFC 6979; BIP340 without auxiliary randomness) and proof of
//! work are all derived from constants, so the tip's hash is a constant too.

mod blocks;
mod slow;
mod wallet;

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use bitcoin::block::Header;
use bitcoin::constants::genesis_block;
use bitcoin::{BlockHash, Network};
use handfast_wire::RawBlock;

use crate::chain_file::{self, Blocks};
use crate::data;
use blocks::ChainBuilder;
pub(crate) use blocks::subsidy;
pub use slow::slow_to_connect;

/// Part of the file name: a change to the generator that changes its bytes counts
/// this up (and states the new tips below), so that no stale file is used.
const VERSION: u32 = 1;

/// The shape of a generated chain.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Names the cached file.
    pub name: &'static str,
    /// Blocks at the start with nothing but a coinbase; at least 100 more than the
    /// first fan-out needs, for the coinbases to mature.
    pub coinbase_blocks: u32,
    /// Then blocks in each of which one coinbase is split into equal coins.
    pub fan_out_blocks: u32,
    /// Coins made by each of them.
    pub coins_per_fan_out: usize,
    /// Then blocks full of signed transactions.
    pub signed_blocks: u32,
    /// Transactions in each, by turns with one and with two inputs.
    pub transactions_per_block: usize,
    /// The hash that the last block must have, as text.
    pub tip: &'static str,
}

/// 510 blocks; the last 300 carry 2,000 signed transactions each, 900,000 inputs in all.
pub const SIGNED: Plan = Plan {
    name: "signed",
    coinbase_blocks: 200,
    fan_out_blocks: 10,
    coins_per_fan_out: 600,
    signed_blocks: 300,
    transactions_per_block: 2_000,
    tip: "5a579aae0b4b48a5b0dc39b88e36c66be571ea5d5b2fe54b6f38be507dfc5f9b",
};

/// 130 blocks; the last 20 carry 50 signed transactions each. For tests that must be quick.
pub const SMALL: Plan = Plan {
    name: "small",
    coinbase_blocks: 108,
    fan_out_blocks: 2,
    coins_per_fan_out: 75,
    signed_blocks: 20,
    transactions_per_block: 50,
    tip: "5f5da60f096381c1d48dfe0d9ab78d40508c017058903dd6a689128eaf395e85",
};

impl Plan {
    /// Height of the last block.
    pub const fn height(&self) -> u32 {
        self.coinbase_blocks + self.fan_out_blocks + self.signed_blocks
    }

    /// Inputs of the signed blocks together.
    pub const fn inputs(&self) -> usize {
        self.signed_blocks as usize
            * (self.transactions_per_block / 2 * 3 + self.transactions_per_block % 2)
    }

    /// The hash of the last block.
    pub fn tip(&self) -> BlockHash {
        self.tip.parse().expect("the plan states a block hash")
    }

    /// The chain's file, made now if the cache does not hold it.
    ///
    /// It appears under its name only when it is whole and ends at the stated tip.
    pub fn ensure(&self) -> io::Result<PathBuf> {
        let dir = data::cache_dir();
        let path = dir.join(format!("chain-{}-v{VERSION}.dat", self.name));
        if path.is_file() {
            self.check(last_block(&path)?)?;
            return Ok(path);
        }
        fs::create_dir_all(&dir)?;
        eprintln!(
            "generating {} ({} blocks, {} inputs)",
            path.display(),
            self.height(),
            self.inputs()
        );
        // Two tests may come here at once: each writes its own file, the last rename wins.
        let partial = tempfile::NamedTempFile::new_in(&dir)?;
        let tip = self.generate(partial.as_file())?;
        self.check(tip)?;
        partial.persist(&path)?;
        Ok(path)
    }

    /// All blocks from height 1, held in memory.
    pub fn blocks(&self) -> io::Result<Vec<RawBlock>> {
        chain_file::read_all(&self.ensure()?)
    }

    /// Writes the chain and answers the hash of its last block.
    pub fn generate(&self, out: &File) -> io::Result<BlockHash> {
        let mut out = BufWriter::with_capacity(1 << 20, out);
        let mut chain = ChainBuilder::new();
        let magic = Network::Regtest.magic().to_bytes();
        for height in 1..=self.height() {
            let block = if height <= self.coinbase_blocks {
                chain.coinbase_block()
            } else if height <= self.coinbase_blocks + self.fan_out_blocks {
                chain.fan_out_block(self.coins_per_fan_out)
            } else {
                chain.signed_block(self.transactions_per_block)
            };
            chain_file::write_block(&mut out, magic, &block)?;
        }
        out.flush()?;
        Ok(chain.tip())
    }

    fn check(&self, got: BlockHash) -> io::Result<()> {
        if got.to_string() == self.tip {
            return Ok(());
        }
        Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!(
                "the {} chain ends at {got}, not at {}: the generator changed, or its file is damaged",
                self.name, self.tip
            ),
        ))
    }
}

/// `count` regtest blocks with nothing but coinbases, on `parent` at `height`.
///
/// Branches with different labels have no block in common.
pub fn empty_blocks(
    parent: Header,
    height: u32,
    label: &'static str,
    count: usize,
) -> Vec<RawBlock> {
    let mut chain = ChainBuilder::on(parent, height, label);
    (0..count).map(|_| raw(chain.coinbase_block())).collect()
}

/// `count` valid regtest blocks of about `bytes` each, at most 900,000, on the genesis block.
pub fn large_blocks(count: usize, bytes: usize) -> Vec<RawBlock> {
    let mut chain = ChainBuilder::on(genesis_block(Network::Regtest).header, 0, "large");
    (0..count).map(|_| raw(chain.padded_block(bytes))).collect()
}

/// A regtest block on `parent` at `height` that is valid but for a coinbase which
/// takes a satoshi too many (Core's `bad-cb-amount`).
pub fn overpaying_block(parent: Header, height: u32) -> RawBlock {
    raw(ChainBuilder::on(parent, height, "greedy").overpaying_block())
}

fn raw(bytes: Vec<u8>) -> RawBlock {
    RawBlock::new(bytes.into()).expect("a block that we serialized")
}

fn last_block(path: &Path) -> io::Result<BlockHash> {
    let mut last = None;
    for block in Blocks::open(path)? {
        last = Some(block?.hash);
    }
    last.ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "no block in the file"))
}
