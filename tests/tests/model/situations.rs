//! What must really happen somewhere, or the model would prove nothing.

use handfast_proto::lifecycle::{DoneReason, Reached, Role};
use handfast_proto::peer_table::Order;
use stateright::Property;

use crate::node::Node;
use crate::world::{Stage, ToPeers, World};

macro_rules! situations {
    ($($name:ident: $text:literal, $holds:expr;)+) => {
        /// A situation that some state must be in.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Situation { $($name),+ }

        /// All of them.
        pub(crate) const SITUATIONS: &[Situation] = &[$(Situation::$name),+];

        impl Situation {
            /// As a property that some state must have.
            pub(crate) fn property(self) -> Property<Node> {
                match self {
                    $(Self::$name => Property::sometimes($text, |node, world| {
                        let holds: fn(&Node, &World) -> bool = $holds;
                        holds(node, world) && node.first(Situation::$name)
                    })),+
                }
            }
        }
    };
}

situations! {
    Admitted: "a connection is admitted", |_, world| !world.table.ids.is_empty();
    Refused: "a connection is refused after its handshake for want of room", |_, world| {
        ordered(world, |reason| matches!(reason, DoneReason::Refused(_)))
    };
    Duplicate: "a second connection to one address is refused", |_, world| {
        ordered(world, |reason| *reason == DoneReason::DuplicateConnection)
    };
    Evicted: "a peer is evicted while the newcomer is in the table", |_, world| {
        ordered(world, |reason| *reason == DoneReason::Evicted) && world.table.ids.len() > 1
    };
    BannedPeer: "a peer is banned while it is in the table", |_, world| {
        let banned = |reason: &DoneReason| *reason == DoneReason::Banned;
        ordered(world, banned) && !world.table.closing.is_empty()
    };
    BannedNewcomer: "a connection from a banned host is refused", |_, world| {
        let banned = |reason: &DoneReason| *reason == DoneReason::Banned;
        ordered(world, banned) && !world.table.refused.is_empty()
    };
    Discouraged: "a host is discouraged for what its peer sent", |_, world| {
        world.table.has_discouraged()
    };
    TimeoutAtVerack: "the handshake times out with verack due", |_, world| {
        done(world, |reason, reached| {
            *reason == DoneReason::HandshakeTimeout && reached == Reached::Version
        })
    };
    DisconnectAfterVerack: "a connection ends with its Add unhandled", |_, world| {
        let mut added = world.to_peers.iter().filter_map(|mail| match mail {
            ToPeers::Add(version_info) => Some(version_info.id),
            ToPeers::Said(..) | ToPeers::Done(..) | ToPeers::Order(..) => None,
        });
        added.any(|id| !world.conns.contains_key(&id))
    };
    Panicked: "a connection's actor panics", |_, world| {
        done(world, |reason, _| *reason == DoneReason::Panicked)
    };
    DoneInFlight: "SyncManager has a peer that PeerManager has not", |_, world| {
        world.sync.ids.iter().any(|id| !world.table.ids.contains(id))
    };
    OrderForTheGone: "SyncManager's order arrives for a peer that has gone", |_, world| {
        world.to_peers.iter().any(|mail| match mail {
            ToPeers::Order(_, order) => match &**order {
                Order::Disconnect { id, .. } => !world.table.ids.contains(id),
                Order::Send { .. } | Order::Useful { .. } | Order::MorePeers => false,
            },
            ToPeers::Add(_) | ToPeers::Said(..) | ToPeers::Done(..) => false,
        })
    };
    Successor: "another peer is the source while the last one leaves", |_, world| {
        !world.sync.leaving.is_empty() && world.sync.source.is_some()
    };
    Aside: "the only peers may not be the source for now", |_, world| {
        world.sync.eligible.is_empty() && !world.sync.ineligible.is_empty()
    };
    Crowded: "as many lifecycle messages are queued as L5 allows", |node, world| {
        world.lifecycle_messages() == 2 * node.subscribers.len() * node.slots
    };
    Unwanted: "a connection is one subscriber's and not the other's", |_, world| {
        world.sync.ids.iter().any(|id| world.table.notified_of(*id) == Role::Sync.into())
    };
    OneIsBehind: "a slot waits for the second subscriber, which has the connection yet", |_, world| {
        world.second.ids.iter().any(|id| {
            !world.table.ids.contains(id) && !world.sync.ids.contains(id)
        })
    };
    TwoOrders: "both subscribers want the same peer disconnected", |_, world| {
        let wanted = |by: Role| world.to_peers.iter().filter_map(move |mail| match mail {
            ToPeers::Order(from, order) if *from == by => match &**order {
                Order::Disconnect { id, .. } => Some(*id),
                Order::Send { .. } | Order::Useful { .. } | Order::MorePeers => None,
            },
            ToPeers::Order(..) | ToPeers::Add(_) | ToPeers::Said(..) | ToPeers::Done(..) => None,
        });
        wanted(Role::Sync).any(|id| wanted(Role::Test).any(|other| other == id))
    };
    AllUsed: "every connection there may be has been, by slots used again", |node, world| {
        world.opened == node.connections && world.opened > node.slots as u64
    };
    StopInHandshake: "the node stops with a connection in its handshake", |_, world| {
        world.conns.values().any(|conn| world.sees_the_drain(conn))
    };
    DrainWithAdd: "the drain overtakes an Add, which is refused", |_, world| {
        world.stage >= Stage::Draining && !world.table.refused.is_empty()
    };
    DrainWithDone: "the drain comes with a Done on its way to SyncManager", |_, world| {
        world.stage == Stage::Draining && !world.done_in_flight(Role::Sync).is_empty()
    };
    Stopped: "the node stops with every slot free", |_, world| {
        world.stage == Stage::Stopped && world.opened > 0
    };
}

/// An order to disconnect with such a reason is on its way to its connection.
fn ordered(world: &World, which: impl Fn(&DoneReason) -> bool) -> bool {
    let mut orders = world.conns.values().flat_map(|conn| &conn.orders);
    orders.any(which)
}

/// A Done with such a reason is on its way to PeerManager.
fn done(world: &World, which: impl Fn(&DoneReason, Reached) -> bool) -> bool {
    world.to_peers.iter().any(|mail| match mail {
        ToPeers::Done(disconnection, _) => which(&disconnection.reason, disconnection.reached),
        ToPeers::Add(_) | ToPeers::Said(..) | ToPeers::Order(..) => false,
    })
}
