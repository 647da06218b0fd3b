//! What `Miner` is sent.

use std::sync::Arc;

use bitcoin::ScriptBuf;
use handfast_proto::mining::{GenerateFailure, GenerateOrder, Generated, MiningState};
use tokio::sync::oneshot;

use super::hash_threads::Solved;
use crate::post::{asked, posted};

/// A hash thread solved a block. One for each that it was given.
#[derive(Debug)]
pub(crate) struct MinerSolved(pub(crate) Solved);

/// Blocks on demand.
#[derive(Debug)]
pub(crate) struct GenerateBlocks {
    /// How many and for whom; the ticket is the miner's to fill in.
    pub(crate) order: GenerateOrder,
    /// Gets them. Dropped by the one who asks: the order is void.
    pub(crate) answer: oneshot::Sender<Result<Generated, GenerateFailure>>,
}

/// Mine until told otherwise.
#[derive(Debug)]
pub(crate) struct StartMining {
    /// Hash threads, at least one.
    pub(crate) threads: usize,
    /// Who is paid.
    pub(crate) payout: ScriptBuf,
}

/// Mine no more.
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
