//! One node of the testnet: a child process.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use handfast_cli::{Hints, NodeLocation};
use handfast_wire::Network;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use super::parent_death::die_with_parent;
use crate::client::{self, Timeouts};
use crate::daemon;

/// Time for a node to start.
const START: Duration = Duration::from_secs(120);
/// Interval of calls to a starting node.
const START_POLL: Duration = Duration::from_millis(50);
/// Timeout of an answer; then the node counts as not answering.
const ANSWER: Duration = Duration::from_secs(3);
/// The calls to a running node, in one batch.
const STATUS: [&str; 4] = [
    "getblockchaininfo",
    "getnetworkinfo",
    "getsyncstate",
    "getpeerinfo",
];

/// The prefix of a node's name.
pub(super) const NAME: &str = "node";

/// The name of a node, and of its directory.
pub(super) fn name(number: usize) -> String {
    format!("{NAME}{number}")
}

/// A child process and its RPC location. Killed when dropped.
#[derive(Debug)]
pub(super) struct Node {
    number: usize,
    child: Child,
    place: NodeLocation,
    datadir: PathBuf,
    output: PathBuf,
    /// Its P2P address, once known.
    peer_address: String,
}

impl Node {
    /// Starts node `number` below `home`, with `options` besides the common ones.
    pub(super) fn spawn(home: &Path, number: usize, options: &[String]) -> Result<Self, String> {
        let datadir = home.join(format!("{NAME}{number}"));
        let output = home.join(format!("{NAME}{number}.log"));
        let network_dir = datadir.join(Network::Regtest.directory());
        let wrong = |error| format!("node {number} cannot be started: {error}");
        let file = File::create(&output).map_err(wrong)?;
        // From an earlier run, too.
        let private = Permissions::from_mode(0o600);
        file.set_permissions(private).map_err(wrong)?;
        let both = file.try_clone().map_err(wrong)?;
        let mut command = Command::from(daemon::command()?);
        command
            .args(["--network", Network::Regtest.name(), "--datadir"])
            .arg(&datadir)
            .args(["--listen", "127.0.0.1:0", "--rpc-listen", "127.0.0.1:0"])
            // The other nodes identify it by this, in both directions.
            .args(["--user-agent-comment", &format!("{NAME}{number}")])
            .args(options)
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(both)
            // A process group of its own: Ctrl-C reaches it through us, once.
            .process_group(0)
            .kill_on_drop(true);
        let child = die_with_parent(&mut command).spawn().map_err(wrong)?;
        Ok(Self {
            number,
            child,
            place: NodeLocation {
                network: Network::Regtest,
                rpc_socket: network_dir.join(handfast_api::SOCKET_FILE),
                cookie: network_dir.join(handfast_api::COOKIE_FILE),
                network_dir,
                // By its socket only: a port could belong to another process.
                rpc_listen: vec![],
                hints: Hints::default(),
            },
            datadir,
            output,
            peer_address: String::new(),
        })
    }

    pub(super) fn datadir(&self) -> &Path {
        &self.datadir
    }

    /// Its P2P address; empty before it is ready.
    pub(super) fn peer_address(&self) -> &str {
        &self.peer_address
    }

    /// Waits until it answers, and reads its P2P address.
    pub(super) async fn wait_ready(&mut self) -> Result<(), String> {
        let by = Instant::now() + START;
        loop {
            self.check_running()?;
            // Answered when the chain is open.
            let answers = self.call_all(&["getlistenerinfo", "getblockcount"]).await;
            if let Some([listeners, _]) = answers.as_deref()
                && let Some(address) = peer_address(listeners)
            {
                self.peer_address = address;
                return Ok(());
            }
            if Instant::now() >= by {
                return Err(format!(
                    "node {} does not answer within {}s{}",
                    self.number,
                    START.as_secs(),
                    self.last_line()
                ));
            }
            sleep(START_POLL).await;
        }
    }

    /// Fails if it has ended.
    pub(super) fn check_running(&mut self) -> Result<(), String> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(self.exit_message(status)),
            Err(error) => Err(format!("node {}: {error}", self.number)),
        }
    }

    fn exit_message(&self, status: ExitStatus) -> String {
        let (number, last_line) = (self.number, self.last_line());
        format!("node {number} ended with {status}{last_line}")
    }

    /// The last line of its output.
    fn last_line(&self) -> String {
        let printed = fs::read(&self.output).unwrap_or_default();
        let printed = String::from_utf8_lossy(&printed);
        match printed.lines().next_back() {
            Some(line) => format!("; its last output: {line}"),
            None => String::new(),
        }
    }

    /// The answers to [`STATUS`]. `None`: it does not answer now.
    pub(super) async fn status(&self) -> Option<[Value; STATUS.len()]> {
        self.call_all(&STATUS).await?.try_into().ok()
    }

    /// The results of these methods. `None`: one failed.
    async fn call_all(&self, methods: &[&str]) -> Option<Vec<Value>> {
        let call = |method: &&str| json!({ "jsonrpc": "2.0", "id": 0, "method": method });
        let batch: Value = methods.iter().map(call).collect();
        let timeouts = Timeouts {
            connect: Some(ANSWER),
            answer: Some(ANSWER),
        };
        let answer = client::post(&self.place, timeouts, batch.to_string()).await;
        let answers: Vec<Value> = serde_json::from_slice(&answer.ok()?.body).ok()?;
        let result = |mut answer: Value| answer.get_mut("result").map(Value::take);
        answers.into_iter().map(result).collect()
    }

    /// Sends SIGTERM, unless it has exited.
    pub(super) fn terminate(&self) {
        // No process id once it was waited for; before that the id is not reused.
        let pid = self.child.id().and_then(|id| i32::try_from(id).ok());
        if let Some(pid) = pid.and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
    }

    /// Waits until it exits. Fails if it did not exit normally.
    pub(super) async fn wait_exit(&mut self) -> Result<(), String> {
        match self.child.wait().await {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(self.exit_message(status)),
            Err(error) => Err(format!("node {}: {error}", self.number)),
        }
    }

    /// Kills it, if it runs.
    pub(super) async fn kill(&mut self) {
        let _ = self.child.kill().await;
    }
}

/// The P2P address in its answer to `getlistenerinfo`.
fn peer_address(listeners: &Value) -> Option<String> {
    let sockets = listeners["sockets"].as_array()?;
    let socket = sockets.iter().find(|socket| socket["name"] == "p2p")?;
    Some(socket["address"].as_str()?.to_owned())
}
