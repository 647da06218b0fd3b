//! Churn over real TCP against the running binary: after thousands of peers that came
//! and vanished, no table remembers one of them, and the node follows the next honest peer.

use std::time::{Duration, Instant};

use handfast_fuzz::Scenario;
use handfast_tests::churn::{Churn, in_words};
use handfast_tests::crowd::Crowd;
use handfast_tests::generator::empty_blocks;
use handfast_tests::process::{Node, Setup};
use handfast_tests::scripted_peer::ScriptedPeer;
use handfast_tests::served_chain::ServedChain;
use handfast_tests::usage::Usage;
use handfast_tests::wait::{wait_for, wait_within};
use handfast_wire::Network;
use serde_json::{Value, json};

/// Connections of one churn.
const CYCLES: usize = 20_000;
/// Connections at a time.
const CONCURRENCY: usize = 50;
/// The same of those that leave in their handshake. There are more of them in a second than of any
/// others, and they are gone before the node has room for the next.
const HANDSHAKES: usize = 8;
/// Connections of a wave, which leave together: as many as when btcd was shown to keep dead peers.
const WAVE: usize = 300;
/// What the peers claim: far more than anybody has.
const CLAIMED_HEIGHT: i32 = 1_000_000;
/// Within this an honest peer's new blocks must be followed. The issue's own bound.
const FOLLOWED_WITHIN: Duration = Duration::from_secs(8);

/// A node that has room for a wave while the last one's ends are still being handled.
fn node(log: &str) -> Node {
    Setup::handfast(Network::Regtest)
        .arg("--max-inbound")
        .arg("700")
        .arg("--log")
        .arg(log)
        .start()
}

/// Churns a node, of which nothing may go wrong.
fn churn(node: &Node, kinds: &[Scenario], concurrency: usize, cycles: usize) -> String {
    let tally = Churn::new(node.p2p(), &Network::Regtest, kinds, concurrency, cycles)
        .claiming(CLAIMED_HEIGHT)
        .run();
    let (total, line) = (tally.total(), in_words(&tally));
    assert_eq!(total.failures, [].into(), "{kinds:?}: {line}");
    assert_eq!(total.ended_by_target, 0, "{kinds:?}: {line}");
    assert_eq!(total.ended, cycles as u64, "{kinds:?}: {line}");
    line
}

/// Everybody who came has gone, and every part of the node knows it.
fn assert_all_free(node: &Node) {
    let audit = || node.rpc().get("audit", json!([]));
    let home = |audit: &Value| {
        audit["agrees"] == true && audit["sockets"] == 0 && audit["slots_taken"] == 0
    };
    let audit = wait_for("all slots are home", || Some(audit()).filter(home));
    assert_eq!(audit["in_handshake"], 0, "{audit}");
    assert_eq!(audit["peer_table"], json!([]), "a ghost: {audit}");
    assert_eq!(audit["sync_table"], json!([]), "a ghost: {audit}");
    assert_eq!(audit["sync_peer"], Value::Null, "a ghost: {audit}");
    assert_eq!(node.peers(), Vec::<Value>::new());
}

/// A fresh peer with five new blocks is followed.
fn assert_follows(node: &Node) {
    let blocks = empty_blocks(Network::Regtest.genesis(), 0, "after the churn", 5);
    let tip = blocks[4].hash;
    let honest = ScriptedPeer::honest(
        &Network::Regtest,
        ServedChain::new(&Network::Regtest, blocks),
    );
    let begun = Instant::now();
    let address = honest.address().to_string();
    node.rpc().get("addnode", json!([address, "onetry"]));
    wait_within(
        FOLLOWED_WITHIN,
        "five blocks of a fresh peer are followed",
        || (node.best_hash() == Some(tip)).then_some(()),
    );
    println!("followed after {} ms", begun.elapsed().as_millis());
}

/// The watchdog is for a sync that hangs; none of this makes it hang.
fn assert_watchdog_slept(node: &Node) {
    let watchdog = node.rpc().get("getsyncstate", json!([]))["watchdog"].take();
    assert_eq!(watchdog["fired"], 0, "{watchdog}");
}

/// Connections of these kinds, without and with a log that slows the node down and so
/// widens every window between two steps.
fn survives(kinds: &[Scenario], concurrency: usize) {
    for log in ["info", "debug"] {
        let node = node(log);
        let line = churn(&node, kinds, concurrency, CYCLES);
        println!("{kinds:?}, log {log}: {line}");
        assert_all_free(&node);
        assert_follows(&node);
        assert_watchdog_slept(&node);
        assert_eq!(node.output().contains("DEBUG"), log == "debug");
    }
}

#[test]
fn waves_that_answer_a_ping_and_leave_together_leave_no_ghost() {
    survives(&[Scenario::Barrier], WAVE);
}

#[test]
fn peers_that_leave_in_good_order_leave_no_ghost() {
    survives(&[Scenario::Orderly], CONCURRENCY);
}

#[test]
fn peers_that_say_all_at_once_leave_no_ghost() {
    survives(&[Scenario::Pipelined], CONCURRENCY);
}

#[test]
fn peers_that_reset_leave_no_ghost() {
    survives(&[Scenario::Reset], CONCURRENCY);
}

#[test]
fn peers_that_drop_on_verack_leave_no_ghost() {
    survives(&[Scenario::HandshakeDrop], HANDSHAKES);
}

#[test]
fn peers_that_drop_before_their_verack_leave_no_ghost() {
    survives(&[Scenario::PreVerack], HANDSHAKES);
}

#[test]
fn peers_that_reset_behind_their_version_leave_no_ghost() {
    // Some wait for the node, or it would be left behind and run out of slots.
    survives(&[Scenario::VersionReset, Scenario::PreVerack], CONCURRENCY);
}

#[test]
fn all_kinds_mixed_leave_no_ghost() {
    survives(&Churn::KINDS, CONCURRENCY);
}

#[test]
fn all_kinds_beside_waves_that_leave_together_leave_no_ghost() {
    survives(&[&Churn::KINDS[..], &[Scenario::Barrier]].concat(), WAVE);
}

/// Not one line of the fuzzer's engine: what it believes of a node is seen here without it.
#[test]
fn crowds_of_plain_connections_that_leave_together_leave_no_ghost_either() {
    let node = node("info");
    let height = usize::try_from(CLAIMED_HEIGHT).expect("it is not negative");
    for wave in 0..10 {
        let crowd = Crowd::gather(node.p2p(), &Network::Regtest, WAVE, height);
        let crowd = crowd.unwrap_or_else(|error| panic!("wave {wave}: {error}"));
        assert_eq!(node.peers().len(), WAVE, "wave {wave}");
        crowd.leave();
        assert_all_free(&node);
    }
    assert_follows(&node);
    assert_watchdog_slept(&node);
}

#[test]
fn memory_after_200_000_connections_is_that_after_20_000() {
    const MANY: usize = 10 * CYCLES;
    let node = node("info");
    let resident = |cycles| {
        let report = churn(&node, &Churn::KINDS, CONCURRENCY, cycles);
        assert_all_free(&node);
        let resident = Usage::of(node.pid()).expect("the node runs").resident;
        println!("{} kB resident after {report}", resident / 1_000);
        resident
    };
    let few = resident(CYCLES);
    let many = resident(MANY - CYCLES);
    // The issue's own bound.
    assert!(many * 10 <= few * 11, "{few} bytes grew to {many}");
    assert_follows(&node);
    assert_watchdog_slept(&node);
}
