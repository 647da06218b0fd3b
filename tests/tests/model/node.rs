//! The model: a node of a certain size and wiring, and what must hold of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use handfast_proto::lifecycle::{Role, Roles};
use stateright::{Model, Property};

use crate::action::{self, Action, End};
use crate::machines::{Sync, Table};
use crate::properties;
use crate::remotes::{Kind, Say};
use crate::situations::{SITUATIONS, Situation};
use crate::wiring::Wiring;
use crate::world::World;

/// A configuration of the model.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// Connections that may ever be.
    pub(crate) connections: u64,
    /// Connections that may be at a time.
    pub(crate) slots: usize,
    /// Inbound peers that the table admits.
    pub(crate) max_inbound: usize,
    /// Who may connect.
    pub(crate) kinds: Vec<Kind>,
    /// What a remote may say after its handshake.
    pub(crate) says: Vec<Say>,
    /// Silences that may pass.
    pub(crate) silences: u8,
    /// Whether SyncManager's messages to remotes are modelled.
    pub(crate) sends: bool,
    /// How a connection may end besides by an order.
    pub(crate) ends: Vec<End>,
    /// Whether an operator disconnects peers.
    pub(crate) operator: bool,
    /// Whether an operator bans a host.
    pub(crate) bans: bool,
    /// Whether the node may stop.
    pub(crate) stops: bool,
    pub(crate) wiring: Wiring,
    /// PeerManager's subscribers.
    pub(crate) subscribers: Roles,
    /// The production managers, observed; or naive ones, to see what becomes of a bad wiring.
    pub(crate) observed: bool,
    /// What must really happen somewhere among the states.
    pub(crate) situations: Vec<Situation>,
    /// Which of [`SITUATIONS`] were seen.
    pub(crate) seen: Arc<[AtomicBool; SITUATIONS.len()]>,
}

impl Node {
    /// `connections` of full nodes that dial us, and everything that can end one.
    pub(crate) fn new(connections: u64, slots: usize, max_inbound: usize) -> Self {
        Self {
            connections,
            slots,
            max_inbound,
            kinds: vec![Kind::Inbound],
            says: Vec::new(),
            silences: 0,
            sends: true,
            ends: vec![End::Closes, End::Timer, End::Panics],
            operator: false,
            bans: false,
            stops: true,
            wiring: Wiring::AsBuilt,
            subscribers: Role::Sync.into(),
            observed: true,
            situations: Vec::new(),
            seen: Arc::new([const { AtomicBool::new(false) }; SITUATIONS.len()]),
        }
    }

    /// Whether this is the first state that is found to be in the situation. Each is
    /// reported once: the checker would keep the path of every such state.
    pub(crate) fn first(&self, situation: Situation) -> bool {
        let seen = &self.seen[situation as usize];
        !seen.load(Ordering::Relaxed) && !seen.swap(true, Ordering::Relaxed)
    }
}

impl Model for Node {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let (table, sync) = if self.observed {
            let table = Table::production(self.max_inbound, self.subscribers);
            (table, Sync::production())
        } else {
            (Table::naive(self.subscribers), Sync::naive())
        };
        vec![World::new(self.slots, table, sync, self.subscribers)]
    }

    fn actions(&self, state: &World, actions: &mut Vec<Action>) {
        action::enabled(self, state, actions);
    }

    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        let mut next = last.clone();
        next.act(self, action);
        Some(next)
    }

    fn format_action(&self, action: &Action) -> String {
        action.to_string()
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = properties::invariants();
        properties.extend(self.situations.iter().map(|which| which.property()));
        properties
    }
}
