use super::*;
use proptest::prelude::*;

fn whole() -> Ledger {
    Ledger::new(Scope::Whole)
}

fn invariant(result: Result<(), Violation>) -> &'static str {
    result.expect_err("the ledger must object").invariant
}

const A: ConnId = ConnId(1);
const B: ConnId = ConnId(2);

/// Adds and admits `id` at both managers.
fn live(ledger: &mut Ledger, id: ConnId) {
    ledger.peer_add(id).expect("fresh");
    ledger.admitted(id).expect("undecided");
    ledger.sync_add(id).expect("admitted");
}

#[test]
fn done_that_overtakes_add_is_a_reused_id() {
    let mut ledger = whole();
    ledger.peer_done(A).expect("a handshake may fail");
    assert_eq!(invariant(ledger.peer_add(A)), "L1");
}

#[test]
fn done_twice_breaks_l2_at_both_managers() {
    let mut ledger = whole();
    ledger.peer_done(A).expect("first");
    assert_eq!(invariant(ledger.peer_done(A)), "L2");
    live(&mut ledger, B);
    ledger.peer_done(B).expect("first");
    assert_eq!(
        invariant(ledger.peer_done(B)),
        "L2",
        "while SyncManager's Done is in flight"
    );
    ledger.sync_done(B).expect("first");
    assert_eq!(invariant(ledger.sync_done(B)), "L2");
    assert_eq!(invariant(ledger.peer_done(B)), "L2");
}

#[test]
fn add_twice_breaks_l2() {
    let mut ledger = whole();
    live(&mut ledger, A);
    assert_eq!(invariant(ledger.peer_add(A)), "L2");
    assert_eq!(invariant(ledger.sync_add(A)), "L2");
}

#[test]
fn sync_hears_of_admitted_connections_only() {
    let mut ledger = whole();
    ledger.peer_add(A).expect("fresh");
    ledger.refused(A).expect("undecided");
    assert_eq!(invariant(ledger.sync_add(A)), "L3");
    assert_eq!(invariant(ledger.sync_add(B)), "L3", "never added at all");
    ledger.peer_done(A).expect("first");
    assert_eq!(invariant(ledger.sync_done(A)), "L2");
}

#[test]
fn sync_must_not_retire_a_peer_that_peer_manager_still_has() {
    let mut ledger = whole();
    live(&mut ledger, A);
    assert_eq!(invariant(ledger.sync_done(A)), "L3");
}

#[test]
fn an_undecided_add_is_noticed_at_done() {
    let mut ledger = Ledger::new(Scope::PeerManager);
    ledger.peer_add(A).expect("fresh");
    assert_eq!(invariant(ledger.peer_done(A)), "L3");
}

#[test]
fn a_decision_is_made_once() {
    let mut ledger = Ledger::new(Scope::PeerManager);
    ledger.peer_add(A).expect("fresh");
    ledger.admitted(A).expect("undecided");
    assert_eq!(invariant(ledger.refused(A)), "L3");
    assert_eq!(invariant(ledger.admitted(B)), "L3", "never added");
}

#[test]
fn a_dead_sync_peer_breaks_l4() {
    let mut ledger = whole();
    live(&mut ledger, A);
    ledger.sync_peer(Some(A)).expect("live");
    ledger.peer_done(A).expect("first");
    ledger
        .sync_peer(Some(A))
        .expect("its Done is in flight, that is allowed");
    ledger.sync_done(A).expect("first");
    assert_eq!(invariant(ledger.sync_peer(Some(A))), "L4");
    ledger.sync_peer(None).expect("none is always true");
}

#[test]
fn a_third_queued_message_breaks_l5() {
    let mut ledger = whole();
    ledger.posted(A).expect("Add");
    ledger.posted(A).expect("Done");
    assert_eq!(invariant(ledger.posted(A)), "L5");
}

#[test]
fn a_forwarded_message_counts_against_l5_until_it_is_handled() {
    let mut ledger = whole();
    ledger.posted(A).expect("Add");
    ledger.peer_add(A).expect("fresh");
    ledger.admitted(A).expect("undecided");
    ledger.posted(A).expect("Done; the forwarded Add makes two");
    assert_eq!(ledger.queued(), 2);
    assert_eq!(invariant(ledger.posted(A)), "L5");
}

#[test]
fn a_connection_left_when_all_slots_are_home_breaks_l6() {
    let mut ledger = whole();
    live(&mut ledger, A);
    ledger.peer_done(A).expect("first");
    assert_eq!(
        invariant(ledger.slots_home()),
        "L6",
        "SyncManager still has it"
    );
    ledger.sync_done(A).expect("first");
    ledger.slots_home().expect("both tables are empty");
}

#[test]
fn ids_may_end_out_of_order() {
    let mut ledger = Ledger::new(Scope::PeerManager);
    ledger.peer_done(ConnId(5)).expect("first");
    ledger.peer_add(ConnId(4)).expect("a slower handshake");
    ledger.admitted(ConnId(4)).expect("undecided");
    ledger.peer_done(ConnId(4)).expect("first");
    assert_eq!(ledger.ended.len(), 1, "4 and 5 are one run");
    assert_eq!(invariant(ledger.peer_add(ConnId(5))), "L1");
}

#[test]
fn the_ends_of_the_id_space_do_not_overflow() {
    let mut ledger = Ledger::new(Scope::PeerManager);
    ledger.peer_done(ConnId(0)).expect("first");
    ledger.peer_done(ConnId(u64::MAX)).expect("first");
    assert_eq!(invariant(ledger.peer_done(ConnId(u64::MAX))), "L2");
    assert_eq!(invariant(ledger.peer_done(ConnId(0))), "L2");
}

#[test]
#[should_panic(expected = "lifecycle L2 broken by peer_done(peer 1)")]
fn assert_held_names_the_invariant() {
    let mut ledger = whole();
    ledger.peer_done(A).assert_held();
    ledger.peer_done(A).assert_held();
}

#[test]
fn one_long_lived_connection_does_not_make_the_ledger_grow() {
    let mut ledger = Ledger::new(Scope::PeerManager);
    ledger.peer_add(A).expect("fresh");
    ledger.admitted(A).expect("undecided");
    for id in 2..20_000 {
        ledger.peer_done(ConnId(id)).expect("first");
    }
    assert_eq!((ledger.open.len(), ledger.ended.len()), (1, 1));
}

#[test]
fn gaps_at_sync_manager_are_bounded_and_recent_ids_are_still_caught() {
    let mut ledger = Ledger::new(Scope::SyncManager);
    for id in (0..4 * MAX_RUNS as u64).step_by(2) {
        ledger.sync_add(ConnId(id)).expect("fresh");
        ledger.sync_done(ConnId(id)).expect("first");
    }
    assert_eq!(ledger.ended.len(), MAX_RUNS);
    let latest = ConnId(4 * MAX_RUNS as u64 - 2);
    assert_eq!(invariant(ledger.sync_add(latest)), "L1");
}

proptest! {
    /// However ids end, the runs say exactly which did.
    #[test]
    fn runs_equal_the_set_of_ended_ids(ids in prop::collection::vec(0u64..200, 0..300)) {
        let mut ledger = Ledger::new(Scope::PeerManager);
        let mut model = std::collections::BTreeSet::new();
        for id in ids {
            let fresh = model.insert(id);
            prop_assert_eq!(ledger.peer_done(ConnId(id)).is_ok(), fresh);
        }
        for id in 0..200 {
            prop_assert_eq!(ledger.has_ended(ConnId(id)), model.contains(&id));
        }
        let gaps = (0..200).filter(|id| !model.contains(id)).count();
        prop_assert!(ledger.ended.len() <= gaps + 1);
    }

    /// Two FIFO mailboxes in a row keep every invariant, whatever the interleaving.
    #[test]
    fn one_ordered_path_keeps_every_invariant(
        admits in prop::collection::vec(any::<bool>(), 8),
        schedule in prop::collection::vec((0usize..3, 0usize..8), 0..200),
    ) {
        let mut world = World::new(admits);
        for (hop, connection) in schedule {
            world.step(hop, connection);
        }
        world.finish();
        prop_assert!(world.ledger.slots_home().is_ok());
    }
}

/// Peers, two mailboxes and two managers as DESIGN section 3 draws them.
struct World {
    ledger: Ledger,
    admits: Vec<bool>,
    sent: Vec<u8>,
    to_peers: std::collections::VecDeque<(ConnId, bool)>,
    to_sync: std::collections::VecDeque<(ConnId, bool)>,
}

impl World {
    fn new(admits: Vec<bool>) -> Self {
        let sent = vec![0; admits.len()];
        Self {
            ledger: whole(),
            admits,
            sent,
            to_peers: [].into(),
            to_sync: [].into(),
        }
    }

    fn step(&mut self, hop: usize, connection: usize) {
        match hop {
            0 => self.post(connection),
            1 => self.peer_manager(),
            _ => self.sync_manager(),
        }
    }

    /// The guard sends `Add`, then `Done`; every fourth connection never adds.
    fn post(&mut self, connection: usize) {
        let id = ConnId(connection as u64);
        if connection.is_multiple_of(4) && self.sent[connection] == 0 {
            self.sent[connection] = 1;
        }
        if self.sent[connection] < 2 {
            let add = self.sent[connection] == 0;
            self.sent[connection] += 1;
            self.ledger.posted(id).assert_held();
            self.to_peers.push_back((id, add));
        }
    }

    fn peer_manager(&mut self) {
        let Some((id, add)) = self.to_peers.pop_front() else {
            return;
        };
        let admit = self.admits[id.0 as usize];
        if add {
            self.ledger.peer_add(id).assert_held();
            if admit {
                self.ledger.admitted(id)
            } else {
                self.ledger.refused(id)
            }
            .assert_held();
        } else {
            self.ledger.peer_done(id).assert_held();
        }
        if admit && !id.0.is_multiple_of(4) {
            self.to_sync.push_back((id, add));
        }
    }

    fn sync_manager(&mut self) {
        let Some((id, add)) = self.to_sync.pop_front() else {
            return;
        };
        if add {
            self.ledger.sync_add(id)
        } else {
            self.ledger.sync_done(id)
        }
        .assert_held();
        let next = self.ledger.at_sync().next();
        self.ledger.sync_peer(next).assert_held();
    }

    fn finish(&mut self) {
        for connection in 0..self.admits.len() {
            self.post(connection);
            self.post(connection);
        }
        while !self.to_peers.is_empty() {
            self.peer_manager();
        }
        while !self.to_sync.is_empty() {
            self.sync_manager();
        }
    }
}
