//! Blocks that the operator wants of one peer.

use bitcoin::p2p::ServiceFlags;
use handfast_wire::{Message, Network};

use crate::headers::Status;
use crate::lifecycle::{ConnId, Direction};

use super::super::download::MAX_IN_FLIGHT;
use super::super::fetch::FetchRefusal;
use super::super::{Input, SyncConfig};
use super::chains::Blocks;
use super::secs;
use super::world::{Behaviour, World};

/// A node that has ten blocks, the header of a shorter branch, and a peer on that branch.
fn beside_a_branch(behaviour: Behaviour) -> (World, Blocks, ConnId) {
    let chain = Blocks::new(10, 1);
    let mut world = World::with(&chain, SyncConfig::new(&Network::Regtest, None, 1));
    let side = chain.fork(8, 1, 2);
    let id = world.add_as(&side, Direction::Outbound, behaviour);
    let header = side.tip();
    world.input(Input::SubmitHeader { ticket: 1, header });
    world.run(secs(1));
    (world, side, id)
}

#[test]
fn a_block_beside_the_chain_is_had_from_the_peer_that_the_operator_names() {
    let (mut world, side, id) = beside_a_branch(Behaviour::default());
    let hash = side.tip_hash();
    let status = |world: &World| world.node.tree().get(&hash).map(|entry| entry.status);
    assert_eq!(
        status(&world),
        Some(Status::Header),
        "sync has no use for it"
    );
    assert_eq!(world.node.may_fetch(id, &hash), Ok(()));
    world.input(Input::Fetch { id, hash });
    assert_eq!(
        world.node.may_fetch(id, &hash),
        Err(FetchRefusal::Requested)
    );
    world.run_until("the block is stored", secs(5), |world| {
        status(world) == Some(Status::Stored)
    });
    assert_eq!(world.requests.len(), 1);
    assert_eq!(
        world.node.may_fetch(id, &hash),
        Err(FetchRefusal::Downloaded)
    );
}

#[test]
fn what_cannot_be_fetched_is_refused_for_the_right_reason_and_nobody_is_asked() {
    let (mut world, side, id) = beside_a_branch(Behaviour::default());
    let hash = side.tip_hash();
    let old = world.add_with(
        &side,
        Direction::Inbound,
        Behaviour::default(),
        ServiceFlags::NETWORK,
    );
    let unknown = Blocks::new(1, 9).tip_hash();
    for (id, hash, refusal) in [
        (id, unknown, FetchRefusal::HeaderMissing),
        (id, side.at(3).hash, FetchRefusal::Downloaded),
        (ConnId(77), hash, FetchRefusal::NoSuchPeer),
        (old, hash, FetchRefusal::NoWitness),
    ] {
        assert_eq!(world.node.may_fetch(id, &hash), Err(refusal));
        world.input(Input::Fetch { id, hash });
    }
    world.run(secs(1));
    assert!(world.requests.is_empty());
}

#[test]
fn asking_another_peer_takes_the_request_back_from_the_first() {
    let mute = Behaviour {
        block_answers: 0,
        ..Behaviour::default()
    };
    let (mut world, side, first) = beside_a_branch(mute);
    let hash = side.tip_hash();
    let second = world.add(&side);
    world.input(Input::Fetch { id: first, hash });
    world.input(Input::Fetch { id: second, hash });
    assert!(world.node.parts.download.asked_of(first).is_empty());
    world.run(secs(1));
    let entry = world.node.tree().get(&hash).expect("it is known");
    assert_eq!(entry.status, Status::Stored);
}

#[test]
fn a_peer_is_asked_for_sixteen_blocks_at_most_and_may_say_that_it_lacks_them() {
    let chain = Blocks::new(40, 1);
    let mut world = World::with(&chain, SyncConfig::new(&Network::Regtest, None, 1));
    let side = chain.fork(10, 20, 2);
    let lacking = Behaviour {
        lacks_blocks: true,
        ..Behaviour::default()
    };
    let id = world.add_as(&side, Direction::Outbound, lacking);
    for block in &side.blocks[10..] {
        let header = block.header;
        world.input(Input::SubmitHeader { ticket: 1, header });
    }
    for block in &side.blocks[10..10 + MAX_IN_FLIGHT] {
        let hash = block.hash;
        assert_eq!(world.node.may_fetch(id, &hash), Ok(()));
        world.input(Input::Fetch { id, hash });
    }
    let next = side.blocks[10 + MAX_IN_FLIGHT].hash;
    assert_eq!(world.node.may_fetch(id, &next), Err(FetchRefusal::Busy));
    world.run(secs(1));
    assert_eq!(world.node.may_fetch(id, &next), Ok(()));
    assert!(world.ended.is_empty(), "honesty is no offence");
    let asked = |message: &&Message| matches!(message, Message::GetData(_));
    let sent = world.sent_to_peer(id);
    assert_eq!(sent.into_iter().filter(asked).count(), MAX_IN_FLIGHT);
}
