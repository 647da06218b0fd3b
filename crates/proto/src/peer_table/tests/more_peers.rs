use super::*;
use crate::peer_table::manual::RECONNECT_LONGEST;
use Direction::{Inbound, Outbound};

fn more() -> Input {
    order(Order::MorePeers)
}

/// A table with two outbound peers, which is its limit, and addresses left to dial.
fn full() -> (Table, [ConnId; 2]) {
    let config = PeerTableConfig {
        max_outbound: 2,
        dial: true,
        dns_seeds: vec!["seed.example".to_owned()],
        ..config()
    };
    let mut table = Table::with_book(config, book(20..30));
    let mut ids = Vec::new();
    while ids.len() < 2 {
        for addr in dials(&table.run(1)) {
            ids.push(table.admit(Outbound, addr));
        }
    }
    assert_eq!(dials(&table.run(3_600)), [], "the limit is reached");
    let ids = ids.try_into().expect("two were dialled one by one");
    (table, ids)
}

fn evicted(effects: &[Effect]) -> Vec<ConnId> {
    let order = |effect: &Effect| match effect {
        Effect::Disconnect {
            id,
            reason: DoneReason::Evicted,
        } => Some(*id),
        _ => None,
    };
    effects.iter().filter_map(order).collect()
}

#[test]
fn one_more_outbound_peer_is_dialled_however_often_sync_asks() {
    let (mut table, _) = full();
    let mut effects = table.step(more());
    for _ in 0..20 {
        effects.extend(table.run(10));
        effects.extend(table.step(more()));
    }
    let [addr] = dials(&effects)[..] else {
        panic!("one dial, not {:?}", dials(&effects));
    };
    table.admit(Outbound, addr);
    assert_eq!(dials(&table.run(60)), []);
    let (id, effects) = table.add(Outbound, super::addr(90));
    assert!(
        matches!(effects.as_slice(), [Effect::Disconnect { id: refused, .. }] if *refused == id),
        "a second one has no slot: {effects:?}"
    );
}

#[test]
fn when_the_time_is_over_the_youngest_without_a_new_block_is_disconnected() {
    for (useful, goes) in [
        (vec![], 2),
        (vec![2], 1),
        (vec![2, 1], 0),
        (vec![0, 1], 2),
        (vec![1, 2, 0], 1),
    ] {
        let (mut table, [a, b]) = full();
        let dialled = dials(&table.step(more()));
        let ids = [a, b, table.admit(Outbound, dialled[0])];
        for which in useful.iter().copied() {
            table.wait(1);
            let id = ids[which];
            table.step(order(Order::Useful { id }));
        }
        let before = EXTRA_FOR.as_secs() - 10;
        assert_eq!(evicted(&table.run(before)), [], "not before");
        assert_eq!(evicted(&table.run(10)), [ids[goes]], "{useful:?}");
        assert_eq!(evicted(&table.run(3_600)), [], "only one was too many");
    }
}

#[test]
fn an_extra_peer_that_was_never_found_costs_no_peer_its_connection() {
    let (mut table, _) = full();
    let dialled = dials(&table.step(more()));
    table.fail_dial(dialled[0], None);
    assert_eq!(evicted(&table.run(3_600)), []);
}

#[test]
fn an_extra_dial_that_comes_too_late_is_refused() {
    let (mut table, _) = full();
    let dialled = dials(&table.step(more()));
    table.wait(EXTRA_FOR.as_secs());
    table.tick();
    let (_, effects) = table.add(Outbound, dialled[0]);
    assert!(
        matches!(
            effects.as_slice(),
            [Effect::Disconnect {
                reason: DoneReason::Refused(_),
                ..
            }]
        ),
        "{effects:?}"
    );
}

#[test]
fn seeds_are_queried_though_peers_are_connected_but_not_repeatedly() {
    let (mut table, _) = full();
    assert_eq!(lookups(&table.step(more())), ["seed.example"]);
    let answer = Input::Resolved {
        name: "seed.example".to_owned(),
        addrs: vec![addr(70)],
    };
    table.step(answer);
    let mut asked = Vec::new();
    for _ in 0..29 {
        asked.extend(lookups(&table.step(more())));
        asked.extend(lookups(&table.run(10)));
    }
    assert_eq!(asked, [""; 0], "five minutes have not passed");
    asked.extend(lookups(&table.run(20)));
    assert_eq!(asked, ["seed.example"]);
}

#[test]
fn manual_peers_in_a_pause_are_dialled_at_once() {
    let named = PeerTableConfig {
        connect_only: vec!["1.2.3.4".to_owned()],
        ..config()
    };
    let mut table = Table::new(named);
    let node: SocketAddr = "1.2.3.4:8333".parse().expect("an address");
    assert_eq!(dials(&table.tick()), [node]);
    // Without any such peer the pauses are short.
    table.admit(Outbound, addr(90));
    for _ in 0..8 {
        table.fail_dial(node, Some("1.2.3.4"));
        assert_eq!(dials(&table.run(2 * RECONNECT_LONGEST.as_secs())).len(), 1);
    }
    table.fail_dial(node, Some("1.2.3.4"));
    assert_eq!(dials(&table.run(30)), [], "it waits out a pause");
    assert_eq!(dials(&table.step(more())), [node]);
    table.fail_dial(node, Some("1.2.3.4"));
    assert_eq!(
        dials(&table.step(more())),
        [],
        "not more than once a minute"
    );
}

#[test]
fn a_node_without_outbound_slots_gets_no_extra_one() {
    for limits in [
        PeerTableConfig {
            max_outbound: 0,
            dial: true,
            ..config()
        },
        config(),
    ] {
        let mut table = Table::with_book(limits, book(20..30));
        table.admit(Inbound, addr(9));
        let mut effects = table.step(more());
        effects.extend(table.run(3_600));
        assert_eq!(dials(&effects), []);
    }
}

#[test]
fn a_stopping_node_dials_no_peer() {
    let (mut table, _) = full();
    table.step(Input::Drain);
    assert_eq!(table.step(more()), []);
    assert_eq!(table.table.deadline(), None);
}
