//! What becomes of a connection that is not wanted, and what is told of each one that
//! ended: once, with how far it came and why.

use std::collections::BTreeSet;
use std::net::TcpStream;

use handfast_tests::connection::Connection;
use handfast_tests::process::{Node, Setup};
use handfast_tests::wait::wait_for;
use handfast_wire::{Message, Network};
use serde_json::{Value, json};

fn node_with_inbound(slots: usize) -> Node {
    Setup::handfast(Network::Regtest)
        .arg("--max-inbound")
        .arg(slots.to_string())
        .start()
}

fn connected(node: &Node) -> Connection {
    let stream = TcpStream::connect(node.p2p()).expect("the backlog has room");
    Connection::new(stream, &Network::Regtest).expect("a socket can be set up")
}

/// A peer that the node knows by `name`, handshake complete.
fn dialled(node: &Node, name: &str) -> Connection {
    Connection::dial_as(node.p2p(), &Network::Regtest, 1_000_000, name)
        .expect("the node shakes hands")
}

/// The node's id for an admitted peer.
fn id_of(node: &Node, name: &str) -> u64 {
    wait_for("the peer is in the table", || {
        let rows = node.peers();
        let admitted = |row: &&Value| row["subver"] == name && !is_half_open(row);
        rows.iter().find(admitted)?["id"].as_u64()
    })
}

/// Whether the handshake of a row of `getpeerinfo` goes on.
fn is_half_open(row: &Value) -> bool {
    row["handfast"]["half_open"] == true
}

/// The rows of the history, once there are as many as that.
fn history(node: &Node, count: usize) -> Vec<Value> {
    wait_for(&format!("{count} connections have ended"), || {
        let rows = node.peer_history();
        (rows.len() >= count).then_some(rows)
    })
}

fn audit(node: &Node) -> Value {
    node.rpc().get("audit", json!([]))
}

/// Waits until no more connections are open than those in the peer table, and says
/// which. The three tables agree then, and every other slot is home.
fn settled(node: &Node) -> BTreeSet<u64> {
    let audit = wait_for("the tables agree", || {
        let audit = audit(node);
        let open = audit["peer_table"].as_array()?.len();
        let counts = [&audit["sockets"], &audit["slots_taken"]];
        (audit["agrees"] == true && counts.iter().all(|count| **count == open)).then_some(audit)
    });
    assert_eq!(audit["peer_table"], audit["sync_table"], "{audit}");
    if let Some(lines) = audit["invariants"].as_array() {
        for line in lines {
            assert_eq!(line["held"], true, "{line}");
        }
    }
    let rows = audit["peer_table"].as_array().expect("a list");
    rows.iter().filter_map(Value::as_u64).collect()
}

/// How often SyncManager was told of a peer.
fn sync_adds(node: &Node) -> u64 {
    let handled = audit(node)["handled"]["syncmanager"]["adds"].as_u64();
    handled.expect("audit counts what was handled")
}

#[test]
fn both_ends_of_a_connection_are_told_alike_on_both_sides() {
    let far = Setup::handfast(Network::Regtest).start();
    let near = Setup::handfast(Network::Regtest)
        .arg("--connect")
        .arg(far.p2p().to_string())
        .start();
    let row = |node: &Node| {
        wait_for("they are connected", || {
            node.peers().into_iter().find(|row| !is_half_open(row))
        })
    };
    let (near, far) = (row(&near), row(&far));
    assert_eq!(near["addrbind"], far["addr"]);
    assert_eq!(far["addrbind"], near["addr"]);
    // As the other side says in its `version`.
    assert_eq!(near["addrlocal"], near["addrbind"]);
    assert_eq!(far["addrlocal"], far["addrbind"]);
}

#[test]
fn the_only_slot_stays_with_its_holder_and_sync_never_hears_of_who_was_refused() {
    let node = node_with_inbound(1);
    let holder = dialled(&node, "/holder/");
    let held = id_of(&node, "/holder/");
    for round in 1..=5 {
        let mut refused = dialled(&node, "/refused/");
        assert!(refused.is_closed_by_node());
        let rows = history(&node, round);
        assert_eq!(rows.len(), round, "each ends once");
        let row = &rows[round - 1];
        assert_eq!(
            row["reason"], "refused: all 1 inbound slots are taken",
            "{row}"
        );
        assert_eq!(row["reached"], "handshake completed", "{row}");
        assert_eq!(row["subver"], "/refused/", "{row}");
        assert_eq!(settled(&node), BTreeSet::from([held]));
    }
    assert_eq!(sync_adds(&node), 1, "the holder and nobody else");
    // The slot is not lost with its holder.
    drop(holder);
    history(&node, 6);
    let _next = dialled(&node, "/next/");
    let next = id_of(&node, "/next/");
    assert_eq!(settled(&node), BTreeSet::from([next]));
}

/// The user agents of the peers in the table.
fn names(node: &Node) -> BTreeSet<String> {
    let rows = node.peers().into_iter().filter(|row| !is_half_open(row));
    rows.filter_map(|row| Some(row["subver"].as_str()?.to_owned()))
        .collect()
}

#[test]
fn newcomers_do_not_push_each_other_out_and_the_younger_peer_makes_way_in_time() {
    let node = node_with_inbound(2);
    let _oldest = dialled(&node, "/oldest/");
    let oldest = id_of(&node, "/oldest/");
    let mut younger = dialled(&node, "/younger/");
    let younger_id = id_of(&node, "/younger/");
    let mut turned_away = 0;
    // Fifty of them at once, and then one until it gets in.
    let mut callers: Vec<Connection> = (0..50)
        .map(|n| dialled(&node, &format!("/newcomer-{n}/")))
        .collect();
    let admitted = loop {
        for mut caller in callers.drain(..) {
            assert!(caller.is_closed_by_node());
            turned_away += 1;
        }
        let name = format!("/newcomer-{}/", 50 + turned_away);
        let mut caller = dialled(&node, &name);
        let is_in = wait_for("it is admitted or closed", || {
            let is_in = names(&node).contains(&name);
            let refused = node.peer_history().iter().any(|row| row["subver"] == name);
            (is_in || refused).then_some(is_in)
        });
        if is_in {
            break caller;
        }
        assert!(caller.is_closed_by_node());
        turned_away += 1;
        // The history has 1,000 rows: one try a second.
        let uptime = || node.rpc().get("uptime", json!([])).as_u64();
        let before = uptime();
        wait_for("a second has passed", || (uptime() > before).then_some(()));
    };
    assert!(younger.is_closed_by_node());
    let rows = history(&node, turned_away + 1);
    let (evicted, refused): (Vec<&Value>, Vec<&Value>) = rows
        .iter()
        .partition(|row| row["reason"] == "evicted in favour of others");
    assert_eq!(evicted.len(), 1, "{evicted:?}");
    assert_eq!(evicted[0]["id"], younger_id);
    let why = "refused: all inbound slots are taken, one by a peer that was just admitted";
    for row in &refused {
        assert_eq!(row["reason"], why, "{row}");
    }
    assert_eq!(refused.len(), turned_away);
    let open = settled(&node);
    assert!(open.contains(&oldest) && open.len() == 2, "{open:?}");
    assert_eq!(sync_adds(&node), 3, "of the newcomers one was admitted");
    drop(admitted);
}

#[test]
fn a_connection_in_the_handshake_is_listed_with_what_it_has_said() {
    let node = node_with_inbound(8);
    let silent = connected(&node);
    let half = connected(&node);
    half.send_version(7, "/half/").expect("the node reads");
    let _whole = dialled(&node, "/whole/");
    id_of(&node, "/whole/");
    let rows = wait_for("the version was read", || {
        let rows = node.peers();
        let said = |name: &str| rows.iter().any(|row| row["subver"] == name);
        (rows.len() == 3 && said("/half/")).then_some(rows)
    });
    let shown: BTreeSet<(String, u64, bool)> = rows
        .iter()
        .map(|row| {
            let name = row["subver"].as_str().expect("a text").to_owned();
            let version = row["version"].as_u64().expect("a number");
            (name, version, is_half_open(row))
        })
        .collect();
    let expected = [
        ("", 0, true),
        ("/half/", 70_016, true),
        ("/whole/", 70_016, false),
    ];
    let expected = expected.map(|(name, version, half)| (name.to_owned(), version, half));
    assert_eq!(shown, BTreeSet::from(expected));
    let connected = silent.local_addr().to_string();
    assert!(rows.iter().any(|row| row["addr"] == connected));
    drop((silent, half));
    wait_for("they are listed no more", || {
        (node.peers().len() == 1).then_some(())
    });
}

/// What is said of the number of connections: all of them, and those that came in.
fn counted(node: &Node) -> Value {
    // Between two questions one may come or go.
    wait_for("both counts are the same", || {
        let info = node.rpc().get("getnetworkinfo", json!([]));
        let count = node.rpc().get("getconnectioncount", json!([]));
        let parts = [&info["connections_in"], &info["connections_out"]];
        (info["connections"] == count).then(|| json!([count, parts[0], parts[1]]))
    })
}

#[test]
fn a_connection_in_the_handshake_is_counted_and_ended_by_id_by_address_by_a_ban_and_by_the_switch()
{
    let node = node_with_inbound(8);
    let [mut by_id, mut by_address, mut banned] = [(); 3].map(|()| connected(&node));
    by_id.send_version(7, "/half/").expect("the node reads");
    let _whole = dialled(&node, "/whole/");
    let half_open = |subver: &str| {
        let rows = node.peers();
        let row = rows
            .iter()
            .find(|row| row["subver"] == subver && is_half_open(row));
        row.map(|row| row["id"].clone())
    };
    wait_for("all are counted", || {
        (counted(&node) == json!([4, 4, 0]) && half_open("/half/").is_some()).then_some(())
    });
    let id = half_open("/half/").expect("it is listed");
    let disconnect = |params: Value| node.rpc().call("disconnectnode", params);
    disconnect(json!(["", id])).expect("it is connected");
    assert!(by_id.is_closed_by_node());
    wait_for("it is counted no more", || {
        (counted(&node) == json!([3, 3, 0])).then_some(())
    });
    let gone = disconnect(json!(["", id]))
        .expect_err("it has gone")
        .to_string();
    assert_eq!(gone, "error -29: Node not found in connected nodes");

    // In another spelling than that of `getpeerinfo`.
    let port = by_address.local_addr().port();
    let spelling = format!("[::ffff:127.0.0.1]:{port}");
    disconnect(json!([spelling])).expect("it is connected");
    assert!(by_address.is_closed_by_node());
    node.rpc().get("setban", json!(["127.1", "add"]));
    assert!(banned.is_closed_by_node());
    node.rpc().get("clearbanned", json!([]));
    wait_for("none is left", || {
        (counted(&node) == json!([0, 0, 0])).then_some(())
    });

    let mut switched_off = connected(&node);
    wait_for("it is counted", || {
        (counted(&node) == json!([1, 1, 0])).then_some(())
    });
    node.rpc().get("setnetworkactive", json!([false]));
    assert!(switched_off.is_closed_by_node());
    let reasons: BTreeSet<(String, String)> = history(&node, 5)
        .iter()
        .filter(|row| row["reached"] != "admitted")
        .map(|row| (row["reached"].to_string(), row["reason"].to_string()))
        .collect();
    let row = |reached: &str, reason: &str| (format!("{reached:?}"), format!("{reason:?}"));
    let expected = [
        row("connected", "disconnected by request"),
        row("connected", "its address is banned (setban)"),
        row("version received", "disconnected by request"),
    ];
    assert_eq!(reasons, BTreeSet::from(expected));
    assert_eq!(settled(&node), BTreeSet::new());
}

/// Reads until the node's `wanted` has come.
fn read_until(connection: &mut Connection, wanted: impl Fn(&Message) -> bool) {
    connection.expect("the handshake went on", |message| {
        wanted(&message).then_some(())
    });
}

#[test]
fn the_history_tells_of_each_end_how_far_it_came_how_long_it_took_and_why() {
    let node = Setup::handfast(Network::Regtest).start();
    let closed = "the peer closed the connection";
    let mut told = Vec::new();
    let mut expect = |reached: &'static str, subver: Option<&str>, reason: &'static str, addr| {
        told.push((reached, subver.map(str::to_owned), reason, addr));
        history(&node, told.len());
    };

    let before_version = connected(&node);
    let addr = before_version.local_addr();
    before_version.leave();
    expect("connected", None, closed, addr);

    let mut after_version = connected(&node);
    after_version
        .send_version(0, "/after-version/")
        .expect("the node reads");
    read_until(&mut after_version, |message| {
        matches!(message, Message::Verack)
    });
    let addr = after_version.local_addr();
    after_version.leave();
    expect("version received", None, closed, addr);

    let after_verack = dialled(&node, "/after-verack/");
    id_of(&node, "/after-verack/");
    let addr = after_verack.local_addr();
    after_verack.leave();
    expect("admitted", Some("/after-verack/"), closed, addr);

    let mut told_to_go = dialled(&node, "/told-to-go/");
    let id = id_of(&node, "/told-to-go/");
    node.rpc().get("disconnectnode", json!(["", id]));
    assert!(told_to_go.is_closed_by_node());
    expect(
        "admitted",
        Some("/told-to-go/"),
        "disconnected by request",
        told_to_go.local_addr(),
    );

    let mut banned = dialled(&node, "/banned/");
    id_of(&node, "/banned/");
    node.rpc().get("setban", json!(["127.0.0.1", "add"]));
    assert!(banned.is_closed_by_node());
    expect(
        "admitted",
        Some("/banned/"),
        "its address is banned (setban)",
        banned.local_addr(),
    );

    let rows = node.peer_history();
    assert_eq!(rows.len(), told.len(), "each ended once");
    for (row, (reached, subver, reason, addr)) in rows.iter().zip(told) {
        assert_eq!(row["reached"], reached, "{row}");
        assert_eq!(row["subver"], json!(subver), "{row}");
        assert_eq!(row["reason"], reason, "{row}");
        assert_eq!(row["addr"], addr.to_string(), "{row}");
        assert_eq!(row["direction"], "inbound", "{row}");
        assert!(
            row["duration"].as_f64().is_some_and(|took| took > 0.0),
            "{row}"
        );
        assert!(row["connected"].as_u64() <= row["ended"].as_u64(), "{row}");
    }
    assert_eq!(settled(&node), BTreeSet::new());
}
