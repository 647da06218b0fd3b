//! Bytes that are no message, or none that an honest peer sends: Handfast does with them what
//! `bitcoind` does.

use std::time::{SystemTime, UNIX_EPOCH};

use bitcoin::Block;
use handfast_tests::connection::Connection;
use handfast_tests::process::{Node, Setup};
use handfast_wire::{HEADER_BYTES, Message, Network, checksum, encode_head};

/// What becomes of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    GoesOn,
    Ends,
}

use Then::{Ends, GoesOn};

/// A frame around any payload.
fn frame(command: &str, payload: &[u8]) -> Vec<u8> {
    let magic = Network::Regtest.magic();
    let sum = checksum(payload);
    let mut bytes = encode_head(magic, command, payload.len(), sum).to_vec();
    bytes.extend_from_slice(payload);
    bytes
}

/// The same with a header of which the bytes from `at` on are others.
fn altered(command: &str, payload: &[u8], at: usize, others: &[u8]) -> Vec<u8> {
    let mut bytes = frame(command, payload);
    bytes[at..at + others.len()].copy_from_slice(others);
    bytes
}

/// A list of `count` zeroed entries of `entry` bytes, behind `before` and the count.
fn list(before: &[u8], count: u16, entry: usize) -> Vec<u8> {
    let mut payload = before.to_vec();
    payload.push(0xfd);
    payload.extend_from_slice(&count.to_le_bytes());
    payload.resize(payload.len() + usize::from(count) * entry, 0);
    payload
}

/// Where the fields of a frame header are.
const COMMAND: usize = 4;
const CHECKSUM: usize = 20;

/// Name, bytes, and what is expected of both programs.
fn cases() -> Vec<(&'static str, Vec<u8>, Then)> {
    let mut cases = vec![
        (
            "a wrong checksum",
            altered("ping", &[1; 8], CHECKSUM, b"abcd"),
            GoesOn,
        ),
        (
            "a long message with a wrong checksum",
            altered("ping", &vec![1; 3_000_000], CHECKSUM, b"abcd"),
            GoesOn,
        ),
        (
            "a command with a byte behind its padding",
            altered("verack", &[], COMMAND + 11, b"x"),
            GoesOn,
        ),
        (
            "a command that is no text",
            altered("inv", &[], COMMAND, &[0xff]),
            GoesOn,
        ),
        ("an inv that ends early", frame("inv", &[5; 37]), GoesOn),
        ("headers that end early", frame("headers", &[5; 82]), GoesOn),
        ("headers of no byte", frame("headers", &[]), GoesOn),
        (
            "a locator that ends early",
            frame("getheaders", &[2; 37]),
            GoesOn,
        ),
        ("addr that ends early", frame("addr", &[2; 31]), GoesOn),
        (
            "an IPv4 address of three bytes",
            frame("addrv2", &[1, 0, 0, 0, 0, 0, 1, 3, 1, 2, 3, 0, 1]),
            GoesOn,
        ),
        (
            "a fee filter of three bytes",
            frame("feefilter", b"123"),
            GoesOn,
        ),
        (
            "a count longer than it need be",
            frame("inv", &[0xfd, 5, 0, 0]),
            GoesOn,
        ),
        ("an empty ping", frame("ping", &[]), GoesOn),
        ("a ping of nine bytes", frame("ping", &[0; 9]), GoesOn),
        (
            "a ping of three megabytes",
            frame("ping", &vec![1; 3_000_000]),
            GoesOn,
        ),
        ("a long pong", frame("pong", &[0; 2_000]), GoesOn),
        ("an empty notfound", frame("notfound", &[]), GoesOn),
        (
            "notfound of 35 bytes an entry",
            frame("notfound", &[1; 36]),
            GoesOn,
        ),
        (
            "a notfound of 50,001",
            frame("notfound", &list(&[], 50_001, 36)),
            GoesOn,
        ),
        (
            "an inv of 60,000 that are not there",
            frame("inv", &[0xfd, 0x60, 0xea]),
            GoesOn,
        ),
        (
            "an inv of 50,001",
            frame("inv", &list(&[], 50_001, 36)),
            Ends,
        ),
        (
            "a getdata of 50,001",
            frame("getdata", &list(&[], 50_001, 36)),
            Ends,
        ),
        (
            "a count of 2,001 headers",
            frame("headers", &[0xfd, 0xd1, 0x07]),
            Ends,
        ),
        (
            "1,001 addresses",
            frame("addr", &list(&[], 1_001, 30)),
            Ends,
        ),
        (
            "a locator of 102",
            frame("getheaders", &{
                let mut locator = vec![0, 0, 0, 0, 102];
                locator.resize(5 + 103 * 32, 0);
                locator
            }),
            Ends,
        ),
        (
            "compact blocks announced twice",
            frame("sendcmpct", &[2, 2, 0, 0, 0, 0, 0, 0, 0]),
            Ends,
        ),
        ("an empty block", frame("block", &[]), GoesOn),
        ("a header as a block", frame("block", &[0; 80]), GoesOn),
        ("an unknown command", frame("hello", b"there"), GoesOn),
        (
            "another network's magic",
            altered("ping", &[1; 8], 0, b"abcd"),
            Ends,
        ),
        (
            "a length that no frame has",
            altered("ping", &[], 16, &4_000_001_u32.to_le_bytes()),
            Ends,
        ),
        ("a block without a parent", frame("block", &orphan()), Ends),
        (
            "a block without proof of work",
            frame("block", &unsolved()),
            Ends,
        ),
    ];
    for command in [
        "filterload",
        "filteradd",
        "filterclear",
        "mempool",
        "getcfilters",
        "getcfheaders",
        "getcfcheckpt",
    ] {
        // No filter type is 0xff; what it says is not looked at by either.
        cases.push((command, frame(command, &[0xff; 37]), Ends));
    }
    cases
}

/// The header of a block on the genesis block that is as good as the engine's own, once it has
/// the nonce for it.
fn child() -> Block {
    let mut block = Network::Regtest.genesis_block();
    let time = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("the clock is past 1970");
    block.header.prev_blockhash = block.block_hash();
    block.header.time = u32::try_from(time.as_secs()).expect("before 2106");
    block
}

/// The block with the first nonce whose hash is, or is not, a proof of work.
fn with_nonce(mut block: Block, solves: bool) -> Vec<u8> {
    let limit = bitcoin::Target::MAX_ATTAINABLE_REGTEST;
    while block.header.validate_pow(limit).is_ok() != solves {
        block.header.nonce += 1;
    }
    bitcoin::consensus::serialize(&block)
}

/// A block of right work and form whose parent nobody knows.
fn orphan() -> Vec<u8> {
    let mut block = child();
    // A child of a child of the genesis block, which is not there.
    block.header.prev_blockhash = block.block_hash();
    with_nonce(block, true)
}

/// A block whose parent is known and whose hash is no proof of work.
fn unsolved() -> Vec<u8> {
    with_nonce(child(), false)
}

/// Whether a node does with these bytes what is expected: it answers the ping behind them, or
/// closes, be it after it has answered.
fn assert_follows(node: &Node, name: &str, bytes: &[u8], expected: Then) {
    let mut connection = Connection::dial(node.p2p(), &Network::Regtest).expect("it shakes hands");
    let nonce = 0x1357_9bdf;
    let sent = connection
        .sender()
        .send_bytes(bytes)
        .and_then(|()| connection.send(&Message::Ping(nonce)));
    let program = node.setup().program();
    match expected {
        Ends => {
            let closed = sent.is_err() || connection.is_closed_by_node();
            assert!(closed, "{program:?} goes on after {name}");
        }
        GoesOn => {
            sent.unwrap_or_else(|error| panic!("{program:?} after {name}: {error}"));
            connection.expect(&format!("a pong after {name}"), |message| {
                (message == Message::Pong(nonce)).then_some(())
            });
        }
    }
}

#[test]
fn what_is_no_message_has_the_same_consequence_as_with_bitcoind() {
    let core = Setup::bitcoind(Network::Regtest).start();
    let ours = Setup::handfast(Network::Regtest).start();
    for (name, bytes, expected) in cases() {
        assert!(bytes.len() >= HEADER_BYTES, "{name} is a frame");
        assert_follows(&core, name, &bytes, expected);
        assert_follows(&ours, name, &bytes, expected);
    }
}
