//! Proposed blocks.

use bitcoin::block::Header;
use bitcoin::consensus::deserialize;
use bitcoin::{Amount, Block, CompactTarget, ScriptBuf};
use handfast_wire::Network;

use super::super::{NextBlock, Payout, Template, objection};
use crate::headers::HeaderTree;
use crate::testing::Blocks;

fn proposal(tree: &HeaderTree, unix: u32) -> Block {
    let next = NextBlock::after(tree, &tree.tip().hash, &Network::Regtest, unix).expect("known");
    let payout = Payout {
        script: ScriptBuf::new(),
        tag: Vec::new(),
        salt: 0,
    };
    let template = Template::new(next, &payout, Vec::new());
    deserialize(&template.block(&template.header(0), 0).bytes).expect("a block")
}

/// The block with only its Merkle root corrected.
fn rooted(mut block: Block) -> Block {
    block.header.merkle_root = block.compute_merkle_root().expect("a coinbase");
    block
}

#[test]
fn a_template_has_no_fault_and_each_introduced_fault_is_found() {
    let chain = Blocks::new(20, 1);
    let tree = chain.tree();
    let unix = tree.tip().header.time + 600;
    let found = |block: &Block| objection(&tree, &Network::Regtest, block, unix);
    let good = proposal(&tree, unix);
    assert_eq!(found(&good), None);
    let changed = |change: &dyn Fn(&mut Block)| {
        let mut block = good.clone();
        change(&mut block);
        block
    };
    let header = |change: &dyn Fn(&mut Header)| changed(&|block| change(&mut block.header));
    let median = tree.median_time_past(&tree.tip().hash).expect("known");
    for (block, reason) in [
        (
            header(&|it| it.prev_blockhash = chain.at(19).hash),
            "inconclusive-not-best-prevblk",
        ),
        (
            header(&|it| it.merkle_root = chain.tip().merkle_root),
            "bad-txnmrklroot",
        ),
        (
            header(&|it| it.bits = CompactTarget::from_consensus(0x207f_fffe)),
            "bad-diffbits",
        ),
        (header(&|it| it.time = median), "time-too-old"),
        (header(&|it| it.time = unix + 7_201), "time-too-new"),
        (changed(&|it| it.txdata.clear()), "bad-blk-length"),
        (
            rooted(changed(&|it| {
                it.txdata[0].input[0].previous_output.vout = 0;
            })),
            "bad-cb-missing",
        ),
        (
            rooted(changed(&|it| {
                let mut second = it.txdata[0].clone();
                second.output.pop();
                it.txdata.push(second);
            })),
            "bad-cb-multiple",
        ),
        (
            rooted(changed(&|it| {
                it.txdata[0].input[0].script_sig = ScriptBuf::from_bytes(vec![0; 101]);
            })),
            "bad-cb-length",
        ),
        (
            rooted(changed(&|it| {
                it.txdata[0].input[0].script_sig = ScriptBuf::from_bytes(vec![1, 20]);
            })),
            "bad-cb-height",
        ),
        (
            rooted(changed(&|it| {
                it.txdata[0].input[0].witness.push([7; 32]);
            })),
            "bad-witness-merkle-match",
        ),
        (
            rooted(changed(&|it| {
                it.txdata[0].output[0].value += Amount::ONE_SAT;
            })),
            "bad-cb-amount",
        ),
    ] {
        assert_eq!(found(&block), Some(reason));
    }
    assert_eq!(found(&header(&|it| it.time = unix + 7_200)), None);
}

#[test]
fn a_known_block_is_a_duplicate_with_its_status() {
    let mut tree = Blocks::new(5, 1).tree();
    let unix = tree.tip().header.time + 600;
    let block = proposal(&tree, unix);
    let hash = block.block_hash();
    let found = |tree: &HeaderTree| objection(tree, &Network::Regtest, &block, unix);
    tree.insert(block.header).expect("on the tip");
    assert_eq!(found(&tree), Some("duplicate-inconclusive"));
    let mut invalid = tree.clone();
    invalid.mark_invalid(&hash);
    assert_eq!(found(&invalid), Some("duplicate-invalid"));
    tree.connect(&hash);
    assert_eq!(found(&tree), Some("duplicate"));
}
