use super::*;
use Direction::{Inbound, Manual, Outbound};

fn disconnects(effects: &[Effect]) -> Vec<(ConnId, DoneReason)> {
    let order = |effect: &Effect| match effect {
        Effect::Disconnect { id, reason } => Some((*id, reason.clone())),
        _ => None,
    };
    effects.iter().filter_map(order).collect()
}

#[test]
fn an_admitted_peer_is_retired_exactly_once() {
    let mut table = Table::new(config());
    let id = table.admit(Inbound, addr(9));
    assert_eq!(table.table.ids(), [id].into());
    assert_eq!(table.done(id, Inbound, addr(9)), [retire(id)]);
    assert!(table.table.ids().is_empty());
    table.table.assert_all_free();
}

#[test]
fn a_connection_that_never_added_is_not_retired() {
    let mut table = Table::new(config());
    assert_eq!(table.fail_handshake(Inbound, addr(9)), []);
    table.table.assert_all_free();
}

#[test]
fn a_refused_connection_is_disconnected_and_sync_never_receives_it() {
    let mut table = Table::new(PeerTableConfig {
        max_inbound: 1,
        ..config()
    });
    table.admit(Inbound, addr(9));
    let (id, effects) = table.add(Inbound, addr(10));
    assert!(matches!(
        disconnects(&effects).as_slice(),
        [(_, DoneReason::Refused(_))]
    ));
    assert_eq!(effects.len(), 1);
    assert_eq!(
        table.message(id, Message::SendHeaders),
        [],
        "its messages are dropped"
    );
    assert_eq!(
        table.done(id, Inbound, addr(10)),
        [],
        "no Retire without Admit"
    );
    let row = table.table.history().pop().expect("remembered");
    assert_eq!(
        (row.reached, row.user_agent.as_deref()),
        (Reached::Handshake, Some("/Satoshi:29.0.0/"))
    );
}

#[test]
fn limits_hold_for_each_direction_by_itself() {
    let mut table = Table::new(PeerTableConfig {
        max_inbound: 1,
        max_outbound: 1,
        ..config()
    });
    let first = table.admit(Inbound, addr(9));
    table.admit(Outbound, addr(10));
    table.admit(Manual, addr(11));
    let (_, refused) = table.add(Outbound, addr(12));
    assert_eq!(disconnects(&refused).len(), 1);
    table.done(first, Inbound, addr(9));
    table.admit(Inbound, addr(13));
}

#[test]
fn a_second_outgoing_connection_to_one_address_is_refused() {
    let mut table = Table::new(config());
    table.admit(Outbound, addr(9));
    let (id, effects) = table.add(Manual, addr(9));
    assert_eq!(
        disconnects(&effects),
        [(id, DoneReason::DuplicateConnection)]
    );
    table.admit(Inbound, addr(9));
}

#[test]
fn many_inbound_connections_from_one_host_are_admitted() {
    let mut table = Table::new(config());
    for port in 1_000..1_020 {
        table.admit(Inbound, SocketAddr::from(([127, 0, 0, 1], port)));
    }
}

#[test]
#[should_panic(expected = "lifecycle L1 broken by peer_add(peer 1)")]
fn an_add_after_done_names_the_invariant() {
    let mut table = Table::new(config());
    let version_info = table.version_info(Inbound, addr(9));
    table.done(version_info.id, Inbound, addr(9));
    table.step(Input::Add(version_info));
}

#[test]
#[should_panic(expected = "lifecycle L2 broken by peer_done(peer 1)")]
fn a_second_done_names_the_invariant() {
    let mut table = Table::new(config());
    let id = table.admit(Inbound, addr(9));
    table.done(id, Inbound, addr(9));
    table.done(id, Inbound, addr(9));
}

#[test]
#[should_panic(expected = "L6")]
fn a_peer_left_when_all_slots_are_free_names_the_invariant() {
    let mut table = Table::new(config());
    table.admit(Inbound, addr(9));
    table.table.assert_all_free();
}

#[test]
fn sync_messages_are_forwarded_and_others_are_not() {
    let mut table = Table::new(config());
    let id = table.admit(Inbound, addr(9));
    for message in [
        Message::SendHeaders,
        Message::Headers(Vec::new()),
        Message::Inv(Vec::new()),
        Message::GetData(Vec::new()),
        Message::NotFound(Vec::new()),
    ] {
        let forward = Effect::Forward {
            id,
            message: message.clone().into(),
            roles: Role::Sync.into(),
        };
        assert_eq!(table.message(id, message), [forward]);
    }
    for message in [
        Message::Mempool,
        Message::Tx(bytes::Bytes::new()),
        Message::FeeFilter(7),
    ] {
        assert_eq!(table.message(id, message), []);
    }
    assert_eq!(table.table.peers()[0].fee_filter, Some(7));
    assert_eq!(
        table.message(ConnId(99), Message::SendHeaders),
        [],
        "a stranger"
    );
}

#[test]
fn a_disconnected_peer_is_disconnected_once_and_its_messages_are_dropped() {
    let mut table = Table::new(config());
    let id = table.admit(Inbound, addr(9));
    let go = |reason| order(Order::Disconnect { id, reason });
    let effects = table.step(go(DoneReason::LowWorkChain));
    assert_eq!(
        effects,
        [Effect::Disconnect {
            id,
            reason: DoneReason::LowWorkChain
        }]
    );
    assert_eq!(table.step(go(DoneReason::HeadersTimeout)), []);
    assert_eq!(table.message(id, Message::SendHeaders), []);
    assert!(table.table.peers()[0].closing);
    assert_eq!(table.done(id, Inbound, addr(9)), [retire(id)]);
}

#[test]
fn commands_of_sync_for_a_peer_that_is_gone_are_dropped() {
    let mut table = Table::new(config());
    let id = table.admit(Inbound, addr(9));
    let send = || {
        order(Order::Send {
            id,
            message: Message::GetAddr,
        })
    };
    assert_eq!(
        table.step(send()),
        [Effect::Send {
            id,
            message: Message::GetAddr
        }]
    );
    table.done(id, Inbound, addr(9));
    assert_eq!(table.step(send()), []);
    let reason = DoneReason::LowWorkChain;
    assert_eq!(table.step(order(Order::Disconnect { id, reason })), []);
}

#[test]
fn the_operator_disconnects_by_id_and_by_address() {
    let mut table = Table::new(config());
    let (a, b) = (table.admit(Inbound, addr(9)), table.admit(Manual, addr(10)));
    let gone = |id| Effect::Disconnect {
        id,
        reason: DoneReason::Requested,
    };
    let by_id = DisconnectTarget::ById(a);
    assert_eq!(table.disconnect(by_id), (Ok(()), vec![gone(a)]));
    let by_addr = DisconnectTarget::ByAddr(addr(10));
    assert_eq!(table.disconnect(by_addr), (Ok(()), vec![gone(b)]));
    let unknown = DisconnectTarget::ById(ConnId(77));
    assert_eq!(table.disconnect(unknown), (Err(NotConnected), vec![]));
}

#[test]
fn inbound_connections_of_a_host_that_is_left_out_push_nobody_out_of_the_history() {
    let mut table = Table::new(config());
    table.fail_handshake(Inbound, addr(8));
    table.table.leave_out_of_history(Some(addr(9).ip()));
    for _ in 0..2 * MAX_HISTORY {
        table.fail_handshake(Inbound, addr(9));
    }
    table.fail_handshake(Inbound, addr(10));
    let hosts = |table: &Table| {
        let rows = table.table.history();
        rows.iter().map(|row| row.remote.ip()).collect::<Vec<_>>()
    };
    assert_eq!(hosts(&table), [addr(8).ip(), addr(10).ip()]);
    table.table.leave_out_of_history(None);
    table.fail_handshake(Inbound, addr(9));
    assert_eq!(hosts(&table).last(), Some(&addr(9).ip()));
}

#[test]
fn the_history_keeps_the_last_thousand_with_reasons() {
    let mut table = Table::new(config());
    for _ in 0..1_250 {
        table.fail_handshake(Inbound, addr(9));
    }
    let history = table.table.history();
    assert_eq!(history.len(), MAX_HISTORY);
    assert_eq!(
        history.first().map(|row| row.id),
        Some(ConnId(251)),
        "oldest first"
    );
    let last = history.last().expect("full");
    assert_eq!(
        (last.id, &last.reason),
        (ConnId(1_250), &DoneReason::HandshakeTimeout)
    );
    assert_eq!(
        (last.user_agent.as_deref(), last.ended_at),
        (None, START.unix)
    );
}

#[test]
fn draining_disconnects_every_peer_and_admits_and_dials_none() {
    let mut config = PeerTableConfig {
        dial: true,
        ..config()
    };
    config.add_nodes = vec!["1.2.3.4".to_owned(), "5.6.7.8".to_owned()];
    config.dns_seeds = vec!["seed.example".to_owned()];
    let mut table = Table::with_book(config, book(20..40));
    let id = table.admit(Inbound, addr(9));
    let effects = table.step(Input::Drain);
    assert_eq!(
        effects,
        [Effect::Disconnect {
            id,
            reason: DoneReason::Shutdown
        }]
    );
    assert_eq!(table.table.deadline(), None);

    let (late, refused) = table.add(Inbound, addr(10));
    assert_eq!(disconnects(&refused), [(late, DoneReason::Shutdown)]);
    table.fail_dial("1.2.3.4:8333".parse().expect("an address"), Some("1.2.3.4"));
    assert_eq!(table.run(3_600), []);
    table.done(id, Inbound, addr(9));
    table.done(late, Inbound, addr(10));
    table.table.assert_all_free();
}

fn two_subscribers() -> PeerTableConfig {
    PeerTableConfig {
        subscribers: Role::ALL.into(),
        ..config()
    }
}

#[test]
fn each_subscriber_gets_the_peers_that_it_wants_their_messages_and_their_end() {
    let mut table = Table::new(two_subscribers());
    let full = table.version_info(Inbound, addr(9));
    let light = VersionInfo {
        services: ServiceFlags::NONE,
        ..table.version_info(Inbound, addr(10))
    };
    for (peer, wanted) in [(full, Role::ALL.into()), (light, Roles::from(Role::Sync))] {
        let (id, remote) = (peer.id, peer.remote);
        let effects = table.step(Input::Add(peer.clone()));
        let roles = wanted;
        assert_eq!(effects, [Effect::Admit { peer, roles }]);
        let message: Arc<Message> = Message::Inv(vec![]).into();
        let effects = table.step(Input::Message {
            id,
            message: message.clone(),
        });
        let [
            Effect::Forward {
                message: forwarded,
                roles,
                ..
            },
        ] = &effects[..]
        else {
            panic!("{effects:?}");
        };
        assert_eq!(*roles, wanted);
        assert!(Arc::ptr_eq(forwarded, &message), "shared, not copied");
        let ended = table.done(id, Inbound, remote);
        let roles = wanted;
        assert_eq!(ended, [Effect::Retire { id, roles }]);
    }
    table.table.assert_all_free();
}

#[test]
fn a_peer_that_no_subscriber_wants_is_admitted_and_its_messages_go_to_none() {
    let subscribers = Role::Test.into();
    let mut table = Table::new(PeerTableConfig {
        subscribers,
        ..config()
    });
    let peer = VersionInfo {
        services: ServiceFlags::NONE,
        ..table.version_info(Inbound, addr(9))
    };
    let (id, roles) = (peer.id, Roles::NONE);
    let effects = table.step(Input::Add(peer.clone()));
    assert_eq!(effects, [Effect::Admit { peer, roles }]);
    assert_eq!(table.message(id, Message::SendHeaders), []);
    assert_eq!(table.table.ids(), [id].into());
    assert!(table.table.ids_of(Role::Test).is_empty());
    assert_eq!(
        table.done(id, Inbound, addr(9)),
        [Effect::Retire { id, roles }]
    );
}

#[test]
fn an_order_about_a_peer_that_the_subscriber_was_not_notified_of_is_not_carried_out() {
    let mut table = Table::new(two_subscribers());
    let light = VersionInfo {
        services: ServiceFlags::NONE,
        ..table.version_info(Inbound, addr(9))
    };
    let id = light.id;
    table.step(Input::Add(light));
    for from in [Role::Test, Role::Sync] {
        let (order, message) = (|order| Input::Order { from, order }, Message::SendHeaders);
        let sent = table.step(order(Order::Send { id, message }));
        let reason = DoneReason::Requested;
        let closed = table.step(order(Order::Disconnect { id, reason }));
        let done = usize::from(from == Role::Sync);
        assert_eq!((sent.len(), closed.len()), (done, done), "{from}");
    }
}
