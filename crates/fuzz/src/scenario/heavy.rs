//! Those who say what is allowed and costs much: memory that a frame's head makes a target
//! keep, and work that a frame makes for all who wait behind it.

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
use super::machine::Heard;
use crate::voice::{Dice, Voice};

/// What the head of a half frame promises, bytes.
const PROMISED: usize = 3_990_000;
/// What a transaction has besides the script that makes it long, bytes.
const BESIDE_ITS_SCRIPT: usize = 100;
/// The numbers in them come from this: they are the same in every run.
const SEED: u64 = 0x0068_6561_7679;

/// The frames that are sent, made once: with some megabytes each they are not made for every
/// connection, and shared by all who send them.
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
            let mut dice = Dice::new(SEED);
            let mut list = || {
                let id = |dice: &mut Dice| Txid::from_slice(&dice.bytes(32)).expect("32 bytes");
                let list = (0..MAX_INV).map(|_| Inventory::Transaction(id(&mut dice)));
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

/// The head of a `block` and all of what it promises but the last byte.
fn half_a_frame(magic: bitcoin::p2p::Magic) -> Bytes {
    let head = encode_head(magic, "block", PROMISED, [0; 4]);
    let mut frame = BytesMut::with_capacity(head.len() + PROMISED);
    frame.put_slice(&head);
    frame.put_bytes(0x68, PROMISED - 1);
    frame.freeze()
}

/// Promises a block and keeps back its last byte, by its seed before its `version` or after
/// the handshake.
#[derive(Debug)]
pub(super) struct HalfFrame;

impl Behaviour for HalfFrame {
    fn skips_the_handshake(&mut self, voice: &mut Voice<'_>) -> bool {
        voice.dice.pick(0..2) != 0
    }

    fn ready(&mut self, voice: &mut Voice<'_>) {
        let magic = voice.dialect().bitcoin_magic();
        let half = voice.phrases.heavy.half(magic);
        voice.raw(half);
        let stay = voice.dice.time(1_000..4_000);
        voice.wake(stay);
    }
}

/// What there is too much of. Each is a message that any peer may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kin {
    /// Announcements of transactions, 50,000 in a message.
    Inv,
    /// As many that were never asked for and are not there.
    NotFound,
    /// Transactions of 4 MB.
    Tx,
    /// Headers that the target has, as many as it serves in a message.
    KnownHeaders,
}

/// A peer that floods with what is allowed.
#[derive(Debug, Default)]
pub(super) struct LegalFlood {
    learned: Learned,
    /// By its seed.
    kin: Option<Kin>,
    /// Frames that are still to be sent.
    frames: u64,
}

impl LegalFlood {
    /// A frame, and the next one a little later.
    fn pour(&mut self, voice: &mut Voice<'_>) {
        let Some(kin) = self.kin.filter(|_| self.frames > 0) else {
            return voice.leave_somehow();
        };
        self.frames -= 1;
        let magic = voice.dialect().bitcoin_magic();
        let made = voice.phrases.heavy.made(magic);
        let frame = match kin {
            Kin::Inv => Some(made.inv.clone()),
            Kin::NotFound => Some(made.not_found.clone()),
            Kin::Tx => Some(made.tx.clone()),
            Kin::KnownHeaders => None,
        };
        match frame {
            Some(frame) => voice.raw(frame),
            None => voice.say(&Message::Headers(self.learned.first())),
        }
        let pause = voice.dice.time(100..600);
        voice.wake(pause);
    }
}

impl Behaviour for LegalFlood {
    fn ready(&mut self, voice: &mut Voice<'_>) {
        let kin = match voice.dice.pick(0..4) {
            0 => Kin::Inv,
            1 => Kin::NotFound,
            2 => Kin::Tx,
            _ => Kin::KnownHeaders,
        };
        self.kin = Some(kin);
        self.frames = voice.dice.pick(4..12);
        if kin == Kin::KnownHeaders {
            self.learned.begin(voice);
        }
        self.pour(voice);
    }

    fn heard(&mut self, heard: Heard<'_>, voice: &mut Voice<'_>) {
        if self.kin == Some(Kin::KnownHeaders) {
            self.learned.hear(heard, voice);
        }
    }

    fn due(&mut self, voice: &mut Voice<'_>) {
        self.pour(voice);
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
