//! Following the chain: any number of followers, which share the blocks.

mod kit;

use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use bitcoin::consensus::serialize;
use bitcoin::{Block, BlockHash};
use handfast_chain::{ActiveBlock, ChainNews, Follower, MAX_WAITING, Move};
use handfast_wire::Network;
use kit::{Feed, mine_chain};

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for the next news.
fn next(follower: &mut Follower) -> Option<ChainNews> {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    loop {
        match follower.poll_next(&mut Context::from_waker(&waker)) {
            Poll::Ready(news) => return news,
            Poll::Pending => std::thread::park(),
        }
    }
}

fn is_waiting(follower: &mut Follower) -> bool {
    let mut context = Context::from_waker(Waker::noop());
    follower.poll_next(&mut context).is_pending()
}

fn connected(follower: &mut Follower) -> Arc<ActiveBlock> {
    match next(follower) {
        Some(ChainNews::Moved(Move::Connected(block))) => block,
        other => panic!("a block was connected, and the news are {other:?}"),
    }
}

fn disconnected(follower: &mut Follower) -> BlockHash {
    match next(follower) {
        Some(ChainNews::Moved(Move::Disconnected(block))) => block.hash(),
        other => panic!("a block was disconnected, and the news are {other:?}"),
    }
}

fn behind(follower: &mut Follower) -> BlockHash {
    match next(follower) {
        Some(ChainNews::Behind { tip }) => tip,
        other => panic!("more moved than is held, and the news are {other:?}"),
    }
}

/// `count` blocks on the genesis block.
fn chain(feed: &Feed, count: u32, salt: u8) -> Vec<Block> {
    mine_chain(&feed.initial.active[0], 0, count, salt)
}

fn open() -> (tempfile::TempDir, Feed) {
    let dir = tempfile::tempdir().unwrap();
    let feed = Feed::open(&Network::Regtest, dir.path());
    (dir, feed)
}

#[test]
fn all_followers_get_every_block_and_share_it() {
    let (_dir, feed) = open();
    let blocks = chain(&feed, 3, 0);
    // Before there is a follower.
    feed.block(&blocks[0]);
    let (mut one, mut other) = (feed.chain.follow(), feed.chain.reader().follow());
    for block in &blocks[1..] {
        feed.block(block);
        let (first, second) = (connected(&mut one), connected(&mut other));
        assert!(Arc::ptr_eq(&first, &second));
        assert_eq!(first.hash(), block.block_hash());
        assert_eq!(*first.header(), block.header);
        let (bytes, again) = (first.bytes().unwrap(), second.bytes().unwrap());
        assert_eq!(bytes, serialize(block));
        assert_eq!(bytes.as_ptr(), again.as_ptr(), "encoded once");
    }
    assert!(is_waiting(&mut one) && is_waiting(&mut other));
    drop(other);
    feed.chain.close().unwrap();
    assert!(next(&mut one).is_none(), "closed");
}

#[test]
fn a_branch_that_is_left_comes_backwards_and_then_the_one_that_is_taken() {
    let (_dir, feed) = open();
    let (left, taken) = (chain(&feed, 2, 0), chain(&feed, 3, 1));
    for block in left.iter().chain(&taken[..2]) {
        feed.block(block);
    }
    let mut follower = feed.chain.follow();
    feed.block(&taken[2]);
    for block in left.iter().rev() {
        assert_eq!(disconnected(&mut follower), block.block_hash());
    }
    for block in &taken {
        assert_eq!(connected(&mut follower).hash(), block.block_hash());
    }
    assert!(is_waiting(&mut follower));
}

#[test]
fn a_follower_that_is_too_slow_gets_the_tip_and_then_each_block_again() {
    let (_dir, feed) = open();
    let blocks = chain(&feed, u32::try_from(MAX_WAITING).unwrap() + 3, 0);
    let (last, rest) = blocks.split_last().unwrap();
    // The slow one is told first: when the other has heard of a block, so could it.
    let (mut slow, mut fast) = (feed.chain.follow(), feed.chain.follow());
    for block in rest {
        feed.block(block);
        assert_eq!(connected(&mut fast).hash(), block.block_hash());
    }
    assert_eq!(behind(&mut slow), rest.last().unwrap().block_hash());
    feed.block(last);
    assert_eq!(connected(&mut slow).hash(), last.block_hash());
}

#[test]
fn of_a_job_that_moves_more_blocks_than_are_held_followers_get_the_tip() {
    let (_dir, feed) = open();
    let half = u32::try_from(MAX_WAITING / 2).unwrap();
    let (left, taken) = (chain(&feed, half, 0), chain(&feed, half + 1, 1));
    let (last, before) = taken.split_last().unwrap();
    for block in left.iter().chain(before) {
        feed.block(block);
    }
    let mut follower = feed.chain.follow();
    feed.block(last);
    assert_eq!(behind(&mut follower), last.block_hash());
    assert!(is_waiting(&mut follower));
}
