//! Long answers and long requests: what they take of memory, and from others.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Instant;

use bitcoin::absolute::LockTime;
use bitcoin::consensus::encode::serialize_hex;
use bitcoin::hashes::Hash;
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, WPubkeyHash, Witness,
};
use handfast_tests::process::Node;
use handfast_tests::usage::Usage;
use handfast_tests::wait::wait_for;
use serde_json::{Value, json};

use crate::exchange::{connect, cookie, exchange, get, last_post, node, post, send};

/// Callers at the same time.
const CALLERS: usize = 50;
/// Callers who never read.
const DEAF: usize = 20;
/// Outputs of the transaction in the block: 950 kB of it, 11 MB as JSON.
const OUTPUTS: usize = 30_000;
/// Two blocks as they are put together, sixteen as text, and what the node has anyway, bytes.
const MEMORY: u64 = 900_000_000;

/// What the node may keep of that a while after, bytes: less than four answers as text.
const KEPT: u64 = 40_000_000;

/// A chain with one large block; its hash.
pub(crate) fn large_block(node: &Node) -> String {
    let blocks = node
        .rpc()
        .get("generatetodescriptor", json!([101, "raw(51)"]));
    let first = node.rpc().get("getblock", json!([blocks[0], 1]));
    let coinbase = first["tx"][0].as_str().expect("an id");
    let script = ScriptBuf::new_p2wpkh(&WPubkeyHash::all_zeros());
    let output = TxOut {
        value: Amount::from_sat(1_000),
        script_pubkey: script,
    };
    let transaction = Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint::new(coinbase.parse().expect("an id"), 0),
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::new(),
        }],
        output: vec![output; OUTPUTS],
    };
    let block = node.rpc().get(
        "generateblock",
        json!(["raw(51)", [serialize_hex(&transaction)]]),
    );
    block["hash"].as_str().expect("a hash").to_owned()
}

fn peak(node: &Node) -> u64 {
    Usage::of(node.pid()).expect("the node runs").peak_resident
}

pub(crate) fn getblock(node: &Node, hash: &str) -> String {
    let call = json!({ "method": "getblock", "params": [hash, 2] }).to_string();
    last_post(&cookie(node), &call)
}

/// So many callers who read nothing of a long answer. All of the answers are on their way.
pub(crate) fn deaf(node: &Node, request: &str, count: usize) -> Vec<TcpStream> {
    let callers: Vec<_> = (0..count).map(|_| send(node, request)).collect();
    wait_for("answers are on their way", || {
        let mut first = [0; 1];
        let answered = |it: &&TcpStream| matches!(it.peek(&mut first), Ok(1..));
        (callers.iter().filter(answered).count() == count).then_some(())
    });
    callers
}

#[test]
fn many_callers_of_a_whole_block_take_the_memory_of_a_few() {
    let node = node(&["--rest"]);
    let hash = large_block(&node);
    let before = peak(&node);
    let request = getblock(&node, &hash);
    let lengths: Vec<usize> = thread::scope(|scope| {
        let ask = || exchange(&node, request.as_bytes()).body.len();
        let callers: Vec<_> = (0..CALLERS).map(|_| scope.spawn(ask)).collect();
        let answered = callers.into_iter().map(|it| it.join().expect("an answer"));
        answered.collect()
    });
    let after = Usage::of(node.pid()).expect("the node runs");
    println!(
        "{CALLERS} answers of {} bytes: {} MB at most, {} MB before, {} MB after",
        lengths[0],
        after.peak_resident / 1_000_000,
        before / 1_000_000,
        after.resident / 1_000_000,
    );
    assert!(lengths[0] > 8_000_000, "{lengths:?}");
    assert!(lengths.iter().all(|length| *length == lengths[0]));
    let peak = after.peak_resident;
    assert!(peak < MEMORY, "{peak} bytes");
    wait_for("the memory is given back", || {
        let now = Usage::of(node.pid()).expect("the node runs").resident;
        (now < before + KEPT)
            .then(|| println!("{} MB kept", now.saturating_sub(before) / 1_000_000))
    });
    let rest = get(&node, &format!("/rest/block/{hash}.json"));
    let whole: Value = serde_json::from_slice(&rest.body).expect("JSON");
    assert_eq!(
        whole["tx"][1]["vout"].as_array().map(Vec::len),
        Some(OUTPUTS)
    );
}

#[test]
fn who_never_reads_keeps_no_long_answer_from_others_and_no_node_from_stopping() {
    let node = node(&[]);
    let hash = large_block(&node);
    let request = getblock(&node, &hash);
    let deaf = deaf(&node, &request, DEAF);
    assert_eq!(exchange(&node, request.as_bytes()).status, 200);
    let begun = Instant::now();
    assert!(node.stop().success());
    println!("stopped within {:?}", begun.elapsed());
    drop(deaf);
}

/// The chunks of an answer, put together.
fn unchunked(mut bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let end = bytes
            .windows(2)
            .position(|two| two == b"\r\n")
            .expect("a length");
        let length = std::str::from_utf8(&bytes[..end]).expect("text");
        let length = usize::from_str_radix(length, 16).expect("a number");
        let rest = &bytes[end + 2..];
        if length == 0 {
            assert_eq!(rest, b"\r\n", "the end");
            return body;
        }
        body.extend_from_slice(&rest[..length]);
        bytes = &rest[length + 2..];
    }
}

/// Calls in one batch.
const CALLS: usize = 2_000_000;

#[test]
fn a_batch_of_millions_of_calls_is_answered_in_order_and_takes_little_more_than_its_text() {
    let node = node(&[]);
    let before = peak(&node);
    let batch = format!("[{}]", vec!["{}"; CALLS].join(","));
    let mut stream = connect(&node);
    let request = post(&format!("Connection: close\r\n{}", cookie(&node)), &batch);
    stream.write_all(request.as_bytes()).expect("written");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("to the end");
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let (head, body) = answer.split_at(end.expect("a head") + 4);
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    assert!(head.contains("transfer-encoding: chunked"), "{head}");
    let body = unchunked(body);
    let count = body.windows(8).filter(|it| it == b"\"error\":").count();
    assert_eq!(count, CALLS);
    assert!(body.starts_with(b"[{") && body.ends_with(b"}]\n"));
    let grown = peak(&node) - before;
    println!(
        "{} bytes answered, {grown} more in memory at most",
        body.len()
    );
    assert!(grown < 100_000_000, "{grown}");
}

#[test]
fn a_call_of_millions_of_numbers_is_refused_before_they_are_unfolded() {
    let node = node(&[]);
    let before = peak(&node);
    let numbers = vec!["1"; 15_000_000].join(",");
    let call = format!(r#"{{"method":"getblockcount","params":[{numbers}]}}"#);
    let answer = exchange(&node, last_post(&cookie(&node), &call).as_bytes());
    assert_eq!(answer.status, 500);
    assert!(
        answer.text().contains("Too many values"),
        "{}",
        answer.text()
    );
    let grown = peak(&node) - before;
    println!("{} bytes sent, {grown} more in memory at most", call.len());
    assert!(grown < 120_000_000, "{grown}");
    assert_eq!(node.height(), 0);
}
