//! Peers that stall, leave or lie: the node says why it parted from them and goes on.

use std::time::Duration;

use bitcoin::Target;
use bitcoin::block::Header;
use handfast_tests::connection::Connection;
use handfast_tests::generator::{empty_blocks, large_blocks, overpaying_block};
use handfast_tests::process::{Node, Setup};
use handfast_tests::scripted_peer::{Reaction, ScriptedPeer};
use handfast_tests::served_chain::ServedChain;
use handfast_tests::wait::{wait_for, wait_within};
use handfast_wire::{Message, Network, RawBlock};

/// Longest a block may be held up by one silent peer before another is asked: the
/// largest stall timeout (64 s) and some air.
const STALL_TIMEOUT: Duration = Duration::from_secs(80);

fn trunk(count: usize) -> Vec<RawBlock> {
    empty_blocks(Network::Regtest.genesis(), 0, "trunk", count)
}

fn served(blocks: &[RawBlock]) -> ServedChain {
    ServedChain::new(&Network::Regtest, blocks.iter().cloned())
}

/// A node that has caught up with an honest peer, which stays connected.
fn synced(blocks: &[RawBlock]) -> (Node, ScriptedPeer) {
    let peer = ScriptedPeer::honest(&Network::Regtest, served(blocks));
    let node = Setup::handfast(Network::Regtest)
        .connect(peer.address())
        .start();
    node.wait_for_tip(blocks.last().expect("there are blocks").hash);
    (node, peer)
}

/// Waits until the history of ended connections and the log both give this reason.
fn wait_for_reason(node: &Node, reason: &str) {
    wait_for(&format!("{reason:?} is in the peer history"), || {
        node.peer_history()
            .iter()
            .any(|row| {
                row["reason"]
                    .as_str()
                    .is_some_and(|text| text.contains(reason))
            })
            .then_some(())
    });
    wait_for(&format!("{reason:?} is in the log"), || {
        node.output().contains(reason).then_some(())
    });
}

/// The node takes one more block from the honest peer: it is alive and not misled.
fn assert_goes_on(node: &Node, honest: &ScriptedPeer, blocks: &[RawBlock]) {
    let tip = blocks.last().expect("there are blocks");
    let height = u32::try_from(blocks.len()).expect("a short chain");
    let next = empty_blocks(tip.header, height, "onward", 1);
    let hash = next[0].hash;
    honest.change_chain(|chain| chain.extend(next));
    node.wait_for_tip(hash);
}

#[test]
fn of_three_peers_one_falls_silent_and_one_leaves_and_sync_goes_on() {
    let blocks = trunk(2_500);
    let tip = blocks.last().expect("there are blocks").hash;
    let silent = ScriptedPeer::scripted(
        &Network::Regtest,
        "silent",
        served(&blocks),
        |message, seen, _| match message {
            Message::GetData(_) if seen.blocks_sent() >= 60 => Reaction::Silence,
            _ => Reaction::Honest,
        },
    );
    let leaving = ScriptedPeer::scripted(
        &Network::Regtest,
        "leaving",
        served(&blocks),
        |message, seen, _| match message {
            Message::GetData(_) if seen.blocks_sent() >= 40 => Reaction::Leave,
            _ => Reaction::Honest,
        },
    );
    let honest = ScriptedPeer::honest(&Network::Regtest, served(&blocks));
    let node = Setup::handfast(Network::Regtest)
        .connect(silent.address())
        .connect(leaving.address())
        .connect(honest.address())
        .start();
    node.wait_for_tip_within(STALL_TIMEOUT, tip);

    // No block hangs on the silent one: what it was asked for and kept, others sent.
    let kept = silent.record();
    let others = honest.record();
    let left = leaving.record();
    for hash in kept
        .requested
        .keys()
        .filter(|hash| !kept.sent.contains_key(*hash))
    {
        assert!(
            others.sent.contains_key(hash) || left.sent.contains_key(hash),
            "{hash} came from nowhere"
        );
    }
    assert!(
        left.blocks_sent() >= 1 || kept.blocks_sent() >= 1,
        "the download was shared"
    );
}

#[test]
fn a_peer_that_never_delivers_a_block_does_not_keep_the_chain_away() {
    let blocks = trunk(200);
    let tip = blocks.last().expect("there are blocks").hash;
    let silent = ScriptedPeer::scripted(
        &Network::Regtest,
        "silent",
        served(&blocks),
        |message, _, _| match message {
            Message::GetData(_) => Reaction::Silence,
            _ => Reaction::Honest,
        },
    );
    let setup = Setup::handfast(Network::Regtest).connect(silent.address());
    let honest = ScriptedPeer::honest(&Network::Regtest, served(&blocks));
    let node = setup.connect(honest.address()).start();
    node.wait_for_tip_within(STALL_TIMEOUT, tip);
}

/// Ends of connections to this peer, and why.
fn endings(node: &Node, peer: &ScriptedPeer) -> Vec<serde_json::Value> {
    let rows = node.peer_history().into_iter();
    rows.filter(|row| row["addr"] == peer.address().to_string())
        .collect()
}

/// Whether the peer is connected and was from the beginning.
fn assert_stayed(node: &Node, peer: &ScriptedPeer) {
    assert_eq!(endings(node, peer), Vec::<serde_json::Value>::new());
    assert_eq!(peer.record().connections, 1);
    let rows = node.peers();
    let row = rows
        .iter()
        .find(|row| row["addr"] == peer.address().to_string());
    assert!(row.is_some(), "{rows:?}");
}

#[test]
fn a_named_peer_at_20_kilobytes_a_second_stays_while_a_quick_one_brings_the_chain() {
    // At that pace the chain would take eleven minutes, and a block twenty seconds.
    let blocks = large_blocks(32, 400_000);
    let tip = blocks.last().expect("there are blocks").hash;
    let slow = ScriptedPeer::throttled(&Network::Regtest, served(&blocks), 20_000);
    let node = Setup::handfast(Network::Regtest)
        .connect(slow.address())
        .start();
    wait_for("the slow peer is asked for a block", || {
        (slow.record().requests() > 0).then_some(())
    });
    let quick = ScriptedPeer::honest(&Network::Regtest, served(&blocks));
    node.rpc().get(
        "addnode",
        serde_json::json!([quick.address().to_string(), "add"]),
    );
    node.wait_for_tip(tip);
    let (slow_one, quick_one) = (slow.record(), quick.record());
    assert_eq!(
        quick_one.sent.len(),
        blocks.len(),
        "every block came from it"
    );
    assert!(slow_one.requests() < 3, "its blocks went to the other");
    // The block that it was asked for is long there when it has sent it.
    wait_for("the slow peer has sent it", || {
        let rows = node.peers();
        let row = rows
            .iter()
            .find(|row| row["addr"] == slow.address().to_string())?;
        (row["last_block"].as_u64()? > 0).then_some(())
    });
    assert_stayed(&node, &slow);
    assert_stayed(&node, &quick);
}

#[test]
fn a_named_peer_stays_that_is_so_slow_that_another_is_disconnected_for_it() {
    // A block takes 100 s, of which 68 s are borne with in a peer that nobody named.
    let blocks = large_blocks(32, 200_000);
    let tip = blocks.last().expect("there are blocks").hash;
    let slow = || ScriptedPeer::throttled(&Network::Regtest, served(&blocks), 2_000);
    let asked = |peer: &ScriptedPeer| {
        wait_for("it is asked for a block", || {
            (peer.record().requests() > 0).then_some(())
        });
    };
    let named = slow();
    let node = Setup::handfast(Network::Regtest)
        .connect(named.address())
        .start();
    asked(&named);
    let automatic = slow();
    node.rpc().get(
        "addconnection",
        serde_json::json!([
            automatic.address().to_string(),
            "outbound-full-relay",
            false
        ]),
    );
    asked(&automatic);
    let quick = ScriptedPeer::honest(&Network::Regtest, served(&blocks));
    node.rpc().get(
        "addnode",
        serde_json::json!([quick.address().to_string(), "add"]),
    );
    node.wait_for_tip(tip);
    // It was asked after the other, and so has more time.
    let ended = wait_within(
        Duration::from_secs(120),
        "the other is disconnected",
        || endings(&node, &automatic).pop(),
    );
    let reason = ended["reason"].as_str().expect("a text");
    assert!(reason.contains("not delivered"), "{reason}");
    assert_stayed(&node, &named);
}

#[test]
fn while_the_only_peer_is_silent_the_node_says_what_it_waits_for() {
    let blocks = trunk(3);
    let silent = ScriptedPeer::scripted(
        &Network::Regtest,
        "silent",
        served(&blocks),
        |message, _, _| match message {
            Message::GetData(_) => Reaction::Silence,
            _ => Reaction::Honest,
        },
    );
    let node = Setup::handfast(Network::Regtest)
        .connect(silent.address())
        .start();
    let wanted = format!("block {} of height 1", blocks[0].hash);
    wait_for(&format!("{wanted:?} is among the requests"), || {
        let state = node.rpc().get("getsyncstate", serde_json::json!([]));
        let requests = state["requests"].as_array().expect("a list");
        requests
            .iter()
            .any(|request| request["what"] == wanted.as_str())
            .then_some(())
    });
}

#[test]
fn the_only_source_leaves_and_the_next_one_is_used() {
    let blocks = trunk(600);
    let tip = blocks.last().expect("there are blocks").hash;
    let first = ScriptedPeer::honest(&Network::Regtest, served(&blocks[..300]));
    let second = ScriptedPeer::honest(&Network::Regtest, served(&blocks[..300]));
    let node = Setup::handfast(Network::Regtest)
        .connect(first.address())
        .connect(second.address())
        .start();
    node.wait_for_tip(blocks[299].hash);
    drop(first);
    second.change_chain(|chain| chain.extend(blocks[300..].iter().cloned()));
    node.wait_for_tip(tip);
}

#[test]
fn an_invalid_block_costs_its_sender_the_connection() {
    let blocks = trunk(50);
    let (node, honest) = synced(&blocks);
    let bad = overpaying_block(blocks[49].header, 50);
    let mut chain = served(&blocks);
    chain.extend([bad.clone()]);
    let liar = ScriptedPeer::scripted(&Network::Regtest, "liar", chain, |_, _, _| Reaction::Honest);
    node.rpc().get(
        "addnode",
        serde_json::json!([liar.address().to_string(), "onetry"]),
    );

    wait_for_reason(&node, "bad-cb-amount");
    wait_for_reason(&node, &bad.hash.to_string());
    assert_eq!(
        node.best_hash(),
        Some(blocks[49].hash),
        "the tip is the last valid block"
    );
    assert_goes_on(&node, &honest, &blocks);
}

/// Dials a synced node, misbehaves, and sees that the node closes and names the reason.
fn assert_disconnected(misbehave: impl FnOnce(&mut Connection, &[RawBlock]), reason: &str) {
    let blocks = trunk(50);
    let (node, honest) = synced(&blocks);
    let mut attacker = Connection::dial(node.p2p(), &Network::Regtest).expect("the node accepts");
    misbehave(&mut attacker, &blocks);
    assert!(attacker.is_closed_by_node());
    wait_for_reason(&node, reason);
    assert_eq!(node.best_hash(), Some(blocks[49].hash));
    assert_goes_on(&node, &honest, &blocks);
}

/// The header that would follow the last block, with the least work regtest allows undone.
fn child_of(parent: Header) -> Header {
    Header {
        prev_blockhash: parent.block_hash(),
        time: parent.time + 600,
        nonce: 0,
        ..parent
    }
}

fn solves(header: &Header) -> bool {
    let target: Target = header.target();
    target.is_met_by(header.block_hash())
}

#[test]
fn a_header_without_proof_of_work_costs_its_sender_the_connection() {
    assert_disconnected(
        |attacker, blocks| {
            let mut header = child_of(blocks[49].header);
            while solves(&header) {
                header.nonce += 1;
            }
            attacker
                .send(&Message::Headers(vec![header]))
                .expect("the node reads");
        },
        "invalid header",
    );
}

#[test]
fn a_block_that_nobody_asked_for_without_proof_of_work_costs_its_sender_the_connection() {
    assert_disconnected(
        |attacker, blocks| {
            let mut block = overpaying_block(blocks[49].header, 50);
            while solves(&block.header) {
                block.header.nonce += 1;
            }
            block.hash = block.header.block_hash();
            let mut bytes = bitcoin::consensus::serialize(&block.header);
            bytes.extend_from_slice(&block.bytes[bytes.len()..]);
            block.bytes = bytes.into();
            attacker
                .send(&Message::Block(block))
                .expect("the node reads");
        },
        "invalid header",
    );
}

#[test]
fn a_header_that_only_consensus_can_refuse_costs_its_sender_the_connection() {
    assert_disconnected(
        |attacker, blocks| {
            // Earlier than the median of the last eleven.
            let mut header = Header {
                time: blocks[0].header.time,
                ..child_of(blocks[49].header)
            };
            while !solves(&header) {
                header.nonce += 1;
            }
            attacker
                .send(&Message::Headers(vec![header]))
                .expect("the node reads");
        },
        "time-too-old",
    );
}

#[test]
fn a_frame_longer_than_any_may_be_costs_its_sender_the_connection() {
    assert_disconnected(
        |attacker, _| {
            let mut frame = Network::Regtest.magic().to_bytes().to_vec();
            frame.extend_from_slice(b"block\0\0\0\0\0\0\0");
            frame.extend_from_slice(&4_000_001_u32.to_le_bytes());
            frame.extend_from_slice(&[0; 4]);
            attacker
                .sender()
                .send_bytes(&frame)
                .expect("the node reads");
        },
        "4000001 bytes",
    );
}

#[test]
fn bytes_that_are_no_frame_cost_their_sender_the_connection() {
    assert_disconnected(
        |attacker, _| {
            attacker
                .sender()
                .send_bytes(&[0x5a; 200])
                .expect("the node reads")
        },
        "cannot be read",
    );
}

/// Sends a frame that cannot be read: it is dropped and counted, and a flood of them ends the
/// connection.
fn assert_dropped(frame: &[u8]) {
    assert_disconnected(
        |attacker, _| {
            attacker.sender().send_bytes(frame).expect("the node reads");
            attacker.send(&Message::Ping(7)).expect("the node reads");
            attacker.expect("the connection goes on", |message| {
                (message == Message::Pong(7)).then_some(())
            });
            // The node may close before all of it was sent.
            let _ = attacker.sender().send_bytes(&frame.repeat(200));
        },
        "too many malformed messages",
    );
}

#[test]
fn a_payload_that_is_no_message_is_dropped_and_a_flood_of_them_costs_the_connection() {
    // Promises two headers and carries none.
    let payload = [2];
    let checksum = handfast_wire::checksum(&payload);
    let head =
        handfast_wire::encode_head(Network::Regtest.magic(), "headers", payload.len(), checksum);
    assert_dropped(&[&head[..], &payload[..]].concat());
}

#[test]
fn a_frame_with_a_wrong_checksum_is_dropped_and_a_flood_of_them_costs_the_connection() {
    let head = handfast_wire::encode_head(Network::Regtest.magic(), "ping", 8, [0xff; 4]);
    assert_dropped(&[&head[..], &[7; 8]].concat());
}

#[test]
fn silent_connections_do_not_keep_an_honest_peer_out() {
    let blocks = trunk(30);
    let node = Setup::handfast(Network::Regtest).start();
    let address = node.p2p();
    let silent: Vec<_> = (0..40)
        .map(|_| std::net::TcpStream::connect(address).expect("the backlog has room"))
        .collect();
    let honest = ScriptedPeer::honest(&Network::Regtest, served(&blocks));
    node.rpc().get(
        "addnode",
        serde_json::json!([honest.address().to_string(), "add"]),
    );
    node.wait_for_tip(blocks[29].hash);
    let client =
        Connection::dial(address, &Network::Regtest).expect("an inbound peer is still accepted");
    wait_within(
        Duration::from_secs(30),
        "both peers are in the table",
        || (node.peers().len() >= 2).then_some(()),
    );
    drop((silent, client));
}
