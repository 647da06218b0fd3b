//! The audit: do sockets, slots and both tables show the same connections?
//!
//! The question takes the way of the lifecycle messages, through PeerManager to
//! SyncManager. Both mailboxes are first in, first out, so SyncManager is looked at
//! when it has handled exactly what PeerManager had handled when *it* was: the two
//! tables are one consistent cut, on a busy node too, and have to be equal. Sockets
//! are counted beside that and agree once the node is quiet.

use std::collections::BTreeSet;

use handfast_proto::lifecycle::ConnId;

use crate::slots::Census;

/// Lifecycle messages that a manager has handled since start. Its ledger checked
/// each of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Handled {
    /// `Add`s.
    pub adds: u64,
    /// `Done`s.
    pub dones: u64,
}

impl Handled {
    fn events(self) -> u64 {
        self.adds + self.dones
    }
}

/// Lifecycle messages that are posted and not yet handled (L5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LifecycleQueue {
    /// Now.
    pub queued: usize,
    /// The most that ever were.
    pub most: usize,
    /// As many may be: two per slot.
    pub bound: usize,
}

/// What the node holds, at one moment. See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit {
    /// Connections whose socket is open, handshake included.
    pub sockets: usize,
    /// Of those, the ones whose handshake is not complete.
    pub in_handshake: usize,
    /// Slots there are, all kinds together.
    pub slots_total: usize,
    /// Of those, the ones that a connection holds.
    pub slots_taken: usize,
    /// PeerManager's table.
    pub peer_table: BTreeSet<ConnId>,
    /// SyncManager's table.
    pub sync_table: BTreeSet<ConnId>,
    /// The peer that headers are synced from.
    pub sync_peer: Option<ConnId>,
    /// Lifecycle messages on their way.
    pub lifecycle: LifecycleQueue,
    /// What PeerManager has handled.
    pub peer_manager: Handled,
    /// What SyncManager has handled.
    pub sync_manager: Handled,
}

/// One of the lifecycle's invariants, and how it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invariant {
    /// `"L1"` to `"L6"`.
    pub name: &'static str,
    /// What it says.
    pub says: &'static str,
    /// Whether it holds.
    pub held: bool,
    /// What that was judged by.
    pub judged_by: String,
}

impl Audit {
    pub(crate) fn new(
        census: Census,
        peers: (BTreeSet<ConnId>, Handled),
        sync: (BTreeSet<ConnId>, Option<ConnId>, Handled),
    ) -> Self {
        let (peer_table, peer_manager) = peers;
        let (sync_table, sync_peer, sync_manager) = sync;
        Self {
            sockets: census.sockets,
            in_handshake: census.in_handshake,
            slots_total: census.total,
            slots_taken: census.taken,
            peer_table,
            sync_table,
            sync_peer,
            lifecycle: LifecycleQueue {
                queued: census.queued,
                most: census.most_queued,
                bound: census.bound(),
            },
            peer_manager,
            sync_manager,
        }
    }

    /// Whether open sockets, peer table and sync table show the same connections.
    #[must_use]
    pub fn agrees(&self) -> bool {
        let ready = self.sockets.checked_sub(self.in_handshake);
        ready == Some(self.peer_table.len()) && self.tables_are_one()
    }

    fn tables_are_one(&self) -> bool {
        self.peer_table == self.sync_table
            && self
                .sync_peer
                .is_none_or(|id| self.sync_table.contains(&id))
    }

    /// L1 to L6, as far as they can be judged from inside the node.
    #[must_use]
    pub fn invariants(&self) -> Vec<Invariant> {
        let by_peers = self.peer_manager.events();
        let by_sync = self.sync_manager.events();
        let asserted = |events: u64, whose: &str| {
            format!(
                "asserted by {whose} at each of {events} events; a violation ends the node, and it runs"
            )
        };
        let (peers, sync) = (self.peer_table.len(), self.sync_table.len());
        let LifecycleQueue {
            queued,
            most,
            bound,
        } = self.lifecycle;
        // Each connection that SyncManager knows holds a slot until it has handled Done.
        let slots_cover_tables = self.slots_taken >= peers.max(sync);
        let line = |name, says, held, judged_by| Invariant {
            name,
            says,
            held,
            judged_by,
        };
        vec![
            line(
                "L1",
                "a connection id is never used again",
                true,
                asserted(by_peers, "PeerManager's ledger"),
            ),
            line(
                "L2",
                "per connection: Add at most once, Done exactly once, Add first",
                true,
                asserted(by_peers + by_sync, "both managers' ledgers"),
            ),
            line(
                "L3",
                "SyncManager sees Add and Done of exactly the connections that PeerManager admitted",
                true,
                asserted(
                    by_sync,
                    "SyncManager's ledger, with a sender that admits in its table only,",
                ),
            ),
            line(
                "L4",
                "SyncManager's peers are in PeerManager's table or their Done is in flight; the sync peer is one of them",
                self.tables_are_one(),
                format!(
                    "compared when SyncManager had handled what PeerManager had: {peers} in the peer table, {sync} in the sync table"
                ),
            ),
            line(
                "L5",
                "queued lifecycle messages never exceed two per slot",
                most <= bound,
                format!(
                    "counted: {queued} now, {most} at most ever, {bound} allowed; asserted at each of {} events",
                    by_peers + by_sync
                ),
            ),
            line(
                "L6",
                "all slots home: both tables are empty",
                slots_cover_tables,
                format!(
                    "counted: {} of {} slots taken, {peers} in the peer table, {sync} in the sync table; asserted at shutdown",
                    self.slots_taken, self.slots_total
                ),
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clean() -> Audit {
        Audit {
            sockets: 2,
            in_handshake: 1,
            slots_total: 10,
            slots_taken: 2,
            peer_table: [ConnId(1)].into(),
            sync_table: [ConnId(1)].into(),
            sync_peer: Some(ConnId(1)),
            lifecycle: LifecycleQueue {
                queued: 0,
                most: 20,
                bound: 20,
            },
            peer_manager: Handled { adds: 1, dones: 0 },
            sync_manager: Handled { adds: 1, dones: 0 },
        }
    }

    fn broken(audit: &Audit) -> Vec<&'static str> {
        let lines = audit.invariants();
        assert_eq!(lines.len(), 6);
        let broken = lines.iter().filter(|line| !line.held);
        broken.map(|line| line.name).collect()
    }

    #[test]
    fn each_broken_count_is_told_by_the_invariant_that_it_breaks() {
        assert!(clean().agrees());
        assert_eq!(broken(&clean()), [""; 0]);
        let with = |change: fn(&mut Audit)| {
            let mut audit = clean();
            change(&mut audit);
            broken(&audit)
        };
        assert_eq!(with(|audit| audit.peer_table.clear()), ["L4"]);
        assert_eq!(with(|audit| audit.sync_peer = Some(ConnId(7))), ["L4"]);
        assert_eq!(with(|audit| audit.lifecycle.most = 21), ["L5"]);
        assert_eq!(with(|audit| audit.slots_taken = 0), ["L6"]);
    }

    #[test]
    fn a_ghost_in_one_table_or_a_socket_without_a_row_is_no_agreement() {
        let with = |change: fn(&mut Audit)| {
            let mut audit = clean();
            change(&mut audit);
            audit.agrees()
        };
        assert!(!with(
            |audit| audit.sync_table = [ConnId(1), ConnId(2)].into()
        ));
        assert!(!with(|audit| audit.sockets = 3));
        assert!(!with(|audit| (audit.sockets, audit.in_handshake) = (0, 1)));
    }
}
