//! ElectrumX, unmodified, indexes our chain and follows it: `scripts/electrumx` installs it.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bitcoin::hashes::{Hash, sha256};
use bitcoin::hex::DisplayHex;
use handfast_tests::generator::SMALL;
use handfast_tests::process::{Node, Setup, free_address};
use handfast_tests::rpc::Endpoint;
use handfast_tests::wait::wait_for;
use handfast_wire::Network;
use serde_json::{Value, json};
use tempfile::TempDir;

/// The directory of its programs; `None`: it cannot be had here, and why was printed.
fn programs() -> Option<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/electrumx");
    let output = Command::new(script)
        .stderr(Stdio::inherit())
        .output()
        .expect("the script runs");
    let path = String::from_utf8(output.stdout).expect("a path in UTF-8");
    output
        .status
        .success()
        .then(|| PathBuf::from(path.trim_end()))
}

/// A running server, killed when dropped.
struct Server {
    child: Child,
    address: SocketAddr,
    dir: TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    fn start(programs: &Path, node: &Node) -> Self {
        let Endpoint::Tcp(rpc) = node.rpc().endpoint() else {
            panic!("ElectrumX speaks TCP");
        };
        let cookie = std::fs::read_to_string(node.inside(".cookie")).expect("it is there");
        let dir = tempfile::tempdir().expect("a temporary directory");
        let address = free_address();
        let log = std::fs::File::create(dir.path().join("log")).expect("it can be created");
        let child = Command::new(programs.join("python"))
            .arg(programs.join("electrumx_server"))
            .env_clear()
            .env("DB_ENGINE", "leveldb")
            .env("COIN", "Bitcoin")
            .env("NET", "regtest")
            .env("DB_DIRECTORY", dir.path())
            .env("DAEMON_URL", format!("http://{}@{rpc}", cookie.trim()))
            .env("SERVICES", format!("tcp://{address}"))
            .env("PEER_DISCOVERY", "off")
            .env("PEER_ANNOUNCE", "")
            .env("ALLOW_ROOT", "1")
            .env("DAEMON_POLL_INTERVAL_BLOCKS", "100")
            .env("DAEMON_POLL_INTERVAL_MEMPOOL", "100")
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

    /// A client's questions, on one connection. `None`: not there yet, or no answer.
    fn ask(&self, questions: &[(&str, Value)]) -> Option<Vec<Value>> {
        let mut stream = TcpStream::connect(self.address).ok()?;
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .ok()?;
        let mut answers = BufReader::new(stream.try_clone().ok()?);
        let mut results = Vec::new();
        let hello = ("server.version", json!(["handfast", ["1.4", "1.6"]]));
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

    #[track_caller]
    fn wait_for_height(&self, height: u64) {
        let tip = || {
            let told = self.ask(&[("blockchain.headers.subscribe", json!([]))])?;
            (told[0]["height"].as_u64()? == height).then_some(())
        };
        let reached = handfast_tests::wait::poll(Duration::from_secs(60), tip);
        let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
        assert!(reached.is_some(), "it is not at {height}:\n{log}");
    }
}

#[test]
fn electrumx_indexes_our_chain_and_follows_it() {
    let Some(programs) = programs() else {
        handfast_tests::skipped("ElectrumX cannot be installed here");
        return;
    };
    let node = Setup::handfast(Network::Regtest).start();
    node.submit(SMALL.blocks().expect("the cache can be written"));
    let server = Server::start(&programs, &node);
    server.wait_for_height(node.height());
    // What Electrum asks for first.
    let asked = server.ask(&[
        ("mempool.get_info", json!([])),
        ("blockchain.estimatefee", json!([6])),
        ("mempool.get_fee_histogram", json!([])),
        ("blockchain.block.header", json!([1])),
        ("server.features", json!([])),
    ]);
    let asked = asked.expect("each is answered");
    assert_eq!(asked[0]["minrelaytxfee"], 1e-6, "{}", asked[0]);
    assert_eq!(asked[1], -1, "there is no estimate");
    assert!(asked[3].as_str().is_some_and(|hex| hex.len() == 160));

    let address = "bcrt1qft5p2uhsdcdc3l2ua4ap5qqfg4pjaqlp250x7us7a8qqhrxrxfsqseac85";
    node.rpc().get("generatetoaddress", json!([3, address]));
    server.wait_for_height(node.height());
    wait_for("the new outputs are indexed", || {
        let script = node.rpc().get("validateaddress", json!([address]));
        let script = script["scriptPubKey"].as_str()?;
        let hash = script_hash(script)?;
        let told = server.ask(&[("blockchain.scripthash.get_history", json!([hash]))])?;
        (told[0].as_array()?.len() == 3).then_some(())
    });
}

/// What the protocol of Electrum calls a script hash: its bytes are in reverse order.
fn script_hash(script: &str) -> Option<String> {
    let bytes: Vec<u8> = bitcoin::hex::FromHex::from_hex(script).ok()?;
    let mut hash = sha256::Hash::hash(&bytes).to_byte_array();
    hash.reverse();
    Some(hash[..].to_lower_hex_string())
}
