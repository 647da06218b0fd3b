//! A node that was started: asking it, waiting for it, ending it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use bitcoin::BlockHash;
use bitcoin::hex::DisplayHex;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::Setup;
use crate::rpc::{Endpoint, Rpc};
use crate::wait::{PATIENCE, poll, wait_for};

/// A running node.
#[derive(Debug)]
pub struct Node {
    pub(super) setup: Setup,
    pub(super) child: Child,
    pub(super) p2p: SocketAddr,
    pub(super) rpc: Rpc,
    pub(super) log: PathBuf,
    pub(super) started: Instant,
}

impl Node {
    /// Where it accepts peers.
    pub fn p2p(&self) -> SocketAddr {
        self.p2p
    }

    /// Its RPC over TCP.
    pub fn rpc(&self) -> &Rpc {
        &self.rpc
    }

    /// Its RPC over the Unix socket. Handfast's only.
    pub fn unix_rpc(&self) -> Rpc {
        let dir = self.setup.network_dir();
        Rpc::new(Endpoint::Unix(dir.join("node.sock")), dir.join(".cookie"))
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A file of its data directory, as it sees it itself: for a node that has a file
    /// system of its own.
    pub fn inside(&self, name: &str) -> PathBuf {
        super::inside(self.pid(), &self.setup.network_dir().join(name))
    }

    /// When it was started.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// How it was started.
    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// What it wrote to its standard output and error, of all its starts.
    pub fn output(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits until RPC answers.
    ///
    /// # Panics
    /// If the process ends first, with what it said.
    pub fn wait_until_ready(&mut self) {
        let ready = poll(PATIENCE, || {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                panic!(
                    "{:?} ended with {status} before it answered:\n{}",
                    self.setup.program,
                    tail(&self.output())
                );
            }
            self.rpc.call("getblockcount", json!([])).ok()
        });
        assert!(
            ready.is_some(),
            "{:?} never answered RPC:\n{}",
            self.setup.program,
            tail(&self.output())
        );
    }

    /// The hash of its best block; `None` while it does not answer.
    pub fn best_hash(&self) -> Option<BlockHash> {
        self.rpc
            .call("getbestblockhash", json!([]))
            .ok()?
            .as_str()?
            .parse()
            .ok()
    }

    /// The height of its best block.
    pub fn height(&self) -> u64 {
        self.rpc
            .get("getblockcount", json!([]))
            .as_u64()
            .expect("a count is a number")
    }

    /// The rows of `getpeerinfo`.
    pub fn peers(&self) -> Vec<Value> {
        match self.rpc.get("getpeerinfo", json!([])) {
            Value::Array(rows) => rows,
            other => panic!("getpeerinfo answered {other}"),
        }
    }

    /// The connections that ended, with the reasons. Handfast's only.
    ///
    /// # Panics
    /// If it does not answer.
    pub fn peer_history(&self) -> Vec<Value> {
        match self.rpc.get("getpeerhistory", json!([])) {
            Value::Array(rows) => rows,
            other => panic!("getpeerhistory answered {other}"),
        }
    }

    /// Waits until `tip` is its best block.
    ///
    /// # Panics
    /// If it does not get there, with the height where it is.
    pub fn wait_for_tip(&self, tip: BlockHash) {
        self.wait_for_tip_within(PATIENCE, tip);
    }

    /// The same with a limit of one's own.
    ///
    /// # Panics
    /// If it does not get there.
    pub fn wait_for_tip_within(&self, patience: Duration, tip: BlockHash) {
        if poll(patience, || self.best_hash().filter(|hash| *hash == tip)).is_none() {
            let height = self
                .rpc
                .call("getblockcount", json!([]))
                .map_or_else(|error| error.to_string(), |h| h.to_string());
            panic!(
                "{:?} is at {height}, not at {tip}:\n{}",
                self.setup.program,
                tail(&self.output())
            );
        }
    }

    /// Submits blocks in order over RPC.
    ///
    /// # Panics
    /// If one is refused.
    pub fn submit(&self, blocks: impl IntoIterator<Item = handfast_wire::RawBlock>) {
        for block in blocks {
            let hex = block.bytes.to_lower_hex_string();
            let verdict = self.rpc.get("submitblock", json!([hex]));
            // A block of a branch with less work is stored, "inconclusive".
            assert!(
                verdict.is_null() || verdict == "inconclusive",
                "block {}: {verdict}",
                block.hash
            );
        }
    }

    /// Asks it to end (SIGTERM) and waits until it did.
    ///
    /// # Panics
    /// If it does not end.
    pub fn stop(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait_for_exit()
    }

    /// Ends it in the middle of whatever it does (SIGKILL).
    ///
    /// # Panics
    /// If the system refuses.
    pub fn kill(mut self) {
        self.child.kill().expect("a child can be killed");
        self.child.wait().expect("a child can be waited for");
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// If the system refuses.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("a child can be signalled");
    }

    /// Waits for the end that somebody else asked for.
    ///
    /// # Panics
    /// If it does not come.
    pub fn wait_for_exit(&mut self) -> ExitStatus {
        wait_for("the node ends", || {
            self.child.try_wait().expect("a child can be waited for")
        })
    }

    /// Whether it is still running.
    pub fn is_running(&mut self) -> bool {
        self.child
            .try_wait()
            .expect("a child can be waited for")
            .is_none()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "--- {:?} (pid {}) said:\n{}",
                self.setup.program,
                self.child.id(),
                tail(&self.output())
            );
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The last lines, enough to see what a node was doing when a test failed.
fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}
