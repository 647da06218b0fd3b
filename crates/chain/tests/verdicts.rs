//! Verdicts and reasons: every rule that a peer can break here has Bitcoin Core's token.

mod kit;

use bitcoin::block::Header;
use bitcoin::consensus::serialize;
use bitcoin::hashes::Hash;
use bitcoin::{Amount, BlockHash, CompactTarget, TxMerkleNode};
use handfast_chain::{BlockOutcome, Change, ConnId, KernelEvent, Persist, Reject, RejectKind};
use handfast_wire::Network;
use kit::{Feed, connected, grind, mine, mine_chain, mine_with};

fn regtest() -> (tempfile::TempDir, Feed) {
    let dir = tempfile::tempdir().unwrap();
    let feed = Feed::open(&Network::Regtest, dir.path());
    (dir, feed)
}

fn reject(kind: RejectKind, reason: &str) -> Reject {
    Reject {
        kind,
        reason: reason.into(),
    }
}

#[test]
fn a_block_that_pays_its_miner_too_much_is_invalid_for_good() {
    let (_dir, feed) = regtest();
    let good = mine(&feed.initial.active[0], 1, 0);
    feed.block(&good);
    let bad = mine_with(&good.header, 2, 0, |block| {
        block.txdata[0].output[0].value = Amount::from_sat(50_0000_0001);
    });
    let why = reject(RejectKind::Consensus, "bad-cb-amount");
    let answer = feed.block(&bad);
    assert_eq!(answer.outcome, BlockOutcome::Rejected(why.clone()));
    let marked = Change::Invalid(bad.block_hash(), bad.header, why);
    assert_eq!(answer.changes, [marked]);

    // The mark is reported again: the caller may not have it.
    let again = feed.block(&bad);
    let why = reject(RejectKind::CachedInvalid, "duplicate-invalid");
    assert_eq!(again.outcome, BlockOutcome::Rejected(why.clone()));
    let marked = Change::Invalid(bad.block_hash(), bad.header, why.clone());
    assert_eq!(again.changes, [marked]);
    let headers = feed.headers(&[bad.header]);
    assert_eq!(headers, (0, Some((bad.block_hash(), why))));

    let child = mine(&bad.header, 3, 0);
    let why = reject(RejectKind::InvalidPrev, "bad-prevblk");
    let headers = feed.headers(&[child.header]);
    assert_eq!(headers, (0, Some((child.block_hash(), why.clone()))));
    assert_eq!(feed.block(&child).outcome, BlockOutcome::Rejected(why));

    let honest = mine(&good.header, 2, 1);
    assert_eq!(connected(&[feed.block(&honest)]), [honest.block_hash()]);
}

#[test]
fn transactions_that_do_not_belong_to_the_header_leave_the_block_acceptable() {
    let (_dir, feed) = regtest();
    let good = mine(&feed.initial.active[0], 1, 0);
    let mut mutated = good.clone();
    mutated.txdata[0].output[0].value = Amount::from_sat(1);
    assert_eq!(mutated.block_hash(), good.block_hash());
    let answer = feed.block(&mutated);
    let why = reject(RejectKind::Mutated, "bad-txnmrklroot");
    assert_eq!(answer.outcome, BlockOutcome::Rejected(why));
    assert!(answer.changes.is_empty());
    assert_eq!(connected(&[feed.block(&good)]), [good.block_hash()]);
}

#[test]
fn bytes_that_are_no_block_are_rejected_as_mutated() {
    let (_dir, feed) = regtest();
    let good = mine(&feed.initial.active[0], 1, 0);
    let bytes = serialize(&good);
    let answer = feed.bytes(good.block_hash(), bytes[..bytes.len() - 1].to_vec().into());
    let why = reject(RejectKind::Mutated, "block-decode-failed");
    assert_eq!(answer.outcome, BlockOutcome::Rejected(why));
    assert_eq!(feed.block(&good).outcome, BlockOutcome::Stored);
}

#[test]
fn a_failed_context_free_check_names_its_rule() {
    let (_dir, feed) = regtest();
    let two_coinbases = mine_with(&feed.initial.active[0], 1, 0, |block| {
        let mut second = block.txdata[0].clone();
        second.output[0].value = Amount::from_sat(7);
        block.txdata.push(second);
    });
    let answer = feed.block(&two_coinbases);
    let why = reject(RejectKind::Consensus, "bad-cb-multiple");
    assert_eq!(answer.outcome, BlockOutcome::Rejected(why));
    // The kernel stores no mark for it (CVE-2012-2459), so neither do we.
    assert!(answer.changes.is_empty());
}

#[test]
fn a_failure_after_the_header_was_accepted_marks_the_block() {
    let (_dir, feed) = regtest();
    let wrong_height = mine(&feed.initial.active[0], 2, 0);
    let answer = feed.block(&wrong_height);
    let why = reject(RejectKind::Consensus, "bad-cb-height");
    assert_eq!(answer.outcome, BlockOutcome::Rejected(why.clone()));
    let (hash, header) = (wrong_height.block_hash(), wrong_height.header);
    let marked = [Change::Invalid(hash, header, why)];
    assert_eq!(answer.changes, marked);
}

#[test]
fn a_bad_header_names_its_rule_and_ends_its_batch() {
    let (_dir, feed) = regtest();
    let genesis = feed.initial.active[0];
    let chain = mine_chain(&genesis, 0, 12, 0);
    let headers: Vec<_> = chain.iter().map(|block| block.header).collect();

    let mut low_work = headers[1];
    while low_work.target().is_met_by(low_work.block_hash()) {
        low_work.nonce += 1;
    }
    let found = feed.headers(&[headers[0], low_work, headers[1]]);
    let why = reject(RejectKind::InvalidHeader, "high-hash");
    assert_eq!(found, (1, Some((low_work.block_hash(), why))));

    assert_eq!(feed.headers(&headers), (12, None));
    type Change = fn(&mut Header);
    let cases: [(Change, RejectKind, &str); 4] = [
        (
            |h| h.time -= 600 * 8,
            RejectKind::InvalidHeader,
            "time-too-old",
        ),
        (
            |h| h.time = u32::MAX,
            RejectKind::TimeFuture,
            "time-too-new",
        ),
        (
            |h| h.bits = CompactTarget::from_consensus(0x207f_fffe),
            RejectKind::InvalidHeader,
            "bad-diffbits",
        ),
        (
            |h| h.prev_blockhash = BlockHash::all_zeros(),
            RejectKind::MissingPrev,
            "prev-blk-not-found",
        ),
    ];
    for (change, kind, reason) in cases {
        let mut header = mine(&headers[11], 13, 0).header;
        change(&mut header);
        grind(&mut header);
        let found = feed.headers(&[header]);
        assert_eq!(
            found,
            (0, Some((header.block_hash(), reject(kind, reason))))
        );
    }
}

#[test]
fn a_block_without_its_parent_is_refused_and_accepted_later() {
    let (_dir, feed) = regtest();
    let chain = mine_chain(&feed.initial.active[0], 0, 2, 0);
    let why = reject(RejectKind::MissingPrev, "prev-blk-not-found");
    assert_eq!(feed.block(&chain[1]).outcome, BlockOutcome::Rejected(why));
    feed.block(&chain[0]);
    assert_eq!(feed.block(&chain[1]).outcome, BlockOutcome::Stored);
}

#[test]
fn another_block_found_invalid_by_the_same_job_is_reported_with_its_reason() {
    let (_dir, feed) = regtest();
    let first = mine(&feed.initial.active[0], 1, 0);
    let bad = mine_with(&first.header, 2, 0, |block| {
        block.txdata[0].output[0].value = Amount::from_int_btc(51);
    });
    let child = mine(&bad.header, 3, 0);
    let headers = [first.header, bad.header, child.header];
    assert_eq!(feed.headers(&headers), (3, None));
    assert_eq!(feed.block(&child).outcome, BlockOutcome::Stored);
    assert_eq!(feed.block(&bad).outcome, BlockOutcome::Stored);
    // Only now can the invalid one be connected; the submitted block is valid.
    let answer = feed.block(&first);
    assert_eq!(answer.outcome, BlockOutcome::Stored);
    let why = reject(RejectKind::Consensus, "bad-cb-amount");
    assert!(
        answer
            .changes
            .contains(&Change::Invalid(bad.block_hash(), bad.header, why))
    );
    assert_eq!(connected(&[answer]), [first.block_hash()]);
}

#[test]
fn a_header_batch_submitted_before_a_block_is_validated_before_it() {
    let (_dir, feed) = regtest();
    let chain = mine_chain(&feed.initial.active[0], 0, 300, 0);
    // Only the last block needs all the headers before it.
    let headers = chain.iter().map(|block| block.header).collect();
    feed.chain.check_headers(headers, Some(ConnId(1)));
    let last = &chain[299];
    feed.chain.check_block(
        last.block_hash(),
        serialize(last).into(),
        None,
        vec![],
        None,
        Persist::No,
    );
    assert!(matches!(
        feed.answer(),
        KernelEvent::HeadersChecked {
            origin: Some(ConnId(1)),
            count_ok: 300,
            ..
        }
    ));
    assert_eq!(feed.next_block().outcome, BlockOutcome::Stored);
}

/// The same header with another coinbase: the merkle root does not match.
fn mutated(block: &bitcoin::Block) -> bitcoin::Block {
    let mut bad = block.clone();
    bad.txdata[0].output[0].value = Amount::from_sat(1);
    bad
}

#[test]
fn a_block_submits_its_ancestors_headers_and_a_mutated_one_does_not() {
    let (_dir, feed) = regtest();
    let chain = mine_chain(&feed.initial.active[0], 0, 6, 0);
    let before = |range: std::ops::Range<usize>| -> Vec<Header> {
        chain[range].iter().map(|block| block.header).collect()
    };
    let offer = |block: &bitcoin::Block, before: Vec<Header>| {
        let (hash, bytes) = (block.block_hash(), serialize(block).into());
        feed.chain
            .check_block(hash, bytes, None, before, None, Persist::No);
        feed.next_block().outcome
    };
    let bad = offer(&mutated(&chain[3]), before(0..3));
    let BlockOutcome::Rejected(why) = bad else {
        panic!("{bad:?}");
    };
    assert_eq!(why.kind, RejectKind::Mutated);
    // The kernel has none of the headers; a query would add one, so a child is submitted.
    let orphan = mine(&chain[5].header, 7, 0);
    let lacks = feed.headers(&[orphan.header]).1.expect("refused");
    assert_eq!(lacks.1.kind, RejectKind::MissingPrev);
    // The block behind it was submitted without them.
    assert_eq!(offer(&chain[4], vec![]), BlockOutcome::Stored);
    assert_eq!(offer(&chain[3], vec![]), BlockOutcome::Stored);
    assert_eq!(offer(&chain[5], vec![]), BlockOutcome::Stored);
}

#[test]
fn a_block_whose_headers_are_refused_is_refused_for_the_same_reason() {
    let (_dir, feed) = regtest();
    let genesis = feed.initial.active[0];
    let mut wrong = mine(&genesis, 1, 0);
    wrong.header.bits = CompactTarget::from_consensus(0x207f_fffe);
    grind(&mut wrong.header);
    let block = mine(&wrong.header, 2, 0);
    let bytes = serialize(&block).into();
    feed.chain.check_block(
        block.block_hash(),
        bytes,
        None,
        vec![wrong.header],
        None,
        Persist::No,
    );
    let why = reject(RejectKind::InvalidHeader, "bad-diffbits");
    assert_eq!(feed.next_block().outcome, BlockOutcome::Rejected(why));
}

#[test]
fn the_merkle_root_of_a_mined_block_matches() {
    // Checks the kit: with a wrong root the tests above would prove less.
    let (_dir, feed) = regtest();
    let block = mine(&feed.initial.active[0], 1, 0);
    assert_ne!(block.header.merkle_root, TxMerkleNode::all_zeros());
    assert!(block.check_merkle_root());
    assert_eq!(feed.block(&block).outcome, BlockOutcome::Stored);
}
