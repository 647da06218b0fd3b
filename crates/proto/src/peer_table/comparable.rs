//! What admission depends on, in a form that can be compared.

use std::collections::{BTreeMap, BTreeSet};

use super::PeerTable;
use crate::lifecycle::{ConnId, Direction, Ledger};

/// What the invariants L1-L3 and admission are about, without history, addresses and
/// what is only shown: two tables of the same configuration and with the same bans that
/// agree in it do the same with the next `Add`, `Done` or order, while nothing is dialled
/// no round trip or block is reported, and no peer has the grace of a newcomer
/// ([`PeerTableConfig::newcomer_grace`](super::PeerTableConfig::newcomer_grace)).
///
/// For a model checker, which must tell states apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TableLifecycle {
    /// The admitted peers: who dialled, and whether the peer is being disconnected.
    pub admitted: BTreeMap<ConnId, (Direction, bool)>,
    /// Refused connections whose `Done` is awaited.
    pub refused: BTreeSet<ConnId>,
    /// Most automatic outbound peers just now.
    pub outbound_limit: usize,
    /// The node stops.
    pub draining: bool,
    /// The table's own account of the invariants.
    pub ledger: Ledger,
}

impl PeerTable {
    /// See [`TableLifecycle`].
    #[must_use]
    pub fn lifecycle(&self) -> TableLifecycle {
        let admitted = self.peers.iter().map(|(id, peer)| {
            let direction = peer.version_info().direction;
            (*id, (direction, peer.closing()))
        });
        TableLifecycle {
            admitted: admitted.collect(),
            refused: self.admission.refused().collect(),
            outbound_limit: self.outbound_limit(),
            draining: self.admission.network().draining,
            ledger: self.admission.ledger().clone(),
        }
    }
}
