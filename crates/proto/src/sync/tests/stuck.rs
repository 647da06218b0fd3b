//! States that whole nodes came into under the simulator and did not leave, or died of.

use handfast_wire::{Message, Network};

use crate::lifecycle::Direction;

use super::super::SyncConfig;
use super::chains::Blocks;
use super::secs;
use super::world::{Behaviour, World};

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
