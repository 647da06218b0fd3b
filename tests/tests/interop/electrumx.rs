//! ElectrumX, unmodified, indexes our chain and follows it: `scripts/electrumx` installs it.

use std::process::Command;

use handfast_tests::generator::SMALL;
use handfast_tests::process::{Node, Setup, free_address};
use handfast_wire::Network;
use serde_json::json;

use crate::electrum_server::{ElectrumServer, installed, rpc_address};
use crate::following::mine;

/// The last version that starts on a node without an index; only with that of transactions
/// does it serve them.
pub(crate) const OLD: &str = "1.19.0";
/// The newest, which ends at once on a node without two indexes.
pub(crate) const NEW: &str = "2.0.0";

/// One of `version` on this node; `None`: it is not installed.
pub(crate) fn start(version: &str, node: &Node) -> Option<ElectrumServer> {
    let programs = installed("electrumx", Some(version))?;
    let cookie = std::fs::read_to_string(node.inside(".cookie")).expect("it is there");
    let rpc = rpc_address(node);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let address = free_address();
    let mut command = Command::new(programs.join("python"));
    command
        .arg(programs.join("electrumx_server"))
        .env_clear()
        .env("DB_ENGINE", "leveldb")
        .env("COIN", "Bitcoin")
        .env("NET", "regtest")
        .env("DB_DIRECTORY", dir.path())
        .env("DAEMON_URL", format!("http://{}@{rpc}", cookie.trim()))
        .env("SERVICES", format!("tcp://{address}"))
        .env("PEER_DISCOVERY", "off")
        .env("PEER_ANNOUNCE", "")
        .env("ALLOW_ROOT", "1")
        .env("DAEMON_POLL_INTERVAL_BLOCKS", "100")
        .env("DAEMON_POLL_INTERVAL_MEMPOOL", "100");
    Some(ElectrumServer::spawn(command, address, dir))
}

/// A node as a version needs it.
pub(crate) fn node(version: &str) -> Node {
    let setup = Setup::handfast(Network::Regtest);
    let setup = setup.arg("--txindex");
    match version {
        OLD => setup.start(),
        _ => setup.arg("--txospenderindex").start(),
    }
}

fn assert_it_follows(version: &str) {
    let node = node(version);
    node.submit(SMALL.blocks().expect("the cache can be written"));
    let Some(server) = start(version, &node) else {
        return;
    };
    server.wait_for_tip_of(&node);
    // What Electrum asks for first.
    let asked = server.ask(&[
        ("mempool.get_info", json!([])),
        ("blockchain.estimatefee", json!([6])),
        ("mempool.get_fee_histogram", json!([])),
        ("blockchain.block.header", json!([1])),
        ("server.features", json!([])),
    ]);
    let asked = asked.expect("each is answered");
    assert_eq!(asked[0]["minrelaytxfee"], 1e-6, "{}", asked[0]);
    assert_eq!(asked[1], -1, "there is no estimate");
    assert!(asked[3].as_str().is_some_and(|hex| hex.len() == 160));

    mine(&node, 3);
    server.wait_for_tip_of(&node);
    // The script that `mine` pays to.
    let address = "bcrt1qft5p2uhsdcdc3l2ua4ap5qqfg4pjaqlp250x7us7a8qqhrxrxfsqseac85";
    let told = node.rpc().get("validateaddress", json!([address]));
    let script = told["scriptPubKey"].as_str().expect("a script").to_owned();
    server.wait_for_history(&script, |rows| rows.len() == 3);
}

#[test]
fn electrumx_1_19_indexes_our_chain_and_follows_it() {
    assert_it_follows(OLD);
}

#[test]
fn electrumx_2_indexes_our_chain_and_follows_it() {
    assert_it_follows(NEW);
}

#[test]
fn electrumx_2_tells_who_spent_an_output_by_our_index() {
    let node = node(NEW);
    let blocks = SMALL.blocks().expect("the cache can be written");
    node.submit(blocks);
    let Some(server) = start(NEW, &node) else {
        return;
    };
    server.wait_for_tip_of(&node);
    let tip = node.best_hash().expect("a tip").to_string();
    let block = node.rpc().get("getblock", json!([tip, 2]));
    let spender = &block["tx"][1];
    let spent = &spender["vin"][0];
    // Other servers want the script that was paid to; this one looks only whether it is hex.
    let question = (
        "blockchain.outpoint.get_status",
        json!([spent["txid"], spent["vout"], "51"]),
    );
    let told = server.ask_in("1.7", &[question]).expect("it answers");
    assert_eq!(told[0]["spender_txhash"], spender["txid"], "{}", told[0]);
}
