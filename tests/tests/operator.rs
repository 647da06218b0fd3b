//! What an operator asks of a running node: its log, its calls, waiting for blocks.

use std::path::PathBuf;
use std::thread;

use handfast_tests::connection::Connection;
use handfast_tests::generator::empty_blocks;
use handfast_tests::process::{Node, Setup};
use handfast_tests::wait::wait_for;
use handfast_wire::Network;
use serde_json::{Value, json};

fn node() -> Node {
    Setup::handfast(Network::Regtest).start()
}

/// Lines of the log that are about details.
fn detailed_lines(node: &Node) -> usize {
    let info = node.rpc().get("getrpcinfo", json!([]));
    let path = PathBuf::from(info["logpath"].as_str().expect("a path"));
    let log = std::fs::read_to_string(path).expect("the log is there");
    log.lines().filter(|line| line.contains("DEBUG")).count()
}

/// A peer comes and goes; the node has noticed when this returns.
fn visit(node: &Node) {
    let before = node.peer_history().len();
    let peer = Connection::dial(node.p2p(), &Network::Regtest);
    drop(peer.expect("the handshake is finished"));
    wait_for("the visit is over", || {
        (node.peer_history().len() > before).then_some(())
    });
}

/// Names of the calls that have no answer yet.
fn running(node: &Node) -> Vec<String> {
    let info = node.rpc().get("getrpcinfo", json!([]));
    let rows = info["active_commands"].as_array().expect("a list");
    rows.iter()
        .map(|row| {
            assert!(row["duration"].is_u64(), "{row}");
            row["method"].as_str().expect("a name").to_owned()
        })
        .collect()
}

#[test]
fn the_log_is_made_detailed_and_plain_again_while_the_node_runs() {
    let node = node();
    let on = |categories: &Value| {
        let pairs = categories.as_object().expect("an object").iter();
        let on = pairs.filter(|(_, detailed)| **detailed == true);
        on.map(|(name, _)| name.clone()).collect::<Vec<_>>()
    };
    let logging = |params: Value| node.rpc().get("logging", params);
    assert!(on(&logging(json!([]))).is_empty());
    visit(&node);
    assert_eq!(detailed_lines(&node), 0);

    let some = logging(json!([["proto", "rpc"], ["proto::session"]]));
    // With the categories of Core that stand for them.
    let of_core = ["addrman", "cmpctblock", "http"];
    let own = ["proto", "proto::peer_table", "proto::sync", "rpc"];
    let expected = [&of_core[..], &own].concat();
    assert_eq!(on(&some), expected);
    visit(&node);
    let lines = detailed_lines(&node);
    assert!(lines > 0, "{}", node.output());

    let unknown = node.rpc().call("logging", json!([["chain", "nonsense"]]));
    let unknown = unknown.expect_err("it must fail").to_string();
    assert_eq!(unknown, "error -8: unknown logging category nonsense");
    assert_eq!(on(&logging(json!([]))), expected, "and nothing was changed");

    assert!(on(&logging(json!([[], ["all"]]))).is_empty());
    let lines = detailed_lines(&node);
    visit(&node);
    assert_eq!(detailed_lines(&node), lines);
}

#[test]
fn a_filter_of_the_command_line_stays_in_force_for_what_is_not_changed() {
    let node = Setup::handfast(Network::Regtest)
        .arg("--log=warn,handfast_proto=debug")
        .start();
    let logging = |params: Value| node.rpc().get("logging", params);
    let at_start = logging(json!([]));
    assert_eq!(
        (&at_start["proto"], &at_start["node"]),
        (&json!(true), &json!(false))
    );
    let off = logging(json!([[], ["proto"]]));
    assert_eq!(off["proto::session"], false);
    let on = logging(json!([["proto", "node"]]));
    assert_eq!(
        (&on["proto::sync"], &on["node::listener"]),
        (&json!(true), &json!(true))
    );
    assert_eq!(logging(json!([[], ["node"]])), at_start);
}

#[test]
fn whoever_waits_holds_up_nobody_is_listed_and_hears_of_the_block() {
    let node = node();
    let waiters: Vec<_> = (0..50)
        .map(|_| {
            let rpc = node.rpc().clone();
            thread::spawn(move || rpc.get("waitforblockheight", json!([1, 50_000])))
        })
        .collect();
    let waiting = |name: &String| name == "waitforblockheight";
    // Others begin meanwhile: the call that asks is sure to be the youngest only afterwards.
    wait_for("all of them wait", || {
        let names = running(&node);
        assert!(names.iter().any(|name| name == "getrpcinfo"), "{names:?}");
        (names.iter().filter(|name| waiting(name)).count() == 50).then_some(())
    });
    let names = running(&node);
    assert_eq!(names.last().map(String::as_str), Some("getrpcinfo"));
    assert_eq!(node.height(), 0);

    let blocks = empty_blocks(Network::Regtest.genesis(), 0, "awaited", 1);
    let hash = blocks[0].hash.to_string();
    node.submit(blocks);
    for waiter in waiters {
        let told = waiter.join().expect("it is answered");
        assert_eq!(told, json!({ "hash": hash, "height": 1 }));
    }
    assert!(!running(&node).iter().any(waiting));
}

#[test]
fn whoever_waits_for_a_block_is_answered_when_the_node_stops() {
    let node = node();
    let rpc = node.rpc().clone();
    let waiter = thread::spawn(move || rpc.call("waitfornewblock", json!([])));
    wait_for("it waits", || {
        let waits = running(&node).iter().any(|name| name == "waitfornewblock");
        waits.then_some(())
    });
    assert!(node.stop().success());
    let told = waiter.join().expect("it is answered");
    assert_eq!(told.expect("with the tip as it is")["height"], 0);
}

#[test]
fn memory_is_told_by_type_alone_as_typed_clients_read_it() {
    let node = node();
    let info = node.rpc().get("getmemoryinfo", json!([]));
    let members: Vec<_> = info.as_object().expect("an object").keys().collect();
    assert_eq!(members, ["locked"], "each member is of the same type");
    assert_eq!(info["locked"]["used"], 0);
}
