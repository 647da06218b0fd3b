//! Reads never wait behind validation.

use std::time::{Duration, Instant};

use handfast_tests::generator::slow_to_connect;
use handfast_tests::scripted_peer::ScriptedPeer;
use handfast_tests::served_chain::ServedChain;
use handfast_tests::wait::wait_for;
use handfast_wire::Network;
use serde_json::json;

use crate::exchange::node;

/// Inputs of the block: some 50 ms of hashing each, over the cores.
const INPUTS: usize = 80;
/// What half of the reads may take at most. Stated by the issue for each; the machine of
/// a test may be busy with more than this node.
const QUICK: Duration = Duration::from_millis(20);
/// Reads of each kind that must have been answered while the block was being connected.
const ENOUGH: usize = 25;

#[test]
fn while_one_block_takes_seconds_to_connect_reads_are_answered_at_once() {
    let node = node(&["--log", "info,handfast_proto=debug"]);
    let mut blocks = slow_to_connect(INPUTS);
    let slow = blocks.pop().expect("the slow one");
    let before = blocks.last().expect("the funding block").hash.to_string();
    node.submit(blocks.clone());

    // A peer gives the slow block; it stays asked for until the kernel has judged it.
    blocks.push(slow.clone());
    let chain = ServedChain::new(&Network::Regtest, blocks);
    let peer = ScriptedPeer::honest(&Network::Regtest, chain);
    let address = peer.address().to_string();
    node.rpc().get("addnode", json!([address, "onetry"]));
    wait_for("the kernel has the block", || {
        let state = node.rpc().get("getsyncstate", json!([]));
        (state["backlog"]["with_kernel"] == 1).then_some(())
    });

    let mut reads = [
        "getblockcount",
        "getblockchaininfo",
        "getpeerinfo",
        "getsyncstate",
    ]
    .map(|method| (method, Vec::<Duration>::new()));
    let begun = Instant::now();
    let mut connection = node.rpc().keep_alive().expect("the node accepts");
    let mut held = Duration::ZERO;
    'held: loop {
        for (method, took) in &mut reads {
            let asked = Instant::now();
            let outcome = connection.call(method, json!([]));
            let answered = asked.elapsed();
            assert!(
                matches!(
                    outcome,
                    handfast_tests::rpc::Outcome::Answered { status: 200, .. }
                ),
                "{outcome:?}"
            );
            if node.best_hash().map(|hash| hash.to_string()) != Some(before.clone()) {
                break 'held;
            }
            held = begun.elapsed();
            took.push(answered);
        }
    }
    node.wait_for_tip(slow.hash);
    for (method, mut took) in reads {
        took.sort_unstable();
        let at = |percent: usize| took[(took.len() - 1) * percent / 100];
        let (median, most) = (at(50), at(100));
        println!(
            "{method}: {} answers in {held:?}, half within {median:?}, 99 % within {:?}, all within {most:?}",
            took.len(),
            at(99)
        );
        assert!(
            took.len() >= ENOUGH,
            "{method}: the block took {held:?} only"
        );
        assert!(median < QUICK, "{method}: half took more than {median:?}");
    }
}
