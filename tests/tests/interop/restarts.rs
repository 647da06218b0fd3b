//! Handfast's end and return while a real peer goes on.

use handfast_tests::process::Setup;
use handfast_tests::wait::wait_for;
use serde_json::json;

use crate::chains::Signet;

#[test]
fn killed_ten_times_while_bitcoind_serves_it_ends_at_the_right_tip() {
    let Some(chain) = Signet::find() else {
        return;
    };
    let (core, tip) = (chain.in_bitcoind(), chain.tip());
    let setup = Setup::handfast(chain.network).connect(core.p2p());
    // Heights spread over the chain, the early ones too, in an order that neither
    // rises nor falls.
    for height in [1, 9_000, 300, 13_000, 4_000, 2, 12_000, 700, 7_000, 11_000] {
        let mut node = setup.spawn();
        wait_for(&format!("height {height}"), || {
            let count = node.rpc().call("getblockcount", json!([])).ok()?.as_u64()?;
            (count >= height).then_some(())
        });
        assert!(node.is_running(), "{}", node.output());
        node.kill();
    }
    let node = setup.start();
    node.wait_for_tip(tip);
}

#[test]
fn after_a_clean_stop_bitcoind_sends_no_block_again() {
    let Some(chain) = Signet::find() else {
        return;
    };
    let (core, tip) = (chain.in_bitcoind(), chain.tip());
    let setup = Setup::handfast(chain.network).connect(core.p2p());
    let node = setup.start();
    node.wait_for_tip(tip);
    assert!(node.stop().success());
    wait_for("the connection is gone", || {
        core.peers().is_empty().then_some(())
    });

    let node = setup.start();
    assert_eq!(
        node.best_hash(),
        Some(tip),
        "the chain is there before the peer is"
    );
    // A ping and its answer come after whatever the node wanted first.
    let sent = wait_for("the connection has settled", || {
        let peer = core.peers().into_iter().next()?;
        let settled = peer["synced_headers"].as_i64()? >= 0
            || peer["bytesrecv_per_msg"].get("pong").is_some();
        settled.then_some(peer["bytessent_per_msg"].clone())
    });
    assert_eq!(sent.get("block"), None, "sent: {sent}");
}
