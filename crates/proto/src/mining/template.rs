//! A block without its nonces.

use bitcoin::absolute::LockTime;
use bitcoin::block::Header;
use bitcoin::consensus::{Encodable, serialize};
use bitcoin::hashes::{Hash, sha256d};
use bitcoin::script::{Builder, PushBytesBuf};
use bitcoin::transaction::Version as TxVersion;
use bitcoin::{
    Block, OutPoint, Script, ScriptBuf, Sequence, Transaction, TxIn, TxMerkleNode, TxOut, VarInt,
    Witness, WitnessMerkleNode, Wtxid,
};
use bytes::Bytes;
use handfast_wire::RawBlock;
use handfast_wire::constants::WITNESS_COMMITMENT;

use super::next_block::NextBlock;

/// Longest tag, bytes. With the height and the extra nonce the script stays below the 100
/// bytes that consensus allows.
pub const MAX_TAG: usize = 64;
/// Bytes of the coinbase that we vary: four that make miners with the same payout differ, so that
/// they do not do the same work, and the extra nonce.
const EXTRA_BYTES: usize = 4 + size_of::<u64>();
/// The value that a coinbase's witness reserves for the future (BIP141).
const RESERVED: [u8; 32] = [0; 32];

/// The recipient of a block's reward, and its coinbase text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Payout {
    /// The payout script.
    pub script: ScriptBuf,
    /// Text in the coinbase, at most [`MAX_TAG`] bytes.
    pub tag: Vec<u8>,
    /// Differs between miners.
    pub salt: u32,
}

/// A block without nonce and extra nonce. Extra nonces give as many different headers; each costs
/// two hashes for every hundred bytes of coinbase and two for each level of the tree of
/// transactions, whatever their number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    next: NextBlock,
    /// The coinbase with extra nonce 0.
    coinbase: Transaction,
    /// The same, serialized without its witness: the data of its txid.
    stripped: Vec<u8>,
    /// The other transactions, in order.
    transactions: Vec<Transaction>,
    /// The Merkle branch of the coinbase.
    branch: Vec<sha256d::Hash>,
}

impl Template {
    /// A block that pays all of the subsidy, and none of the fees, to `payout`.
    ///
    /// # Panics
    /// If the tag is longer than [`MAX_TAG`].
    #[must_use]
    pub fn new(next: NextBlock, payout: &Payout, transactions: Vec<Transaction>) -> Self {
        let mut coinbase = coinbase(&next, payout);
        if next.commits {
            coinbase.output.push(TxOut {
                value: bitcoin::Amount::ZERO,
                script_pubkey: commitment_script(&transactions),
            });
            coinbase.input[0].witness = Witness::from_slice(&[RESERVED]);
        }
        let mut bare = coinbase.clone();
        bare.input[0].witness = Witness::new();
        let ids = transactions
            .iter()
            .map(|transaction| transaction.compute_txid().to_raw_hash());
        Self {
            next,
            coinbase,
            stripped: serialize(&bare),
            branch: branch(ids.collect()),
            transactions,
        }
    }

    /// Parent, height and required header fields of the block.
    #[must_use]
    pub fn next(&self) -> &NextBlock {
        &self.next
    }

    /// The offset of the extra nonce in the serialized coinbase: at the end of its script.
    fn extra_at(&self) -> usize {
        // Version, number of inputs, outpoint, length of the script (at most 100).
        const BEFORE_SCRIPT: usize = 4 + 1 + 36 + 1;
        BEFORE_SCRIPT + self.coinbase.input[0].script_sig.len() - size_of::<u64>()
    }

    /// The header for an extra nonce, with nonce 0.
    #[must_use]
    pub fn header(&self, extra_nonce: u64) -> [u8; 80] {
        let at = self.extra_at();
        let mut bytes = self.stripped.clone();
        bytes[at..at + size_of::<u64>()].copy_from_slice(&extra_nonce.to_le_bytes());
        let root = self
            .branch
            .iter()
            .fold(sha256d::Hash::hash(&bytes), |left, right| {
                pair(&left, right)
            });
        let header = Header {
            version: self.next.version,
            prev_blockhash: self.next.parent,
            merkle_root: TxMerkleNode::from_raw_hash(root),
            time: self.next.time,
            bits: self.next.bits,
            nonce: 0,
        };
        serialize(&header)
            .try_into()
            .expect("a header has 80 bytes")
    }

    /// The block that has this header for this extra nonce.
    ///
    /// # Panics
    /// If the header commits to another coinbase: it was not made by [`Template::header`].
    #[must_use]
    pub fn block(&self, header: &[u8; 80], extra_nonce: u64) -> RawBlock {
        let ours = self.header(extra_nonce);
        assert_eq!(ours[..76], header[..76], "a header of another template");
        let mut coinbase = self.coinbase.clone();
        let mut script = coinbase.input[0].script_sig.to_bytes();
        let at = script.len() - size_of::<u64>();
        script[at..].copy_from_slice(&extra_nonce.to_le_bytes());
        coinbase.input[0].script_sig = script.into();

        let mut bytes = header.to_vec();
        let count = self.transactions.len() + 1;
        let encoded = [
            VarInt::from(count).consensus_encode(&mut bytes),
            coinbase.consensus_encode(&mut bytes),
        ];
        let others = self
            .transactions
            .iter()
            .map(|transaction| transaction.consensus_encode(&mut bytes))
            .collect::<Vec<_>>();
        assert!(
            encoded.iter().chain(&others).all(Result::is_ok),
            "writing to memory"
        );
        RawBlock::new(Bytes::from(bytes)).expect("a header and transactions")
    }

    /// The commitment script in the coinbase of a block with these transactions (BIP141).
    #[must_use]
    pub fn commitment_script(transactions: &[Transaction]) -> ScriptBuf {
        commitment_script(transactions)
    }
}

fn commitment_script(transactions: &[Transaction]) -> ScriptBuf {
    // The coinbase's wtxid counts as zero.
    let leaves = std::iter::once(Wtxid::all_zeros())
        .chain(transactions.iter().map(Transaction::compute_wtxid))
        .map(Wtxid::to_raw_hash);
    let root = bitcoin::merkle_tree::calculate_root(leaves).expect("the coinbase's is there");
    let root = WitnessMerkleNode::from_raw_hash(root);
    let commitment = Block::compute_witness_commitment(&root, &RESERVED);
    let [_op_return, _push, mark @ ..] = WITNESS_COMMITMENT;
    let mut push = PushBytesBuf::from(mark);
    push.extend_from_slice(commitment.as_byte_array())
        .expect("36 bytes can be pushed");
    ScriptBuf::new_op_return(push)
}

/// The coinbase with extra nonce 0 and without a commitment. Lock time and sequence follow BIP54.
fn coinbase(next: &NextBlock, payout: &Payout) -> Transaction {
    assert!(payout.tag.len() <= MAX_TAG, "{} bytes", payout.tag.len());
    let push = |bytes: &[u8]| {
        PushBytesBuf::try_from(bytes.to_vec()).expect("shorter than a script may be")
    };
    // BIP34: the height first.
    let mut script = Builder::new().push_int(next.height.into());
    if !payout.tag.is_empty() {
        script = script.push_slice(push(&payout.tag));
    }
    let mut extra = [0; EXTRA_BYTES];
    extra[..4].copy_from_slice(&payout.salt.to_le_bytes());
    Transaction {
        version: TxVersion::TWO,
        lock_time: LockTime::from_height(next.height - 1).expect("heights are below 500 million"),
        input: vec![TxIn {
            previous_output: OutPoint::null(),
            script_sig: script.push_slice(push(&extra)).into_script(),
            sequence: Sequence::ENABLE_LOCKTIME_NO_RBF,
            witness: Witness::new(),
        }],
        output: vec![TxOut {
            value: next.subsidy,
            script_pubkey: Script::to_owned(&payout.script),
        }],
    }
}

pub(super) fn pair(left: &sha256d::Hash, right: &sha256d::Hash) -> sha256d::Hash {
    let mut both = [0; 64];
    both[..32].copy_from_slice(left.as_byte_array());
    both[32..].copy_from_slice(right.as_byte_array());
    sha256d::Hash::hash(&both)
}

/// The Merkle branch of the first leaf, given the others.
pub(super) fn branch(mut others: Vec<sha256d::Hash>) -> Vec<sha256d::Hash> {
    let mut branch = Vec::new();
    // `others` are the hashes of a level without the leftmost.
    while !others.is_empty() {
        branch.push(others[0]);
        if others.len().is_multiple_of(2) {
            // With the leftmost they are an odd number: the last is paired with itself.
            others.push(others[others.len() - 1]);
        }
        others = others[1..]
            .chunks(2)
            .map(|two| pair(&two[0], &two[1]))
            .collect();
    }
    branch
}
