//! The test kit against Bitcoin Core: what our tests call an honest peer, it does too.

use handfast_tests::connection::Connection;
use handfast_tests::generator::{SMALL, overpaying_block};
use handfast_tests::process::Setup;
use handfast_tests::scripted_peer::ScriptedPeer;
use handfast_tests::served_chain::ServedChain;
use handfast_wire::{Message, Network};
use serde_json::json;

#[test]
fn bitcoind_follows_a_scripted_peer() {
    let blocks = SMALL.blocks().expect("the cache can be written");
    let peer = ScriptedPeer::honest(
        &Network::Regtest,
        ServedChain::new(&Network::Regtest, blocks),
    );
    let core = Setup::bitcoind(Network::Regtest)
        .connect(peer.address())
        .start();
    core.wait_for_tip(SMALL.tip());
}

#[test]
fn bitcoind_refuses_the_block_that_we_call_invalid() {
    let core = Setup::bitcoind(Network::Regtest).start();
    let bad = overpaying_block(Network::Regtest.genesis(), 0);
    let hex = bitcoin::hex::DisplayHex::to_lower_hex_string(&bad.bytes[..]);
    assert_eq!(core.rpc().get("submitblock", json!([hex])), "bad-cb-amount");
}

#[test]
fn a_dialled_connection_finishes_the_handshake_with_bitcoind() {
    let core = Setup::bitcoind(Network::Regtest).start();
    let mut client =
        Connection::dial(core.p2p(), &Network::Regtest).expect("the handshake is finished");
    client.send(&Message::Ping(7)).expect("the node reads");
    let nonce = client.expect("a pong came", |message| match message {
        Message::Pong(nonce) => Some(nonce),
        _ => None,
    });
    assert_eq!(nonce, 7);
}
