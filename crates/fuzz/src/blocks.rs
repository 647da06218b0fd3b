//! Blocks made by the fuzzer, on networks where they cost almost no work: regtest, and signets
//! whose challenge needs no signature.

use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version};
use bitcoin::consensus::{Params, serialize};
use bitcoin::hashes::Hash;
use bitcoin::p2p::message_blockdata::Inventory;
use bitcoin::script::{Builder, PushBytesBuf};
use bitcoin::{
    Amount, Block, BlockHash, CompactTarget, OutPoint, ScriptBuf, Sequence, Transaction, TxIn,
    TxMerkleNode, TxOut, Witness, WitnessMerkleNode, transaction,
};
use handfast_sha256d::Engine;
use handfast_wire::RawBlock;

use crate::writer::PeerParams;

/// The text in the coinbase of every block of the fuzzer.
const COINBASE_TEXT: &[u8; 13] = b"handfast-fuzz";
/// `OP_RETURN`, a push of 36 bytes, and what marks a witness commitment (BIP141).
const COMMITMENT: [u8; 6] = [0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed];
/// Blocks whose median time a block must be later than. Core `nMedianTimeSpan`.
const MEDIAN_SPAN: usize = 11;

/// The version of every header of the fuzzer, the letters `FUZZ`: such a tip, in `getchaintips`
/// and by `getblockheader`, is recognisable. It is no version of BIP9, whose bits nodes count and
/// warn of, and above those that BIP34, BIP65 and BIP66 forbid.
pub(crate) const BLOCK_VERSION: i32 = 0x4655_5a5a;

/// Length of a branch known to connections and the oracle: it leaves the chain below the tip, and
/// has two more.
const BRANCH_LENGTH: usize = 3;

/// How many different blocks, or branches, connections and the oracle of a run share. Few: see
/// `BESIDE_EACH_OTHER` in the scenarios, and where blocks cost work each of them takes a fraction
/// of a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Variety {
    /// Blocks on top of the tip that are announced or tampered with.
    pub(crate) shown: u64,
    /// Branches that leave the chain below the tip.
    pub(crate) branches: u64,
    /// Withheld branches on top of the tip: enough for most concurrent connections to have one of
    /// their own.
    pub(crate) withheld: u64,
}

impl Variety {
    pub(crate) fn of(params: &PeerParams) -> Self {
        match params.easy_work {
            true => Self {
                shown: 8,
                branches: 4,
                withheld: 24,
            },
            false => Self {
                shown: 1,
                branches: 1,
                withheld: 2,
            },
        }
    }
}

/// Most expected hashes of one block, while all connections wait for it. Those of a young signet
/// take five million, and four times as many after each 2,016 that came too fast.
const MOST_HASHES: f64 = 20e6;
/// Nonces of a header.
const NONCES: u64 = 1 << 32;
/// Hashes between two checks whether the block is still wanted: a tenth of a second.
const HASHES_AT_ONCE: u64 = 1 << 21;

/// Whether a block on top of `chain` is made in a moment.
///
/// # Panics
/// If the chain is empty.
pub(crate) fn is_cheap(chain: &[Header], easy_work: bool) -> bool {
    let target = bitcoin::Target::from(next_bits(chain, easy_work));
    // The expected hashes of difficulty 1.
    target.difficulty_float() * f64::from(u32::MAX) < MOST_HASHES
}

/// Block `number` on top of `chain`. The same chain, run time and number give the same block:
/// what connections announce and tamper with is what the oracle offers. `None`: `goes_on` ended
/// it.
///
/// # Panics
/// If the chain is empty.
pub(crate) fn shown(
    chain: &[Header],
    params: &PeerParams,
    number: u64,
    goes_on: impl Fn() -> bool,
) -> Option<RawBlock> {
    on_top_of(chain, params.easy_work, params.time, number, goes_on)
}

/// Branch `number` that leaves `chain` below its tip and has more work, of blocks that `shown`
/// makes. The same input gives the same branch.
///
/// # Panics
/// If the chain is empty.
pub(crate) fn branch(
    chain: &[Header],
    number: u64,
    shown: impl FnMut(&[Header], u64) -> Option<RawBlock>,
) -> Option<Vec<RawBlock>> {
    let fork = chain.len().saturating_sub(1).max(1);
    // Not the numbers of blocks on top of the chain itself.
    row(&chain[..fork], BRANCH_LENGTH, !number, shown)
}

/// So many blocks in a row; `None`: one of them was not made.
pub(crate) fn row(
    chain: &[Header],
    length: usize,
    number: u64,
    mut shown: impl FnMut(&[Header], u64) -> Option<RawBlock>,
) -> Option<Vec<RawBlock>> {
    let mut chain = chain.to_vec();
    let mut row = Vec::with_capacity(length);
    for _ in 0..length {
        let block = shown(&chain, number)?;
        chain.push(block.header);
        row.push(block);
    }
    Some(row)
}

/// The block of an inventory item.
pub(crate) fn block_hash(item: &Inventory) -> Option<BlockHash> {
    match item {
        Inventory::Block(hash) | Inventory::WitnessBlock(hash) | Inventory::CompactBlock(hash) => {
            Some(*hash)
        }
        _ => None,
    }
}

/// A block on top of `chain`, which is whole, from the genesis block on. Its coinbase pays
/// nothing, so it is valid whatever the subsidy. `tag` makes it unique.
/// `easy_work`: see [`PeerParams`]. Without it this is a signet block, and takes five million
/// hashes on average: a fraction of a second. The search goes on while `goes_on` returns true;
/// `None`: it was ended.
///
/// # Panics
/// If the chain is empty.
pub(crate) fn on_top_of(
    chain: &[Header],
    easy_work: bool,
    now: u32,
    tag: u64,
    goes_on: impl Fn() -> bool,
) -> Option<RawBlock> {
    let parent = chain.last().expect("a chain has a genesis block");
    let height = u32::try_from(chain.len()).expect("heights fit 32 bits");
    let coinbase = coinbase(height, tag);
    let mut block = Block {
        header: Header {
            version: Version::from_consensus(BLOCK_VERSION),
            prev_blockhash: parent.block_hash(),
            merkle_root: TxMerkleNode::all_zeros(),
            time: now.max(median_time(chain) + 1),
            bits: next_bits(chain, easy_work),
            nonce: 0,
        },
        txdata: vec![coinbase],
    };
    block.header.merkle_root = block.compute_merkle_root().expect("it has a transaction");
    do_the_work(&mut block.header, goes_on)?;
    Some(RawBlock::new(serialize(&block).into()).expect("it was a block a moment ago"))
}

/// Searches all nonces, with one time after the other, while it goes on.
fn do_the_work(header: &mut Header, goes_on: impl Fn() -> bool) -> Option<()> {
    let engine = Engine::best();
    let target = header.target().to_le_bytes();
    loop {
        let bytes = serialize(header).try_into().expect("a header has 80 bytes");
        let mut from = 0;
        while from < NONCES {
            let to = (from + HASHES_AT_ONCE).min(NONCES);
            if let Some(nonce) = engine.search(&bytes, &target, from..to) {
                header.nonce = nonce;
                return Some(());
            }
            if !goes_on() {
                return None;
            }
            from = to;
        }
        header.time += 1;
    }
}

/// The bits of the block on top of `chain`. Core `GetNextWorkRequired`, as far as regtest and
/// signets have it.
fn next_bits(chain: &[Header], easy_work: bool) -> CompactTarget {
    let params = Params::SIGNET;
    let interval = usize::try_from(params.difficulty_adjustment_interval()).expect("2,016");
    let parent = chain[chain.len() - 1];
    if easy_work || !chain.len().is_multiple_of(interval) {
        return parent.bits;
    }
    // 2,015 of the 2,016 times between blocks: Core's well-known one too few.
    let first = chain[chain.len() - interval];
    let took = parent.time.saturating_sub(first.time);
    CompactTarget::from_next_work_required(parent.bits, took.into(), params)
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
                .push_slice(COINBASE_TEXT)
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
        // Up to 16, BIP34's height is an opcode, which `bip34_block_height` does not read.
        for height in 1..40 {
            let raw = on_top_of(&chain, true, 5, height, || true).expect("it is not stopped");
            let block: Block = deserialize(&raw.bytes).expect("a block");
            assert!(block.check_merkle_root() && block.check_witness_commitment());
            if height > 16 {
                assert_eq!(block.bip34_block_height(), Ok(height));
            }
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

    #[test]
    fn a_signet_s_block_has_a_signet_s_work_and_every_2016th_a_new_target() {
        let genesis = Network::Signet.genesis();
        // Twice as fast as wanted.
        let chain: Vec<Header> = (0..2_016)
            .map(|height| Header {
                time: genesis.time + height * 300,
                ..genesis
            })
            .collect();
        assert_eq!(next_bits(&chain[..2_015], false), genesis.bits);
        let next = next_bits(&chain, false);
        let ratio = |bits: CompactTarget| bitcoin::Target::from(bits).difficulty_float();
        let harder = ratio(next) / ratio(genesis.bits);
        assert!((1.99..2.01).contains(&harder), "{harder}");
        assert_eq!(next_bits(&chain, true), genesis.bits, "regtest stays");

        let time = genesis.time + 1;
        let block = on_top_of(&[genesis], false, time, 7, || true).expect("it is not stopped");
        let header = block.header;
        assert_eq!(header.bits, genesis.bits);
        header
            .validate_pow(header.target())
            .expect("the work is done");
    }
}
