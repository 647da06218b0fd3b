//! Blocks on demand.

use std::time::Duration;

use bitcoin::{BlockHash, ScriptBuf};
use handfast_wire::Network;

use super::super::{Effect, GenerateFailure, Generated, Input};
use super::world::{World, solve};
use crate::headers::HeaderTree;
use crate::sync::{RejectKind, SubmitResult};
use crate::testing::reject;

/// Performs the open search: finds a nonce if its range has one.
fn search(world: &mut World) -> bool {
    let Some(Effect::Search {
        generation,
        template,
        extra_nonce,
        nonces,
        ..
    }) = world.searches.pop()
    else {
        return false;
    };
    let solved = solve(&template, extra_nonce);
    let nonce = u32::from_le_bytes(solved[76..].try_into().expect("four bytes"));
    let found = nonces.contains(&u64::from(nonce)).then_some(nonce);
    world.step(Input::Searched { generation, found });
    true
}

/// Performs all searches until every request is answered; returns the hashes of accepted blocks.
fn run(world: &mut World) -> Vec<BlockHash> {
    let mut made = Vec::new();
    loop {
        if !world.submitted.is_empty() {
            made.push(world.accept());
        } else if !search(world) {
            return made;
        }
    }
}

fn hashes(result: &Result<Generated, GenerateFailure>) -> Vec<BlockHash> {
    result.as_ref().expect("made").hashes.clone()
}

#[test]
fn as_many_blocks_are_mined_as_requested_one_on_the_other_and_requests_take_turns() {
    let mut world = World::new(Duration::from_secs(60));
    let (first, second, none) = (
        world.request(1, 5, 1_000_000),
        world.request(2, 3, 1_000_000),
        world.request(3, 0, 1_000_000),
    );
    for request in [first, second, none] {
        world.step(Input::Generate(request));
    }
    assert_eq!(world.searches.len(), 1, "one at a time");
    assert_eq!(world.miner.state(world.now).requests, 3);
    let made = run(&mut world);
    assert_eq!(made.len(), 8);
    assert_eq!(world.chain.tree.tip().height, 18);
    let tickets: Vec<u64> = world.answers.iter().map(|(ticket, _)| *ticket).collect();
    assert_eq!(tickets, [3, 2, 1]);
    let of = |indices: &[usize]| -> Vec<_> { indices.iter().map(|index| made[*index]).collect() };
    assert!(hashes(&world.answers[0].1).is_empty());
    assert_eq!(hashes(&world.answers[1].1), of(&[1, 3, 5]));
    assert_eq!(hashes(&world.answers[2].1), of(&[0, 2, 4, 6, 7]));
    let state = world.miner.state(world.now);
    assert_eq!((state.generated, state.found, state.requests), (8, 0, 0));
}

#[test]
fn when_the_tries_are_spent_the_blocks_made_so_far_are_the_answer() {
    // Every second hash suffices, so 40 blocks take about as many failed tries.
    let mut world = World::new(Duration::ZERO);
    let request = world.request(1, 40, 12);
    world.step(Input::Generate(request));
    let made = run(&mut world);
    assert!((1..40).contains(&made.len()), "{}", made.len());
    assert_eq!(hashes(&world.answers[0].1), made);
    // None at all: no hash may be tried.
    let request = world.request(2, 1, 0);
    world.step(Input::Generate(request));
    assert!(world.searches.is_empty());
    assert!(hashes(&world.answers[1].1).is_empty());
}

#[test]
fn a_search_continues_where_it_stopped_and_takes_the_next_extra_nonce_after_all_nonces() {
    let network = Network::Mainnet;
    let tree = HeaderTree::new(network.genesis());
    let mut world = World::on(network, Duration::ZERO, tree);
    let request = world.request(1, 1, (1 << 32) + 10);
    world.step(Input::Generate(request));
    let mut at = 0;
    let first = loop {
        let Some(Effect::Search {
            generation,
            extra_nonce,
            nonces,
            ..
        }) = world.searches.pop()
        else {
            panic!("it must go on");
        };
        assert_eq!(nonces.start, at % (1 << 32));
        at += nonces.end - nonces.start;
        let found = None;
        world.step(Input::Searched { generation, found });
        if nonces.end == 1 << 32 {
            break extra_nonce;
        }
    };
    let Some(Effect::Search {
        generation,
        extra_nonce,
        nonces,
        ..
    }) = world.searches.pop()
    else {
        panic!("ten tries are left");
    };
    assert_eq!((extra_nonce, nonces), (first + 1, 0..10));
    let found = None;
    world.step(Input::Searched { generation, found });
    assert!(world.searches.is_empty());
    assert!(hashes(&world.answers[0].1).is_empty());
}

#[test]
fn a_new_tip_restarts_the_search_and_nothing_stale_is_submitted() {
    let mut world = World::new(Duration::ZERO);
    let request = world.request(1, 1, 1_000_000);
    world.step(Input::Generate(request));
    world.foreign_block(1);
    assert!(search(&mut world));
    assert!(world.submitted.is_empty(), "its parent is not the tip");
    assert!(search(&mut world));
    // The actor that submits finds it stale too.
    let (submission, _) = world
        .submitted
        .pop()
        .expect("on the tip as far as it knows");
    world.foreign_block(2);
    world.judge(submission, None);
    let made = run(&mut world);
    assert_eq!(hashes(&world.answers[0].1), made);
    assert_eq!(world.chain.tree.tip().height, 13);
    assert_eq!(world.miner.state(world.now).stale, 1);
}

#[test]
fn without_submission_the_block_itself_is_the_answer_and_the_chain_stays() {
    let mut world = World::new(Duration::ZERO);
    let mut request = world.request(1, 1, 1_000_000);
    request.submit = false;
    request.payout = ScriptBuf::from_bytes(vec![0x52]);
    world.step(Input::Generate(request));
    assert!(search(&mut world));
    assert!(world.submitted.is_empty());
    let generated = world.answers[0].1.clone().expect("made");
    let block = generated.block.expect("not submitted");
    assert_eq!(generated.hashes, [block.hash]);
    assert_eq!(block.header.prev_blockhash, world.chain.tree.tip().hash);
}

#[test]
fn a_refused_block_ends_the_request_with_the_reason_and_the_next_request_begins() {
    let mut world = World::new(Duration::ZERO);
    for (ticket, result, failure) in [
        (
            1,
            SubmitResult::Rejected(reject(RejectKind::Consensus)),
            GenerateFailure::Refused(reject(RejectKind::Consensus)),
        ),
        (
            2,
            SubmitResult::Failed("disk full".into()),
            GenerateFailure::Failed("disk full".into()),
        ),
    ] {
        let request = world.request(ticket, 3, 1_000_000);
        world.step(Input::Generate(request));
        assert!(search(&mut world));
        let (submission, _) = world.submitted.pop().expect("submitted");
        world.judge(submission, Some(result));
        assert_eq!(world.answers.pop(), Some((ticket, Err(failure))));
    }
    let request = world.request(3, 1, 1_000_000);
    world.step(Input::Generate(request));
    assert_eq!(run(&mut world).len(), 1);
}

#[test]
fn an_abandoned_request_is_dropped_and_the_next_one_begins() {
    let mut world = World::new(Duration::ZERO);
    for ticket in 1..=3 {
        let request = world.request(ticket, 1, 1_000_000);
        world.step(Input::Generate(request));
    }
    world.step(Input::Abandon { ticket: 2 });
    world.step(Input::Abandon { ticket: 1 });
    // The search of the first is still in progress, and changes nothing.
    assert_eq!(world.searches.len(), 2);
    let old = world.searches.remove(0);
    let Effect::Search { generation, .. } = old else {
        unreachable!()
    };
    let found = Some(0);
    world.step(Input::Searched { generation, found });
    assert!(world.submitted.is_empty());
    assert_eq!(run(&mut world).len(), 1);
    assert_eq!(world.answers.len(), 1);
    assert_eq!(world.answers[0].0, 3);
}

#[test]
fn a_search_that_finds_nothing_lets_others_have_their_turn_and_continues_where_it_stopped() {
    let network = Network::Mainnet;
    let tree = HeaderTree::new(network.genesis());
    let mut world = World::on(network, Duration::ZERO, tree);
    for ticket in 1..=3 {
        let request = world.request(ticket, 1, u64::MAX);
        world.step(Input::Generate(request));
    }
    let mut seen = Vec::new();
    for _ in 0..7 {
        let Some(Effect::Search {
            ticket,
            generation,
            nonces,
            ..
        }) = world.searches.pop()
        else {
            panic!("one of them searches");
        };
        assert!(world.searches.is_empty(), "one at a time");
        seen.push((ticket, nonces.start / (nonces.end - nonces.start)));
        let found = None;
        world.step(Input::Searched { generation, found });
        if seen.len() == 5 {
            // Its second search is in progress, and changes nothing.
            assert_eq!(world.searches.len(), 1);
            world.searches.clear();
            world.step(Input::Abandon { ticket: 3 });
        }
    }
    let by_turns = [(1, 0), (2, 0), (3, 0), (1, 1), (2, 1), (1, 2), (2, 2)];
    assert_eq!(seen, by_turns);
}

#[test]
fn a_node_that_does_not_run_makes_no_blocks() {
    let mut world = World::new(Duration::ZERO);
    world.chain.running = false;
    world.give_chain();
    let request = world.request(1, 1, 1_000_000);
    world.step(Input::Generate(request));
    assert_eq!(world.answers, [(1, Err(GenerateFailure::NotRunning))]);
}

#[test]
fn blocks_are_mined_and_made_on_demand_side_by_side() {
    let mut world = World::new(Duration::ZERO);
    world.start();
    let request = world.request(1, 3, 1_000_000);
    world.step(Input::Generate(request));
    let ordered = run(&mut world);
    assert_eq!(ordered.len(), 3);
    assert_eq!(
        world.work.as_ref().expect("on").1.next().parent,
        ordered[2],
        "the threads follow"
    );
    world.find();
    world.accept();
    let state = world.miner.state(world.now);
    assert_eq!((state.found, state.generated, state.stale), (1, 3, 0));
}
