//! Peers whose messages are allowed and expensive: memory that a frame header makes a target
//! allocate, and work that a frame makes for all behind it.

use std::fmt;
use std::sync::{Arc, OnceLock};

use bitcoin::absolute::LockTime;
use bitcoin::consensus::serialize;
use bitcoin::hashes::Hash;
use bitcoin::p2p::message_blockdata::Inventory;
use bitcoin::{
    Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness, transaction,
};
use bytes::{BufMut, Bytes, BytesMut};
use handfast_wire::limits::{MAX_INV, MAX_PAYLOAD_BYTES};
use handfast_wire::{Message, encode_head};

use super::behaviour::Behaviour;
use super::learned::Learned;
use super::machine::ReceivedFrame;
use crate::writer::{ConnectionRng, Writer};

/// The length in the header of a half frame, bytes.
const PROMISED: usize = 3_990_000;
/// Bytes of a transaction besides its long script.
const BESIDE_ITS_SCRIPT: usize = 100;
/// The seed of their contents: the same in every run.
const SEED: u64 = 0x0068_6561_7679;

/// The frames of some megabytes, made once and shared by all connections.
#[derive(Clone, Default)]
pub(crate) struct Frames(Arc<OnceLock<Made>>);

struct Made {
    inv: Bytes,
    not_found: Bytes,
    tx: Bytes,
    half: Bytes,
}

impl fmt::Debug for Frames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Frames")
    }
}

impl Frames {
    /// A block of nearly 4 MB without its last byte.
    pub(super) fn half(&self, magic: bitcoin::p2p::Magic) -> Bytes {
        self.made(magic).half.clone()
    }

    fn made(&self, magic: bitcoin::p2p::Magic) -> &Made {
        self.0.get_or_init(|| {
            let encode = |message: &Message| {
                let mut frame = BytesMut::new();
                message.encode_into(magic, &mut frame);
                frame.freeze()
            };
            let mut rng = ConnectionRng::new(SEED);
            let mut list = || {
                let id =
                    |rng: &mut ConnectionRng| Txid::from_slice(&rng.bytes(32)).expect("32 bytes");
                let list = (0..MAX_INV).map(|_| Inventory::Transaction(id(&mut rng)));
                list.collect::<Vec<Inventory>>()
            };
            Made {
                inv: encode(&Message::Inv(list())),
                not_found: encode(&Message::NotFound(list())),
                tx: encode(&Message::Tx(serialize(&long_transaction()).into())),
                half: half_a_frame(magic),
            }
        })
    }
}

/// A transaction of nearly 4 MB: it can be parsed, and is too long for any block.
fn long_transaction() -> Transaction {
    let script = vec![0x51; MAX_PAYLOAD_BYTES - BESIDE_ITS_SCRIPT];
    Transaction {
        version: transaction::Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint::new(Txid::from_byte_array([7; 32]), 0),
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::new(),
        }],
        output: vec![TxOut {
            value: Amount::ZERO,
            script_pubkey: ScriptBuf::from_bytes(script),
        }],
    }
}

/// The header of a `block` and all of its payload but the last byte.
fn half_a_frame(magic: bitcoin::p2p::Magic) -> Bytes {
    let head = encode_head(magic, "block", PROMISED, [0; 4]);
    let mut frame = BytesMut::with_capacity(head.len() + PROMISED);
    frame.put_slice(&head);
    frame.put_bytes(0x68, PROMISED - 1);
    frame.freeze()
}

/// Announces a block and withholds its last byte, by its seed before its `version` or after the
/// handshake.
#[derive(Debug)]
pub(super) struct HalfFrame;

impl Behaviour for HalfFrame {
    fn skips_the_handshake(&mut self, writer: &mut Writer<'_>) -> bool {
        writer.rng.pick(0..2) != 0
    }

    fn ready(&mut self, writer: &mut Writer<'_>) {
        let magic = writer.params().bitcoin_magic();
        let half = writer.frame_set.heavy.half(magic);
        writer.raw(half);
        let stay = writer.rng.time(1_000..4_000);
        writer.wake(stay);
    }
}

/// The kind of message, which any peer may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FloodKind {
    /// Announcements of transactions, 50,000 in a message.
    Inv,
    /// As many `notfound` items that were never requested.
    NotFound,
    /// Transactions of 4 MB.
    Tx,
    /// Headers that the target has, as many as it serves in a message.
    KnownHeaders,
}

/// A peer that floods with allowed messages.
#[derive(Debug, Default)]
pub(super) struct LegalFlood {
    learned: Learned,
    /// Selected by its seed.
    kind: Option<FloodKind>,
    /// Frames left to send.
    frames: u64,
}

impl LegalFlood {
    /// Sends a frame, and the next one a little later.
    fn pour(&mut self, writer: &mut Writer<'_>) {
        let Some(kind) = self.kind.filter(|_| self.frames > 0) else {
            return writer.leave_randomly();
        };
        self.frames -= 1;
        let magic = writer.params().bitcoin_magic();
        let made = writer.frame_set.heavy.made(magic);
        let frame = match kind {
            FloodKind::Inv => Some(made.inv.clone()),
            FloodKind::NotFound => Some(made.not_found.clone()),
            FloodKind::Tx => Some(made.tx.clone()),
            FloodKind::KnownHeaders => None,
        };
        match frame {
            Some(frame) => writer.raw(frame),
            None => writer.send(&Message::Headers(self.learned.first())),
        }
        let pause = writer.rng.time(100..600);
        writer.wake(pause);
    }
}

impl Behaviour for LegalFlood {
    fn ready(&mut self, writer: &mut Writer<'_>) {
        let kind = match writer.rng.pick(0..4) {
            0 => FloodKind::Inv,
            1 => FloodKind::NotFound,
            2 => FloodKind::Tx,
            _ => FloodKind::KnownHeaders,
        };
        self.kind = Some(kind);
        self.frames = writer.rng.pick(4..12);
        if kind == FloodKind::KnownHeaders {
            self.learned.begin(writer);
        }
        self.pour(writer);
    }

    fn received(&mut self, received: ReceivedFrame<'_>, writer: &mut Writer<'_>) {
        if self.kind == Some(FloodKind::KnownHeaders) {
            self.learned.receive(received, writer);
        }
    }

    fn due(&mut self, writer: &mut Writer<'_>) {
        self.pour(writer);
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::consensus::deserialize;
    use handfast_wire::{Codec, HEADER_BYTES, Network};

    use super::*;

    #[test]
    fn heavy_frames_are_whole_and_legal_and_half_a_frame_lacks_a_byte() {
        let magic = Network::Regtest.magic();
        let frames = Frames::default();
        let made = frames.made(magic);
        for frame in [&made.inv, &made.not_found, &made.tx] {
            let mut bytes = BytesMut::from(&frame[..]);
            let frame = Codec::new(magic)
                .next_frame(&mut bytes)
                .expect("it is legal");
            frame.expect("it is whole").message.expect("it can be read");
            assert!(bytes.is_empty());
        }
        let _: Transaction = deserialize(&made.tx[HEADER_BYTES..]).expect("it can be parsed");
        assert!(made.tx.len() > 3_990_000);

        assert_eq!(made.half.len(), HEADER_BYTES + PROMISED - 1);
        assert_eq!(&made.half[4..9], b"block");
        let promised = made.half[16..20]
            .first_chunk()
            .copied()
            .map(u32::from_le_bytes);
        assert_eq!(promised, Some(3_990_000));
    }
}
