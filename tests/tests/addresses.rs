//! Addresses that go from peer to peer: how a node that accepts connections is found.

use std::net::SocketAddr;

use handfast_tests::process::{Node, Setup};
use handfast_tests::wait::wait_for;
use handfast_wire::Network;
use serde_json::json;

/// Mines a block, after which a node of regtest is not in its initial download.
fn wake(node: &Node) {
    let hashes = node
        .rpc()
        .get("generatetodescriptor", json!([1, "raw(51)"]));
    assert_eq!(hashes.as_array().map(Vec::len), Some(1), "{hashes}");
}

fn knows(node: &Node, addr: SocketAddr) -> bool {
    let rows = node.rpc().get("getnodeaddresses", json!([0]));
    let rows = rows.as_array().expect("a list").clone();
    rows.iter()
        .any(|row| row["address"] == addr.ip().to_string() && row["port"] == addr.port())
}

#[test]
fn a_node_that_accepts_peers_is_found_by_a_third_through_the_second() {
    let second = Setup::handfast(Network::Regtest).start();
    // Dials whom it hears of; it has asked for addresses before there were any.
    let third = Setup::handfast(Network::Regtest)
        .dialling()
        .arg("--add-node")
        .arg(second.p2p().to_string())
        .start();
    wait_for("the third and the second are connected", || {
        (second.peers().len() == 1).then_some(())
    });
    let first = Setup::handfast(Network::Regtest)
        .connect(second.p2p())
        .arg("--external-ip")
        .arg("127.0.0.1")
        .start();
    assert!(!knows(&second, first.p2p()) && !knows(&third, first.p2p()));
    wake(&first);
    wait_for("the second has heard of the first", || {
        knows(&second, first.p2p()).then_some(())
    });
    wait_for("the third has dialled the first", || {
        let dialled = third.peers();
        let dialled = dialled
            .iter()
            .any(|row| row["addr"] == first.p2p().to_string() && row["inbound"] == false);
        dialled.then_some(())
    });
    let local = first.rpc().get("getnetworkinfo", json!([]))["localaddresses"].take();
    let expected = json!([{ "address": "127.0.0.1", "port": first.p2p().port(), "score": 4 }]);
    assert_eq!(local, expected);
}

#[test]
fn a_node_says_where_it_is_when_its_initial_download_is_over() {
    let second = Setup::handfast(Network::Regtest).start();
    let downloading = Setup::handfast(Network::Regtest)
        .connect(second.p2p())
        .arg("--external-ip")
        .arg("127.0.0.1:4001")
        .start();
    let awake = Setup::handfast(Network::Regtest)
        .connect(second.p2p())
        .arg("--external-ip")
        .arg("127.0.0.1:4002")
        .start();
    wait_for("both are connected", || {
        (second.peers().len() == 2).then_some(())
    });
    assert!(!knows(
        &second,
        "127.0.0.1:4001".parse().expect("an address")
    ));
    assert!(!knows(
        &second,
        "127.0.0.1:4002".parse().expect("an address")
    ));
    wake(&awake);
    wait_for("the one that is awake announces itself", || {
        knows(&second, "127.0.0.1:4002".parse().expect("an address")).then_some(())
    });
    // The other one follows the block, and is awake then too.
    wait_for("so does the other when it has the block", || {
        knows(&second, "127.0.0.1:4001".parse().expect("an address")).then_some(())
    });
    assert_eq!(downloading.height(), 1);
}
