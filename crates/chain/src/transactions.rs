//! The transactions of an encoded block: their offsets and ids.

use std::ops::Range;

use bitcoin::Txid;
use bitcoin::hashes::{Hash, HashEngine, sha256d};

use crate::layout;

/// A block's transactions, found without decoding them.
#[derive(Debug)]
pub struct Transactions<'a> {
    block: &'a [u8],
    places: Vec<layout::Transaction>,
}

impl<'a> Transactions<'a> {
    /// The transactions of the block at the front of `block`. `None`: there is no block.
    #[must_use]
    pub fn of(block: &'a [u8]) -> Option<Self> {
        let places = layout::scan(block)?.transactions;
        Some(Self { block, places })
    }

    /// The ids, in the block's order.
    pub fn ids(&self) -> impl Iterator<Item = Txid> {
        self.places.iter().map(|place| self.id_of(place))
    }

    /// The id of the transaction at `position`, counted from 0, and its bytes with witness
    /// data.
    #[must_use]
    pub fn at(&self, position: usize) -> Option<(Txid, &'a [u8])> {
        let place = self.places.get(position)?;
        let Range { start, end } = place.place;
        Some((self.id_of(place), &self.block[start..end]))
    }

    /// The position of the transaction `txid` in the block, counted from 0.
    #[must_use]
    pub fn position(&self, txid: &Txid) -> Option<usize> {
        self.ids().position(|id| id == *txid)
    }

    fn id_of(&self, place: &layout::Transaction) -> Txid {
        let mut engine = sha256d::Hash::engine();
        for piece in place.stripped(self.block) {
            engine.input(piece);
        }
        Txid::from_raw_hash(sha256d::Hash::from_engine(engine))
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::consensus::serialize;
    use bitcoin::{TxIn, Witness};

    use super::*;

    #[test]
    fn a_transaction_is_found_by_its_id_and_its_bytes_are_those_of_the_block() {
        let mut block = bitcoin::constants::genesis_block(bitcoin::Network::Regtest);
        let mut signed = block.txdata[0].clone();
        signed.input.push(TxIn {
            witness: Witness::from_slice(&[[3_u8; 70]]),
            ..TxIn::default()
        });
        block.txdata.push(signed);
        let bytes = serialize(&block);
        let found = Transactions::of(&bytes).expect("a block");
        assert_eq!(found.ids().count(), 2);
        for (position, transaction) in block.txdata.iter().enumerate() {
            let txid = transaction.compute_txid();
            assert_eq!(found.position(&txid), Some(position));
            let encoded = serialize(transaction);
            assert_eq!(found.at(position), Some((txid, &encoded[..])));
        }
        assert_eq!(found.at(2), None);
        assert!(Transactions::of(&bytes[..bytes.len() - 1]).is_none());
    }
}
