//! Dialled peers that stay behind our chain.

use handfast_wire::{Message, Network};

use crate::lifecycle::{ConnId, Direction, DoneReason};

use super::super::chain_sync::MAX_PROTECTED;
use super::super::{Phase, SyncConfig};
use super::chains::Blocks;
use super::secs;
use super::world::{Behaviour, World};

const MINUTE: u64 = 60;

fn node(chain: &Blocks, always_mined: bool) -> World {
    let mut config = SyncConfig::new(&Network::Regtest, None, 1);
    config.always_mined = always_mined;
    let mut world = World::with(chain, config);
    // The tip of these tests is old.
    world.may_seek_peers = true;
    world
}

fn add(world: &mut World, chain: &Blocks, direction: Direction) -> ConnId {
    world.add_as(chain, direction, Behaviour::default())
}

#[test]
fn a_dialled_peer_that_stays_behind_is_asked_once_more_and_goes_after_22_minutes() {
    let chain = Blocks::new(20, 1);
    let behind = chain.fork(15, 0, 1);
    let mut world = node(&chain, true);
    let lags = add(&mut world, &behind, Direction::Outbound);
    let inbound = add(&mut world, &behind, Direction::Inbound);
    let manual = add(&mut world, &behind, Direction::Manual);
    world.run(secs(20 * MINUTE));
    let state = world.node.state(world.now);
    assert!(
        state.peers[0].why.contains("behind ours"),
        "{:?}",
        state.peers[0]
    );
    world.run(secs(25));
    let asked = |world: &World| {
        let behind = world.node.parts.chain_sync.behind(lags);
        behind.is_some_and(|(_, asked)| asked)
    };
    assert!(asked(&world));
    let parent = chain.at(19).hash;
    let last = world
        .sent_to_peer(lags)
        .into_iter()
        .rev()
        .find_map(|message| match message {
            Message::GetHeaders(locator) => Some(locator.hashes[0]),
            _ => None,
        });
    assert_eq!(last, Some(parent), "so that a peer with our tip shows it");
    world.run(secs(90));
    assert_eq!(world.reason(lags), None);
    world.run(secs(60));
    assert_eq!(world.reason(lags), Some(&DoneReason::StaleChain));
    world.run(secs(120 * MINUTE));
    assert_eq!((world.reason(inbound), world.reason(manual)), (None, None));
}

#[test]
fn a_peer_that_is_level_or_catches_up_stays() {
    let chain = Blocks::new(20, 1);
    let behind = chain.fork(15, 0, 1);
    let mut world = node(&chain, true);
    let level = add(&mut world, &chain, Direction::Outbound);
    let late = add(&mut world, &behind, Direction::Outbound);
    world.run(secs(19 * MINUTE));
    assert!(world.node.parts.chain_sync.behind(late).is_some());
    world.set_chain(late, &chain);
    world.message(late, Message::Headers(chain.headers()[15..].to_vec()));
    world.run(secs(120 * MINUTE));
    assert_eq!((world.reason(level), world.reason(late)), (None, None));
}

#[test]
fn a_peer_that_reaches_what_we_had_gets_time_to_reach_what_we_have() {
    let chain = Blocks::new(20, 1);
    let longer = chain.fork(20, 1, 1);
    let mut world = node(&chain, true);
    let slow = add(&mut world, &chain.fork(15, 0, 1), Direction::Outbound);
    world.run(secs(MINUTE));
    let quick = add(&mut world, &longer, Direction::Outbound);
    world.sync_to(&longer, secs(70));
    world.run(secs(17 * MINUTE));
    world.set_chain(slow, &chain);
    world.message(slow, Message::Headers(chain.headers()[15..].to_vec()));
    world.run(secs(20 * MINUTE));
    assert_eq!(world.reason(slow), None, "its time began anew");
    world.run(secs(4 * MINUTE));
    assert_eq!(world.reason(slow), Some(&DoneReason::StaleChain));
    assert_eq!(world.reason(quick), None);
}

#[test]
fn four_peers_that_were_level_once_are_never_given_up() {
    let chain = Blocks::new(20, 1);
    let longer = chain.fork(20, 2, 1);
    let mut world = node(&chain, true);
    let ids: Vec<ConnId> = (0..7)
        .map(|_| add(&mut world, &chain, Direction::Outbound))
        .collect();
    world.run(secs(MINUTE));
    let ours = add(&mut world, &longer, Direction::Inbound);
    world.sync_to(&longer, secs(70));
    world.run(secs(60 * MINUTE));
    let kept = ids.iter().filter(|id| world.reason(**id).is_none()).count();
    assert_eq!(kept, MAX_PROTECTED);
    assert_eq!(world.reason(ours), None);
}

#[test]
fn eight_peers_behind_on_a_chain_of_ones_own_are_kept_and_idleness_is_explained() {
    let chain = Blocks::new(20, 1);
    let behind = chain.fork(15, 0, 1);
    let mut world = node(&chain, false);
    let ids: Vec<ConnId> = (0..8)
        .map(|_| add(&mut world, &behind, Direction::Outbound))
        .collect();
    world.run(secs(180 * MINUTE));
    assert!(world.ended.is_empty(), "{:?}", world.ended);
    assert!(world.wanted_peers.is_empty());
    let state = world.node.state(world.now);
    assert_eq!(state.phase, Phase::Synced);
    assert!(
        state
            .why
            .contains("no peer has shown a chain with more work than ours"),
        "{}",
        state.why
    );
    for peer in &state.peers {
        assert!(peer.best_known.is_none_or(|best| best.height <= 15));
        assert!(peer.eligible);
    }
    // One that is level shows that the others could be.
    add(&mut world, &chain, Direction::Outbound);
    world.run(secs(25 * MINUTE));
    for id in ids {
        assert_eq!(world.reason(id), Some(&DoneReason::StaleChain));
    }
}

#[test]
fn nobody_is_judged_by_a_chain_below_the_minimum_work() {
    let chain = Blocks::new(20, 1);
    let mut config = SyncConfig::new(&Network::Regtest, None, 1);
    config.always_mined = true;
    config.minimum_work = bitcoin::Work::from_be_bytes([1; 32]);
    let mut world = World::with(&chain, config);
    world.may_seek_peers = true;
    world.add_as(
        &chain,
        Direction::Outbound,
        Behaviour {
            headers_answers: 0,
            ..Behaviour::default()
        },
    );
    world.run(secs(60 * MINUTE));
    assert!(world.ended.is_empty(), "{:?}", world.ended);
}

#[test]
fn a_chain_that_the_clock_says_is_old_is_not_synced_though_no_peer_has_shown_more() {
    let chain = Blocks::new(20, 1);
    let mut world = node(&chain, true);
    add(&mut world, &chain, Direction::Outbound);
    world.run(secs(10));
    let state = world.node.state(world.now);
    assert_eq!((state.phase, state.missing), (Phase::Stalled, 0));
    assert!(
        state.why.starts_with("the latest block is "),
        "{}",
        state.why
    );
    assert!(state.why.contains("old (height 20), and no connected peer"));
    // Where no one mines the clock says nothing.
    let mut world = node(&chain, false);
    add(&mut world, &chain, Direction::Outbound);
    world.run(secs(10));
    assert_eq!(world.node.state(world.now).phase, Phase::Synced);
}
