//! The messages of `Miner`.

use std::sync::Arc;

use bitcoin::ScriptBuf;
use handfast_proto::mining::{GenerateFailure, GenerateRequest, Generated, MiningState};
use tokio::sync::oneshot;

use super::hash_threads::Solved;
use crate::post::{asked, posted};

/// A hash thread solved a block. Sent once for each work.
#[derive(Debug)]
pub(crate) struct MinerSolved(pub(crate) Solved);

/// Mine blocks on demand.
#[derive(Debug)]
pub(crate) struct GenerateBlocks {
    /// Number and payout script; the miner fills in the ticket.
    pub(crate) request: GenerateRequest,
    /// Receives them. When the caller drops it, the request is cancelled.
    pub(crate) answer: oneshot::Sender<Result<Generated, GenerateFailure>>,
}

/// Mine until stopped.
#[derive(Debug)]
pub(crate) struct StartMining {
    /// Hash threads, at least one.
    pub(crate) threads: usize,
    /// The payout script.
    pub(crate) payout: ScriptBuf,
}

/// Stop mining.
#[derive(Debug)]
pub(crate) struct StopMining;

/// Phase "miner": stop.
#[derive(Debug)]
pub(crate) struct StopMiner;

posted!(by request: MinerSolved);
posted!(rare: GenerateBlocks);

asked! {
    StartMining => Result<Arc<MiningState>, std::io::Error>,
    StopMining => Arc<MiningState>,
    StopMiner => (),
}
