//! What is checked of headers before they are stored, and when the engine is given them.

use std::time::Duration;

use bitcoin::block::Header;
use handfast_wire::Message;

use crate::lifecycle::{ConnId, Direction, DoneReason};

use super::super::{Effect, Input};
use super::chains::{Blocks, Data, block, forge, mine, mine_at};
use super::secs;
use super::strangers::{config, withholds};
use super::world::{Behaviour, START, World};

/// Headers on `parent` that break a rule which only their place in the chain tells, and
/// whether their sender is to blame.
fn wrong_on(parent: &Header) -> [(&'static str, Header, bool); 3] {
    [
        (
            "bits",
            mine_at(parent, parent.time + 600, 7, 0x207f_fffe),
            true,
        ),
        ("too old", mine(parent, parent.time - 4_000, 7), true),
        ("too new", mine(parent, START + 7_300, 7), false),
    ]
}

#[test]
fn a_header_that_breaks_a_rule_is_stored_on_no_way_in() {
    let chain = Blocks::new(20, 1);
    for (what, header, blamed) in wrong_on(&chain.tip()) {
        let child = mine(&header, header.time + 600, 7);
        for way in ["asked", "announced", "unasked block"] {
            let mut world = World::with(&chain, config());
            let id = world.add_as(&chain, Direction::Inbound, Behaviour::default());
            if way != "asked" {
                world.run(secs(1));
            }
            let message = match way {
                "unasked block" => Message::Block(block(header, 240)),
                _ => Message::Headers(vec![header, child]),
            };
            world.message(id, message);
            world.run(secs(1));
            let tree = world.node.tree();
            for hash in [header.block_hash(), child.block_hash()] {
                assert!(!tree.contains(&hash), "{what}, {way}");
            }
            assert_eq!(tree.best_header().height, 20, "{what}, {way}");
            let blame = matches!(world.reason(id), Some(DoneReason::InvalidHeader(_)));
            assert_eq!(blame, blamed, "{what}, {way}: {:?}", world.reason(id));
        }
    }
}

/// Heights up to which the engine knows headers of a chain.
fn engine_has(world: &World, chain: &Blocks) -> u32 {
    let known = |header: &Header| world.kernel.tree().contains(&header.block_hash());
    chain
        .headers()
        .iter()
        .filter(|header| known(header))
        .count() as u32
}

#[test]
fn the_engine_is_given_no_header_of_a_chain_whose_blocks_nobody_gives() {
    let honest = Blocks::new(50, 1);
    let mut world = World::new();
    world.may_seek_peers = true;
    let mut branches = Vec::new();
    for salt in 2..12 {
        let branch = honest.fork(0, 300, salt);
        world.add_as(&branch, Direction::Inbound, withholds());
        branches.push(branch);
    }
    world.add(&honest);
    world.sync_to(&honest, secs(30));
    world.run(secs(20));
    for branch in &branches {
        assert!(world.node.tree().contains(&branch.tip_hash()));
        assert_eq!(engine_has(&world, branch), 0);
    }
    assert_eq!(engine_has(&world, &honest), 50);
}

#[test]
fn blocks_are_judged_while_headers_still_come_and_the_engine_gets_all_headers_in_the_end() {
    let chain = Blocks::new(9_000, 1);
    let mut config = config();
    config.assumes_valid = true;
    let mut world = World::with(&Blocks::new(0, 1), config);
    // A slow engine, for which headers are work too.
    world.kernel_time = Duration::from_millis(20);
    let slow = Behaviour {
        latency: Duration::from_millis(200),
        ..Behaviour::default()
    };
    world.add_as(&chain, Direction::Outbound, slow);
    world.run_until("the first block is judged", secs(5), |world| {
        world.tip_height() > 0
    });
    let headers = world.node.tree().best_header().height;
    assert!(
        headers < 9_000,
        "not all headers were here by then: {headers}"
    );
    world.run_until("the engine has all headers", secs(60), |world| {
        engine_has(world, &chain) == 9_000
    });
    assert!(world.tip_height() < 9_000, "long before it has all blocks");
    let waiting = |world: &World| world.node.state(world.now).backlog.header_batches;
    assert!(waiting(&world) <= 5, "{}", waiting(&world));
}

#[test]
fn a_block_of_ours_on_headers_that_the_engine_lacks_goes_behind_them() {
    let chain = Blocks::new(10, 1);
    let mut world = World::with(&chain, config());
    let branch = chain.fork(4, 9, 2);
    let id = world.add_as(&branch, Direction::Inbound, withholds());
    world.run(secs(1));
    assert!(world.node.tree().contains(&branch.tip_hash()));
    world.leave(id);
    let now = world.now;
    let block = branch.at(13).clone();
    let effects = world.node.step(now, Input::Submit { ticket: 1, block });
    let jobs: Vec<usize> = effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::CheckHeaders { .. } => Some(usize::MAX),
            Effect::CheckBlock { before, .. } => Some(before.len()),
            _ => None,
        })
        .collect();
    assert_eq!(jobs, [8], "heights 5 to 12 go along with the block");
}

#[test]
fn a_junk_block_takes_no_header_of_its_chain_to_the_engine() {
    let chain = Blocks::new(10, 1);
    let branch = chain.fork(0, 200, 2);
    let mut world = World::with(&chain, config());
    let id = world.add_as(&branch, Direction::Inbound, withholds());
    world.run(secs(1));
    // At the end of its branch, where no peer was asked for it.
    let junk = forge(branch.at(200), Data::Mutated);
    world.message(id, Message::Block(junk));
    world.run(secs(1));
    assert!(world.reason(id).is_some());
    assert_eq!(engine_has(&world, &branch), 0);
    // They go along with the next block again.
    for height in [1, 199, 200] {
        assert!(world.node.tree().is_unsent(&branch.at(height).hash));
    }
    let honest = world.add(&branch);
    world.sync_to(&branch, secs(5));
    assert_eq!(world.reason(honest), None);
}

#[test]
fn a_bad_copy_of_a_block_costs_those_that_wait_behind_it_nothing() {
    let chain = Blocks::new(100, 1);
    let mut world = World::new();
    // What comes piles up before the kernel.
    world.kernel_time = Duration::from_millis(400);
    let bad = world.add(&chain);
    let good = world.add(&chain);
    world.kernel.mutating.insert(bad);
    world.run_until("the bad copy is found", secs(30), |world| {
        world.reason(bad).is_some()
    });
    let waits = world.node.parts.download.with_kernel().len();
    world.sync_to(&chain, secs(100));
    assert_eq!(world.reason(good), None);
    let of_good = world
        .requests
        .iter()
        .filter(|(_, of, _)| *of == good)
        .count();
    assert!(of_good <= 100, "{of_good} requests; {waits} waited");
    let state = world.node.state(world.now);
    assert_eq!(state.watchdog.fired, 0);
}

#[test]
fn a_peer_that_lacked_a_block_is_asked_again_soon_and_nobody_says_synced_meanwhile() {
    let chain = Blocks::new(40, 1);
    let mut world = World::new();
    world.may_seek_peers = true;
    let lacks = || Behaviour {
        lacks_blocks: true,
        ..Behaviour::default()
    };
    let ids: Vec<ConnId> = (0..3)
        .map(|_| world.add_as(&chain, Direction::Outbound, lacks()))
        .collect();
    world.run(secs(1));
    let state = world.node.state(world.now);
    assert_eq!(state.phase.to_string(), "stalled", "{}", state.why);
    assert!(state.why.contains("lacked a block"), "{}", state.why);
    for id in &ids {
        world.remotes.get_mut(id).unwrap().behaviour.lacks_blocks = false;
    }
    world.sync_to(&chain, secs(5));
    // One that lacks it again and again is asked ever more rarely.
    let longer = chain.fork(40, 5, 1);
    let mut world = World::with(&chain, config());
    world.may_seek_peers = true;
    let id = world.add_as(&longer, Direction::Inbound, lacks());
    world.run(secs(600));
    let asked = world.requests.iter().filter(|(_, of, _)| *of == id).count();
    assert!((4..30).contains(&asked), "{asked} requests in ten minutes");
}

#[test]
fn a_slow_peer_that_the_operator_named_stays_beside_a_quick_one() {
    let chain = Blocks::new(600, 1);
    let mut world = World::new();
    let slow = Behaviour {
        latency: secs(90),
        headers_answers: 1,
        ..Behaviour::default()
    };
    let named = world.add_as(&chain, Direction::Manual, Behaviour::default());
    world.run_until("it has shown the chain", secs(5), |world| {
        world.node.parts.known.best(named).is_some()
    });
    world.remotes.get_mut(&named).unwrap().behaviour = slow;
    world.add(&chain);
    world.sync_to(&chain, secs(60));
    world.run(secs(600));
    assert_eq!(world.reason(named), None);
}
