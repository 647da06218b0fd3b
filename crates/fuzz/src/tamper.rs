//! Blocks with another block's header: what a peer can forge from a valid block without work, and
//! what proves nothing about the block with that header.

use bitcoin::block::Header;
use bitcoin::consensus::{deserialize, serialize};
use bitcoin::{Amount, Block, ScriptBuf, TxOut, Witness};
use bytes::{BufMut, Bytes, BytesMut};
use handfast_wire::RawBlock;

use crate::writer::ConnectionRng;

/// How a block is tampered with. Its header stays, and so does its hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tamper {
    /// Its coinbase has another output: the merkle root does not match.
    Coinbase,
    /// The same without a witness commitment, which a signet checks before the merkle root.
    Bare,
    /// The witness of its coinbase is changed, which no transaction id covers: the merkle root
    /// matches, and the witness commitment does not (BIP141).
    Witness,
    /// Its last transactions are duplicated. Where their number is not a power of two the merkle
    /// root still matches (CVE-2012-2459).
    Duplicated,
    /// A single transaction of 64 bytes, the length of two ids: of a block of two transactions
    /// it can have the merkle root (CVE-2017-12842).
    Short,
}

impl Tamper {
    pub(crate) const ALL: [Self; 5] = [
        Self::Coinbase,
        Self::Bare,
        Self::Witness,
        Self::Duplicated,
        Self::Short,
    ];

    /// One of the kinds.
    pub(crate) fn pick(rng: &mut ConnectionRng) -> Self {
        let index = rng.pick(0..Self::ALL.len() as u64);
        Self::ALL[usize::try_from(index).expect("below five")]
    }

    /// A block of this header and other content; `None` if `block` is none.
    pub(crate) fn apply(self, block: &RawBlock, rng: &mut ConnectionRng) -> Option<RawBlock> {
        let mut whole: Block = deserialize(&block.bytes).ok()?;
        match self {
            Self::Short => return Some(short(block.header, &whole, rng)),
            Self::Coinbase => whole.txdata.first_mut()?.output.push(TxOut {
                value: Amount::ZERO,
                script_pubkey: ScriptBuf::new_op_return(rng.any().to_le_bytes()),
            }),
            Self::Bare => {
                let coinbase = whole.txdata.first_mut()?;
                coinbase.output = vec![TxOut {
                    value: Amount::ZERO,
                    script_pubkey: ScriptBuf::new_op_return(rng.any().to_le_bytes()),
                }];
            }
            Self::Witness => {
                let coinbase = whole.txdata.first_mut()?.input.first_mut()?;
                coinbase.witness = Witness::from_slice(&[rng.bytes(32)]);
            }
            Self::Duplicated => {
                let count = whole.txdata.len();
                if count == 0 {
                    return None;
                }
                // The last of an odd row of the tree, which is paired with itself.
                let twice = 1 << count.trailing_zeros();
                let from = match twice == count {
                    true => 0,
                    false => count - twice,
                };
                whole.txdata.extend_from_within(from..);
            }
        }
        // In the other order it could not be parsed.
        whole.header = block.header;
        RawBlock::new(serialize(&whole).into()).ok()
    }
}

/// The ids of its two transactions as one transaction, if it has two; else one of our own.
fn short(header: Header, whole: &Block, rng: &mut ConnectionRng) -> RawBlock {
    let mut bytes = BytesMut::from(&serialize(&header)[..]);
    bytes.put_u8(1);
    match &whole.txdata[..] {
        [first, second] => {
            bytes.put_slice(first.compute_txid().as_ref());
            bytes.put_slice(second.compute_txid().as_ref());
        }
        _ => bytes.put_slice(&transaction_of_64_bytes(rng)),
    }
    RawBlock::new(bytes.freeze()).expect("it begins with a header")
}

/// A transaction that can be parsed: an input, an output, and four bytes of script.
fn transaction_of_64_bytes(rng: &mut ConnectionRng) -> Bytes {
    let mut bytes = BytesMut::with_capacity(64);
    bytes.put_u32_le(2);
    bytes.put_u8(1);
    bytes.put_slice(&rng.bytes(32));
    bytes.put_u32_le(0);
    bytes.put_slice(&[2, 0x51, 0x51]);
    bytes.put_u32_le(u32::MAX);
    bytes.put_u8(1);
    bytes.put_u64_le(0);
    bytes.put_slice(&[2, 0x51, 0x51]);
    bytes.put_u32_le(0);
    bytes.freeze()
}

#[cfg(test)]
mod tests {
    use bitcoin::Transaction;
    use bitcoin::hashes::Hash;
    use handfast_wire::Network;

    use super::*;
    use crate::blocks;
    use crate::writer::PeerParams;

    fn block() -> RawBlock {
        let params = PeerParams::new(&Network::Regtest, 1_700_000_000);
        blocks::shown(&[params.genesis], &params, 3, || true).expect("it is not stopped")
    }

    #[test]
    fn a_block_that_was_tampered_with_has_the_hash_of_the_true_one_and_other_bytes() {
        let block = block();
        for seed in 0..20 {
            let mut rng = ConnectionRng::new(seed);
            for tamper in Tamper::ALL {
                let other = tamper.apply(&block, &mut rng).expect("it is a block");
                assert_eq!(other.hash, block.hash, "{tamper:?}");
                assert_ne!(other.bytes, block.bytes, "{tamper:?}");
            }
        }
    }

    #[test]
    fn what_no_transaction_id_covers_passes_the_merkle_root_and_not_the_commitment() {
        let other = Tamper::Witness.apply(&block(), &mut ConnectionRng::new(1));
        let other: Block = deserialize(&other.expect("a block").bytes).expect("a block");
        assert!(other.check_merkle_root() && !other.check_witness_commitment());
        let other = Tamper::Coinbase.apply(&block(), &mut ConnectionRng::new(1));
        let other: Block = deserialize(&other.expect("a block").bytes).expect("a block");
        assert!(!other.check_merkle_root());
    }

    #[test]
    fn transactions_that_are_there_twice_pass_the_merkle_root_unless_they_fill_the_tree() {
        let coinbase = |block: &Block| block.txdata[0].clone();
        let with = |count: usize| {
            let mut whole: Block = deserialize(&block().bytes).expect("a block");
            for number in 1..count {
                let mut more = coinbase(&whole);
                more.version.0 = i32::try_from(number).expect("few");
                whole.txdata.push(more);
            }
            whole.header.merkle_root = whole.compute_merkle_root().expect("it has some");
            RawBlock::new(serialize(&whole).into()).expect("a block")
        };
        for (count, passes) in [(1, false), (2, false), (3, true), (5, true), (6, true)] {
            let other = Tamper::Duplicated.apply(&with(count), &mut ConnectionRng::new(1));
            let other: Block = deserialize(&other.expect("a block").bytes).expect("a block");
            assert!(other.txdata.len() > count);
            assert_eq!(other.check_merkle_root(), passes, "{count} transactions");
        }
    }

    #[test]
    fn two_ids_are_one_short_transaction_and_where_there_are_none_one_is_made() {
        let bytes = transaction_of_64_bytes(&mut ConnectionRng::new(1));
        let transaction: Transaction = deserialize(&bytes).expect("it can be parsed");
        assert_eq!((bytes.len(), transaction.input.len()), (64, 1));
        let mut whole: Block = deserialize(&block().bytes).expect("a block");
        let mut second = whole.txdata[0].clone();
        second.version.0 = 7;
        let ids = [&whole.txdata[0], &second].map(|it| it.compute_txid().to_byte_array());
        whole.txdata.push(second);
        let raw = RawBlock::new(serialize(&whole).into()).expect("a block");
        let other = Tamper::Short
            .apply(&raw, &mut ConnectionRng::new(1))
            .expect("a block");
        assert_eq!(other.bytes[81..], ids.concat());
    }
}
