//! What a running node reports: in the log, by `status`, by `getsyncstate`, when peers cannot be
//! reached, connect and disconnect; and how it handles signals. Runs the built programs on regtest,
//! loopback only.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use handfast_tests::process::Program;
use serde_json::Value;
use tempfile::TempDir;

/// Time limit for any machine; an awaited condition usually takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// A node in a separate directory, and its P2P address.
struct Node {
    home: TempDir,
    child: Child,
    listen: String,
}

/// An address without a listening socket.
fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound").to_string()
}

#[track_caller]
#[expect(clippy::disallowed_methods, reason = "the one poll loop of this file")]
fn wait_for<T>(what: &str, log: impl Fn() -> String, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "not seen: {what}: {}", log());
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl Node {
    fn start(options: &[&str]) -> Self {
        Self::start_by(Command::new(Program::Handfast.path()), options)
    }

    /// `command`: what starts the program, up to its own arguments.
    fn start_by(mut command: Command, options: &[&str]) -> Self {
        let home = tempfile::tempdir().expect("a temporary directory");
        let listen = free_address();
        let child = command
            .args(["run", "--network", "regtest", "--datadir"])
            .arg(home.path().join("data"))
            .args(["--listen", &listen, "--rpc-listen", "127.0.0.1:0"])
            .args(options)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary runs");
        let node = Self {
            home,
            child,
            listen,
        };
        wait_for(
            "it answers",
            || node.log(),
            || {
                node.command("rpc", &["getblockcount"])
                    .status
                    .success()
                    .then_some(())
            },
        );
        node
    }

    fn dir(&self) -> PathBuf {
        self.home.path().join("data/regtest")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir().join("handfast.log")).unwrap_or_default()
    }

    /// A command that calls this node, and detects the network.
    fn command(&self, name: &str, arguments: &[&str]) -> Output {
        Command::new(Program::Handfast.path())
            .arg(name)
            .arg("--datadir")
            .arg(self.home.path().join("data"))
            .args(arguments)
            .output()
            .expect("the binary runs")
    }

    #[track_caller]
    fn text(&self, name: &str, arguments: &[&str]) -> String {
        let output = self.command(name, arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name} {arguments:?}: {error}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    #[track_caller]
    fn rpc(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.text("rpc", arguments)).expect("JSON")
    }

    /// Waits for a line of the log with all `parts`.
    #[track_caller]
    fn logged(&self, parts: &[&str]) -> String {
        let has_all = |line: &&str| parts.iter().all(|part| line.contains(part));
        let look = || self.log().lines().find(has_all).map(str::to_owned);
        wait_for(&format!("{parts:?}"), || self.log(), look)
    }

    fn signal(&self, script: &str) {
        let script = script.replace("PID", &self.child.id().to_string());
        let status = Command::new("sh").args(["-c", &script]).status();
        assert!(status.expect("a shell runs").success(), "{script}");
    }

    /// Waits until it has ended, and returns how.
    fn ended(&mut self) -> Option<i32> {
        let log = self.dir().join("handfast.log");
        let child = &mut self.child;
        let look = || child.try_wait().expect("waitable");
        let said = || fs::read_to_string(&log).unwrap_or_default();
        wait_for("its end", said, look).code()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Only the child of this test; it may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_manual_peer_that_refuses_is_reported_everywhere_with_the_error_and_connected_when_it_is_back()
{
    let peer = free_address();
    let node = Node::start(&["--connect", &peer]);
    let error = format!("not connected to {peer}: connection refused");
    let line = node.logged(&[&error, "next attempt in"]);
    assert!(line.contains(" WARN "), "{line}");

    let state = node.rpc(&["getsyncstate"]);
    let why = state["why"].as_str().unwrap_or_default();
    assert!(why.starts_with(&error), "{why}");
    let row = &state["manual_peers"][0];
    assert_eq!(
        (&row["node"], &row["error"]),
        (
            &Value::from(peer.as_str()),
            &Value::from("connection refused")
        )
    );
    let status = node.text("status", &[]);
    assert!(status.contains(&error), "{status}");
    assert!(
        status.contains(&format!("Manual    {peer}: connection refused")),
        "{status}"
    );
    let info = node.rpc(&["getblockchaininfo"]);
    let warning = info["warnings"][0].as_str().unwrap_or_default();
    assert!(warning.contains(&error), "{info}");

    // The same address added by RPC is known already, and another is shown with its error.
    let added = free_address();
    node.text("rpc", &["addnode", &added, "add"]);
    let row = wait_for(
        "the added node failed",
        || node.log(),
        || {
            let rows = node.rpc(&["getaddednodeinfo"]);
            rows[0]["handfast"]["error"]
                .is_string()
                .then(|| rows[0].clone())
        },
    );
    assert_eq!(row["addednode"], added.as_str());
    assert_eq!(row["handfast"]["error"], "connection refused");

    // It is back: a connection is opened, however many attempts failed.
    let listener = TcpListener::bind(&peer).expect("the port is free still");
    listener.set_nonblocking(true).expect("it can be polled");
    wait_for("a connection", || node.log(), || listener.accept().ok());
}

#[test]
fn a_peer_that_is_tried_once_and_refuses_is_reported_with_its_error() {
    let node = Node::start(&["--no-dial"]);
    let peer = free_address();
    node.text("rpc", &["addnode", &peer, "onetry"]);
    let line = node.logged(&[
        "addnode onetry: cannot connect",
        &peer,
        "connection refused",
    ]);
    assert!(line.contains(" INFO "), "{line}");
    node.text("rpc", &["setban", "127.0.0.1", "add", "90"]);
    let line = node.logged(&["127.0.0.1/32 is banned by the operator for 1m 30s"]);
    assert!(line.contains(" INFO "), "{line}");
    node.text("rpc", &["addnode", &peer, "onetry"]);
    node.logged(&["addnode onetry: not dialled", &peer, "banned"]);
    node.text("rpc", &["setban", "127.0.0.1", "remove"]);
    node.logged(&["the ban of 127.0.0.1/32 is lifted"]);
}

#[test]
fn a_network_that_was_switched_off_is_reported_everywhere_until_it_is_on_again() {
    let node = Node::start(&["--no-dial"]);
    node.text("rpc", &["setnetworkactive", "false"]);
    let off = "the network is switched off (setnetworkactive)";
    let line = node.logged(&["the network is switched off"]);
    assert!(line.contains(" WARN "), "{line}");
    let why = node.rpc(&["getsyncstate"])["why"].to_string();
    assert!(why.contains(off), "{why}");
    let status = node.text("status", &[]);
    assert!(status.contains(off), "{status}");
    let info = node.rpc(&["getnetworkinfo"]);
    assert!(info["warnings"].to_string().contains(off), "{info}");
    node.text("rpc", &["setnetworkactive", "true"]);
    node.logged(&["the network is switched on again"]);
    let status = node.text("status", &[]);
    assert!(!status.contains(off), "{status}");
}

#[test]
fn peers_sources_and_tips_are_logged_as_they_change() {
    let mut first = Node::start(&[]);
    let second = Node::start(&["--connect", &first.listen]);
    let id = first.logged(&["peer connected", "direction=inbound", "agent=/Handfast:"]);
    assert!(id.contains(" INFO "), "{id}");
    second.logged(&["peer connected", &first.listen, "direction=manual"]);
    second.logged(&["headers come from this peer now", &first.listen]);
    // To OP_TRUE, which anyone can spend.
    first.text("rpc", &["generatetodescriptor", "3", "raw(51)"]);
    second.logged(&["new tip", "height=3"]);
    let status = wait_for(
        "who brought the last block",
        || second.log(),
        || {
            let status = second.text("status", &[]);
            status.contains("the last one").then_some(status)
        },
    );
    let whom = format!("({} /Handfast:", first.listen);
    assert_eq!(status.matches(&whom).count(), 2, "{status}");
    first.signal("kill -TERM PID");
    assert_eq!(first.ended(), Some(0));
    second.logged(&["peer disconnected", &first.listen]);
    second.logged(&["not connected to", &first.listen, "the connection was lost"]);
    for line in second.log().lines() {
        for rust in ["Some(", "None", "os error"] {
            assert!(!line.contains(rust), "{rust}: {line}");
        }
    }
}

#[test]
fn a_hangup_reopens_the_log_and_ends_nothing() {
    let mut node = Node::start(&[]);
    let (log, rotated) = (
        node.dir().join("handfast.log"),
        node.dir().join("handfast.log.1"),
    );
    fs::rename(&log, &rotated).expect("it can be renamed while the node runs");
    node.signal("kill -HUP PID");
    node.logged(&["SIGHUP received", "is reopened"]);
    let before = fs::read_to_string(&rotated).expect("it is there");
    assert!(
        before.contains("Handfast starts") && !before.contains("SIGHUP"),
        "{before}"
    );
    // When it cannot be opened, logging continues in the old file.
    fs::remove_file(&log).expect("it is there");
    fs::create_dir(&log).expect("something else lies there");
    node.signal("kill -HUP PID");
    assert_eq!(node.rpc(&["getblockcount"]), 0);
    fs::remove_dir(&log).expect("it is empty");
    node.signal("kill -HUP PID");
    node.logged(&["is reopened"]);
    node.signal("kill -TERM PID");
    assert_eq!(node.ended(), Some(0));
}

#[test]
fn hangups_without_a_pause_while_a_node_starts_do_not_end_it() {
    // From before `handfast` is loaded, which ignores them first of all, until callers are served.
    let script = "trap '' HUP
        (while [ ! -S \"$5/regtest/node.sock\" ] && kill -HUP $$; do :; done) &
        exec \"$0\" \"$@\"";
    let mut shell = Command::new("sh");
    shell.args(["-c", script]).arg(Program::Handfast.path());
    let mut node = Node::start_by(shell, &[]);
    node.signal("kill -TERM PID");
    assert_eq!(node.ended(), Some(0));
}

#[test]
fn two_signals_at_once_are_one_request_to_stop() {
    let mut node = Node::start(&[]);
    node.signal("kill -TERM PID; kill -INT PID; kill -TERM PID");
    assert_eq!(node.ended(), Some(0), "a clean stop: {}", node.log());
    assert!(!node.log().contains("received again"), "{}", node.log());
}

#[test]
fn files_are_for_the_user_alone_whatever_the_umask() {
    let mut shell = Command::new("sh");
    shell.args(["-c", "umask 000; exec \"$0\" \"$@\""]);
    shell.arg(Program::Handfast.path());
    let node = Node::start_by(shell, &[]);
    node.text("rpc", &["generatetodescriptor", "1", "raw(51)"]);
    let mut seen = 0;
    let mut left = vec![node.home.path().join("data")];
    while let Some(path) = left.pop() {
        let Ok(found) = fs::symlink_metadata(&path) else {
            continue;
        };
        let mode = found.permissions().mode() & 0o777;
        let most = if found.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(mode & !most, 0, "{}: {mode:o}", path.display());
        seen += 1;
        if found.is_dir() {
            left.extend(entries(&path));
        }
    }
    assert!(seen > 10, "{seen} files");
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let found = fs::read_dir(dir).into_iter().flatten().flatten();
    found.map(|entry| entry.path()).collect()
}

#[test]
fn a_second_node_on_the_directory_is_refused_for_that_before_ports() {
    let node = Node::start(&[]);
    let again = node.command("run", &["--network", "regtest", "--listen", &node.listen]);
    let line = String::from_utf8(again.stderr).expect("UTF-8");
    assert_eq!(again.status.code(), Some(1), "{line}");
    assert!(
        line.contains("another Handfast node is using this data directory"),
        "{line}"
    );
}

#[test]
fn a_command_finds_the_network_of_the_node_that_runs_and_names_it_when_another_was_asked_for() {
    let node = Node::start(&[]);
    assert!(node.text("status", &[]).starts_with("Network   regtest"));
    let other = node.command("status", &["--network", "signet"]);
    let line = String::from_utf8(other.stderr).expect("UTF-8");
    assert_eq!(other.status.code(), Some(1), "{line}");
    assert!(
        line.contains("another network's node is running there"),
        "{line}"
    );
    assert!(line.contains("--network regtest"), "{line}");
}
