//! Whole chains from one program to the other and on.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bitcoin::BlockHash;
use handfast_tests::chain_file::write_block;
use handfast_tests::data;
use handfast_tests::generator::SIGNED;
use handfast_tests::process::{Node, Setup, op_true_signet};
use handfast_wire::{Network, RawBlock};
use serde_json::json;

/// For chains whose validation takes a while on any machine.
const LONG: Duration = Duration::from_secs(900);

/// A `bitcoind` with the blocks of a file.
pub(crate) fn loaded(network: &Network, file: &Path, tip: BlockHash) -> Node {
    let node = Setup::bitcoind(network.clone())
        .arg(format!("-loadblock={}", file.display()))
        // Its check of the block index wants the genesis block to be connected first.
        .arg("-checkblockindex=0")
        .start();
    node.wait_for_tip_within(LONG, tip);
    node
}

/// The chain of the `OP_TRUE` signet, 14,000 blocks.
pub(crate) struct Signet {
    pub(crate) network: Network,
    pub(crate) blocks: Vec<RawBlock>,
    file: PathBuf,
}

impl Signet {
    /// `None`: its file is not on this machine.
    pub(crate) fn find() -> Option<Self> {
        Some(Self {
            network: op_true_signet(),
            file: absolute(data::find("signet_optrue_blocks_1_14000.dat")?),
            blocks: data::signet_blocks()?,
        })
    }

    pub(crate) fn tip(&self) -> BlockHash {
        self.blocks.last().expect("14,000 blocks").hash
    }

    /// A `bitcoind` that has it.
    pub(crate) fn in_bitcoind(&self) -> Node {
        loaded(&self.network, &self.file, self.tip())
    }
}

/// bitcoind → handfast → handfast, and handfast → bitcoind.
fn goes_round(network: &Network, file: &Path, tip: BlockHash) {
    let source = loaded(network, file, tip);
    let first = Setup::handfast(network.clone())
        .connect(source.p2p())
        .start();
    first.wait_for_tip_within(LONG, tip);
    drop(source);

    let core = Setup::bitcoind(network.clone())
        .connect(first.p2p())
        .start();
    core.wait_for_tip_within(LONG, tip);
    drop(core);

    let second = Setup::handfast(network.clone())
        .connect(first.p2p())
        .start();
    second.wait_for_tip_within(LONG, tip);
    assert_eq!(second.height(), first.height());
}

#[test]
fn mainnets_first_blocks_go_from_bitcoind_to_handfast_and_back() {
    let Some(blocks) = data::mainnet_blocks() else {
        return;
    };
    let tip = blocks.last().expect("255 blocks").hash;
    let file = unpacked(&Network::Mainnet, &blocks);
    goes_round(&Network::Mainnet, file.path(), tip);
}

#[test]
fn fourteen_thousand_signet_blocks_go_from_bitcoind_to_handfast_and_back() {
    let Some(chain) = Signet::find() else {
        return;
    };
    goes_round(&chain.network, &chain.file, chain.tip());
}

#[test]
fn the_signed_chain_goes_from_bitcoind_to_handfast_and_back() {
    let file = SIGNED.ensure().expect("the cache can be written");
    goes_round(&Network::Regtest, &file, SIGNED.tip());
}

#[test]
fn both_programs_describe_a_chain_alike() {
    let Some(blocks) = data::mainnet_blocks() else {
        return;
    };
    let tip = blocks.last().expect("255 blocks").hash;
    let file = unpacked(&Network::Mainnet, &blocks);
    let core = loaded(&Network::Mainnet, file.path(), tip);
    let ours = Setup::handfast(Network::Mainnet)
        .connect(core.p2p())
        .start();
    ours.wait_for_tip(tip);

    for height in [0, 1, 170, 255] {
        let hash = core.rpc().get("getblockhash", json!([height]));
        assert_eq!(ours.rpc().get("getblockhash", json!([height])), hash);
        for (method, params) in [
            ("getblockheader", json!([hash])),
            ("getblockheader", json!([hash, false])),
            ("getblock", json!([hash, 0])),
            ("getblock", json!([hash, 1])),
            ("getblock", json!([hash, 2])),
        ] {
            let theirs = core.rpc().get(method, params.clone());
            assert_eq!(
                ours.rpc().get(method, params.clone()),
                theirs,
                "{method} {params}"
            );
        }
    }
    let of = |node: &Node| {
        let info = node.rpc().get("getblockchaininfo", json!([]));
        [
            "chain",
            "blocks",
            "headers",
            "bestblockhash",
            "difficulty",
            "mediantime",
            "chainwork",
            "bits",
            "target",
        ]
        .map(|key| info[key].clone())
    };
    assert_eq!(of(&ours), of(&core));
    let tips = |node: &Node| node.rpc().get("getchaintips", json!([]));
    assert_eq!(tips(&ours), tips(&core));
    for (method, params) in [
        ("getblockhash", json!([256])),
        ("getblockhash", json!(["one"])),
        ("getblock", json!(["00".repeat(32)])),
        ("getblock", json!(["no hash"])),
        ("nosuchmethod", json!([])),
    ] {
        let code = |node: &Node| {
            node.rpc()
                .call(method, params.clone())
                .expect_err("it must fail")
                .to_string()
        };
        assert_eq!(code(&ours), code(&core), "{method} {params}");
    }
}

/// A file that `-loadblock` takes, gone with the value.
fn unpacked(network: &Network, blocks: &[RawBlock]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    for block in blocks {
        write_block(&mut file, network.magic().to_bytes(), &block.bytes)
            .expect("the disk has room");
    }
    file.flush().expect("the disk has room");
    file
}

fn absolute(path: PathBuf) -> PathBuf {
    path.canonicalize().expect("it was found")
}
