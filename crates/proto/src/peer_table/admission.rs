//! Which connections are peers: the account of their lifecycle, why one is not admitted, and
//! the history of those that ended.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use super::admitted_peers::{AdmittedPeers, Peer};
use super::bans::Bans;
use super::{HistoryRow, MAX_HISTORY};
use crate::lifecycle::{
    AssertHeld, ConnId, Direction, Disconnection, DoneReason, Ledger, Reached, Scope, VersionInfo,
};
use crate::time::Now;

/// Whether there is a network, which every part of the table may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct NetworkState {
    /// The operator did not switch the network off.
    pub(super) active: bool,
    /// The node stops.
    pub(super) draining: bool,
}

impl NetworkState {
    /// Whether connections may be opened.
    pub(super) fn is_open(self) -> bool {
        self.active && !self.draining
    }
}

/// What a connection was that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// An admitted peer.
    Peer(Box<Peer>),
    /// It was refused; its user agent.
    Refused(String),
    /// It never completed its handshake.
    Unknown,
}

/// See the module. Invariant: L1-L3, which its ledger checks; a refused connection is known
/// until its `Done`, and of ended ones the last [`MAX_HISTORY`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Admission {
    ledger: Ledger,
    /// Refused connections whose `Done` is still to come, with their user agents.
    refused: BTreeMap<ConnId, String>,
    history: VecDeque<HistoryRow>,
    /// Inbound connections from there are not in the history.
    unrecorded: Option<IpAddr>,
    network: NetworkState,
}

impl Admission {
    pub(super) fn new() -> Self {
        Self {
            ledger: Ledger::new(Scope::PeerManager),
            refused: BTreeMap::new(),
            history: VecDeque::new(),
            unrecorded: None,
            network: NetworkState {
                active: true,
                draining: false,
            },
        }
    }

    pub(super) fn network(&self) -> NetworkState {
        self.network
    }

    /// Switches the network. False: it was so before.
    pub(super) fn set_active(&mut self, active: bool) -> bool {
        std::mem::replace(&mut self.network.active, active) != active
    }

    /// Admits no peer any more.
    pub(super) fn drain(&mut self) {
        self.network.draining = true;
    }

    /// A connection completed its handshake.
    pub(super) fn began(&mut self, id: ConnId) {
        self.ledger.peer_add(id).assert_held();
    }

    /// Why this newcomer is not admitted, however many slots are free.
    pub(super) fn objection(
        &self,
        now: Now,
        newcomer: &VersionInfo,
        peers: &AdmittedPeers,
        bans: &Bans,
    ) -> Option<DoneReason> {
        if self.network.draining {
            return Some(DoneReason::Shutdown);
        }
        if !self.network.active {
            return Some(DoneReason::Requested);
        }
        if bans.is_banned(newcomer.remote.ip(), now) {
            return Some(DoneReason::Banned);
        }
        let same =
            |peer: &Peer| peer.version_info().remote == newcomer.remote && peer.is_outgoing();
        let duplicate = newcomer.direction.is_outgoing() && peers.values().any(same);
        // The remote port of an inbound connection says nothing about who it is.
        duplicate.then_some(DoneReason::DuplicateConnection)
    }

    /// The newcomer is a peer from now on.
    pub(super) fn admit(&mut self, peer: Peer, peers: &mut AdmittedPeers) {
        self.ledger.admitted(peer.id(), peer.roles()).assert_held();
        peers.insert(peer);
    }

    /// The newcomer is none; its `Done` follows.
    pub(super) fn refuse(&mut self, peer: VersionInfo) {
        self.ledger.refused(peer.id).assert_held();
        self.refused.insert(peer.id, peer.user_agent);
    }

    /// A connection has ended. What it was.
    pub(super) fn ended(&mut self, id: ConnId, peers: &mut AdmittedPeers) -> Ended {
        self.ledger.peer_done(id).assert_held();
        match (peers.remove(id), self.refused.remove(&id)) {
            (Some(peer), _) => Ended::Peer(Box::new(peer)),
            (None, Some(user_agent)) => Ended::Refused(user_agent),
            (None, None) => Ended::Unknown,
        }
    }

    /// Remembers a connection that has ended, in the place of the oldest one.
    pub(super) fn record(
        &mut self,
        now: Now,
        disconnection: Disconnection,
        reached: Reached,
        user_agent: Option<String>,
    ) {
        let Disconnection {
            id,
            direction,
            remote,
            connected_at,
            reached: _,
            reason,
        } = disconnection;
        if direction == Direction::Inbound && self.unrecorded == Some(remote.ip()) {
            return;
        }
        if self.history.len() == MAX_HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(HistoryRow {
            id,
            remote,
            direction,
            user_agent,
            reached,
            reason,
            connected_at: connected_at.unix,
            lasted: now.mono.saturating_sub(connected_at.mono),
            ended_at: now.unix,
        });
    }

    pub(super) fn leave_out_of_history(&mut self, host: Option<IpAddr>) {
        self.unrecorded = host;
    }

    /// Oldest first.
    pub(super) fn history(&self) -> Vec<HistoryRow> {
        self.history.iter().cloned().collect()
    }

    /// Refused connections whose `Done` is awaited.
    pub(super) fn refused(&self) -> impl Iterator<Item = ConnId> + '_ {
        self.refused.keys().copied()
    }

    pub(super) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// All slots are free: no connection is known any more.
    ///
    /// # Panics
    /// When one is (L6).
    pub(super) fn assert_all_free(&self, peers: &AdmittedPeers) {
        self.ledger.all_slots_free().assert_held();
        assert!(
            peers.is_empty() && self.refused.is_empty(),
            "L6: the peer table is not empty"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer_table::admitted_peers::testing::version_info;

    #[test]
    fn a_connection_is_a_peer_or_refused_until_its_end_and_nothing_afterwards() {
        let (mut admission, mut peers) = (Admission::new(), AdmittedPeers::default());
        let now = Now::default();
        let peer = version_info(0, Direction::Inbound, 9);
        let refused = version_info(1, Direction::Inbound, 10);
        admission.began(ConnId(0));
        let sync = crate::lifecycle::Role::Sync.into();
        admission.admit(Peer::new(peer, None, sync, now), &mut peers);
        admission.began(ConnId(1));
        admission.refuse(refused);
        assert_eq!((peers.len(), admission.refused().count()), (1, 1));
        let mut end = |id| admission.ended(ConnId(id), &mut peers);
        assert!(matches!(end(0), Ended::Peer(_)));
        assert!(matches!(end(1), Ended::Refused(_)));
        assert_eq!(end(2), Ended::Unknown);
        admission.assert_all_free(&peers);
    }

    #[test]
    fn a_network_that_is_off_or_stops_refuses_with_its_own_reason() {
        let (mut admission, peers) = (Admission::new(), AdmittedPeers::default());
        let peer = version_info(0, Direction::Inbound, 9);
        let objection = |admission: &Admission| {
            admission.objection(Now::default(), &peer, &peers, &Bans::default())
        };
        assert_eq!(objection(&admission), None);
        assert!(admission.set_active(false) && !admission.set_active(false));
        assert_eq!(objection(&admission), Some(DoneReason::Requested));
        admission.drain();
        assert_eq!(objection(&admission), Some(DoneReason::Shutdown));
        assert!(!admission.network().is_open());
    }
}
