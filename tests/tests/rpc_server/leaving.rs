//! Callers who leave while their call waits, and callers who wait on.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use handfast_tests::descriptors::open_now;
use handfast_tests::process::Node;
use handfast_tests::rpc::{Endpoint, Stream};
use handfast_tests::wait::wait_for;
use serde_json::{Value, json};

use crate::exchange::{connect, cookie, get, half_close, node, post, read_to_end};

/// Callers who are there at the same time.
const TOGETHER: usize = 100;
/// How often as many come and leave.
const TIMES: usize = 6;
const PATIENCE: Duration = Duration::from_secs(60);

fn call(method: &str, params: Value) -> String {
    json!({ "method": method, "params": params, "id": 1 }).to_string()
}

/// Calls of this method that have no answer yet.
pub(crate) fn in_progress(node: &Node, method: &str) -> usize {
    let info = node.rpc().get("getrpcinfo", json!([]));
    let commands = info["active_commands"].as_array().expect("a list");
    let of_it = commands.iter().filter(|it| it["method"] == method);
    of_it.count()
}

fn unix(node: &Node) -> UnixStream {
    let Endpoint::Unix(path) = node.unix_rpc().endpoint().clone() else {
        panic!("a Unix socket");
    };
    let stream = UnixStream::connect(path).expect("the node accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream
}

fn body(answer: &str) -> Value {
    let (_, body) = answer.split_once("\r\n\r\n").expect("an answer");
    serde_json::from_str(body).expect("JSON")
}

#[test]
fn callers_who_hang_up_while_they_wait_hold_no_place_no_call_and_no_descriptor() {
    let node = node(&["--rpc-work-queue", "300"]);
    let login = cookie(&node);
    let quiet = open_now(&node);
    let tip = node.rpc().get("getbestblockhash", json!([]));
    let long_poll = json!([{ "rules": ["segwit"], "longpollid": format!("{}0", tip.as_str().unwrap_or_default()) }]);
    for (method, params) in [
        ("waitfornewblock", json!([])),
        ("waitforblock", json!(["00".repeat(32)])),
        ("waitforblockheight", json!([1])),
        ("getblocktemplate", long_poll),
    ] {
        let request = post(&login, &call(method, params));
        for round in 0..TIMES {
            let waiting: Vec<Stream> = (0..TOGETHER)
                .map(|number| {
                    let rpc = match number % 2 {
                        0 => node.rpc().clone(),
                        _ => node.unix_rpc(),
                    };
                    let stream = Stream::connect(rpc.endpoint(), PATIENCE);
                    let mut stream = stream.expect("the node accepts");
                    stream.write_all(request.as_bytes()).expect("written");
                    stream
                })
                .collect();
            wait_for("they wait", || {
                (in_progress(&node, method) == TOGETHER).then_some(())
            });
            drop(waiting);
            wait_for("they are gone", || {
                (in_progress(&node, method) == 0).then_some(())
            });
            assert_eq!(node.height(), 0, "{method}, round {round}");
        }
    }
    // Those of the last probe may be on their way out.
    wait_for("their descriptors are free", || {
        (open_now(&node) <= quiet + 4).then_some(())
    });
    assert!(node.stop().success());
}

#[test]
fn who_hangs_up_behind_more_than_is_read_ahead_is_gone_too() {
    let node = node(&[]);
    let login = cookie(&node);
    let quiet = open_now(&node);
    let behind = post(&login, &call("echo", json!(["x".repeat(60_000)])));
    let leave = |method: &str, params: Value| {
        let mut stream = connect(&node);
        let request = post(&login, &call(method, params)) + &behind;
        stream.write_all(request.as_bytes()).expect("written");
        stream
    };
    let waiting: Vec<_> = (0..20)
        .map(|_| leave("waitfornewblock", json!([])))
        .collect();
    wait_for("they wait", || {
        (in_progress(&node, "waitfornewblock") == 20).then_some(())
    });
    drop(waiting);
    wait_for("they are gone, and no block has come", || {
        (in_progress(&node, "waitfornewblock") == 0).then_some(())
    });
    assert_eq!(node.height(), 0);
    let endless = leave("generatetodescriptor", json!([i32::MAX, "raw(51)"]));
    wait_for("blocks are made", || (node.height() > 0).then_some(()));
    drop(endless);
    let orders = || node.rpc().get("getmininginfo", json!([]))["handfast"]["orders"].as_u64();
    wait_for("nobody is there", || (orders() == Some(0)).then_some(()));
    wait_for("their descriptors are free", || {
        (open_now(&node) <= quiet + 4).then_some(())
    });
}

#[test]
fn a_caller_over_the_unix_socket_who_only_sends_no_more_gets_the_block_it_waits_for() {
    let node = node(&[]);
    let request = post("Connection: close\r\n", &call("waitfornewblock", json!([])));
    let mut stays = unix(&node);
    stays.write_all(request.as_bytes()).expect("written");
    stays
        .shutdown(std::net::Shutdown::Write)
        .expect("a connected socket");
    let mut leaves = unix(&node);
    leaves.write_all(request.as_bytes()).expect("written");
    leaves
        .shutdown(std::net::Shutdown::Write)
        .expect("a connected socket");
    wait_for("both wait", || {
        (in_progress(&node, "waitfornewblock") == 2).then_some(())
    });
    drop(leaves);
    wait_for("one is gone", || {
        (in_progress(&node, "waitfornewblock") == 1).then_some(())
    });
    node.rpc()
        .get("generatetodescriptor", json!([1, "raw(51)"]));
    let mut answer = String::new();
    stays.read_to_string(&mut answer).expect("an answer");
    assert_eq!(body(&answer)["result"]["height"], 1, "{answer}");
}

#[test]
fn a_caller_over_tcp_who_only_sends_no_more_gets_answers_and_is_not_waited_with() {
    let node = node(&[]);
    let login = cookie(&node);
    let mut waits = connect(&node);
    let request = post(&login, &call("waitfornewblock", json!([])));
    waits.write_all(request.as_bytes()).expect("written");
    wait_for("it waits", || {
        (in_progress(&node, "waitfornewblock") == 1).then_some(())
    });
    half_close(&waits);
    let mut nothing = Vec::new();
    waits.read_to_end(&mut nothing).expect("a clean end");
    assert!(nothing.is_empty());
    let mut asks = connect(&node);
    let request = post(&login, &call("getblockcount", json!([])));
    asks.write_all(request.as_bytes()).expect("written");
    half_close(&asks);
    assert_eq!(read_to_end(&mut asks).status, 200);
}

#[test]
fn who_waits_keeps_nobody_from_calling_and_the_oldest_yields_when_too_many_wait() {
    let node = node(&["--rpc-work-queue", "4"]);
    let request = post("Connection: close\r\n", &call("waitfornewblock", json!([])));
    let mut waiting = Vec::new();
    for number in 1..=8_usize {
        let mut stream = unix(&node);
        stream.write_all(request.as_bytes()).expect("written");
        waiting.push(stream);
        wait_for("it waits", || {
            (in_progress(&node, "waitfornewblock") == number.min(4)).then_some(())
        });
        assert_eq!(node.height(), 0);
    }
    for mut early in waiting.drain(..4) {
        let mut answer = String::new();
        early.read_to_string(&mut answer).expect("an answer");
        assert_eq!(body(&answer)["result"]["height"], 0, "as if time were up");
    }
    assert_eq!(
        get(&node, "/ready").text(),
        "not ready: no peer is connected\n",
        "the work queue is not full"
    );
    node.rpc()
        .get("generatetodescriptor", json!([1, "raw(51)"]));
    for mut late in waiting {
        let mut answer = String::new();
        late.read_to_string(&mut answer).expect("an answer");
        assert_eq!(body(&answer)["result"]["height"], 1, "what it waited for");
    }
}

#[test]
fn blocks_on_demand_are_made_for_who_is_there() {
    let node = node(&[]);
    let request = post(
        &cookie(&node),
        &call("generatetodescriptor", json!([i32::MAX, "raw(51)"])),
    );
    let mut endless = connect(&node);
    endless.write_all(request.as_bytes()).expect("written");
    wait_for("blocks are made", || (node.height() > 0).then_some(()));
    // Another caller does not wait for two thousand million blocks.
    let made = node
        .rpc()
        .get("generatetodescriptor", json!([2, "raw(52)"]));
    assert_eq!(made.as_array().map(Vec::len), Some(2));
    drop(endless);
    let orders = || node.rpc().get("getmininginfo", json!([]))["handfast"]["orders"].as_u64();
    wait_for("nobody is there", || (orders() == Some(0)).then_some(()));
}
