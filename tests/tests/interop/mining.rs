//! Blocks that our miner made, before the rules of Bitcoin Core itself; and the methods of
//! mining beside those of `bitcoind`.

use bitcoin::consensus::deserialize;
use bitcoin::hex::FromHex;
use bitcoin::{Block, BlockHash};
use handfast_tests::process::{Node, Setup, op_true_signet};
use handfast_tests::wait::wait_for;
use handfast_wire::Network;
use serde_json::{Value, json};

use crate::answers::{assert_same, outcome};

/// Pays to `OP_TRUE` (P2WSH).
const ADDRESS: &str = "bcrt1qft5p2uhsdcdc3l2ua4ap5qqfg4pjaqlp250x7us7a8qqhrxrxfsqseac85";
const KEY: &str = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";

fn generate(node: &Node, method: &str, params: Value) -> Vec<BlockHash> {
    let hashes = node.rpc().get(method, params);
    let hashes = hashes.as_array().expect("a list of hashes");
    let hash = |value: &Value| value.as_str().expect("a hash").parse().expect("a hash");
    hashes.iter().map(hash).collect()
}

fn block(node: &Node, hash: BlockHash) -> Block {
    let hex = node.rpc().get("getblock", json!([hash.to_string(), 0]));
    let bytes = Vec::<u8>::from_hex(hex.as_str().expect("hex")).expect("hex");
    deserialize(&bytes).expect("a block")
}

#[test]
fn bitcoind_accepts_the_blocks_that_our_miner_makes_on_regtest() {
    let ours = Setup::handfast(Network::Regtest)
        .arg("--mine-interval")
        .arg("0")
        .start();
    let core = Setup::bitcoind(Network::Regtest)
        .connect(ours.p2p())
        .start();
    // On demand, past two periods of signals and a halving; then with threads.
    let made = generate(&ours, "generatetoaddress", json!([310, ADDRESS]));
    assert_eq!(made.len(), 310);
    let tip = generate(&ours, "generatetodescriptor", json!([3, "raw(51)"]))[2];
    core.wait_for_tip(tip);
    assert_eq!(block(&core, tip), block(&ours, tip));
    ours.rpc().get("startmining", json!([2, ADDRESS]));
    wait_for("a hundred blocks were mined", || {
        (ours.height() >= 413).then_some(())
    });
    let stopped = ours.rpc().get("stopmining", json!([]));
    assert_eq!(
        (&stopped["mining"], &stopped["threads"]),
        (&json!(false), &json!(0))
    );
    wait_for("both have the same tip", || {
        let (a, b) = (core.best_hash()?, ours.best_hash()?);
        (a == b).then_some(())
    });
    let info = ours.rpc().get("getmininginfo", json!([]));
    assert_eq!(info["handfast"]["generated"], 313);
    assert_eq!(
        info["handfast"]["found"].as_u64(),
        Some(ours.height() - 313)
    );
}

#[test]
fn bitcoind_accepts_the_blocks_that_our_miner_makes_on_a_signet_of_its_own() {
    let ours = Setup::handfast(op_true_signet()).start();
    let core = Setup::bitcoind(op_true_signet())
        .connect(ours.p2p())
        .start();
    ours.rpc().get("startmining", json!([]));
    wait_for("three blocks were mined", || {
        (ours.height() >= 3).then_some(())
    });
    ours.rpc().get("stopmining", json!([]));
    wait_for("both have the same tip", || {
        let (a, b) = (core.best_hash()?, ours.best_hash()?);
        (a == b && ours.height() >= 3).then_some(())
    });
}

#[test]
fn a_block_of_chosen_transactions_is_made_as_bitcoind_makes_it() {
    let core = Setup::bitcoind(Network::Regtest).start();
    let ours = Setup::handfast(Network::Regtest)
        .connect(core.p2p())
        .start();
    let made = generate(&core, "generatetodescriptor", json!([101, "raw(51)"]));
    ours.wait_for_tip(made[100]);
    // Spends the first coinbase, which anybody can.
    let coinbase = block(&core, made[0]).txdata[0].compute_txid();
    let inputs = json!([{ "txid": coinbase.to_string(), "vout": 0 }]);
    let outputs = json!([{ ADDRESS: 49.9 }]);
    let raw = core
        .rpc()
        .get("createrawtransaction", json!([inputs, outputs]));
    let refused = json!([{ "txid": "07".repeat(32), "vout": 0 }]);
    let orphan = core
        .rpc()
        .get("createrawtransaction", json!([refused, outputs]));

    let shown = ours
        .rpc()
        .get("generateblock", json!([ADDRESS, [raw], false]));
    let bytes = Vec::<u8>::from_hex(shown["hex"].as_str().expect("hex")).expect("hex");
    let unsubmitted: Block = deserialize(&bytes).expect("a block");
    assert_eq!(
        unsubmitted.block_hash().to_string(),
        shown["hash"].as_str().expect("a hash")
    );
    assert_eq!(unsubmitted.txdata.len(), 2);
    assert_eq!(ours.height(), 101, "not submitted");

    let made = ours.rpc().get("generateblock", json!(["raw(51)", [raw]]));
    let hash: BlockHash = made["hash"]
        .as_str()
        .expect("a hash")
        .parse()
        .expect("a hash");
    assert_eq!(made.as_object().expect("an object").len(), 1);
    core.wait_for_tip(hash);
    assert_eq!(block(&core, hash).txdata.len(), 2);

    for node in [&core, &ours] {
        let refusal = outcome(node, "generateblock", &json!([ADDRESS, [orphan]]));
        let refusal = refusal.expect_err("it spends what does not exist");
        let words = "error -25: TestBlockValidity failed: bad-txns-inputs-missingorspent";
        assert!(refusal.starts_with(words), "{refusal}");
    }
    let txid = "07".repeat(32);
    for params in [
        json!(["nowhere", []]),
        json!([ADDRESS, [txid]]),
        json!([ADDRESS, ["zz"]]),
        json!([ADDRESS, [""]]),
        json!([format!("pk({KEY}"), []]),
    ] {
        assert_same(&core, &ours, "generateblock", params);
    }
    let refusal = outcome(&ours, "generateblock", &json!([ADDRESS, [7]]));
    assert!(
        refusal
            .expect_err("no text")
            .contains("JSON value of type number is not of expected type string")
    );
}

#[test]
fn blocks_on_demand_are_refused_in_bitcoinds_words() {
    let core = Setup::bitcoind(Network::Regtest).start();
    let ours = Setup::handfast(Network::Regtest).start();
    for (method, params) in [
        ("generatetoaddress", json!([0, ADDRESS])),
        ("generatetoaddress", json!([-1, ADDRESS])),
        ("generatetoaddress", json!([5, ADDRESS, 0])),
        ("generatetoaddress", json!([1, "nowhere"])),
        (
            "generatetoaddress",
            json!([1, "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"]),
        ),
        ("generatetoaddress", json!([1e10, ADDRESS])),
        ("generatetoaddress", json!(["1", ADDRESS])),
        ("generatetoaddress", json!([1.5, ADDRESS])),
        ("generatetodescriptor", json!([0, "raw(51)"])),
        ("generatetodescriptor", json!([1, "nonsense"])),
        ("generatetodescriptor", json!([1, "raw(zz)"])),
        ("generatetodescriptor", json!([1, "addr(nowhere)"])),
        ("generatetodescriptor", json!([1, "raw(51)#8lvh9jx"])),
        ("generatetodescriptor", json!([1, "raw(51)#8lvh9jxj"])),
        ("generatetodescriptor", json!([1, "raw(51)##"])),
        ("generatetodescriptor", json!([5, "raw(51)", 0])),
        ("generatetodescriptor", json!([5, "raw(51)", -1])),
    ] {
        assert_same(&core, &ours, method, params);
    }
    // What each pays to, by the descriptors that both know.
    for descriptor in [
        "raw(51)".to_owned(),
        "raw(51)#8lvh9jxk".to_owned(),
        format!("addr({ADDRESS})"),
        format!("pk({KEY})"),
        format!("pkh({KEY})"),
        format!("wpkh({KEY})"),
        format!("sh(wpkh({KEY}))"),
        format!("combo({KEY})"),
        format!("tr({})", &KEY[2..]),
        format!("rawtr({})", &KEY[2..]),
        format!("multi(1,{KEY})"),
        format!("wsh(multi(1,{KEY}))"),
    ] {
        let pays = |node: &Node| {
            let hash = generate(node, "generatetodescriptor", json!([1, descriptor]))[0];
            block(node, hash).txdata[0].output[0].clone()
        };
        assert_eq!(pays(&ours), pays(&core), "{descriptor}");
    }
    let message = outcome(&ours, "generate", &json!([])).expect_err("it is not offered");
    assert!(message.starts_with("error -32601"), "{message}");
}

#[test]
fn what_is_known_of_mining_is_told_as_bitcoind_tells_it() {
    let core = Setup::bitcoind(Network::Regtest).start();
    let ours = Setup::handfast(Network::Regtest)
        .connect(core.p2p())
        .start();
    let told = |node: &Node| {
        let mut info = node.rpc().get("getmininginfo", json!([]));
        let fields = info.as_object_mut().expect("an object");
        assert!(fields["warnings"].is_array());
        for own in [
            "handfast",
            "blockmintxfee",
            "currentblockweight",
            "warnings",
            "currentblocktx",
        ] {
            fields.shift_remove(own);
        }
        info.to_string()
    };
    assert_eq!(told(&ours), told(&core));
    let made = generate(&core, "generatetoaddress", json!([300, ADDRESS]));
    ours.wait_for_tip(made[299]);
    assert_eq!(told(&ours), told(&core));
    for params in [
        json!([]),
        json!([1]),
        json!([10]),
        json!([-1]),
        json!([-1, 150]),
        json!([120, 200]),
        json!([1_000, 299]),
        json!([120, 0]),
        json!([0]),
        json!([-2]),
        json!([10, 301]),
        json!([10, -2]),
        json!(["10"]),
    ] {
        assert_same(&core, &ours, "getnetworkhashps", params);
    }
    assert_same(&core, &ours, "getprioritisedtransactions", json!([]));
}

#[test]
fn templates_are_those_of_bitcoind() {
    for network in [Network::Regtest, op_true_signet()] {
        let core = Setup::bitcoind(network.clone()).start();
        let ours = Setup::handfast(network.clone()).connect(core.p2p()).start();
        let signet = network != Network::Regtest;
        let rules = if signet {
            json!(["segwit", "signet"])
        } else {
            json!(["segwit"])
        };
        let request = json!([{ "rules": rules }]);
        let told = |node: &Node| {
            let mut told = node.rpc().get("getblocktemplate", request.clone());
            let fields = told.as_object_mut().expect("an object");
            let capabilities = fields["capabilities"].take();
            // What follows the hash is each one's own.
            let id = fields["longpollid"].take();
            let tip = fields["previousblockhash"].as_str().expect("a hash");
            assert!(id.as_str().expect("an id").starts_with(tip));
            // A second may have passed between the two.
            let time = fields["curtime"].take().as_u64().expect("Unix seconds");
            (told.to_string(), capabilities, time)
        };
        // Regtest signals from the second period on, and its subsidy halves.
        for count in [0, 1, 142, 1, 10] {
            if signet && count > 0 {
                break;
            }
            if count > 0 {
                let made = generate(&core, "generatetoaddress", json!([count, ADDRESS]));
                ours.wait_for_tip(made[made.len() - 1]);
            }
            let (own, capabilities, time) = told(&ours);
            let (theirs, _, at) = told(&core);
            assert_eq!(own, theirs);
            assert!(at.abs_diff(time) < 10, "{at} {time}");
            // Nobody can be told that his proposal is valid: see the help.
            assert_eq!(capabilities, json!([]));
        }
        for params in [
            json!([{ "rules": [] }]),
            json!([{}]),
            json!([{ "rules": ["segwit"], "mode": 7 }]),
            json!([{ "rules": ["segwit"], "mode": "nonsense" }]),
            json!([{ "rules": ["segwit", "signet"], "longpollid": "nonsense" }]),
            json!([{ "mode": "proposal" }]),
            json!([{ "mode": "proposal", "data": 7 }]),
            json!([{ "mode": "proposal", "data": "zz" }]),
            json!([7]),
        ] {
            assert_same(&core, &ours, "getblocktemplate", params);
        }
        if signet {
            let unsigned = json!([{ "rules": ["segwit"] }]);
            assert_same(&core, &ours, "getblocktemplate", unsigned);
        }
    }
}

#[test]
fn what_is_wrong_with_a_proposal_is_told_in_bitcoinds_words() {
    let core = Setup::bitcoind(Network::Regtest).start();
    let ours = Setup::handfast(Network::Regtest)
        .connect(core.p2p())
        .start();
    let made = generate(&core, "generatetoaddress", json!([20, ADDRESS]));
    ours.wait_for_tip(made[19]);
    let shown = ours.rpc().get("generateblock", json!([ADDRESS, [], false]));
    let bytes = Vec::<u8>::from_hex(shown["hex"].as_str().expect("hex")).expect("hex");
    let good: Block = deserialize(&bytes).expect("a block");
    let propose = |node: &Node, block: &Block| {
        let data = bitcoin::consensus::encode::serialize_hex(block);
        let request = json!([{ "mode": "proposal", "data": data }]);
        node.rpc().get("getblocktemplate", request)
    };
    assert_eq!(propose(&core, &good), Value::Null);
    assert_eq!(propose(&ours, &good), "inconclusive");
    type Change = fn(&mut Block);
    let changes: [(Change, &str); 10] = [
        (
            |it| it.header.prev_blockhash = it.header.block_hash(),
            "inconclusive-not-best-prevblk",
        ),
        (|it| it.header.time = 1_296_688_602, "time-too-old"),
        (|it| it.header.time += 10_000, "time-too-new"),
        (
            |it| it.header.bits = bitcoin::CompactTarget::from_consensus(0x207f_fffe),
            "bad-diffbits",
        ),
        (
            |it| {
                it.header.merkle_root =
                    bitcoin::TxMerkleNode::from_raw_hash(it.header.block_hash().to_raw_hash())
            },
            "bad-txnmrklroot",
        ),
        (
            |it| {
                it.txdata[0].output[0].value += bitcoin::Amount::ONE_SAT;
                it.header.merkle_root = it.compute_merkle_root().expect("a coinbase");
            },
            "bad-cb-amount",
        ),
        (
            |it| {
                it.txdata[0].input[0].script_sig = vec![1, 20].into();
                it.header.merkle_root = it.compute_merkle_root().expect("a coinbase");
            },
            "bad-cb-height",
        ),
        (
            |it| {
                it.txdata[0].input[0].script_sig = vec![0; 101].into();
                it.header.merkle_root = it.compute_merkle_root().expect("a coinbase");
            },
            "bad-cb-length",
        ),
        (
            |it| {
                it.txdata[0].input[0].previous_output.vout = 0;
                it.header.merkle_root = it.compute_merkle_root().expect("a coinbase");
            },
            "bad-cb-missing",
        ),
        (
            |it| {
                it.txdata.push(it.txdata[0].clone());
                it.txdata[1].output.pop();
                it.header.merkle_root = it.compute_merkle_root().expect("a coinbase");
            },
            "bad-cb-multiple",
        ),
    ];
    for (change, reason) in changes {
        let mut block = good.clone();
        change(&mut block);
        assert_eq!(propose(&core, &block), reason);
        assert_eq!(propose(&ours, &block), reason);
    }
    let tip = block(&core, made[19]);
    assert_eq!(propose(&core, &tip), "duplicate");
    assert_eq!(propose(&ours, &tip), "duplicate");
}
