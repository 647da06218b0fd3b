//! Addresses that go from one program to the other.

use std::time::{SystemTime, UNIX_EPOCH};

use handfast_tests::connection::Connection;
use handfast_tests::process::{Node, Setup};
use handfast_tests::wait::wait_for;
use handfast_wire::{Message, Network};
use serde_json::json;

use crate::following::mine;

fn knows(node: &Node, address: &str) -> bool {
    let rows = node.rpc().get("getnodeaddresses", json!([0]));
    let rows = rows.as_array().expect("a list").clone();
    rows.iter().any(|row| row["address"] == address)
}

/// A client that asks for addresses, and so is told others as they come; what it reads.
fn listener(node: &Node) -> Connection {
    let client = Connection::dial(node.p2p(), &Network::Regtest).expect("it shakes hands");
    client.send(&Message::GetAddr).expect("it reads");
    client
}

/// Waits until the client is told this address.
fn is_told(client: &mut Connection, address: &str) {
    let ip: std::net::IpAddr = address.parse().expect("an address");
    client.expect(&format!("it is told of {address}"), |message| {
        let told = match message {
            Message::Addr(list) => list
                .iter()
                .any(|(_, addr)| addr.socket_addr().is_ok_and(|addr| addr.ip() == ip)),
            Message::AddrV2(list) => list
                .iter()
                .any(|addr| addr.socket_addr().is_ok_and(|addr| addr.ip() == ip)),
            _ => false,
        };
        told.then_some(())
    });
}

#[test]
fn handfast_and_bitcoind_learn_where_the_other_is_and_pass_it_on() {
    let core = Setup::bitcoind(Network::Regtest)
        .arg("-externalip=8.8.4.4")
        .start();
    let mut at_core = listener(&core);
    let ours = Setup::handfast(Network::Regtest)
        .connect(core.p2p())
        .arg("--external-ip")
        .arg("9.9.9.9:8333")
        .start();
    let mut at_ours = listener(&ours);
    // What a peer announces is passed on if it dialled us, and not as the answer to what we
    // asked it: by both programs.
    let guest = Setup::bitcoind(Network::Regtest)
        .arg("-externalip=7.7.7.7")
        .connect(ours.p2p())
        .start();
    wait_for("they are connected", || {
        (ours.peers().len() == 3).then_some(())
    });
    // None is in its initial download then.
    let tip = mine(&core, 1);
    for node in [&ours, &guest] {
        node.wait_for_tip(tip);
    }
    wait_for("bitcoind knows where Handfast is", || {
        knows(&core, "9.9.9.9").then_some(())
    });
    for address in ["8.8.4.4", "7.7.7.7"] {
        wait_for(&format!("Handfast knows of {address}"), || {
            knows(&ours, address).then_some(())
        });
    }
    is_told(&mut at_ours, "7.7.7.7");
    // It waits half a minute on average before it sends addresses.
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("the clock is past 1970");
    let later = now.as_secs() + 600;
    core.rpc().get("setmocktime", json!([later]));
    is_told(&mut at_core, "9.9.9.9");
}

/// The addresses of a node with their scores, as it shows them.
fn scores(node: &Node) -> Vec<(String, u64)> {
    let shown = node.rpc().get("getnetworkinfo", json!([]))["localaddresses"].take();
    let rows = shown.as_array().expect("a list").iter();
    rows.map(|row| {
        assert!(row["port"].is_u64(), "{row}");
        let address = row["address"].as_str().expect("a text").to_owned();
        (address, row["score"].as_u64().expect("a number"))
    })
    .collect()
}

#[test]
fn an_address_of_ours_gains_by_peers_that_came_by_it_as_with_bitcoind() {
    let core = Setup::bitcoind(Network::Regtest)
        .arg("-externalip=8.8.4.4")
        .arg("-externalip=2600::4")
        .start();
    let ours = Setup::handfast(Network::Regtest)
        .arg("--external-ip=8.8.4.4")
        .arg("--external-ip=2600::4")
        .start();
    let row = |address: &str, score| (address.to_owned(), score);
    for node in [&core, &ours] {
        assert_eq!(scores(node), [row("8.8.4.4", 4), row("2600::4", 4)]);
        // Twice by one of them, whatever the port, and once by one that is not ours.
        let _peers = ["8.8.4.4:9", "9.9.9.9:8333", "8.8.4.4:8333"].map(|seen| {
            let seen = seen.parse().expect("an address");
            Connection::dial_seeing(node.p2p(), &Network::Regtest, seen).expect("it shakes hands")
        });
        let expected = [row("8.8.4.4", 6), row("2600::4", 4)];
        wait_for("both have been counted", || {
            (scores(node) == expected).then_some(())
        });
    }
}

#[test]
fn a_ban_is_read_and_shown_as_bitcoind_does_it_in_every_spelling() {
    let core = Setup::bitcoind(Network::Regtest).start();
    let ours = Setup::handfast(Network::Regtest).start();
    let onion = "aaaqeayeaudaocajbifqydiob4ibceqtcqkrmfyydenbwha5dyp3kead.onion";
    let i2p = "ukeu3k5oycgaauneqgtnvselmt4yemvoilkln7jpvamvfx7dnkdq.b32.i2p";
    for spelling in [
        "127.1",
        "0x7f.1",
        "2130706433",
        "[::ffff:7f00:1]",
        "127.1/8",
        "1.2.3.4/08",
        "::ffff:1.2.3.0/24",
        "1.2.3.4:8333",
        "fc00::1",
        "fd87:d87e:eb43::1",
        "fd6b:88c0:8724::1",
        onion,
        &onion.to_ascii_uppercase(),
        &format!("{onion}."),
        &format!("{onion}:8333"),
        &format!("{onion}/0"),
        &onion.replacen('a', "b", 1),
        i2p,
        &i2p.to_ascii_uppercase(),
        "aaaaaaaaaaaaaaaa.onion",
        "",
    ] {
        let answers = [&core, &ours].map(|node| {
            let ban = |command: &str| {
                let answer = node.rpc().call("setban", json!([spelling, command]));
                answer.map_err(|error| error.to_string())
            };
            let (added, again) = (ban("add"), ban("add"));
            let shown = node.rpc().get("listbanned", json!([]));
            let shown = shown.as_array().expect("a list").iter();
            let shown: Vec<_> = shown.map(|row| row["address"].clone()).collect();
            (added, again, shown, ban("remove"))
        });
        assert_eq!(answers[0], answers[1], "{spelling:?}");
    }
}
