//! Errors of the node's settings.

use std::path::PathBuf;

use handfast_cli::SettingsError;
use handfast_rpc::MAX_SOCKET_PATH;

/// Why settings cannot be used. `Display` is one line: the cause and the remedy.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    /// An error of settings that all commands share, or an invalid value.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error("{0} and {1} contradict each other; leave one of them out")]
    Conflict(String, String),
    #[error(
        "{0}: blocks of this signet need a signature, which Handfast cannot make; leave it out, or choose a signet whose challenge is OP_TRUE"
    )]
    SignetNeedsSignature(String),
    #[error("{0}: no payout address is given; add --mine-address")]
    MineForWhom(String),
    #[error("--datadir: the RPC socket in {} would have a path of {length} bytes, at most {most} are possible; choose a shorter --datadir, or another path for the socket with --rpc-socket", dir.display(), most = MAX_SOCKET_PATH)]
    DatadirTooLong { dir: PathBuf, length: usize },
    #[error("{reference}: {source}")]
    UserAgent {
        reference: String,
        source: handfast_node::StartError,
    },
}
