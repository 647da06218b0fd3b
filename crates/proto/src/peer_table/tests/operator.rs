use super::*;
use Direction::{Inbound, Manual, Outbound};

fn dialled(effects: &[Effect]) -> Vec<SocketAddr> {
    let order = |effect: &Effect| match effect {
        Effect::Dial { addr, .. } => Some(*addr),
        _ => None,
    };
    effects.iter().filter_map(order).collect()
}

fn disconnected(effects: &[Effect]) -> BTreeSet<ConnId> {
    let order = |effect: &Effect| match effect {
        Effect::Disconnect { id, .. } => Some(*id),
        _ => None,
    };
    effects.iter().filter_map(order).collect()
}

fn named_and_dialling() -> PeerTableConfig {
    PeerTableConfig {
        dial: true,
        add_nodes: vec!["7.1.1.1:8333".into()],
        ..config()
    }
}

#[test]
fn with_the_network_off_every_peer_is_disconnected_and_none_is_admitted_or_dialled() {
    let mut table = Table::with_book(named_and_dialling(), book([20, 21, 22]));
    let peers = [
        table.admit(Inbound, addr(9)),
        table.admit(Outbound, addr(10)),
        table.admit(Manual, addr(11)),
    ];
    let off = table.step(Input::SetNetworkActive(false));
    assert_eq!(disconnected(&off), BTreeSet::from(peers));
    assert!(!table.table.network_active());
    for direction in [Inbound, Outbound, Manual] {
        let (id, effects) = table.add(direction, addr(12));
        let reason = DoneReason::Requested;
        assert_eq!(effects, [Effect::Disconnect { id, reason }]);
    }
    // Also nodes that are added meanwhile.
    assert_eq!(
        table.add_node("8.1.1.1:8333", AddNodeCommand::Add).0,
        Ok(())
    );
    assert!(dialled(&table.run(3_600)).is_empty());
    assert_eq!(table.step(Input::SetNetworkActive(false)), []);
}

#[test]
fn with_the_network_on_again_dialling_continues_at_once() {
    let mut table = Table::with_book(named_and_dialling(), book([20, 21, 22]));
    table.step(Input::SetNetworkActive(false));
    table.run(600);
    let on = table.step(Input::SetNetworkActive(true));
    assert!(dialled(&on).contains(&addr(7)), "the added one: {on:?}");
    let dialled = dialled(&table.run(30)).len() + dialled(&on).len();
    assert_eq!(dialled, 4, "and those of the book");
    let peer = table.admit(Inbound, addr(9));
    assert!(table.table.ids().contains(&peer));
}

#[test]
fn an_address_is_added_once_and_becomes_tried_when_that_is_wanted() {
    let mut table = Table::new(config());
    let mut add = |addr: SocketAddr, tried| {
        let (result, effects) = table.table.add_address(table.now, addr, tried);
        assert_eq!(effects, []);
        result
    };
    assert_eq!(add(addr(30), false), Ok(()));
    assert_eq!(add(addr(30), false), Err(AddAddressError::New));
    assert_eq!(add(addr(31), true), Ok(()));
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 8333));
    assert_eq!(add(nowhere, true), Err(AddAddressError::New));
    let book = table.table.book();
    assert_eq!((book.len(), book.tried()), (2, 1));
    assert!(book.is_tried(addr(31)) && !book.is_tried(addr(30)));
    assert_eq!(book.good_rows(table.now).count(), 2);
}

#[test]
fn a_requested_connection_is_dialled_while_a_slot_is_free() {
    let mut table = Table::new(PeerTableConfig {
        max_outbound: 1,
        ..config()
    });
    let connect = |table: &mut Table, addr| table.table.connect(table.now, addr);
    let (result, effects) = connect(&mut table, addr(40));
    assert_eq!(dialled(&effects), [addr(40)]);
    assert_eq!(result, Ok(()));
    let full = (Err(AtCapacity), vec![]);
    assert_eq!(connect(&mut table, addr(41)), full);
    table.step(Input::DialFailed {
        addr: addr(40),
        name: None,
        error: "refused".into(),
    });
    table.step(Input::SetNetworkActive(false));
    let (result, off) = connect(&mut table, addr(41));
    assert!(
        result.is_ok() && dialled(&off).is_empty(),
        "as in Core: {off:?}"
    );
}
