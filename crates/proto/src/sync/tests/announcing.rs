//! Telling peers about a new tip, and hearing of one.

use bitcoin::p2p::message_blockdata::Inventory;
use handfast_wire::{Message, Network};

use crate::lifecycle::{ConnId, Direction};

use super::super::{Input, SyncConfig};
use super::chains::{Blocks, block, mine};
use super::secs;
use super::world::{Behaviour, World};

fn with_peers(chain: &Blocks) -> (World, ConnId, ConnId, ConnId) {
    let mut world = World::with(chain, SyncConfig::new(&Network::Regtest, None, 1));
    let sender = world.add(chain);
    let wants_headers = world.add_as(chain, Direction::Inbound, Behaviour::default());
    let wants_inv = world.add_as(chain, Direction::Inbound, Behaviour::default());
    world.message(wants_headers, Message::SendHeaders);
    world.run(secs(2));
    (world, sender, wants_headers, wants_inv)
}

fn announcements(world: &World, id: ConnId) -> Vec<Message> {
    let all = world.sent_to_peer(id);
    let kept = all
        .into_iter()
        .filter(|message| matches!(message, Message::Headers(_) | Message::Inv(_)));
    kept.cloned().collect()
}

#[test]
fn a_new_tip_is_announced_by_headers_or_inv_and_not_to_who_has_it() {
    let mut chain = Blocks::new(100, 1);
    let (mut world, sender, wants_headers, wants_inv) = with_peers(&chain);
    chain.grow(1, 1);
    world.set_chain(sender, &chain);
    world.message(sender, Message::Headers(vec![chain.tip()]));
    world.sync_to(&chain, secs(2));
    assert_eq!(announcements(&world, sender), []);
    assert_eq!(
        announcements(&world, wants_headers),
        [Message::Headers(vec![chain.tip()])]
    );
    let inv = Message::Inv(vec![Inventory::Block(chain.tip_hash())]);
    assert_eq!(announcements(&world, wants_inv), [inv]);
}

#[test]
fn a_block_of_our_own_is_announced_to_all_and_each_header_once() {
    let mut chain = Blocks::new(100, 1);
    let (mut world, sender, wants_headers, wants_inv) = with_peers(&chain);
    for ticket in 0..3 {
        chain.grow(1, 1);
        let block = chain.blocks.last().unwrap().clone();
        world.input(Input::Submit { ticket, block });
        world.run(secs(1));
    }
    let latest: Vec<Message> = chain.headers()[100..]
        .iter()
        .map(|header| Message::Headers(vec![*header]))
        .collect();
    assert_eq!(announcements(&world, wants_headers), latest);
    assert_eq!(announcements(&world, sender).len(), 3);
    assert_eq!(announcements(&world, wants_inv).len(), 3);
}

#[test]
fn several_new_blocks_come_in_one_headers_message_and_more_than_eight_as_inv() {
    let old = Blocks::new(100, 1);
    for new in [8, 9] {
        let (mut world, _, wants_headers, _) = with_peers(&old);
        let longer = old.fork(100, new, 1);
        for height in 101..=100 + new as u32 {
            world.input(Input::SubmitHeader {
                ticket: 0,
                header: longer.at(height).header,
            });
        }
        // The first block last, so that all are connected in one step.
        for height in (101..=100 + new as u32).rev() {
            world.input(Input::Submit {
                ticket: 1,
                block: longer.at(height).clone(),
            });
        }
        world.run(secs(1));
        assert_eq!(world.node.tree().tip().hash, longer.tip_hash());
        let expected = match new {
            8 => Message::Headers(longer.headers()[100..].to_vec()),
            _ => Message::Inv(vec![Inventory::Block(longer.tip_hash())]),
        };
        assert_eq!(announcements(&world, wants_headers), [expected]);
    }
}

#[test]
fn nothing_is_announced_while_far_behind() {
    let chain = Blocks::new(500, 1);
    let mut world = World::new();
    world.add(&chain);
    let behind = world.add_as(&Blocks::new(0, 0), Direction::Inbound, Behaviour::default());
    world.sync_to(&chain, secs(20));
    let count = announcements(&world, behind).len();
    assert!(
        (1..=9).contains(&count),
        "{count} announcements for 500 blocks"
    );
}

#[test]
fn an_announced_block_is_fetched_by_way_of_its_header() {
    let mut chain = Blocks::new(50, 1);
    let (mut world, sender, ..) = with_peers(&chain);
    chain.grow(1, 1);
    world.set_chain(sender, &chain);
    world.message(
        sender,
        Message::Inv(vec![Inventory::Block(chain.tip_hash())]),
    );
    world.sync_to(&chain, secs(1));
    assert_eq!(world.requests.last().map(|(_, id, _)| *id), Some(sender));
}

#[test]
fn an_announcement_during_header_sync_asks_one_more_peer_once() {
    let chain = Blocks::new(50, 1);
    let mut world = World::new();
    let mute = Behaviour {
        headers_answers: 0,
        ..Behaviour::default()
    };
    world.add_as(&chain, Direction::Outbound, mute);
    let other = world.add_as(&chain, Direction::Inbound, Behaviour::default());
    world.message(
        other,
        Message::Inv(vec![Inventory::Block(chain.tip_hash())]),
    );
    world.message(
        other,
        Message::Inv(vec![Inventory::Block(chain.tip_hash())]),
    );
    assert_eq!(world.sent_to_peer(other).len(), 1, "one question at a time");
    world.sync_to(&chain, secs(1));
}

#[test]
fn sendheaders_is_sent_once_to_a_peer_that_has_shown_a_chain() {
    let chain = Blocks::new(50, 1);
    let mut world = World::new();
    let id = world.add(&chain);
    world.sync_to(&chain, secs(2));
    world.run(secs(200));
    let sent = world.sent_to_peer(id);
    let count = sent
        .iter()
        .filter(|message| ***message == Message::SendHeaders)
        .count();
    assert_eq!(count, 1);
}

#[test]
fn an_announcement_is_followed_at_once_though_the_source_is_silent() {
    let old = Blocks::new(50, 1);
    let mut world = World::with(&old, SyncConfig::new(&Network::Regtest, None, 1));
    let mute = Behaviour {
        headers_answers: 0,
        ..Behaviour::default()
    };
    world.add_as(&old, Direction::Outbound, mute);
    let other = world.add_as(&old, Direction::Inbound, Behaviour::default());
    world.run(secs(30));
    let longer = old.fork(50, 5, 1);
    world.set_chain(other, &longer);
    world.message(
        other,
        Message::Inv(vec![Inventory::Block(longer.tip_hash())]),
    );
    world.sync_to(&longer, secs(1));
}

#[test]
fn what_a_peer_announced_during_header_sync_is_asked_for_after_it() {
    let old = Blocks::new(50, 1);
    let mut world = World::with(&old, SyncConfig::new(&Network::Regtest, None, 1));
    let first = world.add(&old);
    let other = world.add_as(&old, Direction::Inbound, Behaviour::default());
    world.run(secs(1));
    let slow = Behaviour {
        latency: secs(1),
        ..Behaviour::default()
    };
    let next = world.add_as(&old, Direction::Outbound, slow);
    world.run(secs(3));
    world.leave(first);
    assert_eq!(world.node.sync_peer(), Some(next));
    let longer = old.fork(50, 5, 1);
    world.set_chain(other, &longer);
    world.message(
        other,
        Message::Inv(vec![Inventory::Block(longer.tip_hash())]),
    );
    world.sync_to(&longer, secs(2));
}

#[test]
fn initial_download_ends_with_a_recent_tip_and_never_begins_again() {
    let mut chain = Blocks::new(5, 1);
    let mut world = World::with(&chain, SyncConfig::new(&Network::Regtest, None, 1));
    assert!(world.node.initial_block_download(world.now));
    let header = mine(&chain.tip(), super::world::START - 60, 1);
    chain.blocks.push(block(header, 100));
    world.input(Input::Submit {
        ticket: 1,
        block: chain.at(6).clone(),
    });
    world.run(secs(1));
    assert!(!world.node.initial_block_download(world.now));
    world.run(secs(3 * 24 * 60 * 60));
    assert!(!world.node.initial_block_download(world.now));
}

#[test]
fn a_start_with_a_recent_tip_ends_initial_download_though_nobody_connects_for_days() {
    let mut chain = Blocks::new(5, 1);
    let header = mine(&chain.tip(), super::world::START - 60, 1);
    chain.blocks.push(block(header, 100));
    let mut world = World::with(&chain, SyncConfig::new(&Network::Regtest, None, 1));
    world.node.opened(world.now);
    let later = world.now.after(secs(3 * 24 * 60 * 60));
    assert!(!world.node.initial_block_download(later));
}

#[test]
fn a_clock_that_is_put_back_does_not_end_initial_download() {
    let chain = Blocks::new(5, 1);
    let mut world = World::with(&chain, SyncConfig::new(&Network::Regtest, None, 1));
    world.node.opened(world.now);
    assert!(world.node.initial_block_download(world.now));
    let mut then = world.now;
    then.unix = chain.tip().time;
    world.node.step(then, Input::Tick);
    assert!(
        world.node.initial_block_download(then),
        "only a new tip can"
    );
}
