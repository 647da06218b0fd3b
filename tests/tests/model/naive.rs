//! Two managers without any account of what they were told: sets, as btcd has them.
//! `Done` of somebody unknown is shrugged off. They show what becomes of a wiring that
//! the production machines would have refuted with a panic: a zombie.

use std::collections::BTreeSet;

use handfast_proto::lifecycle::{ConnId, Roles};
use handfast_proto::peer_table;
use handfast_proto::sync;

/// A set of peers that forwards what it hears.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct NaiveTable {
    pub(crate) ids: BTreeSet<ConnId>,
    pub(crate) subscribers: Roles,
}

impl NaiveTable {
    pub(crate) fn step(&mut self, input: peer_table::Input) -> Vec<peer_table::Effect> {
        match input {
            peer_table::Input::Add(version_info) => {
                self.ids.insert(version_info.id);
                let (peer, roles) = (version_info, self.subscribers);
                vec![peer_table::Effect::Admit { peer, roles }]
            }
            peer_table::Input::Done(disconnection) => {
                self.ids.remove(&disconnection.id);
                let (id, roles) = (disconnection.id, self.subscribers);
                vec![peer_table::Effect::Retire { id, roles }]
            }
            // Nothing else is fed to it.
            _ => Vec::new(),
        }
    }
}

/// A set of peers, and the one that it syncs from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct NaiveSync {
    pub(crate) ids: BTreeSet<ConnId>,
    pub(crate) source: Option<ConnId>,
}

impl NaiveSync {
    pub(crate) fn step(&mut self, input: sync::Input) -> Vec<sync::Effect> {
        match input {
            sync::Input::Added(version_info) => {
                self.ids.insert(version_info.id);
            }
            sync::Input::Done { id } => {
                self.ids.remove(&id);
                self.source = self.source.filter(|source| *source != id);
            }
            // Nothing else is fed to it.
            _ => {}
        }
        self.source = self.source.or_else(|| self.ids.first().copied());
        Vec::new()
    }
}
