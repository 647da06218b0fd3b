//! Which messages sync handles: those that the table of messages gives it.

use bytes::Bytes;
use handfast_wire::{HandledBy, Kind, Message};

use super::super::step::Step;
use super::chains::Blocks;
use super::secs;
use super::world::World;

/// A message of this kind: what so many zeros are decoded to.
fn sample(kind: Kind) -> Message {
    let mut decoded = [0usize, 1, 8, 200].into_iter().filter_map(|length| {
        let payload = Bytes::from(vec![0; length]);
        Message::decode(kind.name(), payload).ok()
    });
    decoded
        .find(|message| message.kind() == Some(kind))
        .unwrap_or_else(|| panic!("{} has no sample", kind.name()))
}

#[test]
fn every_message_that_the_table_gives_to_sync_has_a_handler_and_no_other_has() {
    for kind in Kind::ALL {
        let chain = Blocks::new(5, 1);
        let mut world = World::new();
        let id = world.add(&chain);
        world.run(secs(1));
        let mut step = Step::new(world.now);
        let handled = world.node.handle(&mut step, id, &sample(kind));
        let expected = kind.handled_by() == HandledBy::SyncManager;
        assert_eq!(handled, expected, "{}", kind.name());
    }
}
