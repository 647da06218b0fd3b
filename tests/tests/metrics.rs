//! The page that Prometheus scrapes, as scrapers ask for it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use handfast_tests::generator::SMALL;
use handfast_tests::process::{Node, Setup, free_address};
use handfast_tests::rpc::Endpoint;
use handfast_tests::scripted_peer::ScriptedPeer;
use handfast_tests::served_chain::ServedChain;
use handfast_tests::skipped;
use handfast_tests::wait::wait_for;
use handfast_wire::Network;
use serde_json::json;

/// The content type and the page.
fn page(node: &Node, accept: &str) -> (String, String) {
    let Endpoint::Tcp(address) = node.rpc().endpoint() else {
        panic!("over TCP");
    };
    let mut stream = TcpStream::connect(address).expect("it accepts");
    let patience = Some(Duration::from_secs(60));
    stream.set_read_timeout(patience).expect("it can be set");
    let request = format!("GET /metrics HTTP/1.0\r\nHost: localhost\r\n{accept}\r\n");
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("text");
    let (head, page) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(
        head.starts_with("HTTP/1.") && head.contains(" 200 "),
        "{head}"
    );
    let kind = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("content-type").then_some(value)
    });
    (kind.unwrap_or_default().to_owned(), page.to_owned())
}

fn plain(node: &Node) -> String {
    page(node, "Accept: text/plain\r\n").1
}

/// The value of a sample, by its name with its labels.
fn sample(page: &str, name: &str) -> Option<f64> {
    let line = page.lines().find_map(|line| line.strip_prefix(name))?;
    line.strip_prefix(' ')?.parse().ok()
}

/// A node that has what its peer has, a named peer that refuses, and a peer that has left.
fn busy() -> Node {
    let blocks = SMALL.blocks().expect("the cache can be written");
    let network = Network::Regtest;
    let peer = ScriptedPeer::honest(&network, ServedChain::new(&network, blocks));
    let node = Setup::handfast(network)
        .connect(peer.address())
        .connect(free_address())
        .start();
    node.wait_for_tip(SMALL.tip());
    let id = wait_for("it is a peer", || Some(node.peers().first()?["id"].clone()));
    node.rpc().get("disconnectnode", json!(["", id]));
    wait_for("it has left", || {
        let page = plain(&node);
        let name = "handfast_p2p_disconnects_total{reason=\"requested\"}";
        sample(&page, name).filter(|count| *count > 0.0)
    });
    node
}

#[test]
fn disconnections_dials_and_blocks_are_counted_by_kind() {
    let node = busy();
    let page = wait_for("the named peer was dialled", || {
        let page = plain(&node);
        let refused = sample(&page, "handfast_p2p_dials_total{outcome=\"refused\"}");
        refused.is_some_and(|count| count > 0.0).then_some(page)
    });
    let count = |name: &str| sample(&page, &format!("handfast_{name}")).unwrap_or(0.0);
    assert!(count("p2p_dials_total{outcome=\"connected\"}") >= 1.0);
    assert!(count("p2p_blocks_total{class=\"manual\"}") >= 120.0);
    assert_eq!(count("p2p_blocks_total{class=\"inbound\"}"), 0.0);
    // The blocks are years old.
    assert!(count("tip_age_seconds") > 86_400.0);
    assert_eq!(count("initial_block_download"), 1.0);
    assert!(count("progress") > 0.0 && count("progress") < 1.0);
    let resident = sample(&page, "process_resident_memory_bytes");
    if cfg!(target_os = "linux") {
        assert!(resident.is_some_and(|bytes| bytes > 1_000_000.0));
    }
}

#[test]
fn every_counter_is_on_the_page_at_zero_before_its_first_event() {
    let page = plain(&Setup::handfast(Network::Regtest).start());
    for (name, label, values) in [
        (
            "p2p_dials",
            "outcome",
            &[
                "connected",
                "refused",
                "timed_out",
                "unreachable",
                "failed",
                "no_slot",
            ][..],
        ),
        ("p2p_blocks", "class", &["inbound", "outbound", "manual"]),
        (
            "p2p_disconnects",
            "reason",
            &["remote_closed", "evicted", "invalid_block", "panicked"],
        ),
        (
            "p2p_sent_bytes",
            "command",
            &["version", "block", "*other*"],
        ),
        (
            "p2p_received_messages",
            "command",
            &["headers", "ping", "*other*"],
        ),
        (
            "rpc_refused",
            "reason",
            &["address", "host", "login", "guesses"],
        ),
    ] {
        for value in values {
            let name = format!("handfast_{name}_total{{{label}=\"{value}\"}}");
            assert_eq!(sample(&page, &name), Some(0.0), "{name}");
        }
    }
}

#[test]
fn a_scraper_gets_the_format_that_it_asks_for() {
    let node = Setup::handfast(Network::Regtest).start();
    for accept in ["", "Accept: */*\r\n", "Accept: text/plain\r\n"] {
        let (kind, page) = page(&node, accept);
        assert!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
        assert!(page.contains("# TYPE handfast_p2p_accepted_total counter\n"));
        assert!(!page.contains("# EOF"));
    }
    let (kind, page) = page(&node, "Accept: application/openmetrics-text\r\n");
    assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
    assert!(page.contains("# TYPE handfast_p2p_accepted counter\n"));
    assert!(page.ends_with("# EOF\n"));
}

#[test]
fn every_sample_of_the_plain_page_belongs_to_a_metric_that_is_explained_once() {
    let page = plain(&busy());
    let mut explained = std::collections::BTreeSet::new();
    let (mut name, mut kind) = ("", "");
    for line in page.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (of, text) = help.split_once(' ').expect("a text");
            assert!(explained.insert(of) && text.len() > 5, "{line}");
            name = of;
        } else if let Some(is) = line.strip_prefix("# TYPE ") {
            let (of, is) = is.split_once(' ').expect("a type");
            assert_eq!(of, name, "help precedes the type");
            assert_eq!(is == "counter", of.ends_with("_total"), "{line}");
            kind = is;
        } else {
            let sample = line.split(['{', ' ']).next().unwrap_or_default();
            let suffix = sample.strip_prefix(name).expect("of the metric above");
            let fits = match kind {
                "histogram" => ["_bucket", "_sum", "_count"].contains(&suffix),
                _ => suffix.is_empty(),
            };
            assert!(fits, "{line}");
        }
    }
    assert!(explained.len() > 50, "{}", explained.len());
}

/// Prometheus's own checker, where it is installed (Debian: in `prometheus`).
fn promtool() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("PROMTOOL") {
        return Some(named.into());
    }
    let path = std::env::var_os("PATH")?;
    let files = std::env::split_paths(&path).map(|dir| dir.join("promtool"));
    files.into_iter().find(|file| file.is_file())
}

#[test]
fn promtool_finds_nothing_to_say_about_the_page() {
    let Some(promtool) = promtool() else {
        skipped("promtool is not installed; name it with PROMTOOL");
        return;
    };
    let page = plain(&busy());
    let mut check = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut input = check.stdin.take().expect("piped");
    input.write_all(page.as_bytes()).expect("it reads");
    drop(input);
    let output = check.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.is_empty(), "{said}");
}
