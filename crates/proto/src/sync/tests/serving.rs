//! Serving headers, inventories and blocks.

use bitcoin::hashes::Hash;
use bitcoin::p2p::message_blockdata::Inventory;
use bitcoin::{BlockHash, Txid};
use handfast_wire::{Locator, Message, Network};

use crate::lifecycle::{ConnId, Direction};

use super::super::{Input, SyncConfig};
use super::chains::Blocks;
use super::secs;
use super::world::{Behaviour, World};

fn serving(chain: &Blocks) -> (World, ConnId) {
    let mut world = World::with(chain, SyncConfig::new(&Network::Regtest, None, 1));
    let id = world.add_as(&Blocks::new(0, 0), Direction::Inbound, Behaviour::default());
    world.run(secs(1));
    world.sent.clear();
    (world, id)
}

fn from_genesis() -> Locator {
    Locator {
        hashes: vec![Blocks::new(0, 0).tip_hash()],
        stop: BlockHash::all_zeros(),
    }
}

#[test]
fn getheaders_is_answered_even_from_genesis_alone() {
    let (mut world, id) = serving(&Blocks::new(0, 0));
    world.message(id, Message::GetHeaders(from_genesis()));
    assert_eq!(world.sent_to_peer(id), [&Message::Headers(Vec::new())]);
}

#[test]
fn headers_are_served_from_an_old_chain_in_batches_of_two_thousand() {
    let chain = Blocks::new(2_100, 1);
    let (mut world, id) = serving(&chain);
    assert!(
        world.node.initial_block_download(world.now),
        "its tip is older than a day"
    );
    world.message(id, Message::GetHeaders(from_genesis()));
    let expected = Message::Headers(chain.headers()[..2_000].to_vec());
    assert_eq!(world.sent_to_peer(id), [&expected]);
}

#[test]
fn an_empty_locator_asks_for_one_header_or_is_not_answered() {
    let chain = Blocks::new(10, 1);
    let (mut world, id) = serving(&chain);
    let stop = chain.at(4).hash;
    world.message(
        id,
        Message::GetHeaders(Locator {
            hashes: vec![],
            stop,
        }),
    );
    let stop = BlockHash::all_zeros();
    world.message(
        id,
        Message::GetHeaders(Locator {
            hashes: vec![],
            stop,
        }),
    );
    assert_eq!(
        world.sent_to_peer(id),
        [&Message::Headers(vec![chain.at(4).header])]
    );
}

#[test]
fn getblocks_gives_five_hundred_and_the_tip_once_the_last_of_them_was_sent() {
    let chain = Blocks::new(700, 1);
    let (mut world, id) = serving(&chain);
    world.message(id, Message::GetBlocks(from_genesis()));
    let Message::Inv(items) = world.sent_to_peer(id)[0].clone() else {
        panic!()
    };
    assert_eq!(items.len(), 500);
    assert_eq!(items[499], Inventory::Block(chain.at(500).hash));
    world.message(id, Message::GetData(vec![items[499]]));
    let (_, ticket, hash, witness) = world.served.pop().unwrap();
    assert_eq!((hash, witness), (chain.at(500).hash, false));
    assert_eq!(world.sent.len(), 1, "the tip comes after the block");
    world.input(Input::Served { id, ticket });
    let tip = Message::Inv(vec![Inventory::Block(chain.tip_hash())]);
    assert_eq!(world.sent_to_peer(id)[1], &tip);
}

#[test]
fn blocks_are_served_four_at_a_time_in_the_order_asked() {
    let chain = Blocks::new(50, 1);
    let (mut world, id) = serving(&chain);
    let items: Vec<_> = (1..=20)
        .map(|h| Inventory::WitnessBlock(chain.at(h).hash))
        .collect();
    world.message(id, Message::GetData(items));
    assert_eq!(world.served.len(), 4);
    for served in 0..20 {
        let (_, ticket, hash, witness) = world.served[served];
        assert_eq!((hash, witness), (chain.at(served as u32 + 1).hash, true));
        world.input(Input::Served { id, ticket });
    }
    assert_eq!(world.served.len(), 20);
    world.input(Input::Served { id, ticket: 3 });
    assert_eq!(world.served.len(), 20, "a ticket counts once");
}

#[test]
fn what_we_lack_is_not_found_and_the_rest_is_served() {
    let chain = Blocks::new(5, 1);
    let (mut world, id) = serving(&chain);
    let unknown = Inventory::WitnessBlock(Blocks::new(6, 2).tip_hash());
    let transaction = Inventory::WitnessTransaction(Txid::all_zeros());
    let known = Inventory::Block(chain.at(5).hash);
    world.message(id, Message::GetData(vec![unknown, transaction, known]));
    assert_eq!(
        world.sent_to_peer(id),
        [&Message::NotFound(vec![unknown, transaction])]
    );
    assert_eq!(world.served.len(), 1);
}

#[test]
fn a_branch_that_never_was_active_is_not_served() {
    let chain = Blocks::new(20, 1);
    let (mut world, id) = serving(&chain);
    let beside = chain.fork(15, 3, 2);
    for header in &beside.headers()[15..] {
        world.node.parts.chain.tree_mut().insert(*header).unwrap();
    }
    world
        .node
        .parts
        .chain
        .tree_mut()
        .mark_stored(&beside.at(16).hash);
    let item = Inventory::WitnessBlock(beside.at(16).hash);
    world.message(id, Message::GetData(vec![item]));
    assert_eq!(world.sent_to_peer(id), [&Message::NotFound(vec![item])]);
}

#[test]
fn a_queue_beyond_the_limit_is_not_found_rather_than_kept() {
    let chain = Blocks::new(1, 1);
    let (mut world, id) = serving(&chain);
    let item = Inventory::WitnessBlock(chain.at(1).hash);
    for _ in 0..2 {
        world.message(id, Message::GetData(vec![item; 50_000]));
    }
    assert_eq!(world.node.parts.serving.queued(id), 50_000);
    let Message::NotFound(lacking) = world.sent_to_peer(id)[0].clone() else {
        panic!()
    };
    // Four of the first went out at once.
    assert_eq!(lacking.len(), 50_000 - 4);
}

#[test]
fn a_peer_that_left_while_it_was_served_is_forgotten() {
    let chain = Blocks::new(9, 1);
    let (mut world, id) = serving(&chain);
    let items: Vec<_> = (1..=9)
        .map(|h| Inventory::WitnessBlock(chain.at(h).hash))
        .collect();
    world.message(id, Message::GetData(items));
    world.leave(id);
    world.input(Input::Served { id, ticket: 0 });
    assert_eq!(world.served.len(), 4);
}

#[test]
fn while_others_have_much_queued_a_peer_may_have_as_much_as_one_getblocks_tells() {
    let chain = Blocks::new(5, 1);
    let (mut world, _) = serving(&chain);
    let item = Inventory::WitnessBlock(chain.at(5).hash);
    for _ in 0..20 {
        let id = world.add_as(&chain, Direction::Inbound, Behaviour::default());
        world.message(id, Message::GetData(vec![item; 50_000]));
    }
    let ids = world.node.ids().into_iter();
    let queued = |id| world.node.parts.serving.queued(id);
    let queues: Vec<usize> = ids.map(queued).collect();
    assert_eq!(queues.iter().filter(|queued| **queued > 600).count(), 5);
    assert!(queues.iter().sum::<usize>() < 260_000, "{queues:?}");
}
