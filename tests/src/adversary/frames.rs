//! Frames that are built once and sent by many.

use bitcoin::block::Header;
use bitcoin::consensus::serialize;
use bitcoin::hashes::Hash;
use bitcoin::p2p::message_blockdata::Inventory;
use bitcoin::{
    Amount, BlockHash, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness,
    absolute::LockTime, transaction::Version as TxVersion,
};
use bytes::{Bytes, BytesMut};
use handfast_wire::limits::{MAX_HEADERS, MAX_INV};
use handfast_wire::{Message, Network, encode_head};

use super::Ground;

/// Length of the frames that are never finished, bytes.
const UNFINISHED: usize = 3_990_000;
/// Length of a big transaction, bytes.
const BIG_TX: usize = 3_990_000;

/// A whole frame.
pub(super) fn frame(network: &Network, message: &Message) -> Bytes {
    let mut bytes = BytesMut::new();
    message.encode_into(network.magic(), &mut bytes);
    bytes.freeze()
}

/// A frame of `block` without its last byte.
pub(super) fn unfinished(network: &Network) -> Bytes {
    let head = encode_head(network.magic(), "block", UNFINISHED, [0; 4]);
    let mut bytes = head.to_vec();
    bytes.resize(head.len() + UNFINISHED - 1, 0x11);
    bytes.into()
}

/// What [`super::Attack::Big`] sends by turns: each is legal and as large as may be.
pub(super) fn big(ground: &Ground) -> Vec<Bytes> {
    let hash = |number: usize, salt: u8| {
        let mut bytes = [salt; 32];
        bytes[..8].copy_from_slice(&(number as u64).to_le_bytes());
        bytes
    };
    let inventory = |salt: u8| (0..MAX_INV).map(move |number| hash(number, salt));
    let blocks = |salt| inventory(salt).map(BlockHash::from_byte_array);
    let headers: Vec<Header> = ground.trunk.iter().map(|block| block.header).collect();
    let messages = [
        Message::Inv(blocks(0xb1).map(Inventory::Block).collect()),
        Message::NotFound(blocks(0xb2).map(Inventory::WitnessBlock).collect()),
        Message::Tx(big_transaction()),
        Message::Headers(headers[..headers.len().min(MAX_HEADERS)].to_vec()),
        Message::Inv(
            inventory(0xb3)
                .map(|bytes| Inventory::Transaction(Txid::from_byte_array(bytes)))
                .collect(),
        ),
    ];
    let encoded = messages.iter();
    encoded
        .map(|message| frame(&ground.network, message))
        .collect()
}

/// A transaction of 4 MB that parses. It spends nothing that exists.
fn big_transaction() -> Bytes {
    let transaction = Transaction {
        version: TxVersion::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint {
                txid: Txid::from_byte_array([0xb4; 32]),
                vout: 0,
            },
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::new(),
        }],
        output: vec![TxOut {
            value: Amount::ONE_BTC,
            script_pubkey: ScriptBuf::from_bytes(vec![0x6a; BIG_TX]),
        }],
    };
    serialize(&transaction).into()
}
