//! New blocks and reorganizations, told by one program and followed by the other.

use bitcoin::BlockHash;
use handfast_tests::data;
use handfast_tests::generator::empty_blocks;
use handfast_tests::process::{Node, Setup};
use handfast_tests::scripted_peer::{Reaction, ScriptedPeer};
use handfast_tests::served_chain::ServedChain;
use handfast_tests::wait::wait_for;
use handfast_wire::{Message, Network};
use serde_json::json;

use crate::chains::Signet;

/// Bitcoin Core announces nothing while its tip is older than a day, and the chains
/// of the tests are years old.
const TALKATIVE: &str = "-maxtipage=1000000000";

pub(crate) fn mine(node: &Node, count: u32) -> BlockHash {
    // Any address will do: nobody spends from it. This one pays to OP_TRUE (P2WSH).
    let to = "bcrt1qft5p2uhsdcdc3l2ua4ap5qqfg4pjaqlp250x7us7a8qqhrxrxfsqseac85";
    let hashes = node.rpc().get("generatetoaddress", json!([count, to]));
    let last = hashes
        .as_array()
        .and_then(|list| list.last())
        .and_then(|hash| hash.as_str());
    last.expect("hashes of new blocks").parse().expect("a hash")
}

#[test]
fn blocks_that_bitcoind_mines_are_followed_one_by_one() {
    let core = Setup::bitcoind(Network::Regtest).start();
    let ours = Setup::handfast(Network::Regtest)
        .connect(core.p2p())
        .start();
    wait_for("they are connected", || {
        (core.peers().len() == 1).then_some(())
    });
    for _ in 0..5 {
        let tip = mine(&core, 1);
        ours.wait_for_tip(tip);
    }
    let tip = mine(&core, 50);
    ours.wait_for_tip(tip);
}

#[test]
fn a_block_that_bitcoind_mines_goes_through_handfast_to_another_bitcoind() {
    let miner = Setup::bitcoind(Network::Regtest).start();
    let ours = Setup::handfast(Network::Regtest)
        .connect(miner.p2p())
        .start();
    let far = Setup::bitcoind(Network::Regtest)
        .connect(ours.p2p())
        .start();
    wait_for("they are connected", || {
        (ours.peers().len() == 2).then_some(())
    });
    for count in [1, 1, 3] {
        let tip = mine(&miner, count);
        far.wait_for_tip(tip);
    }
}

#[test]
fn a_reorganization_of_ten_in_bitcoind_is_followed() {
    let (Some(chain), Some(fork)) = (Signet::find(), data::signet_fork()) else {
        return;
    };
    let (old_tip, new_tip) = (chain.tip(), fork.last().expect("12 blocks").hash);
    let loader = chain.in_bitcoind();
    let setup = loader.setup().clone().arg(TALKATIVE);
    assert!(loader.stop().success());
    let core = setup.start();
    let ours = Setup::handfast(chain.network).connect(core.p2p()).start();
    ours.wait_for_tip(old_tip);

    core.submit(fork);
    assert_eq!(core.best_hash(), Some(new_tip));
    ours.wait_for_tip(new_tip);
    assert_eq!(ours.height(), 14_002);
}

#[test]
fn a_reorganization_of_ten_in_handfast_is_followed_by_bitcoind() {
    let network = Network::Regtest;
    let trunk = empty_blocks(network.genesis(), 0, "trunk", 40);
    let branch = empty_blocks(trunk[29].header, 30, "branch", 12);
    let (old_tip, new_tip) = (trunk[39].hash, branch[11].hash);
    let ours = Setup::handfast(network.clone()).start();
    ours.submit(trunk);
    let core = Setup::bitcoind(network).connect(ours.p2p()).start();
    core.wait_for_tip(old_tip);

    ours.submit(branch);
    assert_eq!(ours.best_hash(), Some(new_tip));
    core.wait_for_tip(new_tip);
}

#[test]
fn of_three_peers_one_falls_silent_and_one_leaves_and_bitcoind_serves_the_rest() {
    let Some(signet) = Signet::find() else {
        return;
    };
    let (core, tip) = (signet.in_bitcoind(), signet.tip());
    let Signet {
        network, blocks, ..
    } = signet;
    let chain = ServedChain::new(&network, blocks);
    let after = |count: usize, then: Reaction| {
        move |message: &Message, seen: &handfast_tests::scripted_peer::Record, _: &_| match message
        {
            Message::GetData(_) if seen.blocks_sent() >= count => then,
            _ => Reaction::Honest,
        }
    };
    let silent = ScriptedPeer::scripted(
        &network,
        "silent",
        chain.clone(),
        after(500, Reaction::Silence),
    );
    let leaving = ScriptedPeer::scripted(&network, "leaving", chain, after(300, Reaction::Leave));
    let ours = Setup::handfast(network)
        .connect(silent.address())
        .connect(leaving.address())
        .connect(core.p2p())
        .start();
    ours.wait_for_tip(tip);
}

#[test]
fn bitcoind_vanishes_in_the_middle_and_another_takes_over() {
    let Some(chain) = Signet::find() else {
        return;
    };
    let (first, second, tip) = (chain.in_bitcoind(), chain.in_bitcoind(), chain.tip());
    let ours = Setup::handfast(chain.network)
        .connect(first.p2p())
        .connect(second.p2p())
        .start();
    wait_for("the download has begun", || {
        (ours.height() > 0).then_some(())
    });
    first.kill();
    ours.wait_for_tip(tip);
}
