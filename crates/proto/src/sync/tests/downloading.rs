//! Block download.

use std::time::Duration;

use bitcoin::BlockHash;
use bitcoin::block::Header;
use bitcoin::p2p::ServiceFlags;
use handfast_wire::{Message, Network};

use crate::headers::check_pow;
use crate::lifecycle::{ConnId, Direction, DoneReason};

use super::super::download::{MAX_OUTSTANDING, WINDOW};
use super::super::{Input, Phase, SyncConfig, SyncManager};
use super::chains::{Blocks, block, mine, mine_at};
use super::kernel::Kernel;
use super::secs;
use super::world::{Behaviour, START, World};

#[test]
fn a_chain_is_synced_from_one_peer_with_each_block_asked_for_once() {
    let chain = Blocks::new(3_000, 1);
    let mut world = World::new();
    world.add(&chain);
    world.sync_to(&chain, secs(60));
    assert_eq!(world.requests.len(), 3_000);
    assert_eq!(world.asked_twice(), 0);
    let per_message = world.requests.len() / world.getdata_messages;
    assert!(per_message >= 7, "{per_message} blocks per getdata");
    assert!(world.ended.is_empty());
    assert_eq!(world.node.state(world.now).phase, Phase::Synced);
}

#[test]
fn blocks_come_from_all_peers_that_have_them_from_the_first_batch_of_headers_on() {
    let chain = Blocks::new(6_000, 1);
    let mut world = World::new();
    let ids: Vec<_> = (0..3).map(|_| world.add(&chain)).collect();
    world.run_until("700 blocks", secs(10), |world| world.tip_height() >= 700);
    for id in &ids {
        let served = world.remotes[id].blocks_served;
        assert!(served >= 150, "{id} served {served} of the first 700");
    }
    world.sync_to(&chain, secs(60));
    assert_eq!(world.asked_twice(), 0);
}

#[test]
fn nothing_is_asked_beyond_the_window() {
    let chain = Blocks::new(4_000, 1);
    let mut world = World::new();
    world.node.parts.download.expect_blocks_of(256);
    let quick = Behaviour {
        latency: Duration::from_micros(10),
        ..Behaviour::default()
    };
    // It keeps the first block.
    let keeps = Behaviour {
        block_answers: 0,
        ..quick.clone()
    };
    let keeps = world.add_as(&chain, Direction::Outbound, keeps);
    world.add_as(&chain, Direction::Outbound, quick);
    world.run(Duration::from_millis(290));
    assert_eq!(
        world.node.parts.download.asked_of(keeps).len(),
        1,
        "it has delivered none"
    );
    let highest = world
        .requests
        .iter()
        .map(|(_, _, hash)| world.node.tree().get(hash).unwrap().height)
        .max();
    assert!(highest <= Some(WINDOW as u32), "{highest:?}");
    assert!(highest > Some(900), "{highest:?}");
    assert_eq!(world.tip_height(), 0);
    // Then the other is asked for that one too.
    world.sync_to(&chain, secs(60));
    assert_eq!(world.asked_twice(), 1);
    assert_eq!(world.reason(keeps), None);
    world.run(secs(61));
    assert!(matches!(
        world.reason(keeps),
        Some(DoneReason::BlockStalled { .. })
    ));
}

#[test]
fn one_peer_stops_in_the_middle_and_one_leaves_and_sync_goes_on_within_the_timeout() {
    let chain = Blocks::new(3_000, 1);
    let mut world = World::new();
    let stops = Behaviour {
        block_answers: 300,
        ..Behaviour::default()
    };
    let leaves = Behaviour {
        leaves_after_blocks: Some(400),
        ..Behaviour::default()
    };
    let silent = world.add_as(&chain, Direction::Outbound, stops);
    world.add_as(&chain, Direction::Outbound, leaves);
    world.add(&chain);
    let took = world.sync_to(&chain, secs(10));
    assert!(took < secs(5), "{took:?}");
    assert!(
        world.asked_twice() <= 32,
        "only what those two had been asked for"
    );
    world.run(secs(70));
    assert!(matches!(
        world.reason(silent),
        Some(DoneReason::BlockStalled { .. })
    ));
}

#[test]
fn the_block_of_a_lost_peer_is_asked_of_another_in_the_same_step() {
    let chain = Blocks::new(24, 1);
    let mut world = World::new();
    let mute = Behaviour {
        block_answers: 0,
        ..Behaviour::default()
    };
    let first = world.add_as(&chain, Direction::Outbound, mute);
    let second = world.add(&chain);
    world.run(Duration::from_millis(250));
    assert_eq!(world.node.parts.download.asked_of(first).len(), 1);
    let before = world.requests.len();
    world.leave(first);
    let again: Vec<_> = world.requests[before..]
        .iter()
        .map(|(_, id, _)| *id)
        .collect();
    assert_eq!(again, [second]);
}

#[test]
fn a_late_block_is_asked_of_another_and_its_sender_has_a_minute_and_more_for_its_size() {
    let chain = Blocks::new(4, 1);
    let mut world = World::new();
    let mute = Behaviour {
        block_answers: 0,
        ..Behaviour::default()
    };
    let late = world.add_as(&chain, Direction::Outbound, mute);
    world.add(&chain);
    let took = world.sync_to(&chain, secs(3));
    assert!(took >= Duration::from_millis(300), "{took:?}");
    assert_eq!(world.reason(late), None);
    world.run(secs(59));
    assert_eq!(world.reason(late), None);
    world.run(secs(30));
    assert!(matches!(
        world.reason(late),
        Some(DoneReason::BlockStalled { .. })
    ));
}

#[test]
fn a_late_block_that_still_comes_clears_its_sender() {
    let chain = Blocks::new(4, 1);
    let mut world = World::new();
    let slow = Behaviour {
        latency: secs(5),
        ..Behaviour::default()
    };
    let late = world.add_as(&chain, Direction::Outbound, slow);
    world.run(secs(6));
    world.add(&chain);
    world.sync_to(&chain, secs(20));
    world.run(secs(120));
    assert!(world.ended.is_empty(), "{:?}", world.ended);
    assert!(!world.node.parts.download.is_stalling(late));
}

#[test]
fn the_only_peer_with_the_blocks_is_waited_for_and_a_new_one_takes_over_at_once() {
    let chain = Blocks::new(40, 1);
    let mut world = World::new();
    let mute = Behaviour {
        block_answers: 0,
        ..Behaviour::default()
    };
    world.may_seek_peers = true;
    let only = world.add_as(&chain, Direction::Outbound, mute);
    world.run(secs(300));
    assert_eq!(world.wanted_peers.len(), 1, "others may have them");
    assert!(world.ended.is_empty());
    let state = world.node.state(world.now);
    assert_eq!(state.phase, Phase::Stalled);
    let why = &state.why;
    assert!(why.contains("no other peer can be asked"), "{why}");
    world.add(&chain);
    world.sync_to(&chain, secs(1));
    assert_eq!(world.reason(only), None);
}

#[test]
fn the_only_peer_is_given_up_after_ten_minutes_of_silence() {
    let chain = Blocks::new(40, 1);
    let mut world = World::new();
    let mute = Behaviour {
        block_answers: 3,
        ..Behaviour::default()
    };
    world.may_seek_peers = true;
    let only = world.add_as(&chain, Direction::Manual, mute);
    world.run(secs(599));
    assert!(world.ended.is_empty());
    world.run(secs(3));
    assert!(matches!(
        world.reason(only),
        Some(DoneReason::BlockStalled { .. })
    ));
}

#[test]
fn blocks_that_are_withheld_do_not_keep_us_from_an_honest_chain() {
    let honest = Blocks::new(300, 1);
    let withheld = honest.fork(100, 250, 2);
    let mut world = World::new();
    let mute = Behaviour {
        block_answers: 0,
        ..Behaviour::default()
    };
    world.add_as(&withheld, Direction::Outbound, mute);
    world.add(&honest);
    world.sync_to(&honest, secs(10));
}

#[test]
fn a_peer_that_lacks_what_it_announced_is_not_asked_in_circles() {
    let chain = Blocks::new(40, 1);
    let mut world = World::new();
    let lacks = Behaviour {
        lacks_blocks: true,
        ..Behaviour::default()
    };
    let empty = world.add_as(&chain, Direction::Outbound, lacks);
    world.run(secs(2));
    assert!(world.requests.len() <= 32, "{}", world.requests.len());
    world.add(&chain);
    world.sync_to(&chain, secs(2));
    assert_eq!(world.reason(empty), None);
}

#[test]
fn a_busy_kernel_stops_requests_and_nobody_is_blamed() {
    let chain = Blocks::new(2_000, 1);
    let mut world = World::new();
    world.kernel_time = Duration::from_millis(200);
    world.add(&chain);
    world.add(&chain);
    world.run(secs(60));
    assert!(
        world.most_outstanding <= MAX_OUTSTANDING + 2,
        "and one a peer"
    );
    assert!(world.ended.is_empty(), "{:?}", world.ended);
    assert_eq!(world.asked_twice(), 0);
    world.sync_to(&chain, secs(600));
}

#[test]
fn big_blocks_are_asked_for_in_few_bytes_and_from_all_peers() {
    let chain = big_chain(60);
    let mut world = World::new();
    world.kernel_time = Duration::from_millis(85);
    let ids: Vec<_> = (0..3).map(|_| world.add(&chain)).collect();
    let took = world.sync_to(&chain, secs(10));
    assert!(world.most_outstanding <= 17, "{}", world.most_outstanding);
    for id in ids {
        assert!(world.remotes[&id].blocks_served >= 10);
    }
    // 60 blocks and one batch of headers at 85 ms: the kernel never waited for long.
    assert!(took < Duration::from_millis(61 * 85 + 300), "{took:?}");
}

fn big_chain(blocks: usize) -> Blocks {
    let mut chain = Blocks::new(0, 1);
    for _ in 0..blocks {
        chain.grow(1, 1);
        let last = chain.blocks.pop().unwrap();
        chain.blocks.push(block(last.header, 1_000_000));
    }
    chain
}

#[test]
fn the_budget_grows_when_the_kernel_waits_and_shrinks_when_blocks_do() {
    let chain = big_chain(40);
    let mut quick = World::new();
    quick.kernel_time = Duration::from_millis(1);
    quick.add(&chain);
    quick.sync_to(&chain, secs(60));
    let least = World::new().node.parts.download.budget_mut().bytes();
    let grown = *quick.node.parts.download.budget_mut();
    assert!(grown.bytes() > least, "the kernel had to wait");

    let mut slow = World::new();
    *slow.node.parts.download.budget_mut() = grown;
    slow.kernel_time = Duration::from_millis(500);
    slow.add(&chain);
    slow.sync_to(&chain, secs(60));
    assert!(
        slow.node.parts.download.budget_mut().bytes() < grown.bytes(),
        "blocks had to wait"
    );
}

#[test]
fn a_reorganisation_of_ten_blocks_is_followed() {
    let old = Blocks::new(60, 1);
    let new = old.fork(50, 12, 2);
    let mut world = World::new();
    let id = world.add(&old);
    world.sync_to(&old, secs(5));
    world.set_chain(id, &new);
    world.message(id, Message::Headers(new.headers()[50..].to_vec()));
    world.sync_to(&new, secs(5));
    assert_eq!(world.asked_twice(), 0);
    assert!(world.ended.is_empty());
}

#[test]
fn a_branch_longer_than_the_window_is_followed_too() {
    let old = Blocks::new(1_300, 1);
    let new = old.fork(20, 1_300, 2);
    let mut world = World::with(&old, SyncConfig::new(&Network::Regtest, None, 1));
    world.add(&new);
    world.sync_to(&new, secs(20));
}

#[test]
fn a_lighter_branch_is_not_downloaded() {
    let ours = Blocks::new(60, 1);
    let lighter = ours.fork(50, 8, 2);
    let mut world = World::with(&ours, SyncConfig::new(&Network::Regtest, None, 1));
    world.add(&lighter);
    world.run(secs(10));
    assert!(world.requests.is_empty());
}

#[test]
fn blocks_on_disk_are_not_asked_for_again() {
    let chain = Blocks::new(100, 1);
    let mut tree = chain.fork(0, 0, 0).tree();
    for block in &chain.blocks {
        tree.insert(block.header).unwrap();
    }
    for height in [2, 3, 50] {
        tree.mark_stored(&chain.at(height).hash);
    }
    let mut world = World::new();
    world.kernel = Kernel::new(tree.clone());
    world.node = SyncManager::new(SyncConfig::new(&Network::Regtest, None, 1), tree);
    world.add(&chain);
    world.run(secs(2));
    let asked = |height| {
        world
            .requests
            .iter()
            .any(|(_, _, hash)| *hash == chain.at(height).hash)
    };
    assert!(asked(1) && asked(4) && asked(100));
    assert!(!asked(2) && !asked(3) && !asked(50));
}

#[test]
fn a_peer_without_witness_data_is_asked_for_headers_only() {
    let chain = Blocks::new(10, 1);
    let mut world = World::new();
    world.add_with(
        &chain,
        Direction::Outbound,
        Behaviour::default(),
        ServiceFlags::NETWORK,
    );
    world.run(secs(5));
    assert_eq!(world.node.tree().best_header().height, 10);
    assert!(world.requests.is_empty());
    let state = world.node.state(world.now);
    assert_eq!(state.phase, Phase::Stalled);
    assert!(state.why.contains("witness"), "{}", state.why);
}

#[test]
fn a_pruned_peer_is_asked_for_its_latest_blocks_only() {
    let chain = Blocks::new(1_000, 1);
    let mut world = World::new();
    let services = ServiceFlags::NETWORK_LIMITED | ServiceFlags::WITNESS;
    let pruned = world.add_with(&chain, Direction::Outbound, Behaviour::default(), services);
    world.run(secs(5));
    let lowest = world
        .requests
        .iter()
        .map(|(_, _, hash)| world.node.tree().get(hash).unwrap().height)
        .min();
    assert!(lowest >= Some(1_000 - 288), "{lowest:?}");
    let why = world.node.state(world.now).why;
    assert!(why.contains("pruned"), "{why}");
    world.add(&chain);
    world.sync_to(&chain, secs(10));
    assert_eq!(world.reason(pruned), None);
}

#[test]
fn an_unasked_block_is_taken_only_when_it_may_be_the_next_tip() {
    let ours = Blocks::new(400, 1);
    let mut world = World::with(&ours, SyncConfig::new(&Network::Regtest, None, 1));
    let id = world.add(&ours);
    world.run(secs(1));
    let mut next = ours.clone();
    next.grow(2, 1);
    let beside = ours.fork(390, 5, 2);
    let steps_before = world.node.tree().len();
    world.message(id, Message::Block(beside.at(391).clone()));
    assert_eq!(world.node.tree().len(), steps_before, "no more work");
    world.message(id, Message::Block(next.at(401).clone()));
    world.run(secs(1));
    assert_eq!(world.node.tree().tip().hash, next.at(401).hash);
    assert!(world.ended.is_empty());
}

#[test]
fn an_unasked_block_whose_parent_is_unknown_is_an_offence() {
    let ours = Blocks::new(40, 1);
    let mut world = World::with(&ours, SyncConfig::new(&Network::Regtest, None, 1));
    let id = world.add(&ours);
    world.run(secs(1));
    let mut next = ours.clone();
    next.grow(2, 1);
    world.message(id, Message::Block(next.at(42).clone()));
    let reason = world.reason(id);
    assert!(
        matches!(reason, Some(DoneReason::Misbehaving(_))),
        "{reason:?}"
    );
    assert!(!world.node.tree().contains(&next.at(42).hash));
}

#[test]
fn a_block_without_proof_of_work_costs_its_sender_the_connection_and_is_kept_nowhere() {
    let chain = Blocks::new(10, 1);
    let config = SyncConfig::new(&Network::Regtest, None, 1);
    let limit = config.pow.limit();
    let mut world = World::with(&chain, config);
    let unsolved = |parent: &Header| {
        let mut header = mine(parent, parent.time + 600, 2);
        while check_pow(&header, limit).is_ok() {
            header.nonce += 1;
        }
        header
    };
    let child = unsolved(&chain.tip());
    // Its parent is unknown, which would be an offence of its own.
    let orphan = unsolved(&child);
    // The target that it claims is above that of the network.
    let easier = mine_at(&chain.tip(), START, 2, 0x2100_ffff);
    for header in [child, orphan, easier] {
        let id = world.add_as(&chain, Direction::Inbound, Behaviour::default());
        world.message(id, Message::Block(block(header, 300)));
        let reason = world.reason(id);
        assert!(
            matches!(reason, Some(DoneReason::InvalidHeader(_))),
            "{reason:?}"
        );
        assert!(!world.node.tree().contains(&header.block_hash()));
    }
}

#[test]
fn time_in_which_we_did_not_look_is_no_fault_of_a_peer() {
    let chain = Blocks::new(40, 1);
    let mut world = World::new();
    let mute = Behaviour {
        block_answers: 0,
        ..Behaviour::default()
    };
    let late_id = world.add_as(&chain, Direction::Outbound, mute);
    let other = world.add_as(
        &chain,
        Direction::Outbound,
        Behaviour {
            block_answers: 0,
            ..Behaviour::default()
        },
    );
    world.run(Duration::from_millis(500));
    let before = world.requests.len();
    // Our thread was held up for half a minute; what peers sent lies unread.
    world.now.mono += secs(30);
    world.input(Input::Tick);
    assert_eq!(world.requests.len(), before);
    for id in [late_id, other] {
        assert_eq!(world.reason(id), None);
        assert!(!world.node.parts.download.is_stalling(id));
    }
    assert_eq!(world.node.parts.download.overdue(), None);
    // From now on the time counts.
    world.run(secs(9));
    let late = |id: &ConnId| world.node.parts.download.is_stalling(*id);
    assert!([late_id, other].iter().any(late));
}

/// Prints what one block costs; asserts what makes it cheap, not the time.
#[test]
fn fourteen_thousand_tiny_blocks_cost_few_steps_and_few_messages() {
    let chain = Blocks::new(14_000, 1);
    let mut world = World::new();
    world.add(&chain);
    world.add(&chain);
    world.add(&chain);
    let mut steps = 0;
    let tip: BlockHash = chain.tip_hash();
    world.run_until("the tip", secs(100), |world| {
        world.node.tree().tip().hash == tip
    });
    steps += world.steps;
    assert!(
        steps < 2 * 14_000 + 100,
        "{steps} steps: one per block and one per verdict"
    );
    assert!(
        world.getdata_messages < 14_000 / 6,
        "{}",
        world.getdata_messages
    );
    assert_eq!(world.asked_twice(), 0);
}

#[test]
fn a_pruned_peer_with_the_most_work_does_not_keep_us_from_what_others_can_give() {
    let ours = Blocks::new(100, 1);
    let pruned_chain = ours.fork(100, 400, 2);
    let kept_chain = ours.fork(100, 3, 3);
    let mut world = World::with(&ours, SyncConfig::new(&Network::Regtest, None, 1));
    // In the end no peer can deliver the rest.
    world.may_seek_peers = true;
    let limited = ServiceFlags::NETWORK_LIMITED | ServiceFlags::WITNESS;
    world.add_with(
        &pruned_chain,
        Direction::Outbound,
        Behaviour::default(),
        limited,
    );
    world.add_as(&kept_chain, Direction::Inbound, Behaviour::default());
    world.sync_to(&kept_chain, secs(5));
    world.run(secs(60));
    let state = world.node.state(world.now);
    assert!(
        state.why.contains("no peer keeps block 101"),
        "{}",
        state.why
    );
    let archive = world.add_as(&pruned_chain, Direction::Inbound, Behaviour::default());
    world.sync_to(&pruned_chain, secs(5));
    assert_eq!(world.reason(archive), None);
}

#[test]
fn a_peer_on_a_branch_of_little_work_is_probed_now_and_then_not_without_end() {
    let chain = Blocks::new(1_000, 1);
    let mut config = SyncConfig::new(&Network::Regtest, None, 1);
    let each = chain.tip().work();
    config.minimum_work = each;
    for _ in 0..500 {
        config.minimum_work = config.minimum_work + each;
    }
    let mut world = World::with(&Blocks::new(0, 0), config);
    let stops = Behaviour {
        block_answers: 20,
        ..Behaviour::default()
    };
    world.add_as(&chain, Direction::Manual, stops);
    world.run(secs(1));
    let poor = world.add_as(
        &Blocks::new(50, 9),
        Direction::Inbound,
        Behaviour::default(),
    );
    world.run(secs(20));
    let asked = world.sent_to_peer(poor).len();
    assert!(asked <= 8, "asked {asked} times");
}
