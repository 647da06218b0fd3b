//! Hostile peers that try to steer the node by what they deliver or withhold.

use std::time::Duration;

use bitcoin::p2p::message_blockdata::Inventory;
use handfast_wire::{Message, Network};

use crate::headers::{LowWorkParams, Status};
use crate::lifecycle::{ConnId, Direction, DoneReason};

use super::super::{Input, SyncConfig};
use super::chains::{Blocks, Data, forge};
use super::kernel::Kernel;
use super::secs;
use super::world::{Behaviour, World};

pub(super) fn config() -> SyncConfig {
    SyncConfig::new(&Network::Regtest, None, 1)
}

/// Shows its chain, and gives no block of it.
pub(super) fn withholds() -> Behaviour {
    Behaviour {
        block_answers: 0,
        ..Behaviour::default()
    }
}

/// Says `notfound` for each block.
fn denies() -> Behaviour {
    Behaviour {
        lacks_blocks: true,
        ..Behaviour::default()
    }
}

fn announce(world: &mut World, id: ConnId, chain: &Blocks, from: u32) {
    let headers = chain.headers()[from as usize..].to_vec();
    world.message(id, Message::Headers(headers));
}

#[test]
fn bad_data_under_the_hash_of_a_good_block_marks_nothing_and_the_block_is_had_of_another() {
    for data in [Data::Mutated, Data::BadBeforeMerkleRoot] {
        let old = Blocks::new(20, 1);
        let mut chain = old.clone();
        chain.grow(1, 1);
        let mut world = World::with(&old, config());
        let honest = world.add(&old);
        let stranger = world.add_as(&old, Direction::Inbound, Behaviour::default());
        world.run(secs(1));
        // Unasked, before anybody has announced the block.
        world.message(stranger, Message::Block(forge(chain.at(21), data)));
        world.run(secs(1));
        assert!(matches!(
            world.reason(stranger),
            Some(DoneReason::InvalidBlock { .. })
        ));
        let hash = chain.tip_hash();
        let entry = world
            .node
            .tree()
            .get(&hash)
            .expect("its header is a good one");
        assert_eq!(entry.status, Status::Header, "{data:?}");
        world.set_chain(honest, &chain);
        announce(&mut world, honest, &chain, 20);
        world.sync_to(&chain, secs(1));
        // And those who build on it are not to blame.
        chain.grow(1, 1);
        world.set_chain(honest, &chain);
        announce(&mut world, honest, &chain, 21);
        world.sync_to(&chain, secs(1));
        assert_eq!(world.reason(honest), None);
    }
}

#[test]
fn bad_data_that_comes_first_does_not_make_us_drop_the_good_copy_behind_it() {
    let old = Blocks::new(20, 1);
    let mut chain = old.clone();
    chain.grow(1, 1);
    let mut world = World::with(&old, config());
    // The verdict about the bad copy takes longer than the good one needs to come.
    world.kernel_time = Duration::from_millis(50);
    let honest = world.add(&chain);
    world.run(Duration::from_millis(7));
    assert!(world.node.parts.download.is_in_flight(&chain.tip_hash()));
    let stranger = world.add_as(&old, Direction::Inbound, Behaviour::default());
    let bad = forge(chain.at(21), Data::Mutated);
    world.message(stranger, Message::Block(bad));
    world.sync_to(&chain, secs(1));
    let asked = world.requests.iter().filter(|(_, id, _)| *id == honest);
    assert_eq!(asked.count(), 1, "the copy that came is used");
}

#[test]
fn a_branch_that_the_kernel_had_before_the_start_may_be_poisoned_and_connect_all_the_same() {
    let common = Blocks::new(20, 1);
    let active = common.fork(20, 2, 1);
    let mut branch = common.fork(20, 2, 2);
    let mut world = World::with(&active, config());
    // The kernel has a side branch of before the restart; the tree knows nothing of it.
    let mut kernel_tree = active.tree();
    for block in &branch.blocks[20..] {
        kernel_tree.insert(block.header).unwrap();
    }
    for height in [21, 22] {
        kernel_tree.mark_stored(&branch.at(height).hash);
    }
    world.kernel = Kernel::new(kernel_tree);
    branch.grow(2, 2);
    let stranger = world.add_as(&branch, Direction::Inbound, withholds());
    world.run(secs(1));
    let first = forge(branch.at(21), Data::BadBeforeMerkleRoot);
    world.message(stranger, Message::Block(first));
    for height in 22..=24 {
        world.message(stranger, Message::Block(branch.at(height).clone()));
    }
    world.run(secs(1));
    let honest = world.add(&branch);
    world.sync_to(&branch, secs(5));
    assert_eq!(world.reason(honest), None);
}

#[test]
fn a_source_that_repeats_what_we_know_keeps_nobody_else_from_being_asked() {
    // Its answers are the first two thousand headers, then nothing.
    for direction in [Direction::Inbound, Direction::Outbound] {
        let chain = Blocks::new(3_000, 1);
        let stale = chain.fork(2_000, 0, 1);
        let mut world = World::new();
        world.add_as(&stale, Direction::Inbound, withholds());
        world.run(secs(5));
        let honest = world.add_as(&chain, direction, Behaviour::default());
        world.sync_to(&chain, secs(10));
        assert_eq!(world.reason(honest), None);
    }
}

#[test]
fn low_work_headers_that_came_to_nothing_are_held_against_who_sent_them() {
    let each = Blocks::new(1, 0).tip().work();
    let mut minimum = each;
    for _ in 1..5_000 {
        minimum = minimum + each;
    }
    let mut config = SyncConfig::new(&Network::Regtest, Some(minimum), 7);
    config.low_work = LowWorkParams {
        commitment_period: 7,
        lookahead: 100,
    };
    for direction in [Direction::Inbound, Direction::Outbound] {
        let chain = Blocks::new(5_500, 1);
        let stale = chain.fork(2_000, 0, 1);
        let mut world = World::with(&Blocks::new(0, 0), config.clone());
        let stranger = world.add_as(&stale, Direction::Inbound, Behaviour::default());
        world.run(secs(20));
        let before = world.sent_to_peer(stranger).len();
        assert!(before < 10, "asked {before} times for the same");
        let honest = world.add_as(&chain, direction, Behaviour::default());
        world.run_until("all headers", secs(10), |world| {
            world.node.tree().best_header().height == 5_500
        });
        assert_eq!(world.reason(honest), None);
        world.sync_to(&chain, secs(60));
    }
}

#[test]
fn a_peer_that_we_dialled_is_asked_beside_a_source_that_dialled_us() {
    let chain = Blocks::new(30, 1);
    let mut world = World::new();
    let silent = Behaviour {
        headers_answers: 0,
        ..withholds()
    };
    world.add_as(&chain, Direction::Inbound, silent);
    let dialled = world.add(&chain);
    assert_eq!(world.node.sync_peer(), Some(dialled));
    let took = world.sync_to(&chain, secs(2));
    assert!(
        took < secs(1),
        "{took:?}: not only once the source is silent"
    );
}

#[test]
fn strangers_with_branches_of_their_own_do_not_delay_an_honest_chain() {
    for strangers in [1, 10, 40] {
        let common = Blocks::new(100, 1);
        let honest_chain = common.fork(100, 10, 1);
        let mut world = World::with(&common, config());
        for salt in 0..strangers {
            let own = common.fork(90, 30 + salt as usize % 7, 10 + salt);
            let behaviour = if salt % 2 == 0 { withholds() } else { denies() };
            world.add_as(&own, Direction::Inbound, behaviour);
        }
        world.run(secs(1));
        let honest = world.add_as(&honest_chain, Direction::Inbound, Behaviour::default());
        let took = world.sync_to(&honest_chain, secs(2));
        assert!(took < secs(1), "{strangers}: {took:?}");
        assert_eq!(world.reason(honest), None);
    }
}

#[test]
fn who_says_notfound_and_announces_again_gets_no_turn_by_that() {
    let common = Blocks::new(100, 1);
    let own = common.fork(95, 30, 2);
    let honest_chain = common.fork(100, 10, 1);
    let mut world = World::with(&common, config());
    let strangers: Vec<ConnId> = (0..2)
        .map(|_| world.add_as(&own, Direction::Inbound, denies()))
        .collect();
    world.run(secs(1));
    for _ in 0..500 {
        for id in &strangers {
            announce(&mut world, *id, &own, 95);
        }
        world.run(Duration::from_millis(20));
    }
    let asked = world.requests.len();
    assert!(asked <= 8, "asked {asked} times in ten seconds");
    let honest = world.add_as(&honest_chain, Direction::Inbound, Behaviour::default());
    announce(&mut world, strangers[0], &own, 95);
    world.sync_to(&honest_chain, secs(2));
    assert_eq!(world.reason(honest), None);
}

#[test]
fn many_that_withhold_the_right_chain_delay_its_sync_by_seconds() {
    for (strangers, direction, honest_direction) in [
        (8, Direction::Inbound, Direction::Inbound),
        (60, Direction::Inbound, Direction::Inbound),
        (60, Direction::Inbound, Direction::Outbound),
        (114, Direction::Inbound, Direction::Inbound),
        (8, Direction::Outbound, Direction::Inbound),
        (8, Direction::Outbound, Direction::Outbound),
    ] {
        let chain = Blocks::new(2_000, 1);
        let mut alone = World::new();
        alone.add_as(&chain, honest_direction, Behaviour::default());
        let usual = alone.sync_to(&chain, secs(60));
        let mut world = World::new();
        for _ in 0..strangers {
            world.add_as(&chain, direction, withholds());
        }
        let honest = world.add_as(&chain, honest_direction, Behaviour::default());
        let took = world.sync_to(&chain, 3 * usual + secs(10));
        assert!(
            took < 3 * usual + secs(5),
            "{strangers}: {took:?}, alone {usual:?}"
        );
        assert_eq!(world.reason(honest), None);
    }
}

#[test]
fn a_new_block_that_many_announce_and_keep_is_had_of_the_one_that_gives_it_within_two_seconds() {
    for (served_before, strangers) in [(true, 114), (false, 30), (false, 60)] {
        let old = Blocks::new(50, 1);
        let mut chain = old.clone();
        chain.grow(1, 1);
        let begin = if served_before {
            Blocks::new(0, 0)
        } else {
            old.clone()
        };
        let mut world = World::with(&begin, config());
        world.node.parts.download.expect_blocks_of(1_000);
        let ids: Vec<ConnId> = (0..strangers)
            .map(|_| world.add_as(&old, Direction::Inbound, withholds()))
            .collect();
        let honest = world.add_as(&old, Direction::Inbound, Behaviour::default());
        world.sync_to(&old, secs(20));
        world.run(secs(5));
        // The hostile peers are quicker to announce it.
        for id in ids {
            world.set_chain(id, &chain);
            announce(&mut world, id, &chain, 50);
        }
        world.set_chain(honest, &chain);
        announce(&mut world, honest, &chain, 50);
        let took = world.sync_to(&chain, secs(5));
        assert!(took <= secs(2), "{strangers}, {served_before}: {took:?}");
        assert_eq!(world.reason(honest), None);
    }
}

#[test]
fn a_block_left_out_of_an_answer_is_asked_of_another_as_soon_as_the_next_one_comes() {
    let chain = Blocks::new(40, 1);
    let mut world = World::new();
    world.node.parts.download.expect_blocks_of(1_000);
    let first = world.add_as(&chain, Direction::Outbound, Behaviour::default());
    world.run_until("several in flight", secs(1), |world| {
        world.node.parts.download.asked_of(first).len() >= 2
    });
    let other = world.add_as(&chain, Direction::Outbound, Behaviour::default());
    world.run_until("the other has delivered", secs(1), |world| {
        world.remotes[&other].blocks_served > 0
            && world.node.parts.download.asked_of(first).len() >= 2
    });
    world.remotes.get_mut(&first).unwrap().behaviour = withholds();
    let asked = world.node.parts.download.asked_of(first).to_vec();
    let (left_out, sent) = (asked[0], asked[1]);
    let at = world.requests.len();
    let block = chain.at(sent.height).clone();
    world.message(first, Message::Block(block));
    let again = world.requests[at..]
        .iter()
        .any(|(_, id, hash)| *id == other && *hash == left_out.hash);
    let in_flight = world.node.parts.download.is_in_flight(&left_out.hash);
    assert!(again || !in_flight, "nobody waits for it any longer");
    world.sync_to(&chain, secs(2));
}

#[test]
fn a_longer_branch_that_nobody_gives_does_not_keep_us_from_announcing_our_blocks() {
    let old = Blocks::new(50, 1);
    let longer = old.fork(40, 60, 2);
    let mut world = World::with(&old, config());
    let listener = world.add_as(&old, Direction::Inbound, Behaviour::default());
    world.add_as(&longer, Direction::Inbound, withholds());
    world.run(secs(5));
    let mut chain = old.clone();
    chain.grow(1, 1);
    world.input(Input::Submit {
        ticket: 1,
        block: chain.at(51).clone(),
    });
    world.run(secs(1));
    let told = world
        .sent_to_peer(listener)
        .into_iter()
        .any(|message| match message {
            Message::Headers(headers) => headers
                .iter()
                .any(|header| header.block_hash() == chain.tip_hash()),
            Message::Inv(items) => items.contains(&Inventory::Block(chain.tip_hash())),
            _ => false,
        });
    assert!(told);
}

/// Simulation, attack seed 55: the honest peer showed the first two thousand headers, and
/// was probed for a block of the stranger's that it does not have, for ever.
#[test]
fn a_peer_that_has_more_than_it_has_shown_is_asked_on_though_it_lacks_the_best_header() {
    let honest_chain = Blocks::new(5_400, 1);
    let stranger_chain = honest_chain.fork(5_400, 3, 2);
    for direction in [Direction::Inbound, Direction::Outbound] {
        let mut world = World::new();
        world.add_as(&stranger_chain, direction, withholds());
        world.run_until("all headers", secs(5), |world| {
            world.node.tree().best_header().height == 5_403
        });
        let honest = world.add_as(&honest_chain, Direction::Inbound, Behaviour::default());
        let took = world.sync_to(&honest_chain, secs(20));
        assert!(took < secs(15), "{took:?}");
        assert_eq!(world.reason(honest), None);
    }
}

/// Simulation, attack seed 2007: dialled peers that shake hands and go, each the source for
/// a moment; the honest one was asked again each time, and its two answers mixed.
#[test]
fn sources_that_come_and_go_do_not_begin_the_headers_of_an_honest_peer_anew() {
    let chain = Blocks::new(5_500, 1);
    let each = chain.tip().work();
    let mut minimum = each;
    for _ in 1..5_000 {
        minimum = minimum + each;
    }
    let mut config = SyncConfig::new(&Network::Regtest, Some(minimum), 7);
    config.low_work = LowWorkParams {
        commitment_period: 7,
        lookahead: 100,
    };
    let mut world = World::with(&Blocks::new(0, 0), config);
    let slow = Behaviour {
        latency: Duration::from_millis(400),
        ..Behaviour::default()
    };
    world.add_as(&chain, Direction::Inbound, slow);
    let goes = Behaviour {
        leaves_at_getheaders: true,
        latency: Duration::from_millis(100),
        ..withholds()
    };
    for _ in 0..40 {
        world.add_as(&chain, Direction::Outbound, goes.clone());
        world.run(Duration::from_millis(300));
    }
    assert_eq!(world.node.tree().best_header().height, 5_500);
}

/// Simulation, attack seed 42: peers that come, are cut off for bad headers and come again;
/// each put off the moment at which the honest one would have been asked.
#[test]
fn sources_that_are_cut_off_one_after_the_other_put_off_nobody_elses_turn() {
    let chain = Blocks::new(300, 1);
    let mut world = World::new();
    let silent = || Behaviour {
        headers_answers: 0,
        ..withholds()
    };
    for _ in 0..45 {
        world.add_as(&Blocks::new(0, 0), Direction::Inbound, silent());
    }
    world.add_as(&chain, Direction::Inbound, Behaviour::default());
    let goes = Behaviour {
        leaves_at_getheaders: true,
        latency: Duration::from_millis(50),
        ..withholds()
    };
    let tip = chain.tip_hash();
    for _ in 0..40 {
        world.add_as(&chain, Direction::Outbound, goes.clone());
        world.run(Duration::from_millis(200));
    }
    assert_eq!(world.node.tree().tip().hash, tip, "within eight seconds");
}

/// Simulation, seed 184: a peer that withheld a block and went over to another chain was not
/// asked for that, since the request of the old one was still open.
#[test]
fn a_peer_that_goes_over_to_another_chain_is_asked_for_that_though_it_keeps_a_block() {
    let old = Blocks::new(20, 1);
    let (kept, other) = (old.fork(20, 2, 2), old.fork(20, 3, 3));
    let mut world = World::with(&old, config());
    let id = world.add_as(&kept, Direction::Inbound, withholds());
    world.run(secs(5));
    assert_eq!(world.node.parts.download.asked_of(id).len(), 1);
    world.remotes.get_mut(&id).unwrap().behaviour = Behaviour::default();
    world.set_chain(id, &other);
    announce(&mut world, id, &other, 20);
    world.sync_to(&other, secs(1));
    assert_eq!(world.reason(id), None);
}
