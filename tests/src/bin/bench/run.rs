//! Starting, waiting, measuring.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use bitcoin::BlockHash;
use bitcoin::hex::DisplayHex;
use handfast_tests::data;
use handfast_tests::generator::SIGNED;
use handfast_tests::process::{Node, Program, Setup, op_true_signet};
use handfast_tests::usage::Usage;
use handfast_tests::wait::{PATIENCE, poll, poll_every};
use handfast_wire::Network;
use serde_json::json;

use crate::options::Chain;
use crate::report::Sample;

/// How long one sync may take.
const SYNC_PATIENCE: Duration = Duration::from_secs(1_800);
/// How exactly the end of a sync is seen. Each look costs the node an RPC answer.
const SYNC_POLL: Duration = Duration::from_millis(10);
/// How exactly the first answer is seen.
const START_POLL: Duration = Duration::from_millis(1);
/// How long a started node is left alone before its memory is read.
const SETTLE: Duration = Duration::from_secs(3);

/// A `bitcoind` that has the chain.
pub(crate) struct Source {
    network: Network,
    tip: BlockHash,
    node: Node,
}

impl Source {
    /// Loads the chain. `None` if its data is not there.
    pub(crate) fn start(chain: Chain) -> Option<Self> {
        let (network, file) = network_and_file(chain)?;
        let tip = match chain {
            Chain::Signed => SIGNED.tip(),
            Chain::Light | Chain::Start => data::signet_blocks()?.last()?.hash,
        };
        eprintln!("{}: loading the source", chain.title());
        let node = Setup::bitcoind(network.clone())
            .arg(format!("-loadblock={}", file.display()))
            // Its check of the block index wants the genesis block to be connected first.
            .arg("-checkblockindex=0")
            .start();
        node.wait_for_tip_within(SYNC_PATIENCE, tip);
        Some(Self { network, tip, node })
    }

    fn address(&self) -> SocketAddr {
        self.node.p2p()
    }
}

fn network_and_file(chain: Chain) -> Option<(Network, PathBuf)> {
    match chain {
        Chain::Signed => Some((
            Network::Regtest,
            SIGNED.ensure().expect("the cache can be written"),
        )),
        Chain::Light | Chain::Start => Some((
            op_true_signet(),
            data::find("signet_optrue_blocks_1_14000.dat")?
                .canonicalize()
                .ok()?,
        )),
    }
}

/// One sync from nothing to the source's tip.
pub(crate) fn sync(program: Program, source: &Source) -> Sample {
    let setup = quiet(Setup::new(program, source.network.clone()).connect(source.address()));
    let node = setup.spawn();
    let answered = poll_every(START_POLL, PATIENCE, || {
        node.best_hash().map(|_| node.started().elapsed())
    });
    let answered = answered.unwrap_or_else(|| panic!("no RPC answer:\n{}", node.output()));
    let wall = poll_every(SYNC_POLL, SYNC_PATIENCE, || {
        (node.best_hash() == Some(source.tip)).then(|| node.started().elapsed())
    });
    let wall = wall.unwrap_or_else(|| panic!("stuck at {}:\n{}", node.height(), node.output()));
    let usage = Usage::of(node.pid()).expect("the node is alive");
    assert!(node.stop().success(), "a clean stop");
    Sample {
        answered,
        wall,
        usage,
    }
}

/// One start on an empty regtest directory, and what it holds when idle.
pub(crate) fn start(program: Program) -> Sample {
    let node = quiet(Setup::new(program, Network::Regtest)).spawn();
    let answered = poll_every(START_POLL, PATIENCE, || {
        node.rpc()
            .call("getblockcount", json!([]))
            .ok()
            .map(|_| node.started().elapsed())
    });
    let answered = answered.unwrap_or_else(|| panic!("no RPC answer:\n{}", node.output()));
    // Nothing is awaited: it is left alone for a while.
    let _ = poll(SETTLE, || None::<()>);
    let usage = Usage::of(node.pid()).expect("the node is alive");
    Sample {
        answered,
        wall: answered,
        usage,
    }
}

/// Without a second copy of Bitcoin Core's log, which only our tests want.
pub(crate) fn quiet(setup: Setup) -> Setup {
    match setup.program() {
        Program::Bitcoind => setup.arg("-printtoconsole=0"),
        Program::Handfast => setup,
    }
}

/// How long the kernel library needs for the same blocks, fed from memory: what is
/// left is the node's own. The program is an example of `handfast-chain`.
pub(crate) fn print_kernel_alone(chain: Chain, runs: usize) {
    let own = std::env::current_exe().expect("a process knows its executable");
    let replay = own.with_file_name("examples").join("replay");
    let Some((network, file)) = network_and_file(chain) else {
        return;
    };
    if !replay.is_file() {
        println!(
            "  kernel alone: not measured, {} is not built",
            replay.display()
        );
        return;
    }
    let mut command = Command::new(&replay);
    command.arg(&file).args(["--network", network.name()]);
    if let Some(challenge) = network.signet_challenge() {
        command.args(["--signet-challenge", &challenge.to_lower_hex_string()]);
    }
    for _ in 0..runs {
        let output = command.output().expect("the example starts");
        print!(
            "  kernel alone: {}",
            String::from_utf8_lossy(&output.stdout)
        );
        if !output.status.success() {
            println!("failed: {}", String::from_utf8_lossy(&output.stderr));
        }
    }
}
