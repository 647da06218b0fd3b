//! Headers whose proof of work is right and whose place in the chain is not, over TCP and
//! over RPC: their sender is cut off, and they are kept nowhere.

use std::time::{SystemTime, UNIX_EPOCH};

use bitcoin::block::Header;
use bitcoin::consensus::encode::serialize_hex;
use handfast_proto::testing::{mine, mine_at};
use handfast_tests::connection::Connection;
use handfast_tests::process::{Node, Setup};
use handfast_wire::{Message, Network};
use serde_json::{Value, json};

/// Bits that regtest does not ask for, hardly harder than those that it does.
const OTHER_BITS: u32 = 0x207f_fffe;

fn now() -> u32 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    u32::try_from(now.expect("the clock is past 1970").as_secs()).expect("it is before 2106")
}

/// `count` headers on genesis, of which the first has these bits and this time.
fn chain(bits: u32, time: u32, count: usize) -> Vec<Header> {
    let genesis = Network::Regtest.genesis();
    let mut headers = vec![mine_at(&genesis, time, 1, bits)];
    while headers.len() < count {
        let parent = headers[headers.len() - 1];
        headers.push(mine_at(&parent, parent.time + 1, 1, bits));
    }
    headers
}

/// What the node shows of chains that it knows beside genesis.
fn tips(node: &Node) -> Vec<Value> {
    let tips = node.rpc().get("getchaintips", json!([]));
    let all = tips.as_array().expect("a list").iter();
    all.filter(|tip| tip["height"] != 0).cloned().collect()
}

#[test]
fn headers_of_bits_or_times_that_the_chain_does_not_allow_are_kept_nowhere() {
    let mut node = Setup::handfast(Network::Regtest).start();
    let genesis = Network::Regtest.genesis();
    for (bits, time) in [(OTHER_BITS, now()), (0x207f_ffff, genesis.time)] {
        let mut stranger =
            Connection::dial(node.p2p(), &Network::Regtest).expect("the node shakes hands");
        let headers = chain(bits, time, 2_000);
        let _ = stranger.send(&Message::Headers(headers));
        assert!(stranger.is_closed_by_node(), "{bits:x} {time}");
        assert_eq!(tips(&node), Vec::<Value>::new(), "{bits:x} {time}");
    }
    assert!(node.is_running());
}

#[test]
fn a_header_that_is_too_new_is_not_kept_and_the_node_stays_ready() {
    let node = Setup::handfast(Network::Regtest).start();
    let genesis = Network::Regtest.genesis();
    let submit = |header: &Header| {
        node.rpc()
            .call("submitheader", json!([serialize_hex(header)]))
    };
    // A minute beyond what is allowed.
    let header = mine(&genesis, now() + 2 * 60 * 60 + 60, 1);
    let child = mine(&header, header.time + 1, 1);
    let refused = submit(&header).expect_err("it is too new");
    assert!(refused.to_string().contains("time-too-new"), "{refused}");
    let refused = submit(&child).expect_err("its parent is unknown");
    assert!(
        refused.to_string().contains("Must submit previous header"),
        "{refused}"
    );
    assert_eq!(tips(&node), Vec::<Value>::new());
    let good = mine(&genesis, now(), 1);
    submit(&good).expect("it keeps the rules");
    assert_eq!(tips(&node).len(), 1);
}
