//! Handfast under its own fuzzer: every scenario, and all of them mixed.
//!
//! Short by itself; `make fuzz` plays each scenario 20,000 times, 300 at a time, and the mix
//! for two minutes.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use handfast_fuzz::Scenario;

use handfast_tests::fuzz_runs::{Amount, Fuzzed, fuzz, fuzz_scenario, replay};
use handfast_tests::process::{Node, Program, Setup, op_true_signet};
use handfast_tests::wait::wait_for;
use handfast_wire::Network;
use serde_json::{Value, json};

const SHORT: Amount = Amount {
    cycles: 200,
    concurrency: 100,
    mix_seconds: 8,
};

/// Its handshake timeout is short, so that what happens at that moment happens often.
fn node() -> Node {
    Setup::handfast(Network::Regtest)
        .arg("--handshake-timeout")
        .arg("3")
        .start()
}

fn assert_well(what: &str, fuzzed: &Fuzzed) {
    println!("{what}\n{}", fuzzed.summary);
    let Fuzzed {
        code,
        summary,
        progress,
        report,
    } = fuzzed;
    assert_eq!(report["verdict"], "ok", "{what}: {summary}\n{progress}");
    assert_eq!(*code, Some(0), "{what}: {summary}\n{progress}");
    let looks = report["looks"].as_array().expect("a list");
    let last = looks.last().expect("it looked");
    assert_eq!(last["audit"], "clean", "{what}: {last}");
    assert!(last["block"]["followed_ms"].is_number(), "{what}: {last}");
    assert!(last["descriptors"].is_number(), "{what}: {last}");
}

#[test]
fn every_scenario_leaves_the_node_well() {
    let amount = SHORT.or_from_environment();
    let node = node();
    let dir = tempfile::tempdir().expect("a directory");
    for scenario in Scenario::ALL {
        let fuzzed = fuzz_scenario(&node, dir.path(), scenario, amount);
        assert_well(scenario.name(), &fuzzed);
        assert_eq!(fuzzed.report["total"]["ended"], amount.cycles, "{scenario}");
    }
}

#[test]
fn all_of_them_at_once_leave_the_node_well() {
    let amount = SHORT.or_from_environment();
    let node = node();
    let dir = tempfile::tempdir().expect("a directory");
    let (seconds, concurrency) = (
        amount.mix_seconds.to_string(),
        amount.concurrency.to_string(),
    );
    let arguments = [
        "--scenario",
        "mix",
        "--duration",
        &seconds,
        "--concurrency",
        &concurrency,
        "--handshake-deadline",
        "3",
        "--source-range",
        "127.1.0.0/16",
        "--seed",
        "2",
    ];
    assert_well("mix", &fuzz(&node, dir.path(), &arguments));
}

#[test]
fn on_a_signet_of_ones_own_it_makes_blocks_that_are_followed_and_its_trace_is_replayed() {
    let node = Setup::handfast(op_true_signet()).start();
    let dir = tempfile::tempdir().expect("a directory");
    let trace = dir.path().join("run.trace");
    let file = trace.display().to_string();
    let arguments = ["--scenario", "handshake-drop", "--cycles", "100"];
    let arguments = [&arguments[..], &["--seed", "4", "--trace", &file]].concat();
    assert_well("a signet", &fuzz(&node, dir.path(), &arguments));
    let height = node.height();
    assert!(
        height >= 2,
        "it was looked before and after, each time with a block"
    );

    let again = replay(&node, dir.path(), &trace);
    assert_well("the same again", &again);
    assert_eq!(again.report["total"]["ended"], 100);
    assert!(node.height() > height, "the trace knows the challenge");
}

/// A signet looks for its solution in the coinbase before it looks at the merkle root.
#[test]
fn a_block_that_peers_tamper_with_on_a_signet_is_taken_from_an_honest_one() {
    let node = Setup::handfast(op_true_signet()).start();
    let dir = tempfile::tempdir().expect("a directory");
    let arguments = ["--scenario", "tampered-block", "--cycles", "60"];
    let arguments = [&arguments[..], &["--concurrency", "30", "--seed", "5"]].concat();
    assert_well("a signet", &fuzz(&node, dir.path(), &arguments));
}

#[test]
fn calls_of_the_rpc_are_replayed_where_it_is_named() {
    let node = node();
    let dir = tempfile::tempdir().expect("a directory");
    let trace = dir.path().join("run.trace");
    let file = trace.display().to_string();
    let arguments = ["--scenario", "rpc-burst", "--scenario", "reset"];
    let arguments = [&arguments[..], &["--cycles", "100", "--trace", &file]].concat();
    assert_well("calls", &fuzz(&node, dir.path(), &arguments));

    let again = replay(&node, dir.path(), &trace);
    assert_well("the same again", &again);
    assert_eq!(again.report["total"]["ended"], 100);
    let answered = &again.report["handshake_ms"]["count"];
    assert_eq!(*answered, 100, "calls that were answered among them");

    let nameless = Command::new(Program::Handfast.path())
        .args(["fuzz", "replay", &file])
        .output()
        .expect("the program starts");
    let line = String::from_utf8_lossy(&nameless.stderr);
    assert_eq!(nameless.status.code(), Some(2), "{line}");
    assert!(
        line.contains("give the RPC with --rpc or --rpc-socket"),
        "{line}"
    );
}

#[test]
fn a_report_that_cannot_be_written_any_more_costs_neither_the_verdict_nor_the_trace() {
    let node = node();
    let dir = tempfile::tempdir().expect("a directory");
    let (trace, out) = (dir.path().join("run.trace"), dir.path().join("out"));
    let mut run = Command::new(Program::Handfast.path())
        .args(["fuzz", "run", "--target", &node.p2p().to_string()])
        .args(["--scenario", "reset", "--cycles", "40", "--rate", "20"])
        .arg("--trace")
        .arg(&trace)
        .arg("--report")
        .arg(&out)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut progress = BufReader::new(run.stderr.take().expect("piped"));
    let mut line = String::new();
    progress.read_line(&mut line).expect("it can be read");
    assert!(line.contains("the run starts"), "{line}");
    std::fs::remove_dir(&out).expect("it was made, and is empty still");

    progress.read_to_string(&mut line).expect("it can be read");
    let ended = run.wait_with_output().expect("it ends");
    let summary = String::from_utf8_lossy(&ended.stdout);
    assert!(summary.starts_with("Verdict   ok"), "{summary}\n{line}");
    assert!(
        summary.contains("\nTrace ") && !summary.contains("\nReport "),
        "{summary}"
    );
    assert!(trace.exists(), "{summary}");
    assert!(line.contains("cannot write"), "{line}");
    assert_eq!(ended.status.code(), Some(2), "{line}");
}

#[test]
fn a_target_that_mines_faster_than_the_fuzzer_is_not_called_stuck() {
    let node = Setup::handfast(op_true_signet()).arg("--mine").start();
    let dir = tempfile::tempdir().expect("a directory");
    let arguments = ["--scenario", "handshake-drop", "--duration", "8"];
    let arguments = [&arguments[..], &["--rate", "50", "--seed", "6"]].concat();
    let fuzzed = fuzz(&node, dir.path(), &arguments);
    println!("{}", fuzzed.summary);
    assert_eq!(fuzzed.report["verdict"], "ok", "{fuzzed:?}");
    // That of a node which does not follow blocks at all.
    assert!(!fuzzed.summary.contains("initial sync"), "{fuzzed:?}");
}

#[test]
fn a_node_that_fuzzes_itself_tells_its_own_connections_and_blocks_from_others() {
    let node = node();
    let height = node.height();
    let options = json!({ "cycles": 1_500, "concurrency": 50, "seed": 3 });
    let played = [
        "reset",
        "half-open",
        "stall",
        "sync-then-drop",
        "addr-flood",
    ];
    node.rpc().get("startfuzz", json!([played, options]));
    let done = wait_for("the run is over", || {
        Some(status(&node)).filter(|status| status["state"] == "done")
    });
    assert_eq!(done["report"]["verdict"], "ok", "{done}");
    assert_eq!(done["report"]["total"]["ended"], 1_500, "{done}");
    assert_eq!(node.rpc().get("getpeerhistory", json!([])), json!([]));

    // The addresses that it makes up can be nobody's.
    assert_eq!(node.rpc().get("getnodeaddresses", json!([0])), json!([]));
    assert!(node.height() > height, "blocks of the fuzzer were followed");
    let tips = node.rpc().get("getchaintips", json!([]));
    let tips = tips.as_array().expect("a list");
    assert!(tips.len() > 1, "headers without blocks were left: {tips:?}");
    for tip in tips {
        let header = node.rpc().get("getblockheader", json!([tip["hash"]]));
        assert_eq!(header["versionHex"], "46555a5a", "{tip}: {header}");
    }
}

fn status(node: &Node) -> Value {
    node.rpc().get("getfuzzstatus", json!([]))
}

#[test]
fn a_node_fuzzes_itself_one_run_at_a_time_and_tells_how_it_was() {
    let node = node();
    assert_eq!(status(&node), json!({ "state": "none" }));
    let refusal = node.rpc().call("stopfuzz", json!([])).expect_err("no run");
    assert_eq!(refusal.to_string(), "error -1: No fuzz run is going on");

    let page = || node.rpc().call("getfuzzstatus", json!(["html"]));
    let refusal = page().expect_err("no run yet").to_string();
    assert!(refusal.contains("There is no report"), "{refusal}");

    let options = json!({ "cycles": 2_000, "concurrency": 50, "seed": 3 });
    let begun = node.rpc().get(
        "startfuzz",
        json!([["handshake-drop", "rpc-burst"], options]),
    );
    assert_eq!(
        (&begun["state"], &begun["seed"]),
        (&json!("running"), &json!(3))
    );
    let refusal = node
        .rpc()
        .call("startfuzz", json!([]))
        .expect_err("one at a time");
    assert!(
        refusal.to_string().contains("going on already"),
        "{refusal}"
    );
    let done = wait_for("the run is over", || {
        Some(status(&node)).filter(|status| status["state"] == "done")
    });
    let report = &done["report"];
    assert_eq!(report["verdict"], "ok", "{done}");
    assert_eq!(report["total"]["ended"], 2_000, "{done}");
    let looks = report["looks"].as_array().expect("it looked");
    let last = looks.last().expect("it looked");
    assert_eq!(
        (&last["audit"], &last["peers"]),
        (&json!("clean"), &json!(0)),
        "{last}"
    );

    let page = page().expect("the run has ended");
    let page = page.as_str().expect("a text");
    assert!(
        page.starts_with("<!doctype html>") && page.contains("verdict good\">ok"),
        "{page}"
    );
    let refusal = node.rpc().call("getfuzzstatus", json!(["pdf"]));
    let refusal = refusal.expect_err("no such format").to_string();
    assert!(refusal.contains("json or html"), "{refusal}");

    node.rpc()
        .get("startfuzz", json!([["silent"], { "cycles": 100_000 }]));
    node.rpc().get("stopfuzz", json!([]));
    let ended = wait_for("it is over before its time", || {
        Some(status(&node)).filter(|status| status["state"] == "done")
    });
    assert_eq!(ended["report"]["interrupted"], true, "{ended}");
    let refusal = node.rpc().call("startfuzz", json!([["moonwalk"]]));
    let refusal = refusal.expect_err("no such scenario").to_string();
    assert!(refusal.contains("moonwalk"), "{refusal}");
}

#[test]
fn a_node_of_a_public_network_does_not_fuzz_itself() {
    let node = Setup::handfast(Network::Testnet4).alone().start();
    let refusal = node.rpc().call("startfuzz", json!([])).expect_err("public");
    assert!(
        refusal.to_string().contains("for regtest and signet"),
        "{refusal}"
    );
}
