//! The blocks that peers have shown, without the rest of the machine.

use super::*;
use crate::testing::chains::Blocks;

const ID: ConnId = ConnId(1);

fn knowing(chain: &Blocks) -> (KnownWork, HeaderTree, Timers) {
    let mut known = KnownWork::default();
    known.added(ID);
    let tree = chain.tree();
    known.learn(&tree, ID, chain.tip_hash());
    (known, tree, Timers::default())
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn a_peer_that_repeatedly_lacks_shown_blocks_waits_twice_as_long_each_time() {
    let chain = Blocks::new(5, 1);
    let (mut known, tree, mut timers) = knowing(&chain);
    let mut now = Now::default();
    let mut pauses = Vec::new();
    for _ in 0..9 {
        let hash = chain.at(4).hash;
        known.lacks(&mut timers, &tree, now.mono, ID, hash);
        assert_eq!(known.best(ID).map(|best| best.height), Some(3));
        let again = timers.at(&SyncTimer::Retry(ID)).expect("it is retried");
        pauses.push((again - now.mono).as_secs());
        now.mono = again;
        let best = known.retry_expired(&mut timers, &tree, now, ID);
        assert_eq!(best, Some(chain.tip_hash()));
        assert_eq!(known.best(ID).map(|best| best.height), Some(5));
    }
    assert_eq!(pauses, [2, 4, 8, 16, 32, 64, 128, 128, 128]);
    known.delivered(ID);
    known.lacks(&mut timers, &tree, now.mono, ID, chain.tip_hash());
    let again = timers.at(&SyncTimer::Retry(ID)).expect("it is retried");
    assert_eq!(again - now.mono, secs(2), "it has delivered");
}

#[test]
fn a_chain_that_waits_is_not_forgotten_for_a_part_of_it() {
    let chain = Blocks::new(5, 1);
    let (mut known, tree, mut timers) = knowing(&chain);
    known.lacks(&mut timers, &tree, secs(0), ID, chain.at(5).hash);
    known.lacks(&mut timers, &tree, secs(1), ID, chain.at(3).hash);
    let retry = known.retry(ID).expect("it waits");
    assert_eq!(retry.best, chain.tip_hash());
}

#[test]
fn a_block_that_is_too_new_is_tried_again_when_the_clock_allows_it() {
    let chain = Blocks::new(5, 1);
    let (mut known, tree, mut timers) = knowing(&chain);
    let time = chain.tip().time;
    let kind = RejectKind::TimeFuture;
    known.unlearn_for_now(&mut timers, &tree, secs(0), chain.tip_hash(), kind);
    let mut now = Now {
        mono: secs(20),
        unix: time - 3 * 60 * 60,
    };
    let word = known.retry_expired(&mut timers, &tree, now, ID);
    assert_eq!(word, None, "it is too new still");
    assert_eq!(timers.at(&SyncTimer::Retry(ID)), Some(secs(30)));
    now.unix = time;
    let word = known.retry_expired(&mut timers, &tree, now, ID);
    assert_eq!(word, Some(chain.tip_hash()));
}

#[test]
fn headers_that_become_invalid_leave_a_peer_with_the_last_valid_one() {
    let chain = Blocks::new(5, 1);
    let mut tree = Blocks::new(0, 0).tree();
    for header in chain.headers() {
        tree.insert(header).expect("its parent is known");
    }
    let mut known = KnownWork::default();
    known.added(ID);
    known.learn(&tree, ID, chain.tip_hash());
    tree.mark_invalid(&chain.at(4).hash);
    known.forget_invalid(&tree);
    let best = known.best(ID).map(|best| best.hash);
    assert_eq!(best, Some(chain.at(3).hash));
}

#[test]
fn a_block_of_as_much_work_is_no_news() {
    let chain = Blocks::new(5, 1);
    let rival = chain.fork(4, 1, 2);
    let (mut known, mut tree, _) = knowing(&chain);
    known.take_changed();
    tree.insert(rival.tip()).expect("its parent is known");
    known.learn(&tree, ID, rival.tip_hash());
    assert!(known.take_changed().is_empty());
    assert_eq!(known.best(ID).map(|best| best.hash), Some(chain.tip_hash()));
}

#[test]
fn a_peer_that_answers_no_probe_is_probed_ever_more_rarely() {
    let chain = Blocks::new(5, 1);
    let (mut known, tree, mut timers) = knowing(&chain);
    let mut now = Now::default();
    let mut pauses = Vec::new();
    for _ in 0..7 {
        let mut step = Step::new(now);
        known.ask_whether_it_has(&mut step, &mut timers, &tree, ID, chain.tip_hash());
        assert_eq!(step.effects.len(), 1);
        now.mono = timers.at(&SyncTimer::ProbeAnswer(ID)).expect("it is asked");
        known.probe_is_late(now.mono, ID);
        let mut step = Step::new(now);
        known.ask_whether_it_has(&mut step, &mut timers, &tree, ID, chain.tip_hash());
        assert!(step.effects.is_empty(), "it was asked lately");
        let again = timers.at(&SyncTimer::ProbeAgain(ID)).expect("it waits");
        pauses.push((again - now.mono).as_secs());
        now.mono = again;
    }
    assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 160]);
}
