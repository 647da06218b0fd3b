//! The wallet Electrum, unmodified, behind servers that stand on our node: `scripts/electrum`
//! installs it. Spending is left out, as there is no mempool yet.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use handfast_tests::process::{Node, Setup};
use handfast_tests::wait::wait_for;
use handfast_wire::Network;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::electrum_server::{ElectrumServer, installed};
use crate::{electrs, electrumx};

/// A wallet with its daemon, which is stopped when dropped.
struct Wallet {
    program: PathBuf,
    dir: TempDir,
}

impl Drop for Wallet {
    fn drop(&mut self) {
        let _ = self.command(&["stop"]).output();
    }
}

impl Wallet {
    /// A new one, which asks this server alone.
    fn create(program: PathBuf, server: &ElectrumServer) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let wallet = Self { program, dir };
        wallet.run(&["create", "--offline"]);
        let at = format!("{}:t", server.address());
        wallet.run(&["daemon", "--detach", "--oneserver", "--server", &at]);
        wallet.run(&["load_wallet"]);
        wallet
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.dir.path())
            .args(["--regtest", "--dir"])
            .arg(self.dir.path())
            .args(args)
            .stdin(Stdio::null());
        command
    }

    /// What a command prints.
    #[track_caller]
    fn run(&self, args: &[&str]) -> String {
        // The daemon would keep a pipe open for ever.
        let path = self.dir.path().join("printed");
        let file = std::fs::File::create(&path).expect("it can be created");
        let errors = file.try_clone().expect("it can be shared");
        let status = self.command(args).stdout(file).stderr(errors).status();
        let printed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            status.is_ok_and(|status| status.success()),
            "{args:?}: {printed}"
        );
        printed.trim_end().to_owned()
    }

    #[track_caller]
    fn ask(&self, args: &[&str]) -> Value {
        let printed = self.run(args);
        serde_json::from_str(&printed)
            .unwrap_or_else(|error| panic!("{args:?}: {error}: {printed}"))
    }
}

/// The wallet sees what we mine to it, with proofs that it checks against headers.
fn assert_it_sees_what_is_mined_to_it(node: &Node, server: &ElectrumServer) {
    let Some(program) = installed("electrum", None) else {
        return;
    };
    node.rpc().get("generatetoaddress", json!([1, NOBODY]));
    server.wait_for_tip_of(node);
    let wallet = Wallet::create(program, server);
    let address = wallet.run(&["getunusedaddress"]);
    let info = node.rpc().get("validateaddress", json!([address]));
    assert_eq!(info["isvalid"], true, "{info}");
    node.rpc().get("generatetoaddress", json!([1, address]));
    node.rpc().get("generatetoaddress", json!([1, address]));
    let balance = wait_for("the balance is that of two immature coinbases", || {
        let balance = wallet.ask(&["getbalance"]);
        (balance["unmatured"] == "100").then_some(balance)
    });
    assert_eq!(balance["confirmed"], "0");
    // With a hundred confirmations the first can be spent.
    node.rpc().get("generatetoaddress", json!([98, NOBODY]));
    wait_for("the first of them is spendable", || {
        let balance = wallet.ask(&["getbalance"]);
        (balance["confirmed"] == "50" && balance["unmatured"] == "50").then_some(())
    });
    let history = wallet.ask(&["onchain_history"]);
    let rows = history["transactions"].as_array().expect("a list");
    // Confirmations are counted of what was proven to be in a block, and of nothing else.
    let told: Vec<_> = rows
        .iter()
        .map(|row| (row["height"].as_u64(), row["confirmations"].as_u64()))
        .collect();
    let top = node.height();
    let expected = [(Some(2), Some(top - 1)), (Some(3), Some(top - 2))];
    assert_eq!(told, expected, "{history}");
    let txid = rows[0]["txid"].as_str().expect("an id");
    let hash = node.rpc().get("getblockhash", json!([2]));
    let block = node.rpc().get("getblock", json!([hash]));
    assert_eq!(block["tx"], json!([txid]));
}

/// Pays to `OP_TRUE`: nobody of the wallet.
const NOBODY: &str = "bcrt1qft5p2uhsdcdc3l2ua4ap5qqfg4pjaqlp250x7us7a8qqhrxrxfsqseac85";

#[test]
fn electrum_behind_electrs_sees_what_is_mined_to_it() {
    let node = Setup::handfast(Network::Regtest).start();
    if let Some(server) = electrs::start(&node) {
        assert_it_sees_what_is_mined_to_it(&node, &server);
    }
}

#[test]
fn electrum_behind_electrumx_1_19_sees_what_is_mined_to_it() {
    let node = electrumx::node(electrumx::OLD);
    if let Some(server) = electrumx::start(electrumx::OLD, &node) {
        assert_it_sees_what_is_mined_to_it(&node, &server);
    }
}

#[test]
fn electrum_behind_electrumx_2_sees_what_is_mined_to_it() {
    let node = electrumx::node(electrumx::NEW);
    if let Some(server) = electrumx::start(electrumx::NEW, &node) {
        assert_it_sees_what_is_mined_to_it(&node, &server);
    }
}
