//! Connections to manual peers that were not opened for them.

use super::*;
use Direction::{Inbound, Manual, Outbound};

fn added(name: &str, dial: bool) -> PeerTableConfig {
    PeerTableConfig {
        dial,
        add_nodes: vec![name.to_owned()],
        ..config()
    }
}

fn socket(text: &str) -> SocketAddr {
    text.parse().expect(text)
}

fn connected(table: &Table) -> Option<(ConnId, SocketAddr, Direction)> {
    let row = table.table.added_nodes().pop().expect("one was added");
    let shown = table.table.outlook().manual.pop().expect("it is shown");
    match row.connected {
        Some((id, ..)) => {
            assert_eq!(shown.attempt, Attempt::Connected(id), "both say the same");
            assert_eq!((shown.failure, row.failure), (None, None));
        }
        None => assert!(!matches!(shown.attempt, Attempt::Connected(_)), "{shown:?}"),
    }
    row.connected
}

fn directions(effects: &[Effect]) -> Vec<Direction> {
    let dial = |effect: &Effect| match effect {
        Effect::Dial { direction, .. } => Some(*direction),
        _ => None,
    };
    effects.iter().filter_map(dial).collect()
}

#[test]
fn a_manual_peer_that_was_lost_comes_back_as_one_and_never_by_an_automatic_dial() {
    // As soon as it is connected it is in the address book.
    let mut table = Table::new(added("20.1.1.1:8333", true));
    let remote = addr(20);
    assert_eq!(directions(&table.tick()), [Manual]);
    for lasted in [3_600, 1, 5] {
        let id = table.admit(Manual, remote);
        assert!(table.table.book().contains(remote));
        table.wait(lasted);
        let mut dialled = directions(&table.done(id, Manual, remote));
        // The one who listens there is away for a while, and no other peer is connected.
        for _ in 0..12 {
            dialled.extend(directions(&table.run(8)));
            table.fail_dial(remote, Some("20.1.1.1:8333"));
        }
        dialled.extend(directions(&table.run(14)));
        let all_manual = dialled.iter().all(|direction| *direction == Manual);
        assert!(all_manual && dialled.len() >= 3, "{dialled:?}");
    }
    let removed = table.add_node("20.1.1.1:8333", AddNodeCommand::Remove);
    assert_eq!(removed.0, Ok(()));
    table.fail_dial(remote, Some("20.1.1.1:8333"));
    assert_eq!(directions(&table.run(120)), [Outbound], "it is one of many");
}

#[test]
fn no_dial_is_foretold_for_the_address_of_a_manual_peer() {
    let mut table = Table::with_book(added("20.1.1.1:8333", true), book([20]));
    table.tick();
    assert_eq!(table.table.outlook().dials_again, None);
}

#[test]
fn a_connection_that_was_there_before_addnode_is_the_added_node_and_stays_what_it_is() {
    for direction in [Outbound, Inbound] {
        let mut table = Table::new(config());
        let remote = addr(20);
        let id = table.admit(direction, remote);
        let (result, effects) = table.add_node("20.1.1.1", AddNodeCommand::Add);
        assert_eq!((result, effects), (Ok(()), vec![]));
        assert_eq!(connected(&table), Some((id, remote, direction)));
        assert_eq!(table.table.peers()[0].direction, direction);
        assert_eq!(table.run(600), [], "nothing is dialled beside it");
        table.end(id, direction, remote, DoneReason::PingTimeout);
        let lost = table.table.added_nodes()[0].failure.clone();
        let why = format!("the connection was lost: {}", DoneReason::PingTimeout);
        assert_eq!(lost.map(|failure| failure.error), Some(why));
        assert_eq!(directions(&table.run(6)), [Manual]);
    }
}

#[test]
fn a_peer_that_connects_by_itself_is_the_added_node_whatever_is_being_done_about_that() {
    let name = Some("20.1.1.1:8333");
    let remote = addr(20);
    for failed in [true, false] {
        let mut table = Table::new(added("20.1.1.1:8333", false));
        table.tick();
        if failed {
            table.fail_dial(remote, name);
        }
        let id = table.admit(Inbound, remote);
        assert_eq!(connected(&table), Some((id, remote, Inbound)));
        if !failed {
            table.fail_dial(remote, name);
        }
        assert_eq!(connected(&table), Some((id, remote, Inbound)));
        assert_eq!(table.run(600), []);
    }
}

#[test]
fn of_two_connections_to_an_added_node_the_one_that_is_left_counts() {
    let mut table = Table::new(added("20.1.1.1:8333", false));
    table.tick();
    let remote = addr(20);
    let inbound = table.admit(Inbound, remote);
    // The dial that was in flight connects too.
    let own = table.admit(Manual, remote);
    assert_eq!(connected(&table), Some((own, remote, Manual)));
    table.done(own, Manual, remote);
    assert_eq!(connected(&table), Some((inbound, remote, Inbound)));
    table.done(inbound, Inbound, remote);
    assert_eq!(connected(&table), None);
    assert_eq!(directions(&table.run(13)), [Manual]);
}

#[test]
fn a_second_dial_that_is_refused_leaves_the_first_connection_to_the_added_node() {
    let mut table = Table::new(added("20.1.1.1:8333", false));
    table.tick();
    let other = table.admit(Outbound, addr(20));
    let (late, effects) = table.add(Manual, addr(20));
    let reason = DoneReason::DuplicateConnection;
    assert_eq!(effects, [Effect::Disconnect { id: late, reason }]);
    assert_eq!(connected(&table), Some((other, addr(20), Outbound)));
    table.done(late, Manual, addr(20));
    assert_eq!(connected(&table), Some((other, addr(20), Outbound)));
}

#[test]
fn a_name_is_at_every_address_that_it_was_looked_up_to() {
    let config = PeerTableConfig {
        dial: true,
        ..added("node.example", true)
    };
    let mut table = Table::with_book(config, book([20]));
    assert_eq!(lookups(&table.tick()), ["node.example"]);
    let (name, addrs) = ("node.example".to_owned(), vec![addr(30), addr(20)]);
    let dialled = table.step(Input::Resolved { name, addrs });
    assert_eq!(directions(&dialled), [Manual]);
    table.fail_dial(addr(20), None);
    table.fail_dial(addr(30), Some("node.example"));
    let dialled = dials(&table.run(4));
    assert_eq!(dialled, [], "none of both is dialled automatically");
    let id = table.admit(Inbound, addr(20));
    assert_eq!(connected(&table), Some((id, addr(20), Inbound)));
}

#[test]
fn what_was_not_dialled_for_an_added_node_takes_none_of_its_slots() {
    let names: Vec<String> = (1..=9).map(|n| format!("{n}.1.1.1")).collect();
    let mut table = Table::new(PeerTableConfig {
        add_nodes: names,
        ..config()
    });
    for n in 1..=4 {
        table.admit(Inbound, socket(&format!("{n}.1.1.1:8333")));
    }
    // The first eight were dialled before; these dials come to nothing.
    for n in 1..=4 {
        table.fail_dial(addr(n), Some(&format!("{n}.1.1.1")));
    }
    let mut dialled: BTreeSet<SocketAddr> = dials(&table.run(6)).into_iter().collect();
    dialled.extend(table.table.outlook().manual.iter().filter_map(|peer| {
        let n: u8 = peer.name[..1].parse().ok()?;
        matches!(peer.attempt, Attempt::Connecting).then_some(addr(n))
    }));
    assert!(dialled.contains(&addr(9)), "{dialled:?}");
}

#[test]
fn onetry_says_that_there_is_a_connection_and_is_over() {
    let mut table = Table::new(config());
    table.admit(Inbound, addr(20));
    // Who dialled us may be dialled.
    let effects = table.add_node("20.1.1.1", AddNodeCommand::OneTry).1;
    assert_eq!(directions(&effects), [Manual]);
    table.admit(Manual, addr(20));
    let effects = table.add_node("20.1.1.1", AddNodeCommand::OneTry).1;
    assert_eq!(effects, []);
    assert!(table.table.outlook().manual.is_empty());
}
