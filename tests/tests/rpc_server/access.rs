//! Who is let in, and to what.

use std::time::{Duration, Instant};

use crate::exchange::{basic, cookie, exchange, last_post, node};

/// HMAC-SHA256 of "what do ya want for nothing?" under "Jefe": test case 2 of RFC 4231.
const ALICE: &str = "alice:Jefe$\
    5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
const PASSWORD: &str = "what do ya want for nothing?";

fn call(method: &str) -> String {
    format!(r#"{{"method":"{method}","id":1}}"#)
}

#[test]
fn a_user_of_rpcauth_comes_in_and_a_wrong_password_costs_a_quarter_of_a_second() {
    let node = node(&["--rpc-auth", ALICE, "--log", "trace"]);
    let status =
        |login: &str, body: &str| exchange(&node, last_post(login, body).as_bytes()).status;
    let alice = basic(&format!("alice:{PASSWORD}"));
    assert_eq!(status(&alice, &call("getblockcount")), 200);
    assert_eq!(status(&cookie(&node), &call("getblockcount")), 200);
    assert_eq!(status("", &call("getblockcount")), 401);
    for wrong in ["alice:open sesame", "mallory:open sesame"] {
        let began = Instant::now();
        assert_eq!(status(&basic(wrong), &call("getblockcount")), 401);
        assert!(began.elapsed() >= Duration::from_millis(250), "{wrong}");
    }
    let log = node.output();
    assert!(log.contains("wrong credentials"), "the attempt is logged");
    for secret in [PASSWORD, "open sesame", "5bdcc146", basic(PASSWORD).trim()] {
        assert!(!log.contains(secret), "the log tells {secret}");
    }
}

#[test]
fn a_user_is_held_to_the_methods_of_its_whitelist_in_batches_too() {
    let bob = ALICE.replace("alice", "bob");
    let node = node(&[
        "--rpc-auth",
        ALICE,
        "--rpc-auth",
        &bob,
        "--rpc-whitelist",
        "alice:getblockcount,uptime",
        // By which these tests see that the node has started.
        "--rpc-whitelist",
        "__cookie__:getblockchaininfo,getblockcount,getbestblockhash",
    ]);
    let alice = basic(&format!("alice:{PASSWORD}"));
    let status = |body: &str| exchange(&node, last_post(&alice, body).as_bytes()).status;
    assert_eq!(status(&call("getblockcount")), 200);
    assert_eq!(status(&call("stop")), 403);
    let (allowed, refused) = (call("uptime"), call("getpeerinfo"));
    assert_eq!(status(&format!("[{allowed},{allowed}]")), 200);
    assert_eq!(status(&format!("[{allowed},{refused}]")), 403);
    // A name given twice: the one that would be carried out counts.
    assert_eq!(status(r#"{"method":"stop","method":"uptime"}"#), 403);
    assert_eq!(status(r#"{"m\u0065thod":"stop"}"#), 403);
    assert_eq!(
        exchange(&node, last_post(&cookie(&node), &call("uptime")).as_bytes()).status,
        403
    );
    let bob = basic(&format!("bob:{PASSWORD}"));
    assert_eq!(
        exchange(&node, last_post(&bob, &call("uptime")).as_bytes()).status,
        403,
        "who has no list may call nothing once somebody has one"
    );
    assert_eq!(
        node.unix_rpc().get("getblockcount", serde_json::json!([])),
        0
    );
}
