//! Mutated copies of valid blocks: they never reach the kernel, and the block itself is
//! accepted afterwards.

mod kit;

use bitcoin::block::Header;
use bitcoin::consensus::{deserialize, serialize};
use bitcoin::hashes::{Hash, sha256d};
use bitcoin::{
    Amount, Block, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxMerkleNode, TxOut, Txid,
    Witness, absolute, transaction,
};
use handfast_chain::{BlockOutcome, Change, Reject, RejectKind};
use handfast_wire::Network;
use kit::{Feed, connected, grind, mine, mine_chain, mine_with, shared_blocks, signet};

fn mutated(reason: &str) -> BlockOutcome {
    BlockOutcome::Rejected(Reject {
        kind: RejectKind::Mutated,
        reason: reason.into(),
    })
}

/// The kernel does not have the header: a child of it has no parent.
fn assert_kernel_never_saw(feed: &Feed, header: &Header) {
    let child = mine(header, 1_000, 0).header;
    let (good, refused) = feed.headers(&[child]);
    let refused = refused.expect("its parent is missing").1;
    assert_eq!((good, refused.kind), (0, RejectKind::MissingPrev));
}

#[test]
fn a_signet_block_with_another_coinbase_does_not_mark_its_hash_invalid() {
    let Some(blocks) = shared_blocks("signet_optrue_blocks_1_14000.dat") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let feed = Feed::open(&signet(), dir.path());
    feed.blocks(&blocks[..1]);
    let raw = &blocks[1];
    let block: Block = deserialize(&raw.bytes).unwrap();
    // The kernel checks signet's solution before the merkle root, and finds none in a
    // coinbase without a commitment.
    let mut no_commitment = block.clone();
    let outputs = &mut no_commitment.txdata[0].output;
    outputs.retain(|output| !output.script_pubkey.is_op_return());
    let mut other_value = block.clone();
    other_value.txdata[0].output[0].value = Amount::from_sat(1);
    for (spoilt, reason) in [
        (no_commitment, "bad-signet-blksig"),
        (other_value, "bad-txnmrklroot"),
    ] {
        assert_eq!(spoilt.block_hash(), raw.hash());
        for height in [Some(2), None] {
            let answer = feed.bytes_at(raw.hash(), serialize(&spoilt).into(), height);
            assert_eq!(answer.outcome, mutated(reason));
            assert_eq!(answer.changes, []);
        }
    }
    // The mutated copy left no trace, and the original block is new.
    let answer = feed.bytes_at(raw.hash(), raw.bytes.clone(), Some(2));
    assert_eq!(answer.outcome, BlockOutcome::Stored);
    assert_eq!(answer.changes, [Change::Connected(raw.hash(), raw.header)]);
    let rest = feed.blocks(&blocks[2..5]);
    assert_eq!(connected(&rest).len(), 3);
}

/// Bytes 4 of one txid and 9 to 23 of the next make their concatenation a transaction: one
/// input, its script of `length` bytes, one output, its script of the rest.
fn continues_a_transaction(second: &[u8; 32]) -> bool {
    let length = usize::from(second[9]);
    length <= 4 && second[14 + length] == 1 && usize::from(second[23 + length]) == 4 - length
}

/// A transaction that spends the coinbase `spent` and has the second half of such a txid.
fn second_half(spent: Txid) -> Transaction {
    let mut script = vec![0x6a, 8];
    script.extend([0; 8]);
    let mut transaction = Transaction {
        version: transaction::Version::TWO,
        lock_time: absolute::LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint::new(spent, 0),
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::new(),
        }],
        output: vec![TxOut {
            value: Amount::ZERO,
            script_pubkey: ScriptBuf::from_bytes(script),
        }],
    };
    let mut bytes = serialize(&transaction);
    let nonce_at = bytes.len() - 4 - 8;
    let found = (0_u64..).find(|nonce| {
        bytes[nonce_at..nonce_at + 8].copy_from_slice(&nonce.to_le_bytes());
        continues_a_transaction(&sha256d::Hash::hash(&bytes).to_byte_array())
    });
    assert!(found.is_some());
    transaction = deserialize(&bytes).unwrap();
    transaction
}

#[test]
fn two_txids_that_make_a_transaction_of_64_bytes_do_not_mark_their_block_invalid() {
    let dir = tempfile::tempdir().unwrap();
    let feed = Feed::open(&Network::Regtest, dir.path());
    let before = mine_chain(&feed.initial.active[0], 0, 100, 0);
    for block in &before {
        feed.block(block);
    }
    let second = second_half(before[0].txdata[0].compute_txid());
    let block = (0..)
        .map(|sequence| {
            mine_with(&before[99].header, 101, 0, |block| {
                block.txdata[0].input[0].sequence = Sequence(sequence);
                block.txdata.push(second.clone());
            })
        })
        .find(|block| block.txdata[0].compute_txid().to_byte_array()[4] == 1)
        .expect("one of 256");
    let txids = block
        .txdata
        .iter()
        .map(|tx| tx.compute_txid().to_byte_array());
    let pair: Vec<u8> = txids.flatten().collect();
    let false_transaction: Transaction = deserialize(&pair).expect("it parses");
    let spoilt = Block {
        header: block.header,
        txdata: vec![false_transaction],
    };
    assert!(spoilt.check_merkle_root(), "the merkle root matches");
    for height in [Some(101), None] {
        let answer = feed.bytes_at(block.block_hash(), serialize(&spoilt).into(), height);
        assert_eq!(answer.outcome, mutated("bad-cb-missing"));
        assert_eq!(answer.changes, []);
    }
    assert_kernel_never_saw(&feed, &block.header);
    let answer = feed.block(&block);
    assert_eq!(answer.outcome, BlockOutcome::Stored);
    assert_eq!(connected(&[answer]), [block.block_hash()]);
}

#[test]
fn a_block_without_a_coinbase_and_without_such_a_transaction_is_left_to_the_kernel() {
    // Only the length differs: this block is not mutated, and breaks a rule.
    let dir = tempfile::tempdir().unwrap();
    let feed = Feed::open(&Network::Regtest, dir.path());
    let block = mine_with(&feed.initial.active[0], 1, 0, |block| {
        block.txdata[0].input[0].previous_output.vout = 0;
    });
    let answer = feed.bytes_at(block.block_hash(), serialize(&block).into(), Some(1));
    let BlockOutcome::Rejected(reject) = answer.outcome else {
        panic!("it has no coinbase");
    };
    assert_eq!(reject.kind, RejectKind::Consensus);
    assert_eq!(reject.reason, "bad-cb-missing");
    assert_eq!(answer.changes, [], "the kernel does not mark it either");
}

#[test]
fn a_block_with_duplicated_transactions_is_mutated_though_the_merkle_root_matches() {
    let dir = tempfile::tempdir().unwrap();
    let feed = Feed::open(&Network::Regtest, dir.path());
    let three = mine_with(&feed.initial.active[0], 1, 0, |block| {
        for value in [1, 2] {
            let mut other = block.txdata[0].clone();
            other.output[0].value = Amount::from_sat(value);
            block.txdata.push(other);
        }
    });
    let mut doubled = three.clone();
    doubled.txdata.push(three.txdata[2].clone());
    assert!(doubled.check_merkle_root());
    let answer = feed.block(&doubled);
    assert_eq!(answer.outcome, mutated("bad-txns-duplicate"));
    assert_eq!(answer.changes, []);
    assert_kernel_never_saw(&feed, &three.header);
}

/// A block at height 1 whose coinbase commits to its witnesses.
fn committing(parent: &Header) -> Block {
    let mut block = mine_with(parent, 1, 0, |block| {
        let reserved = [0; 32];
        let root = TxMerkleNode::all_zeros();
        let mut committed = root.to_byte_array().to_vec();
        committed.extend(reserved);
        let commitment = sha256d::Hash::hash(&committed);
        let mut script = vec![0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed];
        script.extend(commitment.to_byte_array());
        let coinbase = &mut block.txdata[0];
        coinbase.output.push(TxOut {
            value: Amount::ZERO,
            script_pubkey: ScriptBuf::from_bytes(script),
        });
        coinbase.input[0].witness = Witness::from_slice(&[reserved]);
    });
    grind(&mut block.header);
    block
}

#[test]
fn mutated_witness_data_is_refused_before_the_kernel_with_the_kernels_reason() {
    let dir = tempfile::tempdir().unwrap();
    let feed = Feed::open(&Network::Regtest, dir.path());
    let genesis = feed.initial.active[0];
    let plain = mine(&genesis, 1, 7);
    let committing = committing(&genesis);
    let with = |block: &Block, witness: &[&[u8]]| {
        let mut changed = block.clone();
        changed.txdata[0].input[0].witness = Witness::from_slice(witness);
        changed
    };
    let cases = [
        (with(&plain, &[&[0; 32]]), "unexpected-witness"),
        (with(&committing, &[]), "bad-witness-nonce-size"),
        (with(&committing, &[&[0; 31]]), "bad-witness-nonce-size"),
        (
            with(&committing, &[&[0; 32], &[]]),
            "bad-witness-nonce-size",
        ),
        (with(&committing, &[&[1; 32]]), "bad-witness-merkle-match"),
    ];
    for (spoilt, reason) in &cases {
        let bytes = serialize(spoilt);
        let answer = feed.bytes_at(spoilt.block_hash(), bytes.into(), Some(1));
        assert_eq!(answer.outcome, mutated(reason));
        assert_eq!(answer.changes, []);
    }
    for block in [&plain, &committing] {
        assert_kernel_never_saw(&feed, &block.header);
    }
    // Without the height the kernel gives the same reason, and marks nothing.
    for (spoilt, reason) in &cases {
        let answer = feed.block(spoilt);
        assert_eq!(answer.outcome, mutated(reason));
        assert_eq!(answer.changes, []);
    }
    for block in [&committing, &plain] {
        let bytes = serialize(block);
        let answer = feed.bytes_at(block.block_hash(), bytes.into(), Some(1));
        assert_eq!(answer.outcome, BlockOutcome::Stored);
    }
}

#[test]
fn before_segwit_a_commitment_has_no_effect_and_witness_data_is_not_allowed() {
    let Some(blocks) = kit::shared("mainnet_blocks_1_255.bz2") else {
        return;
    };
    // Mainnet has it from 481,824 on; the block's own rules are not the point here.
    let dir = tempfile::tempdir().unwrap();
    let feed = Feed::open(&Network::Mainnet, dir.path());
    let length = u32::from_le_bytes(blocks[4..8].try_into().unwrap()) as usize;
    let block: Block = deserialize(&blocks[8..8 + length]).unwrap();
    let mut spoilt = block.clone();
    spoilt.txdata[0].input[0].witness = Witness::from_slice(&[[0_u8; 32]]);
    let answer = feed.bytes_at(block.block_hash(), serialize(&spoilt).into(), Some(1));
    assert_eq!(answer.outcome, mutated("unexpected-witness"));
    let answer = feed.bytes_at(block.block_hash(), serialize(&block).into(), Some(1));
    assert_eq!(answer.outcome, BlockOutcome::Stored);
}

#[test]
fn bytes_after_a_block_are_neither_stored_nor_served() {
    let dir = tempfile::tempdir().unwrap();
    let feed = Feed::open(&Network::Regtest, dir.path());
    let blocks = mine_chain(&feed.initial.active[0], 0, 2, 0);
    for (block, garbage) in blocks.iter().zip([1, 100_000]) {
        let encoding = serialize(block);
        let mut bytes = encoding.clone();
        bytes.resize(bytes.len() + garbage, 0xee);
        let answer = feed.bytes(block.block_hash(), bytes.into());
        assert_eq!(connected(&[answer]), [block.block_hash()]);
        let read = feed.chain.reader().read(&block.block_hash()).unwrap();
        assert_eq!(read, encoding);
    }
}
