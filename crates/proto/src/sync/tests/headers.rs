//! Header sync.

use bitcoin::Work;
use bitcoin::p2p::ServiceFlags;
use handfast_wire::{Message, Network};

use crate::headers::LowWorkParams;
use crate::lifecycle::{Direction, DoneReason};

use super::super::{HeadersAsk, Phase, RejectKind, SyncConfig, Wanted};
use super::chains::{Blocks, mine};
use super::secs;
use super::world::{Behaviour, World};

fn silent() -> Behaviour {
    Behaviour {
        headers_answers: 0,
        block_answers: 0,
        ..Behaviour::default()
    }
}

#[test]
fn a_node_without_peers_says_so() {
    let world = World::new();
    let state = world.node.state(world.now);
    assert_eq!(state.phase, Phase::NoPeers);
    assert_eq!(state.why, "no peer is connected");
    assert_eq!(world.node.deadline(), None);
}

#[test]
fn the_next_getheaders_follows_a_full_batch_at_once() {
    let chain = Blocks::new(4_500, 1);
    let mut world = World::new();
    // A kernel that never answers within the test does not hold up headers.
    world.kernel_time = secs(1_000);
    world.add(&chain);
    world.run(secs(1));
    assert_eq!(world.node.tree().best_header().height, 4_500);
}

#[test]
fn at_the_end_of_the_headers_the_other_peers_are_asked_what_they_have() {
    let short = Blocks::new(100, 1);
    let long = short.fork(100, 50, 1);
    let mut world = World::new();
    let source = world.add(&short);
    world.add_as(&long, Direction::Inbound, Behaviour::default());
    assert_eq!(world.node.sync_peer(), Some(source));
    world.sync_to(&long, secs(1));
}

#[test]
fn dialled_peers_are_asked_before_those_that_dialled_us_and_claims_do_not_matter() {
    let chain = Blocks::new(10, 1);
    let mut world = World::new();
    world.add_as(&chain, Direction::Inbound, silent());
    let outbound = world.add_as(&chain, Direction::Outbound, silent());
    assert_eq!(
        world.node.sync_peer(),
        Some(outbound),
        "though another is asked"
    );
    let manual = world.add_as(&chain, Direction::Manual, silent());
    assert_eq!(world.node.sync_peer(), Some(outbound));
    world.leave(outbound);
    assert_eq!(world.node.sync_peer(), Some(manual));
}

#[test]
fn three_silent_peers_that_come_first_delay_an_honest_one_by_at_most_five_seconds() {
    let chain = Blocks::new(30, 1);
    let mut world = World::new();
    for _ in 0..3 {
        world.add_as(&chain, Direction::Outbound, silent());
    }
    world.add_as(&chain, Direction::Inbound, Behaviour::default());
    let took = world.sync_to(&chain, secs(5));
    assert!(took <= secs(5), "{took:?}");
    let source = world.node.state(world.now).source.unwrap();
    assert!(source.why.contains("silent"), "{}", source.why);
}

#[test]
fn an_honest_peer_that_comes_while_the_source_is_silent_is_asked_at_once() {
    let chain = Blocks::new(30, 1);
    let mut world = World::new();
    world.add_as(&chain, Direction::Outbound, silent());
    world.run(secs(20));
    world.add_as(&chain, Direction::Inbound, Behaviour::default());
    world.sync_to(&chain, secs(1));
}

#[test]
fn a_slow_honest_source_is_not_cut_off() {
    let chain = Blocks::new(6_000, 1);
    let mut world = World::new();
    let slow = Behaviour {
        latency: secs(30),
        ..Behaviour::default()
    };
    world.add_as(&chain, Direction::Outbound, slow);
    world.run_until("all headers", secs(200), |world| {
        world.node.tree().best_header().height == 6_000
    });
    assert!(world.ended.is_empty(), "{:?}", world.ended);
}

#[test]
fn a_dialled_peer_that_never_answers_is_disconnected_when_there_is_another() {
    let chain = Blocks::new(5, 1);
    let mut world = World::new();
    // No peer says a word.
    world.may_seek_peers = true;
    let dead = world.add_as(&chain, Direction::Outbound, silent());
    let inbound = world.add_as(&chain, Direction::Inbound, silent());
    world.run(secs(130));
    assert_eq!(world.reason(dead), Some(&DoneReason::HeadersTimeout));
    assert_eq!(world.reason(inbound), None, "it takes up no slot of ours");
    assert_eq!(world.node.sync_peer(), Some(inbound));
}

#[test]
fn the_only_peer_is_kept_though_it_does_not_answer_and_is_asked_again() {
    let chain = Blocks::new(5, 1);
    let mut world = World::new();
    world.may_seek_peers = true;
    let only = world.add_as(&chain, Direction::Manual, silent());
    world.run(secs(600));
    assert!(world.ended.is_empty());
    assert_eq!(world.node.sync_peer(), Some(only));
    let asked = world.sent_to_peer(only).len();
    assert_eq!(asked, 6, "at the start and every 120 s");
    world.run(secs(20));
    assert_eq!(world.node.state(world.now).phase, Phase::Stalled);
}

#[test]
fn empty_headers_at_the_tip_for_an_hour_cut_nobody_off() {
    let chain = Blocks::new(20, 1);
    let mut world = World::with(&chain, SyncConfig::new(&Network::Regtest, None, 1));
    let nothing = Blocks::new(0, 0);
    for _ in 0..3 {
        world.add(&nothing);
    }
    world.run(secs(3_600));
    assert!(world.ended.is_empty(), "{:?}", world.ended);
    let state = world.node.state(world.now);
    assert_eq!(state.phase, Phase::Synced);
    assert!(state.why.contains("no peer has shown"), "{}", state.why);
    assert!(
        state.watchdog.checks >= 359,
        "it looked: {:?}",
        state.watchdog
    );
}

#[test]
fn losing_the_sync_peer_selects_the_next_in_the_same_step() {
    let chain = Blocks::new(3_000, 1);
    let mut world = World::new();
    let first = world.add_as(&chain, Direction::Outbound, silent());
    let second = world.add_as(&chain, Direction::Outbound, silent());
    assert_eq!(world.node.sync_peer(), Some(first));
    world.leave(first);
    assert_eq!(world.node.sync_peer(), Some(second));
    let (_, to, message) = world.sent.last().unwrap();
    assert_eq!(*to, second);
    assert!(matches!(message, Message::GetHeaders(_)));
    let change = world.node.state(world.now).source_changes.pop().unwrap();
    assert_eq!((change.from, change.to), (Some(first), Some(second)));
}

#[test]
fn a_peer_set_aside_that_answers_after_all_is_the_source_at_once_when_there_is_none() {
    let chain = Blocks::new(5, 1);
    let mut world = World::new();
    let late = world.add_as(&chain, Direction::Inbound, silent());
    let other = world.add_as(&chain, Direction::Inbound, Behaviour::default());
    world.run_until("the first is set aside", secs(125), |world| {
        world.node.parts.headers.cool_down_of(late).is_some()
    });
    world.leave(other);
    assert_eq!(world.node.sync_peer(), None);
    world.message(late, Message::Headers(chain.headers()));
    assert_eq!(world.node.sync_peer(), Some(late));
    world.run(secs(30));
    world.leave(late);
    world.may_seek_peers = true;
    let late = world.add_as(&chain, Direction::Inbound, silent());
    let other = world.add_as(&chain, Direction::Inbound, silent());
    world.run_until("the first is set aside", secs(125), |world| {
        world.node.parts.headers.cool_down_of(late).is_some()
    });
    world.leave(other);
    assert_eq!(world.node.sync_peer(), None);
    world.message(late, Message::Headers(Vec::new()));
    assert_eq!(
        world.node.sync_peer(),
        Some(late),
        "an empty answer is one (S2)"
    );
}

#[test]
fn a_source_that_vanishes_in_the_middle_of_headers_is_replaced() {
    let chain = Blocks::new(9_000, 1);
    let mut world = World::new();
    let first = world.add_as(
        &chain,
        Direction::Outbound,
        Behaviour {
            headers_answers: 2,
            ..Behaviour::default()
        },
    );
    world.run_until("two batches", secs(1), |world| {
        world.node.tree().best_header().height == 4_000
    });
    world.leave(first);
    world.add(&chain);
    world.run_until("all headers", secs(1), |world| {
        world.node.tree().best_header().height == 9_000
    });
}

#[test]
fn a_header_without_work_ends_the_connection() {
    let chain = Blocks::new(3, 1);
    let mut headers = chain.headers();
    let mut world = World::new();
    let id = world.add(&Blocks::new(0, 0));
    while headers[2].target().is_met_by(headers[2].block_hash()) {
        headers[2].nonce += 1;
    }
    world.message(id, Message::Headers(headers));
    assert!(matches!(
        world.reason(id),
        Some(DoneReason::InvalidHeader(_))
    ));
    assert_eq!(world.node.tree().len(), 1, "nothing of it was kept");
}

#[test]
fn headers_that_do_not_build_on_each_other_end_the_connection() {
    let chain = Blocks::new(3, 1);
    let mut headers = chain.headers();
    headers.remove(1);
    let mut world = World::new();
    let id = world.add(&Blocks::new(0, 0));
    world.message(id, Message::Headers(headers));
    assert!(matches!(
        world.reason(id),
        Some(DoneReason::InvalidHeader(_))
    ));
}

#[test]
fn an_unconnected_announcement_is_followed_by_one_getheaders() {
    let chain = Blocks::new(50, 1);
    let mut world = World::new();
    let id = world.add(&Blocks::new(0, 0));
    world.run(secs(1));
    world.set_chain(id, &chain);
    world.message(id, Message::Headers(vec![chain.tip()]));
    world.message(id, Message::Headers(vec![chain.tip()]));
    let asked = world.sent_to_peer(id).len();
    assert_eq!(asked, 2, "at the start, and once for the announcement");
    world.sync_to(&chain, secs(1));
}

#[test]
fn headers_on_an_invalid_block_end_the_connection_inbound_too() {
    let good = Blocks::new(10, 1);
    let bad = good.fork(5, 8, 2);
    let mut world = World::new();
    // The kernel is given headers that no block needs, and refuses one.
    world.node.parts.config.assumes_valid = true;
    world
        .kernel
        .bad_headers
        .insert(bad.at(6).hash, RejectKind::InvalidHeader);
    let liar = world.add(&bad);
    world.run(secs(1));
    assert!(matches!(
        world.reason(liar),
        Some(DoneReason::InvalidHeader(_))
    ));
    assert_eq!(world.node.tree().best_header().height, 5);
    let another = world.add_as(&bad, Direction::Inbound, Behaviour::default());
    let mut longer = bad.clone();
    longer.grow(1, 2);
    world.message(another, Message::Headers(longer.headers()[5..].to_vec()));
    world.run(secs(1));
    assert!(matches!(
        world.reason(another),
        Some(DoneReason::InvalidHeader(_))
    ));
    let honest = world.add(&good);
    world.sync_to(&good, secs(1));
    assert_eq!(world.reason(honest), None);
}

fn low_work_config(minimum_blocks: u64) -> SyncConfig {
    let each = Blocks::new(1, 0).tip().work();
    let mut minimum = each;
    for _ in 1..minimum_blocks {
        minimum = minimum + each;
    }
    let mut config = SyncConfig::new(&Network::Regtest, Some(minimum), 7);
    config.low_work = LowWorkParams {
        commitment_period: 7,
        lookahead: 100,
    };
    config
}

#[test]
fn headers_below_the_minimum_work_are_neither_kept_nor_shown_to_the_kernel() {
    let mut world = World::with(&Blocks::new(0, 0), low_work_config(100_000));
    let chain = Blocks::new(5_000, 1);
    let id = world.add(&chain);
    world.run(secs(5));
    assert_eq!(world.node.tree().len(), 1);
    assert_eq!(world.reason(id), Some(&DoneReason::LowWorkChain));
    assert!(world.requests.is_empty());
}

#[test]
fn a_chain_that_shows_the_minimum_work_is_synced_by_downloading_its_headers_twice() {
    let mut world = World::with(&Blocks::new(0, 0), low_work_config(7_000));
    let chain = Blocks::new(7_500, 1);
    world.add(&chain);
    world.run_until("all headers", secs(5), |world| {
        world.node.tree().best_header().height == 7_500
    });
    world.sync_to(&chain, secs(60));
    assert!(world.ended.is_empty());
}

#[test]
fn a_flood_of_low_work_headers_leaves_the_tree_and_an_honest_sync_alone() {
    let mut world = World::with(&Blocks::new(0, 0), low_work_config(3_000));
    let honest = Blocks::new(3_100, 1);
    world.add(&honest);
    let cheap = Blocks::new(2_000, 9).headers();
    for _ in 0..20 {
        let id = world.add_as(&Blocks::new(0, 0), Direction::Inbound, silent());
        world.message(id, Message::Headers(cheap.clone()));
    }
    let headers = &world.node.parts.headers;
    let ids = world.node.ids().into_iter();
    let following = ids.filter(|id| headers.low_work_of(*id).is_some()).count();
    assert!(following <= 6, "memory is bounded: {following}");
    world.sync_to(&honest, secs(60));
    assert_eq!(world.node.tree().len(), 3_101);
}

#[test]
fn headers_from_the_future_are_left_out_and_nobody_is_blamed() {
    let mut world = World::new();
    let chain = Blocks::new(3, 1);
    let future = mine(&chain.tip(), super::world::START + 3 * 60 * 60, 1);
    let id = world.add(&Blocks::new(0, 0));
    world.set_chain(id, &chain);
    let mut headers = chain.headers();
    headers.push(future);
    world.message(id, Message::Headers(headers));
    assert_eq!(world.node.tree().best_header().height, 3);
    assert_eq!(world.reason(id), None);
}

#[test]
fn a_peer_that_serves_no_blocks_is_never_the_source() {
    let chain = Blocks::new(3, 1);
    let mut world = World::new();
    world.add_with(
        &chain,
        Direction::Outbound,
        Behaviour::default(),
        ServiceFlags::NONE,
    );
    assert_eq!(world.node.sync_peer(), None);
    let state = world.node.state(world.now);
    assert_eq!(state.phase, Phase::NoPeers);
    assert_eq!(state.peers[0].why, "serves no blocks");
}

#[test]
fn the_answer_to_a_probe_is_not_taken_for_the_end_of_the_headers() {
    let chain = Blocks::new(6_000, 1);
    let mut world = World::new();
    let source = world.add_as(
        &chain,
        Direction::Outbound,
        Behaviour {
            headers_answers: 1,
            ..Behaviour::default()
        },
    );
    let other = world.add(&chain);
    world.run(secs(1));
    // The other was probed for block 2,000 and answered with its one header.
    assert_eq!(
        world.node.parts.known.best(other).map(|best| best.height),
        Some(2_000)
    );
    assert!(!world.node.parts.headers.has_ended(other));
    assert_eq!(world.node.sync_peer(), Some(source));
    // It takes over when the source keeps silent.
    world.sync_to(&chain, secs(10));
}

#[test]
fn a_lost_announcement_is_made_up_for_by_asking_now_and_then() {
    let chain = Blocks::new(10, 1);
    let mut world = World::new();
    let id = world.add(&chain);
    world.sync_to(&chain, secs(1));
    let mut longer = chain.clone();
    longer.grow(3, 1);
    world.set_chain(id, &longer);
    world.sync_to(&longer, secs(61));
}

#[test]
fn a_source_that_repeats_itself_is_not_asked_for_ever() {
    let chain = Blocks::new(2_500, 1);
    let mut world = World::new();
    let liar = world.add_as(&chain, Direction::Outbound, silent());
    let honest = world.add_as(&chain, Direction::Inbound, Behaviour::default());
    for _ in 0..50 {
        world.message(liar, Message::Headers(chain.headers()[..2_000].to_vec()));
    }
    let asked = world
        .sent_to_peer(liar)
        .iter()
        .filter(|message| matches!(message, Message::GetHeaders(_)))
        .count();
    assert!(asked <= 3, "asked {asked} times");
    world.sync_to(&chain, secs(10));
    assert_eq!(world.reason(honest), None);
}

#[test]
fn the_state_shows_who_was_asked_for_what_and_since_when() {
    let chain = Blocks::new(10, 1);
    let mut world = World::new();
    let id = world.add_as(&chain, Direction::Outbound, silent());
    world.run(secs(1));
    let state = world.node.state(world.now);
    assert_eq!(state.phase, Phase::HeaderSync);
    assert_eq!(state.requests.len(), 1);
    assert_eq!(state.requests[0].peer, id);
    assert_eq!(state.requests[0].what, Wanted::Headers(HeadersAsk::Sync));
    assert_eq!(state.requests[0].age, secs(1));
    assert_eq!(state.why, "waiting for headers from peer 0, asked 1s ago");
    let next = state.next_deadline.unwrap();
    assert_eq!(next.left, secs(119));
    let then = "is disconnected, if another can be asked, unless it answers getheaders";
    assert_eq!(next.what, format!("{id} {then}"));
    let source = state.source.unwrap();
    assert_eq!((source.at, source.since), (super::world::START, secs(1)));
    assert_eq!(source.remote.port(), 18_444);
}

#[test]
fn nothing_is_served_from_a_chain_below_the_minimum_work() {
    let minimum = Work::from_be_bytes([1; 32]);
    let config = SyncConfig::new(&Network::Regtest, Some(minimum), 1);
    let mut world = World::with(&Blocks::new(5, 1), config);
    let id = world.add(&Blocks::new(0, 0));
    let locator = handfast_wire::Locator {
        hashes: vec![Blocks::new(0, 0).tip_hash()],
        stop: bitcoin::hashes::Hash::all_zeros(),
    };
    world.message(id, Message::GetHeaders(locator));
    assert_eq!(
        world.sent_to_peer(id).last(),
        Some(&&Message::Headers(Vec::new()))
    );
}
