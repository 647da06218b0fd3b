//! Callers without a password, by the thousand: what they hold, what they guess, and what a
//! page in somebody's browser reads by them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use handfast_tests::connection::Connection;
use handfast_tests::descriptors::{make_room, open_now};
use handfast_tests::process::{Node, Setup};
use handfast_tests::rpc::{KeepAlive, Outcome};
use handfast_wire::Network;
use serde_json::json;
use socket2::{Domain, Socket, Type};

use crate::exchange::{
    basic, connect, cookie, exchange, last_post, node, read_to_end, rpc_address,
};

/// Descriptors of the node; and of them what others need: peers, files, event loops.
const LIMIT: u64 = 1_024;
/// Connections without a password: more than the node has descriptors.
const STRANGERS: usize = 2_000;
/// Those who guess at the same time.
const GUESSERS: usize = 100;
/// New connections of a caller with the right password, beside those who guess.
const CALLS: usize = 40;

/// A connection to the RPC that comes from this address of loopback.
fn connect_from(node: &Node, ip: [u8; 4]) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a descriptor is left");
    let own = SocketAddr::from((ip, 0));
    socket.bind(&own.into()).expect("all of 127/8 is loopback");
    let addr: SocketAddr = rpc_address(node).parse().expect("an address");
    socket.connect(&addr.into()).expect("the node listens");
    let stream = TcpStream::from(socket);
    let patience = Some(Duration::from_secs(60));
    stream.set_read_timeout(patience).expect("a timeout");
    stream
}

fn assert_answered(connection: &mut KeepAlive, who: &str) {
    let outcome = connection.call("getblockcount", json!([]));
    assert!(
        matches!(outcome, Outcome::Answered { status: 200, .. }),
        "{who}: {outcome:?}"
    );
}

#[test]
fn strangers_by_the_thousand_hold_no_descriptor_that_anybody_else_needs() {
    if !make_room(STRANGERS as u64 + 500) {
        return;
    }
    let setup = Setup::handfast(Network::Regtest).open_files(LIMIT, LIMIT);
    let node = setup.start();
    let quiet = open_now(&node);
    let mut early = node.rpc().keep_alive().expect("the node accepts");
    assert_answered(&mut early, "who logged in before");
    // In the middle of a request, at an address of its own.
    let begun = Instant::now();
    let mut slow = connect_from(&node, [127, 0, 0, 3]);
    slow.write_all(b"GET /health HTTP/1.1\r\n")
        .expect("written");

    let head = b"POST / HTTP/1.1\r\nHost: localhost\r\n";
    let strangers: Vec<TcpStream> = (0..STRANGERS)
        .map(|number| {
            let mut stranger = connect_from(&node, [127, 0, 0, 2]);
            // Half of them send nothing at all. Some were cut off by the time they speak.
            if number % 2 == 0 {
                let _ = stranger.write_all(head);
            }
            stranger
        })
        .collect();
    // Those who came before them were all let in or made room.
    let mut newcomer = node.rpc().keep_alive().expect("the node accepts");
    assert_answered(&mut newcomer, "over TCP");
    let held = open_now(&node) - quiet;
    println!("{STRANGERS} strangers hold {held} descriptors of {LIMIT}");
    assert!(held < 200, "{held} descriptors, beside {quiet}");

    Connection::dial(node.p2p(), &Network::Regtest).expect("a peer gets in");
    let unix = node.unix_rpc().keep_alive();
    assert_answered(&mut unix.expect("the node accepts"), "over the Unix socket");
    assert_answered(&mut early, "who logged in before");
    // A request has half a minute to arrive.
    if begun.elapsed() < Duration::from_secs(25) {
        slow.write_all(b"Host: localhost\r\nConnection: close\r\n\r\n")
            .expect("written");
        assert_eq!(
            read_to_end(&mut slow).status,
            200,
            "who has one connection does not make room for those who have many"
        );
    }
    // The last of them are in: nobody else wants their place.
    let mut last = strangers.into_iter().last().expect("there are some");
    let request = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    last.write_all(request).expect("written");
    assert_eq!(read_to_end(&mut last).status, 200);
}

#[test]
fn callers_who_have_logged_in_and_are_idle_make_room_when_all_have() {
    let setup = Setup::handfast(Network::Regtest).open_files(LIMIT, LIMIT);
    let node = setup.start();
    // More than a share of so few descriptors has, one after the other.
    let mut callers = Vec::new();
    for number in 0..200 {
        let mut caller = node.rpc().keep_alive().expect("the node listens");
        assert_answered(&mut caller, &format!("caller {number}"));
        callers.push(caller);
    }
    let mut unix = node.unix_rpc().keep_alive().expect("the node listens");
    assert_answered(&mut unix, "over the Unix socket");
}

/// Guesses on one connection after the other until told to stop; how many were answered.
fn guess(node: &Node, stop: &AtomicBool, answered: &AtomicU64) {
    let wrong = last_post(&basic("__cookie__:open sesame"), "{}");
    while !stop.load(Ordering::Relaxed) {
        let mut stream = connect(node);
        let patience = Some(Duration::from_millis(100));
        stream.set_read_timeout(patience).expect("a timeout");
        stream.write_all(wrong.as_bytes()).expect("written");
        let mut answer = [0; 12];
        while !stop.load(Ordering::Relaxed) {
            if stream.read_exact(&mut answer).is_ok() {
                assert_eq!(&answer, b"HTTP/1.1 401");
                answered.fetch_add(1, Ordering::Relaxed);
                break;
            }
        }
    }
}

#[test]
fn of_all_who_guess_passwords_at_an_address_one_is_answered_at_a_time_and_who_knows_it_at_once() {
    let node = node(&[]);
    let right = last_post(&cookie(&node), r#"{"method":"getblockcount"}"#);
    let (stop, answered) = (AtomicBool::new(false), AtomicU64::new(0));
    let begun = Instant::now();
    let mut took = Vec::new();
    std::thread::scope(|scope| {
        for _ in 0..GUESSERS {
            scope.spawn(|| guess(&node, &stop, &answered));
        }
        while answered.load(Ordering::Relaxed) < 4 {
            let asked = Instant::now();
            assert_eq!(exchange(&node, right.as_bytes()).status, 200);
            took.push(asked.elapsed());
        }
        for _ in 0..CALLS {
            let asked = Instant::now();
            assert_eq!(exchange(&node, right.as_bytes()).status, 200);
            took.push(asked.elapsed());
        }
        stop.store(true, Ordering::Relaxed);
    });
    let (answered, elapsed) = (answered.into_inner(), begun.elapsed());
    took.sort_unstable();
    let median = took[took.len() / 2];
    println!(
        "{GUESSERS} guessers: {answered} guesses answered in {elapsed:?}; {} right ones, half of \
         them within {median:?}",
        took.len()
    );
    let most = 1 + elapsed.as_millis() / 250;
    assert!(u128::from(answered) <= most, "{answered}, at most {most}");
    // Who stood behind them waited for a guesser's quarter of a second, at the least.
    assert!(median < Duration::from_millis(250), "{median:?}");
}

/// What is had by plain `GET`, and where calls go.
const PATHS: [&str; 6] = [
    "/",
    "/health",
    "/ready",
    "/metrics",
    "/rest/chaininfo.json",
    "/rest/headers/0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206.json",
];

#[test]
fn no_page_in_a_browser_reads_the_node_by_a_name_that_its_owner_has_pointed_here() {
    let node = node(&["--rest", "--rpc-allow-host", "node.lan"]);
    let login = cookie(&node);
    let status = |path: &str, headers: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nConnection: close\r\n{headers}\r\n");
        exchange(&node, request.as_bytes()).status
    };
    for path in PATHS {
        // A call is made by `POST`.
        let open = if path == "/" { 405 } else { 200 };
        let ready = path == "/ready";
        let ours = |status: u16| status == open || ready && status == 503;
        for host in ["localhost:18443", "127.0.0.1", "[::1]:1", "NODE.lan:18443"] {
            let found = status(path, &format!("Host: {host}\r\n"));
            assert!(ours(found), "{path} of {host}: {found}");
        }
        // Of HTTP/1.0, which knows no hosts. No browser speaks it.
        let old = exchange(&node, format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes());
        assert!(ours(old.status), "{path} without a host: {}", old.status);
        for host in [
            "evil.example",
            "evil.example:18443",
            "localhost.evil.example",
        ] {
            let header = format!("Host: {host}\r\n");
            assert_eq!(status(path, &header), 401, "{path} of {host}");
            let twice = format!("Host: localhost\r\n{header}");
            assert_ne!(status(path, &twice), 200, "{path} of two hosts");
            let found = status(path, &format!("{header}{login}"));
            assert!(
                found == open || ready && found == 503,
                "{path} of {host} with the password: {found}"
            );
        }
    }
    let log = node.output();
    assert_eq!(log.matches("--rpc-allow-host").count(), 1, "{log}");
}
