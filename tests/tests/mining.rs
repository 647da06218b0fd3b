//! Mining as a user sees it: the running binary, its options, and clients that mine for it.

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version};
use bitcoin::consensus::encode::serialize_hex;
use bitcoin::hashes::Hash;
use bitcoin::script::Builder;
use bitcoin::{
    Amount, Block, CompactTarget, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxMerkleNode,
    TxOut, Witness, transaction,
};
use handfast_tests::process::{Node, Program, Setup, op_true_signet};
use handfast_tests::wait::wait_for;
use handfast_wire::Network;
use serde_json::{Value, json};

const ADDRESS: &str = "bcrt1qft5p2uhsdcdc3l2ua4ap5qqfg4pjaqlp250x7us7a8qqhrxrxfsqseac85";

fn mining(node: &Node) -> Value {
    node.rpc().get("getmininginfo", json!([]))["handfast"].take()
}

fn template(node: &Node, id: Option<&str>) -> Value {
    let mut request = json!({ "rules": ["segwit"] });
    if let Some(id) = id {
        request["longpollid"] = id.into();
    }
    node.rpc().get("getblocktemplate", json!([request]))
}

/// The block that a client makes of a template, with all that the template says and nothing
/// that it knows otherwise.
fn block_of(template: &Value) -> Block {
    let number = |name: &str| template[name].as_u64().expect("a number");
    let text = |name: &str| template[name].as_str().expect("a text");
    let commitment = ScriptBuf::from_hex(text("default_witness_commitment")).expect("hex");
    let output = |value, script_pubkey| TxOut {
        value: Amount::from_sat(value),
        script_pubkey,
    };
    let coinbase = Transaction {
        version: transaction::Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint::null(),
            script_sig: Builder::new()
                .push_int(i64::try_from(number("height")).expect("small"))
                .push_slice(b"a client")
                .into_script(),
            sequence: Sequence::MAX,
            witness: Witness::from_slice(&[[0; 32]]),
        }],
        output: vec![
            output(number("coinbasevalue"), ScriptBuf::from_bytes(vec![0x51])),
            output(0, commitment),
        ],
    };
    let bits = CompactTarget::from_unprefixed_hex(text("bits")).expect("hex");
    let mut block = Block {
        header: Header {
            version: Version::from_consensus(
                i32::try_from(number("version")).expect("signals at most"),
            ),
            prev_blockhash: text("previousblockhash").parse().expect("a hash"),
            merkle_root: TxMerkleNode::all_zeros(),
            time: u32::try_from(number("curtime")).expect("Unix seconds"),
            bits,
            nonce: 0,
        },
        txdata: vec![coinbase],
    };
    block.header.merkle_root = block.compute_merkle_root().expect("a coinbase");
    while !block.header.target().is_met_by(block.block_hash()) {
        block.header.nonce += 1;
    }
    block
}

#[test]
fn a_client_mines_by_templates_and_each_long_poll_ends_with_the_next_tip() {
    let node = Setup::handfast(Network::Regtest).start();
    let mut id = None;
    for height in 1..=10 {
        let template = template(&node, id.as_deref());
        assert_eq!(template["height"], height);
        let block = block_of(&template);
        let answer = node
            .rpc()
            .get("submitblock", json!([serialize_hex(&block)]));
        assert_eq!(answer, Value::Null);
        let again = node
            .rpc()
            .get("submitblock", json!([serialize_hex(&block)]));
        assert_eq!(again, "duplicate");
        id = Some(template["longpollid"].as_str().expect("an id").to_owned());
    }
    assert_eq!(node.height(), 10);
}

#[test]
fn many_long_polls_hold_nobody_up_and_all_end_with_the_next_tip() {
    let node = Setup::handfast(Network::Regtest).start();
    let id = template(&node, None)["longpollid"]
        .as_str()
        .expect("an id")
        .to_owned();
    let waiting: Vec<_> = (0..100)
        .map(|_| {
            let (rpc, id) = (node.rpc().clone(), id.clone());
            thread::spawn(move || {
                let request = json!({ "rules": ["segwit"], "longpollid": id });
                rpc.get("getblocktemplate", json!([request]))
            })
        })
        .collect();
    wait_for("all of them wait", || {
        let active = node.rpc().get("getrpcinfo", json!([]));
        let active = active["active_commands"].as_array()?;
        let polls = active
            .iter()
            .filter(|call| call["method"] == "getblocktemplate");
        (polls.count() == 100).then_some(())
    });
    assert_eq!(node.height(), 0, "others are answered");
    assert!(waiting.iter().all(|poll| !poll.is_finished()));
    let hash = node.rpc().get("generatetoaddress", json!([1, ADDRESS]))[0].take();
    for poll in waiting {
        let template = poll.join().expect("it is answered");
        assert_eq!(template["previousblockhash"], hash);
    }
}

#[test]
fn a_node_mines_from_its_start_and_says_so_wherever_it_is_asked() {
    let node = Setup::handfast(Network::Regtest)
        .arg("--mine")
        .arg("--mine-interval")
        .arg("0.2")
        .arg("--mine-threads")
        .arg("2")
        .arg("--mine-address")
        .arg(ADDRESS)
        .arg("--mine-tag")
        .arg("a tag of ours")
        .start();
    wait_for("five blocks were mined", || {
        (node.height() >= 5).then_some(())
    });
    let state = mining(&node);
    assert_eq!(
        (&state["mining"], &state["threads"], &state["address"]),
        (&json!(true), &json!(2), &json!(ADDRESS))
    );
    assert!(state["found"].as_u64() >= Some(5), "{state}");
    let hash = node.rpc().get("getblockhash", json!([3]));
    let block = node.rpc().get("getblock", json!([hash, 2]));
    let coinbase = &block["tx"][0];
    assert_eq!(coinbase["vout"][0]["scriptPubKey"]["address"], ADDRESS);
    let script = coinbase["vin"][0]["coinbase"].as_str().expect("hex");
    assert!(script.contains("6120746167206f66206f757273"), "{script}");
    assert!(node.output().contains("found a block"), "{}", node.output());

    let status = Command::new(Program::Handfast.path())
        .args(["status", "--network", "regtest", "--datadir"])
        .arg(node.setup().datadir())
        .output()
        .expect("it is a program");
    let status = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(
        status
            .lines()
            .any(|line| line.starts_with("Mining ") && line.contains("2 threads")),
        "{status}"
    );

    let off = node.rpc().get("stopmining", json!([]));
    assert_eq!(
        (&off["mining"], &off["why"]),
        (&json!(false), &json!("mining is off"))
    );
    let on = node.rpc().get("startmining", json!([1]));
    assert_eq!(on["address"], ADDRESS, "that of the command line");
    for (params, error) in [
        (json!([0]), "error -8: threads must be 1 to 1024"),
        (json!([1, "nowhere"]), "error -5: Error: Invalid address"),
    ] {
        let refusal = node.rpc().call("startmining", params).expect_err("refused");
        assert_eq!(refusal.to_string(), error);
    }
    assert!(
        mining(&node)["mining"].as_bool() == Some(true),
        "it goes on"
    );
    let found = mining(&node)["found"].as_u64();
    let setup = node.setup().clone();
    assert!(node.stop().success(), "a node that mines stops cleanly");
    let again = setup.start();
    let counted = mining(&again)["found"].as_u64();
    assert!(counted >= found, "{counted:?} of {found:?} are remembered");
}

#[test]
fn a_node_that_mines_answers_and_stops_while_every_core_hashes() {
    let node = Setup::handfast(op_true_signet()).arg("--mine").start();
    wait_for("the hash threads have counted", || {
        mining(&node)["hashes"]
            .as_u64()
            .filter(|hashes| *hashes > 1_000_000)
    });
    let mut times: Vec<Duration> = (0..200)
        .map(|_| {
            let began = Instant::now();
            node.rpc().get("getblockcount", json!([]));
            began.elapsed()
        })
        .collect();
    times.sort_unstable();
    println!(
        "getblockcount while mining: median {:?}, p99 {:?}",
        times[100], times[197]
    );
    wait_for("a block was mined", || (node.height() > 0).then_some(()));
    assert!(node.stop().success(), "a node that mines stops cleanly");
}
