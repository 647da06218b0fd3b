//! One node of the line: a child process of this program.

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

use super::bond::ends_with_us;
use crate::client::{self, Patience};
use crate::daemon;

/// Time for a node to start.
const START: Duration = Duration::from_secs(120);
/// How often one that starts is asked.
const START_POLL: Duration = Duration::from_millis(50);
/// Time for an answer, before the node counts as silent.
const ANSWER: Duration = Duration::from_secs(3);
/// What is asked of a node that runs, in one batch.
const STATUS: [&str; 4] = [
    "getblockchaininfo",
    "getnetworkinfo",
    "getsyncstate",
    "getpeerinfo",
];

/// How a node is called, followed by its number.
pub(super) const NAME: &str = "node";

/// How this node is called, and its directory.
pub(super) fn name(number: usize) -> String {
    format!("{NAME}{number}")
}

/// A child process, and how to reach it. Killed when dropped, if it still runs.
#[derive(Debug)]
pub(super) struct Node {
    number: usize,
    child: Child,
    place: NodeLocation,
    datadir: PathBuf,
    output: PathBuf,
    /// Where it accepts peers, once that is known.
    peer_address: String,
}

impl Node {
    /// Starts node `number` below `home`, with these options beside those that all have.
    pub(super) fn spawn(home: &Path, number: usize, options: &[String]) -> Result<Self, String> {
        let datadir = home.join(format!("{NAME}{number}"));
        let output = home.join(format!("{NAME}{number}.log"));
        let network_dir = datadir.join(Network::Regtest.directory());
        let wrong = |error| format!("node {number} cannot be started: {error}");
        let file = File::create(&output).map_err(wrong)?;
        // One of an earlier run, too.
        let private = Permissions::from_mode(0o600);
        file.set_permissions(private).map_err(wrong)?;
        let both = file.try_clone().map_err(wrong)?;
        let mut command = Command::from(daemon::command()?);
        command
            .args(["--network", Network::Regtest.name(), "--datadir"])
            .arg(&datadir)
            .args(["--listen", "127.0.0.1:0", "--rpc-listen", "127.0.0.1:0"])
            // By this the others tell who it is, whoever connected.
            .args(["--user-agent-comment", &format!("{NAME}{number}")])
            .args(options)
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(both)
            // Not of the terminal's group: Ctrl-C reaches it through us, and once.
            .process_group(0)
            .kill_on_drop(true);
        let child = ends_with_us(&mut command).spawn().map_err(wrong)?;
        Ok(Self {
            number,
            child,
            place: NodeLocation {
                network: Network::Regtest,
                rpc_socket: network_dir.join(handfast_api::SOCKET_FILE),
                cookie: network_dir.join(handfast_api::COOKIE_FILE),
                network_dir,
                // By its socket alone: a port could be somebody else's.
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

    /// Address and port where it accepts peers; nothing before it is ready.
    pub(super) fn peer_address(&self) -> &str {
        &self.peer_address
    }

    /// Waits until it answers, and learns where it accepts peers.
    pub(super) async fn becomes_ready(&mut self) -> Result<(), String> {
        let by = Instant::now() + START;
        loop {
            self.lives()?;
            // Answered when the chain is open.
            let answers = self.ask(&["getlistenerinfo", "getblockcount"]).await;
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
                    self.last_words()
                ));
            }
            sleep(START_POLL).await;
        }
    }

    /// Fails if it has ended.
    pub(super) fn lives(&mut self) -> Result<(), String> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(self.obituary(status)),
            Err(error) => Err(format!("node {}: {error}", self.number)),
        }
    }

    fn obituary(&self, status: ExitStatus) -> String {
        let (number, last_words) = (self.number, self.last_words());
        format!("node {number} ended with {status}{last_words}")
    }

    /// The last line that it printed.
    fn last_words(&self) -> String {
        let printed = fs::read(&self.output).unwrap_or_default();
        let printed = String::from_utf8_lossy(&printed);
        match printed.lines().next_back() {
            Some(line) => format!("; the last it said: {line}"),
            None => String::new(),
        }
    }

    /// The answers to [`STATUS`]. `None`: it does not answer now.
    pub(super) async fn status(&self) -> Option<[Value; STATUS.len()]> {
        self.ask(&STATUS).await?.try_into().ok()
    }

    /// The results of these methods. `None`: one of them has none.
    async fn ask(&self, methods: &[&str]) -> Option<Vec<Value>> {
        let call = |method: &&str| json!({ "jsonrpc": "2.0", "id": 0, "method": method });
        let batch: Value = methods.iter().map(call).collect();
        let patience = Patience {
            connect: Some(ANSWER),
            answer: Some(ANSWER),
        };
        let answer = client::post(&self.place, patience, batch.to_string()).await;
        let answers: Vec<Value> = serde_json::from_slice(&answer.ok()?.body).ok()?;
        let result = |mut answer: Value| answer.get_mut("result").map(Value::take);
        answers.into_iter().map(result).collect()
    }

    /// Asks it to end. One that has ended is not asked, nor whoever has its number now.
    pub(super) fn ask_to_end(&self) {
        // There is none once it was waited for, and before that the number is not given away.
        let pid = self.child.id().and_then(|id| i32::try_from(id).ok());
        if let Some(pid) = pid.and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
    }

    /// Waits until it has ended. Fails if it did so otherwise than it should.
    pub(super) async fn ended(&mut self) -> Result<(), String> {
        match self.child.wait().await {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(self.obituary(status)),
            Err(error) => Err(format!("node {}: {error}", self.number)),
        }
    }

    /// Ends it at once, if it has not ended.
    pub(super) async fn kill(&mut self) {
        let _ = self.child.kill().await;
    }
}

/// Where the node accepts peers, from its answer to `getlistenerinfo`.
fn peer_address(listeners: &Value) -> Option<String> {
    let sockets = listeners["sockets"].as_array()?;
    let socket = sockets.iter().find(|socket| socket["name"] == "p2p")?;
    Some(socket["address"].as_str()?.to_owned())
}
