//! States that whole nodes came into under the simulator and did not leave, or died of.

use std::time::Duration;

use handfast_wire::{Message, Network};

use crate::lifecycle::{ConnId, Direction};

use super::super::SyncConfig;
use super::chains::Blocks;
use super::secs;
use super::world::{Behaviour, START, World};

#[test]
fn a_block_that_waited_on_disk_since_before_the_start_may_connect_unannounced() {
    let old = Blocks::new(10, 1);
    let chain = old.fork(10, 3, 2);
    // The kernel has the last two blocks and lacks the one before them; nothing of that is
    // in the tree that the start made.
    let mut world = World::with(&old, SyncConfig::new(&Network::Regtest, None, 1));
    world.kernel.headers(&chain.headers(), None);
    for height in [12, 13] {
        world.kernel.block(chain.at(height), None);
    }
    let id = world.add_as(&old, Direction::Inbound, Behaviour::default());
    world.run(secs(1));
    world.message(id, Message::Block(chain.at(11).clone()));
    world.run(secs(1));
    assert_eq!(world.kernel.tip(), chain.tip_hash());
    assert_eq!(world.node.tree().tip().hash, chain.tip_hash());
}

#[test]
fn headers_that_nobody_has_any_more_hide_no_chain_that_somebody_has() {
    let best = Blocks::new(138, 1);
    let mut world = World::with(
        &best.fork(60, 0, 1),
        SyncConfig::new(&Network::Regtest, None, 1),
    );
    let withheld = Behaviour {
        block_answers: 0,
        ..Behaviour::default()
    };
    let gone = world.add_as(&best, Direction::Inbound, withheld);
    world.run(secs(1));
    assert_eq!(world.node.tree().best_header().height, 138);
    world.leave(gone);
    // Its headers are all known, so that an answer to "what is beyond yours" is empty.
    let honest = best.fork(135, 0, 1);
    for direction in [Direction::Inbound, Direction::Outbound] {
        world.add_as(&honest, direction, Behaviour::default());
    }
    world.sync_to(&honest, secs(5));
}

/// Simulation, seed 919: newcomers who show a block and keep it renewed themselves, so
/// that none was late yet, and the rival of that block, of as much work, was never asked for.
#[test]
fn a_block_that_its_owners_keep_hides_no_rival_of_as_much_work() {
    let common = Blocks::new(20, 1);
    let (kept, honest) = (common.fork(20, 1, 2), common.fork(20, 1, 3));
    let mut world = World::with(&common, SyncConfig::new(&Network::Regtest, None, 1));
    let keeps = || Behaviour {
        block_answers: 0,
        ..Behaviour::default()
    };
    world.add_as(&kept, Direction::Inbound, keeps());
    world.run(secs(1));
    world.add_as(&honest, Direction::Outbound, Behaviour::default());
    for _ in 0..20 {
        world.add_as(&kept, Direction::Inbound, keeps());
        world.run(secs(2));
    }
    assert_eq!(world.node.tree().tip().hash, honest.tip_hash());
}

/// Simulation, seed 926: peers that were asked in turn, by number; newcomers have greater
/// ones, and so the peers that had brought everything before had no turn any more.
#[test]
fn newcomers_that_keep_a_block_take_no_turn_from_older_peers() {
    for proven in [false, true] {
        let chain = Blocks::new(22, 1);
        let (begin, before) = (chain.fork(20, 0, 1), chain.fork(21, 0, 1));
        let mut world = World::with(&begin, SyncConfig::new(&Network::Regtest, None, 1));
        let keeps = || Behaviour {
            block_answers: 0,
            ..Behaviour::default()
        };
        // Older peers that keep blocks too are many, where the honest one is proven.
        let older = if proven { 30 } else { 0 };
        for _ in 0..older {
            world.add_as(&begin, Direction::Inbound, keeps());
        }
        let honest = world.add_as(&begin, Direction::Outbound, Behaviour::default());
        if proven {
            world.set_chain(honest, &before);
            world.message(honest, Message::Headers(vec![before.at(21).header]));
            world.sync_to(&before, secs(5));
        }
        world.add_as(&chain, Direction::Inbound, keeps());
        world.run(secs(1));
        world.set_chain(honest, &chain);
        for id in 0..=honest.0 {
            let headers = (21..=22).map(|height| chain.at(height).header).collect();
            world.message(ConnId(id), Message::Headers(headers));
        }
        for _ in 0..15 {
            world.add_as(&chain, Direction::Inbound, keeps());
            world.run(secs(1));
        }
        let tip = world.node.tree().tip().hash;
        assert_eq!(tip, chain.tip_hash(), "proven: {proven}");
    }
}

/// One of 32 peers has a block more, which is in our past by the right clock.
fn with_one_ahead() -> (World, ConnId, Blocks) {
    let chain = Blocks::new(21, 1);
    let begin = chain.fork(20, 0, 1);
    let mut world = World::with(&begin, SyncConfig::new(&Network::Regtest, None, 1));
    // Asked for news one a minute, so that chance does not find the one that has some.
    for _ in 0..31 {
        world.add_as(&begin, Direction::Outbound, Behaviour::default());
    }
    let ahead = world.add_as(&begin, Direction::Inbound, Behaviour::default());
    world.run(secs(5));
    world.set_chain(ahead, &chain);
    (world, ahead, chain)
}

/// Simulation: the clock stepped back, a block was refused as too new, the clock was put
/// right; and since its sender had shown it once, it was "shown by no peer".
#[test]
fn a_block_that_was_too_new_is_had_once_our_clock_is_right_though_nobody_shows_it_again() {
    let (mut world, ahead, chain) = with_one_ahead();
    let back = chain.at(21).header.time - 3 * 60 * 60;
    world.kernel.unix = Some(back);
    world.message(ahead, Message::Headers(vec![chain.at(21).header]));
    world.run(secs(1));
    assert_ne!(world.node.tree().tip().hash, chain.tip_hash());
    world.clock = back;
    world.run(secs(300));
    let asked = world.requests.len();
    assert!(asked <= 2, "asked for {asked} times while it was too new");
    (world.kernel.unix, world.clock) = (None, START);
    world.run(secs(30));
    assert_eq!(world.node.tree().tip().hash, chain.tip_hash());
}

/// Simulation, seed 320: the same with a header, shown while our clock was wrong.
#[test]
fn a_header_that_was_too_new_is_asked_for_once_our_clock_is_right() {
    let (mut world, ahead, chain) = with_one_ahead();
    world.clock = chain.at(21).header.time - 3 * 60 * 60;
    world.run(secs(1));
    world.message(ahead, Message::Headers(vec![chain.at(21).header]));
    world.run(secs(300));
    assert!(!world.node.tree().contains(&chain.tip_hash()));
    world.clock = START;
    world.run(secs(30));
    assert_eq!(world.node.tree().tip().hash, chain.tip_hash());
}

/// Peers that had delivered once and then gave each new block after 1.9 s kept every one of them
/// from the node for that long, and two in turn for longer.
#[test]
fn at_the_tip_another_is_asked_before_two_seconds_though_the_first_has_delivered_before() {
    let chain = Blocks::new(22, 1);
    let (begin, before) = (chain.fork(20, 0, 1), chain.fork(21, 0, 1));
    let mut world = World::with(&begin, SyncConfig::new(&Network::Regtest, None, 1));
    let once = Behaviour {
        block_answers: 1,
        ..Behaviour::default()
    };
    let slow = world.add_as(&begin, Direction::Outbound, once);
    let other = world.add_as(&begin, Direction::Inbound, Behaviour::default());
    world.set_chain(slow, &before);
    world.message(slow, Message::Headers(vec![before.at(21).header]));
    world.sync_to(&before, secs(5));
    for id in [slow, other] {
        world.set_chain(id, &chain);
        world.message(id, Message::Headers(vec![chain.at(22).header]));
    }
    world.sync_to(&chain, secs(1));
}

/// Those who had delivered once were asked for a block that they kept one after the other,
/// two seconds each.
#[test]
fn many_who_have_delivered_before_keep_a_block_for_seconds_and_not_for_minutes() {
    const HOSTILE: u32 = 60;
    let chain = Blocks::new(21 + HOSTILE as usize, 1);
    let up_to = |height: u32| chain.fork(height as usize, 0, 1);
    let mut world = World::with(&up_to(20), SyncConfig::new(&Network::Regtest, None, 1));
    let once = || Behaviour {
        block_answers: 1,
        ..Behaviour::default()
    };
    let hostile: Vec<ConnId> = (0..HOSTILE)
        .map(|_| world.add_as(&up_to(20), Direction::Inbound, once()))
        .collect();
    let honest = world.add_as(&up_to(20), Direction::Inbound, Behaviour::default());
    let show = |world: &mut World, id: ConnId, height: u32| {
        world.set_chain(id, &up_to(height));
        world.message(id, Message::Headers(vec![chain.at(height).header]));
    };
    // Each of them delivers a block, and is trusted for it.
    for (height, id) in (21..).zip(&hostile) {
        show(&mut world, *id, height);
        world.sync_to(&up_to(height), secs(5));
    }
    for id in hostile.into_iter().chain([honest]) {
        show(&mut world, id, 21 + HOSTILE);
    }
    world.sync_to(&chain, secs(20));
}

/// Those who give each block in the last moment were asked in turn with those who do not.
#[test]
fn who_is_slow_is_asked_after_who_is_prompt() {
    const SLOW: u32 = 8;
    let chain = Blocks::new(22 + SLOW as usize, 1);
    let up_to = |height: u32| chain.fork(height as usize, 0, 1);
    let mut world = World::with(&up_to(20), SyncConfig::new(&Network::Regtest, None, 1));
    let slow = || Behaviour {
        latency: Duration::from_millis(1_500),
        ..Behaviour::default()
    };
    let show = |world: &mut World, id: ConnId, height: u32| {
        world.set_chain(id, &up_to(height));
        world.message(id, Message::Headers(vec![chain.at(height).header]));
    };
    let prompt = world.add_as(&up_to(20), Direction::Inbound, Behaviour::default());
    show(&mut world, prompt, 21);
    world.sync_to(&up_to(21), secs(5));
    let slow: Vec<ConnId> = (0..SLOW)
        .map(|_| world.add_as(&up_to(21), Direction::Inbound, slow()))
        .collect();
    for (height, id) in (22..).zip(&slow) {
        show(&mut world, *id, height);
        world.sync_to(&up_to(height), secs(5));
    }
    for id in slow.into_iter().chain([prompt]) {
        show(&mut world, id, 22 + SLOW);
    }
    world.sync_to(&chain, Duration::from_millis(600));
}
