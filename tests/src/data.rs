//! Where the real chain data lies.

use std::path::{Path, PathBuf};

use bitcoin::block::Header;
use handfast_wire::RawBlock;

use crate::chain_file;

/// The workspace's root.
pub fn workspace_root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// The path of `name` in `../shared/data` beside the workspace.
///
/// `None`, with a line on standard error that names the test's loss, when it is
/// not there: the data is large and not part of the repository.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = workspace_root().join("../shared/data").join(name);
    if path.is_file() {
        return Some(path);
    }
    crate::skipped(&format!("{} is not there", path.display()));
    None
}

/// The folder for what is expensive to make: generated chains, `bitcoind`.
///
/// `$HANDFAST_CACHE`, else `$XDG_CACHE_HOME/handfast`, else `~/.cache/handfast`,
/// as in `scripts/bitcoind`.
pub fn cache_dir() -> PathBuf {
    let set = |name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    set("HANDFAST_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|dir| dir.join("handfast")))
        .or_else(|| set("HOME").map(|dir| dir.join(".cache/handfast")))
        .expect("one of HANDFAST_CACHE, XDG_CACHE_HOME and HOME is set")
}

/// Blocks 1 to 14,000 of the `OP_TRUE` signet.
pub fn signet_blocks() -> Option<Vec<RawBlock>> {
    blocks("signet_optrue_blocks_1_14000.dat")
}

/// Its branch of 12 blocks on height [`SIGNET_FORK_HEIGHT`], which overtakes it.
pub fn signet_fork() -> Option<Vec<RawBlock>> {
    blocks("signet_optrue_fork_13991_14002.dat")
}

/// The last height that the signet chain and its branch share.
pub const SIGNET_FORK_HEIGHT: usize = 13_990;

/// Blocks 1 to 255 of the main network.
pub fn mainnet_blocks() -> Option<Vec<RawBlock>> {
    blocks("mainnet_blocks_1_255.bz2")
}

/// Headers 0 to 10,236 of the main network.
pub fn mainnet_headers() -> Option<Vec<Header>> {
    let path = find("mainnet_headers_0_10236.bin")?;
    Some(chain_file::read_headers(&path).expect("the file is whole"))
}

fn blocks(name: &str) -> Option<Vec<RawBlock>> {
    Some(chain_file::read_all(&find(name)?).expect("the file is whole"))
}
