//! Side branches after a start: all that the kernel has.

mod kit;

use std::collections::BTreeMap;
use std::path::Path;

use bitcoin::block::Header;
use bitcoin::{Amount, Block, BlockHash};
use handfast_chain::{BlockOutcome, Change, RejectKind, SideHeader};
use handfast_wire::Network;
use kit::{Feed, connected, mine, mine_chain, mine_with};

fn open(dir: &Path) -> Feed {
    Feed::open(&Network::Regtest, dir)
}

fn headers(blocks: &[Block]) -> Vec<Header> {
    blocks.iter().map(|block| block.header).collect()
}

/// Closes, opens again, and returns the headers of side branches.
fn after_a_restart(feed: Feed, dir: &Path) -> (Feed, BTreeMap<BlockHash, SideHeader>) {
    feed.chain.close().unwrap();
    let feed = open(dir);
    let side_headers = feed.initial.side_branches.iter();
    let side_headers = side_headers
        .map(|side| (side.header.block_hash(), side.clone()))
        .collect();
    (feed, side_headers)
}

fn side(header: Header, stored: bool, invalid: bool) -> (BlockHash, SideHeader) {
    let hash = header.block_hash();
    let side = SideHeader {
        header,
        stored,
        invalid,
    };
    (hash, side)
}

#[test]
fn headers_of_a_lighter_branch_are_known_after_a_restart_and_after_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let feed = open(dir.path());
    let genesis = feed.initial.active[0];
    let active = mine_chain(&genesis, 0, 5, 0);
    for block in &active {
        feed.block(block);
    }
    // One by one: each is the tip of the branch for a while.
    let lighter = headers(&mine_chain(&active[1].header, 2, 2, 1));
    for header in &lighter {
        assert_eq!(feed.headers(&[*header]), (1, None));
    }
    let expected: BTreeMap<_, _> = lighter.iter().map(|it| side(*it, false, false)).collect();
    let (feed, side_headers) = after_a_restart(feed, dir.path());
    assert_eq!(side_headers, expected);
    let (feed, side_headers) = after_a_restart(feed, dir.path());
    assert_eq!(side_headers, expected);
    // A parent comes before its children.
    let order: Vec<Header> = feed
        .initial
        .side_branches
        .iter()
        .map(|side| side.header)
        .collect();
    assert_eq!(order, lighter);
}

#[test]
fn a_branch_that_the_active_chain_left_is_known_with_its_data() {
    let dir = tempfile::tempdir().unwrap();
    let feed = open(dir.path());
    let genesis = feed.initial.active[0];
    let left = mine_chain(&genesis, 0, 3, 0);
    let taken = mine_chain(&genesis, 0, 4, 1);
    // The best headers first, so that the reorganization happens only when blocks come.
    feed.headers(&headers(&taken));
    for block in left.iter().chain(&taken) {
        feed.block(block);
    }
    let expected: BTreeMap<_, _> = left.iter().map(|it| side(it.header, true, false)).collect();
    let (feed, side_headers) = after_a_restart(feed, dir.path());
    assert_eq!(kit::tip(&feed.initial), taken[3].block_hash());
    assert_eq!(side_headers, expected);
}

#[test]
fn the_best_branch_is_known_when_another_has_more_work() {
    let dir = tempfile::tempdir().unwrap();
    let feed = open(dir.path());
    let genesis = feed.initial.active[0];
    let was_best = headers(&mine_chain(&genesis, 0, 3, 0));
    let is_best = headers(&mine_chain(&genesis, 0, 4, 1));
    feed.headers(&was_best);
    feed.headers(&is_best);
    let expected: BTreeMap<_, _> = was_best.iter().map(|it| side(*it, false, false)).collect();
    let (feed, side_headers) = after_a_restart(feed, dir.path());
    assert_eq!(feed.initial.best_branch, is_best);
    assert_eq!(side_headers, expected);
}

#[test]
fn a_block_that_the_kernel_has_marked_invalid_is_known_with_its_descendants() {
    let dir = tempfile::tempdir().unwrap();
    let feed = open(dir.path());
    let genesis = feed.initial.active[0];
    let first = mine(&genesis, 1, 0);
    let bad = mine_with(&first.header, 2, 0, |block| {
        block.txdata[0].output[0].value = Amount::from_int_btc(51);
    });
    let on_bad = headers(&mine_chain(&bad.header, 2, 2, 0));
    feed.headers(&[first.header, bad.header]);
    feed.headers(&on_bad);
    feed.block(&first);
    let answer = feed.block(&bad);
    assert!(matches!(answer.outcome, BlockOutcome::Rejected(_)));
    assert!(matches!(answer.changes[..], [Change::Invalid(..)]));
    let wrong_height = mine(&first.header, 7, 3);
    feed.block(&wrong_height);

    let (feed, side_headers) = after_a_restart(feed, dir.path());
    assert_eq!(kit::tip(&feed.initial), first.block_hash());
    assert_eq!(side_headers.len(), 4);
    for header in on_bad.iter().chain([&bad.header, &wrong_height.header]) {
        assert!(side_headers[&header.block_hash()].invalid);
    }
}

#[test]
fn when_the_file_is_lost_branches_are_known_again_once_the_kernel_reports_them() {
    let dir = tempfile::tempdir().unwrap();
    let feed = open(dir.path());
    let genesis = feed.initial.active[0];
    let bad = mine_with(&genesis, 1, 9, |block| {
        block.txdata[0].output[0].value = Amount::from_int_btc(51);
    });
    let active = mine_chain(&genesis, 0, 2, 0);
    feed.block(&bad);
    for block in &active {
        feed.block(block);
    }
    feed.chain.close().unwrap();
    std::fs::remove_file(dir.path().join("branches.journal")).unwrap();
    let feed = open(dir.path());
    assert_eq!(feed.initial.side_branches, []);
    // A peer sends its header: the mark is reported, as it would be for the block.
    let (good, refused) = feed.headers(&[bad.header]);
    assert_eq!(
        (good, refused.unwrap().1.kind),
        (0, RejectKind::CachedInvalid)
    );
    let answer = feed.block(&bad);
    let [Change::Invalid(hash, header, _)] = &answer.changes[..] else {
        panic!("{:?}", answer.changes);
    };
    assert_eq!((*hash, *header), (bad.block_hash(), bad.header));
    let (_, side_headers) = after_a_restart(feed, dir.path());
    assert_eq!(
        side_headers,
        BTreeMap::from([side(bad.header, false, true)])
    );
}

#[test]
fn a_branch_that_becomes_the_active_chain_is_no_side_branch_any_more() {
    let dir = tempfile::tempdir().unwrap();
    let feed = open(dir.path());
    let genesis = feed.initial.active[0];
    let first = mine_chain(&genesis, 0, 2, 0);
    let second = mine_chain(&genesis, 0, 3, 1);
    feed.headers(&headers(&first));
    feed.headers(&headers(&second[..1]));
    let (feed, side_headers) = after_a_restart(feed, dir.path());
    assert_eq!(side_headers.len(), 1);
    let answers: Vec<_> = second.iter().map(|block| feed.block(block)).collect();
    assert_eq!(connected(&answers).len(), 3);
    let (_, side_headers) = after_a_restart(feed, dir.path());
    let expected: BTreeMap<_, _> = first
        .iter()
        .map(|it| side(it.header, false, false))
        .collect();
    assert_eq!(side_headers, expected);
}
