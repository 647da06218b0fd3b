//! Makes blocks, and other blocks under the same header.

use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version};
use bitcoin::consensus::{deserialize, serialize};
use bitcoin::hashes::Hash;
use bitcoin::script::{Builder, PushBytesBuf};
use bitcoin::transaction::Version as TxVersion;
use bitcoin::{
    Amount, Block, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxMerkleNode, TxOut, Witness,
    WitnessMerkleNode, Wtxid,
};
use handfast_wire::RawBlock;

use super::joined;
pub(super) use crate::generator::subsidy;

/// How a block is changed under its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tamper {
    /// Another coinbase: the merkle root is wrong. On a signet the solution is looked for
    /// first, in the commitment to witnesses, which this coinbase lacks.
    OtherCoinbase,
    /// Another witness: the merkle root is right, the commitment to witnesses is not.
    OtherWitness,
    /// The last transaction twice, which leaves the merkle root of three as it was
    /// (CVE-2012-2459).
    Doubled,
    /// The ids of two transactions as the only one. See `super::joined`.
    Joined,
}

impl Tamper {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::Joined,
        Self::OtherCoinbase,
        Self::OtherWitness,
        Self::Doubled,
    ];

    /// A block with the same header and hash. `None` if this block cannot be changed so.
    pub fn of(self, block: &RawBlock) -> Option<RawBlock> {
        let mut changed: Block = deserialize(&block.bytes).ok()?;
        let bytes = match self {
            Self::OtherCoinbase => {
                let outputs = &mut changed.txdata.first_mut()?.output;
                outputs.truncate(1);
                outputs.first_mut()?.script_pubkey = ScriptBuf::from_bytes(vec![0x52]);
                serialize(&changed)
            }
            Self::OtherWitness => {
                let input = changed.txdata.first_mut()?.input.first_mut()?;
                if input.witness.is_empty() {
                    return None;
                }
                input.witness = Witness::from_slice(&[[0x77; 32]]);
                serialize(&changed)
            }
            Self::Doubled => {
                if changed.txdata.len() != 3 {
                    return None;
                }
                changed.txdata.push(changed.txdata[2].clone());
                serialize(&changed)
            }
            Self::Joined => {
                let [first, second] = changed.txdata.as_slice() else {
                    return None;
                };
                let ids = [first, second].map(|tx| tx.compute_txid().to_byte_array());
                deserialize::<Transaction>(&ids.concat()).ok()?;
                [&serialize(&changed.header)[..], &[1], &ids.concat()].concat()
            }
        };
        let changed = RawBlock::new(bytes.into()).ok()?;
        (changed.bytes != block.bytes).then_some(changed)
    }
}

/// What a new block has beside its coinbase.
#[derive(Clone, Copy, Debug)]
pub(super) enum Content {
    /// Nothing.
    Coinbase,
    /// A payment of the coin of this height, found so that the block can be
    /// [`Tamper::Joined`].
    Joinable(u32),
    /// Payments of the coins of these two heights.
    Two(u32, u32),
    /// Nothing, and the coinbase has so many bytes that it is no small message.
    Large,
}

/// Bytes in the coinbase of [`Content::Large`]: frames of them are large ones.
const LARGE: usize = 120_000;

/// A regtest block on `parent`. Coins of heights up to 100 below may be spent.
pub(super) fn block_on(
    parent: &Header,
    height: u32,
    time: u32,
    label: &str,
    content: Content,
) -> RawBlock {
    let payments = match content {
        Content::Coinbase | Content::Large => vec![],
        Content::Joinable(of) => vec![joined::second_half(of, coin(of), subsidy(of))],
        Content::Two(one, other) => vec![payment(one), payment(other)],
    };
    let mut extra = 0;
    let coinbase = loop {
        let mut coinbase = coinbase(height, label, extra, &payments);
        if matches!(content, Content::Large) {
            coinbase.output.push(TxOut {
                value: Amount::ZERO,
                script_pubkey: ScriptBuf::from_bytes(vec![0x6a; LARGE]),
            });
        }
        let joinable = matches!(content, Content::Joinable(_));
        if !joinable || joined::is_first_half(coinbase.compute_txid()) {
            break coinbase;
        }
        extra += 1;
    };
    let mut block = Block {
        header: header_on(parent, time, TxMerkleNode::all_zeros()),
        txdata: [vec![coinbase], payments].concat(),
    };
    block.header.merkle_root = block.compute_merkle_root().expect("there is a coinbase");
    mine(&mut block.header);
    RawBlock::new(serialize(&block).into()).expect("a block that we serialized")
}

/// A header on `parent` with nothing behind it.
pub(super) fn bare_header_on(parent: &Header, time: u32, salt: u64) -> Header {
    let mut root = [0x5a; 32];
    root[..8].copy_from_slice(&salt.to_le_bytes());
    let mut header = header_on(parent, time, TxMerkleNode::from_byte_array(root));
    mine(&mut header);
    header
}

fn header_on(parent: &Header, time: u32, merkle_root: TxMerkleNode) -> Header {
    Header {
        version: Version::NO_SOFT_FORK_SIGNALLING,
        prev_blockhash: parent.block_hash(),
        merkle_root,
        time,
        bits: parent.bits,
        nonce: 0,
    }
}

fn mine(header: &mut Header) {
    let target = header.target();
    while header.validate_pow(target).is_err() {
        header.nonce += 1;
    }
}

/// The label of the chain that all share: its coinbases can be computed from the height.
pub(super) const TRUNK: &str = "trunk";

/// What the trunk's coinbase of this height made: anybody may spend it.
pub(super) fn coin(height: u32) -> OutPoint {
    let txid = coinbase(height, TRUNK, 0, &[]).compute_txid();
    OutPoint { txid, vout: 0 }
}

fn payment(height: u32) -> Transaction {
    Transaction {
        version: TxVersion::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: coin(height),
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::new(),
        }],
        output: vec![TxOut {
            value: subsidy(height),
            script_pubkey: ScriptBuf::from_bytes(vec![0x51]),
        }],
    }
}

fn coinbase(height: u32, label: &str, extra: u32, payments: &[Transaction]) -> Transaction {
    let label = PushBytesBuf::try_from(label.as_bytes().to_vec()).expect("a label is short");
    Transaction {
        version: TxVersion::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint::null(),
            // BIP34: the height first.
            script_sig: Builder::new()
                .push_int(height.into())
                .push_slice(extra.to_le_bytes())
                .push_slice(label)
                .into_script(),
            sequence: Sequence::MAX,
            witness: Witness::from_slice(&[[0; 32]]),
        }],
        output: vec![
            TxOut {
                value: subsidy(height),
                script_pubkey: ScriptBuf::from_bytes(vec![0x51]),
            },
            commitment(payments),
        ],
    }
}

/// The BIP141 commitment to the witnesses of the coinbase, which counts as zero, and these.
fn commitment(payments: &[Transaction]) -> TxOut {
    let others = payments.iter().map(|tx| tx.compute_wtxid().to_raw_hash());
    let leaves = std::iter::once(Wtxid::all_zeros().to_raw_hash()).chain(others);
    let root = bitcoin::merkle_tree::calculate_root(leaves).expect("there is a coinbase");
    let root = WitnessMerkleNode::from_raw_hash(root);
    let hash = Block::compute_witness_commitment(&root, &[0; 32]);
    let mut push = PushBytesBuf::from([0xaa, 0x21, 0xa9, 0xed]);
    push.extend_from_slice(hash.as_byte_array())
        .expect("36 bytes can be pushed");
    TxOut {
        value: Amount::ZERO,
        script_pubkey: ScriptBuf::new_op_return(push),
    }
}
