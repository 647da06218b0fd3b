//! The watchdog: quiet in health, and able to mend each guard that it watches.

use std::time::Duration;

use bitcoin::p2p::ServiceFlags;
use handfast_wire::Network;

use crate::lifecycle::{ConnId, Direction};

use super::super::timers::SyncTimer;
use super::super::{Phase, SyncConfig};
use super::chains::Blocks;
use super::secs;
use super::world::{Behaviour, World};

fn config(always_mined: bool) -> SyncConfig {
    let mut config = SyncConfig::new(&Network::Regtest, None, 1);
    config.always_mined = always_mined;
    config
}

fn mute() -> Behaviour {
    Behaviour {
        headers_answers: 0,
        block_answers: 0,
        ..Behaviour::default()
    }
}

fn checks(world: &World) -> u64 {
    world.node.state(world.now).watchdog.checks
}

/// A node at height 100 with peers that have shown ten blocks more and were asked for
/// them; they answer nothing before this returns, and everything after it.
fn about_to_download(peers: usize) -> (World, Blocks, Vec<ConnId>) {
    let ours = Blocks::new(100, 1);
    let theirs = ours.fork(100, 10, 1);
    let mut world = World::with(&ours, config(false));
    let behaviour = Behaviour {
        block_answers: 0,
        ..Behaviour::default()
    };
    let add = |_| world.add_as(&theirs, Direction::Outbound, behaviour.clone());
    let ids: Vec<ConnId> = (0..peers).map(add).collect();
    world.run(Duration::from_millis(500));
    assert!(!world.requests.is_empty());
    for id in &ids {
        world.remotes.get_mut(id).unwrap().behaviour = Behaviour::default();
    }
    world.may_fire = true;
    (world, theirs, ids)
}

/// Nothing is asked of anybody, and nothing is known to be missing.
fn forget_requests(world: &mut World) {
    world.node.parts.download.forget_requests();
}

#[track_caller]
fn fired_for(world: &World, reason: &str) {
    let watchdog = world.node.state(world.now).watchdog;
    assert_eq!(watchdog.fired, 1, "{watchdog:?}");
    let last = watchdog.last.unwrap();
    assert!(last.reason.contains(reason), "{last:?}");
    assert!(last.action.contains("more peers wanted"), "{last:?}");
    assert_eq!(world.wanted_peers.len(), 1);
}

#[test]
fn a_block_that_was_forgotten_is_asked_for_and_the_source_rotated_within_twenty_seconds() {
    let (mut world, chain, ids) = about_to_download(2);
    forget_requests(&mut world);
    let source = world.node.sync_peer();
    assert_eq!(source, Some(ids[0]));
    world.run(secs(9));
    assert_eq!(world.node.state(world.now).phase, Phase::Stalled);
    world.sync_to(&chain, secs(12));
    fired_for(&world, "has block 101 that is missing");
    assert_eq!(world.node.sync_peer(), Some(ids[1]));
    assert!(world.ended.is_empty(), "it is no peer's fault");
}

#[test]
fn the_only_peer_is_asked_again_rather_than_set_aside_for_a_forgotten_block() {
    let (mut world, chain, ids) = about_to_download(1);
    forget_requests(&mut world);
    world.sync_to(&chain, secs(21));
    fired_for(&world, "has block 101");
    assert_eq!(world.node.sync_peer(), Some(ids[0]));
}

#[test]
fn blocks_asked_of_a_connection_that_is_gone_are_asked_of_another() {
    let (mut world, chain, _) = about_to_download(2);
    world.node.parts.download.ask_nobody(ConnId(999));
    world.sync_to(&chain, secs(21));
    fired_for(&world, "peer 999, which cannot answer");
}

#[test]
fn peers_that_count_as_late_with_what_nobody_is_asked_for_are_asked_again() {
    let (mut world, chain, ids) = about_to_download(2);
    forget_requests(&mut world);
    let now = world.now.mono;
    for id in &ids {
        let hash = chain.at(101).hash;
        world.node.parts.download.make_late(*id, now, 101, hash);
    }
    world.sync_to(&chain, secs(45));
    fired_for(&world, "has block 101");
}

#[test]
fn a_source_that_is_on_its_way_out_is_replaced() {
    let chain = Blocks::new(10, 1);
    let mut world = World::new();
    let first = world.add(&chain);
    let second = world.add(&chain);
    world.sync_to(&chain, secs(1));
    world.may_fire = true;
    world.node.parts.peers.forget_to_disconnect(first);
    assert_eq!(world.node.sync_peer(), Some(first));
    world.run(secs(21));
    fired_for(&world, "peer 1 could be the source and there is none");
    assert_eq!(world.node.sync_peer(), Some(second));
}

#[test]
fn a_node_that_forgot_to_ask_for_news_asks_though_no_timer_was_left() {
    let chain = Blocks::new(10, 1);
    let mut world = World::new();
    let id = world.add(&chain);
    world.sync_to(&chain, secs(1));
    world.may_fire = true;
    // Past the first deadlines, which would wake it.
    world.run(secs(61));
    world.node.parts.timers.stop(&SyncTimer::TipCheck);
    let longer = chain.fork(10, 2, 1);
    world.set_chain(id, &longer);
    let took = world.sync_to(&longer, secs(150));
    assert!(took > secs(100), "{took:?}: nothing else asks");
    fired_for(&world, "no peer was asked for headers");
}

#[test]
fn a_kernel_that_takes_a_minute_for_each_block_is_no_stall() {
    let ours = Blocks::new(100, 1);
    let theirs = ours.fork(100, 10, 1);
    let mut world = World::with(&ours, config(true));
    world.kernel_time = secs(60);
    world.add(&theirs);
    world.add(&theirs);
    world.sync_to(&theirs, secs(720));
    assert!(checks(&world) >= 60);
}

#[test]
fn a_slow_line_is_no_stall_in_headers_or_in_blocks() {
    let chain = Blocks::new(2_100, 1);
    let mut world = World::with(&Blocks::new(0, 0), config(true));
    let slow = Behaviour {
        latency: secs(25),
        ..Behaviour::default()
    };
    world.add_as(&chain, Direction::Outbound, slow.clone());
    world.add_as(&chain, Direction::Inbound, slow);
    world.run(secs(1_800));
    assert!(world.tip_height() > 200, "{}", world.tip_height());
    assert!(checks(&world) >= 179);
}

#[test]
fn time_that_we_overslept_proves_nothing() {
    let (mut world, _, _) = about_to_download(2);
    forget_requests(&mut world);
    world.run(secs(11));
    assert_eq!(checks(&world), 1, "seen once");
    world.now.mono += secs(80);
    world.input(super::super::Input::Tick);
    assert_eq!(world.node.state(world.now).watchdog.fired, 0);
    world.run(secs(11));
    assert_eq!(
        world.node.state(world.now).watchdog.fired,
        1,
        "a second look since"
    );
}

#[test]
fn a_stale_tip_makes_the_node_ask_everybody_and_look_for_other_peers() {
    let chain = Blocks::new(10, 1);
    let mut world = World::with(&chain, config(true));
    for _ in 0..8 {
        world.add(&chain);
    }
    world.run(secs(1_795));
    assert!(world.wanted_peers.is_empty());
    world.may_seek_peers = true;
    world.run(secs(26));
    assert_eq!(world.wanted_peers.len(), 1);
    let now = world.now.mono;
    for id in world.node.ids() {
        assert!(now - world.node.parts.headers.last_asked(id) < secs(30));
    }
    let last = world.node.state(world.now).watchdog.last.unwrap();
    assert!(last.reason.contains("no new block for 30m "), "{last:?}");
    world.run(secs(3_600));
    let wanted = world.wanted_peers.len();
    assert!((6..=8).contains(&wanted), "{wanted}: every ten minutes");
    assert!(world.ended.is_empty());
    assert_eq!(world.node.state(world.now).watchdog.fired, 0);
}

#[test]
fn on_a_chain_of_ones_own_an_old_tip_is_no_reason_to_look_for_peers() {
    let chain = Blocks::new(10, 1);
    let mut world = World::with(&chain, config(false));
    world.add(&chain);
    world.run(secs(36_000));
    assert!(world.wanted_peers.is_empty());
}

#[test]
fn other_peers_are_looked_for_while_all_keep_silent() {
    let mut world = World::new();
    world.may_seek_peers = true;
    let chain = Blocks::new(10, 1);
    for _ in 0..3 {
        world.add_as(&chain, Direction::Inbound, mute());
    }
    world.run(secs(119));
    assert!(world.wanted_peers.is_empty());
    world.run(secs(15));
    assert_eq!(world.wanted_peers.len(), 1);
    let last = world.node.state(world.now).watchdog.last.unwrap();
    assert!(last.reason.contains("no peer sent anything"), "{last:?}");
}

#[test]
fn other_peers_are_looked_for_while_nobody_keeps_or_gives_what_is_missing() {
    let chain = Blocks::new(1_000, 1);
    let mut world = World::new();
    world.may_seek_peers = true;
    let pruned = ServiceFlags::NETWORK_LIMITED | ServiceFlags::WITNESS;
    world.add_with(&chain, Direction::Outbound, Behaviour::default(), pruned);
    world.run(secs(60));
    assert_eq!(world.wanted_peers.len(), 1);
    let last = world.node.state(world.now).watchdog.last.unwrap();
    assert!(last.reason.contains("no peer can give block 1"), "{last:?}");

    let mut world = World::new();
    world.may_seek_peers = true;
    let withholds = Behaviour {
        block_answers: 0,
        ..Behaviour::default()
    };
    let id = world.add_as(&chain, Direction::Outbound, withholds);
    world.run(secs(145));
    assert_eq!(world.wanted_peers.len(), 1);
    let last = world.node.state(world.now).watchdog.last.unwrap();
    assert!(last.reason.contains("peer 0 withholds blocks"), "{last:?}");
    assert_eq!(world.reason(id), None);
}

#[test]
fn a_node_without_peers_is_not_woken() {
    let chain = Blocks::new(10, 1);
    let mut world = World::with(&chain, config(true));
    assert_eq!(world.node.deadline(), None);
    let id = world.add(&chain);
    world.run(secs(1));
    world.leave(id);
    world.run(secs(100));
    let steps = world.steps;
    world.run(secs(36_000));
    assert!(world.steps - steps <= 650, "{} steps", world.steps - steps);
    assert!(checks(&world) <= 2);
}
