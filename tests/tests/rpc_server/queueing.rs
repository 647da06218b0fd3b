//! Callers who leave while their call waits for its turn.

use std::io::Read;

use handfast_tests::descriptors::open_now;
use handfast_tests::process::Node;
use handfast_tests::wait::wait_for;
use serde_json::json;

use crate::exchange::{cookie, exchange, get, half_close, node, post, send};
use crate::large::{deaf, getblock, large_block};
use crate::leaving::in_progress;

/// As many long answers as there are at once.
const DEAF: usize = 16;
/// Callers who queue for one more.
const QUEUED: usize = 60;

/// Calls of a method that were carried out to their end.
fn carried_out(node: &Node, method: &str) -> usize {
    let name = format!("handfast_rpc_calls_total{{method=\"{method}\",result=\"ok\"}} ");
    let page = get(node, "/metrics").text();
    let line = page.lines().find_map(|line| line.strip_prefix(&name));
    line.map_or(0, |count| count.parse().expect("a number"))
}

#[test]
fn callers_who_hang_up_in_the_queue_for_a_large_answer_are_gone_and_it_is_not_made() {
    let node = node(&["--rpc-work-queue", "80"]);
    let hash = large_block(&node);
    let request = getblock(&node, &hash);
    let deaf = deaf(&node, &request, DEAF);
    let before = (open_now(&node), carried_out(&node, "getblock"));
    let queued: Vec<_> = (0..QUEUED).map(|_| send(&node, &request)).collect();
    wait_for("they queue", || {
        (in_progress(&node, "getblock") > 0).then_some(())
    });
    drop(queued);
    wait_for("they are gone", || {
        let free = open_now(&node) <= before.0 + 4;
        (free && in_progress(&node, "getblock") == 0).then_some(())
    });
    // Who is asked for its seat after five seconds makes room for one of them each.
    let made = carried_out(&node, "getblock") - before.1;
    println!("{made} of {QUEUED} answers were made");
    assert!(made <= DEAF, "{made} answers were made for nobody");
    drop(deaf);
    assert_eq!(exchange(&node, request.as_bytes()).status, 200);
}

#[test]
fn a_batch_whose_caller_has_hung_up_is_not_carried_out_to_its_end() {
    const CALLS: usize = 800;
    let node = node(&[]);
    let hash = large_block(&node);
    let quiet = open_now(&node);
    let call = json!({ "method": "getblockstats", "params": [hash], "id": 1 }).to_string();
    for padding in [0, 100_000] {
        let before = carried_out(&node, "getblockstats");
        // A long request is carried out on another thread.
        let batch = format!(
            "[{}]{}",
            [call.as_str(); CALLS].join(","),
            " ".repeat(padding)
        );
        let leaves = send(&node, &post(&cookie(&node), &batch));
        wait_for("it is carried out", || {
            (carried_out(&node, "getblockstats") > before).then_some(())
        });
        drop(leaves);
        wait_for("its descriptor is free", || {
            let free = open_now(&node) <= quiet + 4;
            (free && in_progress(&node, "getblockstats") == 0).then_some(())
        });
        let made = carried_out(&node, "getblockstats") - before;
        println!("{made} of {CALLS} calls were carried out");
        assert!(made < CALLS, "for nobody");
    }
}

#[test]
fn who_only_sends_no_more_gets_a_large_answer_when_nobody_else_wants_one() {
    let node = node(&[]);
    let hash = large_block(&node);
    let mut stream = send(&node, &getblock(&node, &hash));
    half_close(&stream);
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    assert!(answer.starts_with(b"HTTP/1.1 200"));
    assert!(answer.len() > 8_000_000, "{}", answer.len());
}
