//! The driver against fake nodes: it counts what goes wrong, and only that.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use handfast_wire::{Message, Network};

use super::{Churn, Failure, Report, Shape, Stage, Variant, version};
use crate::connection::Connection;

const NETWORK: Network = Network::Regtest;
const ONE_BY_ONE: Shape = Shape::Continuous { concurrency: 1 };

/// A listener each of whose connections is given to `converse` on a thread of its own.
fn fake(converse: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port on loopback");
    let address = listener.local_addr().expect("it is bound");
    let converse = Arc::new(converse);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let converse = Arc::clone(&converse);
            std::thread::spawn(move || converse(stream));
        }
    });
    address
}

/// Does all that a node does in a handshake, until the other side closes. `write` sends.
fn converse_well(stream: TcpStream, write: impl Fn(&Connection, &[Message])) {
    let Ok(mut connection) = Connection::new(stream, &NETWORK) else {
        return;
    };
    while let Ok(Some(message)) = connection.receive() {
        match message {
            Message::Version(_) => {
                write(
                    &connection,
                    &[version(0), Message::SendAddrV2, Message::Verack],
                );
            }
            Message::Verack => write(&connection, &[Message::SendHeaders, Message::Ping(7)]),
            Message::Ping(nonce) => write(&connection, &[Message::Pong(nonce)]),
            _ => {}
        }
    }
}

/// Errors are the other side's leaving.
fn in_messages(connection: &Connection, messages: &[Message]) {
    for message in messages {
        let _ = connection.send(message);
    }
}

fn in_single_bytes(connection: &Connection, messages: &[Message]) {
    for message in messages {
        let encoded = message.encode(NETWORK.magic());
        for byte in encoded {
            let _ = connection.sender().send_bytes(&[byte]);
        }
    }
}

fn good() -> SocketAddr {
    fake(|stream| converse_well(stream, in_messages))
}

fn failures(report: &Report) -> Vec<(Failure, usize)> {
    report.failures.clone().into_iter().collect()
}

#[test]
fn every_kind_of_cycle_ends_well_against_a_good_node() {
    let address = good();
    for variant in Variant::ALL {
        let report = Churn::new(address, &NETWORK, ONE_BY_ONE, 5)
            .variants([variant])
            .run();
        assert_eq!(failures(&report), [], "{variant:?}");
        assert_eq!(report.cycles, 5);
        let answered = if variant == Variant::AfterVersion {
            0
        } else {
            5
        };
        assert_eq!(report.handshakes(), answered, "{variant:?}");
    }
}

#[test]
fn frames_that_arrive_byte_by_byte_are_understood() {
    let address = fake(|stream| converse_well(stream, in_single_bytes));
    let report = Churn::new(address, &NETWORK, ONE_BY_ONE, 3).run();
    assert_eq!(failures(&report), []);
    assert_eq!(report.handshakes(), 3);
}

#[test]
fn a_wave_is_all_there_before_it_leaves_and_has_answered_a_ping() {
    let open = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let address = fake({
        let (open, most) = (Arc::clone(&open), Arc::clone(&most));
        move |stream| {
            most.fetch_max(open.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            converse_well(stream, in_messages);
            open.fetch_sub(1, Ordering::SeqCst);
        }
    });
    let shape = Shape::Waves {
        size: 20,
        concurrent_handshakes: 3,
    };
    let report = Churn::new(address, &NETWORK, shape, 30).run();
    assert_eq!(failures(&report), []);
    assert_eq!(report.cycles, 40, "waves are whole");
    assert_eq!(report.pings_answered, 40);
    assert!(most.load(Ordering::SeqCst) >= 20, "a wave is together");
}

#[test]
fn a_crowd_stays_until_it_is_dropped() {
    let shape = Shape::Waves {
        size: 10,
        concurrent_handshakes: 4,
    };
    let mut crowd = Churn::new(good(), &NETWORK, shape, 10).gather();
    assert_eq!(crowd.len(), 10);
    crowd.answer_for(Duration::from_millis(1));
    assert_eq!(crowd.len(), 10);
    assert_eq!(failures(crowd.report()), []);
}

#[test]
fn a_port_where_nobody_listens_refuses_each_cycle() {
    let gone = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .expect("a port on loopback");
    let report = Churn::new(gone, &NETWORK, ONE_BY_ONE, 4).run();
    assert_eq!(failures(&report), [(Failure::Refused, 4)]);
}

#[test]
fn a_node_that_closes_in_the_handshake_is_told_from_one_that_answers() {
    let address = fake(|stream| {
        let mut connection = Connection::new(stream, &NETWORK).expect("a socket");
        // Read, so that the close is no reset.
        let _ = connection.receive();
    });
    let report = Churn::new(address, &NETWORK, ONE_BY_ONE, 4).run();
    assert_eq!(failures(&report), [(Failure::Closed(Stage::Handshake), 4)]);
    assert_eq!(report.handshakes(), 0);
}

#[test]
fn a_reset_is_told_from_a_close() {
    let address = fake(|stream| {
        // Closing with unread bytes resets.
        let mut byte = [0];
        let _ = stream.peek(&mut byte);
    });
    let report = Churn::new(address, &NETWORK, ONE_BY_ONE, 4).run();
    assert_eq!(failures(&report), [(Failure::Reset(Stage::Handshake), 4)]);
}

#[test]
fn a_node_that_never_answers_is_given_up_on() {
    let address = fake(|stream| {
        let mut connection = Connection::new(stream, &NETWORK).expect("a socket");
        while let Ok(Some(_)) = connection.receive() {}
    });
    let report = Churn::new(address, &NETWORK, Shape::Continuous { concurrency: 3 }, 3)
        .patience(Duration::from_millis(500))
        .run();
    assert_eq!(
        failures(&report),
        [(Failure::Unanswered(Stage::Handshake), 3)]
    );
}

#[test]
fn a_node_that_keeps_its_side_open_is_noticed() {
    let kept = Mutex::new(Vec::new());
    let address = fake(move |stream| {
        let descriptor = stream.try_clone().expect("a descriptor");
        kept.lock().expect("nobody panics").push(descriptor);
        converse_well(stream, in_messages);
    });
    let report = Churn::new(address, &NETWORK, ONE_BY_ONE, 1)
        .patience(Duration::from_millis(500))
        .run();
    let expected = BTreeMap::from([(Failure::Unanswered(Stage::Closing), 1)]);
    assert_eq!(report.failures, expected);
}

#[test]
fn bytes_that_are_no_frame_are_counted_as_such() {
    let address = fake(|mut stream| {
        let mut byte = [0];
        let _ = stream.peek(&mut byte);
        let _ = stream.write_all(&[0x5a; 64]);
        let _ = Connection::new(stream, &NETWORK).map(|mut rest| rest.is_closed_by_node());
    });
    let report = Churn::new(address, &NETWORK, ONE_BY_ONE, 2).run();
    assert_eq!(failures(&report), [(Failure::Garbled(Stage::Handshake), 2)]);
}
