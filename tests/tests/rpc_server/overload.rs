//! More callers than there is room for.

use bitcoin::hex::DisplayHex;
use handfast_tests::generator::slow_to_connect;
use handfast_tests::wait::wait_for;
use serde_json::json;

use crate::exchange::{cookie, exchange, last_post, node};

/// Inputs of the block whose submission holds the only place: a second of hashing.
const INPUTS: usize = 20;

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
