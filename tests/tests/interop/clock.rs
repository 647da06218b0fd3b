//! What depends on what time it is, with the clocks of both programs set alike: progress,
//! initial block download, and which blocks are from the future.

use handfast_tests::generator::{SMALL, empty_blocks};
use handfast_tests::process::{Node, Setup};
use handfast_wire::Network;
use serde_json::{Value, json};

use crate::answers::{assert_same, outcome};
use crate::following::mine;

/// Sets both clocks, and compares what both say of progress.
#[track_caller]
fn assert_same_at(core: &Node, ours: &Node, unix: u64) -> (String, Value) {
    for node in [core, ours] {
        let set = node.rpc().get("setmocktime", json!([unix]));
        assert_eq!(set, Value::Null);
    }
    let [theirs, own] = [core, ours].map(|node| node.rpc().get("getblockchaininfo", json!([])));
    for member in ["blocks", "verificationprogress", "initialblockdownload"] {
        assert_eq!(
            own[member].to_string(),
            theirs[member].to_string(),
            "{member} at {unix}"
        );
    }
    let [theirs, own] = [core, ours].map(|node| {
        let states = node.rpc().get("getchainstates", json!([]));
        states["chainstates"][0]["verificationprogress"].to_string()
    });
    assert_eq!(own, theirs, "getchainstates at {unix}");
    (
        own,
        ours.rpc().get("getblockchaininfo", json!([]))["initialblockdownload"].clone(),
    )
}

#[test]
fn progress_and_initial_download_are_told_as_bitcoind_tells_them() {
    let network = Network::Regtest;
    let core = Setup::bitcoind(network.clone()).start();
    let ours = Setup::handfast(network.clone()).start();
    let genesis = u64::from(network.genesis().time);
    // An empty node is at the beginning, not at the end.
    let (progress, download) = assert_same_at(&core, &ours, 1_800_000_000);
    assert_ne!(progress, "1");
    assert_eq!(download, true);
    // A clock that is put back does not end initial download.
    assert_same_at(&core, &ours, genesis + 60);

    let blocks = SMALL.blocks().expect("the cache can be written");
    let last = blocks.last().expect("there are some").header.time;
    let last = u64::from(last);
    for node in [&core, &ours] {
        // Else they are from the future.
        node.rpc().get("setmocktime", json!([last]));
    }
    core.submit(blocks.iter().cloned());
    ours.submit(blocks);
    for after in [0, 7_200, 7_201, 86_400, 100_000_000] {
        assert_same_at(&core, &ours, last + after);
    }

    let recent = 1_900_000_000;
    for node in [&core, &ours] {
        node.rpc().get("setmocktime", json!([recent]));
    }
    mine(&core, 1);
    let tip = core.best_hash().expect("it answers").to_string();
    let block = core.rpc().get("getblock", json!([tip, 0]));
    assert_eq!(ours.rpc().get("submitblock", json!([block])), Value::Null);
    assert_same_at(&core, &ours, recent);
    // Ended for good, also when days pass without a block.
    let (progress, download) = assert_same_at(&core, &ours, recent + 1_000_000);
    assert_ne!(progress, "1");
    assert_eq!(download, false);
}

#[test]
fn progress_is_the_same_again_after_a_restart() {
    let network = Network::Regtest;
    let blocks = SMALL.blocks().expect("the cache can be written");
    let core = Setup::bitcoind(network.clone()).start();
    let ours = Setup::handfast(network).start();
    core.submit(blocks.iter().cloned());
    ours.submit(blocks);
    let setup = ours.setup().clone();
    assert!(ours.stop().success());
    let ours = setup.start();
    let (_, download) = assert_same_at(&core, &ours, 1_800_000_000);
    assert_eq!(download, true);
}

#[test]
fn a_set_clock_judges_blocks_headers_and_templates() {
    let network = Network::Regtest;
    let core = Setup::bitcoind(network.clone()).start();
    let ours = Setup::handfast(network.clone()).start();
    let past = u64::from(network.genesis().time) + 600;
    let ahead = empty_blocks(network.genesis(), 0, "ahead", 30);
    for node in [&core, &ours] {
        node.rpc().get("setmocktime", json!([past]));
    }
    let far = ahead
        .iter()
        .find(|block| u64::from(block.header.time) > past + 7_200);
    let Some(far) = far else {
        panic!("some of the blocks are more than two hours ahead");
    };
    let at = ahead.iter().position(|block| block.hash == far.hash);
    let at = at.expect("it is one of them");
    for block in &ahead[..at] {
        let hex = bitcoin::hex::DisplayHex::to_lower_hex_string(&block.bytes[..]);
        assert_same(&core, &ours, "submitblock", json!([hex]));
    }
    let hex = bitcoin::hex::DisplayHex::to_lower_hex_string(&far.bytes[..]);
    let refusal = outcome(&ours, "submitblock", &json!([hex]));
    assert_eq!(refusal, Ok(json!("time-too-new")));
    assert_eq!(outcome(&core, "submitblock", &json!([hex])), refusal);
    for node in [&core, &ours] {
        node.rpc().get("setmocktime", json!([far.header.time]));
    }
    assert_same(&core, &ours, "submitblock", json!([hex]));
    let rules = json!([{ "rules": ["segwit"] }]);
    let now = u64::from(far.header.time) + 86_400;
    for node in [&core, &ours] {
        node.rpc().get("setmocktime", json!([now]));
        let template = node.rpc().get("getblocktemplate", rules.clone());
        assert_eq!(template["curtime"], now);
    }
}

#[test]
fn a_clock_is_set_on_regtest_only_and_to_what_a_block_can_have() {
    let core = Setup::bitcoind(Network::Regtest).start();
    let ours = Setup::handfast(Network::Regtest).start();
    for time in [json!(-1), json!(4_294_967_296_u64), json!("1"), json!(1.5)] {
        assert_same(&core, &ours, "setmocktime", json!([time]));
    }
    assert_same(&core, &ours, "setmocktime", json!([4_294_967_295_u64]));
    assert_same(&core, &ours, "setmocktime", json!([0]));
    let [core, ours] = [
        Setup::bitcoind(Network::Testnet4),
        Setup::handfast(Network::Testnet4),
    ]
    .map(|setup| setup.start());
    assert_same(&core, &ours, "setmocktime", json!([1_800_000_000]));
}
