//! `handfast fuzz run` against a running node, as a user starts it.

use std::env;
use std::path::Path;
use std::process::Command;

use bitcoin::hex::DisplayHex;
use handfast_fuzz::Scenario;
use handfast_wire::Network;
use serde_json::Value;

use crate::process::{Node, Program};
use crate::rpc::Endpoint;

/// How much is played. The environment can ask for more: `FUZZ_CYCLES`, `FUZZ_CONCURRENCY`,
/// `FUZZ_MIX_SECONDS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Amount {
    /// Connections of each scenario.
    pub cycles: u64,
    /// Connections at a time.
    pub concurrency: u64,
    /// How long the mix goes on.
    pub mix_seconds: u64,
}

impl Amount {
    /// What the environment says, else `self`.
    ///
    /// # Panics
    /// If it says something that is no number.
    pub fn or_from_environment(self) -> Self {
        let number = |name: &str, default| {
            let text = env::var(name).ok();
            text.map_or(default, |text| text.parse().expect("a number"))
        };
        Self {
            cycles: number("FUZZ_CYCLES", self.cycles),
            concurrency: number("FUZZ_CONCURRENCY", self.concurrency),
            mix_seconds: number("FUZZ_MIX_SECONDS", self.mix_seconds),
        }
    }
}

/// What a run said.
#[derive(Clone, Debug)]
pub struct Fuzzed {
    /// The exit code.
    pub code: Option<i32>,
    /// Standard output.
    pub summary: String,
    /// Standard error.
    pub progress: String,
    /// `report.json`.
    pub report: Value,
}

/// Runs it with these arguments against `node`, with a report.
///
/// # Panics
/// If it does not start or leaves no report.
pub fn fuzz(node: &Node, dir: &Path, arguments: &[&str]) -> Fuzzed {
    let target = node.p2p().to_string();
    let mut command = Command::new(Program::Handfast.path());
    command
        .args(["fuzz", "run", "--target", &target])
        .args(network(node.setup().network()))
        .args(rpc(node))
        .args(arguments);
    reported(&mut command, dir)
}

/// Makes the connections of a trace again, against the node that it names.
///
/// # Panics
/// If it does not start or leaves no report.
pub fn replay(node: &Node, dir: &Path, trace: &Path) -> Fuzzed {
    let mut command = Command::new(Program::Handfast.path());
    command.args(["fuzz", "replay"]).arg(trace).args(rpc(node));
    reported(&mut command, dir)
}

fn reported(command: &mut Command, dir: &Path) -> Fuzzed {
    command.arg("--report").arg(dir).arg("--overwrite");
    let output = command.output().expect("the program starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let progress = text(&output.stderr);
    let report = std::fs::read(dir.join("report.json"));
    let report = report.unwrap_or_else(|error| panic!("no report ({error}): {progress}"));
    Fuzzed {
        code: output.status.code(),
        summary: text(&output.stdout),
        progress,
        report: serde_json::from_slice(&report).expect("the report is JSON"),
    }
}

/// Plays one scenario, with handshakes that are given up after three seconds, as those nodes
/// do that are started for it.
///
/// # Panics
/// See [`fuzz`].
pub fn fuzz_scenario(node: &Node, dir: &Path, scenario: Scenario, amount: Amount) -> Fuzzed {
    let (cycles, concurrency) = (amount.cycles.to_string(), amount.concurrency.to_string());
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
    fuzz(node, dir, &arguments)
}

fn network(network: &Network) -> Vec<String> {
    let mut arguments = vec!["--network".to_owned(), network.name().to_owned()];
    if let Network::CustomSignet { challenge } = network {
        arguments.extend([
            "--signet-challenge".to_owned(),
            challenge.to_lower_hex_string(),
        ]);
    }
    arguments
}

fn rpc(node: &Node) -> Vec<String> {
    let dir = node.setup().network_dir();
    let path = |name: &str| dir.join(name).display().to_string();
    match node.setup().program() {
        Program::Handfast => vec!["--rpc-socket".into(), path("node.sock")],
        Program::Bitcoind => vec![
            "--rpc".into(),
            match node.rpc().endpoint() {
                Endpoint::Tcp(address) => format!("http://{address}"),
                Endpoint::Unix(_) => unreachable!("bitcoind's RPC is on TCP"),
            },
            "--rpc-cookie".into(),
            path(".cookie"),
        ],
    }
}
