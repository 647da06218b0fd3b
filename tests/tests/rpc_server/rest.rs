//! Blocks and headers by plain `GET`.

use bitcoin::hex::DisplayHex;
use handfast_tests::generator::empty_blocks;
use handfast_wire::Network;
use serde_json::{Value, json};

use crate::exchange::{get, node};

#[test]
fn rest_gives_what_the_methods_give_in_three_formats() {
    let node = node(&["--rest"]);
    let blocks = empty_blocks(Network::Regtest.genesis(), 0, "rest", 7);
    node.submit(blocks.clone());
    let (second, hash) = (&blocks[1], blocks[1].hash.to_string());
    let body = |path: &str| {
        let answer = get(&node, path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.body
    };
    let parsed = |path: &str| serde_json::from_slice::<Value>(&body(path)).expect("JSON");
    let hex_line = |bytes: &[u8]| (bytes.to_lower_hex_string() + "\n").into_bytes();

    assert_eq!(body(&format!("/rest/block/{hash}.bin")), second.bytes);
    assert_eq!(
        body(&format!("/rest/block/{hash}.hex")),
        hex_line(&second.bytes)
    );
    let call = |method: &str, params: Value| node.rpc().get(method, params);
    assert_eq!(
        parsed(&format!("/rest/block/{hash}.json")),
        call("getblock", json!([hash, 3]))
    );
    assert_eq!(
        parsed(&format!("/rest/block/notxdetails/{hash}.json")),
        call("getblock", json!([hash, 1]))
    );
    assert_eq!(
        parsed("/rest/chaininfo.json"),
        call("getblockchaininfo", json!([]))
    );

    let headers: Vec<u8> = blocks[1..4]
        .iter()
        .flat_map(|block| block.bytes[..80].to_vec())
        .collect();
    for path in [
        format!("/rest/headers/{hash}.bin?count=3"),
        format!("/rest/headers/3/{hash}.bin"),
    ] {
        assert_eq!(body(&path), headers, "{path}");
    }
    let five = body(&format!("/rest/headers/{hash}.bin"));
    assert_eq!(five.len(), 5 * 80, "five unless somebody says how many");
    let rows = parsed(&format!("/rest/headers/{hash}.json?count=2000"));
    assert_eq!(
        rows.as_array().map(Vec::len),
        Some(6),
        "to the tip and no further"
    );
    assert_eq!(rows[0], call("getblockheader", json!([hash])));

    assert_eq!(
        body("/rest/blockhashbyheight/2.hex"),
        format!("{hash}\n").into_bytes()
    );
    assert_eq!(
        parsed("/rest/blockhashbyheight/2.json"),
        json!({ "blockhash": hash })
    );
}

#[test]
fn what_rest_has_not_got_is_told_with_the_status_of_core() {
    let node = node(&["--rest"]);
    let zeros = "0".repeat(64);
    for (path, status, text) in [
        ("/rest/block/xyz.json", 400, "Invalid hash: xyz"),
        (&format!("/rest/block/{zeros}.json"), 404, "not found"),
        (
            &format!("/rest/block/{zeros}"),
            404,
            "output format not found",
        ),
        (
            &format!("/rest/headers/{zeros}.json?count=0"),
            400,
            "1-2000",
        ),
        (
            &format!("/rest/headers/{zeros}.json?count=2001"),
            400,
            "1-2000",
        ),
        ("/rest/blockhashbyheight/-1.json", 400, "Invalid height: -1"),
        (
            "/rest/blockhashbyheight/1.json",
            404,
            "Block height out of range",
        ),
        ("/rest/chaininfo.bin", 404, "output format not found"),
        ("/rest/moon.json", 404, ""),
    ] {
        let answer = get(&node, path);
        assert_eq!(answer.status, status, "{path}");
        assert!(answer.text().contains(text), "{path}: {}", answer.text());
    }
}

#[test]
fn rest_is_off_unless_asked_for() {
    let node = node(&[]);
    assert_eq!(get(&node, "/rest/chaininfo.json").status, 404);
}
