//! A node near the tip whose source goes, stalls or lies follows the others.

use std::time::Duration;

use bitcoin::p2p::message_blockdata::Inventory;
use handfast_wire::{Message, Network};

use crate::headers::LowWorkParams;
use crate::lifecycle::{ConnId, Direction, DoneReason};

use super::super::{Phase, RejectKind, SyncConfig};
use super::chains::{Blocks, mine_at};
use super::secs;
use super::world::{Behaviour, World};

fn config() -> SyncConfig {
    SyncConfig::new(&Network::Regtest, None, 1)
}

fn silent() -> Behaviour {
    Behaviour {
        headers_answers: 0,
        block_answers: 0,
        ..Behaviour::default()
    }
}

/// The peer finds two blocks and announces the second.
fn find_two(world: &mut World, id: ConnId) -> Blocks {
    let mut chain = world.remotes[&id].chain.clone();
    chain.grow(2, 1);
    world.set_chain(id, &chain);
    world.message(id, Message::Inv(vec![Inventory::Block(chain.tip_hash())]));
    chain
}

/// A node at height 100 with a live peer that has the same; `dropping` shows 5 blocks more
/// in `shows`, and goes. Then the live one finds two blocks.
fn source_drops(dropping: Behaviour, shows: fn(&Blocks) -> Message) {
    let ours = Blocks::new(100, 1);
    let longer = ours.fork(100, 5, 2);
    let mut world = World::with(&ours, config());
    let live = world.add_as(&ours, Direction::Inbound, Behaviour::default());
    world.run(secs(5));
    let drops = world.add_as(&longer, Direction::Outbound, dropping);
    if !world.remotes[&drops].gone {
        world.message(drops, shows(&longer));
    }
    world.run(secs(1));
    assert!(world.remotes[&drops].gone);
    assert_eq!(world.node.sync_peer(), Some(live));
    let next = find_two(&mut world, live);
    let took = world.sync_to(&next, secs(10));
    assert!(took < secs(1), "{took:?}");
    // And again, long after.
    world.run(secs(3_600));
    let next = find_two(&mut world, live);
    world.sync_to(&next, secs(10));
    assert_eq!(world.reason(live), None);
    // Headers that came before it left are not forgotten.
    let state = world.node.state(world.now);
    let phase = match state.missing {
        0 => Phase::Synced,
        _ => Phase::Stalled,
    };
    assert_eq!(state.phase, phase, "{}", state.why);
}

#[test]
fn a_peer_that_shows_more_and_drops_at_the_first_getheaders_delays_nobody() {
    let drops = Behaviour {
        leaves_at_getheaders: true,
        ..Behaviour::default()
    };
    source_drops(drops.clone(), |chain| {
        Message::Headers(chain.headers()[100..].to_vec())
    });
    source_drops(drops, |chain| {
        Message::Inv(vec![Inventory::Block(chain.tip_hash())])
    });
}

#[test]
fn a_peer_that_shows_more_and_drops_at_the_first_getdata_delays_nobody() {
    let drops = Behaviour {
        leaves_at_getdata: true,
        ..Behaviour::default()
    };
    source_drops(drops.clone(), |chain| {
        Message::Headers(chain.headers()[100..].to_vec())
    });
    source_drops(drops, |chain| {
        Message::Inv(vec![Inventory::Block(chain.tip_hash())])
    });
}

#[test]
fn news_of_a_live_peer_are_followed_though_three_silent_ones_came_before_it() {
    let ours = Blocks::new(100, 1);
    let mut world = World::with(&ours, config());
    for _ in 0..3 {
        world.add_as(&ours, Direction::Outbound, silent());
    }
    let live = world.add_as(&ours, Direction::Inbound, Behaviour::default());
    let next = find_two(&mut world, live);
    world.sync_to(&next, secs(5));
    world.run(secs(60));
    let next = find_two(&mut world, live);
    world.sync_to(&next, secs(5));
    // They come and go, as those of other nodes did, every 90 s.
    for _ in 0..10 {
        world.add_as(&ours, Direction::Outbound, silent());
        world.run(secs(9));
        let next = find_two(&mut world, live);
        world.sync_to(&next, secs(5));
    }
}

#[test]
fn the_only_peer_that_keeps_silent_is_named_and_the_next_that_comes_is_taken() {
    let chain = Blocks::new(30, 1);
    let mut world = World::new();
    let only = world.add_as(&chain, Direction::Outbound, silent());
    world.run(secs(77));
    let state = world.node.state(world.now);
    assert_eq!(state.phase, Phase::Stalled);
    let remote = state.peers[0].remote;
    let named = format!("{only} ({remote}) has not answered getheaders for 1m 17s");
    assert_eq!(state.why, named);
    assert_eq!(state.requests[0].age, secs(77));
    let next = state.next_deadline.unwrap();
    let then = "is disconnected, if another can be asked, unless it answers getheaders";
    assert_eq!((next.what, next.left), (format!("{only} {then}"), secs(43)));
    let next = world.add_as(&chain, Direction::Inbound, Behaviour::default());
    world.sync_to(&chain, secs(1));
    assert_eq!(world.node.sync_peer(), Some(next));
    let source = world.node.state(world.now).source.unwrap();
    assert!(source.why.contains("was silent"), "{}", source.why);
}

#[test]
fn the_only_peer_that_keeps_its_blocks_is_named_and_the_next_that_comes_is_taken() {
    let chain = Blocks::new(30, 1);
    let mut world = World::new();
    let withholds = Behaviour {
        block_answers: 4,
        ..Behaviour::default()
    };
    let only = world.add_as(&chain, Direction::Outbound, withholds);
    world.run(secs(50));
    let state = world.node.state(world.now);
    assert_eq!(state.phase, Phase::Stalled);
    let remote = state.peers[0].remote;
    let late = "is late with blocks for 49s, and no other peer can be asked";
    assert_eq!(state.why, format!("{only} ({remote}) {late}"));
    let next = state.next_deadline.unwrap();
    let then = format!("{only} is disconnected unless it delivers a block");
    assert_eq!((next.what, next.left.as_secs()), (then, 550));
    world.add(&chain);
    world.sync_to(&chain, secs(1));
    assert_eq!(world.node.state(world.now).phase, Phase::Synced);
}

#[test]
fn of_a_late_peer_it_is_said_that_others_are_asked_only_while_there_are_others() {
    let chain = Blocks::new(30, 1);
    let mut world = World::new();
    let withholds = || Behaviour {
        block_answers: 0,
        ..Behaviour::default()
    };
    let only = world.add_as(&chain, Direction::Outbound, withholds());
    world.run_until("it is asked", secs(5), |world| {
        !world.node.parts.download.asked_of(only).is_empty()
    });
    let what = |world: &World| world.node.state(world.now).next_deadline.unwrap().what;
    let alone = format!("{only} is disconnected unless it delivers a block");
    assert_eq!(what(&world), alone);
    world.add_as(&chain, Direction::Outbound, withholds());
    let others = format!("others are asked for the blocks that {only} has not delivered");
    world.run_until("another can be asked", secs(5), |world| {
        what(world) == others
    });
}

#[test]
fn headers_without_their_blocks_are_no_synced_chain_though_the_peer_that_showed_them_left() {
    let ours = Blocks::new(40, 1);
    let longer = ours.fork(40, 60, 2);
    let mut world = World::with(&ours, config());
    world.may_seek_peers = true;
    let withholds = Behaviour {
        block_answers: 0,
        ..Behaviour::default()
    };
    let shows = world.add_as(&longer, Direction::Outbound, withholds);
    world.run_until("its headers", secs(5), |world| {
        world.node.tree().best_header().height == 100
    });
    world.leave(shows);
    world.add(&ours);
    world.run(secs(5));
    let state = world.node.state(world.now);
    assert_eq!((state.phase, state.missing), (Phase::Stalled, 60));
    assert!(
        state.why.contains("the 60 blocks that are missing"),
        "{}",
        state.why
    );
    world.add(&longer);
    world.sync_to(&longer, secs(5));
    let state = world.node.state(world.now);
    assert_eq!((state.phase, state.missing), (Phase::Synced, 0));
}

/// Two peers; `lose` does what must cost the first its place. World asserts at every
/// step that there is a source, live and not set aside, whenever there can be one: so the
/// second was chosen in the step in which the first was lost.
#[track_caller]
fn passes_to_the_second(
    mut world: World,
    (first, second): (ConnId, ConnId),
    reason: &str,
    within: Duration,
) {
    world.run_until("the source is lost", within, |world| {
        world.node.sync_peer() != Some(first)
    });
    assert_eq!(world.node.sync_peer(), Some(second));
    let change = world.node.state(world.now).source_changes.pop().unwrap();
    assert_eq!((change.from, change.to), (Some(first), Some(second)));
    assert!(change.reason.contains(reason), "{}", change.reason);
    let asked = world.sent.iter().any(|(at, to, message)| {
        *at == world.now.mono && *to == second && matches!(message, Message::GetHeaders(_))
    });
    let is_asked = world.node.parts.headers.ask_of(second).is_some();
    assert!(
        asked || is_asked,
        "the second is asked by the end of the step"
    );
}

/// Two peers with 20 blocks that we lack, both silent until told otherwise.
fn two(direction: Direction) -> (World, Blocks, (ConnId, ConnId)) {
    let chain = Blocks::new(20, 1);
    let mut world = World::new();
    let first = world.add_as(&chain, direction, silent());
    let second = world.add_as(&chain, direction, silent());
    assert_eq!(world.node.sync_peer(), Some(first));
    (world, chain, (first, second))
}

#[test]
fn a_source_that_leaves_or_breaks_a_rule_of_headers_passes_to_the_next_in_the_same_step() {
    let (mut world, _, ids) = two(Direction::Outbound);
    world.leave(ids.0);
    passes_to_the_second(world, ids, "it disconnected", secs(0));

    let (mut world, chain, ids) = two(Direction::Inbound);
    let mut headers = chain.headers();
    while headers[2].target().is_met_by(headers[2].block_hash()) {
        headers[2].nonce += 1;
    }
    world.message(ids.0, Message::Headers(headers));
    passes_to_the_second(world, ids, "invalid header", secs(0));

    let (mut world, chain, ids) = two(Direction::Inbound);
    let mut headers = chain.headers();
    headers.remove(3);
    world.message(ids.0, Message::Headers(headers));
    passes_to_the_second(world, ids, "do not build on each other", secs(0));

    let (mut world, chain, ids) = two(Direction::Outbound);
    let mut headers = chain.headers();
    let parent = headers[18];
    headers[19] = mine_at(&parent, parent.time + 600, 1, 0x207f_fffe);
    world.message(ids.0, Message::Headers(headers));
    passes_to_the_second(world, ids, "bad-diffbits", secs(0));
}

#[test]
fn a_source_with_bad_or_withheld_blocks_passes_to_the_next_in_the_same_step() {
    for mutated in [false, true] {
        let chain = Blocks::new(20, 1);
        let mut world = World::new();
        let first = world.add(&chain);
        if mutated {
            world.kernel.mutating.insert(first);
        } else {
            world
                .kernel
                .bad
                .insert(chain.at(3).hash, RejectKind::Consensus);
        }
        let second = world.add_as(&chain, Direction::Inbound, silent());
        passes_to_the_second(world, (first, second), "invalid block", secs(1));
    }
    let chain = Blocks::new(4, 1);
    let mut world = World::new();
    let withholds = Behaviour {
        block_answers: 0,
        ..Behaviour::default()
    };
    let first = world.add_as(&chain, Direction::Outbound, withholds);
    let second = world.add_as(&chain, Direction::Inbound, Behaviour::default());
    passes_to_the_second(
        world,
        (first, second),
        "was not delivered in time",
        secs(90),
    );
}

#[test]
fn a_source_that_answers_nothing_passes_to_the_next_in_the_same_step() {
    let (mut world, _, ids) = two(Direction::Outbound);
    world.may_seek_peers = true;
    passes_to_the_second(world, ids, "headers were not delivered in time", secs(121));
    let (mut world, _, ids) = two(Direction::Inbound);
    world.may_seek_peers = true;
    passes_to_the_second(world, ids, "did not answer getheaders", secs(121));
}

#[test]
fn a_source_whose_chain_is_poor_changing_or_old_passes_to_the_next_in_the_same_step() {
    let each = Blocks::new(1, 0).tip().work();
    let mut config = SyncConfig::new(&Network::Regtest, Some(each), 7);
    config.low_work = LowWorkParams {
        commitment_period: 7,
        lookahead: 100,
    };
    for _ in 0..6_999 {
        config.minimum_work = config.minimum_work + each;
    }
    let mut world = World::with(&Blocks::new(0, 0), config.clone());
    let first = world.add(&Blocks::new(2_500, 1));
    let second = world.add_as(&Blocks::new(0, 0), Direction::Inbound, silent());
    passes_to_the_second(world, (first, second), "too little work", secs(5));

    // In the second download, other headers come than in the first.
    let mut world = World::with(&Blocks::new(0, 0), config);
    let chain = Blocks::new(7_500, 1);
    let first = world.add(&chain);
    let second = world.add_as(&chain, Direction::Inbound, silent());
    world.run_until("the second download", secs(5), |world| {
        let low_work = world.node.parts.headers.low_work_of(first);
        low_work.is_some_and(|low_work| low_work.redownloading())
    });
    world.set_chain(first, &chain.fork(3_000, 4_500, 2));
    passes_to_the_second(
        world,
        (first, second),
        "differ between two downloads",
        secs(5),
    );

    let ours = Blocks::new(20, 1);
    let mut config = SyncConfig::new(&Network::Regtest, None, 1);
    config.always_mined = true;
    let mut world = World::with(&ours, config);
    let first = world.add(&ours.fork(15, 0, 1));
    let second = world.add_as(&ours, Direction::Inbound, Behaviour::default());
    passes_to_the_second(
        world,
        (first, second),
        &DoneReason::StaleChain.to_string(),
        secs(1_400),
    );
}
