//! Blocks that the tool makes, where blocks cost next to no work: regtest, and signets
//! whose challenge anybody meets.

use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version};
use bitcoin::consensus::serialize;
use bitcoin::hashes::Hash;
use bitcoin::script::{Builder, PushBytesBuf};
use bitcoin::{
    Amount, Block, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxMerkleNode, TxOut, Witness,
    WitnessMerkleNode, transaction,
};
use handfast_wire::RawBlock;

/// `OP_RETURN`, a push of 36 bytes, and what marks a witness commitment (BIP141).
const COMMITMENT: [u8; 6] = [0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed];
/// Blocks whose median time a block must be later than. Core `nMedianTimeSpan`.
pub(super) const MEDIAN_SPAN: usize = 11;

/// A block on top of `chain`, whose last header is at `height`. Its coinbase claims nothing,
/// so it is valid whatever the subsidy. `tag` makes it unlike any other.
///
/// # Panics
/// If the chain is empty.
pub(super) fn on_top_of(chain: &[Header], height: u32, now: u32, tag: u64) -> RawBlock {
    let parent = chain.last().expect("a chain has a genesis block");
    let coinbase = coinbase(height + 1, tag);
    let mut block = Block {
        header: Header {
            version: Version::from_consensus(0x2000_0000),
            prev_blockhash: parent.block_hash(),
            merkle_root: TxMerkleNode::all_zeros(),
            time: now.max(median_time(chain) + 1),
            bits: parent.bits,
            nonce: 0,
        },
        txdata: vec![coinbase],
    };
    block.header.merkle_root = block.compute_merkle_root().expect("it has a transaction");
    while !block.header.target().is_met_by(block.header.block_hash()) {
        block.header.nonce = block.header.nonce.checked_add(1).unwrap_or_else(|| {
            block.header.time += 1;
            0
        });
    }
    RawBlock::new(serialize(&block).into()).expect("it was a block a moment ago")
}

fn median_time(chain: &[Header]) -> u32 {
    let last = chain.len().saturating_sub(MEDIAN_SPAN);
    let mut times: Vec<u32> = chain[last..].iter().map(|header| header.time).collect();
    times.sort_unstable();
    times[times.len() / 2]
}

/// A coinbase with a witness commitment, which signets want in every block.
fn coinbase(height: u32, tag: u64) -> Transaction {
    let tag = PushBytesBuf::from(tag.to_le_bytes());
    let nonce = [0_u8; 32];
    // Of a block whose only transaction is its coinbase, whose witness id is zero.
    let root = WitnessMerkleNode::all_zeros();
    let commitment = Block::compute_witness_commitment(&root, &nonce);
    let commitment = [&COMMITMENT[..], commitment.as_byte_array()].concat();
    let output = |script: ScriptBuf| TxOut {
        value: Amount::ZERO,
        script_pubkey: script,
    };
    Transaction {
        version: transaction::Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint::null(),
            script_sig: Builder::new()
                .push_int(height.into())
                .push_slice(tag)
                .into_script(),
            sequence: Sequence::MAX,
            witness: Witness::from_slice(&[nonce]),
        }],
        output: vec![
            output(ScriptBuf::new_op_return([])),
            output(ScriptBuf::from_bytes(commitment)),
        ],
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::consensus::deserialize;
    use handfast_wire::Network;

    use super::*;

    #[test]
    fn a_block_is_on_top_of_its_chain_and_later_than_its_median() {
        let genesis = Network::Regtest.genesis();
        let mut chain = vec![genesis];
        // Below 17, BIP34's height is an opcode of its own.
        for height in 16..40 {
            let raw = on_top_of(&chain, height, 5, height.into());
            let block: Block = deserialize(&raw.bytes).expect("a block");
            assert!(block.check_merkle_root() && block.check_witness_commitment());
            assert_eq!(block.bip34_block_height(), Ok(u64::from(height) + 1));
            block
                .header
                .validate_pow(block.header.target())
                .expect("the work is done");
            assert_eq!(
                block.header.prev_blockhash,
                chain[chain.len() - 1].block_hash()
            );
            assert!(block.header.time > median_time(&chain), "at {height}");
            chain.push(block.header);
        }
    }
}
