//! One manual peer: how it was named, and the state of connecting to it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use super::super::AddedNode;
use super::super::admitted_peers::Peer;
use super::super::outlook::{Attempt, DialFailure, ManualPeer};
use super::target::Target;
use crate::lifecycle::{ConnId, VersionInfo};
use crate::time::Now;

/// How a node came to be named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Given {
    /// `--connect`: not limited, not removable.
    Connect,
    /// `--add-node`, `addnode add`.
    Added,
    /// `addnode onetry`: forgotten after the try.
    Once,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum State {
    /// To be dialled then.
    Waiting(Duration),
    /// Being looked up; has failed then.
    Resolving(Duration),
    Dialling,
    Connected {
        id: ConnId,
        since: Duration,
        /// It was dialled for this: one of the limited slots is taken.
        own: bool,
    },
}

/// A manual peer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Node {
    pub(super) given: Given,
    pub(super) target: Target,
    /// Where it is, as far as that is known: its address, or those of the last look-up.
    pub(super) addresses: BTreeSet<SocketAddr>,
    pub(super) failures: u32,
    /// The last failure since it was connected.
    pub(super) failure: Option<DialFailure>,
    pub(super) state: State,
}

impl Node {
    pub(super) fn new(given: Given, target: Target, now: Now) -> Self {
        let addresses = match &target {
            Target::Address(addr) => BTreeSet::from([*addr]),
            Target::Host { .. } => BTreeSet::new(),
        };
        Self {
            given,
            target,
            addresses,
            failures: 0,
            failure: None,
            state: State::Waiting(now.mono),
        }
    }

    /// When something is to be done about it.
    pub(super) fn due(&self) -> Option<Duration> {
        match self.state {
            State::Waiting(at) | State::Resolving(at) => Some(at),
            State::Dialling | State::Connected { .. } => None,
        }
    }

    pub(super) fn is_active(&self) -> bool {
        match self.state {
            State::Waiting(_) => false,
            State::Resolving(_) | State::Dialling => true,
            State::Connected { own, .. } => own,
        }
    }

    pub(super) fn row(&self, name: &str, peers: &BTreeMap<ConnId, Peer>) -> Option<AddedNode> {
        let connected = match self.state {
            State::Connected { id, .. } => peers.get(&id).map(|peer| {
                let VersionInfo {
                    remote, direction, ..
                } = peer.version_info();
                (id, *remote, *direction)
            }),
            State::Waiting(_) | State::Resolving(_) | State::Dialling => None,
        };
        let row = AddedNode {
            name: name.to_owned(),
            connected,
            failure: self.failure.clone(),
        };
        (self.given == Given::Added).then_some(row)
    }

    /// As it is shown, by whichever option or call it was named.
    pub(super) fn manual(&self, name: &str) -> ManualPeer {
        let attempt = match self.state {
            State::Waiting(until) => Attempt::Waiting { until },
            State::Resolving(_) => Attempt::LookingUp,
            State::Dialling => Attempt::Connecting,
            State::Connected { id, .. } => Attempt::Connected(id),
        };
        ManualPeer {
            name: name.to_owned(),
            attempt,
            failure: self.failure.clone(),
        }
    }
}
