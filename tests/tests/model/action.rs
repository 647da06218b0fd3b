//! What can happen next, and in plain words.

use std::fmt;

use handfast_proto::lifecycle::{ConnId, Reached, Role};

use crate::node::Node;
use crate::remotes::{Kind, Say};
use crate::wiring::Lane;
use crate::world::{Stage, World};

/// One step: a delivery, or something that the outside does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    /// A slot is taken and a connection exists.
    Opens(Kind),
    /// The remote's `version` arrives.
    Version(ConnId),
    /// The remote's `verack` arrives.
    Verack(ConnId),
    /// The remote says something after its handshake.
    Says(ConnId, Say),
    /// The remote closes.
    Closes(ConnId),
    /// The timer of the connection's session fires: handshake, or silence.
    Timer(ConnId),
    /// The connection's actor panics.
    Panics(ConnId),
    /// The connection handles PeerManager's oldest order.
    Obeys(ConnId),
    /// A connection in its handshake hears that the node stops.
    HearsOfTheStop(ConnId),
    /// PeerManager handles the oldest message of its mailbox.
    PeerManager(Lane),
    /// A subscriber handles the oldest message of its mailbox.
    Subscriber(Role, Lane),
    /// Nothing arrives until every request for headers has run out; SyncManager's
    /// timers fire as they fall due.
    Silence,
    /// The operator disconnects a peer.
    Disconnect(ConnId),
    /// The operator bans the host of the full nodes that dial us.
    Ban,
    /// The node stops listening, and tells connections in the handshake.
    StopAccepting,
    /// PeerManager handles `Drain`.
    Drain,
    /// All slots are free: all managers must be empty.
    AllHome,
    /// An `Add` of another sender arrives in the mailbox (mutant a).
    AddArrives(ConnId),
    /// The callback of `verack` runs (mutant c).
    Callback(ConnId),
}

/// How a connection may end by itself, at any point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// [`Action::Closes`].
    Closes,
    /// [`Action::Timer`].
    Timer,
    /// [`Action::Panics`].
    Panics,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Opens(kind) => write!(f, "{}: a slot is taken", kind.words()),
            Self::Version(id) => write!(f, "connection {} sends version", id.0),
            Self::Verack(id) => write!(f, "connection {} sends verack", id.0),
            Self::Says(id, say) => write!(f, "connection {} {}", id.0, say.words()),
            Self::Closes(id) => write!(f, "the remote of {} closes", id.0),
            Self::Timer(id) => write!(f, "the timer of connection {} fires", id.0),
            Self::Panics(id) => write!(f, "the actor of connection {} panics", id.0),
            Self::Obeys(id) => write!(f, "connection {} handles an order to disconnect", id.0),
            Self::HearsOfTheStop(id) => write!(f, "connection {} hears of the stop", id.0),
            Self::PeerManager(Lane::First) => f.write_str("PeerManager handles its oldest message"),
            Self::PeerManager(Lane::Second) => {
                f.write_str("PeerManager handles the oldest message of its second queue")
            }
            Self::Subscriber(role, Lane::First) => write!(f, "{role} handles its oldest message"),
            Self::Subscriber(role, Lane::Second) => {
                write!(f, "{role} handles the oldest message of its second queue")
            }
            Self::Silence => f.write_str("nobody says anything until requests have run out"),
            Self::Disconnect(id) => write!(f, "the operator disconnects {}", id.0),
            Self::Ban => f.write_str("the operator bans the inbound full nodes' host"),
            Self::StopAccepting => f.write_str("the node stops its intake"),
            Self::Drain => f.write_str("PeerManager handles Drain"),
            Self::AllHome => f.write_str("all slots are free: the managers must be empty"),
            Self::AddArrives(id) => write!(f, "the Add of {} arrives at PeerManager", id.0),
            Self::Callback(id) => write!(f, "the callback of {} sends Add", id.0),
        }
    }
}

/// Everything that can happen in `world`. The order is fixed.
pub(crate) fn enabled(node: &Node, world: &World, actions: &mut Vec<Action>) {
    if !world.broken.is_empty() || world.stage == Stage::Stopped {
        return;
    }
    of_connections(node, world, actions);
    for lane in [Lane::First, Lane::Second] {
        if world.to_peers.head(lane).is_some() {
            actions.push(Action::PeerManager(lane));
        }
        let with_mail = world
            .to
            .iter()
            .filter(|(_, mail)| mail.head(lane).is_some());
        actions.extend(with_mail.map(|(role, _)| Action::Subscriber(*role, lane)));
    }
    actions.extend(world.underway.keys().map(|id| Action::AddArrives(*id)));
    actions.extend(world.callbacks.keys().map(|id| Action::Callback(*id)));
    of_the_node(node, world, actions);
}

fn of_connections(node: &Node, world: &World, actions: &mut Vec<Action>) {
    let may_open = world.opened < node.connections && world.free_slots > 0;
    if may_open && world.stage == Stage::Running {
        actions.extend(node.kinds.iter().map(|kind| Action::Opens(*kind)));
    }
    for (&id, conn) in &world.conns {
        match conn.reached() {
            Reached::Connected => actions.push(Action::Version(id)),
            // Mutant (c): the connection has seen it, and its callback has not run.
            Reached::Version if world.callbacks.contains_key(&id) => {}
            Reached::Version => actions.push(Action::Verack(id)),
            Reached::Handshake | Reached::Admitted => {
                if !conn.spoke {
                    actions.extend(node.says.iter().map(|say| Action::Says(id, *say)));
                }
            }
        }
        actions.extend(node.ends.iter().map(|end| match end {
            End::Closes => Action::Closes(id),
            End::Timer => Action::Timer(id),
            End::Panics => Action::Panics(id),
        }));
        if !conn.orders.is_empty() {
            actions.push(Action::Obeys(id));
        }
        if world.sees_the_drain(conn) {
            actions.push(Action::HearsOfTheStop(id));
        }
    }
}

fn of_the_node(node: &Node, world: &World, actions: &mut Vec<Action>) {
    let timers = world.sync.deadline().is_some();
    if world.silences < node.silences && timers {
        actions.push(Action::Silence);
    }
    if node.operator {
        let open = world.table.ids.difference(&world.table.closing);
        actions.extend(open.map(|id| Action::Disconnect(*id)));
    }
    if node.bans && !world.table.has_bans() {
        actions.push(Action::Ban);
    }
    match world.stage {
        Stage::Running if node.stops => actions.push(Action::StopAccepting),
        Stage::IntakeStopped => actions.push(Action::Drain),
        Stage::Draining if world.free_slots == node.slots => actions.push(Action::AllHome),
        Stage::Running | Stage::Draining | Stage::Stopped => {}
    }
}
