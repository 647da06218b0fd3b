//! A disk that is really full.

use std::fs::File;
use std::io::Write;

use bitcoin::hex::DisplayHex;
use handfast_tests::generator::empty_blocks;
use handfast_tests::process::{Node, Setup};
use handfast_tests::scripted_peer::ScriptedPeer;
use handfast_tests::served_chain::ServedChain;
use handfast_tests::wait::wait_for;
use handfast_wire::{Network, RawBlock};
use serde_json::{Value, json};

fn submit(node: &Node, block: &RawBlock) -> Result<Value, String> {
    let hex = block.bytes.to_lower_hex_string();
    let answer = node.rpc().call("submitblock", json!([hex]));
    answer.map_err(|error| error.to_string())
}

#[test]
fn with_a_full_disk_the_node_accepts_no_block_reports_why_serves_and_recovers() {
    // The kernel allocates 17 MiB at its start, and ends the node below 50.
    let Some(setup) = Setup::handfast(Network::Regtest).on_a_disk_of(220) else {
        return;
    };
    let node = setup.start();
    let blocks = empty_blocks(Network::Regtest.genesis(), 0, "full", 40);
    assert_eq!(submit(&node, &blocks[0]), Ok(Value::Null));

    let filler = node.inside("filler");
    let mut file = File::create(&filler).expect("the node's file system can be reached");
    let mebibyte = vec![1; 1 << 20];
    for _ in 0..90 {
        file.write_all(&mebibyte).expect("there is space for it");
    }
    // Free space is checked ten times a second.
    let mut next = 1;
    let error = wait_for("a block is refused", || {
        let refused = submit(&node, &blocks[next]).err();
        next += usize::from(refused.is_none());
        refused
    });
    assert!(error.contains("the disk is full"), "{error}");
    assert!(error.contains("free disk space"), "{error}");
    let info = node.rpc().get("getblockchaininfo", json!([]));
    assert!(
        info["warnings"].to_string().contains("the disk is full"),
        "{info}"
    );
    // A peer's blocks are not accepted either, and the peer is not blamed.
    let served = ServedChain::new(&Network::Regtest, blocks.iter().cloned());
    let peer = ScriptedPeer::honest(&Network::Regtest, served);
    peer.dial(node.p2p());
    wait_for("a block of the peer's is tried", || {
        (peer.record().blocks_sent() > 0).then_some(())
    });
    let hash = blocks[0].hash.to_string();
    assert_eq!(
        node.rpc().get("getblock", json!([hash, 0])),
        blocks[0].bytes.to_lower_hex_string(),
        "it serves"
    );
    assert_eq!(node.height(), next as u64);
    assert_eq!(node.peers().len(), 1);

    drop(file);
    std::fs::remove_file(&filler).expect("it was made above");
    node.wait_for_tip(blocks[39].hash);
    // The warning of a stalled sync lasts until the next check.
    wait_for("no warning is left", || {
        let info = node.rpc().get("getblockchaininfo", json!([]));
        (info["warnings"] == json!([])).then_some(())
    });
    assert!(node.stop().success());
}
