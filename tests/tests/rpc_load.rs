//! Every caller gets in: bursts of plain clients over both sockets while every core is
//! busy, and beside thousands of connections that do nothing or next to nothing.

use std::io::Write;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use handfast_tests::descriptors::make_room;
use handfast_tests::miner_stand_in::MinerStandIn;
use handfast_tests::process::{Node, Setup, op_true_signet};
use handfast_tests::rpc::{KeepAlive, Outcome, Report, Rpc, Stream};
use handfast_tests::usage::Usage;
use handfast_tests::wait::{PATIENCE, wait_for};
use handfast_wire::Network;
use serde_json::json;

fn node() -> Node {
    Setup::handfast(Network::Regtest).start()
}

/// What a caller would notice. A connection that found the queue of callers full is tried
/// again by the system after a second.
const NOTICED: Duration = Duration::from_secs(1);

/// One in a hundred may be unlucky on a machine that does other things.
fn assert_noticed_by_few(report: &Report) {
    let noticed = report.later_than(NOTICED);
    assert!(
        noticed * 100 <= report.calls,
        "{noticed} took longer than {NOTICED:?}: {report}"
    );
}

/// Bursts over both sockets in which nothing goes wrong.
fn all_are_answered(node: &Node, callers: usize, rounds: usize) {
    for (name, rpc) in [("Unix", node.unix_rpc()), ("TCP", node.rpc().clone())] {
        let report = rpc.burst(callers, rounds).run();
        println!("{name}, {callers} at once × {rounds}: {report}");
        assert_eq!(report.failed(), 0, "{name}, {callers} at once: {report}");
        assert_eq!(report.calls, callers * rounds);
        assert_noticed_by_few(&report);
    }
}

#[test]
fn twenty_callers_at_once_are_all_answered_while_every_core_is_busy() {
    let node = node();
    let _miner = MinerStandIn::on_every_core();
    all_are_answered(&node, 20, 50);
}

#[test]
fn two_hundred_callers_at_once_are_all_answered_while_every_core_is_busy() {
    let node = node();
    let _miner = MinerStandIn::on_every_core();
    all_are_answered(&node, 200, 50);
}

/// A node whose own miner hashes on every core, on a network where that takes its time.
fn node_that_mines() -> Node {
    let node = Setup::handfast(op_true_signet()).arg("--mine").start();
    wait_for("its hash threads hash", || {
        let mining = node.rpc().get("getmininginfo", json!([]))["handfast"].take();
        mining["hashes"].as_u64().filter(|hashes| *hashes > 0)
    });
    node
}

#[test]
fn on_a_node_that_mines_on_every_core_all_callers_are_answered() {
    let node = node_that_mines();
    all_are_answered(&node, 20, 50);
    all_are_answered(&node, 200, 50);
    for (callers, rounds) in PHASES {
        all_are_answered(&node, callers, rounds);
    }
}

/// Of the original report: callers at once, and how often.
const PHASES: [(usize, usize); 5] = [(1, 20), (3, 4), (6, 4), (10, 1), (20, 10)];

#[test]
fn the_five_phases_of_the_report_pass_while_every_core_is_busy() {
    let node = node();
    let _miner = MinerStandIn::on_every_core();
    for (callers, rounds) in PHASES {
        all_are_answered(&node, callers, rounds);
    }
}

/// Connections that have made a call and then stay.
const IDLE: usize = 10_000;
/// Connections that send a call one byte a second.
const SLOW: usize = 20;
/// How long others are watched beside them.
const WATCHED: Duration = Duration::from_secs(5);

#[test]
fn ten_thousand_idle_connections_and_slow_callers_are_not_noticed_by_others() {
    // Both ends in one system, and each process has some files of its own.
    if !make_room(IDLE as u64 + 1_000) {
        return;
    }
    let node = node();
    let both = [node.unix_rpc(), node.rpc().clone()];
    let alone = watch(&both);

    let begun = Instant::now();
    let mut idle: Vec<KeepAlive> = (0..IDLE)
        .map(|number| {
            let mut connection = both[number % 2].keep_alive().expect("a connection");
            assert_answered(&connection.call("uptime", json!([])), number);
            connection
        })
        .collect();
    let gathered = begun.elapsed();
    let (stop, stopped) = channel();
    let slow = slow_callers(&both);
    let dribbling = thread::spawn(move || dribble(slow, &stopped));

    let crowded = watch(&both);
    let resident = Usage::of(node.pid()).expect("the node runs").resident;
    println!(
        "alone: {alone}\nbeside {IDLE} idle connections (made in {gathered:.1?}) and {SLOW} slow \
         ones: {crowded}\n{} MB resident",
        resident / 1_000_000
    );
    for report in [&alone, &crowded] {
        assert_eq!(report.failed(), 0, "{report}");
    }
    assert_noticed_by_few(&crowded);

    drop(stop);
    dribbling.join().expect("nobody closed a slow connection");
    // The server keeps idle connections for 75 s; on a machine so slow that they are over
    // there is nothing to see here.
    if begun.elapsed() < Duration::from_secs(60) {
        for (number, connection) in idle.iter_mut().enumerate().step_by(100) {
            assert_answered(&connection.call("uptime", json!([])), number);
        }
    }
}

fn assert_answered(outcome: &Outcome, number: usize) {
    let answered = matches!(
        outcome,
        Outcome::Answered {
            status: 200,
            last: false,
            ..
        }
    );
    assert!(answered, "connection {number}: {outcome:?}");
}

/// Bursts of ten over both sockets by turns.
fn watch(both: &[Rpc]) -> Report {
    let mut report = Report::default();
    let begun = Instant::now();
    while begun.elapsed() < WATCHED {
        for rpc in both {
            report.add(rpc.burst(10, 5).run());
        }
    }
    report
}

fn slow_callers(both: &[Rpc]) -> Vec<Stream> {
    let connect = |number: usize| Stream::connect(both[number % 2].endpoint(), PATIENCE);
    (0..SLOW)
        .map(|number| connect(number).expect("a connection"))
        .collect()
}

/// Sends each of them a byte a second, until the other end of `stop` is gone.
fn dribble(mut slow: Vec<Stream>, stop: &Receiver<()>) {
    let request = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    for byte in request {
        for stream in &mut slow {
            stream.write_all(&[*byte]).expect("the server reads");
        }
        match stop.recv_timeout(Duration::from_secs(1)) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}
