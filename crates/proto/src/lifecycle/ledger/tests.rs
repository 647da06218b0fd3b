use std::collections::VecDeque;

use super::*;
use proptest::prelude::*;

fn whole() -> Ledger {
    Ledger::new(Scope::Whole)
}

fn invariant(result: Result<(), Violation>) -> &'static str {
    result.expect_err("the ledger must object").invariant
}

const SYNC: Roles = Roles::NONE.with(Role::Sync);
const A: ConnId = ConnId(1);
const B: ConnId = ConnId(2);

/// Adds and admits `id` at both managers.
fn live(ledger: &mut Ledger, id: ConnId) {
    ledger.peer_add(id).expect("fresh");
    ledger.admitted(id, SYNC).expect("undecided");
    ledger.add(Role::Sync, id).expect("admitted");
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
    ledger.done(Role::Sync, B).expect("first");
    assert_eq!(invariant(ledger.done(Role::Sync, B)), "L2");
    assert_eq!(invariant(ledger.peer_done(B)), "L2");
}

#[test]
fn add_twice_breaks_l2() {
    let mut ledger = whole();
    live(&mut ledger, A);
    assert_eq!(invariant(ledger.peer_add(A)), "L2");
    assert_eq!(invariant(ledger.add(Role::Sync, A)), "L2");
}

#[test]
fn sync_hears_of_admitted_connections_only() {
    let mut ledger = whole();
    ledger.peer_add(A).expect("fresh");
    ledger.refused(A).expect("undecided");
    assert_eq!(invariant(ledger.add(Role::Sync, A)), "L3");
    assert_eq!(
        invariant(ledger.add(Role::Sync, B)),
        "L3",
        "never added at all"
    );
    ledger.peer_done(A).expect("first");
    assert_eq!(invariant(ledger.done(Role::Sync, A)), "L2");
}

#[test]
fn sync_must_not_retire_a_peer_that_peer_manager_still_has() {
    let mut ledger = whole();
    live(&mut ledger, A);
    assert_eq!(invariant(ledger.done(Role::Sync, A)), "L3");
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
    ledger.admitted(A, SYNC).expect("undecided");
    assert_eq!(invariant(ledger.refused(A)), "L3");
    assert_eq!(invariant(ledger.admitted(B, SYNC)), "L3", "never added");
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
    ledger.done(Role::Sync, A).expect("first");
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
    ledger.admitted(A, SYNC).expect("undecided");
    ledger.posted(A).expect("Done; the forwarded Add makes two");
    assert_eq!(ledger.queued(), 2);
    assert_eq!(invariant(ledger.posted(A)), "L5");
}

#[test]
fn a_connection_left_when_all_slots_are_free_breaks_l6() {
    let mut ledger = whole();
    live(&mut ledger, A);
    ledger.peer_done(A).expect("first");
    assert_eq!(
        invariant(ledger.all_slots_free()),
        "L6",
        "SyncManager still has it"
    );
    ledger.done(Role::Sync, A).expect("first");
    ledger.all_slots_free().expect("both tables are empty");
}

/// Adds `id` at PeerManager, which admits it for both subscribers.
fn admitted_for_both(ledger: &mut Ledger, id: ConnId) {
    ledger.peer_add(id).expect("fresh");
    ledger.admitted(id, Role::ALL.into()).expect("undecided");
}

#[test]
fn a_connection_that_one_of_two_subscribers_still_has_breaks_l6() {
    let mut ledger = whole();
    admitted_for_both(&mut ledger, A);
    for role in Role::ALL {
        ledger.add(role, A).expect("admitted");
    }
    ledger.peer_done(A).expect("first");
    ledger.done(Role::Sync, A).expect("first");
    assert_eq!(invariant(ledger.all_slots_free()), "L6");
    assert!(ledger.at(Role::Sync).next().is_none());
    assert!(ledger.at(Role::Test).eq([A]));
    assert_eq!(invariant(ledger.done(Role::Sync, A)), "L2");
    ledger.done(Role::Test, A).expect("first");
    ledger.all_slots_free().expect("all tables are empty");
}

#[test]
fn a_subscriber_that_does_not_want_a_connection_must_not_hear_of_it() {
    let mut ledger = whole();
    ledger.peer_add(A).expect("fresh");
    ledger.admitted(A, SYNC).expect("undecided");
    assert_eq!(invariant(ledger.add(Role::Test, A)), "L3");
    ledger.add(Role::Sync, A).expect("it wants it");
    assert_eq!(invariant(ledger.done(Role::Test, A)), "L3");
    ledger.peer_done(A).expect("first");
    ledger
        .done(Role::Sync, A)
        .expect("the only one that has it");
    ledger.all_slots_free().expect("no other was notified");
}

#[test]
fn a_connection_that_no_subscriber_wants_ends_at_peer_manager() {
    let mut ledger = whole();
    ledger.peer_add(A).expect("fresh");
    ledger.admitted(A, Roles::NONE).expect("undecided");
    ledger.peer_done(A).expect("first");
    ledger.all_slots_free().expect("none was notified");
    assert_eq!(invariant(ledger.peer_done(A)), "L2");
}

#[test]
fn two_lifecycle_messages_may_wait_with_each_of_two_subscribers_and_no_third() {
    let mut ledger = whole();
    ledger.posted(A).expect("Add");
    admitted_for_both(&mut ledger, A);
    ledger
        .posted(A)
        .expect("Done; one waits on each way already");
    assert_eq!(ledger.queued(), 3);
    assert_eq!(invariant(ledger.clone().posted(A)), "L5");
    ledger.peer_done(A).expect("first");
    assert_eq!(ledger.queued(), 4);
    ledger.add(Role::Sync, A).expect("admitted");
    ledger.done(Role::Sync, A).expect("first");
    assert_eq!(ledger.queued(), 2, "those for the other one");
}

#[test]
fn ids_may_end_out_of_order() {
    let mut ledger = Ledger::new(Scope::PeerManager);
    ledger.peer_done(ConnId(5)).expect("first");
    ledger.peer_add(ConnId(4)).expect("a slower handshake");
    ledger.admitted(ConnId(4), SYNC).expect("undecided");
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
    ledger.admitted(A, SYNC).expect("undecided");
    for id in 2..20_000 {
        ledger.peer_done(ConnId(id)).expect("first");
    }
    assert_eq!((ledger.open.len(), ledger.ended.len()), (1, 1));
}

#[test]
fn gaps_at_sync_manager_are_bounded_and_recent_ids_are_still_caught() {
    let mut ledger = Ledger::new(Scope::Subscriber(Role::Sync));
    for id in (0..4 * MAX_RUNS as u64).step_by(2) {
        ledger.add(Role::Sync, ConnId(id)).expect("fresh");
        ledger.done(Role::Sync, ConnId(id)).expect("first");
    }
    assert_eq!(ledger.ended.len(), MAX_RUNS);
    let latest = ConnId(4 * MAX_RUNS as u64 - 2);
    assert_eq!(invariant(ledger.add(Role::Sync, latest)), "L1");
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

    /// FIFO mailboxes in a row, the last of them side by side, keep every invariant, whatever
    /// the interleaving.
    #[test]
    fn one_ordered_path_to_each_subscriber_keeps_every_invariant(
        admits in prop::collection::vec(any::<bool>(), 8),
        schedule in prop::collection::vec((0usize..4, 0usize..8), 0..300),
    ) {
        let mut world = World::new(admits);
        for (hop, connection) in schedule {
            world.step(hop, connection);
        }
        world.finish();
        prop_assert!(world.ledger.all_slots_free().is_ok());
    }
}

/// Peers, PeerManager, its subscribers and the mailboxes between them.
struct World {
    ledger: Ledger,
    admits: Vec<bool>,
    sent: Vec<u8>,
    to_peers: VecDeque<(ConnId, bool)>,
    to_subscribers: BTreeMap<Role, VecDeque<(ConnId, bool)>>,
}

impl World {
    fn new(admits: Vec<bool>) -> Self {
        let sent = vec![0; admits.len()];
        Self {
            ledger: whole(),
            admits,
            sent,
            to_peers: [].into(),
            to_subscribers: Role::ALL.map(|role| (role, VecDeque::new())).into(),
        }
    }

    fn step(&mut self, hop: usize, connection: usize) {
        match hop {
            0 => self.post(connection),
            1 => self.peer_manager(),
            _ => self.subscriber(Role::ALL[hop - 2]),
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

    /// Every third connection is one for SyncManager alone.
    fn wanted(id: ConnId) -> Roles {
        match id.0 % 3 {
            0 => SYNC,
            _ => Role::ALL.into(),
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
                self.ledger.admitted(id, Self::wanted(id))
            } else {
                self.ledger.refused(id)
            }
            .assert_held();
        } else {
            self.ledger.peer_done(id).assert_held();
        }
        if admit && !id.0.is_multiple_of(4) {
            for role in Self::wanted(id).iter() {
                let mailbox = self.to_subscribers.entry(role).or_default();
                mailbox.push_back((id, add));
            }
        }
    }

    fn subscriber(&mut self, role: Role) {
        let mailbox = self.to_subscribers.entry(role).or_default();
        let Some((id, add)) = mailbox.pop_front() else {
            return;
        };
        if add {
            self.ledger.add(role, id)
        } else {
            self.ledger.done(role, id)
        }
        .assert_held();
        let next = self.ledger.at(Role::Sync).next();
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
        for role in Role::ALL {
            while !self.to_subscribers[&role].is_empty() {
                self.subscriber(role);
            }
        }
    }
}
