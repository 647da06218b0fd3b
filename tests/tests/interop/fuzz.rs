//! The fuzzer against a real bitcoind: every scenario runs, and comes to a verdict.

use handfast_fuzz::Scenario;
use handfast_tests::fuzz_runs::{Amount, fuzz_scenario};
use handfast_tests::process::Setup;
use handfast_wire::Network;

const SHORT: Amount = Amount {
    cycles: 100,
    concurrency: 50,
    mix_seconds: 8,
};

#[test]
fn every_scenario_runs_against_bitcoind_and_comes_to_a_verdict_with_its_figures() {
    let amount = SHORT.or_from_environment();
    // Its least: negotiations that are given up take as long.
    let core = Setup::bitcoind(Network::Regtest)
        .arg("-peertimeout=3")
        .start();
    let dir = tempfile::tempdir().expect("a directory");
    for scenario in Scenario::ALL {
        let fuzzed = fuzz_scenario(&core, dir.path(), scenario, amount);
        println!("{scenario}\n{}", fuzzed.summary);
        let report = &fuzzed.report;
        // How well Bitcoin Core is, is its own business; that we can tell is ours.
        let verdict = report["verdict"].as_str().expect("a verdict");
        assert_eq!(fuzzed.code == Some(0), verdict == "ok", "{scenario}");
        assert_eq!(
            report["total"]["ended"], amount.cycles,
            "{scenario}: {report}"
        );
        let agent = report["target"]["user_agent"].as_str().expect("a name");
        assert!(agent.starts_with("/Satoshi:"), "{agent}");
        let looks = report["looks"].as_array().expect("a list");
        for look in [looks.first(), looks.last()].into_iter().flatten() {
            assert!(look["peers"].is_u64(), "{scenario}: {look}");
            assert!(look["memory_bytes"].is_u64(), "{scenario}: {look}");
        }
    }
}
