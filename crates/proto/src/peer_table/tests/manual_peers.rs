use super::*;
use Direction::{Manual, Outbound};

fn socket(text: &str) -> SocketAddr {
    text.parse().expect(text)
}

#[test]
fn names_that_are_addresses_are_parsed_as_such() {
    let host = |host: &str, port| Target::Host {
        host: host.to_owned(),
        port,
    };
    for (name, target) in [
        ("1.2.3.4", Target::Address(socket("1.2.3.4:8333"))),
        ("1.2.3.4:5", Target::Address(socket("1.2.3.4:5"))),
        (" ::1 ", Target::Address(socket("[::1]:8333"))),
        ("[::1]", Target::Address(socket("[::1]:8333"))),
        ("[::1]:5", Target::Address(socket("[::1]:5"))),
        ("[::ffff:1.2.3.4]:5", Target::Address(socket("1.2.3.4:5"))),
        ("1.772", Target::Address(socket("1.0.3.4:8333"))),
        ("127.1:5", Target::Address(socket("127.0.0.1:5"))),
        ("0x7f.1:5", Target::Address(socket("127.0.0.1:5"))),
        ("node.example", host("node.example", 8333)),
        ("node.example:5", host("node.example", 5)),
        ("node.example:port", host("node.example:port", 8333)),
        ("", host("", 8333)),
    ] {
        assert_eq!(parse_target(name, 8333), target, "{name:?}");
    }
}

#[test]
fn a_node_that_was_added_is_known_in_every_spelling() {
    let mut table = Table::new(config());
    let step = |table: &mut Table, name: &str, command| table.add_node(name, command).0;
    assert_eq!(step(&mut table, "127.1", AddNodeCommand::Add), Ok(()));
    for name in ["127.0.0.1", "127.0.0.1:8333", "[::ffff:127.0.0.1]:8333"] {
        let again = step(&mut table, name, AddNodeCommand::Add);
        assert_eq!(again, Err(AddNodeError::AlreadyAdded), "{name}");
    }
    let other_port = step(&mut table, "127.1:5", AddNodeCommand::Add);
    assert_eq!(other_port, Ok(()));
    let removed = step(&mut table, "0x7f000001", AddNodeCommand::Remove);
    assert_eq!(removed, Ok(()));
}

#[test]
fn an_onion_is_refused_and_never_resolved() {
    let mut table = Table::new(config());
    for (name, network) in [("abcd.onion", "onion"), ("abcd.b32.i2p:0", "i2p")] {
        for command in [AddNodeCommand::Add, AddNodeCommand::OneTry] {
            let (result, effects) = table.add_node(name, command);
            assert_eq!(result, Err(AddNodeError::Unreachable(network)));
            assert_eq!(lookups(&effects), [""; 0], "{name}");
        }
    }
}

#[test]
fn an_added_node_is_dialled_at_once_and_listed() {
    let mut table = Table::new(config());
    let (result, effects) = table.add_node("1.2.3.4", AddNodeCommand::Add);
    let addr = socket("1.2.3.4:8333");
    let dial = Effect::Dial {
        addr,
        direction: Manual,
        name: Some("1.2.3.4".to_owned()),
    };
    assert_eq!((result, effects), (Ok(()), vec![dial]));
    let row = |connected| AddedNode {
        name: "1.2.3.4".to_owned(),
        connected,
        failure: None,
    };
    assert_eq!(table.table.added_nodes(), [row(None)]);
    let id = table.admit(Manual, addr);
    assert_eq!(table.table.added_nodes(), [row(Some((id, addr, Manual)))]);
    assert_eq!(table.table.peers()[0].name.as_deref(), Some("1.2.3.4"));
}

#[test]
fn adding_twice_and_removing_the_unknown_are_refused_as_core_does() {
    let mut table = Table::new(config());
    assert_eq!(table.add_node("1.2.3.4", AddNodeCommand::Add).0, Ok(()));
    for name in ["1.2.3.4", "1.2.3.4:8333"] {
        let (again, _) = table.add_node(name, AddNodeCommand::Add);
        assert_eq!(again, Err(AddNodeError::AlreadyAdded));
    }
    let (unknown, _) = table.add_node("9.9.9.9", AddNodeCommand::Remove);
    assert_eq!(unknown, Err(AddNodeError::NotAdded));
    assert_eq!(table.add_node("1.2.3.4", AddNodeCommand::Remove).0, Ok(()));
    assert_eq!(table.table.added_nodes(), []);
}

#[test]
fn a_removed_node_keeps_its_connection_but_is_not_dialled_again() {
    let mut table = Table::new(config());
    assert_eq!(table.add_node("1.2.3.4", AddNodeCommand::Add).0, Ok(()));
    let addr = socket("1.2.3.4:8333");
    let id = table.admit(Manual, addr);
    assert_eq!(
        table.add_node("1.2.3.4", AddNodeCommand::Remove),
        (Ok(()), vec![])
    );
    table.done(id, Manual, addr);
    assert_eq!(table.run(3_600), []);
}

#[test]
fn onetry_dials_once_and_is_never_listed() {
    let mut table = Table::new(config());
    let effects = table.add_node("1.2.3.4", AddNodeCommand::OneTry).1;
    assert_eq!(dials(&effects), [socket("1.2.3.4:8333")]);
    assert_eq!(table.table.added_nodes(), []);
    table.fail_dial(socket("1.2.3.4:8333"), Some("1.2.3.4"));
    assert_eq!(table.run(3_600), []);
    let again = table.add_node("1.2.3.4", AddNodeCommand::OneTry).1;
    let id = table.admit(Manual, dials(&again)[0]);
    table.done(id, Manual, socket("1.2.3.4:8333"));
    assert_eq!(table.run(3_600), []);
}

#[test]
fn a_failing_manual_peer_is_dialled_after_5_10_20_40_and_60_seconds() {
    let mut table = Table::new(config());
    let addr = socket("1.2.3.4:8333");
    table.admit(Outbound, socket("9.9.9.9:8333"));
    assert_eq!(table.add_node("1.2.3.4", AddNodeCommand::Add).0, Ok(()));
    for pause in [5, 10, 20, 40, 60, 60, 60] {
        table.fail_dial(addr, Some("1.2.3.4"));
        assert_eq!(dials(&table.run(pause - 1)), [], "{pause} s");
        assert_eq!(dials(&table.run(1 + pause / 5)), [addr], "{pause} s");
    }
}

#[test]
fn a_manual_peer_is_dialled_every_ten_seconds_while_no_dial_succeeds() {
    let mut table = Table::new(config());
    let addr = socket("1.2.3.4:8333");
    assert_eq!(table.add_node("1.2.3.4", AddNodeCommand::Add).0, Ok(()));
    for pause in [5, 10, 10, 10, 10] {
        table.fail_dial(addr, Some("1.2.3.4"));
        assert_eq!(dials(&table.run(pause - 1)), [], "{pause} s");
        assert_eq!(dials(&table.run(1 + pause / 5)), [addr], "{pause} s");
    }
}

#[test]
fn why_a_manual_peer_is_not_connected_is_shown_until_it_is() {
    let mut table = Table::new(PeerTableConfig {
        connect_only: vec!["1.2.3.4".to_owned()],
        ..config()
    });
    let addr = socket("1.2.3.4:8333");
    table.tick();
    table.fail_dial(addr, Some("1.2.3.4"));
    table.run(7);
    table.end(ConnId(90), Manual, addr, DoneReason::HandshakeTimeout);
    let failure = |table: &Table| table.table.outlook().manual[0].failure.clone();
    let failed = failure(&table).expect("two attempts failed");
    assert_eq!(failed.count, 2);
    assert_eq!(failed.error, DoneReason::HandshakeTimeout.to_string());
    assert!(matches!(
        table.table.outlook().manual[0].attempt,
        Attempt::Waiting { .. }
    ));
    table.run(15);
    let id = table.admit(Manual, addr);
    assert_eq!(failure(&table), None);
    assert_eq!(
        table.table.outlook().manual[0].attempt,
        Attempt::Connected(id)
    );
    table.end(id, Manual, addr, DoneReason::PingTimeout);
    let lost = failure(&table).expect("it was lost");
    assert_eq!(
        (lost.count, lost.error),
        (
            1,
            format!("the connection was lost: {}", DoneReason::PingTimeout)
        )
    );
}

#[test]
fn a_host_that_cannot_be_resolved_keeps_the_resolvers_error() {
    let mut table = Table::new(config());
    assert_eq!(
        table.add_node("node.example", AddNodeCommand::Add).0,
        Ok(())
    );
    let (name, error) = ("node.example".to_owned(), "no such name".to_owned());
    table.step(Input::ResolveFailed { name, error });
    let row = table.table.added_nodes().pop().expect("it was added");
    assert_eq!(
        row.failure.map(|failure| failure.error).as_deref(),
        Some("no such name")
    );
    assert_eq!(lookups(&table.run(6)), ["node.example"]);
}

#[test]
fn a_manual_peer_that_lasted_is_dialled_again_after_five_seconds() {
    let mut table = Table::new(config());
    let addr = socket("1.2.3.4:8333");
    assert_eq!(table.add_node("1.2.3.4", AddNodeCommand::Add).0, Ok(()));
    for _ in 0..4 {
        table.fail_dial(addr, Some("1.2.3.4"));
        assert_eq!(dials(&table.run(80)), [addr]);
    }
    let id = table.admit(Manual, addr);
    table.wait(60);
    table.done(id, Manual, addr);
    assert_eq!(dials(&table.run(4)), []);
    assert_eq!(dials(&table.run(2)), [addr]);
}

#[test]
fn a_manual_peer_that_a_short_outage_cut_off_again_is_dialled_within_ten_seconds() {
    let mut table = Table::new(config());
    let addr = socket("1.2.3.4:8333");
    assert_eq!(table.add_node("1.2.3.4", AddNodeCommand::Add).0, Ok(()));
    for _ in 0..4 {
        let id = table.admit(Manual, addr);
        table.wait(30);
        table.done(id, Manual, addr);
        assert_eq!(dials(&table.run(12)), [addr]);
    }
}

#[test]
fn a_manual_peer_that_disconnects_at_once_is_not_dialled_too_often() {
    let mut table = Table::new(config());
    let addr = socket("1.2.3.4:8333");
    let mut pending = dials(&table.add_node("1.2.3.4", AddNodeCommand::Add).1).len();
    let mut dialled = 0;
    for _ in 0..60 {
        for _ in 0..pending {
            let id = table.admit(Manual, addr);
            table.done(id, Manual, addr);
        }
        dialled += pending;
        pending = dials(&table.run(10)).len();
    }
    assert!((8..16).contains(&dialled), "{dialled} dials in ten minutes");
}

#[test]
fn a_failed_handshake_of_a_manual_peer_is_a_failure() {
    let mut table = Table::new(config());
    let addr = socket("1.2.3.4:8333");
    assert_eq!(table.add_node("1.2.3.4", AddNodeCommand::Add).0, Ok(()));
    table.fail_handshake(Manual, addr);
    assert_eq!(dials(&table.run(4)), []);
    assert_eq!(dials(&table.run(2)), [addr]);
}

#[test]
fn a_host_is_resolved_and_its_addresses_take_turns() {
    let mut table = Table::new(config());
    let effects = table.add_node("node.example:5", AddNodeCommand::Add).1;
    let resolve = Effect::Resolve {
        name: "node.example:5".to_owned(),
        host: "node.example".to_owned(),
        port: 5,
        seeds: false,
    };
    assert_eq!(effects.last(), Some(&resolve));
    let addrs = vec![socket("1.1.1.1:5"), socket("2.2.2.2:5")];
    let answer = |addrs| Input::Resolved {
        name: "node.example:5".to_owned(),
        addrs,
    };
    assert_eq!(dials(&table.step(answer(addrs.clone()))), [addrs[0]]);
    assert_eq!(
        dials(&table.step(answer(addrs.clone()))),
        [],
        "an answer counts once"
    );
    table.fail_dial(addrs[0], Some("node.example:5"));
    assert_eq!(lookups(&table.run(7)), ["node.example:5"]);
    assert_eq!(dials(&table.step(answer(addrs.clone()))), [addrs[1]]);
    table.fail_dial(addrs[1], Some("node.example:5"));
    table.run(13);
    assert_eq!(
        dials(&table.step(answer(Vec::new()))),
        [],
        "the look-up failed"
    );
    assert_eq!(lookups(&table.run(25)), ["node.example:5"]);
}

#[test]
fn a_look_up_without_an_answer_fails_by_itself() {
    let mut table = Table::new(config());
    assert_eq!(
        table.add_node("node.example", AddNodeCommand::Add).0,
        Ok(())
    );
    assert_eq!(lookups(&table.run(59)).len(), 0);
    assert_eq!(lookups(&table.run(8)).len(), 1);
}

#[test]
fn connect_dials_those_nodes_and_nothing_automatically() {
    let config = PeerTableConfig {
        dial: true,
        connect_only: vec!["1.2.3.4".to_owned(), "5.6.7.8:9".to_owned()],
        dns_seeds: vec!["seed.example".to_owned()],
        ..config()
    };
    let mut table = Table::with_book(config, book(20..60));
    let effects = table.run(600);
    let wanted = BTreeSet::from([socket("1.2.3.4:8333"), socket("5.6.7.8:9")]);
    assert_eq!(dials(&effects).into_iter().collect::<BTreeSet<_>>(), wanted);
    assert_eq!(lookups(&effects), Vec::<String>::new());
    let remove = table.add_node("1.2.3.4", AddNodeCommand::Remove);
    assert_eq!(remove.0, Err(AddNodeError::NotAdded), "it was not added");
}

#[test]
fn added_nodes_take_turns_in_eight_slots() {
    let names: Vec<String> = (1..=12).map(|n| format!("{n}.2.3.4")).collect();
    let mut table = Table::new(PeerTableConfig {
        add_nodes: names,
        ..config()
    });
    assert_eq!(dials(&table.tick()).len(), MAX_MANUAL);
    assert_eq!(dials(&table.run(60)), []);
    table.fail_dial(socket("1.2.3.4:8333"), Some("1.2.3.4"));
    assert_eq!(dials(&table.run(6)).len(), 1, "the next one's turn");
}

#[test]
fn a_node_that_is_connected_already_is_not_dialled_a_second_time() {
    let mut table = Table::new(config());
    let addr = socket("1.2.3.4:8333");
    let id = table.admit(Outbound, addr);
    assert_eq!(dials(&table.add_node("1.2.3.4", AddNodeCommand::Add).1), []);
    assert_eq!(dials(&table.run(600)), []);
    table.done(id, Outbound, addr);
    assert_eq!(dials(&table.run(6)), [addr]);
}

#[test]
fn a_node_whose_connection_was_refused_is_dialled_again() {
    let mut table = Table::new(config());
    let addr = socket("1.2.3.4:8333");
    assert_eq!(table.add_node("1.2.3.4", AddNodeCommand::Add).0, Ok(()));
    // A dial that had timed out connects after all, and first.
    let other = table.admit(Outbound, addr);
    let (late, effects) = table.add(Manual, addr);
    let reason = DoneReason::DuplicateConnection;
    assert_eq!(effects, [Effect::Disconnect { id: late, reason }]);
    table.done(late, Manual, addr);
    assert_eq!(dials(&table.run(60)), [], "there is a connection");
    table.done(other, Outbound, addr);
    assert_eq!(dials(&table.run(7)), [addr]);
}

#[test]
fn a_node_that_was_disconnected_by_request_is_dialled_again() {
    let mut table = Table::new(config());
    let addr = socket("1.2.3.4:8333");
    assert_eq!(table.add_node("1.2.3.4", AddNodeCommand::Add).0, Ok(()));
    let id = table.admit(Manual, addr);
    assert_eq!(table.disconnect(DisconnectTarget::ById(id)).0, Ok(()));
    table.end(id, Manual, addr, DoneReason::Requested);
    assert_eq!(dials(&table.run(7)), [addr]);
}

#[test]
fn a_manual_peer_without_a_slot_waits_without_a_longer_pause() {
    let mut table = Table::new(config());
    let addr = socket("1.2.3.4:8333");
    assert_eq!(table.add_node("1.2.3.4", AddNodeCommand::Add).0, Ok(()));
    for _ in 0..5 {
        let name = Some("1.2.3.4".to_owned());
        table.step(Input::NotDialled { addr, name });
        assert_eq!(dials(&table.run(4)), []);
        assert_eq!(dials(&table.run(1)), [addr]);
    }
}

#[test]
fn the_end_of_an_earlier_connection_does_not_disturb_the_present_one() {
    let mut table = Table::new(config());
    let (old, new) = (socket("1.1.1.1:8333"), socket("2.2.2.2:8333"));
    let connect = |table: &mut Table, addr| {
        assert_eq!(
            table.add_node("node.example", AddNodeCommand::Add).0,
            Ok(())
        );
        let (name, addrs) = ("node.example".to_owned(), vec![addr]);
        assert_eq!(dials(&table.step(Input::Resolved { name, addrs })), [addr]);
        table.admit(Manual, addr)
    };
    let first = connect(&mut table, old);
    // Removed and added again; by now the name resolves to another address.
    let remove = table.add_node("node.example", AddNodeCommand::Remove);
    assert_eq!(remove.0, Ok(()));
    let second = connect(&mut table, new);
    table.done(first, Manual, old);
    let row = table.table.added_nodes().pop();
    assert_eq!(
        row.and_then(|row| row.connected),
        Some((second, new, Manual))
    );
    assert_eq!(table.run(3_600), []);
}

#[test]
fn a_name_that_can_never_be_dialled_is_refused_instead_of_tried_for_ever() {
    let mut table = Table::new(config());
    for name in ["1.2.3.4:99999", "300.1.1.1", "a b"] {
        for command in [AddNodeCommand::Add, AddNodeCommand::OneTry] {
            let refused = table.add_node(name, command).0;
            assert_eq!(refused, Err(AddNodeError::Malformed), "{name}");
        }
    }
    assert!(table.table.added_nodes().is_empty());
}
