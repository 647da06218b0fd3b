use bitcoin::BlockHash;
use bitcoin::hashes::Hash;

use super::*;
use Direction::{Inbound, Manual, Outbound};

fn automatic(max_outbound: usize) -> PeerTableConfig {
    PeerTableConfig {
        dial: true,
        max_outbound,
        ..config()
    }
}

#[test]
fn nothing_is_dialled_or_looked_up_when_dialling_is_off() {
    let config = PeerTableConfig {
        dns_seeds: vec!["seed.example".to_owned()],
        ..config()
    };
    let mut table = Table::with_book(config, book(20..60));
    assert_eq!(table.table.deadline(), None);
    table.admit(Inbound, addr(9));
    assert_eq!(table.run(24 * 3_600), []);
}

#[test]
fn dialling_fills_the_outbound_slots_and_stops() {
    let mut table = Table::with_book(automatic(4), book(20..60));
    let dialled = dials(&table.run(60));
    assert_eq!(dialled.len(), 4);
    let distinct: BTreeSet<SocketAddr> = dialled.iter().copied().collect();
    assert_eq!(distinct.len(), 4);
    for addr in &dialled {
        table.admit(Outbound, *addr);
    }
    assert_eq!(dials(&table.run(3_600)), []);
}

#[test]
fn a_lost_outbound_peer_is_replaced_by_another() {
    let mut table = Table::with_book(automatic(1), book(20..22));
    let first = dials(&table.tick())[0];
    let id = table.admit(Outbound, first);
    table.wait(10);
    let mut effects = table.done(id, Outbound, first);
    effects.extend(table.run(1));
    let second = dials(&effects);
    assert_eq!(second.len(), 1);
    assert_ne!(second[0], first, "the lost one rests");
}

#[test]
fn automatic_dials_keep_half_a_second_apart() {
    let mut table = Table::with_book(automatic(10), book(20..60));
    assert_eq!(dials(&table.tick()).len(), 1);
    assert_eq!(dials(&table.tick()).len(), 0);
    assert_eq!(
        table.table.deadline(),
        Some(START.mono + Duration::from_millis(500))
    );
}

#[test]
fn one_group_gets_one_outbound_connection_except_on_private_networks() {
    let (mut crowd, mut random) = (AddressBook::new(false), Random::new(1));
    for n in 1..50 {
        let addr = SocketAddr::from(([20, 1, 1, n], 8333));
        crowd.learn(
            addr,
            full_node(),
            START.unix,
            Source::Own,
            START,
            &mut random,
        );
    }
    let mut table = Table::with_book(automatic(4), crowd.clone());
    assert_eq!(dials(&table.run(60)).len(), 1);
    let private = PeerTableConfig {
        allow_private_addresses: true,
        ..automatic(4)
    };
    let mut table = Table::with_book(private, crowd);
    assert_eq!(dials(&table.run(60)).len(), 4);
}

#[test]
fn a_failed_address_is_not_dialled_again_before_its_pause() {
    let mut table = Table::with_book(automatic(2), book([20]));
    let addr = dials(&table.tick())[0];
    // Without any such peer it would be our own network that is down.
    table.admit(Outbound, super::addr(90));
    assert_eq!(table.fail_dial(addr, None), []);
    assert_eq!(dials(&table.run(59)), []);
    assert_eq!(
        dials(&table.run(20)),
        [addr],
        "60 s, a fifth, and the search interval"
    );
    table.fail_dial(addr, None);
    assert_eq!(dials(&table.run(118)), []);
    assert_eq!(dials(&table.run(40)), [addr]);
}

#[test]
fn that_no_address_can_be_reached_is_shown_until_one_is() {
    let mut table = Table::with_book(automatic(2), book([20, 30]));
    for dialled in dials(&table.run(2)) {
        table.fail_dial(dialled, None);
    }
    let failed = table.table.outlook().dials.expect("both failed");
    assert_eq!(failed.count, 2);
    assert!(failed.error.ends_with(":8333: refused"), "{}", failed.error);
    table.admit(Manual, addr(90));
    assert_eq!(table.table.outlook().dials, None);
}

#[test]
fn without_proof_of_a_network_no_address_is_given_up() {
    let mut table = Table::with_book(automatic(3), book([20]));
    for _ in 0..6 {
        for addr in dials(&table.run(5 * 3_600)) {
            table.fail_dial(addr, None);
        }
    }
    assert_eq!(table.table.book().len(), 1);
    for n in [30, 31] {
        table.admit(Outbound, addr(n));
    }
    for _ in 0..6 {
        for addr in dials(&table.run(5 * 3_600)) {
            table.fail_dial(addr, None);
        }
    }
    assert!(
        !table.table.book().contains(addr(20)),
        "others answer, this one never does"
    );
}

#[test]
fn a_failed_handshake_frees_the_slot_and_rests_the_address() {
    let mut table = Table::with_book(automatic(1), book([20, 21]));
    let first = dials(&table.tick())[0];
    table.wait(60);
    let mut effects = table.fail_handshake(Outbound, first);
    effects.extend(table.run(6));
    let second = dials(&effects);
    assert_eq!(second.len(), 1);
    assert_ne!(second[0], first);
}

#[test]
fn a_dial_that_nobody_answers_for_does_not_hold_its_slot_for_ever() {
    let mut table = Table::with_book(automatic(1), book([20, 21]));
    assert_eq!(dials(&table.run(590)).len(), 1);
    assert_eq!(dials(&table.run(20)).len(), 1);
}

#[test]
fn an_admitted_outgoing_peer_becomes_a_tried_address() {
    let mut table = Table::with_book(automatic(1), book([20]));
    let dialled = dials(&table.tick())[0];
    table.admit(Outbound, dialled);
    assert_eq!(table.table.book().tried(), 1);
    table.admit(Inbound, addr(50));
    assert!(
        !table.table.book().contains(addr(50)),
        "an inbound port is nobody's address"
    );
    table.admit(Manual, addr(51));
    assert!(table.table.book().contains(addr(51)));
}

#[test]
fn a_peer_that_broke_a_rule_is_left_alone_for_a_day() {
    let mut table = Table::with_book(automatic(1), book([20]));
    let remote = dials(&table.tick())[0];
    let id = table.admit(Outbound, remote);
    let reason = DoneReason::InvalidHeader("bad-diffbits".to_owned());
    table.end(id, Outbound, remote, reason);
    assert_eq!(dials(&table.run(24 * 3_600 - 10)), []);
    assert_eq!(dials(&table.run(30)), [remote]);
}

#[test]
fn a_replacement_is_dialled_only_when_the_lost_slot_had_time_to_come_home() {
    let mut table = Table::with_book(automatic(1), book([20, 21]));
    let first = dials(&table.tick())[0];
    let id = table.admit(Outbound, first);
    table.wait(10);
    let at_once = table.done(id, Outbound, first);
    assert_eq!(dials(&at_once), [], "SyncManager still holds the slot");
    let due = table.now.mono + Duration::from_millis(500);
    assert_eq!(table.table.deadline(), Some(due));
    assert_eq!(dials(&table.run(1)).len(), 1);
}

#[test]
fn a_dial_that_found_no_slot_is_nobodys_failure() {
    let mut table = Table::with_book(automatic(3), book([20]));
    for n in [30, 31] {
        table.admit(Outbound, addr(n));
    }
    let not_dialled = |addr| Input::NotDialled { addr, name: None };
    table.step(not_dialled(addr(20)));
    let mut dialled = 0;
    for _ in 0..100 {
        for addr in dials(&table.run(1)) {
            dialled += 1;
            table.step(not_dialled(addr));
        }
    }
    assert!(dialled > 50, "tried again soon: {dialled}");
    let row = table.table.book().rows().find(|row| row.addr == addr(20));
    assert_eq!(row.map(|row| row.failures), Some(0));
}

#[test]
fn peers_lost_with_the_network_are_dialled_again_within_seconds_of_its_return() {
    for reason in [
        DoneReason::RemoteClosed,
        DoneReason::RemoteReset("connection reset".to_owned()),
        DoneReason::PingTimeout,
        DoneReason::Inactive,
        DoneReason::BlockStalled {
            hash: BlockHash::all_zeros(),
        },
    ] {
        let mut table = Table::with_book(automatic(1), book([20]));
        let remote = dials(&table.tick())[0];
        // It may be in the next room, and proves nothing.
        table.admit(Manual, addr(90));
        let id = table.admit(Outbound, remote);
        table.wait(3_600);
        table.end(id, Outbound, remote, reason.clone());
        assert_eq!(dials(&table.run(20)), [remote], "{reason}");
    }
}

#[test]
fn handshakes_that_time_out_while_nobody_else_is_connected_are_tried_again_within_seconds() {
    let mut table = Table::with_book(automatic(1), book([20]));
    let remote = dials(&table.tick())[0];
    for _ in 0..20 {
        table.fail_handshake(Outbound, remote);
        let failed = table.table.outlook().dials.expect("it is shown");
        assert!(failed.error.starts_with("20.1.1.1:8333: "), "{failed:?}");
        assert_eq!(dials(&table.run(20)), [remote]);
    }
}

#[test]
fn a_node_without_peers_tells_when_it_dials_next() {
    let mut table = Table::with_book(automatic(1), book([20]));
    let remote = dials(&table.tick())[0];
    let id = table.admit(Outbound, remote);
    assert_eq!(table.table.outlook().trouble(table.now), None);
    table.end(id, Outbound, remote, DoneReason::RemoteClosed);
    let trouble = table.table.outlook().trouble(table.now);
    let expected = "no peer is connected; next attempt in 15s";
    assert_eq!(trouble.as_deref(), Some(expected));
    assert_eq!(
        table.table.outlook().warning(),
        None,
        "it is no failure yet"
    );
}

#[test]
fn all_peers_that_a_network_took_along_are_dialled_again_at_once_and_not_the_last_one_alone() {
    let mut table = Table::with_book(automatic(3), book([20, 30, 40]));
    let remotes = dials(&table.run(5));
    assert_eq!(remotes.len(), 3);
    let ids: Vec<ConnId> = remotes
        .iter()
        .map(|remote| table.admit(Outbound, *remote))
        .collect();
    table.wait(3_600);
    for (id, remote) in ids.into_iter().zip(&remotes) {
        table.end(id, Outbound, *remote, DoneReason::PingTimeout);
        table.wait(1);
    }
    let again: BTreeSet<SocketAddr> = dials(&table.run(25)).into_iter().collect();
    assert_eq!(again, remotes.into_iter().collect());
}

#[test]
fn a_rest_for_a_fault_is_not_cut_short_by_an_earlier_loss_of_the_connection() {
    let mut table = Table::with_book(automatic(2), book([20, 30]));
    let remotes = dials(&table.run(5));
    assert_eq!(remotes.len(), 2);
    let other = table.admit(Outbound, remotes[1]);
    let first = table.admit(Outbound, remotes[0]);
    table.end(first, Outbound, remotes[0], DoneReason::RemoteClosed);
    // Back after its rest, it breaks a rule.
    assert_eq!(dials(&table.run(130)), [remotes[0]]);
    let again = table.admit(Outbound, remotes[0]);
    // One that does not discourage the host as well.
    let fault = DoneReason::MissingServices;
    table.end(again, Outbound, remotes[0], fault);
    table.end(other, Outbound, remotes[1], DoneReason::RemoteClosed);
    let dialled = dials(&table.run(600));
    assert!(!dialled.contains(&remotes[0]), "{dialled:?}");
    assert!(dialled.contains(&remotes[1]), "{dialled:?}");
}

#[test]
fn a_rest_after_another_end_is_not_cut_short_by_a_loss_before_the_connection_in_between() {
    let mut table = Table::with_book(automatic(2), book([20, 30]));
    let remotes = dials(&table.run(5));
    let other = table.admit(Outbound, remotes[1]);
    table.fail_handshake(Outbound, remotes[0]);
    let again = table.admit(Outbound, remotes[0]);
    table.wait(3_600);
    table.end(other, Outbound, remotes[1], DoneReason::RemoteClosed);
    table.end(again, Outbound, remotes[0], DoneReason::StaleChain);
    let dialled = dials(&table.run(600));
    assert!(!dialled.contains(&remotes[0]), "{dialled:?}");
}

#[test]
fn a_peer_that_is_lost_again_and_again_takes_no_place_of_another_that_was_lost() {
    let mut table = Table::with_book(automatic(3), book([20, 30, 40]));
    let remotes = dials(&table.run(5));
    let (stays, flaps) = (remotes[0], remotes[1]);
    let id = table.admit(Outbound, stays);
    let lost = table.admit(Outbound, remotes[2]);
    table.end(lost, Outbound, remotes[2], DoneReason::PingTimeout);
    for _ in 0..40 {
        table.fail_handshake(Outbound, flaps);
    }
    table.end(id, Outbound, stays, DoneReason::RemoteClosed);
    let again: BTreeSet<SocketAddr> = dials(&table.run(25)).into_iter().collect();
    assert_eq!(again, remotes.into_iter().collect());
}
