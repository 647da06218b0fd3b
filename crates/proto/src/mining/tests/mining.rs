//! Mining until stopped.

use std::time::Duration;

use bitcoin::CompactTarget;
use handfast_wire::Network;

use super::super::{BACK_OFF, Input, News, PROGRESS_INTERVAL, REFRESH, Why};
use super::world::{World, payout};
use crate::headers::HeaderTree;
use crate::sync::{RejectKind, SubmitResult};
use crate::testing::reject;

const SECOND: Duration = Duration::from_secs(1);

fn why(world: &World) -> Why {
    world.miner.state(world.now).why
}

#[test]
fn a_found_block_is_submitted_and_mining_continues_on_top_of_it() {
    let mut world = World::new(Duration::ZERO);
    assert_eq!(why(&world), Why::Off);
    world.start();
    for height in 11..20 {
        assert_eq!(why(&world), Why::Hashing);
        let (_, template) = world.work.clone().expect("they work");
        assert_eq!(template.next().height, height);
        world.find();
        assert_eq!(why(&world), Why::Judging);
        let hash = world.accept();
        assert_eq!(world.work.as_ref().expect("on").1.next().parent, hash);
    }
    let state = world.miner.state(world.now);
    assert_eq!((state.found, state.stale, state.refused), (9, 0, 0));
    let found = |news: &&News| matches!(news, News::Found { .. });
    assert_eq!(world.news.iter().filter(found).count(), 9);
    world.step(Input::Stop);
    assert!(world.work.is_none() && world.miner.deadline().is_none());
    assert_eq!(why(&world), Why::Off);
    world.tick();
    world.foreign_block(1);
    assert!(world.work.is_none(), "stopped is stopped");
}

#[test]
fn a_new_tip_replaces_the_work_in_the_same_step() {
    let mut world = World::new(Duration::ZERO);
    world.start();
    let before = world.work.clone().expect("they work");
    world.give_chain();
    assert_eq!(world.templates.len(), 1, "the same tip changes nothing");
    world.foreign_block(1);
    let after = world.work.clone().expect("they work");
    assert!(after.0 > before.0);
    assert_eq!(after.1.next().parent, world.chain.tree.tip().hash);
    assert_eq!(after.1.next().height, before.1.next().height + 1);
}

#[test]
fn a_solution_for_an_old_tip_is_never_submitted() {
    let mut world = World::new(Duration::ZERO);
    world.start();
    let (generation, template) = world.work.clone().expect("they work");
    // The solution overtakes the new tip: the machine gets the chain first.
    world.foreign_block(1);
    world.find_for(generation, &template);
    assert!(world.submitted.is_empty());
    // The same if the machine does not get it: the actor that submits checks the tip.
    world.find();
    let (submission, _) = world
        .submitted
        .pop()
        .expect("on the tip as far as it knows");
    world.foreign_block(2);
    world.judge(submission, None);
    let state = world.miner.state(world.now);
    assert_eq!((state.found, state.stale), (0, 1));
    assert_eq!(why(&world), Why::Hashing);
    assert_eq!(
        world.work.as_ref().expect("on").1.next().parent,
        world.chain.tree.tip().hash
    );
}

#[test]
fn a_template_is_refreshed_for_its_age_and_a_solution_for_the_old_one_still_counts() {
    let mut world = World::new(Duration::ZERO);
    world.start();
    let (generation, old) = world.work.clone().expect("they work");
    world.pass(REFRESH - SECOND);
    assert_eq!(world.templates.len(), 1);
    world.pass(SECOND);
    assert_eq!(world.templates.len(), 2);
    let new = &world.templates[1].1;
    assert_eq!(new.next().parent, old.next().parent);
    assert_eq!(new.next().time, old.next().time + 30);
    world.find_for(generation, &old);
    world.accept();
    assert_eq!(world.miner.state(world.now).found, 1);
}

#[test]
fn work_is_replaced_when_minimum_difficulty_becomes_allowed() {
    let hard = CompactTarget::from_consensus(0x1c05_a3f4);
    let mut header = Network::Testnet4.genesis();
    let mut tree = HeaderTree::new(header);
    for nonce in 0..20 {
        header.prev_blockhash = header.block_hash();
        (header.bits, header.nonce) = (hard, nonce);
        header.time += 600;
        tree.insert(header).expect("on the tip");
        tree.connect(&header.block_hash());
    }
    let mut world = World::on(Network::Testnet4, Duration::ZERO, tree);
    world.start();
    assert_eq!(world.work.as_ref().expect("on").1.next().bits, hard);
    // The world begins 60 s after its tip.
    world.pass(Duration::from_secs(1_140));
    assert_eq!(world.work.as_ref().expect("on").1.next().bits, hard);
    world.pass(SECOND);
    let easy = world.work.as_ref().expect("on").1.next();
    assert_eq!(easy.bits.to_consensus(), 0x1d00_ffff);
}

#[test]
fn blocks_are_mined_at_the_pace_and_not_faster_whichever_event_comes_first() {
    let mut world = World::new(5 * SECOND);
    world.start();
    let mut at = Vec::new();
    for _ in 0..4 {
        while world.work.is_none() {
            assert_eq!(why(&world), Why::Paced);
            world.pass(SECOND / 2);
        }
        at.push(world.now.mono);
        world.pass(SECOND / 2);
        world.find();
        world.accept();
        assert!(world.work.is_none(), "the next one is not due");
    }
    assert!(
        at.windows(2).all(|two| two[1] - two[0] == 5 * SECOND),
        "a steady pace: {at:?}"
    );
    // Another miner's block does not change the pace, nor does a restart.
    world.foreign_block(1);
    world.start();
    assert!(world.work.is_none());
    // Lateness is not compensated.
    world.pass(60 * SECOND);
    world.find();
    world.accept();
    world.pass(4 * SECOND);
    assert!(world.work.is_none());
    world.pass(SECOND);
    assert!(world.work.is_some());
}

#[test]
fn a_stale_block_does_not_delay_the_next_one() {
    let mut world = World::new(5 * SECOND);
    world.start();
    world.find();
    let (submission, _) = world.submitted.pop().expect("submitted");
    world.foreign_block(1);
    assert!(
        world.work.is_none(),
        "nothing yet: it may have been in time"
    );
    world.judge(submission, Some(SubmitResult::Inconclusive));
    assert!(world.work.is_some());
    assert_eq!(world.miner.state(world.now).stale, 1);
}

#[test]
fn nothing_is_mined_while_the_node_does_not_run_or_downloads_a_chain_that_is_always_mined() {
    for (network, mines) in [
        (Network::Regtest, true),
        (
            Network::CustomSignet {
                challenge: vec![0x51],
            },
            true,
        ),
        (Network::Testnet4, false),
        (Network::Mainnet, false),
    ] {
        let tree = HeaderTree::new(network.genesis());
        let mut world = World::on(network, Duration::ZERO, tree);
        world.chain.initial_block_download = true;
        world.give_chain();
        world.start();
        assert_eq!(world.work.is_some(), mines);
        let expected = if mines {
            Why::Hashing
        } else {
            Why::InitialBlockDownload
        };
        assert_eq!(why(&world), expected);
        world.chain.initial_block_download = false;
        world.give_chain();
        assert!(world.work.is_some());
        world.chain.running = false;
        world.give_chain();
        assert!(world.work.is_none());
        assert_eq!(why(&world), Why::NotRunning);
    }
}

#[test]
fn a_block_with_a_time_too_far_ahead_is_not_mined_until_that_has_passed() {
    let mut world = World::new(Duration::ZERO);
    let tip = world.chain.tree.tip();
    let median = world.chain.tree.median_time_past(&tip.hash).expect("known");
    world.now.unix = median - 7_200 - 3;
    world.start();
    assert_eq!(why(&world), Why::TooFarAhead);
    world.pass(3 * SECOND);
    assert!(world.work.is_none());
    world.pass(SECOND);
    assert!(world.work.is_some());
}

#[test]
fn after_a_refused_block_mining_pauses_and_shows_why() {
    let mut world = World::new(Duration::ZERO);
    world.start();
    for result in [
        SubmitResult::Rejected(reject(RejectKind::Consensus)),
        SubmitResult::Failed("no space left on device".into()),
        SubmitResult::DuplicateInvalid,
        // Stored, and the tip unchanged.
        SubmitResult::Inconclusive,
    ] {
        world.find();
        let (submission, _) = world.submitted.pop().expect("submitted");
        world.judge(submission, Some(result.clone()));
        assert!(world.work.is_none(), "{result:?}");
        assert!(matches!(why(&world), Why::Refused(_)), "{:?}", why(&world));
        world.pass(BACK_OFF - SECOND);
        assert!(world.work.is_none());
        world.pass(SECOND);
        assert!(world.work.is_some(), "{result:?}");
    }
    let state = world.miner.state(world.now);
    assert_eq!((state.refused, state.stale, state.found), (3, 1, 0));
}

#[test]
fn hashes_per_second_and_the_time_to_the_next_block_follow_the_threads_counters() {
    let network = Network::CustomSignet {
        challenge: vec![0x51],
    };
    let tree = HeaderTree::new(network.genesis());
    let mut world = World::on(network, Duration::ZERO, tree);
    world.start();
    assert_eq!(
        world.miner.state(world.now).expected,
        None,
        "nothing is known yet"
    );
    for _ in 0..30 {
        world.hashes += 1_000_000;
        world.pass(SECOND);
    }
    let state = world.miner.state(world.now);
    // The tick of a second counts what was done before it.
    assert!((state.hashes_per_second - 1e6).abs() < 1e5, "{state:?}");
    let bits = CompactTarget::from_consensus(state.bits.expect("on"));
    let seconds = crate::headers::block_work(bits) as f64 / state.hashes_per_second;
    let expected = state.expected.expect("known").as_secs_f64();
    assert!((expected - seconds).abs() < 1e-6, "{expected} {seconds}");
    assert!((4.0..6.0).contains(&expected), "2^22.3 hashes: {expected}");

    world.pass(PROGRESS_INTERVAL * 3);
    let progress = world.news.iter().filter(|news| **news == News::Progress);
    assert_eq!(progress.count(), 3);
    // New threads count from zero; the hashes of the old ones still count.
    let before = world.miner.state(world.now).hashes;
    world.hashes = 0;
    world.step(Input::Start {
        threads: 1,
        payout: payout(),
    });
    world.hashes = 500;
    world.pass(SECOND);
    assert_eq!(world.miner.state(world.now).hashes, before + 500);
}

#[test]
fn many_blocks_within_a_second_are_one_line_of_the_log() {
    let mut world = World::new(Duration::ZERO);
    world.start();
    for _ in 0..10 {
        world.find();
        world.accept();
        world.pass(SECOND / 4);
    }
    let lines = world.news.iter().filter(|news| {
        matches!(
            news,
            News::Found {
                rate_limited: false,
                ..
            }
        )
    });
    assert_eq!(lines.count(), 3);
}
