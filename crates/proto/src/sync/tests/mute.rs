//! Peers that go mute in the middle of block download: their connections are open, and nothing
//! comes. What is foretold of them happens when its time has come.

use std::collections::BTreeMap;
use std::time::Duration;

use handfast_wire::Message;

use crate::lifecycle::{ConnId, Direction, DoneReason};

use super::super::Phase;
use super::chains::Blocks;
use super::secs;
use super::world::{Behaviour, World};

/// Between two looks at what is foretold, and how much later than foretold something is noticed.
const LOOK: Duration = Duration::from_secs(1);

/// Three peers, mute since they have delivered 60 of 400 blocks; with `headers` they go on
/// answering `getheaders`.
fn three_mute(direction: Direction, headers: bool) -> (World, Blocks) {
    let chain = Blocks::new(400, 1);
    let mut world = World::new();
    world.may_seek_peers = true;
    for _ in 0..3 {
        world.add_as(&chain, direction, Behaviour::default());
    }
    world.run_until("60 blocks", secs(10), |world| world.tip_height() >= 60);
    for remote in world.remotes.values_mut() {
        remote.behaviour.block_answers = remote.blocks_served;
        if !headers {
            remote.behaviour.headers_answers = remote.headers_served;
        }
    }
    // A peer that no other can replace is said to be late after two seconds.
    world.run(secs(5));
    (world, chain)
}

/// Ends of connections that were foretold, with the earliest time that was ever said.
#[derive(Default)]
struct Foretold(BTreeMap<String, Duration>);

impl Foretold {
    /// Notes what is foretold now; fails if something did not happen, or was put off.
    #[track_caller]
    fn look(&mut self, world: &World) {
        let next = world.node.state(world.now).next_deadline;
        let next = next.expect("peers are awaited");
        if next
            .what
            .ends_with("is disconnected unless it delivers a block")
        {
            let at = world.now.mono + next.left;
            let first = *self.0.entry(next.what.clone()).or_insert(at);
            assert!(at <= first + LOOK, "put off: {} to {at:?}", next.what);
        }
        for (what, at) in &self.0 {
            let gone = |id: &ConnId| what.starts_with(&format!("{id} "));
            let gone = world.ended.iter().any(|(id, ..)| gone(id));
            let over = world.now.mono > *at + 2 * LOOK;
            assert!(gone || !over, "not done: {what}, at {at:?}");
        }
    }
}

#[test]
fn who_is_mute_goes_when_it_was_foretold_and_sync_is_stalled_all_the_time_until_then() {
    for direction in [Direction::Outbound, Direction::Inbound, Direction::Manual] {
        for headers in [false, true] {
            let (mut world, _) = three_mute(direction, headers);
            let source = world.node.sync_peer();
            let mut foretold = Foretold::default();
            while world.ended.is_empty() {
                let state = world.node.state(world.now);
                assert_eq!(state.phase, Phase::Stalled, "{}", state.why);
                assert!(state.why.contains("late with blocks"), "{}", state.why);
                assert_eq!(
                    world.node.sync_peer(),
                    source,
                    "the source is changed for nothing"
                );
                foretold.look(&world);
                assert!(world.now.mono < secs(700), "mute for ever: {state:?}");
                world.run(LOOK);
            }
            assert!(!foretold.0.is_empty(), "it was foretold");
            while world.ended.len() < 3 {
                foretold.look(&world);
                assert!(world.now.mono < secs(1_000), "some stay: {:?}", world.ended);
                world.run(LOOK);
            }
            for (_, reason, at) in &world.ended {
                let stalled = matches!(reason, DoneReason::BlockStalled { .. });
                assert!(stalled, "{reason}");
                assert!(*at >= secs(590), "it may be our own line: {at:?}");
            }
        }
    }
}

#[test]
fn mute_peers_have_a_minute_from_when_another_delivers_unless_the_operator_named_them() {
    for direction in [Direction::Outbound, Direction::Manual] {
        let (mut world, chain) = three_mute(direction, true);
        world.run(secs(300));
        world.add(&chain);
        world.sync_to(&chain, secs(30));
        let delivered = world.now.mono;
        world.run(secs(50));
        assert_eq!(world.ended, [], "our own line may just have come back");
        let mut foretold = Foretold::default();
        if direction == Direction::Outbound {
            foretold.look(&world);
            assert!(!foretold.0.is_empty());
        }
        world.run(secs(100));
        let ended = world.ended.iter().filter(|(id, ..)| id.0 < 3).count();
        match direction {
            // One may have been asked for nothing that it is late with.
            Direction::Outbound => assert!(ended >= 2, "{:?}", world.ended),
            _ => assert_eq!(ended, 0, "{:?}", world.ended),
        }
        for (id, _, at) in &world.ended {
            assert!(*at >= delivered + secs(50), "{id} {at:?}");
        }
    }
}

#[test]
fn a_peer_that_delivers_after_all_stays_though_it_was_late_for_minutes() {
    let (mut world, chain) = three_mute(Direction::Outbound, true);
    world.run(secs(400));
    // The line is back, with what was asked meanwhile.
    let ids: Vec<ConnId> = world.remotes.keys().copied().collect();
    for id in ids {
        let remote = world.remotes.get_mut(&id).expect("it is there");
        remote.behaviour.block_answers = usize::MAX;
        for asked in world.node.parts.download.asked_of(id).to_vec() {
            let block = chain.at(asked.height).clone();
            world.message(id, Message::Block(block));
        }
    }
    world.sync_to(&chain, secs(30));
    let remaining: Vec<ConnId> = world.node.ids().into_iter().collect();
    assert_eq!(remaining.len(), 3, "{:?}", world.ended);
    let delivers = |id: &ConnId| world.remotes[id].blocks_served > 60;
    let delivering: Vec<ConnId> = remaining.into_iter().filter(delivers).collect();
    assert!(!delivering.is_empty());
    world.run(secs(300));
    for id in delivering {
        assert_eq!(world.reason(id), None, "{id}");
    }
}

#[test]
fn without_a_peer_nothing_is_foretold_that_needs_one() {
    let chain = Blocks::new(20, 1);
    let mut world = World::new();
    let id = world.add(&chain);
    world.sync_to(&chain, secs(5));
    let next = world.node.state(world.now).next_deadline;
    let what = next.map(|next| next.what);
    assert_eq!(what.as_deref(), Some("a peer is asked for new blocks"));
    world.leave(id);
    assert_eq!(world.node.state(world.now).next_deadline, None);
}
