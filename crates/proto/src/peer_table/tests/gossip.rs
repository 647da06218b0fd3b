use bitcoin::p2p::address::{AddrV2, AddrV2Message, Address};

use super::*;
use Direction::{Inbound, Manual, Outbound};

/// `count` full nodes in different groups, none of them in a group that a test uses.
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

fn sent_addresses(effects: &[Effect]) -> Option<BTreeSet<SocketAddr>> {
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
        sent_addresses(&table.message(id, Message::GetAddr)).map(|set| set.len()),
        Some(23)
    );
    assert_eq!(sent_addresses(&table.message(id, Message::GetAddr)), None);
}

#[test]
fn getaddr_of_a_peer_that_we_dialled_is_not_answered() {
    let mut table = filled(20..120);
    let id = table.admit(Outbound, addr(9));
    assert_eq!(sent_addresses(&table.message(id, Message::GetAddr)), None);
}

#[test]
fn every_peer_gets_the_same_answer_to_getaddr_for_a_day() {
    let mut table = filled(20..120);
    let ask = |table: &mut Table| {
        let id = table.admit(Inbound, addr(9));
        sent_addresses(&table.message(id, Message::GetAddr)).expect("an answer")
    };
    let first = ask(&mut table);
    table.wait(20 * 3_600);
    assert_eq!(ask(&mut table), first);
    table.wait(8 * 3_600);
    assert_ne!(ask(&mut table), first);
}

#[test]
fn there_is_an_answer_for_each_network_and_each_address_of_ours() {
    let mut table = filled(20..220);
    let mut ask = |remote: &str, local: Option<&str>| {
        let id = table.admit(Inbound, remote.parse().expect("an address"));
        if let Some(local) = local {
            let local = local.parse().expect("an address");
            table.table.set_local_address(id, local);
        }
        sent_addresses(&table.message(id, Message::GetAddr)).expect("an answer")
    };
    let (v4, v6, private) = ("9.1.1.1:999", "[2600::1]:999", "10.0.0.1:999");
    let answers = [
        ask(v4, Some("8.8.8.8:8333")),
        ask(v4, Some("8.8.8.9:8333")),
        ask(v4, Some("8.8.8.8:8334")),
        ask(v6, Some("8.8.8.8:8333")),
        ask(private, Some("8.8.8.8:8333")),
        ask(v4, None),
    ];
    let different: BTreeSet<_> = answers.iter().collect();
    assert_eq!(different.len(), answers.len());
    assert_eq!(ask("9.2.2.2:7", Some("8.8.8.8:8333")), answers[0]);
    assert_eq!(ask(v6, Some("8.8.8.8:8333")), answers[3]);
}

#[test]
fn any_number_of_local_addresses_does_not_read_the_book_out() {
    let mut table = filled(20..220);
    let mut answers = BTreeSet::new();
    for port in 1..200 {
        let id = table.admit(Inbound, addr(9));
        let local = SocketAddr::from(([8, 8, 8, 8], port));
        table.table.set_local_address(id, local);
        answers.insert(sent_addresses(&table.message(id, Message::GetAddr)).expect("an answer"));
        table.done(id, Inbound, addr(9));
    }
    assert!(answers.len() <= 17, "{}", answers.len());
}

/// The peers that get the addresses of a message, at once or within ten minutes.
fn passed_on(table: &mut Table, from: ConnId, message: Message) -> BTreeSet<ConnId> {
    let mut effects = table.message(from, message);
    effects.extend(table.run(600));
    let sent = effects.into_iter().filter_map(|effect| match effect {
        Effect::Send {
            id,
            message: Message::AddrV2(_) | Message::Addr(_),
        } => Some(id),
        _ => None,
    });
    sent.collect()
}

/// A table with ten outgoing peers in groups 10 to 19 whose answers to `getaddr` are complete.
fn connected_table() -> (Table, Vec<ConnId>) {
    let mut table = Table::new(PeerTableConfig {
        max_outbound: 10,
        ..config()
    });
    let ids: Vec<ConnId> = (10..20).map(|n| table.admit(Outbound, addr(n))).collect();
    for id in &ids {
        table.message(*id, Message::Addr(Vec::new()));
    }
    (table, ids)
}

fn seen(n: u8, time: u32) -> (u32, Address) {
    (time, Address::new(&addr(n), full_node()))
}

#[test]
fn a_fresh_address_is_relayed_to_two_peers() {
    let (mut table, ids) = connected_table();
    let fresh = Message::Addr(vec![seen(30, START.unix)]);
    let sent_addresses = passed_on(&mut table, ids[0], fresh);
    assert_eq!(sent_addresses.len(), 2);
    assert!(!sent_addresses.contains(&ids[0]));
}

#[test]
fn old_or_many_or_private_or_useless_or_requested_addresses_are_not_relayed() {
    let time = START.unix;
    let many = (30..41).map(|n| seen(n, time)).collect();
    let local = SocketAddr::from(([192, 168, 1, 1], 8333));
    let private = vec![(time, Address::new(&local, full_node()))];
    let useless = vec![(time, Address::new(&addr(30), ServiceFlags::WITNESS))];
    for addrs in [
        vec![seen(30, time - 601)],
        vec![seen(30, time + 1_000)],
        many,
        private,
        useless,
    ] {
        let (mut table, ids) = connected_table();
        let sent_addresses = passed_on(&mut table, ids[0], Message::Addr(addrs.clone()));
        assert_eq!(sent_addresses, BTreeSet::new(), "{addrs:?}");
    }
    let (mut table, _) = connected_table();
    let id = table.admit(Manual, addr(50));
    let answer = Message::Addr(vec![seen(30, time)]);
    let sent_addresses = passed_on(&mut table, id, answer);
    assert_eq!(sent_addresses, BTreeSet::new(), "we had sent it getaddr");
}

#[test]
fn a_banned_address_is_not_relayed() {
    let (mut table, ids) = connected_table();
    let target = "30.1.1.1".parse().expect("an address");
    let time = crate::bans::BanTime::Default;
    assert_eq!(table.ban(BanCommand::Add { target, time }).0, Ok(()));
    let banned = Message::Addr(vec![seen(30, START.unix)]);
    assert_eq!(passed_on(&mut table, ids[0], banned), BTreeSet::new());
}

#[test]
fn a_banned_onion_service_is_not_relayed() {
    let (mut table, ids) = connected_table();
    let target = crate::bans::BanTarget::Overlay(crate::address_book::Overlay::Onion([1; 32]));
    let time = crate::bans::BanTime::Default;
    assert_eq!(table.ban(BanCommand::Add { target, time }).0, Ok(()));
    for (key, is_passed_on) in [([1; 32], false), ([2; 32], true)] {
        let entry = AddrV2Message {
            time: table.now.unix,
            services: full_node(),
            addr: AddrV2::TorV3(key),
            port: 8333,
        };
        let sent_addresses = passed_on(&mut table, ids[0], Message::AddrV2(vec![entry]));
        assert_eq!(!sent_addresses.is_empty(), is_passed_on, "{key:?}");
    }
}

#[test]
fn the_answer_is_addr_or_addrv2_as_the_peer_negotiated() {
    let mut table = filled(20..120);
    let mut old = table.version_info(Inbound, addr(9));
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
    assert_eq!(sent_addresses(&v1), sent_addresses(&v2));
}

#[test]
fn an_empty_book_says_nothing() {
    let mut table = Table::new(config());
    let id = table.admit(Inbound, addr(9));
    assert_eq!(table.message(id, Message::GetAddr), []);
}

#[test]
fn getaddr_is_sent_to_outbound_peers() {
    let mut table = Table::new(config());
    let (id, effects) = table.add(Outbound, addr(9));
    let ask = Effect::Send {
        id,
        message: Message::GetAddr,
    };
    assert!(matches!(effects.as_slice(), [Effect::Admit { .. }, last] if *last == ask));
    let (_, effects) = table.add(Inbound, addr(10));
    assert!(matches!(effects.as_slice(), [Effect::Admit { .. }]));
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
fn an_answer_to_our_getaddr_is_processed_whole() {
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
fn private_and_useless_addresses_are_not_added() {
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
fn a_regtest_node_adds_loopback_addresses() {
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
