//! The offsets of the parts of an encoded block, without copying them.
//!
//! Bitcoin Core has decoded the bytes before; this finds what its interface does not return:
//! where the block ends, which transactions have witness data, and the coinbase's witness
//! commitment. Serialization: Bitcoin Core `primitives/transaction.h` and BIP144.

use std::ops::Range;

use handfast_wire::constants::WITNESS_COMMITMENT;

/// Bytes of a block header.
const HEADER_BYTES: usize = 80;
/// Shortest commitment script: [`WITNESS_COMMITMENT`] and a hash.
const COMMITMENT_BYTES: usize = 38;
/// Hash and index of an output.
const OUTPOINT_BYTES: usize = 36;
const SEQUENCE_BYTES: usize = 4;
const VALUE_BYTES: usize = 8;

/// The layout of the block at the front of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Length of the block, bytes.
    pub(crate) length: usize,
    pub(crate) transactions: Vec<Transaction>,
    /// `None`: the first transaction is not a coinbase, or there is none.
    pub(crate) coinbase: Option<Coinbase>,
    /// The hash in the last output of the first transaction that is a witness commitment.
    pub(crate) commitment: Option<[u8; 32]>,
}

/// One transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Transaction {
    /// Its bytes.
    pub(crate) place: Range<usize>,
    /// Bytes of it that its txid does not cover.
    witness: Option<Range<usize>>,
}

impl Transaction {
    /// Whether an input has witness data.
    pub(crate) fn has_witness(&self) -> bool {
        self.witness.is_some()
    }

    /// Bytes of the encoding without witness data.
    pub(crate) fn stripped_bytes(&self) -> usize {
        // Marker and flag are left out with the witness.
        let witness = self.witness.as_ref().map_or(0, |witness| witness.len() + 2);
        self.place.len() - witness
    }

    /// The encoding without witness data, which the txid covers, in pieces.
    pub(crate) fn stripped<'a>(&self, block: &'a [u8]) -> [&'a [u8]; 3] {
        let Range { start, end } = self.place;
        match &self.witness {
            None => [&block[start..end], &[], &[]],
            Some(witness) => [
                &block[start..start + 4],
                &block[start + 6..witness.start],
                &block[witness.end..end],
            ],
        }
    }
}

/// The coinbase's witness, as far as it is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Coinbase {
    /// The only item of its only witness, when it has 32 bytes.
    pub(crate) reserved_value: Option<[u8; 32]>,
}

/// Scans a block. `None`: the bytes do not begin with a block.
pub(crate) fn scan(bytes: &[u8]) -> Option<Layout> {
    let mut cursor = Cursor { bytes, at: 0 };
    cursor.skip(HEADER_BYTES)?;
    let count = cursor.compact_size()?;
    // A transaction has at least ten bytes, so the allocation is bounded by the bytes sent.
    let mut layout = Layout {
        length: 0,
        transactions: Vec::with_capacity(count.min(bytes.len() / 10)),
        coinbase: None,
        commitment: None,
    };
    for index in 0..count {
        let transaction = match index {
            0 => cursor.first_transaction(&mut layout)?,
            _ => cursor.transaction(&mut First::default())?,
        };
        layout.transactions.push(transaction);
    }
    layout.length = cursor.at;
    Some(layout)
}

/// The parts of the first transaction that are checked.
#[derive(Default)]
struct First {
    inputs: usize,
    null_outpoint: bool,
    commitment: Option<[u8; 32]>,
    reserved_value: Option<[u8; 32]>,
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(count)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn skip(&mut self, count: usize) -> Option<()> {
        self.take(count).map(drop)
    }

    /// Core's `ReadCompactSize`; the decoder has checked that it is the shortest form.
    fn compact_size(&mut self) -> Option<usize> {
        let size = match self.take(1)?[0] {
            0xfd => u64::from(u16::from_le_bytes(self.take(2)?.try_into().ok()?)),
            0xfe => u64::from(u32::from_le_bytes(self.take(4)?.try_into().ok()?)),
            0xff => u64::from_le_bytes(self.take(8)?.try_into().ok()?),
            small => u64::from(small),
        };
        usize::try_from(size).ok()
    }

    /// A script or a witness item.
    fn bytes_with_length(&mut self) -> Option<&'a [u8]> {
        let length = self.compact_size()?;
        self.take(length)
    }

    fn first_transaction(&mut self, layout: &mut Layout) -> Option<Transaction> {
        let mut first = First::default();
        let transaction = self.transaction(&mut first)?;
        let is_coinbase = first.inputs == 1 && first.null_outpoint;
        layout.coinbase = is_coinbase.then_some(Coinbase {
            reserved_value: first.reserved_value,
        });
        layout.commitment = first.commitment;
        Some(transaction)
    }

    fn transaction(&mut self, first: &mut First) -> Option<Transaction> {
        let start = self.at;
        self.skip(4)?;
        let mut inputs = self.compact_size()?;
        let mut flag = 0;
        if inputs == 0 {
            // Marker and flag of BIP144, or a transaction without inputs and outputs.
            flag = self.take(1)?[0];
            if flag != 0 {
                inputs = self.compact_size()?;
            }
        }
        self.inputs(inputs, first)?;
        if inputs > 0 || flag != 0 {
            self.outputs(first)?;
        }
        let witness = match flag {
            0 => None,
            _ => Some(self.witnesses(inputs, first)?),
        };
        self.skip(4)?;
        Some(Transaction {
            place: start..self.at,
            witness,
        })
    }

    fn inputs(&mut self, count: usize, first: &mut First) -> Option<()> {
        for _ in 0..count {
            let outpoint = self.take(OUTPOINT_BYTES)?;
            let (hash, index) = outpoint.split_at(32);
            first.null_outpoint = hash == [0; 32] && index == [0xff; 4];
            self.bytes_with_length()?;
            self.skip(SEQUENCE_BYTES)?;
        }
        first.inputs = count;
        Some(())
    }

    fn outputs(&mut self, first: &mut First) -> Option<()> {
        for _ in 0..self.compact_size()? {
            self.skip(VALUE_BYTES)?;
            let script = self.bytes_with_length()?;
            if script.len() >= COMMITMENT_BYTES && script.starts_with(&WITNESS_COMMITMENT) {
                first.commitment = script[WITNESS_COMMITMENT.len()..].first_chunk().copied();
            }
        }
        Some(())
    }

    fn witnesses(&mut self, inputs: usize, first: &mut First) -> Option<Range<usize>> {
        let start = self.at;
        for _ in 0..inputs {
            let items = self.compact_size()?;
            for _ in 0..items {
                let item = self.bytes_with_length()?;
                first.reserved_value = match (inputs, items) {
                    (1, 1) => item.try_into().ok(),
                    _ => None,
                };
            }
        }
        Some(start..self.at)
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::consensus::serialize;
    use bitcoin::hashes::{Hash, sha256d};
    use bitcoin::{Block, Network, OutPoint, ScriptBuf, TxIn, TxOut, Witness};

    use super::*;

    /// A block of transactions of every shape.
    fn block() -> Block {
        let mut block = bitcoin::constants::genesis_block(Network::Regtest);
        let coinbase = &mut block.txdata[0];
        let mut commitment = WITNESS_COMMITMENT.to_vec();
        commitment.extend([7; 40]);
        for script in [vec![0x6a], commitment, vec![0x51; 70_000]] {
            coinbase.output.push(TxOut {
                value: bitcoin::Amount::ZERO,
                script_pubkey: ScriptBuf::from_bytes(script),
            });
        }
        coinbase.input[0].witness = Witness::from_slice(&[[9_u8; 32]]);
        let mut plain = block.txdata[0].clone();
        plain.input = (0..300)
            .map(|index| TxIn {
                previous_output: OutPoint {
                    vout: index,
                    ..OutPoint::default()
                },
                ..TxIn::default()
            })
            .collect();
        let mut signed = plain.clone();
        signed.input.truncate(3);
        signed.input[1].witness = Witness::from_slice(&[vec![1; 300], vec![], vec![2; 5]]);
        block.txdata.extend([plain, signed]);
        block
    }

    #[test]
    fn the_parts_of_a_block_have_the_offsets_that_another_decoder_finds() {
        let block = block();
        let encoded = serialize(&block);
        let mut bytes = encoded.clone();
        bytes.extend([0xfe; 100]);
        let layout = scan(&bytes).unwrap();
        assert_eq!(layout.length, encoded.len());
        assert_eq!(layout.commitment, Some([7; 32]));
        let reserved_value = Some([9; 32]);
        assert_eq!(layout.coinbase, Some(Coinbase { reserved_value }));
        for (transaction, found) in block.txdata.iter().zip(&layout.transactions) {
            assert_eq!(serialize(transaction), bytes[found.place.clone()]);
            assert_eq!(transaction.base_size(), found.stripped_bytes());
            let stripped = found.stripped(&bytes).concat();
            let txid = sha256d::Hash::hash(&stripped);
            assert_eq!(transaction.compute_txid().to_raw_hash(), txid);
            let signed = transaction
                .input
                .iter()
                .any(|input| !input.witness.is_empty());
            assert_eq!(found.has_witness(), signed);
        }
        assert_eq!(layout.transactions.len(), 3);
    }

    #[test]
    fn a_truncated_block_is_no_block() {
        let mut block = block();
        block.txdata[0].output.pop();
        let bytes = serialize(&block);
        for length in 0..bytes.len() {
            assert_eq!(scan(&bytes[..length]), None, "cut at {length}");
        }
        assert!(scan(&bytes).is_some());
    }

    #[test]
    fn a_claimed_count_costs_no_memory() {
        let mut bytes = vec![0; HEADER_BYTES];
        bytes.push(0xff);
        bytes.extend([0xff; 8]);
        assert_eq!(scan(&bytes), None);
    }

    #[test]
    fn a_first_transaction_with_another_outpoint_or_a_second_input_is_not_a_coinbase() {
        let whole = block();
        let mut second_input = whole.clone();
        let input = second_input.txdata[0].input[0].clone();
        second_input.txdata[0].input.push(input);
        let mut spends = whole.clone();
        spends.txdata[0].input[0].previous_output.vout = 0;
        for other in [second_input, spends] {
            assert_eq!(scan(&serialize(&other)).unwrap().coinbase, None);
        }
        let mut long = whole;
        long.txdata[0].input[0].witness = Witness::from_slice(&[[9_u8; 33]]);
        let reserved_value = None;
        let coinbase = scan(&serialize(&long)).unwrap().coinbase;
        assert_eq!(coinbase, Some(Coinbase { reserved_value }));
    }
}
