//! A whole node, started as a user starts it: RPC over both sockets, the files
//! it makes and removes, signals. Runs the built programs on regtest, loopback only.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use handfast_disk::testing::{SpecialFile, put_special_file};
use handfast_tests::process::Program;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Time limit for any machine; an awaited condition usually takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(60);

struct Node {
    home: TempDir,
    child: Child,
}

impl Node {
    fn start() -> Self {
        Self::start_in(tempfile::tempdir().expect("a temporary directory"))
    }

    /// Starts a node and waits until its chain is open.
    fn start_in(home: TempDir) -> Self {
        let child = command(&home, "run")
            .args(["--listen", "127.0.0.1:0", "--rpc-listen", "127.0.0.1:0"])
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary runs");
        let mut node = Self { home, child };
        let deadline = Instant::now() + PATIENCE;
        while !node.rpc(&["getblockcount"]).status.success() {
            assert!(
                node.child.try_wait().expect("waitable").is_none(),
                "it ended: {}",
                node.log()
            );
            assert!(
                Instant::now() < deadline,
                "it does not answer: {}",
                node.log()
            );
        }
        node
    }

    fn dir(&self) -> PathBuf {
        self.home.path().join("data/regtest")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir().join("handfast.log")).unwrap_or_default()
    }

    fn rpc(&self, arguments: &[&str]) -> Output {
        command(&self.home, "rpc")
            .args(arguments)
            .output()
            .expect("the binary runs")
    }

    /// What `handfast rpc` prints.
    #[track_caller]
    fn result(&self, arguments: &[&str]) -> String {
        let output = self.rpc(arguments);
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout)
            .expect("UTF-8")
            .trim_end()
            .to_owned()
    }

    #[track_caller]
    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.result(arguments)).expect("JSON")
    }

    /// One raw HTTP exchange over the Unix socket: status and body.
    fn unix(&self, request: &str) -> (u16, String) {
        exchange(
            UnixStream::connect(self.dir().join("node.sock")).expect("the node accepts"),
            request,
        )
    }

    fn tcp(&self, request: &str) -> (u16, String) {
        exchange(
            TcpStream::connect(self.tcp_address()).expect("the node accepts"),
            request,
        )
    }

    /// The port that the system assigned, from the log.
    fn tcp_address(&self) -> SocketAddr {
        let log = self.log();
        let (_, rest) = log
            .split_once("RPC server started addresses=[")
            .expect("the log names it");
        let (addr, _) = rest.split_once(']').expect("the list ends");
        addr.parse().expect("an address")
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill")
            .args([name, &pid])
            .status()
            .expect("kill runs");
        assert!(status.success());
    }

    fn wait(&mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("waitable") {
                return status.code();
            }
            assert!(Instant::now() < deadline, "it does not end: {}", self.log());
            std::thread::yield_now();
        }
    }

    fn stop(mut self) -> TempDir {
        self.signal("-TERM");
        assert_eq!(self.wait(), Some(0), "{}", self.log());
        std::mem::replace(
            &mut self.home,
            tempfile::tempdir().expect("a temporary directory"),
        )
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Only the child of this test; it may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(home: &TempDir, subcommand: &str) -> Command {
    let mut command = Command::new(Program::Handfast.path());
    command
        .args([subcommand, "--network", "regtest", "--datadir"])
        .arg(home.path().join("data"));
    command
}

fn exchange(mut stream: impl Read + Write, request: &str) -> (u16, String) {
    stream.write_all(request.as_bytes()).expect("written");
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .expect("an answer, then the end");
    let status = answer
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .expect("a status line");
    let body = answer
        .split_once("\r\n\r\n")
        .map(|(_, body)| body.to_owned())
        .unwrap_or_default();
    (status, body)
}

fn post(path: &str, authorization: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{authorization}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[test]
fn a_node_answers_calls_and_leaves_nothing_behind_when_it_stops() {
    let node = Node::start();
    let genesis = "0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206";
    assert_eq!(node.result(&["getbestblockhash"]), genesis);
    assert_eq!(node.result(&["getblockhash", "0"]), genesis);
    assert_eq!(node.json(&["getconnectioncount"]), 0);

    let info = node.json(&["getblockchaininfo"]);
    for (field, value) in [
        ("chain", json!("regtest")),
        ("blocks", json!(0)),
        ("headers", json!(0)),
        ("bits", json!("207fffff")),
        ("time", json!(1296688602)),
        ("pruned", json!(false)),
        ("warnings", json!([])),
    ] {
        assert_eq!(info[field], value, "{field}");
    }
    assert_eq!(node.json(&["audit"])["agrees"], true);
    assert_eq!(node.json(&["getsyncstate"])["phase"], "no peers");
    assert_eq!(node.json(&["getchaintips"])[0]["status"], "active");

    let status = command(&node.home, "status")
        .output()
        .expect("the binary runs");
    let status = String::from_utf8(status.stdout).expect("UTF-8");
    assert!(
        status.contains("Network   regtest") && status.contains("Blocks    0 "),
        "{status}"
    );

    let dir = node.dir();
    for private in [".cookie", "node.sock"] {
        let mode = fs::metadata(dir.join(private))
            .expect("it is there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{private}");
    }
    assert_eq!(node.result(&["stop"]), "Handfast stopping");
    let mut node = node;
    assert_eq!(node.wait(), Some(0), "{}", node.log());
    assert!(!dir.join(".cookie").exists() && !dir.join("node.sock").exists());
}

#[test]
fn the_genesis_block_is_shown_at_every_verbosity() {
    let node = Node::start();
    let genesis = node.result(&["getbestblockhash"]);
    let raw = node.result(&["getblock", &genesis, "0"]);
    assert_eq!(raw.len(), 2 * 285);
    assert_eq!(
        node.result(&["getblockheader", &genesis, "false"]),
        raw[..160]
    );

    let ids = node.json(&["getblock", &genesis]);
    let coinbase = "4a5e1e4baab89f3a32518a88c31bc87f618f76673e2cc77ab2127b7afdeda33b";
    assert_eq!(ids["tx"], json!([coinbase]));
    assert_eq!(
        (&ids["size"], &ids["strippedsize"], &ids["weight"]),
        (&json!(285), &json!(285), &json!(1140))
    );
    assert_eq!((&ids["confirmations"], &ids["nTx"]), (&json!(1), &json!(1)));
    assert_eq!(ids.get("previousblockhash"), None);

    for verbosity in ["2", "3"] {
        let block = node.json(&["getblock", &genesis, verbosity]);
        let transaction = &block["tx"][0];
        assert_eq!(transaction["txid"], coinbase);
        assert_eq!(transaction["vout"][0]["value"].to_string(), "50.00000000");
        assert_eq!(transaction["vout"][0]["scriptPubKey"]["type"], "pubkey");
        assert_eq!(transaction["vin"][0]["sequence"], 4_294_967_295u32);
        assert!(
            transaction["vin"][0]["coinbase"]
                .as_str()
                .is_some_and(|script| script.starts_with("04ffff001d"))
        );
    }
}

#[test]
fn errors_have_the_code_and_the_exit_code_of_core() {
    let node = Node::start();
    let zeros = "0".repeat(64);
    for (arguments, code, message) in [
        (&["getblockhash", "1"][..], -8, "Block height out of range"),
        (&["getblock", &zeros], -5, "Block not found"),
        (
            &["getblock", "00"],
            -8,
            "blockhash must be of length 64 (not 2, for '00')",
        ),
        (&["getblockcount", "1"], -1, "getblockcount"),
        (&["submitblock", "00"], -22, "Block decode failed"),
        (&["submitheader", "00"], -22, "Block header decode failed"),
        (
            &["addnode", "127.0.0.1:1", "remove"],
            -24,
            "Error: Node could not be removed",
        ),
        (
            &["addnode", "127.0.0.1:1", "dance"],
            -1,
            "addnode \"node\" \"command\"",
        ),
        (
            &["disconnectnode", "127.0.0.1:1"],
            -29,
            "Node not found in connected nodes",
        ),
        (
            &["disconnectnode", "127.0.0.1:1", "3"],
            -32602,
            "Only one of address and nodeid",
        ),
        (&["getmoon"], -32601, "Method not found"),
    ] {
        let output = node.rpc(arguments);
        let text = String::from_utf8(output.stderr).expect("UTF-8");
        assert!(
            text.starts_with(&format!("error code: {code}\nerror message:\n{message}")),
            "{arguments:?}: {text}"
        );
        assert_eq!(output.status.code(), Some(-code & 0xff), "{arguments:?}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn bans_are_made_listed_and_lifted_as_in_core_and_outlast_a_restart() {
    let node = Node::start();
    for (arguments, code, message) in [
        (
            &["setban", "192.0.2.7", "dance"][..],
            -1,
            "setban \"subnet\" \"command\"",
        ),
        (
            &["setban", "node.example", "add"],
            -30,
            "Error: Invalid IP/Subnet",
        ),
        (
            &["setban", "192.0.2.7/33", "add"],
            -30,
            "Error: Invalid IP/Subnet",
        ),
        (
            &["setban", "192.0.2.7", "remove"],
            -30,
            "Error: Unban failed. Requested address/subnet was not previously manually banned.",
        ),
        (
            &["setban", "192.0.2.7", "add", "1700000000", "true"],
            -8,
            "Error: Absolute timestamp is in the past",
        ),
    ] {
        let output = node.rpc(arguments);
        let text = String::from_utf8(output.stderr).expect("UTF-8");
        let wanted = format!("error code: {code}\nerror message:\n{message}");
        assert!(text.starts_with(&wanted), "{arguments:?}: {text}");
    }
    assert_eq!(node.json(&["listbanned"]), json!([]));

    node.result(&["setban", "192.0.2.7/24", "add", "600"]);
    node.result(&["setban", "2001:470::1", "add"]);
    node.result(&["setban", "198.51.100.1", "add", "4000000000", "true"]);
    let again = node.rpc(&["setban", "192.0.2.7", "add"]);
    let text = String::from_utf8(again.stderr).expect("UTF-8");
    assert!(
        text.starts_with("error code: -23\nerror message:\nError: IP/Subnet already banned"),
        "{text}"
    );
    let listed = node.json(&["listbanned"]);
    let column = |name: &str| -> Vec<Value> {
        let rows = listed.as_array().expect("a list");
        rows.iter().map(|row| row[name].clone()).collect()
    };
    assert_eq!(
        column("address"),
        ["192.0.2.0/24", "198.51.100.1/32", "2001:470::1/128"]
    );
    let durations = column("ban_duration");
    assert_eq!(
        (&durations[0], &durations[2]),
        (&json!(600), &json!(86_400))
    );
    assert_eq!(column("banned_until")[1], json!(4_000_000_000u64));
    assert!(
        column("time_remaining")[0]
            .as_i64()
            .is_some_and(|left| left <= 600)
    );

    let node = Node::start_in(node.stop());
    assert_eq!(node.json(&["listbanned"]).as_array().map(Vec::len), Some(3));
    node.result(&["setban", "192.0.2.0/24", "remove"]);
    assert_eq!(node.json(&["listbanned"]).as_array().map(Vec::len), Some(2));
    node.result(&["clearbanned"]);
    assert_eq!(node.json(&["listbanned"]), json!([]));
}

#[test]
fn tcp_requires_the_cookie_and_the_unix_socket_does_not() {
    let node = Node::start();
    let call = r#"{"method":"getblockcount","id":"x"}"#;
    let ok = (
        200,
        "{\"result\":0,\"error\":null,\"id\":\"x\"}\n".to_owned(),
    );
    assert_eq!(node.unix(&post("/", "", call)), ok);

    let cookie = fs::read_to_string(node.dir().join(".cookie")).expect("it is there");
    let basic =
        |credentials: &str| format!("Authorization: Basic {}\r\n", STANDARD.encode(credentials));
    assert_eq!(node.tcp(&post("/", &basic(&cookie), call)), ok);
    for wrong in [
        String::new(),
        basic("__cookie__:0"),
        basic(""),
        "Authorization: Bearer x\r\n".into(),
    ] {
        assert_eq!(node.tcp(&post("/", &wrong, call)).0, 401, "{wrong}");
    }
}

#[test]
fn http_statuses_are_those_of_core() {
    let node = Node::start();
    let status = |request: &str| node.unix(request).0;
    assert_eq!(
        status("GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"),
        405
    );
    assert_eq!(status(&post("/wallet/x", "", "{}")), 404);
    assert_eq!(status(&post("/", "", "{}")), 400);
    assert_eq!(status(&post("/", "", "garbage")), 500);
    assert_eq!(status(&post("/", "", r#"{"method":"getmoon"}"#)), 404);
    assert_eq!(
        status(&post("/", "", r#"{"method":"getblockhash","params":[9]}"#)),
        500
    );
    assert_eq!(
        status(&post(
            "/",
            "",
            r#"{"jsonrpc":"2.0","method":"getmoon","id":1}"#
        )),
        200
    );
    assert_eq!(
        status(&post(
            "/",
            "",
            r#"{"jsonrpc":"2.0","method":"getblockcount"}"#
        )),
        204
    );
    let too_long = "POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 33554433\r\n\r\n";
    assert_eq!(status(too_long), 413);
}

#[test]
fn one_connection_carries_many_calls_whole_split_and_pipelined() {
    let node = Node::start();
    let mut stream = UnixStream::connect(node.dir().join("node.sock")).expect("the node accepts");
    let request = |id: u32, close: &str| {
        let body = format!(r#"{{"method":"uptime","id":{id}}}"#);
        format!(
            "POST / HTTP/1.1\r\nHost: localhost\r\n{close}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let first = request(1, "");
    let (head, tail) = first.split_at(60);
    stream.write_all(head.as_bytes()).expect("written");
    stream.flush().expect("flushed");
    stream.write_all(tail.as_bytes()).expect("written");
    let pipelined = [
        request(2, ""),
        request(3, ""),
        request(4, "Connection: close\r\n"),
    ]
    .concat();
    stream.write_all(pipelined.as_bytes()).expect("written");
    let mut answers = String::new();
    stream
        .read_to_string(&mut answers)
        .expect("four answers, then the end");
    for id in 1..=4 {
        assert!(
            answers.contains(&format!("\"error\":null,\"id\":{id}}}")),
            "{id}: {answers}"
        );
    }
}

#[test]
fn a_second_node_in_the_same_directory_is_refused_and_the_first_one_keeps_running() {
    let node = Node::start();
    let second = command(&node.home, "run")
        .args([
            "--listen",
            "127.0.0.1:0",
            "--rpc-listen",
            "127.0.0.1:0",
            "--rpc-socket",
        ])
        .arg(node.home.path().join("other.sock"))
        .output()
        .expect("the binary runs");
    let line = String::from_utf8(second.stderr).expect("UTF-8");
    assert_eq!(second.status.code(), Some(1), "{line}");
    assert!(
        line.contains("another Handfast node is using this data directory"),
        "{line}"
    );
    assert!(!node.home.path().join("other.sock").exists());
    assert_eq!(node.result(&["getblockcount"]), "0");
}

#[test]
fn a_node_that_was_killed_is_started_again_over_its_stale_files() {
    let mut node = Node::start();
    node.signal("-KILL");
    node.wait();
    let dir = node.dir();
    assert!(
        dir.join("node.sock").exists() && dir.join(".cookie").exists(),
        "they are still there"
    );
    let home = std::mem::replace(
        &mut node.home,
        tempfile::tempdir().expect("a temporary directory"),
    );
    let node = Node::start_in(home);
    assert_eq!(node.result(&["getblockcount"]), "0");
    drop(node.stop());
}

#[test]
fn a_node_starts_whatever_lies_in_the_place_of_its_state_files() {
    const FILES: [&str; 8] = [
        "peers.dat",
        "bans.dat",
        "mining.dat",
        "stored.dat",
        "running",
        "blocks.journal",
        "branches.journal",
        ".cookie",
    ];
    for special in SpecialFile::ALL {
        let home = tempfile::tempdir().expect("a temporary directory");
        let dir = home.path().join("data/regtest");
        fs::create_dir_all(&dir).expect("made");
        let marker = "handfast data directory, format 1\nregtest\n";
        fs::write(dir.join("network"), marker).expect("written");
        let cookie_can_go = special != SpecialFile::Directory;
        for file in &FILES[..FILES.len() - usize::from(!cookie_can_go)] {
            put_special_file(&dir.join(file), special);
        }
        let mut node = Node::start_in(home);
        assert_eq!(node.result(&["getblockcount"]), "0");
        node.signal("-TERM");
        assert_eq!(node.wait(), Some(0), "{special:?}: {}", node.log());
        for file in &FILES[..7] {
            let aside = dir.join(format!("{file}.damaged-1"));
            assert!(fs::symlink_metadata(aside).is_ok(), "{special:?}: {file}");
        }
    }
}

#[test]
fn a_cookie_that_is_no_file_is_reported_to_a_caller_at_once() {
    for special in SpecialFile::ALL {
        let mut node = Node::start();
        node.signal("-KILL");
        node.wait();
        // Something listens at the node's port, so that the cookie is needed.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("it has one").to_string();
        fs::remove_file(node.dir().join("node.sock")).expect("it was there");
        fs::remove_file(node.dir().join(".cookie")).expect("it was there");
        put_special_file(&node.dir().join(".cookie"), special);
        let output = command(&node.home, "rpc")
            .args(["--rpc-listen", &port, "getblockcount"])
            .output()
            .expect("the binary runs");
        let line = String::from_utf8(output.stderr).expect("UTF-8");
        assert!(!output.status.success());
        assert!(line.contains(".cookie should be the cookie"), "{line}");
    }
}

#[test]
fn the_interrupt_signal_ends_a_node_cleanly() {
    let mut node = Node::start();
    node.signal("-INT");
    assert_eq!(node.wait(), Some(0), "{}", node.log());
    assert!(!node.dir().join("node.sock").exists());
}
