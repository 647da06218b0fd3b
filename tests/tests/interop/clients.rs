//! Clients that others publish, unmodified: what they can read of `bitcoind`'s answers they
//! can read of ours.
//!
//! The clients are a program of their own (`tests/clients`), which `make interop` builds; the
//! reason is in its `Cargo.toml`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use handfast_tests::process::{Node, Setup};
use handfast_tests::rpc::Endpoint;
use handfast_wire::Network;

use crate::following::mine;

/// Where the clients are; `None`: they were not built.
fn program() -> Option<PathBuf> {
    let named = std::env::var_os("HANDFAST_CLIENTS").map(PathBuf::from);
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../target/clients/release/handfast-clients");
    let program = named.unwrap_or(beside);
    program.is_file().then_some(program)
}

/// What each call of a client came to.
fn outcomes(program: &PathBuf, client: &str, node: &Node) -> BTreeMap<String, String> {
    let Endpoint::Tcp(address) = node.rpc().endpoint() else {
        panic!("clients speak TCP");
    };
    let output = Command::new(program)
        .arg(client)
        .arg(format!("http://{address}"))
        .arg(node.setup().network_dir().join(".cookie"))
        .output()
        .expect("it starts");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{client}: {complaint}");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let lines = text.lines().map(|line| match line.split_once(": ") {
        Some((call, why)) => (call.replacen("failed ", "", 1), why.to_owned()),
        None => (line.replacen("ok ", "", 1), String::new()),
    });
    lines.collect()
}

/// Compares what one client can read of both nodes, each of which follows the same third.
fn assert_client_works(client: &str) {
    let Some(program) = program() else {
        handfast_tests::skipped("tests/clients is not built (make interop does it)");
        return;
    };
    let network = Network::Regtest;
    let far = Setup::bitcoind(network.clone()).start();
    let tip = mine(&far, 20);
    let core = Setup::bitcoind(network.clone()).connect(far.p2p()).start();
    let ours = Setup::handfast(network).connect(far.p2p()).start();
    core.wait_for_tip(tip);
    ours.wait_for_tip(tip);
    let theirs = outcomes(&program, client, &core);
    let own = outcomes(&program, client, &ours);
    let calls: Vec<&String> = theirs.keys().collect();
    assert_eq!(own.keys().collect::<Vec<_>>(), calls, "{client}");
    let works = theirs.iter().filter(|(_, why)| why.is_empty());
    let broken: Vec<_> = works
        .clone()
        .filter_map(|(call, _)| Some((call, own.get(call).filter(|why| !why.is_empty())?)))
        .collect();
    assert!(broken.is_empty(), "{client}: {broken:#?}");
    // If hardly anything worked with bitcoind, the comparison said nothing.
    let (works, all) = (works.count(), theirs.len());
    assert!(
        works * 10 >= all * 7,
        "{client}: {works} of {all}: {theirs:#?}"
    );
}

macro_rules! clients {
    ($($test:ident: $client:literal),* $(,)?) => {
        $(
            #[test]
            fn $test() {
                assert_client_works($client);
            }
        )*
    };
}

clients! {
    bitcoincore_rpc_reads_our_answers: "bitcoincore-rpc",
    bdk_follows_our_chain: "bdk",
    corepc_client_v24_reads_our_answers: "v24",
    corepc_client_v25_reads_our_answers: "v25",
    corepc_client_v26_reads_our_answers: "v26",
    corepc_client_v27_reads_our_answers: "v27",
    corepc_client_v28_reads_our_answers: "v28",
    corepc_client_v29_reads_our_answers: "v29",
    corepc_client_v30_reads_our_answers: "v30",
    corepc_client_v31_reads_our_answers: "v31",
}
