//! Templates compared with real chains, and the properties of every block.

use bitcoin::absolute::LockTime;
use bitcoin::consensus::{deserialize, serialize};
use bitcoin::hashes::{Hash, sha256d};
use bitcoin::script::Builder;
use bitcoin::transaction::Version as TxVersion;
use bitcoin::{
    Amount, Block, CompactTarget, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxMerkleNode,
    TxOut, Txid, Witness,
};
use handfast_wire::Network;
use proptest::prelude::*;

use super::super::template::branch;
use super::super::{NextBlock, Payout, Template};
use crate::headers::HeaderTree;
use crate::testing::Blocks;

fn shared(file: &str) -> Option<Vec<u8>> {
    let path = format!("{}/../../../shared/data/{file}", env!("CARGO_MANIFEST_DIR"));
    match std::fs::read(&path) {
        Ok(bytes) => Some(bytes),
        Err(error) => {
            eprintln!("skipped: {path}: {error}");
            None
        }
    }
}

fn blocks(file: &str, count: usize) -> Option<Vec<Block>> {
    let bytes = shared(file)?;
    let mut rest = bytes.as_slice();
    let mut blocks = Vec::new();
    while blocks.len() < count && !rest.is_empty() {
        let length = u32::from_le_bytes(rest[4..8].try_into().expect("four bytes")) as usize;
        blocks.push(deserialize(&rest[8..8 + length]).expect("a block"));
        rest = &rest[8 + length..];
    }
    Some(blocks)
}

fn payout() -> Payout {
    Payout {
        script: ScriptBuf::from_bytes(vec![0x51]),
        tag: b"/Handfast/".to_vec(),
        salt: 7,
    }
}

#[test]
fn templates_at_the_times_of_real_headers_have_their_bits() {
    for (file, network) in [
        ("mainnet_headers_0_10236.bin", Network::Mainnet),
        ("signet_headers_0_2015.bin", Network::Signet),
    ] {
        let Some(bytes) = shared(file) else { return };
        let headers: Vec<bitcoin::block::Header> = bytes
            .chunks(80)
            .map(|raw| deserialize(raw).expect("80 bytes each"))
            .collect();
        let mut tree = HeaderTree::new(headers[0]);
        for (height, header) in (1..).zip(&headers[1..]) {
            let next = NextBlock::after(&tree, &header.prev_blockhash, &network, header.time)
                .expect("the parent is there");
            assert_eq!(
                (next.bits, next.time, next.height),
                (header.bits, header.time, height),
                "{file}"
            );
            assert_eq!(next.subsidy, Amount::from_int_btc(50));
            tree.insert(*header).expect("it builds on the one before");
        }
    }
}

#[test]
fn templates_of_a_real_signet_have_the_bits_subsidy_and_commitment_of_its_blocks() {
    let Some(blocks) = blocks("signet_optrue_blocks_1_14000.dat", 2_100) else {
        return;
    };
    let network = Network::CustomSignet {
        challenge: vec![0x51],
    };
    assert!(!network.signet_needs_a_signature());
    assert!(Network::Signet.signet_needs_a_signature());
    let mut tree = HeaderTree::new(network.genesis());
    for block in &blocks {
        let header = block.header;
        let next = NextBlock::after(&tree, &header.prev_blockhash, &network, header.time)
            .expect("the parent is there");
        assert_eq!((next.bits, next.time), (header.bits, header.time));
        let ours = Template::new(next, &payout(), Vec::new()).block_for_nothing();
        let theirs = &block.txdata[0];
        assert_eq!(ours.txdata[0].output[0].value, theirs.output[0].value);
        assert_eq!(
            ours.txdata[0].output[1].script_pubkey,
            theirs.output[1].script_pubkey
        );
        tree.insert(header).expect("it builds on the one before");
    }
    assert_eq!(tree.best_header().height, 2_100, "past a retarget");
}

#[test]
fn the_branch_and_the_commitment_are_those_of_real_full_blocks() {
    for file in ["mainnet_block_1602407a.raw", "testnet3_block_928848.raw"] {
        let Some(bytes) = shared(file) else { return };
        let block: Block = deserialize(&bytes).expect("a block");
        let ids = block.txdata[1..]
            .iter()
            .map(|transaction| transaction.compute_txid().to_raw_hash());
        let first = block.txdata[0].compute_txid().to_raw_hash();
        let root = branch(ids.collect()).iter().fold(first, |left, right| {
            super::super::template::pair(&left, right)
        });
        assert_eq!(
            TxMerkleNode::from_raw_hash(root),
            block.header.merkle_root,
            "{file}"
        );
        let committed = Template::commitment_script(&block.txdata[1..]);
        let found = block.txdata[0]
            .output
            .iter()
            .any(|output| output.script_pubkey == committed);
        assert!(found, "{file}");
    }
}

/// A distinct transaction with a witness.
fn transaction(number: u8) -> Transaction {
    Transaction {
        version: TxVersion::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint::new(Txid::from_byte_array([number; 32]), 0),
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::from_slice(&[[number; 5]]),
        }],
        output: vec![TxOut {
            value: Amount::from_sat(1),
            script_pubkey: ScriptBuf::new(),
        }],
    }
}

impl Template {
    /// The block of extra nonce 0 and nonce 0.
    fn block_for_nothing(&self) -> Block {
        deserialize(&self.block(&self.header(0), 0).bytes).expect("a block")
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_extra_nonce_gives_a_whole_block_that_commits_to_all_it_holds(
        height in prop_oneof![1usize..40, 140usize..150, Just(300)],
        count in 0u8..18,
        extra_nonce in any::<u64>(),
        tag in proptest::collection::vec(any::<u8>(), 0..=64),
        salt in any::<u32>(),
    ) {
        let chain = Blocks::new(height - 1, 1);
        let tree = chain.tree();
        let next = NextBlock::after(&tree, &chain.tip_hash(), &Network::Regtest, 0).expect("known");
        let payout = Payout { tag: tag.clone(), salt, ..payout() };
        let transactions: Vec<_> = (0..count).map(transaction).collect();
        let template = Template::new(next, &payout, transactions.clone());
        let header = template.header(extra_nonce);
        let raw = template.block(&header, extra_nonce);
        let block: Block = deserialize(&raw.bytes).expect("a block");

        prop_assert_eq!(serialize(&block.header), header.to_vec());
        prop_assert_eq!(raw.hash, block.block_hash());
        prop_assert_eq!(sha256d::Hash::hash(&header), raw.hash.to_raw_hash());
        prop_assert!(block.check_merkle_root() && block.check_witness_commitment());
        prop_assert_eq!(&block.txdata[1..], &transactions[..]);
        prop_assert_eq!(block.header.prev_blockhash, chain.tip_hash());
        prop_assert!(block.header.time > tree.median_time_past(&chain.tip_hash()).expect("known"));

        let coinbase = &block.txdata[0];
        let script = coinbase.input[0].script_sig.as_bytes();
        let bip34 = Builder::new().push_int(height as i64).into_script();
        prop_assert!(script.starts_with(bip34.as_bytes()));
        prop_assert!((2..=100).contains(&script.len()), "{} bytes", script.len());
        prop_assert!(script.ends_with(&extra_nonce.to_le_bytes()));
        prop_assert!(tag.is_empty() || script.windows(tag.len()).any(|part| part == tag));
        let subsidy = 5_000_000_000u64 >> (height / 150);
        prop_assert_eq!(coinbase.output[0].value, Amount::from_sat(subsidy));
        prop_assert_eq!(&coinbase.output[0].script_pubkey, &payout.script);

        let other = template.header(extra_nonce.wrapping_add(1));
        prop_assert_ne!(other, header);
        let salted = Template::new(next, &Payout { salt: !salt, ..payout }, transactions);
        prop_assert_ne!(salted.header(extra_nonce), header);
    }
}

#[test]
#[should_panic(expected = "a header of another template")]
fn a_header_of_another_extra_nonce_gives_no_block() {
    let chain = Blocks::new(3, 1);
    let next = NextBlock::after(&chain.tree(), &chain.tip_hash(), &Network::Regtest, 0);
    let template = Template::new(next.expect("known"), &payout(), Vec::new());
    let _ = template.block(&template.header(1), 2);
}

#[test]
fn the_time_is_the_clocks_but_past_the_median_and_reported_when_too_far_ahead() {
    let chain = Blocks::new(20, 1);
    let tree = chain.tree();
    let at =
        |unix| NextBlock::after(&tree, &chain.tip_hash(), &Network::Regtest, unix).expect("known");
    let median = tree.median_time_past(&chain.tip_hash()).expect("known");
    assert_eq!(at(median).time, median + 1);
    assert_eq!(at(median + 5_000).time, median + 5_000);
    let early = at(median - 7_200);
    assert!(early.is_too_far_ahead(median - 7_200) && !early.is_too_far_ahead(median - 7_199));
    assert_eq!(
        NextBlock::after(
            &tree,
            &bitcoin::BlockHash::all_zeros(),
            &Network::Regtest,
            0
        ),
        None
    );
}

/// A chain by testnet4's rules with `count` headers in all, of regular difficulty.
fn testnet4(count: usize) -> HeaderTree {
    let mut last = Network::Testnet4.genesis();
    let mut tree = HeaderTree::new(last);
    for nonce in 1..count {
        last.prev_blockhash = last.block_hash();
        last.bits = CompactTarget::from_consensus(0x1c05_a3f4);
        last.time += 600;
        last.nonce = nonce as u32;
        tree.insert(last).expect("it builds on the one before");
    }
    tree
}

#[test]
fn on_a_test_network_the_time_of_minimum_difficulty_is_returned() {
    let tree = testnet4(1_000);
    let tip = tree.best_header();
    let at = |unix| NextBlock::after(&tree, &tip.hash, &Network::Testnet4, unix).expect("known");
    let soon = at(tip.header.time + 600);
    let from = tip.header.time + 1_201;
    assert_eq!(soon.easier_from, Some(from));
    assert_eq!(soon.bits, tip.header.bits);
    assert_eq!(at(from - 1).bits, tip.header.bits);
    assert_eq!(at(from).bits.to_consensus(), 0x1d00_ffff);
    assert_eq!(at(from).easier_from, None);
}

#[test]
fn the_first_block_of_a_period_is_timed_at_most_ten_minutes_before_its_parent() {
    let mut tree = testnet4(2_015);
    // The last of the period is hours ahead of those before it.
    let mut last = tree.best_header().header;
    last.prev_blockhash = last.block_hash();
    last.time += 6_000;
    tree.insert(last).expect("it builds on the one before");
    let tip = tree.best_header();
    assert_eq!(tip.height, 2_015);
    let next = NextBlock::after(&tree, &tip.hash, &Network::Testnet4, 0).expect("known");
    assert_eq!(next.min_time, last.time - 600);
    assert_eq!((next.time, next.easier_from), (last.time - 600, None));
    let median = tree.median_time_past(&tip.hash).expect("known");
    assert!(next.min_time > median + 1, "so this rule decides");
    // The difficulty is that of the period's first block, which is genesis here, by the
    // time it took.
    let late = NextBlock::after(&tree, &tip.hash, &Network::Testnet4, last.time + 5_000);
    assert_eq!(late.expect("known").bits, next.bits, "no exception here");
}

#[test]
fn regtest_signals_for_its_dummy_from_the_second_period_on() {
    let version = |count| {
        let chain = Blocks::new(count, 1);
        let next = NextBlock::after(&chain.tree(), &chain.tip_hash(), &Network::Regtest, 0);
        next.expect("known").version.to_consensus()
    };
    assert_eq!(version(0), 0x2000_0000);
    assert_eq!(version(142), 0x2000_0000);
    assert_eq!(version(143), 0x3000_0000);
    assert_eq!(version(400), 0x3000_0000);
}

#[test]
fn before_segwit_a_coinbase_commits_to_nothing() {
    let tree = HeaderTree::new(Network::Mainnet.genesis());
    let tip = tree.tip().hash;
    let next = NextBlock::after(&tree, &tip, &Network::Mainnet, 0).expect("known");
    assert!(!next.commits);
    let block = Template::new(next, &payout(), Vec::new()).block_for_nothing();
    assert_eq!(block.txdata[0].output.len(), 1);
    assert!(block.txdata[0].input[0].witness.is_empty());
}
