//! What holds in every state: L1-L6, S3, and what is true when nothing is on its way.

use std::collections::BTreeSet;

use handfast_proto::lifecycle::{ConnId, Direction, Reached, Role};
use handfast_proto::peer_table::max_leaving;
use stateright::Property;

use crate::node::Node;
use crate::world::{Stage, World};

pub(crate) const L1: &str = "L1: an id is never used again";
pub(crate) const L2: &str = "L2: Add at most once, Done once, Add first";
pub(crate) const L3: &str = "L3: each subscriber hears of exactly those that PeerManager admitted \
                             and that it wants";
pub(crate) const L4: &str = "L4: a subscriber's peers are in the peer table, or their Done is \
                             in flight; the source is one of SyncManager's";
pub(crate) const L5: &str = "L5: never more than two lifecycle messages per slot on the way to \
                             one subscriber";
pub(crate) const L6: &str = "L6: all slots free, all tables empty";
pub(crate) const S3: &str = "S3: while anybody could be the source, somebody is";
pub(crate) const GHOST: &str = "rest: nobody is in a table whose connection is gone";
pub(crate) const REST: &str =
    "rest: what is ready is in all tables that want it, all other slots are free";
const LIMITS: &str = "limits: the table and the slots are never overdrawn";
const WATCHDOG: &str = "the watchdog finds nothing to repair";
const PANICS: &str = "no machine panics";

/// The names of all of them.
pub(crate) const NAMES: [&str; 12] = [
    L1, L2, L3, L4, L5, L6, S3, GHOST, REST, LIMITS, WATCHDOG, PANICS,
];

/// Every invariant, as a property of the model.
pub(crate) fn invariants() -> Vec<Property<Node>> {
    vec![
        Property::always(L1, |_, world: &World| !world.is_broken("L1")),
        Property::always(L2, |_, world: &World| !world.is_broken("L2")),
        Property::always(L3, |node, world: &World| {
            !world.is_broken("L3") && agrees(node, world)
        }),
        Property::always(L4, |_, world: &World| {
            !world.is_broken("L4") && contained(world)
        }),
        Property::always(L5, |node, world: &World| {
            !world.is_broken("L5") && world.most_on_a_way() <= 2 * node.slots
        }),
        Property::always(L6, |_, world: &World| !world.is_broken("L6")),
        Property::always(S3, |_, world: &World| {
            !world.is_broken("S3") && has_source(world)
        }),
        Property::always(GHOST, |_, world: &World| {
            !world.at_rest() || !haunted(world)
        }),
        Property::always(REST, |node, world: &World| {
            !world.at_rest() || settled(node, world)
        }),
        Property::always(LIMITS, within_limits),
        Property::always(WATCHDOG, |_, world: &World| !world.sync.repaired),
        Property::always(PANICS, |_, world: &World| !world.is_broken("?")),
    ]
}

/// The observer, who saw messages only, knows the same peers as the managers.
fn agrees(node: &Node, world: &World) -> bool {
    let same = |observed: &mut dyn Iterator<Item = ConnId>, table: &BTreeSet<ConnId>| {
        observed.eq(table.iter().copied())
    };
    !node.observed
        || !world.broken.is_empty()
        || (same(&mut world.ledger.at_peers(), &world.table.ids)
            && world
                .subscribers()
                .all(|(role, ids)| same(&mut world.ledger.at(role), ids))
            && world.ledger.queued() == world.lifecycle_messages())
}

fn contained(world: &World) -> bool {
    let all_known = |(role, ids): (Role, &BTreeSet<ConnId>)| {
        let in_flight = world.done_in_flight(role);
        let known = |id: &ConnId| world.table.ids.contains(id) || in_flight.contains(id);
        ids.iter().all(known)
    };
    let source = world.sync.source.iter();
    world.subscribers().all(all_known)
        && source
            .into_iter()
            .all(|id| world.sync.ids.contains(id) && !world.sync.leaving.contains(id))
}

fn has_source(world: &World) -> bool {
    match world.sync.source {
        Some(source) => world.sync.eligible.contains(&source),
        None => world.sync.eligible.is_empty(),
    }
}

/// A table has a connection that is gone.
fn haunted(world: &World) -> bool {
    let gone = |id: &ConnId| !world.conns.contains_key(id);
    let mut subscribers = world.subscribers();
    world.table.ids.iter().any(gone) || subscribers.any(|(_, ids)| ids.iter().any(gone))
}

/// Nothing is on its way, so everybody has heard everything.
fn settled(node: &Node, world: &World) -> bool {
    let ready = world
        .conns
        .iter()
        .filter(|(_, conn)| conn.reached() >= Reached::Handshake);
    let ready: BTreeSet<ConnId> = ready.map(|(id, _)| *id).collect();
    let wanted = |role: Role| -> BTreeSet<ConnId> {
        let told = |id: &&ConnId| !node.observed || world.table.notified_of(**id).contains(role);
        ready.iter().filter(told).copied().collect()
    };
    let nobody_closing = world.table.closing.is_empty() && world.table.refused.is_empty();
    let home = node.slots - world.conns.len();
    let stopping = world.stage >= Stage::Draining;
    world.table.ids == ready
        && world.subscribers().all(|(role, ids)| *ids == wanted(role))
        && nobody_closing
        && world.free_slots == home
        && (!stopping || world.conns.is_empty())
}

fn within_limits(node: &Node, world: &World) -> bool {
    let inbound = |id: &&ConnId| {
        let conn = world.conns.get(*id);
        conn.is_some_and(|conn| conn.kind.direction() == Direction::Inbound)
    };
    let staying = world.table.ids.difference(&world.table.closing);
    let admitted = world.table.ids.iter().filter(inbound).count();
    !node.observed
        || (staying.filter(inbound).count() <= node.max_inbound
            && admitted <= node.max_inbound + max_leaving(node.max_inbound)
            && world.free_slots <= node.slots
            && world.conns.len() <= node.slots)
}
