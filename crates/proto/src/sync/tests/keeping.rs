//! What survives the end of the process, and what waits for that.

use std::time::Duration;

use handfast_wire::{Message, Network, RawBlock};

use crate::lifecycle::{ConnId, Direction};

use super::super::{Durability, Effect, Input, KernelEvent, Persist, SubmitResult, SyncConfig};
use super::chains::{Blocks, mine};
use super::secs;
use super::world::{Behaviour, START, World};

const WHY: &str = "no space left; free disk space";

fn node(chain: &Blocks) -> World {
    World::with(chain, SyncConfig::new(&Network::Regtest, None, 1))
}

fn submit(world: &mut World, ticket: u64, block: &RawBlock) {
    let block = block.clone();
    world.input(Input::Submit { ticket, block });
    world.run(secs(1));
}

/// Headers and inventories that a peer was sent.
fn announcements(world: &World, id: ConnId) -> usize {
    let sent = world.sent_to_peer(id);
    let of_blocks = |message: &&&Message| matches!(message, Message::Headers(_) | Message::Inv(_));
    sent.iter().filter(of_blocks).count()
}

/// How each block that the machine gives to the kernel in this step is to be durability.
fn given(effects: &[Effect]) -> Vec<Persist> {
    let persist = |effect: &Effect| match effect {
        Effect::CheckBlock { persist, .. } => Some(*persist),
        _ => None,
    };
    effects.iter().filter_map(persist).collect()
}

/// Lets a node sync a chain and tells of each block how it was to be durability.
fn kept_in_sync(chain: &Blocks, from: usize) -> Vec<Persist> {
    let mut world = node(&chain.fork(from, 0, 1));
    world.kernel_time = secs(1_000);
    let peer = world.add(chain);
    world.message(peer, Message::Headers(chain.headers()[from..].to_vec()));
    let mut durability = vec![];
    for block in &chain.blocks[from..] {
        let block = block.clone();
        let message = Message::Block(block).into();
        let input = Input::Message { id: peer, message };
        durability.extend(given(&world.node.step(world.now, input)));
    }
    durability
}

#[test]
fn of_initial_sync_only_the_last_blocks_are_kept() {
    let durability = kept_in_sync(&Blocks::new(120, 1), 100);
    let mut expected = vec![Persist::No; 11];
    expected.resize(20, Persist::Soon);
    assert_eq!(
        durability, expected,
        "blocks that may be announced: eight and the tip"
    );
}

#[test]
fn after_initial_sync_every_block_is_kept() {
    let mut chain = Blocks::new(100, 1);
    // A tip of the last hours ends initial sync.
    let recent = mine(&chain.tip(), START - 20_000, 1);
    chain.blocks.push(super::chains::block(recent, 240));
    chain.grow(20, 1);
    assert_eq!(kept_in_sync(&chain, 101), vec![Persist::Soon; 20]);
}

#[test]
fn the_tip_is_announced_only_when_it_is_kept() {
    let mut chain = Blocks::new(100, 1);
    let mut world = node(&chain);
    let sender = world.add(&chain);
    let other = world.add_as(&chain, Direction::Inbound, Behaviour::default());
    world.run(secs(2));
    for durability in [Durability::Later, Durability::Failed(WHY.into())] {
        let before = announcements(&world, other);
        world.kernel.durability = durability;
        chain.grow(1, 1);
        world.set_chain(sender, &chain);
        world.message(sender, Message::Headers(vec![chain.tip()]));
        world.sync_to(&chain, secs(2));
        world.run(secs(60));
        assert_eq!(announcements(&world, other), before);
        world.input(Input::Kernel(KernelEvent::Durable));
        assert_eq!(announcements(&world, other), before + 1);
        world.input(Input::Kernel(KernelEvent::Durable));
        assert_eq!(announcements(&world, other), before + 1, "once");
    }
}

#[test]
fn a_block_that_could_not_be_kept_is_not_acknowledged_now_nor_when_it_is_offered_again() {
    let mut chain = Blocks::new(10, 1);
    let mut world = node(&chain);
    chain.grow(1, 1);
    world.kernel.durability = Durability::Failed(WHY.into());
    for ticket in 1..=2 {
        submit(&mut world, ticket, chain.at(11));
        let failed = SubmitResult::Failed(WHY.into());
        assert_eq!(world.answers.last(), Some(&(ticket, failed)));
        assert_eq!(world.tip_height(), 11, "it is in the chain all the same");
    }
    world.input(Input::Kernel(KernelEvent::Durable));
    submit(&mut world, 3, chain.at(11));
    assert_eq!(world.answers.last(), Some(&(3, SubmitResult::Duplicate)));
}

#[test]
fn a_block_of_initial_sync_is_kept_before_its_submission_is_answered() {
    let chain = Blocks::new(60, 1);
    let mut world = node(&chain.fork(10, 0, 1));
    let peer = world.add(&chain);
    world.kernel_time = Duration::from_millis(500);
    world.message(peer, Message::Headers(chain.headers()[10..].to_vec()));
    let block = chain.at(11).clone();
    let (id, message) = (peer, Message::Block(block.clone()).into());
    let effects = world.node.step(world.now, Input::Message { id, message });
    assert_eq!(given(&effects), [Persist::No]);
    // Its verdict is still to come when it is submitted.
    let input = Input::Submit {
        ticket: 1,
        block: block.clone(),
    };
    assert_eq!(given(&world.node.step(world.now, input)), []);
    let later = world.kernel.block(&block, Some(peer));
    let KernelEvent::BlockChecked {
        hash,
        outcome,
        origin,
        changes,
        busy,
        ..
    } = later
    else {
        panic!("a verdict");
    };
    let durability = Durability::Later;
    let verdict = KernelEvent::BlockChecked {
        hash,
        outcome,
        origin,
        changes,
        durability,
        busy,
    };
    let effects = world.node.step(world.now, Input::Kernel(verdict));
    assert_eq!(given(&effects), [Persist::Now], "its caller waits for that");
    let answered = |effects: &[Effect]| {
        let answer = |effect: &&Effect| matches!(effect, Effect::Answer { ticket: 1, .. });
        effects.iter().filter(answer).count()
    };
    assert_eq!(answered(&effects), 0);
    let verdict = world.kernel.block(&block, None);
    let effects = world.node.step(world.now, Input::Kernel(verdict));
    assert_eq!(answered(&effects), 1);
}
