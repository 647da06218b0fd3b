//! Every timer of sync is set in some situation, and wakes the machine.

use std::collections::BTreeSet;

use crate::lifecycle::Direction;

use super::super::timers::SyncTimer;
use super::chains::Blocks;
use super::secs;
use super::world::{Behaviour, World};

/// Kinds of timers.
const KINDS: usize = 13;

/// The number of a kind of timer. A new one does not compile until it is listed here, and fails
/// until a situation below sets it.
const fn kind(timer: SyncTimer) -> usize {
    match timer {
        SyncTimer::HeadersAnswer(_) => 0,
        SyncTimer::CoolDown(_) => 1,
        SyncTimer::HeadersFromSource => 2,
        SyncTimer::Hedge => 3,
        SyncTimer::TipCheck => 4,
        SyncTimer::Retry(_) => 5,
        SyncTimer::ProbeAnswer(_) => 6,
        SyncTimer::ProbeAgain(_) => 7,
        SyncTimer::BlocksAnswer => 8,
        SyncTimer::LatePeers => 9,
        SyncTimer::AskLateAgain => 10,
        SyncTimer::HoldIsOver => 11,
        SyncTimer::Watchdog => 12,
    }
}

fn silent() -> Behaviour {
    Behaviour {
        headers_answers: 0,
        ..Behaviour::default()
    }
}

/// Runs until the time of each timer that is set now. None of them is overdue then.
#[track_caller]
fn wakes_for_all(mut world: World) -> BTreeSet<usize> {
    let set = world.node.parts.timers.iter();
    let mut set: Vec<_> = set.map(|(timer, at)| (at, *timer)).collect();
    set.sort_unstable();
    assert_eq!(world.node.deadline(), set.first().map(|(at, _)| *at));
    for (at, timer) in &set {
        world.run(at.saturating_sub(world.now.mono));
        let next = world.node.parts.timers.at(timer);
        assert!(next.is_none_or(|next| next > *at), "{timer:?} goes off");
    }
    set.into_iter().map(|(_, timer)| kind(timer)).collect()
}

/// A source that keeps silent, and another peer that is not asked yet.
fn silent_source() -> World {
    let mut world = World::new();
    world.may_seek_peers = true;
    world.add_as(&Blocks::new(5, 1), Direction::Inbound, silent());
    world.add_as(&Blocks::new(5, 1), Direction::Inbound, silent());
    world
}

fn source_that_failed() -> World {
    let mut world = silent_source();
    world.run_until("a peer failed as the source", secs(121), |world| {
        let mut timers = world.node.parts.timers.iter();
        timers.any(|(timer, _)| matches!(timer, SyncTimer::CoolDown(_)))
    });
    world
}

fn synced() -> World {
    let chain = Blocks::new(5, 1);
    let mut world = World::new();
    world.add(&chain);
    world.sync_to(&chain, secs(1));
    world
}

fn downloading_with_a_peer_that_lacks_blocks() -> World {
    let mut world = World::new();
    world.may_seek_peers = true;
    let lacks = Behaviour {
        lacks_blocks: true,
        ..Behaviour::default()
    };
    world.add_as(&Blocks::new(5, 1), Direction::Outbound, lacks);
    world.run(secs(1));
    world
}

/// Blocks that only a peer has which is late with them: the other has left.
fn late_peer_that_alone_has_the_blocks() -> World {
    let chain = Blocks::new(5, 1);
    let withholds = || Behaviour {
        block_answers: 0,
        ..Behaviour::default()
    };
    let mut world = World::new();
    world.may_seek_peers = true;
    world.add_as(&chain, Direction::Outbound, withholds());
    let other = world.add_as(&chain, Direction::Inbound, withholds());
    world.run(secs(2));
    world.leave(other);
    world
}

/// The engine could not judge a block, for a reason of ours.
fn held_up_by_trouble_of_our_own() -> World {
    let chain = Blocks::new(5, 1);
    let mut world = World::new();
    world.kernel.trouble.insert(chain.at(1).hash);
    world.add(&chain);
    world.run_until("download is held", secs(2), |world| {
        world.node.parts.download.hold().is_some()
    });
    world
}

/// A peer delivers slowly, and another that has less is probed.
fn probing(other: &Blocks, behaviour: Behaviour) -> World {
    let mut world = World::new();
    let slow = Behaviour {
        latency: secs(1),
        ..Behaviour::default()
    };
    world.add_as(&Blocks::new(40, 1), Direction::Outbound, slow);
    world.run(secs(2));
    world.add_as(other, Direction::Inbound, behaviour);
    world.run(secs(3));
    world
}

#[test]
fn every_timer_is_set_in_some_situation_and_wakes_the_machine() {
    let shorter = Blocks::new(40, 1).fork(3, 0, 1);
    // It says what it has, and then answers no probe.
    let ignores_probes = Behaviour {
        headers_answers: 1,
        ..Behaviour::default()
    };
    let situations = [
        silent_source(),
        source_that_failed(),
        synced(),
        downloading_with_a_peer_that_lacks_blocks(),
        late_peer_that_alone_has_the_blocks(),
        held_up_by_trouble_of_our_own(),
        probing(&shorter, ignores_probes),
        probing(&shorter, Behaviour::default()),
    ];
    let seen: BTreeSet<usize> = situations.into_iter().flat_map(wakes_for_all).collect();
    let all: BTreeSet<usize> = (0..KINDS).collect();
    assert_eq!(seen, all);
}

#[test]
fn no_timer_of_a_peer_outlives_it() {
    for mut world in [
        source_that_failed(),
        downloading_with_a_peer_that_lacks_blocks(),
        probing(&Blocks::new(40, 1), silent()),
    ] {
        for id in world.node.ids() {
            world.leave(id);
            let mut timers = world.node.parts.timers.iter();
            let left = timers.find(|(timer, _)| timer.peer() == Some(id));
            assert_eq!(left, None);
        }
    }
}
