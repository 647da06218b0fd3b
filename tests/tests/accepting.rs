//! Every connection is accepted, or refused with an answer: real sockets on loopback against the
//! running binary, by the thousand, with every core busy, without descriptors, and with the
//! listening socket taken away.

use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use handfast_tests::callers::{self, Burning, Fates};
use handfast_tests::connection::Connection;
use handfast_tests::descriptors::{open_now, set_limit};
use handfast_tests::process::{Node, Setup, free_address};
use handfast_tests::rpc::Outcome;
use handfast_tests::wait::wait_for;
use handfast_wire::Network;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd};
use serde_json::{Value, json};
use socket2::{Domain, SockAddr, Socket, Type};

/// Time limit of an honest handshake, whatever other connections there are. The issue's own bound.
const HONEST_HANDSHAKE: Duration = Duration::from_secs(1);

/// One at a time: each of these tests needs the machine, or measures.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn node() -> Node {
    Setup::handfast(Network::Regtest).start()
}

/// The row of `getlistenerinfo` for the first address of the node.
fn listener(node: &Node) -> Value {
    node.rpc().get("getlistenerinfo", json!([]))["sockets"][0].take()
}

fn number(value: &Value) -> usize {
    let number = value
        .as_u64()
        .unwrap_or_else(|| panic!("{value} is no count"));
    usize::try_from(number).expect("a count")
}

/// Waits until every admitted connection has ended; returns their number.
fn ended(node: &Node) -> usize {
    let audit = || node.rpc().get("audit", json!([]));
    wait_for("all slots are free", || {
        (audit()["slots_taken"] == 0).then_some(())
    });
    // Queried again: the figures of one audit are not of the same moment.
    number(&audit()["handled"]["peermanager"]["dones"])
}

/// Every connection is accounted for: by the callers, by the listener, by the peer manager, and
/// every refused one has a reason.
fn assert_accounted(node: &Node, fates: &Fates, callers: usize) {
    println!("{callers} callers: {fates}");
    assert_eq!(fates.failures.len(), 0, "{fates}");
    assert_eq!(fates.made, callers, "{fates}");
    assert_eq!(fates.hung, 0, "{fates}");
    assert_eq!(fates.answered + fates.unanswered(), callers, "{fates}");
    let ended = ended(node);
    let listener = listener(node);
    assert_eq!(number(&listener["accepted"]), callers, "{listener}");
    assert_eq!(listener["accept_queue"], 0, "{listener}");
    let refused = &listener["refused"];
    let no_slot = number(&refused["no_slot"]);
    assert_eq!(refused["banned"], 0, "{listener}");
    assert_eq!(refused["no_descriptor"], 0, "{listener}");
    assert_eq!(
        no_slot + ended,
        callers,
        "each was refused or became a connection"
    );
    println!("{no_slot} found no slot, {ended} were connections");

    // Refused without an answer: by the listener, or evicted from the handshake limiter.
    let history = node.peer_history();
    assert_eq!(history.len(), ended.min(1_000));
    let evicted = history
        .iter()
        .filter(|row| row["reason"] == "evicted in favour of others");
    let evicted = evicted.count();
    if ended <= 1_000 {
        assert!(
            fates.unanswered() <= no_slot + evicted,
            "{fates}, {evicted} evicted"
        );
    }
    assert!(history.iter().all(|row| row["reason"] != ""));
}

#[test]
fn each_of_28_000_callers_one_after_another_is_answered() {
    let _alone = alone();
    let node = node();
    let fates = callers::in_turn(node.p2p(), &Network::Regtest, 28_000);
    assert_accounted(&node, &fates, 28_000);
    assert_eq!(fates.answered, 28_000, "{fates}");
}

#[test]
fn each_of_28_000_callers_one_after_another_is_served_while_every_core_burns() {
    let _alone = alone();
    let node = node();
    let burning = Burning::every_core();
    let fates = callers::in_turn(node.p2p(), &Network::Regtest, 28_000);
    drop(burning);
    assert_accounted(&node, &fates, 28_000);
}

/// Bursts against a new node, and one more caller after them.
fn survives_a_burst_of(callers: usize, burn: bool) {
    let _alone = alone();
    let node = node();
    let burning = burn.then(Burning::every_core);
    let fates = callers::at_once(node.p2p(), &Network::Regtest, callers);
    drop(burning);
    assert_accounted(&node, &fates, callers);
    assert!(fates.answered > 0, "{fates}");
    Connection::dial(node.p2p(), &Network::Regtest).expect("the next one is accepted");
}

#[test]
fn none_of_1_000_callers_at_once_is_left_hanging() {
    survives_a_burst_of(1_000, false);
}

#[test]
fn none_of_4_000_callers_at_once_is_left_hanging() {
    survives_a_burst_of(4_000, false);
}

#[test]
fn none_of_1_000_callers_at_once_is_left_hanging_while_every_core_burns() {
    survives_a_burst_of(1_000, true);
}

#[test]
fn none_of_4_000_callers_at_once_is_left_hanging_while_every_core_burns() {
    survives_a_burst_of(4_000, true);
}

fn connect_from(source: [u8; 4], target: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let source = SockAddr::from(SocketAddr::from((source, 0)));
    socket.bind(&source).expect("loopback is a /8");
    socket
        .connect(&target.into())
        .expect("the backlog has space");
    socket.into()
}

/// Whether the other end has closed, without waiting.
fn is_closed(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).expect("a socket");
    !matches!(stream.peek(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
}

/// Honest peers connect one after another while so many silent connections are held, from 16
/// subnets /24 of `network`; evicted ones reconnect at once.
fn honest_peers_get_in_beside(silent: u8, network: u8) {
    const HANDSHAKE_TIMEOUT: &str = "3";
    // Three times as long: the silent ones time out together and reconnect.
    const FOR: Duration = Duration::from_secs(9);
    let _alone = alone();
    let node = Setup::handfast(Network::Regtest)
        .arg("--handshake-timeout")
        .arg(HANDSHAKE_TIMEOUT)
        .start();
    callers::allow_descriptors(usize::from(silent) * 16);
    let sources =
        (0..16).flat_map(|subnet| (1..=silent).map(move |host| [127, network, subnet, host]));
    let sources: Vec<[u8; 4]> = sources.collect();
    let connect = |source: &[u8; 4]| connect_from(*source, node.p2p());
    let mut held: Vec<TcpStream> = sources.iter().map(connect).collect();

    let over = AtomicBool::new(false);
    let came_again = std::thread::scope(|scope| {
        let silence = scope.spawn(|| {
            let mut came_again = 0;
            while !over.load(Ordering::Relaxed) {
                for (held, source) in held.iter_mut().zip(&sources) {
                    if is_closed(held) {
                        *held = connect(source);
                        came_again += 1;
                    }
                }
                std::thread::yield_now();
            }
            came_again
        });
        let (begun, mut handshakes, mut slowest) = (Instant::now(), 0, Duration::ZERO);
        let mut failure = None;
        while begun.elapsed() < FOR && failure.is_none() {
            let came = Instant::now();
            match Connection::dial(node.p2p(), &Network::Regtest) {
                Ok(honest) => {
                    slowest = slowest.max(came.elapsed());
                    handshakes += 1;
                    honest.leave();
                }
                Err(error) => failure = Some(error),
            }
        }
        over.store(true, Ordering::Relaxed);
        let came_again = silence.join().expect("silence does not panic");
        println!(
            "{handshakes} honest handshakes, slowest {slowest:?}; {came_again} silent ones reconnected"
        );
        assert!(failure.is_none(), "{failure:?}, {}", listener(&node));
        assert!(
            slowest <= HONEST_HANDSHAKE,
            "an honest handshake took {slowest:?}"
        );
        came_again
    });
    assert!(
        came_again >= sources.len(),
        "the silent ones were disconnected and reconnected"
    );
}

#[test]
fn honest_handshakes_take_at_most_a_second_beside_128_silent_connections_of_16_subnets() {
    honest_peers_get_in_beside(8, 1);
}

#[test]
fn honest_handshakes_take_at_most_a_second_beside_1_024_silent_ones_of_another_network() {
    honest_peers_get_in_beside(64, 1);
}

#[test]
fn without_a_descriptor_connections_are_refused_and_with_one_they_are_accepted_again() {
    const CALLERS: usize = 200;
    let _alone = alone();
    let node = node();
    // Opened while that is possible.
    let mut rpc = node.unix_rpc().keep_alive().expect("the node answers");
    let mut ask = |method: &str| match rpc.call(method, json!([])) {
        Outcome::Answered { mut answer, .. } => answer["result"].take(),
        other => panic!("{method}: {other:?}"),
    };
    ask("uptime");
    let before = set_limit(&node, open_now(&node) + 4);

    let begun = Instant::now();
    let fates = callers::at_once(node.p2p(), &Network::Regtest, CALLERS);
    println!("without descriptors: {fates}");
    assert_eq!(fates.failures.len(), 0, "{fates}");
    assert_eq!((fates.made, fates.hung), (CALLERS, 0), "{fates}");
    let listener = ask("getlistenerinfo")["sockets"][0].take();
    let pauses = number(&listener["pauses"]);
    println!("{listener}");
    assert!(
        number(&listener["refused"]["no_descriptor"]) >= CALLERS / 2,
        "{listener}"
    );
    assert_eq!(number(&listener["accepted"]), CALLERS, "{listener}");
    assert_eq!(
        listener["accept_queue"], 0,
        "the queue is not empty: {listener}"
    );
    // A pause is 50 ms at least: it does not spin.
    let most = 2 + begun.elapsed().as_millis() / 50;
    assert!(
        (1..=most).contains(&(pauses as u128)),
        "{pauses} pauses, at most {most}"
    );

    set_limit(&node, before);
    let fates = callers::at_once(node.p2p(), &Network::Regtest, CALLERS);
    assert_eq!((fates.made, fates.answered), (CALLERS, CALLERS), "{fates}");
    let again = ask("getlistenerinfo")["sockets"][0].take();
    assert_eq!(again["refused"], listener["refused"]);
    assert!(node.output().contains("raise the limit on open files"));
}

/// The node's listening socket for `address`, duplicated from its process.
fn listening_socket(node: &Node, address: SocketAddr) -> rustix::io::Result<OwnedFd> {
    let pid = Pid::from_raw(i32::try_from(node.pid()).expect("a process id"));
    let process = rustix::process::pidfd_open(pid.expect("not zero"), PidfdFlags::empty())?;
    let open = std::fs::read_dir(format!("/proc/{}/fd", node.pid())).expect("the node runs");
    for entry in open {
        let name = entry.expect("listable").file_name();
        let number = name.to_str().and_then(|name| name.parse().ok());
        let number = number.expect("descriptors are numbers");
        let Ok(descriptor) = pidfd_getfd(&process, number, PidfdGetfdFlags::empty()) else {
            continue;
        };
        let bound = rustix::net::getsockname(&descriptor).ok();
        let bound = bound.and_then(|bound| SocketAddr::try_from(bound).ok());
        let listens = rustix::net::sockopt::socket_acceptconn(&descriptor) == Ok(true);
        if listens && bound == Some(address) {
            return Ok(descriptor);
        }
    }
    Err(rustix::io::Errno::NOENT)
}

#[test]
fn a_running_node_whose_listening_socket_is_taken_away_notices_and_listens_again() {
    let _alone = alone();
    let node = node();
    wait_for("the node has probed itself", || {
        (listener(&node)["probe"]["state"] == "accepting").then_some(())
    });
    let mut before = Connection::dial(node.p2p(), &Network::Regtest).expect("it listens");
    match listening_socket(&node, node.p2p()) {
        Ok(socket) => rustix::net::shutdown(socket, rustix::net::Shutdown::Both),
        Err(error) => {
            handfast_tests::skipped(&format!(
                "this system does not give access to the socket: {error}"
            ));
            return;
        }
    }
    .expect("a listening socket can be shut down");
    let probe = wait_for("the node listens again", || {
        let probe = listener(&node)["probe"].take();
        (probe["recreated"] == 1 && probe["state"] == "accepting").then_some(probe)
    });
    assert_eq!(probe["last"]["result"], "accepted", "{probe}");
    Connection::dial(node.p2p(), &Network::Regtest).expect("it listens again");
    let pong = handfast_wire::Message::Ping(7);
    before.send(&pong).expect("established connections stay");
    before.expect("the answer", |message| {
        (message == handfast_wire::Message::Pong(7)).then_some(())
    });
    let output = node.output();
    assert!(
        output.contains("a listening socket does not accept connections"),
        "{output}"
    );
    assert!(output.contains("was reopened"), "{output}");
}

#[test]
fn a_node_listens_on_every_configured_address_of_either_family() {
    let _alone = alone();
    let mut addresses = vec![free_address()];
    let six = SocketAddr::from((Ipv6Addr::LOCALHOST, free_address().port()));
    if TcpListener::bind(six).is_ok() {
        addresses.push(six);
    }
    let more = addresses
        .iter()
        .fold(Setup::handfast(Network::Regtest), |setup, address| {
            setup.arg("--listen").arg(address.to_string())
        });
    let node = more.arg("--backlog").arg("33").start();
    addresses.insert(0, node.p2p());
    for address in &addresses {
        Connection::dial(*address, &Network::Regtest).expect("it listens there");
    }
    let sockets = wait_for("the node has probed all its sockets", || {
        let sockets = node.rpc().get("getlistenerinfo", json!([]))["sockets"].take();
        let mut sockets = sockets.as_array()?.clone();
        // Those of RPC are probed as well.
        sockets.retain(|socket| socket["name"] == "p2p");
        let accepting = |socket: &Value| socket["probe"]["state"] == "accepting";
        sockets.iter().all(accepting).then_some(sockets)
    });
    assert_eq!(sockets.len(), addresses.len());
    for (socket, address) in sockets.iter().zip(&addresses) {
        assert_eq!(socket["address"], address.to_string(), "{socket}");
        assert_eq!(socket["backlog"]["asked"], 33, "{socket}");
        assert_eq!(socket["accepted"], 1, "{socket}");
    }
}

#[test]
fn an_accept_queue_that_the_system_caps_is_one_warning_that_names_the_remedy() {
    let limit = std::fs::read_to_string("/proc/sys/net/core/somaxconn").expect("Linux reports it");
    let limit: usize = limit.trim().parse().expect("a number");
    if limit >= 65_535 {
        handfast_tests::skipped(&format!("net.core.somaxconn is {limit}, nothing is capped"));
        return;
    }
    let _alone = alone();
    let second = free_address().to_string();
    let setup = Setup::handfast(Network::Regtest)
        .arg("--listen")
        .arg(second);
    let node = setup.arg("--backlog").arg((limit + 1).to_string()).start();
    let backlog = listener(&node)["backlog"].take();
    assert_eq!(backlog, json!({ "asked": limit + 1, "granted": limit }));
    assert_eq!(
        node.output().matches("net.core.somaxconn").count(),
        1 + 1,
        "a text and its command"
    );
    let modest = Setup::handfast(Network::Regtest)
        .arg("--backlog")
        .arg("8")
        .start();
    assert!(!modest.output().contains("somaxconn"));
}

#[test]
fn the_limit_on_open_files_is_raised_to_what_the_configuration_needs_or_fewer_connections_are_accepted()
 {
    let _alone = alone();
    let limits = |node: &Node| {
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", node.pid()));
        let limits = limits.expect("the node runs");
        let line = limits
            .lines()
            .find(|line| line.starts_with("Max open files"));
        let mut words = line.expect("Linux reports it").split_whitespace().skip(3);
        [words.next(), words.next()].map(|word| word.and_then(|word| word.parse::<u64>().ok()))
    };
    let node = |soft: u64, hard: u64, inbound: &str| {
        let setup = Setup::handfast(Network::Regtest).open_files(soft, hard);
        setup.arg("--max-inbound").arg(inbound).start()
    };
    let raised = node(256, 4_096, "1000");
    let [soft, hard] = limits(&raised);
    assert_eq!(hard, Some(4_096));
    assert!(soft > Some(1_500), "{soft:?}");
    assert!(!raised.output().contains("limit on open files"));
    drop(raised);
    let short = node(256, 1_024, "1000");
    assert_eq!(limits(&short), [Some(1_024); 2]);
    let output = short.output();
    let warnings = output
        .lines()
        .filter(|line| line.contains("hard limit on open files"));
    assert_eq!(warnings.count(), 1, "{output}");
    // 4,000 callers delay no other.
    let fates = callers::at_once(short.p2p(), &Network::Regtest, 4_000);
    println!("with 1,024 descriptors: {fates}");
    assert_eq!((fates.made, fates.hung), (4_000, 0), "{fates}");
    assert!(fates.failures.is_empty(), "{fates}");
    assert!(short.height() == 0, "it answers");
    assert_eq!(listener(&short)["refused"]["no_descriptor"], 0);
}
