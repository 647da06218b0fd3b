mod unwanted;

use bitcoin::p2p::address::Address;
use handfast_wire::message::{Locator, Version};
use proptest::prelude::*;

use super::*;

const START: Now = Now {
    mono: Duration::from_secs(10),
    unix: 1_700_000_000,
};

fn config() -> Arc<SessionConfig> {
    Arc::new(SessionConfig::new("/Handfast:test/".to_owned(), [7; 16]))
}

fn session(direction: Direction, seed: u64) -> Session {
    let remote = "203.0.113.5:8333".parse().expect("an address");
    Session::new(config(), ConnId(1), direction, remote, 321, seed, START)
}

fn after(seconds: u64) -> Now {
    START.after(Duration::from_secs(seconds))
}

/// A `version` as a current full node sends it.
fn their_version() -> Version {
    Version {
        version: 70_016,
        services: full_node(),
        timestamp: i64::from(START.unix) + 5,
        receiver: Address {
            services: ServiceFlags::NONE,
            address: [0; 8],
            port: 0,
        },
        sender: None,
        nonce: Some(0x1234_5678_9abc_def0),
        user_agent: "/Satoshi:29.0.0/".to_owned(),
        start_height: Some(840_000),
        relay: true,
    }
}

fn receive(session: &mut Session, now: Now, message: Message) -> Vec<Effect> {
    session.step(now, Input::Received(message))
}

/// An inbound session whose handshake is complete, its first ping outstanding.
fn ready() -> Session {
    let mut session = session(Direction::Inbound, 1);
    session.step(START, Input::Connected);
    receive(&mut session, START, Message::Version(their_version()));
    receive(&mut session, START, Message::Verack);
    assert!(!session.awaiting_handshake());
    session
}

fn closes(effects: &[Effect]) -> Vec<DoneReason> {
    let reason = |effect: &Effect| match effect {
        Effect::Close(reason) => Some(reason.clone()),
        Effect::Send(_) | Effect::Ready(_) | Effect::Deliver(_) | Effect::Rtt(_) => None,
    };
    effects.iter().filter_map(reason).collect()
}

fn our_ping(effects: &[Effect]) -> Option<u64> {
    effects.iter().find_map(|effect| match effect {
        Effect::Send(Message::Ping(nonce)) => Some(*nonce),
        _ => None,
    })
}

#[test]
fn who_dialled_speaks_first_and_completes_on_verack() {
    let mut session = session(Direction::Outbound, 1);
    let sent = session.step(START, Input::Connected);
    let [Effect::Send(Message::Version(ours))] = sent.as_slice() else {
        panic!("{sent:?}")
    };
    assert_eq!(
        (ours.version, ours.start_height, ours.relay),
        (PROTOCOL_VERSION, Some(321), false)
    );
    assert_eq!(ours.services, offered());
    assert!(ours.services.has(ServiceFlags::NETWORK_LIMITED));

    let sent = receive(&mut session, after(1), Message::Version(their_version()));
    assert_eq!(
        sent,
        [
            Effect::Send(Message::SendAddrV2),
            Effect::Send(Message::Verack)
        ]
    );
    assert_eq!(receive(&mut session, after(1), Message::SendAddrV2), []);
    assert_eq!(receive(&mut session, after(1), Message::WtxidRelay), []);

    let sent = receive(&mut session, after(2), Message::Verack);
    let [
        Effect::Ready(intro),
        Effect::Send(Message::SendHeaders),
        Effect::Send(Message::Ping(_)),
    ] = sent.as_slice()
    else {
        panic!("{sent:?}")
    };
    assert_eq!(intro.claimed_height, Some(840_000));
    assert_eq!(intro.handshake, Duration::from_secs(2));
    assert_eq!(intro.connected_at, START);
    assert_eq!(
        intro.time_offset, 4,
        "5 s ahead when sent, received 1 s later"
    );
    assert!(intro.wants_addrv2 && intro.wtxid_relay && intro.relay);
}

#[test]
fn who_was_dialled_answers_version_with_version() {
    let mut session = session(Direction::Inbound, 1);
    assert_eq!(
        session.step(START, Input::Connected),
        [],
        "silent until spoken to"
    );
    let sent = receive(&mut session, START, Message::Version(their_version()));
    assert!(matches!(
        sent.as_slice(),
        [
            Effect::Send(Message::Version(_)),
            Effect::Send(Message::SendAddrV2),
            Effect::Send(Message::Verack)
        ]
    ));
}

#[test]
fn connected_told_twice_sends_one_version() {
    let mut session = session(Direction::Manual, 1);
    assert_eq!(session.step(START, Input::Connected).len(), 1);
    assert_eq!(session.step(START, Input::Connected), []);
}

#[test]
fn an_older_peer_is_not_sent_what_it_does_not_know() {
    let mut session = session(Direction::Inbound, 1);
    let old = Version {
        version: 60_000,
        ..their_version()
    };
    let sent = receive(&mut session, START, Message::Version(old));
    assert!(!sent.contains(&Effect::Send(Message::SendAddrV2)));
    let sent = receive(&mut session, START, Message::Verack);
    assert!(
        matches!(sent.as_slice(), [Effect::Ready(_)]),
        "no sendheaders, no ping: {sent:?}"
    );
    assert_eq!(
        receive(&mut session, START, Message::Ping(4)),
        [],
        "BIP31 is not known to it"
    );
    assert_eq!(session.deadline(), Some(START.mono + INACTIVITY_TIMEOUT));
}

#[test]
fn a_short_version_is_tolerated() {
    let mut session = session(Direction::Inbound, 1);
    let short = Version {
        nonce: None,
        sender: None,
        user_agent: String::new(),
        start_height: None,
        version: 31_800,
        services: ServiceFlags::NONE,
        ..their_version()
    };
    receive(&mut session, START, Message::Version(short));
    let sent = receive(&mut session, START, Message::Verack);
    let [Effect::Ready(intro)] = sent.as_slice() else {
        panic!("{sent:?}")
    };
    assert_eq!(intro.claimed_height, None);
}

#[test]
fn messages_before_version_and_before_verack_are_ignored() {
    let early = || {
        vec![
            Message::Verack,
            Message::Ping(1),
            Message::GetAddr,
            Message::SendAddrV2,
            Message::Headers(Vec::new()),
        ]
    };
    let mut session = session(Direction::Inbound, 1);
    for message in early() {
        assert_eq!(receive(&mut session, START, message), []);
    }
    receive(&mut session, START, Message::Version(their_version()));
    for message in early().into_iter().skip(1) {
        assert_eq!(receive(&mut session, START, message), []);
    }
    let sent = receive(&mut session, START, Message::Verack);
    let Some(Effect::Ready(intro)) = sent.first() else {
        panic!("{sent:?}")
    };
    assert!(intro.wants_addrv2, "sendaddrv2 after version counts");
}

#[test]
fn a_second_version_changes_nothing() {
    let mut session = session(Direction::Inbound, 1);
    receive(&mut session, START, Message::Version(their_version()));
    let before = session.clone();
    let other = Version {
        user_agent: "/other/".to_owned(),
        version: 1,
        ..their_version()
    };
    assert_eq!(
        receive(&mut session, START, Message::Version(other.clone())),
        []
    );
    assert_eq!(session, before);

    let mut session = ready();
    let before = session.clone();
    assert_eq!(receive(&mut session, START, Message::Version(other)), []);
    assert_eq!(session, before);
}

#[test]
fn a_second_verack_changes_nothing() {
    let mut session = ready();
    let before = session.clone();
    assert_eq!(receive(&mut session, START, Message::Verack), []);
    assert_eq!(session, before);
}

#[test]
fn verack_then_disconnect_is_ready_then_close() {
    let mut session = session(Direction::Inbound, 1);
    let mut all = receive(&mut session, START, Message::Version(their_version()));
    all.extend(receive(&mut session, START, Message::Verack));
    all.extend(session.step(START, Input::RemoteClosed));
    all.extend(session.step(START, Input::RemoteClosed));
    all.extend(receive(&mut session, START, Message::Verack));
    all.retain(|effect| matches!(effect, Effect::Ready(_) | Effect::Close(_)));
    assert!(matches!(
        all.as_slice(),
        [Effect::Ready(_), Effect::Close(DoneReason::RemoteClosed)]
    ));
}

#[test]
fn disconnect_before_verack_gives_close_without_ready() {
    let mut session = session(Direction::Inbound, 1);
    receive(&mut session, START, Message::Version(their_version()));
    assert_eq!(
        session.step(START, Input::RemoteClosed),
        [Effect::Close(DoneReason::RemoteClosed)]
    );
    assert_eq!(receive(&mut session, START, Message::Verack), []);
    assert_eq!(session.deadline(), None);
}

#[test]
fn timeout_and_verack_at_one_instant_are_decided_by_their_order() {
    let at = after(60);
    let waiting = || {
        let mut session = session(Direction::Inbound, 1);
        receive(&mut session, START, Message::Version(their_version()));
        assert_eq!(session.deadline(), Some(at.mono));
        session
    };

    let mut timeout_first = waiting();
    assert_eq!(
        timeout_first.step(at, Input::Deadline),
        [Effect::Close(DoneReason::HandshakeTimeout)]
    );
    assert_eq!(receive(&mut timeout_first, at, Message::Verack), []);

    let mut verack_first = waiting();
    let effects = receive(&mut verack_first, at, Message::Verack);
    assert!(matches!(effects.first(), Some(Effect::Ready(_))));
    assert_eq!(verack_first.step(at, Input::Deadline), []);
    assert!(!verack_first.awaiting_handshake());
}

#[test]
fn an_early_deadline_does_nothing() {
    let mut session = session(Direction::Inbound, 1);
    let before = session.clone();
    assert_eq!(session.step(after(59), Input::Deadline), []);
    assert_eq!(session, before);
}

#[test]
fn a_peer_that_only_talks_but_never_shakes_hands_is_closed() {
    let mut session = session(Direction::Inbound, 1);
    receive(&mut session, after(59), Message::Ping(1));
    assert_eq!(
        session.step(after(60), Input::Deadline),
        [Effect::Close(DoneReason::HandshakeTimeout)]
    );
}

#[test]
fn a_connection_to_ourselves_is_recognised_across_sessions() {
    let mut dialling = session(Direction::Outbound, 1);
    let sent = dialling.step(START, Input::Connected);
    let [Effect::Send(ours)] = sent.as_slice() else {
        panic!("{sent:?}")
    };
    let mut accepting = session(Direction::Inbound, 2);
    assert_eq!(
        receive(&mut accepting, START, ours.clone()),
        [Effect::Close(DoneReason::SelfConnection)]
    );
}

#[test]
fn an_obsolete_version_is_refused_with_both_sides_of_the_rule() {
    let mut session = session(Direction::Inbound, 1);
    let old = Version {
        version: 31_799,
        ..their_version()
    };
    assert_eq!(
        receive(&mut session, START, Message::Version(old)),
        [Effect::Close(DoneReason::ObsoleteVersion {
            got: 31_799,
            min: 31_800
        })]
    );
}

#[test]
fn only_automatic_connections_demand_services() {
    let poor = Version {
        services: ServiceFlags::WITNESS,
        ..their_version()
    };
    for (direction, refused) in [
        (Direction::Outbound, true),
        (Direction::Manual, false),
        (Direction::Inbound, false),
    ] {
        let mut session = session(direction, 1);
        session.step(START, Input::Connected);
        let effects = receive(&mut session, START, Message::Version(poor.clone()));
        let expected: &[DoneReason] = if refused {
            &[DoneReason::MissingServices]
        } else {
            &[]
        };
        assert_eq!(closes(&effects), expected, "{direction}");
    }
}

#[test]
fn ping_is_answered_and_other_messages_are_delivered() {
    let mut session = ready();
    assert_eq!(
        receive(&mut session, START, Message::Ping(9)),
        [Effect::Send(Message::Pong(9))]
    );
    for message in [
        Message::SendHeaders,
        Message::FeeFilter(1_000),
        Message::GetAddr,
        Message::GetHeaders(Locator {
            hashes: Vec::new(),
            stop: bitcoin::constants::genesis_block(bitcoin::Network::Regtest).block_hash(),
        }),
    ] {
        assert_eq!(
            receive(&mut session, START, message.clone()),
            [Effect::Deliver(message)]
        );
    }
    assert_eq!(
        receive(
            &mut session,
            START,
            Message::Unknown {
                command: "alert".to_owned()
            }
        ),
        []
    );
}

#[test]
fn a_feature_message_after_verack_ends_the_connection() {
    for message in [Message::SendAddrV2, Message::WtxidRelay] {
        let effects = receive(&mut ready(), START, message);
        assert!(matches!(
            closes(&effects).as_slice(),
            [DoneReason::ProtocolViolation(_)]
        ));
    }
}

#[test]
fn pings_go_out_every_two_minutes_and_measure_the_round_trip() {
    let mut session = session(Direction::Inbound, 1);
    receive(&mut session, START, Message::Version(their_version()));
    let first = our_ping(&receive(&mut session, START, Message::Verack)).expect("at once");
    assert_eq!(
        receive(&mut session, after(3), Message::Pong(first)),
        [Effect::Rtt(Duration::from_secs(3))]
    );
    assert_eq!(
        receive(&mut session, after(4), Message::Pong(first)),
        [],
        "answered already"
    );
    assert_eq!(session.deadline(), Some(START.mono + PING_INTERVAL));
    assert_eq!(session.step(after(119), Input::Deadline), []);
    let second = our_ping(&session.step(after(120), Input::Deadline)).expect("due");
    assert_ne!(first, second);
}

#[test]
fn a_ping_of_the_operator_goes_out_at_once_unless_one_is_unanswered() {
    let mut session = ready();
    assert_eq!(
        session.step(after(5), Input::Ping),
        [],
        "the first one is out"
    );
    receive(&mut session, after(6), Message::Pong(0));
    let effects = session.step(after(7), Input::Ping);
    let nonce = our_ping(&effects).expect("a ping");
    let effects = receive(&mut session, after(9), Message::Pong(nonce));
    assert_eq!(effects, [Effect::Rtt(Duration::from_secs(2))]);
    assert!(our_ping(&session.step(after(9), Input::Ping)).is_some());
}

#[test]
fn before_the_handshake_no_ping_is_sent() {
    let mut session = session(Direction::Inbound, 1);
    assert_eq!(session.step(after(1), Input::Ping), []);
}

#[test]
fn a_foreign_pong_is_ignored_and_a_zero_pong_cancels() {
    let mut session = ready();
    let before = session.clone();
    assert_eq!(receive(&mut session, START, Message::Pong(12_345)), []);
    assert_eq!(session, before, "the ping is still outstanding");
    assert_eq!(
        receive(&mut session, START, Message::Pong(0)),
        [],
        "no round trip is known"
    );
    assert!(our_ping(&session.step(after(120), Input::Deadline)).is_some());
}

#[test]
fn an_unanswered_ping_ends_the_connection_though_the_peer_talks() {
    let mut session = ready();
    receive(&mut session, after(1_199), Message::FeeFilter(1));
    assert_eq!(session.deadline(), Some(START.mono + INACTIVITY_TIMEOUT));
    assert_eq!(
        session.step(after(1_200), Input::Deadline),
        [Effect::Close(DoneReason::PingTimeout)]
    );
}

#[test]
fn silence_ends_the_connection() {
    assert_eq!(
        ready().step(after(1_200), Input::Deadline),
        [Effect::Close(DoneReason::Inactive)]
    );
}

#[test]
#[should_panic(expected = "Received before Connected")]
fn a_message_before_the_transport_is_connected_is_our_bug() {
    receive(&mut session(Direction::Outbound, 1), START, Message::Verack);
}

/// Anything that can happen to a session, with the time that passes before it.
fn anything() -> impl Strategy<Value = (u64, Input)> {
    let message = prop_oneof![
        Just(Message::Version(their_version())),
        Just(Message::Version(Version {
            version: 1,
            ..their_version()
        })),
        Just(Message::Verack),
        Just(Message::SendAddrV2),
        Just(Message::Ping(1)),
        Just(Message::Pong(0)),
        Just(Message::GetAddr),
    ];
    let input = prop_oneof![
        8 => message.prop_map(Input::Received),
        2 => Just(Input::Deadline),
        1 => Just(Input::Connected),
        1 => Just(Input::RemoteClosed),
        1 => Just(Input::SlowReader),
        1 => Just(Input::Undecodable(DecodeError::Transaction)),
        1 => Just(Input::Malformed(garbled())),
        1 => Just(Input::Undecodable(forbidden())),
        1 => Just(Input::ReadFailed(std::io::ErrorKind::ConnectionReset.into())),
        1 => Just(Input::Disconnect(DoneReason::Requested)),
    ];
    (0u64..90, input)
}

/// What the session drops.
fn garbled() -> Garbled {
    Garbled::Payload(DecodeError::Truncated {
        command: "inv",
        field: "entries",
    })
}

/// What no honest node sends.
fn forbidden() -> DecodeError {
    DecodeError::Forbidden {
        command: "addrv2",
        field: "address",
    }
}

proptest! {
    /// Whatever happens: `Ready` at most once, `Deliver` only after it, `Close`
    /// at most once and last, and a deadline exactly while the session lives.
    #[test]
    fn effects_keep_their_order_whatever_happens(
        inputs in prop::collection::vec(anything(), 1..60),
        outgoing in any::<bool>(),
    ) {
        let direction = if outgoing { Direction::Manual } else { Direction::Inbound };
        let mut session = session(direction, 5);
        session.step(START, Input::Connected);
        let (mut now, mut ready, mut closed) = (START, 0, 0);
        for (wait, input) in inputs {
            now = now.after(Duration::from_secs(wait));
            for effect in session.step(now, input) {
                prop_assert_eq!(closed, 0, "nothing follows Close");
                match effect {
                    Effect::Ready(_) => ready += 1,
                    Effect::Deliver(_) | Effect::Rtt(_) => prop_assert_eq!(ready, 1),
                    Effect::Close(_) => closed += 1,
                    Effect::Send(_) => {}
                }
            }
            prop_assert!(ready <= 1);
            prop_assert_eq!(session.deadline().is_none(), closed == 1);
            prop_assert!(!(session.awaiting_handshake() && ready == 1));
        }
    }

    /// With every deadline reported, a session whose peer says nothing always ends.
    #[test]
    fn a_session_left_alone_ends_by_itself(handshake in any::<bool>()) {
        let mut session = if handshake { ready() } else { session(Direction::Inbound, 1) };
        let mut now = START;
        for _ in 0..20 {
            let Some(due) = session.deadline() else { break };
            now = Now { mono: due.max(now.mono), unix: now.unix };
            session.step(now, Input::Deadline);
        }
        prop_assert_eq!(session.deadline(), None);
    }
}
