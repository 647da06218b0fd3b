//! One node and peers that a test controls: what it downloads, follows and serves.

use std::collections::BTreeSet;

use bitcoin::BlockHash;
use bitcoin::hashes::Hash;
use bitcoin::p2p::message_blockdata::Inventory;
use handfast_tests::connection::Connection;
use handfast_tests::data::{self, SIGNET_FORK_HEIGHT};
use handfast_tests::generator::{SMALL, empty_blocks};
use handfast_tests::process::{Node, Setup, op_true_signet};
use handfast_tests::scripted_peer::ScriptedPeer;
use handfast_tests::served_chain::ServedChain;
use handfast_tests::wait::wait_for;
use handfast_wire::{Locator, Message, Network, RawBlock};
use serde_json::json;

fn small_chain() -> Vec<RawBlock> {
    SMALL.blocks().expect("the cache can be written")
}

/// A node that follows one peer.
fn follower(network: &Network, peer: &ScriptedPeer) -> Node {
    Setup::handfast(network.clone())
        .connect(peer.address())
        .start()
}

#[test]
fn a_signed_chain_is_downloaded_once_from_one_peer() {
    let peer = ScriptedPeer::honest(
        &Network::Regtest,
        ServedChain::new(&Network::Regtest, small_chain()),
    );
    let node = follower(&Network::Regtest, &peer);
    node.wait_for_tip(SMALL.tip());
    let record = peer.record();
    assert_eq!(record.requested.len(), 130, "every block is asked for");
    assert_eq!(record.requests(), 130, "and none twice");
}

#[test]
fn what_was_downloaded_is_served_byte_for_byte() {
    let blocks = small_chain();
    let peer = ScriptedPeer::honest(
        &Network::Regtest,
        ServedChain::new(&Network::Regtest, blocks.clone()),
    );
    let node = follower(&Network::Regtest, &peer);
    node.wait_for_tip(SMALL.tip());

    let mut client = Connection::dial(node.p2p(), &Network::Regtest).expect("the node accepts");
    let genesis = Network::Regtest.genesis().block_hash();
    let locator = Locator {
        hashes: vec![genesis],
        stop: BlockHash::all_zeros(),
    };
    client
        .send(&Message::GetHeaders(locator))
        .expect("the node reads");
    let headers = client.expect("headers came", |message| match message {
        Message::Headers(headers) if !headers.is_empty() => Some(headers),
        _ => None,
    });
    let wanted: Vec<_> = blocks.iter().map(|block| block.header).collect();
    assert_eq!(headers, wanted);

    for block in &blocks {
        client
            .send(&Message::GetData(vec![Inventory::WitnessBlock(block.hash)]))
            .expect("the node reads");
        let served = client.expect("the block came", |message| match message {
            Message::Block(block) => Some(block),
            _ => None,
        });
        assert_eq!(served.bytes, block.bytes, "block {}", block.hash);
    }
}

#[test]
fn a_chain_goes_from_node_to_node_to_node() {
    let peer = ScriptedPeer::honest(
        &Network::Regtest,
        ServedChain::new(&Network::Regtest, small_chain()),
    );
    let first = follower(&Network::Regtest, &peer);
    first.wait_for_tip(SMALL.tip());
    let second = Setup::handfast(Network::Regtest)
        .connect(first.p2p())
        .start();
    second.wait_for_tip(SMALL.tip());
    let third = Setup::handfast(Network::Regtest)
        .connect(second.p2p())
        .start();
    third.wait_for_tip(SMALL.tip());
}

#[test]
fn the_first_blocks_of_mainnet_are_validated() {
    let Some(blocks) = data::mainnet_blocks() else {
        return;
    };
    let tip = blocks.last().expect("255 blocks").hash;
    let peer = ScriptedPeer::honest(
        &Network::Mainnet,
        ServedChain::new(&Network::Mainnet, blocks),
    );
    let node = follower(&Network::Mainnet, &peer);
    node.wait_for_tip(tip);
    assert_eq!(node.height(), 255);
}

#[test]
fn mainnet_headers_without_blocks_are_accepted() {
    let Some(headers) = data::mainnet_headers() else {
        return;
    };
    let chain = ServedChain::of_headers(headers);
    let tip = chain.tip();
    let peer = ScriptedPeer::honest(&Network::Mainnet, chain);
    let node = follower(&Network::Mainnet, &peer);
    wait_for("10,236 headers are accepted", || {
        let info = node.rpc().get("getblockchaininfo", json!([]));
        (info["headers"] == 10_236).then_some(())
    });
    assert_eq!(node.height(), 0, "no block of them was to be had");
    let header = node.rpc().get("getblockheader", json!([tip.to_string()]));
    assert_eq!(header["height"], 10_236);
}

#[test]
fn a_chain_below_the_minimum_work_is_kept_out() {
    let Some(headers) = data::mainnet_headers() else {
        return;
    };
    let peer = ScriptedPeer::honest(&Network::Mainnet, ServedChain::of_headers(headers));
    // One more than the work of all those headers.
    let least = format!("{:064x}", 10_237_u64 * 0x1_0001_0001 + 1);
    let node = Setup::handfast(Network::Mainnet)
        .arg("--minimum-chain-work")
        .arg(least)
        .connect(peer.address())
        .start();
    wait_for("the whole chain was offered", || {
        (peer.record().header_requests >= 6).then_some(())
    });
    let info = node.rpc().get("getblockchaininfo", json!([]));
    assert_eq!(info["headers"], 0);
    assert_eq!(node.height(), 0);
}

#[test]
fn fourteen_thousand_signet_blocks_are_followed_by_a_reorganization_of_ten() {
    let (Some(blocks), Some(fork)) = (data::signet_blocks(), data::signet_fork()) else {
        return;
    };
    let network = op_true_signet();
    let tip = blocks.last().expect("14,000 blocks").hash;
    let fork_tip = fork.last().expect("12 blocks").hash;
    let peer = ScriptedPeer::honest(&network, ServedChain::new(&network, blocks));
    let node = follower(&network, &peer);
    node.wait_for_tip(tip);

    peer.change_chain(|chain| {
        chain.truncate(SIGNET_FORK_HEIGHT);
        chain.extend(fork);
    });
    node.wait_for_tip(fork_tip);
    assert_eq!(node.height(), 14_002);
    let tips = node.rpc().get("getchaintips", json!([]));
    let stale = tips
        .as_array()
        .expect("a list")
        .iter()
        .find(|row| row["hash"] == tip.to_string());
    let stale = stale.expect("the abandoned branch is known");
    assert_eq!(
        (&stale["status"], &stale["branchlen"]),
        (&json!("valid-fork"), &json!(10))
    );
}

#[test]
fn a_longer_branch_is_followed_and_the_abandoned_one_remembered() {
    let network = Network::Regtest;
    let trunk = empty_blocks(network.genesis(), 0, "trunk", 40);
    let parent = trunk[24].header;
    let branch = empty_blocks(parent, 25, "branch", 20);
    let (old_tip, new_tip) = (trunk[39].hash, branch[19].hash);
    let peer = ScriptedPeer::honest(&network, ServedChain::new(&network, trunk));
    let node = follower(&network, &peer);
    node.wait_for_tip(old_tip);

    peer.change_chain(|chain| {
        chain.truncate(25);
        chain.extend(branch);
    });
    node.wait_for_tip(new_tip);
    assert_eq!(node.height(), 45);
    let old = node
        .rpc()
        .get("getblockheader", json!([old_tip.to_string()]));
    assert_eq!(old["confirmations"], -1);
}

#[test]
fn a_branch_with_as_much_work_changes_nothing() {
    let network = Network::Regtest;
    let trunk = empty_blocks(network.genesis(), 0, "trunk", 30);
    let rival = empty_blocks(trunk[19].header, 20, "rival", 10);
    let (tip, rival_tip) = (trunk[29].hash, rival[9].hash);
    let peer = ScriptedPeer::honest(&network, ServedChain::new(&network, trunk));
    let node = follower(&network, &peer);
    node.wait_for_tip(tip);

    peer.change_chain(|chain| {
        chain.truncate(20);
        chain.extend(rival);
    });
    wait_for("the rival branch is known", || {
        let tips = node.rpc().get("getchaintips", json!([]));
        let known: BTreeSet<String> = tips
            .as_array()?
            .iter()
            .filter_map(|row| Some(row["hash"].as_str()?.to_owned()))
            .collect();
        known.contains(&rival_tip.to_string()).then_some(())
    });
    assert_eq!(node.best_hash(), Some(tip), "first seen stays");
}

#[test]
fn each_new_block_of_a_peer_is_followed() {
    let network = Network::Regtest;
    let mut blocks = empty_blocks(network.genesis(), 0, "growing", 30);
    let later = blocks.split_off(10);
    let first_tip = blocks[9].hash;
    let peer = ScriptedPeer::honest(&network, ServedChain::new(&network, blocks));
    let node = follower(&network, &peer);
    node.wait_for_tip(first_tip);
    for block in later {
        let hash = block.hash;
        peer.change_chain(|chain| chain.extend([block]));
        node.wait_for_tip(hash);
    }
    assert_eq!(peer.record().requests(), 30, "no block was asked for twice");
}
