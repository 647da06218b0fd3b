//! Ends of every kind, and what the next start makes of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use handfast_tests::generator::{SMALL, empty_blocks};
use handfast_tests::process::Setup;
use handfast_tests::scripted_peer::{Reaction, ScriptedPeer};
use handfast_tests::served_chain::ServedChain;
use handfast_tests::wait::wait_for;
use handfast_wire::{Message, Network, RawBlock};
use rustix::process::Signal;
use serde_json::json;

fn served(blocks: &[RawBlock]) -> ServedChain {
    ServedChain::new(&Network::Regtest, blocks.iter().cloned())
}

/// A short pseudo-random sequence that owns its seed (Numerical Recipes' constants).
struct Chance(u32);

impl Chance {
    fn below(&mut self, bound: u32) -> u32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 8) % bound
    }
}

#[test]
fn killed_ten_times_during_sync_it_comes_up_and_ends_at_the_right_tip() {
    let blocks = empty_blocks(Network::Regtest.genesis(), 0, "long", 1_500);
    let tip = blocks.last().expect("there are blocks").hash;
    let peer = ScriptedPeer::honest(&Network::Regtest, served(&blocks));
    let setup = Setup::handfast(Network::Regtest).connect(peer.address());
    let mut chance = Chance(2);
    for round in 0..10 {
        // The moment is a number of blocks, not of milliseconds: it means the same
        // on a slow machine.
        let moment = 1 + chance.below(1_400) as usize;
        let before = peer.record().blocks_sent();
        let mut node = setup.spawn();
        wait_for(
            &format!("round {round}: {moment} blocks are sent, or all it lacked"),
            || {
                let sent = peer.record().blocks_sent() - before;
                (sent >= moment || node.best_hash() == Some(tip)).then_some(())
            },
        );
        assert!(node.is_running(), "round {round}: {}", node.output());
        node.kill();
    }
    let node = setup.start();
    node.wait_for_tip(tip);
    let info = node.rpc().get("getblockchaininfo", json!([]));
    assert_eq!(
        (&info["blocks"], &info["headers"]),
        (&json!(1_500), &json!(1_500))
    );
}

#[test]
fn after_a_clean_stop_nothing_is_downloaded_twice() {
    let blocks = SMALL.blocks().expect("the cache can be written");
    let peer = ScriptedPeer::honest(&Network::Regtest, served(&blocks));
    let setup = Setup::handfast(Network::Regtest).connect(peer.address());
    let node = setup.start();
    node.wait_for_tip(SMALL.tip());
    let status = node.stop();
    assert!(status.success(), "{status}");
    assert_eq!(peer.record().requests(), 130);

    let node = setup.start();
    assert_eq!(
        node.best_hash(),
        Some(SMALL.tip()),
        "the chain is there before any peer is"
    );
    // One more block shows that the peer is connected and asked for what is new only.
    let next = empty_blocks(blocks[129].header, 130, "next", 1);
    let hash = next[0].hash;
    wait_for("the peer is connected again", || {
        (peer.record().connections == 2).then_some(())
    });
    peer.change_chain(|chain| chain.extend(next));
    node.wait_for_tip(hash);
    assert_eq!(peer.record().requests(), 131);
}

#[test]
fn stopped_in_the_middle_of_sync_it_goes_on_where_it_was() {
    let blocks = empty_blocks(Network::Regtest.genesis(), 0, "middle", 1_500);
    let tip = blocks.last().expect("there are blocks").hash;
    // Serves a first part; the rest only when it is let.
    let rest = Arc::new(AtomicBool::new(false));
    let allowed = Arc::clone(&rest);
    let peer = ScriptedPeer::scripted(
        &Network::Regtest,
        "slow",
        served(&blocks),
        move |message, seen, _| match message {
            Message::GetData(_) if seen.blocks_sent() >= 800 && !allowed.load(Ordering::SeqCst) => {
                Reaction::Silence
            }
            _ => Reaction::Honest,
        },
    );
    let setup = Setup::handfast(Network::Regtest).connect(peer.address());
    let node = setup.start();
    wait_for("the first part is validated", || {
        (node.height() >= 800).then_some(())
    });
    let height = usize::try_from(node.height()).expect("a short chain");
    let status = node.stop();
    assert!(status.success(), "{status}");

    rest.store(true, Ordering::SeqCst);
    let node = setup.start();
    node.wait_for_tip(tip);
    let sent = peer.record().sent;
    assert_eq!(sent.len(), 1_500);
    for block in &blocks[..height] {
        assert_eq!(
            sent[&block.hash], 1,
            "a block that was validated is not sent again"
        );
    }
}

#[test]
fn both_signals_and_the_rpc_stop_it_cleanly() {
    for how in ["SIGINT", "SIGTERM", "stop"] {
        let mut node = Setup::handfast(Network::Regtest).start();
        match how {
            "SIGINT" => node.signal(Signal::INT),
            "SIGTERM" => node.signal(Signal::TERM),
            _ => {
                node.rpc().get("stop", json!([]));
            }
        }
        let status = node.wait_for_exit();
        assert!(status.success(), "{how}: {status}: {}", node.output());
    }
}

#[test]
fn a_second_node_on_the_same_directory_is_refused_and_harms_nothing() {
    let mut first = Setup::handfast(Network::Regtest).start();
    let mut second = first.setup().spawn_beside();
    let status = second.wait_for_exit();
    assert_eq!(status.code(), Some(1), "{}", second.output());
    drop(second);
    assert!(first.is_running());
    assert_eq!(first.height(), 0, "the first still answers");
}

#[test]
fn the_unix_socket_answers_like_tcp() {
    let node = Setup::handfast(Network::Regtest).start();
    let over_tcp = node.rpc().get("getblockchaininfo", json!([]));
    let over_unix = node.unix_rpc().get("getblockchaininfo", json!([]));
    assert_eq!(over_tcp["bestblockhash"], over_unix["bestblockhash"]);
    assert_eq!(over_tcp["chain"], "regtest");
}
