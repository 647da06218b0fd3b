//! Stopping is a barrier: whatever goes on, the node ends in time and in order, every
//! Done was handled, and nobody gets half an answer.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use handfast_tests::churn::Churn;
use handfast_tests::generator::empty_blocks;
use handfast_tests::process::{Node, Setup};
use handfast_tests::rpc::{KeepAlive, Outcome, Rpc, RpcError, call};
use handfast_tests::scripted_peer::{Reaction, ScriptedPeer};
use handfast_tests::served_chain::ServedChain;
use handfast_tests::wait::wait_for;
use handfast_wire::{Message, Network, RawBlock};
use rustix::process::Signal;
use serde_json::{Value, json};

/// From the order to the end of the process. Stated by the issue.
const ENDS_WITHIN: Duration = Duration::from_secs(2);
/// Connections of the churn at the same time.
const CHURN: usize = 300;
/// Cycles that must have been made, and answers given, before the node is stopped.
const WARM: usize = 600;
/// Stops, by RPC and by signal in turn.
const ROUNDS: usize = 20;

/// How a node is told to stop.
#[derive(Clone, Copy, Debug)]
enum Order {
    Rpc,
    Signal,
}

impl Order {
    fn nth(round: usize) -> Self {
        if round.is_multiple_of(2) {
            Self::Rpc
        } else {
            Self::Signal
        }
    }
}

fn give(order: Order, node: &Node) {
    match order {
        Order::Rpc => {
            let answer = node.rpc().get("stop", json!([]));
            assert_eq!(answer, "Handfast stopping");
        }
        Order::Signal => node.signal(Signal::TERM),
    }
}

/// A node whose log says how many lifecycle messages its managers handled.
fn counting() -> Setup {
    let setup = Setup::handfast(Network::Regtest);
    setup.arg("--log").arg("info,handfast_node::shutdown=debug")
}

/// Stops the node and sees that it ends as it should; how long it took.
fn stop_in_order(node: &mut Node, order: Order) -> Duration {
    let began = Instant::now();
    give(order, node);
    let status = node.wait_for_exit();
    let took = began.elapsed();
    assert_eq!(status.code(), Some(0), "{order:?}");
    assert_ended_in_order(&node.output());
    took
}

/// The log's own account of the barrier.
fn assert_ended_in_order(log: &str) {
    for bad in ["shutdown phase is late", "panicked", " ERROR "] {
        let line = log.lines().find(|line| line.contains(bad));
        assert_eq!(line, None, "{bad:?} is in the log");
    }
    let line = log
        .lines()
        .find(|line| line.contains("every connection ended"));
    let line = line.expect("the log says that every connection ended");
    let count = |name: &str| field(line, name);
    assert_eq!(count("dones"), count("connections"), "{line}");
    assert_eq!(count("sync_dones"), count("sync_adds"), "{line}");
    assert!(count("adds") <= count("dones"), "L2: {line}");
}

/// The number that a log line gives as `name=number`.
fn field(line: &str, name: &str) -> u64 {
    let word = line
        .split_whitespace()
        .find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    let value = word.and_then(|value| value.trim_end_matches(',').parse().ok());
    value.unwrap_or_else(|| panic!("no {name} in {line}"))
}

/// What a poller saw.
#[derive(Debug, Default)]
struct Polled {
    answers: usize,
    /// Calls that the server closed on before an answer began, or refused in full, by how.
    closed: BTreeMap<String, usize>,
    /// Neither an answer nor a refusal.
    broken: Vec<String>,
}

/// Polls until `over` or until it cannot connect, as fast as it is answered.
fn poll(rpc: &Rpc, answers: &AtomicUsize, stopping: &AtomicBool, over: &AtomicBool) -> Polled {
    let methods = ["getblockcount", "getpeerinfo", "getsyncstate"];
    let mut polled = Polled::default();
    let mut turn = 0;
    while !over.load(Ordering::SeqCst) {
        let mut connection = match rpc.keep_alive() {
            Ok(connection) => connection,
            Err(error) => {
                note_closed(
                    &mut polled,
                    stopping,
                    format!("connect: {:?}", error.kind()),
                );
                return polled;
            }
        };
        let mut reused = false;
        loop {
            turn += 1;
            match connection.call(methods[turn % methods.len()], json!([])) {
                Outcome::Answered { answer, last, .. } => {
                    assert_well_formed(&answer);
                    polled.answers += 1;
                    answers.fetch_add(1, Ordering::SeqCst);
                    if last {
                        break;
                    }
                }
                Outcome::Closed(kind) => {
                    let how = if reused { "reused" } else { "fresh" };
                    note_closed(&mut polled, stopping, format!("{how}: {kind:?}"));
                    break;
                }
                Outcome::TurnedAway => {
                    note_closed(&mut polled, stopping, "turned away".into());
                    break;
                }
                Outcome::Broken(what) => {
                    polled.broken.push(what);
                    break;
                }
                Outcome::Unanswered => {
                    polled.broken.push("no answer at all".into());
                    break;
                }
            }
            reused = true;
        }
    }
    polled
}

fn note_closed(polled: &mut Polled, stopping: &AtomicBool, how: String) {
    if !stopping.load(Ordering::SeqCst) {
        polled
            .broken
            .push(format!("{how} while nobody stops the node"));
    }
    *polled.closed.entry(how).or_default() += 1;
}

/// An answer of the server: a result or an error, as JSON-RPC 1 has them.
fn assert_well_formed(answer: &Value) {
    let object = answer.as_object().expect("an answer is an object");
    assert!(object.contains_key("result") && object.contains_key("error"));
    assert_eq!(object["id"], "handfast-tests");
}

/// Ends pollers and churn also when the test fails while they run.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Connects, shakes hands and leaves, 300 at a time, until `over`.
fn churn(node: std::net::SocketAddr, cycles: &AtomicUsize, over: &AtomicBool) {
    let churn = Churn::new(node, &Network::Regtest, &Churn::KINDS, CHURN, 10 * CHURN);
    while !over.load(Ordering::SeqCst) {
        let tally = churn.run_while(|_| !over.load(Ordering::SeqCst));
        let handshakes = usize::try_from(tally.handshakes()).expect("at most its cycles");
        cycles.fetch_add(handshakes, Ordering::SeqCst);
    }
}

#[test]
fn under_churn_and_three_pollers_it_ends_in_two_seconds_and_leaves_no_answer_half_given() {
    let mut times = Vec::new();
    let mut closed = BTreeMap::<String, usize>::new();
    let mut answers = 0;
    for round in 0..ROUNDS {
        let mut node = counting().start();
        let (p2p, rpcs) = (
            node.p2p(),
            [node.rpc().clone(), node.unix_rpc(), node.rpc().clone()],
        );
        let (stopping, over) = (AtomicBool::new(false), AtomicBool::new(false));
        let (cycles, answered) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let polled = std::thread::scope(|scope| {
            let end = SetOnDrop(&over);
            scope.spawn(|| churn(p2p, &cycles, &over));
            let pollers = rpcs
                .each_ref()
                .map(|rpc| scope.spawn(|| poll(rpc, &answered, &stopping, &over)));
            wait_for("churn and pollers are warm", || {
                let warm = [&cycles, &answered].map(|count| count.load(Ordering::SeqCst) >= WARM);
                (warm == [true, true]).then_some(())
            });
            stopping.store(true, Ordering::SeqCst);
            let took = stop_in_order(&mut node, Order::nth(round));
            times.push(took);
            drop(end);
            pollers.map(|poller| poller.join().expect("a poller only counts"))
        });
        for Polled {
            answers: count,
            closed: ways,
            broken,
        } in polled
        {
            assert_eq!(broken, Vec::<String>::new(), "round {round}");
            answers += count;
            for (way, count) in ways {
                *closed.entry(way).or_default() += count;
            }
        }
    }
    println!("ended in {times:.2?}; {answers} answers, closed on: {closed:?}");
    let slowest = times.iter().max().expect("there were rounds");
    assert!(*slowest <= ENDS_WITHIN, "{times:?}");
}

fn keep_alive(rpc: &Rpc) -> KeepAlive {
    rpc.keep_alive().expect("the server accepts")
}

/// The answer in `outcome`, which must be whole.
fn whole(outcome: Outcome) -> Value {
    match outcome {
        Outcome::Answered { status, answer, .. } => {
            assert_eq!(status, 200, "{answer}");
            answer
        }
        Outcome::TurnedAway | Outcome::Closed(_) | Outcome::Broken(_) | Outcome::Unanswered => {
            panic!("{outcome:?}")
        }
    }
}

#[test]
fn callers_that_are_idle_or_have_sent_half_a_request_do_not_hold_up_the_end() {
    for order in [Order::Rpc, Order::Signal] {
        let mut node = counting().start();
        let mut callers = Vec::new();
        for rpc in [node.rpc().clone(), node.unix_rpc()] {
            let mut idle = keep_alive(&rpc);
            whole(idle.call("getblockcount", json!([])));
            let mut halfway = keep_alive(&rpc);
            whole(halfway.call("getblockcount", json!([])));
            let mut first = keep_alive(&rpc);
            for caller in [&mut halfway, &mut first] {
                let half = caller.send_half(&call("getblockcount", json!([])));
                half.expect("the server reads");
            }
            callers.extend([idle, halfway, first]);
        }
        let took = stop_in_order(&mut node, order);
        println!("ended in {took:.2?} beside idle callers");
        assert!(took <= ENDS_WITHIN, "{order:?}: {took:?}");
        for mut caller in callers {
            let outcome = caller.answer(|| {});
            assert!(matches!(outcome, Outcome::Closed(_)), "{outcome:?}");
        }
    }
}

#[test]
fn a_call_that_is_being_answered_when_the_node_stops_is_answered_in_full() {
    let mut node = counting().start();
    // Its answer is not given before the rest of the node has ended.
    let mut patient = keep_alive(node.rpc());
    let sent = patient.send(&call("stop", json!([700])));
    sent.expect("the server reads");
    let answer = whole(patient.answer(|| {}));
    assert_eq!(answer["result"], "Handfast stopping");
    let status = node.wait_for_exit();
    assert_eq!(status.code(), Some(0));
    assert_ended_in_order(&node.output());
}

#[test]
fn a_long_answer_that_is_on_its_way_when_the_node_stops_arrives_in_full() {
    /// About ten megabytes: more than the sockets hold between server and caller.
    const CALLS: usize = 5_000;
    for order in [Order::Rpc, Order::Signal] {
        let mut node = counting().start();
        for rpc in [node.rpc().clone(), node.unix_rpc()] {
            let calls = vec![call("help", json!(["getsyncstate"])); CALLS];
            let mut caller = keep_alive(&rpc);
            caller.send(&Value::from(calls)).expect("the server reads");
            let mut reads = 0;
            let answer = caller.answer(|| {
                reads += 1;
                if reads == 2 && node.is_running() {
                    give(order, &node);
                }
            });
            let answers = whole(answer);
            assert_eq!(answers.as_array().map(Vec::len), Some(CALLS));
            let status = node.wait_for_exit();
            assert_eq!(status.code(), Some(0), "{order:?}");
            node = node.setup().start();
        }
    }
}

fn trunk(count: usize) -> Vec<RawBlock> {
    empty_blocks(Network::Regtest.genesis(), 0, "trunk", count)
}

fn served(blocks: &[RawBlock]) -> ServedChain {
    ServedChain::new(&Network::Regtest, blocks.iter().cloned())
}

#[test]
fn in_the_middle_of_validation_and_while_the_kernel_opens_it_ends_as_well() {
    let blocks = trunk(4_000);
    let peer = ScriptedPeer::honest(&Network::Regtest, served(&blocks));
    let setup = counting().connect(peer.address());
    let mut opening = 0;
    for round in 0..6 {
        let order = Order::nth(round);
        let mut node = setup.spawn();
        let sent = peer.record().blocks_sent();
        if round % 3 == 2 {
            // As early as it can be told.
            wait_for("it answers", || {
                match node.rpc().call("getblockcount", json!([])) {
                    Err(RpcError::Transport(_)) => None,
                    Err(RpcError::Method { code: -28, .. }) => {
                        opening += 1;
                        Some(())
                    }
                    Ok(_) | Err(RpcError::Http { .. } | RpcError::Method { .. }) => Some(()),
                }
            });
        } else {
            wait_for("blocks are being validated", || {
                (peer.record().blocks_sent() > sent + 150).then_some(())
            });
        }
        std::fs::write(node.setup().datadir().join("output.log"), "").expect("a log of this start");
        let took = stop_in_order(&mut node, order);
        let sent = peer.record().blocks_sent();
        println!("{order:?}: ended in {took:.2?}, {sent} blocks had been sent");
        assert!(sent < 4_000, "it was in the middle");
        assert!(took <= ENDS_WITHIN, "{took:?}");
    }
    println!("told to stop {opening} times while the kernel opened");
}

#[test]
fn in_the_middle_of_a_header_sync_it_ends_as_well() {
    let blocks = trunk(4_500);
    for order in [Order::Rpc, Order::Signal] {
        // Two batches of headers, then nothing more.
        let peer = ScriptedPeer::scripted(
            &Network::Regtest,
            "halting",
            served(&blocks),
            |message, seen, _| match message {
                Message::GetHeaders(_) if seen.header_requests >= 2 => Reaction::Silence,
                Message::GetData(_) => Reaction::Silence,
                _ => Reaction::Honest,
            },
        );
        let mut node = counting().connect(peer.address()).start();
        wait_for("headers are being synced", || {
            let state = node.rpc().get("getsyncstate", json!([]));
            let here = state["best_header"]["height"] == 4_000;
            (here && state["phase"] == "syncing headers").then_some(())
        });
        let took = stop_in_order(&mut node, order);
        println!("{order:?}: ended in {took:.2?}");
        assert!(took <= ENDS_WITHIN, "{took:?}");
    }
}
