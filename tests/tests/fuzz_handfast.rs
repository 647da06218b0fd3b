//! Handfast under its own fuzzer: every scenario, and all of them mixed.
//!
//! Short by itself; `make fuzz` plays each scenario 20,000 times, 300 at a time, and the mix
//! for two minutes.

use handfast_fuzz::Scenario;
use handfast_tests::fuzz_runs::{Amount, Fuzzed, fuzz};
use handfast_tests::process::{Node, Setup};
use handfast_wire::Network;

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
    let (cycles, concurrency) = (amount.cycles.to_string(), amount.concurrency.to_string());
    for scenario in Scenario::ALL {
        let arguments = [
            "--scenario",
            scenario.name(),
            "--cycles",
            &cycles,
            "--concurrency",
            &concurrency,
            "--handshake-deadline",
            "3",
            "--seed",
            "1",
        ];
        let fuzzed = fuzz(&node, dir.path(), &arguments);
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
