//! electrs, unmodified, indexes our chain over RPC and P2P and follows it: `scripts/electrs`
//! builds it.

use std::process::Command;

use handfast_tests::generator::{SMALL, empty_blocks};
use handfast_tests::process::{Node, Setup, free_address};
use handfast_wire::Network;
use serde_json::{Value, json};

use crate::electrum_server::{ElectrumServer, installed, rpc_address};
use crate::following::mine;

/// One on this node; `None`: it is not installed.
pub(crate) fn start(node: &Node) -> Option<ElectrumServer> {
    let programs = installed("electrs", None)?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let address = free_address();
    let mut command = Command::new(programs.join("electrs"));
    command
        .env_clear()
        .env("HOME", dir.path())
        .args(["--skip-default-conf-files", "--network", "regtest"])
        .args(["--log-filters", "INFO"])
        .arg("--db-dir")
        .arg(dir.path())
        .arg("--daemon-dir")
        .arg(node.setup().datadir())
        .arg("--cookie-file")
        .arg(node.inside(".cookie"))
        .args(["--daemon-rpc-addr", &rpc_address(node).to_string()])
        .args(["--daemon-p2p-addr", &node.p2p().to_string()])
        .args(["--electrum-rpc-addr", &address.to_string()])
        .args(["--monitoring-addr", &free_address().to_string()]);
    Some(ElectrumServer::spawn(command, address, dir))
}

/// The node's last block, as `getblock` describes it.
fn tip_of(node: &Node) -> Value {
    let tip = node.best_hash().expect("a tip").to_string();
    node.rpc().get("getblock", json!([tip, 2]))
}

#[test]
fn electrs_indexes_our_chain_and_serves_its_transactions_with_proofs() {
    let node = Setup::handfast(Network::Regtest).start();
    node.submit(SMALL.blocks().expect("the cache can be written"));
    let block = tip_of(&node);
    let height = node.height();
    // It waits for the end of the initial download, and the blocks above are years old.
    mine(&node, 1);
    let Some(server) = start(&node) else { return };
    server.wait_for_tip_of(&node);
    let paid = &block["tx"][7];
    let script = paid["vout"][0]["scriptPubKey"]["hex"].as_str();
    let txid = paid["txid"].as_str().expect("an id");
    server.wait_for_history(script.expect("hex"), |rows| {
        rows.iter()
            .any(|(id, at)| id == txid && u64::try_from(*at) == Ok(height))
    });
    let asked = server.ask(&[
        ("blockchain.transaction.get", json!([txid])),
        ("blockchain.transaction.get_merkle", json!([txid, height])),
        ("blockchain.block.header", json!([height])),
        ("blockchain.relayfee", json!([])),
        ("blockchain.estimatefee", json!([6])),
        ("mempool.get_fee_histogram", json!([])),
    ]);
    let asked = asked.expect("each is answered");
    assert_eq!(asked[0], paid["hex"]);
    assert_eq!(asked[1]["pos"], 7);
    let hash = &block["hash"];
    let header = node.rpc().get("getblockheader", json!([hash, false]));
    assert_eq!(asked[2], header);
    assert_eq!(asked[3], 1e-6);
    assert_eq!(asked[4], -1, "there is no estimate");
    assert_eq!(asked[5], json!([]));
}

#[test]
fn electrs_follows_new_blocks_and_a_reorganization_of_our_chain() {
    let trunk = empty_blocks(Network::Regtest.genesis(), 0, "trunk", 15);
    let branch = empty_blocks(trunk[14].header, 15, "branch", 7);
    let node = Setup::handfast(Network::Regtest).start();
    node.submit(trunk);
    mine(&node, 5);
    let Some(server) = start(&node) else { return };
    server.wait_for_tip_of(&node);
    node.submit(branch);
    assert_eq!(node.height(), 22);
    server.wait_for_tip_of(&node);
    for _ in 0..3 {
        mine(&node, 1);
        server.wait_for_tip_of(&node);
    }
}
