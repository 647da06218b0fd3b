//! The indexes beside those of `bitcoind`.

use handfast_tests::generator::{SMALL, empty_blocks};
use handfast_tests::process::{Node, Setup};
use handfast_tests::rpc::{Outcome, call};
use handfast_tests::wait::wait_for;
use handfast_wire::{Network, RawBlock};
use serde_json::{Value, json};

use crate::answers::assert_same;

/// Both nodes, with both indexes complete.
fn two_with(chains: &[Vec<RawBlock>]) -> (Node, Node) {
    let core = Setup::bitcoind(Network::Regtest)
        .arg("-txindex")
        .arg("-txospenderindex")
        .start();
    let ours = Setup::handfast(Network::Regtest)
        .arg("--txindex")
        .arg("--txospenderindex")
        .start();
    for chain in chains {
        for node in [&core, &ours] {
            node.submit(chain.iter().cloned());
            wait_for("the indexes are at the tip", || at_tip(node).then_some(()));
        }
    }
    (core, ours)
}

fn at_tip(node: &Node) -> bool {
    let told = node.rpc().get("getindexinfo", json!([]));
    let height = node.height();
    ["txindex", "txospenderindex"].iter().all(|name| {
        let index = &told[name];
        index["synced"] == true && index["best_block_height"] == height
    })
}

/// Every transaction of these blocks as `getblock` describes it.
fn transactions(node: &Node, blocks: &[RawBlock]) -> Vec<Value> {
    let mut all = vec![];
    for block in blocks {
        let hash = block.hash.to_string();
        let told = node.rpc().get("getblock", json!([hash, 2]));
        all.extend(told["tx"].as_array().expect("a list").iter().cloned());
    }
    all
}

/// Calls of one method on both nodes, many in one request, compared by their text.
#[track_caller]
fn assert_all_same(core: &Node, ours: &Node, method: &str, params: &[Value]) {
    for some in params.chunks(200) {
        let calls: Vec<Value> = some.iter().map(|one| call(method, one.clone())).collect();
        let calls = Value::Array(calls);
        let [theirs, own] = [core, ours].map(|node| {
            let mut connection = node.rpc().keep_alive().expect("it listens");
            connection.send(&calls).expect("it reads");
            match connection.answer(|| {}) {
                Outcome::Answered { answer, .. } => answer,
                other => panic!("{method}: {other:?}"),
            }
        });
        for (at, asked) in some.iter().enumerate() {
            let (own, theirs) = (&own[at], &theirs[at]);
            assert!(!theirs["result"].is_null() || !theirs["error"].is_null());
            assert_eq!(own.to_string(), theirs.to_string(), "{method} {asked}");
        }
    }
}

/// Every call of `getrawtransaction` for these transactions.
fn lookups(transactions: &[Value]) -> Vec<Value> {
    let of = |one: &Value| [0, 1, 2].map(|verbosity| json!([one["txid"], verbosity]));
    transactions.iter().flat_map(of).collect()
}

#[test]
fn every_transaction_is_found_and_described_as_bitcoind_does_with_its_index() {
    let blocks = SMALL.blocks().expect("the cache can be written");
    let (core, ours) = two_with(std::slice::from_ref(&blocks));
    let all = transactions(&core, &blocks);
    assert!(all.len() > 1_000, "{}", all.len());
    assert_all_same(&core, &ours, "getrawtransaction", &lookups(&all));
    let hash = blocks[5].hash.to_string();
    let coinbase = &all[5]["txid"];
    let genesis = Network::Regtest.genesis().merkle_root.to_string();
    for params in [
        json!([genesis, 1]),
        json!([hash, 1]),
        json!([coinbase, 2, hash]),
        json!([coinbase, 1, blocks[6].hash.to_string()]),
    ] {
        assert_same(&core, &ours, "getrawtransaction", params);
    }
    for params in [
        json!([]),
        json!(["txindex"]),
        json!(["txospenderindex"]),
        json!(["nonsense"]),
    ] {
        assert_same(&core, &ours, "getindexinfo", params);
    }
}

#[test]
fn transactions_of_a_branch_that_was_left_are_found_as_bitcoind_finds_them() {
    let trunk = empty_blocks(Network::Regtest.genesis(), 0, "trunk", 20);
    let branch = empty_blocks(trunk[14].header, 15, "branch", 7);
    let back = empty_blocks(trunk[19].header, 20, "back", 5);
    let chains = [trunk, branch, back];
    let (core, ours) = two_with(&chains);
    for chain in &chains {
        let all = lookups(&transactions(&core, chain));
        assert_all_same(&core, &ours, "getrawtransaction", &all);
    }
}

#[test]
fn the_spender_of_every_output_is_told_as_bitcoind_tells_it() {
    let blocks = SMALL.blocks().expect("the cache can be written");
    let (core, ours) = two_with(std::slice::from_ref(&blocks));
    let (mut spent, mut calls) = (0, vec![]);
    for transaction in transactions(&core, &blocks) {
        let inputs = transaction["vin"].as_array().expect("a list");
        let of = |input: &Value| json!({ "txid": input["txid"], "vout": input["vout"] });
        let mut outputs: Vec<Value> = inputs
            .iter()
            .filter(|input| input.get("txid").is_some())
            .map(of)
            .collect();
        spent += outputs.len();
        outputs.push(json!({ "txid": transaction["txid"], "vout": 0 }));
        calls.push(json!([outputs]));
    }
    assert_all_same(&core, &ours, "gettxspendingprevout", &calls);
    assert!(spent > 1_000, "{spent}");
    let one = json!([{ "txid": blocks[3].hash.to_string(), "vout": 1 }]);
    for params in [
        json!([one, { "return_spending_tx": true }]),
        json!([one, { "mempool_only": true }]),
        json!([[]]),
        json!([[{ "txid": "00", "vout": 1 }]]),
        json!([[{ "txid": blocks[3].hash.to_string() }]]),
        json!([[{ "txid": blocks[3].hash.to_string(), "vout": -1 }]]),
        json!([[{ "txid": blocks[3].hash.to_string(), "vout": 1, "more": 1 }]]),
        json!([one, { "nonsense": true }]),
        json!([one, { "mempool_only": 1 }]),
        json!([[7]]),
    ] {
        assert_same(&core, &ours, "gettxspendingprevout", params);
    }
}

#[test]
fn without_indexes_both_say_what_is_missing() {
    let core = Setup::bitcoind(Network::Regtest).start();
    let ours = Setup::handfast(Network::Regtest).start();
    let blocks = empty_blocks(Network::Regtest.genesis(), 0, "no index", 2);
    for node in [&core, &ours] {
        node.submit(blocks.iter().cloned());
    }
    let coinbase = transactions(&core, &blocks[..1])[0]["txid"].clone();
    assert_same(&core, &ours, "getrawtransaction", json!([coinbase]));
    let one = json!([{ "txid": coinbase, "vout": 0 }]);
    for params in [json!([one]), json!([one, { "mempool_only": false }])] {
        assert_same(&core, &ours, "gettxspendingprevout", params);
    }
}
