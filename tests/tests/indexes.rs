//! The indexes of a whole node: killed, damaged, disabled and enabled, and without disk space.

use std::fs;
use std::path::Path;

use bitcoin::hex::DisplayHex;
use handfast_tests::generator::{SMALL, empty_blocks};
use handfast_tests::process::{Node, Setup};
use handfast_tests::wait::wait_for;
use handfast_wire::{Network, RawBlock};
use serde_json::{Value, json};

fn indexed() -> Setup {
    Setup::handfast(Network::Regtest).arg("--txindex")
}

fn wait_for_index(node: &Node) {
    wait_for("the index is at the tip", || {
        let answer = node.rpc().get("getindexinfo", json!(["txindex"]));
        let height = node.rpc().get("getblockcount", json!([]));
        let index = &answer["txindex"];
        (index["synced"] == true && index["best_block_height"] == height).then_some(())
    });
}

/// Every transaction of these blocks is found, in its block.
#[track_caller]
fn assert_found(node: &Node, blocks: &[RawBlock]) {
    for block in blocks {
        let hash = block.hash.to_string();
        let answer = node.rpc().get("getblock", json!([hash]));
        for txid in answer["tx"].as_array().expect("a list") {
            let found = node.rpc().get("getrawtransaction", json!([txid, 1]));
            assert_eq!(found["blockhash"], json!(hash));
        }
    }
}

/// Why the coinbase of this block is not found.
#[track_caller]
fn refusal(node: &Node, block: &RawBlock) -> String {
    let told = node.rpc().get("getblock", json!([block.hash.to_string()]));
    let found = node.rpc().call("getrawtransaction", json!([told["tx"][0]]));
    found.expect_err("it is not in an index").to_string()
}

#[test]
fn an_index_that_is_killed_repeatedly_continues_where_it_stopped_and_misses_nothing() {
    let setup = indexed();
    let blocks = empty_blocks(Network::Regtest.genesis(), 0, "killed", 400);
    let mut seen = 0;
    for some in blocks.chunks(40) {
        let node = setup.start();
        let answer = node.rpc().get("getindexinfo", json!([]));
        seen = seen.max(answer["txindex"]["best_block_height"].as_u64().unwrap_or(0));
        for block in some {
            let hex = block.bytes.to_lower_hex_string();
            assert_eq!(node.rpc().get("submitblock", json!([hex])), Value::Null);
        }
        // The index may have all of them, some, or none.
        node.kill();
    }
    let node = setup.start();
    wait_for_index(&node);
    assert_eq!(node.height(), 400);
    assert_found(&node, &blocks);
    assert!(!node.output().contains("damaged"), "{}", node.output());
    assert!(node.stop().success());
}

#[test]
fn an_existing_chain_is_indexed_and_a_disabled_index_stays_and_catches_up() {
    let blocks = SMALL.blocks().expect("the cache can be written");
    let plain = Setup::handfast(Network::Regtest);
    let node = plain.start();
    node.submit(blocks[..120].iter().cloned());
    assert_eq!(node.rpc().get("getindexinfo", json!([])), json!({}));
    assert!(node.stop().success());

    let with = plain.clone().arg("--txindex");
    let node = with.start();
    wait_for_index(&node);
    assert_found(&node, &blocks[115..120]);
    assert!(node.stop().success());

    let node = plain.start();
    let dir = node.inside("indexes/txindex");
    assert!(dir.is_dir());
    let output = node.output();
    assert!(
        output.contains("--txindex enables it") && output.contains("to free its space"),
        "{output}"
    );
    let error = refusal(&node, &blocks[3]);
    assert!(error.contains("Use -txindex"), "{error}");
    node.submit(blocks[120..].iter().cloned());
    assert!(node.stop().success());

    let node = with.start();
    wait_for_index(&node);
    assert_found(&node, &blocks[110..]);
}

#[test]
fn a_damaged_index_is_quarantined_and_built_again_and_the_log_says_so() {
    let setup = indexed();
    let blocks = empty_blocks(Network::Regtest.genesis(), 0, "damaged", 30);
    let node = setup.start();
    node.submit(blocks.iter().cloned());
    wait_for_index(&node);
    let dir = setup.network_dir().join("indexes/txindex");
    assert!(node.stop().success());
    overwrite_files(&dir);

    let node = setup.start();
    wait_for_index(&node);
    assert_found(&node, &blocks);
    let output = node.output();
    assert!(
        output.contains("is damaged") && output.contains("txindex.damaged"),
        "{output}"
    );
    assert!(dir.with_file_name("txindex.damaged").is_dir());
}

/// All but the directories.
fn overwrite_files(dir: &Path) {
    for entry in fs::read_dir(dir).expect("it is there") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => overwrite_files(&path),
            false => fs::write(&path, [0xa5; 100]).expect("it can be written"),
        }
    }
}

#[test]
fn an_index_that_cannot_be_written_is_a_warning_and_is_updated_as_soon_as_it_can_be() {
    let setup = indexed();
    let place = setup.network_dir().join("indexes");
    let node = setup.clone().start();
    assert!(node.stop().success());
    fs::remove_dir_all(&place).expect("it was made");
    fs::write(&place, "in the way").expect("it can be written");

    let node = setup.start();
    let blocks = empty_blocks(Network::Regtest.genesis(), 0, "in the way", 5);
    node.submit(blocks.iter().cloned());
    let warnings = || {
        let info = node.rpc().get("getblockchaininfo", json!([]));
        info["warnings"].to_string()
    };
    wait_for("the warning is shown", || {
        let warnings = warnings();
        let shown = warnings.contains("txindex is not updated") && warnings.contains("indexes");
        shown.then_some(())
    });
    let error = refusal(&node, &blocks[3]);
    assert!(error.contains("still in the process"), "{error}");
    fs::remove_file(&place).expect("it was made above");
    wait_for_index(&node);
    assert_found(&node, &blocks);
    assert_eq!(warnings(), "[]");
    assert!(node.stop().success());
}
