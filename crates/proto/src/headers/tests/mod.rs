//! Tests of the header tree as a whole, and their helpers.

mod low_work;
mod model;
mod pow;
mod real_chain;
mod rules;
mod serving;
mod unsent;

use bitcoin::block::{Header, Version};
use bitcoin::consensus::encode::deserialize;
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, CompactTarget, TxMerkleNode};

use super::{HeaderTree, Inserted};

/// The easiest bits of regtest: every other hash is a proof of work.
const EASY: u32 = 0x207f_ffff;

/// The headers of one of the real chains, or `None` (with a message) where the data is missing.
fn real_headers(file: &str) -> Option<Vec<Header>> {
    let path = format!("{}/../../../shared/data/{file}", env!("CARGO_MANIFEST_DIR"));
    match std::fs::read(&path) {
        Ok(bytes) => {
            let headers = bytes
                .chunks(80)
                .map(|raw| deserialize(raw).expect("80 bytes each"));
            Some(headers.collect())
        }
        Err(error) => {
            eprintln!("skipped: {path}: {error}");
            None
        }
    }
}

/// A header on `parent`; `salt` distinguishes siblings.
fn child(parent: &Header, salt: u32) -> Header {
    Header {
        version: Version::TWO,
        prev_blockhash: parent.block_hash(),
        merkle_root: TxMerkleNode::from_byte_array([7; 32]),
        time: parent.time + 600,
        bits: parent.bits,
        nonce: salt,
    }
}

fn genesis(bits: u32) -> Header {
    Header {
        version: Version::ONE,
        prev_blockhash: BlockHash::all_zeros(),
        merkle_root: TxMerkleNode::all_zeros(),
        time: 1_300_000_000,
        bits: CompactTarget::from_consensus(bits),
        nonce: 0,
    }
}

/// `count` headers on `parent`, without proof of work.
fn grow(parent: &Header, count: usize, salt: u32) -> Vec<Header> {
    let mut headers: Vec<Header> = Vec::with_capacity(count);
    for _ in 0..count {
        headers.push(child(headers.last().unwrap_or(parent), salt));
    }
    headers
}

fn insert_all(tree: &mut HeaderTree, headers: &[Header]) {
    for header in headers {
        assert_eq!(tree.insert(*header), Ok(Inserted::New));
    }
}

fn connect_all(tree: &mut HeaderTree, headers: &[Header]) {
    for header in headers {
        tree.connect(&header.block_hash());
    }
}
