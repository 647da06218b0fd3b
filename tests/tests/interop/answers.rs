//! The answers of RPC methods beside those of a real `bitcoind` on the same chain: equal to
//! the letter, errors included.

use bitcoin::Block;
use bitcoin::consensus::deserialize;
use bitcoin::consensus::encode::serialize_hex;
use handfast_tests::generator::{SMALL, empty_blocks};
use handfast_tests::process::{Node, Setup};
use handfast_tests::wait::wait_for;
use handfast_wire::Network;
use serde_json::{Value, json};

use crate::following::mine;

/// What a call led to, for comparison: its result, or code and text of the error.
pub(crate) fn outcome(node: &Node, method: &str, params: &Value) -> Result<Value, String> {
    let called = node.rpc().call(method, params.clone());
    called.map_err(|error| error.to_string())
}

#[track_caller]
pub(crate) fn assert_same(core: &Node, ours: &Node, method: &str, params: Value) {
    let theirs = outcome(core, method, &params);
    let own = outcome(ours, method, &params);
    assert_eq!(own, theirs, "{method} {params}");
    // `Value` compares objects by content; clients also see the order of members.
    if let (Ok(own), Ok(theirs)) = (own, theirs) {
        assert_eq!(own.to_string(), theirs.to_string(), "{method} {params}");
    }
}

/// Both programs, with the 120 blocks and the signed transactions of [`SMALL`] and then
/// blocks that `bitcoind` mines, which signal for nothing.
fn pair() -> (Node, Node) {
    let core = Setup::bitcoind(Network::Regtest).start();
    core.submit(SMALL.blocks().expect("the cache can be written"));
    let tip = mine(&core, 60);
    let ours = Setup::handfast(Network::Regtest)
        .connect(core.p2p())
        .start();
    ours.wait_for_tip(tip);
    (core, ours)
}

#[test]
fn chain_methods_answer_as_bitcoind_does() {
    let (core, ours) = pair();
    let height = core.height();
    let hash_at = |height: u64| core.rpc().get("getblockhash", json!([height]));
    assert_same(&core, &ours, "getdifficulty", json!([]));
    for height in [0, 1, 2, 100, 143, height / 2, height - 1, height] {
        let hash = hash_at(height);
        assert_same(&core, &ours, "getdeploymentinfo", json!([hash]));
        assert_same(&core, &ours, "getblockstats", json!([height]));
        assert_same(&core, &ours, "getblockstats", json!([hash]));
    }
    assert_same(&core, &ours, "getdeploymentinfo", json!([]));
    for params in [
        json!([]),
        json!([0]),
        json!([10]),
        json!([null, hash_at(50)]),
        json!([49, hash_at(50)]),
        json!([50, hash_at(50)]),
        json!([-1]),
        json!([1, hash_at(0)]),
        json!([null, hash_at(0)]),
        json!([5, "00".repeat(32)]),
        json!(["five"]),
    ] {
        assert_same(&core, &ours, "getchaintxstats", params);
    }
    for params in [
        json!([7, ["txs", "avgfee", "txs"]]),
        json!([7, []]),
        json!([7, ["nonsense"]]),
        json!([7, [1]]),
        json!([7, "txs"]),
        json!([-1]),
        json!([height + 1]),
        json!(["12"]),
        json!([true]),
        json!([1e10]),
        json!(["00".repeat(32)]),
    ] {
        assert_same(&core, &ours, "getblockstats", params);
    }
}

#[test]
fn waiting_for_blocks_ends_as_bitcoinds_does() {
    let (core, ours) = pair();
    let tip = json!(core.best_hash().expect("it answers").to_string());
    let height = core.height();
    for (method, params) in [
        ("waitforblock", json!([tip])),
        ("waitforblock", json!(["00".repeat(32), 20])),
        ("waitforblock", json!(["no hash"])),
        ("waitforblock", json!([tip, -1])),
        ("waitforblockheight", json!([height])),
        ("waitforblockheight", json!([-5])),
        ("waitforblockheight", json!([height + 1, 20])),
        ("waitforblockheight", json!([height, -1])),
        ("waitfornewblock", json!([20])),
        ("waitfornewblock", json!([0, "00".repeat(32)])),
        ("waitfornewblock", json!([-1])),
    ] {
        assert_same(&core, &ours, method, params);
    }

    let waiting = ours.rpc().clone();
    let waiter = std::thread::spawn(move || waiting.get("waitforblockheight", json!([height + 2])));
    let hash = mine(&core, 2);
    ours.wait_for_tip(hash);
    let told = waiter.join().expect("it is answered");
    assert_eq!(
        told,
        json!({ "hash": hash.to_string(), "height": height + 2 })
    );
}

#[test]
fn a_block_is_fetched_from_a_named_bitcoind() {
    let network = Network::Regtest;
    let core = Setup::bitcoind(network.clone()).start();
    let trunk = empty_blocks(network.genesis(), 0, "trunk", 11);
    let branch = empty_blocks(trunk[8].header, 9, "branch", 1);
    // Bitcoin Core serves a block beside its chain only if it once was part of it.
    core.submit(trunk[..9].iter().cloned());
    core.submit(branch.clone());
    core.submit(trunk[9..].iter().cloned());
    let ours = Setup::handfast(network).connect(core.p2p()).start();
    ours.wait_for_tip(trunk[10].hash);
    let hash = branch[0].hash.to_string();
    let id = ours.peers()[0]["id"].clone();
    for (params, error) in [
        (json!([hash, id]), "error -1: Block header missing"),
        (
            json!([trunk[3].hash.to_string(), id]),
            "error -1: Block already downloaded",
        ),
    ] {
        let refusal = outcome(&ours, "getblockfrompeer", &params);
        assert_eq!(refusal, Err(error.to_owned()));
    }
    let header = serialize_hex(&branch[0].header);
    ours.rpc().get("submitheader", json!([header]));
    let nobody = outcome(&ours, "getblockfrompeer", &json!([hash, 99]));
    assert_eq!(nobody, Err("error -1: Peer does not exist".to_owned()));

    let asked = ours.rpc().get("getblockfrompeer", json!([hash, id]));
    assert_eq!(asked, json!({}));
    wait_for("the block is here", || {
        ours.rpc().call("getblock", json!([hash, 0])).ok()
    });
}

#[test]
fn transactions_and_scripts_are_decoded_as_bitcoind_decodes_them() {
    let (core, ours) = pair();
    let mut transactions = Vec::new();
    for raw in SMALL.blocks().expect("the cache can be written") {
        let block: Block = deserialize(&raw.bytes).expect("it was valid");
        transactions.extend(block.txdata.into_iter().take(2));
    }
    assert!(transactions.len() > 100, "{}", transactions.len());
    for transaction in transactions.iter().step_by(7) {
        let hex = serialize_hex(transaction);
        assert_same(&core, &ours, "decoderawtransaction", json!([hex]));
        assert_same(&core, &ours, "decoderawtransaction", json!([hex, true]));
        assert_same(&core, &ours, "decoderawtransaction", json!([hex, false]));
        for output in &transaction.output {
            let script = output.script_pubkey.to_hex_string();
            assert_same(&core, &ours, "decodescript", json!([script]));
        }
    }
    let funded_later = "0200000000017b00000000000000015100000000";
    let negative = "020000000001ffffffffffffffff015100000000";
    for hex in [
        "",
        "0",
        "zz",
        "0200",
        "02000000000000000000",
        funded_later,
        negative,
    ] {
        for params in [json!([hex]), json!([hex, true]), json!([hex, false])] {
            assert_same(&core, &ours, "decoderawtransaction", params);
        }
    }
    let key = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";
    let long = "0479be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798\
                483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8";
    let zeros = "00".repeat(20);
    for script in [
        String::new(),
        "no hex".to_owned(),
        "abc".to_owned(),
        "05aa".to_owned(),
        "6a".to_owned(),
        "6a0548656c6c6f".to_owned(),
        "50".to_owned(),
        "ba".to_owned(),
        "51".to_owned(),
        "51024e73".to_owned(),
        format!("21{key}ac"),
        format!("41{long}ac"),
        format!("76a914{zeros}88ac"),
        format!("a914{zeros}87"),
        format!("0014{zeros}"),
        format!("0020{}", "07".repeat(32)),
        format!("5120{}", &key[2..]),
        format!("5120{}", "ff".repeat(32)),
        format!("5210{zeros}"),
        format!("5121{key}51ae"),
        format!("5221{key}21{key}21{key}53ae"),
        format!("5121{key}41{long}52ae"),
        "4d0902".to_owned() + &"00".repeat(521),
        "75".repeat(9_999),
        "75".repeat(10_001),
    ] {
        assert_same(&core, &ours, "decodescript", json!([script]));
    }
}

#[test]
fn addresses_are_judged_as_bitcoind_judges_them() {
    let core = Setup::bitcoind(Network::Regtest).start();
    let ours = Setup::handfast(Network::Regtest).start();
    let good = "bcrt1qft5p2uhsdcdc3l2ua4ap5qqfg4pjaqlp250x7us7a8qqhrxrxfsqseac85";
    let mut texts = vec![
        good.to_owned(),
        good.to_uppercase(),
        format!(" {good}"),
        format!("{good}q"),
        good.replacen('f', "F", 1),
    ];
    // One, two and three characters that are wrong, all over the address.
    for at in 4..good.len() {
        let mut wrong = good.as_bytes().to_vec();
        for (number, step) in [1, 9, 23].into_iter().enumerate() {
            let at = 4 + (at - 4 + number * step) % (good.len() - 4);
            wrong[at] = if wrong[at] == b'q' { b'z' } else { b'q' };
            texts.push(String::from_utf8(wrong.clone()).expect("ASCII"));
        }
    }
    texts.extend(
        [
            "",
            " ",
            "1",
            "mfWxJ45yp2SFn7UciZyNpvDKrzbhyfKrY8",
            "\tmfWxJ45yp2SFn7UciZyNpvDKrzbhyfKrY8 ",
            "mfWxJ45yp2SFn7UciZyNpvDKrzbhyfKrY9",
            "2MsFDzHRUAMpjHxKyoEHU3aMCMsVtMqs1PV",
            "1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2",
            "3P14159f73E4gFr7JterCCQh9QjiTjiZrG",
            "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4",
            "tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx",
            "bcrt",
            "bcrt1",
            "bcrt1q",
            "bcrt1qqqqqq",
            "bcrt1pfeesnyr2tx",
            "bcrt1sw50qgdz25j",
            "bcrtx1qqqqqqqqqq",
            "bcrt1b",
            "bcrt1qé",
            "cMahea7zqjxrtgAbB7LSGbcQUr1uX1ojuat9jZodMN87JcbXMTcA",
        ]
        .map(str::to_owned),
    );
    texts.push("bcrt1".to_owned() + &"q".repeat(100));
    texts.push("2".repeat(300));
    for text in texts {
        assert_same(&core, &ours, "validateaddress", json!([text]));
    }
    assert_same(&core, &ours, "validateaddress", json!([7]));
}

#[test]
fn what_is_empty_is_empty_in_bitcoinds_form() {
    let core = Setup::bitcoind(Network::Regtest).start();
    let ours = Setup::handfast(Network::Regtest).start();
    for (method, params) in [
        ("getindexinfo", json!([])),
        ("getindexinfo", json!(["txindex"])),
        ("getrawmempool", json!([])),
        ("getrawmempool", json!([true])),
        ("getrawmempool", json!([false, true])),
        ("getrawmempool", json!([true, true])),
        ("getrawmempool", json!(["yes"])),
    ] {
        assert_same(&core, &ours, method, params);
    }
    let mut own = ours.rpc().get("getmempoolinfo", json!([]));
    let mut theirs = core.rpc().get("getmempoolinfo", json!([]));
    // Of versions up to 31, for their clients.
    assert_eq!(own["fullrbf"], true);
    if let Some(own) = own.as_object_mut() {
        own.shift_remove("fullrbf");
    }
    // Core's memory is never quite zero, and it would take transactions.
    for member in ["usage", "maxmempool"] {
        own[member].take();
        theirs[member].take();
    }
    assert_eq!(own.to_string(), theirs.to_string());
}

#[test]
fn network_methods_answer_as_bitcoind_does() {
    let network = Network::Regtest;
    let far = Setup::bitcoind(network.clone()).start();
    let core = Setup::bitcoind(network.clone()).connect(far.p2p()).start();
    let ours = Setup::handfast(network).connect(far.p2p()).start();
    wait_for("both are connected", || {
        (far.peers().len() == 2).then_some(())
    });
    for node in [&core, &ours] {
        node.rpc().get("addnode", json!(["127.0.0.1:9", "add"]));
    }
    let added = json!([{ "addednode": "127.0.0.1:9", "connected": false, "addresses": [] }]);
    for node in [&core, &ours] {
        let mut named = node.rpc().get("getaddednodeinfo", json!(["127.0.0.1:9"]));
        if let Some(row) = named[0].as_object_mut() {
            // Ours tells why it is not connected.
            row.shift_remove("handfast");
        }
        assert_eq!(named, added);
    }
    for (method, params) in [
        ("getaddednodeinfo", json!(["192.0.2.1"])),
        ("getaddednodeinfo", json!([7])),
        ("ping", json!([])),
        ("ping", json!([1, 2])),
        ("sendmsgtopeer", json!([0, "addr", "zz"])),
        ("sendmsgtopeer", json!([0, "a command that is long", ""])),
        ("sendmsgtopeer", json!([1_000, "addr", ""])),
        ("getmemoryinfo", json!(["nonsense"])),
        ("logging", json!([["nonsense"]])),
        ("logging", json!([[1]])),
    ] {
        // What a wrong number of arguments gets is the help text, which is each one's own.
        if method == "ping" && params != json!([]) {
            let code = |node: &Node| outcome(node, method, &params).expect_err("too many");
            assert!(
                code(&ours).starts_with("error -1: ping")
                    && code(&core).starts_with("error -1: ping")
            );
        } else {
            assert_same(&core, &ours, method, params);
        }
    }
    let members = |node: &Node| -> Vec<String> {
        let totals = node.rpc().get("getnettotals", json!([]));
        assert!(totals["totalbytesrecv"].as_u64() > Some(100));
        assert!(totals["timemillis"].as_u64() > Some(1_700_000_000_000));
        let names = totals.as_object().expect("an object").keys();
        names
            .cloned()
            .chain([totals["uploadtarget"].to_string()])
            .collect()
    };
    assert_eq!(members(&ours), members(&core));

    assert_same(&core, &ours, "setnetworkactive", json!([false]));
    wait_for("both have left", || far.peers().is_empty().then_some(()));
    for node in [&core, &ours] {
        let info = node.rpc().get("getnetworkinfo", json!([]));
        assert_eq!(info["networkactive"], false);
    }
    assert_same(&core, &ours, "setnetworkactive", json!([true]));
    assert_same(&core, &ours, "setnetworkactive", json!(["yes"]));
    wait_for("both are back", || (far.peers().len() == 2).then_some(()));
}

#[test]
fn a_connection_is_opened_and_a_message_sent_on_demand() {
    let network = Network::Regtest;
    let far = Setup::bitcoind(network.clone()).start();
    let ours = Setup::handfast(network).start();
    let address = far.p2p().to_string();
    for (params, error) in [
        (
            json!([address, "feeler", false]),
            "error -8: Error: Handfast opens no",
        ),
        (
            json!([address, "outbound-full-relay", true]),
            "error -8: Error: Adding v2transport",
        ),
        (
            json!(["nowhere", "outbound-full-relay", false]),
            "error -8: Error: not an IP address",
        ),
        (
            json!([address, "nonsense", false]),
            "error -8: addconnection",
        ),
    ] {
        let refusal = outcome(&ours, "addconnection", &params).expect_err("it must fail");
        assert!(refusal.starts_with(error), "{refusal}");
    }
    let opened = ours.rpc().get(
        "addconnection",
        json!([address, "outbound-full-relay", false]),
    );
    assert_eq!(
        opened,
        json!({ "address": address, "connection_type": "outbound-full-relay" })
    );
    let peer = wait_for("it is connected", || ours.peers().into_iter().next());
    assert_eq!(peer["connection_type"], "outbound-full-relay");

    // A ping that no session sent: bitcoind counts it, and answers it.
    let nonce = "0700000000000000";
    let sent = ours
        .rpc()
        .get("sendmsgtopeer", json!([peer["id"], "ping", nonce]));
    assert_eq!(sent, json!({}));
    wait_for("bitcoind has two pings, the session's and this one", || {
        let row = far.peers().into_iter().next()?;
        let bytes = row["bytesrecv_per_msg"]["ping"].as_u64()?;
        (bytes >= 2 * 32).then_some(())
    });
    let refusal = outcome(&ours, "mockscheduler", &json!([1])).expect_err("it must fail");
    assert!(
        refusal.starts_with("error -32601:") && refusal.contains("scheduler"),
        "{refusal}"
    );
}

/// Where nodes of one's own can be: the book of a regtest node takes them, and Core's does not.
const LOCAL: [&str; 8] = [
    "10.0.0.1",
    "127.0.0.1",
    "169.254.0.1",
    "172.31.255.255",
    "192.168.0.1",
    "::1",
    "fc00::1",
    "fe80::1",
];

#[test]
fn what_bitcoind_does_not_route_is_in_our_address_book_neither() {
    let core = Setup::bitcoind(Network::Regtest).start();
    let ours = Setup::handfast(Network::Regtest).start();
    let refused = json!({ "error": "failed-adding-to-new", "success": false });
    let of = |node: &Node, ip: &str| node.rpc().get("addpeeraddress", json!([ip, 8333]));
    for ip in [
        "0.0.0.0",
        "0.255.255.255",
        "100.64.0.0",
        "100.127.255.255",
        "192.0.2.0",
        "192.0.2.255",
        "198.18.0.0",
        "198.19.255.255",
        "198.51.100.0",
        "198.51.100.255",
        "203.0.113.0",
        "203.0.113.255",
        "255.255.255.255",
        "::",
        "2001:10::1",
        "2001:2f:ffff::1",
        "2001:db8::1",
        "2001:db8:ffff::1",
    ] {
        assert_eq!(
            (of(&core, ip), of(&ours, ip)),
            (refused.clone(), refused.clone()),
            "{ip}"
        );
    }
    for ip in LOCAL {
        let taken = json!({ "success": true });
        assert_eq!(
            (of(&core, ip), of(&ours, ip)),
            (refused.clone(), taken),
            "{ip}"
        );
    }
    // Beside them; each of another group, that bitcoind has a place for it.
    for ip in [
        "9.255.255.255",
        "11.0.0.1",
        "100.63.255.255",
        "100.128.0.1",
        "126.255.255.255",
        "169.255.0.1",
        "172.32.0.1",
        "192.0.3.1",
        "192.88.99.1",
        "192.169.0.1",
        "198.20.0.1",
        "198.51.101.1",
        "203.0.114.1",
        "2001:30::1",
        "2001:db9::1",
        "2600::1",
    ] {
        assert_same(&core, &ours, "addpeeraddress", json!([ip, 8333]));
    }
}

#[test]
fn the_address_book_is_filled_and_shown_as_bitcoinds() {
    let core = Setup::bitcoind(Network::Regtest).start();
    let ours = Setup::handfast(Network::Regtest).start();
    for (method, params) in [
        ("getaddrmaninfo", json!([])),
        ("getnodeaddresses", json!([])),
        ("getnodeaddresses", json!([-1])),
        ("getnodeaddresses", json!([0, "nonsense"])),
        ("addpeeraddress", json!(["8.8.8.8", 8333])),
        ("addpeeraddress", json!(["8.8.8.8", 8333])),
        ("addpeeraddress", json!(["2600::1", 8333, true])),
        ("addpeeraddress", json!(["no address", 8333])),
        ("addpeeraddress", json!(["8.8.8.8", 70_000])),
        ("getaddrmaninfo", json!([])),
        ("getnodeaddresses", json!([0, "i2p"])),
    ] {
        assert_same(&core, &ours, method, params);
    }
    let known = |node: &Node| {
        let rows = node.rpc().get("getnodeaddresses", json!([0]));
        let mut rows = rows.as_array().cloned().expect("a list");
        for row in &mut rows {
            let seen = row["time"].take().as_u64().expect("Unix seconds");
            assert!(seen > 1_700_000_000);
        }
        rows.sort_by_key(Value::to_string);
        rows
    };
    assert_eq!(known(&ours), known(&core));
}
