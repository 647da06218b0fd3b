//! What the kernel's answers do.

use std::time::Duration;

use handfast_wire::{Message, Network};

use crate::headers::Status;
use crate::lifecycle::{Direction, DoneReason};

use super::super::{BlockOutcome, Input, KernelEvent, RejectKind, SyncConfig, USEFUL_INTERVAL};
use super::chains::{Blocks, block, mine};
use super::kernel::reject;
use super::secs;
use super::world::{Behaviour, START, World};

#[test]
fn a_peer_that_sends_an_invalid_block_is_disconnected_and_the_chain_stays_right() {
    let good = Blocks::new(50, 1);
    let bad = good.fork(40, 20, 2);
    let mut world = World::new();
    world
        .kernel
        .bad
        .insert(bad.at(45).hash, RejectKind::Consensus);
    let liar = world.add(&bad);
    let honest = world.add(&good);
    world.sync_to(&good, secs(10));
    world.run(secs(5));
    assert!(matches!(
        world.reason(liar),
        Some(DoneReason::InvalidBlock { hash, .. }) if *hash == bad.at(45).hash
    ));
    assert_eq!(world.reason(honest), None);
    assert_eq!(
        world.node.tree().get(&bad.at(60).hash).unwrap().status,
        Status::Invalid
    );
}

#[test]
fn a_block_found_invalid_only_when_connected_is_blamed_on_who_sent_it() {
    let good = Blocks::new(50, 1);
    let bad = good.fork(40, 20, 2);
    let mut world = World::with(&good, SyncConfig::new(&Network::Regtest, None, 1));
    world.kernel.bad_to_connect.insert(bad.at(42).hash);
    let liar = world.add(&bad);
    world.run(secs(5));
    assert!(matches!(
        world.reason(liar),
        Some(DoneReason::InvalidBlock { hash, .. }) if *hash == bad.at(42).hash
    ));
    assert_eq!(world.node.tree().tip().hash, good.tip_hash());
    assert_eq!(world.kernel.tip(), good.tip_hash());
}

#[test]
fn a_mutated_block_is_blamed_on_its_sender_and_fetched_from_another() {
    let chain = Blocks::new(30, 1);
    let mut world = World::new();
    let mangler = world.add(&chain);
    world.kernel.mutating.insert(mangler);
    world.run(secs(1));
    assert!(matches!(
        world.reason(mangler),
        Some(DoneReason::InvalidBlock { .. })
    ));
    assert_ne!(
        world.node.tree().get(&chain.at(1).hash).unwrap().status,
        Status::Invalid
    );
    world.add(&chain);
    world.sync_to(&chain, secs(5));
}

#[test]
fn trouble_of_our_own_punishes_nobody_and_is_tried_again_after_a_pause() {
    let chain = Blocks::new(30, 1);
    let mut world = World::new();
    world.kernel.trouble.insert(chain.at(7).hash);
    world.add(&chain);
    world.run(secs(5));
    assert_eq!(world.tip_height(), 6);
    let state = world.node.state(world.now);
    assert!(
        state.why.contains("local error: disk full"),
        "{}",
        state.why
    );
    world.sync_to(&chain, secs(8));
    assert!(world.ended.is_empty());
    assert_eq!(world.asked_twice(), 1);
}

#[test]
fn an_invalid_block_known_already_is_forgiven_to_those_that_dialled_us() {
    let good = Blocks::new(20, 1);
    let bad = good.fork(10, 15, 2);
    let mut world = World::new();
    world
        .kernel
        .bad
        .insert(bad.at(15).hash, RejectKind::Consensus);
    world.add(&bad);
    world.add(&good);
    world.sync_to(&good, secs(10));
    let empty = Blocks::new(0, 0);
    let inbound = world.add_as(&empty, Direction::Inbound, Behaviour::default());
    let outbound = world.add_as(&empty, Direction::Outbound, Behaviour::default());
    for id in [inbound, outbound] {
        world.message(id, Message::Headers(bad.headers()[10..15].to_vec()));
    }
    assert_eq!(world.reason(inbound), None);
    assert!(matches!(
        world.reason(outbound),
        Some(DoneReason::InvalidHeader(_))
    ));
}

#[test]
fn a_peer_on_an_invalid_branch_still_gives_the_blocks_before_it() {
    let good = Blocks::new(40, 1);
    let bad = good.fork(38, 10, 2);
    let mut world = World::new();
    // The kernel is given headers that no block needs, and refuses one.
    world.node.parts.config.assumes_valid = true;
    world
        .kernel
        .bad_headers
        .insert(bad.at(39).hash, RejectKind::InvalidHeader);
    let mute = Behaviour {
        block_answers: 0,
        ..Behaviour::default()
    };
    let source = world.add_as(&good, Direction::Outbound, mute);
    let other = world.add_as(&bad, Direction::Inbound, Behaviour::default());
    world.run(secs(1));
    // Its header was refused, so it is gone; what it had shown to have counts no more.
    assert!(world.reason(other).is_some());
    world.leave(source);
    world.add(&good);
    world.sync_to(&good, secs(5));
}

#[test]
fn a_peer_that_brings_new_blocks_is_called_useful_now_and_then() {
    let chain = Blocks::new(300, 1);
    let mut world = World::new();
    let slow = Behaviour {
        latency: Duration::from_secs(1),
        ..Behaviour::default()
    };
    let id = world.add_as(&chain, Direction::Outbound, slow);
    world.sync_to(&chain, secs(120));
    let took = world.now.mono;
    assert!(took > 2 * USEFUL_INTERVAL, "took {took:?}");
    let times: Vec<Duration> = world.useful.iter().map(|(at, _)| *at).collect();
    assert!(times.len() > 1 && world.useful.iter().all(|(_, of)| *of == id));
    assert!(
        times
            .windows(2)
            .all(|pair| pair[1] - pair[0] >= USEFUL_INTERVAL),
        "{times:?}"
    );
}

#[test]
fn who_brings_nothing_new_is_not_useful() {
    let good = Blocks::new(20, 1);
    let bad = good.fork(10, 15, 2);
    let mut world = World::new();
    world
        .kernel
        .bad
        .insert(bad.at(11).hash, RejectKind::Consensus);
    let honest = world.add(&good);
    world.sync_to(&good, secs(10));
    let liar = world.add(&bad);
    let idle = world.add(&good);
    world.run(secs(30));
    assert!(world.reason(liar).is_some());
    let useful = |id| world.useful.iter().any(|(_, of)| *of == id);
    assert!(useful(honest) && !useful(liar) && !useful(idle));
}

#[test]
fn a_block_that_is_too_new_for_the_kernel_holds_up_nothing_else() {
    let ours = Blocks::new(20, 1);
    let too_new = ours.fork(20, 2, 2);
    let honest = ours.fork(20, 1, 3);
    let mut world = World::with(&ours, SyncConfig::new(&Network::Regtest, None, 1));
    world.kernel_time = secs(100);
    let ahead = world.add(&too_new);
    let other = world.add(&honest);
    world.run(secs(1));
    let hash = too_new.at(21).hash;
    assert!(world.node.parts.download.with_kernel().contains_key(&hash));
    let verdict = KernelEvent::BlockChecked {
        hash,
        outcome: BlockOutcome::Rejected(reject(RejectKind::TimeFuture)),
        origin: Some(ahead),
        changes: Vec::new(),
        durability: super::super::Durability::Yes,
        busy: Duration::ZERO,
    };
    world.input(Input::Kernel(verdict));
    assert!(world.node.parts.download.hold().is_none());
    assert_eq!(world.reason(ahead), None, "a clock may be wrong");
    let asked = |world: &World, hash| {
        world
            .requests
            .iter()
            .filter(|(_, _, of)| *of == hash)
            .count()
    };
    assert_eq!(
        asked(&world, honest.at(21).hash),
        1,
        "of {other} in the same step"
    );
    world.run(secs(50));
    assert!(asked(&world, hash) <= 2, "not every ten seconds");
}

#[test]
fn a_pushed_block_from_the_future_is_dropped() {
    let ours = Blocks::new(20, 1);
    let mut world = World::with(&ours, SyncConfig::new(&Network::Regtest, None, 1));
    let id = world.add_as(&ours, Direction::Inbound, Behaviour::default());
    world.run(secs(1));
    let tip = ours.tip();
    for (time, durability) in [(START + 3 * 60 * 60, false), (START + 60 * 60, true)] {
        let pushed = block(mine(&tip, time, 9), 240);
        world.message(id, Message::Block(pushed.clone()));
        assert_eq!(world.node.tree().contains(&pushed.hash), durability);
    }
    assert_eq!(world.reason(id), None);
}
