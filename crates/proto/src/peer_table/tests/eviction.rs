use super::*;
use crate::address_book::Group;
use crate::headers::HeaderError;
use Direction::{Inbound, Outbound};

fn slots(max_inbound: usize) -> Table {
    Table::new(PeerTableConfig {
        max_inbound,
        ..config()
    })
}

/// Host `host` of group `group`.
fn at(group: u16, host: u16) -> SocketAddr {
    let [a, b] = group.to_be_bytes();
    let [c, d] = host.to_be_bytes();
    SocketAddr::from(([a, b, c, d], 8333))
}

/// Group number `n` of many different ones.
fn group(n: u16) -> u16 {
    0x1000 + n
}

/// The outcome of a new inbound connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Admitted,
    AdmittedFor(ConnId),
    Refused,
}

impl Table {
    /// A new connection when the grace period of earlier ones has passed; a peer evicted for it
    /// ends at once.
    fn connect_inbound(&mut self, remote: SocketAddr) -> (ConnId, Outcome) {
        self.wait(NEWCOMER_GRACE.as_secs());
        self.connect_inbound_now(remote)
    }

    fn connect_inbound_now(&mut self, remote: SocketAddr) -> (ConnId, Outcome) {
        let (id, effects) = self.add(Inbound, remote);
        let outcome = match effects.as_slice() {
            [Effect::Admit { .. }] => Outcome::Admitted,
            [
                Effect::Disconnect {
                    id: victim,
                    reason: DoneReason::Evicted,
                },
                Effect::Admit { .. },
            ] => Outcome::AdmittedFor(*victim),
            [Effect::Disconnect { .. }] => Outcome::Refused,
            other => panic!("neither admitted nor refused: {other:?}"),
        };
        let gone = match outcome {
            Outcome::Admitted => return (id, outcome),
            Outcome::AdmittedFor(victim) => victim,
            Outcome::Refused => id,
        };
        self.leave(gone);
        (id, outcome)
    }

    fn leave(&mut self, id: ConnId) {
        let remote = self
            .table
            .peers
            .get(&id)
            .map_or(at(0, 0), |peer| peer.version_info().remote);
        self.end(id, Inbound, remote, DoneReason::Evicted);
    }

    fn of_group(&self, group: u16) -> usize {
        let wanted = Group::of(at(group, 0).ip());
        let rows = self.table.peers();
        rows.iter()
            .filter(|row| Group::of(row.remote.ip()) == wanted)
            .count()
    }

    fn groups(&self) -> BTreeSet<Group> {
        let rows = self.table.peers();
        rows.iter().map(|row| Group::of(row.remote.ip())).collect()
    }
}

#[test]
fn peers_that_hold_every_slot_lose_slots_to_new_peers_of_other_groups() {
    // From one address, and from a whole /16.
    for spread in [0, 1] {
        let mut table = slots(115);
        let flood: Vec<ConnId> = (0..115)
            .map(|host| table.connect_inbound(at(0x0900, host * spread)).0)
            .collect();
        // It has the shortest round trips, too.
        let near = flood.iter().map(|id| (*id, Duration::from_millis(1)));
        table.step(Input::RoundTrips(near.collect()));
        for n in 0..115 {
            let (_, outcome) = table.connect_inbound(at(group(n), 1));
            assert!(
                matches!(outcome, Outcome::AdmittedFor(_)),
                "number {n}: {outcome:?}"
            );
        }
        let left = table.of_group(0x0900);
        assert!(left <= NEAREST + 2, "{left} slots are left to the flood");
        assert_eq!(table.table.ids().len(), 115);
    }
}

/// Core's number; the flood can have only two more, one for its group's hash and one for its age.
const NEAREST: usize = 8;

#[test]
fn a_flood_from_one_group_does_not_displace_a_hundred_honest_peers() {
    let mut table = slots(115);
    let honest: BTreeSet<ConnId> = (0..100)
        .map(|n| table.connect_inbound(at(group(n), 1)).0)
        .collect();
    for host in 0..2_000 {
        let (id, _) = table.connect_inbound(at(0x0900, host));
        table.step(Input::RoundTrips(vec![(id, Duration::from_millis(1))]));
    }
    let there = table.table.ids();
    assert_eq!(honest.difference(&there).count(), 0);
    assert_eq!(table.of_group(0x0900), 15);
}

#[test]
fn a_flood_costs_honest_peers_that_hold_every_slot_at_most_one() {
    let mut table = slots(100);
    for n in 0..100 {
        table.connect_inbound(at(group(n), 1));
    }
    for host in 0..2_000 {
        let (id, _) = table.connect_inbound(at(0x0900, host));
        table.step(Input::RoundTrips(vec![(id, Duration::from_millis(1))]));
    }
    assert!(table.groups().len() >= 99);
    assert!(table.of_group(0x0900) <= 1);
}

#[test]
fn the_nearest_peers_stay() {
    let mut table = slots(32);
    let ids: Vec<ConnId> = (0..32)
        .map(|n| table.connect_inbound(at(group(n), 1)).0)
        .collect();
    let far = |ids: &[ConnId], took| {
        ids.iter()
            .map(|id| (*id, Duration::from_millis(took)))
            .collect()
    };
    table.step(Input::RoundTrips(far(&ids[..24], 200)));
    table.step(Input::RoundTrips(far(&ids[24..], 20)));
    for n in 0..200 {
        table.connect_inbound(at(group(100 + n), 1));
    }
    let there = table.table.ids();
    assert!(
        ids[24..].iter().all(|id| there.contains(id)),
        "the young but near ones"
    );
}

#[test]
fn peers_that_recently_sent_new_blocks_stay() {
    let mut table = slots(32);
    let ids: Vec<ConnId> = (0..32)
        .map(|n| table.connect_inbound(at(group(n), 1)).0)
        .collect();
    for id in &ids[28..] {
        table.step(order(Order::Useful { id: *id }));
    }
    for n in 0..200 {
        table.connect_inbound(at(group(100 + n), 1));
    }
    let there = table.table.ids();
    assert!(
        ids[28..].iter().all(|id| there.contains(id)),
        "the young but useful ones"
    );
}

#[test]
fn groups_that_a_secret_chooses_keep_their_oldest() {
    let survivors = |seed| {
        let config = PeerTableConfig {
            max_inbound: 32,
            seed,
            ..config()
        };
        let mut table = Table::new(config);
        let ids: Vec<ConnId> = (0..32)
            .map(|n| table.connect_inbound(at(group(n), 1)).0)
            .collect();
        for n in 0..200 {
            table.connect_inbound(at(group(100 + n), 1));
        }
        let there = table.table.ids();
        ids.into_iter()
            .filter(|id| there.contains(id))
            .collect::<Vec<_>>()
    };
    assert_ne!(
        survivors(1),
        survivors(2),
        "who cannot know the key cannot choose"
    );
    assert_eq!(survivors(1), survivors(1));
}

#[test]
fn the_longest_uptime_protects_every_group_before_any_twice() {
    let mut table = slots(16);
    // Ten of one group connected first, then six others.
    let crowd: Vec<ConnId> = (0..10)
        .map(|host| table.connect_inbound(at(0x0900, host)).0)
        .collect();
    let others: BTreeSet<ConnId> = (0..6)
        .map(|n| table.connect_inbound(at(group(n), 1)).0)
        .collect();
    for n in 0..8 {
        table.connect_inbound(at(group(100 + n), 1));
    }
    let there = table.table.ids();
    assert!(others.is_subset(&there), "late, but of different groups");
    assert!(there.contains(&crowd[0]));
    assert!(
        table.of_group(0x0900) <= 2,
        "the crowd's age does not help it"
    );
}

#[test]
fn of_the_largest_group_the_youngest_is_evicted() {
    let mut table = slots(8);
    let ids: Vec<ConnId> = (0..4)
        .map(|host| table.connect_inbound(at(0x0900, host)).0)
        .collect();
    for n in 0..4 {
        table.connect_inbound(at(group(n), 1));
    }
    let (_, outcome) = table.connect_inbound(at(group(50), 1));
    assert_eq!(outcome, Outcome::AdmittedFor(ids[3]));
}

#[test]
fn a_new_peer_of_the_largest_group_evicts_only_from_that_group() {
    let mut table = slots(8);
    let ids: Vec<ConnId> = (0..4)
        .map(|host| table.connect_inbound(at(0x0900, host)).0)
        .collect();
    for n in 0..4 {
        table.connect_inbound(at(group(n), 1));
    }
    let (newest, outcome) = table.connect_inbound(at(0x0900, 77));
    assert_eq!(outcome, Outcome::AdmittedFor(ids[3]));
    assert_eq!(
        table.connect_inbound(at(0x0900, 78)).1,
        Outcome::AdmittedFor(newest)
    );
}

#[test]
fn new_peers_in_a_row_do_not_evict_each_other() {
    let mut table = slots(8);
    for host in 0..8 {
        table.connect_inbound(at(0x0900, host));
    }
    table.wait(NEWCOMER_GRACE.as_secs());
    let (first, outcome) = table.connect_inbound_now(at(0x0900, 100));
    assert!(matches!(outcome, Outcome::AdmittedFor(_)), "{outcome:?}");
    for host in 101..150 {
        let (_, outcome) = table.connect_inbound_now(at(0x0900, host));
        assert_eq!(outcome, Outcome::Refused, "host {host}");
    }
    assert!(table.table.ids().contains(&first));
    let displaced = Displaced {
        evicted: 1,
        refused: 49,
    };
    assert_eq!(table.table.displaced(), displaced);
    let (_, outcome) = table.connect_inbound(at(0x0900, 200));
    assert_eq!(outcome, Outcome::AdmittedFor(first), "its time is over");
}

#[test]
fn a_new_peer_of_a_smaller_group_is_admitted_however_recently_others_were() {
    let mut table = slots(8);
    for host in 0..8 {
        table.connect_inbound(at(0x0900, host));
    }
    let (of_the_crowd, _) = table.connect_inbound(at(0x0900, 100));
    let (_, outcome) = table.connect_inbound_now(at(group(1), 1));
    assert_eq!(outcome, Outcome::AdmittedFor(of_the_crowd));
}

#[test]
fn new_peers_of_as_many_groups_do_not_evict_each_other_either() {
    let mut table = slots(8);
    for n in 0..8 {
        table.connect_inbound(at(group(n), 1));
    }
    let (first, outcome) = table.connect_inbound(at(group(100), 1));
    assert!(matches!(outcome, Outcome::AdmittedFor(_)), "{outcome:?}");
    for n in 101..150 {
        let (_, outcome) = table.connect_inbound_now(at(group(n), 1));
        assert_eq!(outcome, Outcome::Refused, "group {n}");
    }
    assert!(table.table.ids().contains(&first));
}

#[test]
fn the_holder_of_a_single_slot_keeps_it() {
    let mut table = slots(1);
    let (holder, _) = table.connect_inbound(at(0x0900, 1));
    for n in 0..20 {
        assert_eq!(table.connect_inbound(at(group(n), 1)).1, Outcome::Refused);
    }
    assert_eq!(table.table.ids(), [holder].into());
}

#[test]
fn of_two_peers_only_the_younger_can_lose_its_slot() {
    let mut table = slots(2);
    let (older, _) = table.connect_inbound(at(0x0900, 1));
    let (younger, _) = table.connect_inbound(at(0x0900, 2));
    let (newcomer, outcome) = table.connect_inbound(at(group(1), 1));
    assert_eq!(outcome, Outcome::AdmittedFor(younger));
    assert_eq!(table.table.ids(), [older, newcomer].into());
    // And a group that has one already does not take the other's.
    assert_eq!(table.connect_inbound(at(0x0900, 3)).1, Outcome::Refused);
}

#[test]
fn discouraged_peers_are_evicted_first_and_refused_while_no_slot_is_free() {
    let mut table = slots(8);
    let mut ids: Vec<ConnId> = (0..4)
        .map(|host| table.connect_inbound(at(0x0900, host)).0)
        .collect();
    ids.extend((0..4).map(|n| table.connect_inbound(at(group(n), 1)).0));
    // Another peer at the address of a young one breaks a rule; the host reconnected since.
    let bad = at(group(3), 1);
    let reason = DoneReason::InvalidHeader(HeaderError::Disconnected);
    table.next += 1;
    let id = ConnId(table.next);
    let effects = table.end(id, Inbound, bad, reason);
    assert!(matches!(effects[..], [Effect::Disconnect { id, .. }] if id == ids[7]));
    table.leave(ids[7]);
    let (bad_id, outcome) = table.connect_inbound(bad);
    assert_eq!(
        outcome,
        Outcome::Admitted,
        "a slot is free, so it is admitted"
    );
    assert_eq!(
        table.connect_inbound(bad).1,
        Outcome::Refused,
        "no slot is free now"
    );
    let (_, outcome) = table.connect_inbound(at(0x0900, 50));
    assert_eq!(
        outcome,
        Outcome::AdmittedFor(bad_id),
        "before the largest group, even for one of that group"
    );
}

#[test]
fn disconnecting_peers_hold_no_slot_up_to_a_bound() {
    let mut table = slots(2);
    table.admit(Inbound, at(0x0900, 1));
    table.admit(Inbound, at(0x0900, 2));
    table.wait(1);
    let (_, effects) = table.add(Inbound, at(group(1), 1));
    assert_eq!(effects.len(), 2, "one evicted, one admitted: {effects:?}");
    assert_eq!(table.table.ids().len(), 2 + max_leaving(2));
    let (late, effects) = table.add(Inbound, at(group(2), 1));
    assert!(
        matches!(effects.as_slice(), [Effect::Disconnect { id, reason: DoneReason::Refused(_) }] if *id == late),
        "the evicted one has not ended: {effects:?}"
    );
    // A peer that sync disconnects frees its slot the same way.
    let mut table = slots(1);
    let id = table.admit(Inbound, at(0x0900, 1));
    let reason = DoneReason::HeadersTimeout;
    table.step(order(Order::Disconnect { id, reason }));
    table.admit(Inbound, at(group(1), 1));
    assert_eq!(table.table.ids().len(), 2);
}

#[test]
fn round_trips_are_requested_only_when_they_decide_something() {
    let mut table = slots(2);
    table.admit(Inbound, at(0x0900, 1));
    assert!(!table.table.wants_round_trips(Inbound));
    table.admit(Inbound, at(0x0900, 2));
    assert!(table.table.wants_round_trips(Inbound));
    assert!(!table.table.wants_round_trips(Outbound));
}

#[test]
fn messages_of_an_evicted_peer_are_dropped_and_it_is_retired_once() {
    let mut table = slots(2);
    table.admit(Inbound, at(0x0900, 1));
    let victim = table.admit(Inbound, at(0x0900, 2));
    table.wait(1);
    table.add(Inbound, at(group(1), 1));
    assert_eq!(table.message(victim, Message::SendHeaders), []);
    let effects = table.end(victim, Inbound, at(0x0900, 2), DoneReason::Evicted);
    assert_eq!(effects, [retire(victim)]);
    let row = table.table.history().pop().expect("remembered");
    assert_eq!(
        (row.reached, row.reason),
        (Reached::Admitted, DoneReason::Evicted)
    );
}
