use bitcoin::p2p::address::{AddrV2, AddrV2Message, Address};

use super::*;
use Direction::{Inbound, Outbound};

/// `count` full nodes in different groups, none of them in a test's own.
fn crowd(count: u16) -> Vec<(u32, Address)> {
    let addr = |n: u16| {
        let [a, b] = n.to_be_bytes();
        SocketAddr::from(([100 + a / 4, a, b, 1], 8333))
    };
    (0..count)
        .map(|n| (START.unix - 60, Address::new(&addr(n), full_node())))
        .collect()
}

fn filled(numbers: std::ops::Range<u8>) -> Table {
    Table::with_book(config(), book(numbers))
}

fn told(effects: &[Effect]) -> Option<BTreeSet<SocketAddr>> {
    match effects {
        [
            Effect::Send {
                message: Message::Addr(addrs),
                ..
            },
        ] => Some(
            addrs
                .iter()
                .map(|(_, a)| a.socket_addr().expect("IP"))
                .collect(),
        ),
        [
            Effect::Send {
                message: Message::AddrV2(addrs),
                ..
            },
        ] => Some(addrs.iter().map(|a| a.socket_addr().expect("IP")).collect()),
        [] => None,
        other => panic!("{other:?}"),
    }
}

#[test]
fn getaddr_is_answered_once_per_inbound_connection() {
    let mut table = filled(20..120);
    let id = table.admit(Inbound, addr(9));
    assert_eq!(
        told(&table.message(id, Message::GetAddr)).map(|set| set.len()),
        Some(23)
    );
    assert_eq!(told(&table.message(id, Message::GetAddr)), None);
}

#[test]
fn getaddr_of_a_peer_that_we_dialled_is_not_answered() {
    let mut table = filled(20..120);
    let id = table.admit(Outbound, addr(9));
    assert_eq!(told(&table.message(id, Message::GetAddr)), None);
}

#[test]
fn everybody_gets_the_same_answer_for_a_day() {
    let mut table = filled(20..120);
    let ask = |table: &mut Table| {
        let id = table.admit(Inbound, addr(9));
        told(&table.message(id, Message::GetAddr)).expect("an answer")
    };
    let first = ask(&mut table);
    table.wait(20 * 3_600);
    assert_eq!(ask(&mut table), first);
    table.wait(8 * 3_600);
    assert_ne!(ask(&mut table), first);
}

#[test]
fn the_answer_speaks_the_peers_dialect() {
    let mut table = filled(20..120);
    let mut old = table.introduction(Inbound, addr(9));
    old.wants_addrv2 = false;
    let id = old.id;
    table.step(Input::Add(old));
    let v1 = table.message(id, Message::GetAddr);
    assert!(matches!(
        v1.as_slice(),
        [Effect::Send {
            message: Message::Addr(_),
            ..
        }]
    ));
    let id = table.admit(Inbound, addr(9));
    let v2 = table.message(id, Message::GetAddr);
    assert!(matches!(
        v2.as_slice(),
        [Effect::Send {
            message: Message::AddrV2(_),
            ..
        }]
    ));
    assert_eq!(told(&v1), told(&v2));
}

#[test]
fn an_empty_book_says_nothing() {
    let mut table = Table::new(config());
    let id = table.admit(Inbound, addr(9));
    assert_eq!(table.message(id, Message::GetAddr), []);
}

#[test]
fn we_ask_those_whom_we_dialled() {
    let mut table = Table::new(config());
    let (id, effects) = table.add(Outbound, addr(9));
    let ask = Effect::Send {
        id,
        message: Message::GetAddr,
    };
    assert!(matches!(effects.as_slice(), [Effect::Admit(_), last] if *last == ask));
    let (_, effects) = table.add(Inbound, addr(10));
    assert!(matches!(effects.as_slice(), [Effect::Admit(_)]));
}

#[test]
fn an_address_flood_is_cut_to_one_in_ten_seconds() {
    let mut table = Table::new(config());
    let id = table.admit(Inbound, addr(9));
    table.message(id, Message::Addr(crowd(1_000)));
    assert_eq!(table.table.book().len(), 1, "what it may say of itself");
    table.wait(100);
    table.message(id, Message::Addr(crowd(1_000)));
    let row = table.table.peers().pop().expect("admitted");
    assert_eq!(
        (row.addresses_processed, row.addresses_rate_limited),
        (11, 1_989)
    );
    table.wait(24 * 3_600);
    table.message(id, Message::Addr(crowd(1_000)));
    table.message(id, Message::Addr(crowd(1_000)));
    let row = table.table.peers().pop().expect("admitted");
    assert_eq!(
        row.addresses_processed, 1_011,
        "at most a thousand are saved up"
    );
    assert!(table.table.book().len() <= crate::address_book::MAX_PER_SOURCE);
}

#[test]
fn an_answer_to_our_getaddr_is_taken_whole() {
    let mut table = Table::new(config());
    let id = table.admit(Outbound, addr(9));
    table.message(id, Message::Addr(crowd(1_000)));
    let row = table.table.peers().pop().expect("admitted");
    assert_eq!(
        (row.addresses_processed, row.addresses_rate_limited),
        (1_000, 0)
    );
}

#[test]
fn private_and_useless_addresses_are_not_learned() {
    let mut table = Table::new(config());
    let id = table.admit(Outbound, addr(9));
    let seen = START.unix;
    let local = SocketAddr::from(([127, 0, 0, 1], 8333));
    table.message(
        id,
        Message::Addr(vec![
            (seen, Address::new(&local, full_node())),
            (seen, Address::new(&addr(30), ServiceFlags::WITNESS)),
        ]),
    );
    let tor = AddrV2Message {
        time: seen,
        services: full_node(),
        addr: AddrV2::TorV3([7; 32]),
        port: 8333,
    };
    table.message(id, Message::AddrV2(vec![tor]));
    let known: Vec<SocketAddr> = table.table.book().rows().map(|row| row.addr).collect();
    assert_eq!(known, [addr(9)], "only the peer itself");
}

#[test]
fn a_regtest_node_learns_loopback_addresses() {
    let config = PeerTableConfig {
        allow_private_addresses: true,
        ..config()
    };
    let mut table = Table::with_book(config, AddressBook::new(true));
    let id = table.admit(Outbound, addr(9));
    let local = SocketAddr::from(([127, 0, 0, 1], 18_444));
    let message = Message::Addr(vec![(START.unix, Address::new(&local, full_node()))]);
    table.message(id, message);
    assert!(table.table.book().contains(local));
}
