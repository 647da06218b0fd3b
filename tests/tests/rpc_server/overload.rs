//! More callers than there is room for.

use std::io::Write;
use std::time::Instant;

use bitcoin::hex::DisplayHex;
use handfast_tests::descriptors::{open_now, set_limit};
use handfast_tests::generator::slow_to_connect;
use handfast_tests::rpc::Outcome;
use handfast_tests::wait::wait_for;
use serde_json::json;

use crate::exchange::{connect, cookie, exchange, last_post, node, read_to_end, rpc_address};

/// Inputs of the block whose submission holds the only place: a second of hashing.
const INPUTS: usize = 20;
/// Callers who come while there is no descriptor for them.
const CALLERS: usize = 50;

#[test]
fn whoever_comes_when_all_places_are_taken_is_told_to_come_again_and_served_then() {
    let node = node(&["--rpc-work-queue", "1"]);
    let mut blocks = slow_to_connect(INPUTS);
    let slow = blocks.pop().expect("the slow one");
    node.submit(blocks);
    let login = cookie(&node);
    let call = |body: &str| exchange(&node, last_post(&login, body).as_bytes());
    let count = r#"{"method":"getblockcount","id":1}"#;

    std::thread::scope(|scope| {
        let submission = scope.spawn(|| {
            let hex = slow.bytes.to_lower_hex_string();
            wait_for("the block is submitted", || {
                let answer = call(&json!({"method": "submitblock", "params": [hex]}).to_string());
                // The other caller may have the place just now.
                (answer.status != 503).then_some(answer)
            })
        });
        let refused = wait_for("somebody is turned away", || {
            let answer = call(count);
            (answer.status != 200).then_some(answer)
        });
        assert_eq!(refused.status, 503, "{}", refused.text());
        assert_eq!(refused.header("retry-after"), Some("1"));
        assert_eq!(refused.text(), "Work queue depth exceeded");
        let submitted = submission.join().expect("it was answered");
        assert_eq!(submitted.status, 200, "{}", submitted.text());
    });
    let served = wait_for("there is room", || {
        let answer = call(count);
        (answer.status == 200).then_some(answer)
    });
    assert!(
        served.text().contains("\"result\":102"),
        "{}",
        served.text()
    );
}

#[test]
fn callers_wait_while_no_descriptor_is_free_and_are_served_then() {
    let node = node(&[]);
    // Opened while that is possible.
    let mut kept = node.unix_rpc().keep_alive().expect("the node answers");
    let address = rpc_address(&node);
    let mut pauses = || match kept.call("getlistenerinfo", json!([])) {
        Outcome::Answered { answer, .. } => {
            let sockets = answer["result"]["sockets"].as_array().expect("a list");
            let of_rpc = sockets.iter().find(|it| it["address"] == address.as_str());
            of_rpc.expect("the RPC socket")["pauses"].as_u64()
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(pauses(), Some(0));
    let before = set_limit(&node, open_now(&node));

    let begun = Instant::now();
    let request = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let mut callers: Vec<_> = (0..CALLERS).map(|_| connect(&node)).collect();
    for caller in &mut callers {
        caller.write_all(request).expect("the queue holds it");
    }
    let paused = wait_for("accepting pauses", || pauses().filter(|count| *count > 0));
    // Both workers pause 100 ms at least: they do not spin.
    let most = 2 * (1 + begun.elapsed().as_millis() / 100);
    assert!(
        u128::from(paused) <= most,
        "{paused} pauses, at most {most}"
    );

    set_limit(&node, before);
    for mut caller in callers {
        assert_eq!(read_to_end(&mut caller).status, 200);
    }
    let told = node
        .output()
        .matches("cannot accept RPC connections")
        .count();
    assert!((1..=2).contains(&told), "once by each worker: {told}");
}
