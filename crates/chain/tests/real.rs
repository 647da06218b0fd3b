//! Real chains: mainnet's first blocks and a signet of 14,000.

mod kit;

use std::path::Path;

use bitcoin::BlockHash;
use bitcoin::block::Header;
use handfast_chain::{BlockOutcome, Change};
use handfast_wire::Network;
use kit::{Feed, Raw, connected, shared_blocks, shuffle, signet, tip};

const SIGNET: &str = "signet_optrue_blocks_1_14000.dat";
const SIGNET_TIP: &str = "00000096eef0a74e56cf73669116783af056d3957b27a65f4704253e53461758";
const FORK: &str = "signet_optrue_fork_13991_14002.dat";
const FORK_TIP: &str = "000003298b9d06216f86bfab9443acdf6b4b90e1ae76dc9ebd45505a85683c5b";

fn hashes(blocks: &[Raw]) -> Vec<BlockHash> {
    blocks.iter().map(Raw::hash).collect()
}

fn send_headers(feed: &Feed, blocks: &[Raw]) {
    let headers: Vec<Header> = blocks.iter().map(|raw| raw.header).collect();
    for batch in headers.chunks(2_000) {
        assert_eq!(feed.headers(batch), (batch.len(), None));
    }
}

#[test]
fn the_first_255_blocks_of_mainnet_connect_and_read_back_unchanged() {
    let Some(blocks) = shared_blocks("mainnet_blocks_1_255.bz2") else {
        return;
    };
    assert_eq!(blocks.len(), 255);
    let dir = tempfile::tempdir().unwrap();
    let feed = Feed::open(&Network::Mainnet, dir.path());
    let answers = feed.blocks(&blocks);
    assert_eq!(connected(&answers), hashes(&blocks));
    let reader = feed.chain.reader();
    for raw in &blocks {
        assert_eq!(reader.read(&raw.hash()).unwrap(), raw.bytes);
    }
    // The first payment: block 170 spends the coinbase of block 9.
    let spent = reader.spent_outputs(&blocks[169].hash()).unwrap();
    assert_eq!(spent.len(), 1);
    assert_eq!(spent[0].len(), 1);
    assert_eq!(spent[0][0].output.value.to_sat(), 5_000_000_000);
    assert_eq!(spent[0][0].output.script_pubkey.len(), 67);
    assert_eq!((spent[0][0].height, spent[0][0].coinbase), (9, true));
    assert_eq!(reader.spent_outputs(&blocks[0].hash()), Ok(vec![]));
    feed.chain.close().unwrap();
}

#[test]
fn a_signet_chain_syncs_in_order_survives_a_restart_and_follows_a_reorg() {
    let (Some(blocks), Some(fork)) = (shared_blocks(SIGNET), shared_blocks(FORK)) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let feed = Feed::open(&signet(), dir.path());
    assert_eq!(feed.initial.active.len(), 1);
    send_headers(&feed, &blocks);
    let answers = feed.blocks(&blocks);
    assert!(answers.iter().all(|a| a.outcome == BlockOutcome::Stored));
    assert_eq!(connected(&answers), hashes(&blocks));
    assert_eq!(blocks.last().unwrap().hash().to_string(), SIGNET_TIP);
    feed.chain.close().unwrap();

    let feed = Feed::open(&signet(), dir.path());
    assert_eq!(tip(&feed.initial).to_string(), SIGNET_TIP);
    assert_eq!(feed.initial.fork_height, 14_000);
    let (best_branch, stored) = (&feed.initial.best_branch, &feed.initial.stored);
    assert!(best_branch.is_empty() && stored.is_empty());
    let active = feed.initial.active[1..].iter();
    assert!(active.eq(blocks.iter().map(|raw| &raw.header)));

    follow_the_fork(&feed, &blocks, &fork);
    feed.chain.close().unwrap();
    let feed = Feed::open(&signet(), dir.path());
    assert_eq!(tip(&feed.initial).to_string(), FORK_TIP);
    assert_eq!(feed.initial.active.len(), 14_003);
}

/// A reorganization disconnects ten blocks for eleven once the branch has more work; the
/// twelfth connects on top.
fn follow_the_fork(feed: &Feed, blocks: &[Raw], fork: &[Raw]) {
    assert_eq!(fork[0].header.prev_blockhash, blocks[13_989].hash());
    let answers = feed.blocks(fork);
    let (before, after) = answers.split_at(10);
    assert!(before.iter().all(|answer| answer.changes.is_empty()));
    let left = blocks[13_990..].iter().rev();
    let mut expected: Vec<Change> = left
        .map(|raw| Change::Disconnected(raw.hash(), raw.header))
        .collect();
    let connected = |raw: &Raw| Change::Connected(raw.hash(), raw.header);
    expected.extend(fork[..11].iter().map(connected));
    assert_eq!(after[0].changes, expected);
    assert_eq!(after[1].changes, [connected(&fork[11])]);
    assert!(answers.iter().all(|a| a.outcome == BlockOutcome::Stored));
    assert_eq!(fork[11].hash().to_string(), FORK_TIP);
}

#[test]
fn blocks_that_arrive_out_of_order_connect_in_order() {
    let Some(blocks) = shared_blocks(SIGNET) else {
        return;
    };
    let blocks = &blocks[..4_096];
    let dir = tempfile::tempdir().unwrap();
    let feed = Feed::open(&signet(), dir.path());
    send_headers(&feed, blocks);
    let mut shuffled = blocks.to_vec();
    shuffle(&mut shuffled, 512);
    let answers = feed.blocks(&shuffled);
    assert!(answers.iter().all(|a| a.outcome == BlockOutcome::Stored));
    assert_eq!(connected(&answers), hashes(blocks));
}

/// Opens the chain, checks its headers, and returns the blocks that it knows to be stored.
fn stored_after_restart(dir: &Path, blocks: &[Raw]) -> Vec<BlockHash> {
    let feed = Feed::open(&signet(), dir);
    assert_eq!(tip(&feed.initial), blocks[99].hash());
    assert_eq!(feed.initial.fork_height, 100);
    let branch = feed.initial.best_branch.iter();
    assert!(branch.eq(blocks[100..3_000].iter().map(|raw| &raw.header)));
    feed.chain.close().unwrap();
    feed.initial.stored
}

#[test]
fn a_restart_knows_headers_beyond_the_tip_and_which_of_their_blocks_are_stored() {
    let Some(blocks) = shared_blocks(SIGNET) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let feed = Feed::open(&signet(), dir.path());
    send_headers(&feed, &blocks[..3_000]);
    feed.blocks(&blocks[..100]);
    // Block 101 is missing, so these wait on disk; the last is past the window.
    let waiting = [&blocks[101], &blocks[150], &blocks[1_123], &blocks[1_124]];
    let answers = feed.blocks(waiting);
    assert!(connected(&answers).is_empty());
    feed.chain.close().unwrap();

    let stored: Vec<BlockHash> = waiting[..3].iter().map(|raw| raw.hash()).collect();
    // From the list that the stop wrote.
    assert_eq!(stored_after_restart(dir.path(), &blocks), stored);
    // Without the list, from the block files, as far as a start has time to probe them.
    let reported = (0..20).any(|_| {
        let list = dir.path().join("stored");
        assert!(!list.exists() || std::fs::remove_file(list).is_ok());
        let reported = stored_after_restart(dir.path(), &blocks);
        assert!(
            stored.starts_with(&reported),
            "no missing block is reported"
        );
        reported == stored
    });
    assert!(reported, "a start probes the block files");
    let feed = Feed::open(&signet(), dir.path());
    let answers = feed.blocks(&blocks[100..101]);
    assert_eq!(connected(&answers), hashes(&blocks[100..102]));
}

#[test]
fn a_block_submitted_twice_is_a_duplicate() {
    let Some(blocks) = shared_blocks(SIGNET) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let feed = Feed::open(&signet(), dir.path());
    let answers = feed.blocks([&blocks[0], &blocks[0]]);
    assert_eq!(answers[0].outcome, BlockOutcome::Stored);
    assert_eq!(answers[1].outcome, BlockOutcome::Duplicate);
    assert!(answers[1].changes.is_empty());
}
