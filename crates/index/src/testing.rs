//! Blocks for tests.

use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, Txid};

use crate::{IndexedBlock, Subject};

pub(crate) fn transaction(block: u8, position: u32) -> Subject {
    let mut bytes = [block; 32];
    bytes[..4].copy_from_slice(&position.to_be_bytes());
    Subject::Transaction(Txid::from_byte_array(bytes))
}

pub(crate) fn hash(block: u8) -> BlockHash {
    BlockHash::from_byte_array([block; 32])
}

pub(crate) fn block(id: u8, height: u32, transactions: u32) -> IndexedBlock {
    IndexedBlock {
        hash: hash(id),
        height,
        entries: (0..transactions)
            .map(|at| (transaction(id, at), at))
            .collect(),
    }
}
