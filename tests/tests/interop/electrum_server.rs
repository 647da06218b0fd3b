//! A server of Electrum's protocol that stands on a node, and questions to it.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bitcoin::hashes::{Hash, sha256};
use bitcoin::hex::{DisplayHex, FromHex};
use handfast_tests::process::Node;
use handfast_tests::rpc::Endpoint;
use serde_json::{Value, json};
use tempfile::TempDir;

/// For a server to index some hundred blocks on a machine that does other things as well.
const PATIENCE: Duration = Duration::from_secs(90);

/// What the script `name` prints; `None`: what it would install is not here, as it said.
pub(crate) fn installed(name: &str, version: Option<&str>) -> Option<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts");
    let output = Command::new(script.join(name))
        .arg("--have")
        .args(version)
        .stderr(Stdio::inherit())
        .output()
        .expect("the script runs");
    if !output.status.success() {
        handfast_tests::skipped(&format!(
            "there is no {name} here (make servers installs it)"
        ));
        return None;
    }
    let path = String::from_utf8(output.stdout).expect("a path in UTF-8");
    Some(PathBuf::from(path.trim_end()))
}

/// Where the node is called over TCP.
pub(crate) fn rpc_address(node: &Node) -> SocketAddr {
    match node.rpc().endpoint() {
        Endpoint::Tcp(address) => *address,
        Endpoint::Unix(_) => panic!("these servers speak TCP"),
    }
}

/// A running server, killed when dropped.
pub(crate) struct ElectrumServer {
    child: Child,
    address: SocketAddr,
    /// Of its index and its log.
    dir: TempDir,
}

impl Drop for ElectrumServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl ElectrumServer {
    /// Starts `command`, which has `dir` and listens on `address`.
    pub(crate) fn spawn(mut command: Command, address: SocketAddr, dir: TempDir) -> Self {
        let log = std::fs::File::create(dir.path().join("log")).expect("it can be created");
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("it can be shared"))
            .stderr(log)
            .spawn()
            .expect("it starts");
        Self {
            child,
            address,
            dir,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// A client's questions, on one connection. `None`: not there yet, or no result.
    pub(crate) fn ask(&self, questions: &[(&str, Value)]) -> Option<Vec<Value>> {
        // The last version that knows scripts by their hashes.
        self.ask_in("1.6", questions)
    }

    /// The same, in the protocol `version` if the server knows it, or an older one.
    pub(crate) fn ask_in(&self, version: &str, questions: &[(&str, Value)]) -> Option<Vec<Value>> {
        let mut stream = TcpStream::connect(self.address).ok()?;
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .ok()?;
        let mut answers = BufReader::new(stream.try_clone().ok()?);
        let mut results = Vec::new();
        let hello = ("server.version", json!(["handfast", ["1.4", version]]));
        for (id, (method, params)) in [hello].iter().chain(questions).enumerate() {
            let call = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
            stream.write_all(format!("{call}\n").as_bytes()).ok()?;
            let mut line = String::new();
            answers.read_line(&mut line).ok()?;
            let answer: Value = serde_json::from_str(&line).ok()?;
            results.push(answer.get("result")?.clone());
        }
        Some(results.split_off(1))
    }

    /// Asks until the answer pleases, and returns what `wanted` makes of it.
    #[track_caller]
    pub(crate) fn wait_for<T>(
        &self,
        what: &str,
        question: (&str, Value),
        wanted: impl Fn(&Value) -> Option<T>,
    ) -> T {
        let asked = || wanted(&self.ask(std::slice::from_ref(&question))?[0]);
        // Seldom enough that its log can be read.
        let every = Duration::from_millis(200);
        let answer = handfast_tests::wait::poll_every(every, PATIENCE, asked);
        answer.unwrap_or_else(|| panic!("{what}: not so after {PATIENCE:?}:\n{}", self.log()))
    }

    /// Waits until it has the node's tip.
    #[track_caller]
    pub(crate) fn wait_for_tip_of(&self, node: &Node) {
        let tip = node.best_hash().expect("a tip").to_string();
        let header = node.rpc().get("getblockheader", json!([tip, false]));
        let question = ("blockchain.headers.subscribe", json!([]));
        self.wait_for("it has the tip", question, |told| {
            (told["hex"] == header).then_some(())
        });
    }

    /// Transaction ids and heights of what pays to a script, in its order.
    #[track_caller]
    pub(crate) fn wait_for_history(
        &self,
        script: &str,
        wanted: impl Fn(&[(String, i64)]) -> bool,
    ) -> Vec<(String, i64)> {
        let question = (
            "blockchain.scripthash.get_history",
            json!([script_hash(script)]),
        );
        self.wait_for("the history of a script", question, |told| {
            let row =
                |row: &Value| Some((row["tx_hash"].as_str()?.to_owned(), row["height"].as_i64()?));
            let rows: Option<Vec<_>> = told.as_array()?.iter().map(row).collect();
            rows.filter(|rows| wanted(rows))
        })
    }
}

/// What the protocol of Electrum calls a script hash: its bytes are in reverse order.
pub(crate) fn script_hash(script: &str) -> String {
    let bytes: Vec<u8> = FromHex::from_hex(script).expect("hex");
    let mut hash = sha256::Hash::hash(&bytes).to_byte_array();
    hash.reverse();
    hash[..].to_lower_hex_string()
}
