//! For those who watch over the node.

use handfast_tests::generator::empty_blocks;
use handfast_tests::process::Node;
use handfast_tests::scripted_peer::ScriptedPeer;
use handfast_tests::served_chain::ServedChain;
use handfast_tests::wait::wait_for;
use handfast_wire::Network;
use serde_json::json;

use crate::exchange::{exchange, get, node, rpc_address};

/// The value of the one line that begins so.
fn metric(page: &str, name: &str) -> f64 {
    let values: Vec<f64> = page
        .lines()
        .filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
        .map(|value| value.parse().expect("a number"))
        .collect();
    assert_eq!(values.len(), 1, "{name}: {page}");
    values[0]
}

#[test]
fn a_node_is_ready_once_a_peer_has_shown_what_it_has_and_says_why_not_before() {
    let node = node(&[]);
    assert_eq!(get(&node, "/health").text(), "running\n");
    let alone = get(&node, "/ready");
    assert_eq!(alone.status, 503);
    assert_eq!(alone.text(), "not ready: no peer is connected\n");

    let blocks = empty_blocks(Network::Regtest.genesis(), 0, "ready", 5);
    let chain = ServedChain::new(&Network::Regtest, blocks);
    let peer = ScriptedPeer::honest(&Network::Regtest, chain);
    let address = peer.address().to_string();
    node.rpc().get("addnode", json!([address, "onetry"]));
    wait_for("the node is ready with five blocks", || {
        let ready = get(&node, "/ready");
        (ready.status == 200 && node.height() == 5).then(|| assert_eq!(ready.text(), "ready\n"))
    });
    assert_metrics(&node);

    peer.leave();
    wait_for("nobody is left", || {
        (get(&node, "/ready").status == 503).then_some(())
    });
}

fn assert_metrics(node: &Node) {
    let answer = get(node, "/metrics");
    assert_eq!(answer.status, 200);
    let kind = answer.header("content-type").expect("it has one");
    // For a caller that does not ask for OpenMetrics.
    assert!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
    let page = answer.text();
    for (name, value) in [
        ("handfast_blocks", 5.0),
        ("handfast_headers", 5.0),
        ("handfast_sync_lag_blocks", 0.0),
        ("handfast_mining", 0.0),
        ("handfast_mining_found_total", 0.0),
        ("handfast_phase{phase=\"running\"}", 1.0),
        ("handfast_sync_phase{phase=\"synced\"}", 1.0),
        ("handfast_peers{direction=\"outbound\"}", 1.0),
        ("handfast_table_peers{manager=\"sync\"}", 1.0),
        ("handfast_connections{state=\"handshake\"}", 0.0),
        ("handfast_slots_taken", 1.0),
        ("handfast_invariants_broken", 0.0),
        ("handfast_peers_adds_total", 1.0),
        ("handfast_watchdog_fired_total", 0.0),
        (
            "handfast_rpc_calls_total{method=\"addnode\",result=\"ok\"}",
            1.0,
        ),
        ("handfast_rpc_seconds_count{method=\"addnode\"}", 1.0),
    ] {
        assert!(
            (metric(&page, name) - value).abs() < f64::EPSILON,
            "{name}: {page}"
        );
    }
    // A frame has a header of 24 bytes; a nonce has 8.
    for (name, least) in [
        ("sent_messages_total{command=\"getheaders\"}", 1.0),
        ("sent_bytes_total{command=\"verack\"}", 24.0),
        ("received_messages_total{command=\"block\"}", 5.0),
        ("received_bytes_total{command=\"headers\"}", 5.0 * 81.0),
    ] {
        let name = format!("handfast_p2p_{name}");
        assert!(metric(&page, &name) >= least, "{name}: {page}");
    }
    assert!(metric(&page, "handfast_kernel_block_seconds_count") >= 5.0);
    // Headers go along with the blocks that need them.
    assert!(metric(&page, "handfast_kernel_headers_seconds_sum") >= 0.0);
    let unix = node.setup().network_dir().join("node.sock");
    for (socket, address, least) in [
        ("p2p", node.p2p().to_string(), 0.0),
        ("rpc", rpc_address(node), 1.0),
        ("rpc", unix.display().to_string(), 0.0),
    ] {
        let labels = format!("{{socket=\"{socket}\",address=\"{address}\"}}");
        let backlog = metric(&page, &format!("handfast_listener_backlog{labels}"));
        assert!(backlog >= 1.0, "{socket} {address}: {backlog}");
        let accepted = metric(&page, &format!("handfast_listener_accepted_total{labels}"));
        assert!(accepted >= least, "{socket} {address}: {accepted}");
    }
}

#[test]
fn callers_cannot_make_the_page_grow_by_methods_that_they_make_up() {
    let node = node(&[]);
    for number in 0..50 {
        assert!(
            node.rpc()
                .call(&format!("made_up_{number}"), json!([]))
                .is_err()
        );
    }
    let page = get(&node, "/metrics").text();
    assert!(!page.contains("made_up"), "{page}");
    let unknown = "handfast_rpc_calls_total{method=\"unknown\",result=\"error\"}";
    assert!((metric(&page, unknown) - 50.0).abs() < f64::EPSILON);
}

#[test]
fn these_pages_are_read_and_not_written() {
    let node = node(&[]);
    for path in ["/health", "/ready", "/metrics"] {
        let post = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        );
        let answer = exchange(&node, post.as_bytes());
        assert_eq!(
            (answer.status, answer.header("allow")),
            (405, Some("GET, HEAD"))
        );
    }
    assert_eq!(get(&node, "/moon").status, 404);
}
