//! What is asked of the miner.

use std::num::NonZero;
use std::sync::Arc;

use bitcoin::ScriptBuf;
use handfast_proto::mining::{
    GenerateFailure, GenerateRequest, Generated, MiningState, NextBlock, Why,
    anyone_can_spend_payout,
};

use super::NodeHandle;
use crate::miner::messages as to_miner;
use crate::post::{ask, post};
use crate::view::Gone;

/// Why mining was not started or stopped.
#[derive(Debug, thiserror::Error)]
pub enum MiningFailure {
    /// The node is not there.
    #[error(transparent)]
    Gone(#[from] Gone),
    /// No payout address was given, and this network needs one.
    #[error("a payout address is needed")]
    NoPayout,
    /// Blocks of this signet need a signature.
    #[error("blocks of this signet need a signature, which Handfast cannot make")]
    NeedsSignature,
    /// The system gives no threads.
    #[error("threads cannot be started: {0}")]
    Threads(#[from] std::io::Error),
    /// The miner died of a bug; how.
    #[error("the miner died ({0}); restart the node to mine again")]
    Dead(String),
}

/// Why blocks were not made on demand.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// The node is not there.
    #[error(transparent)]
    Gone(#[from] Gone),
    /// What came of the blocks.
    #[error(transparent)]
    Failure(#[from] GenerateFailure),
    /// The miner died of a bug; how.
    #[error("the miner died ({0}); restart the node to mine again")]
    Dead(String),
}

/// The threads to mine with by default: one for each core.
pub(crate) fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

impl NodeHandle {
    /// What the miner is doing, and why. Never waits.
    #[must_use]
    pub fn mining(&self) -> Arc<MiningState> {
        self.shared.mining.load_full()
    }

    /// The wall clock that blocks are timed by, Unix seconds.
    #[must_use]
    pub fn unix(&self) -> u32 {
        self.shared.clock.now().unix
    }

    /// What the next block of the active chain would be, were it made now. Never waits.
    #[must_use]
    pub fn next_block(&self) -> NextBlock {
        let view = self.view();
        NextBlock::after(
            &view.tree,
            &view.tree.tip().hash,
            &view.network,
            self.unix(),
        )
        .expect("the tip is in its tree")
    }

    /// Starts mining, or restarts it. Without `threads` and `payout` those of the
    /// configuration count, then one thread for each core and, on networks without value, a
    /// script that anybody can spend.
    ///
    /// # Errors
    /// See [`MiningFailure`].
    ///
    /// # Panics
    /// When `threads` is 0.
    pub async fn start_mining(
        &self,
        threads: Option<usize>,
        payout: Option<ScriptBuf>,
    ) -> Result<Arc<MiningState>, MiningFailure> {
        self.accepts_writes()?;
        let network = &self.view().network;
        if network.signet_needs_a_signature() {
            return Err(MiningFailure::NeedsSignature);
        }
        let config = &self.shared.mining_config;
        let payout = payout
            .or_else(|| config.payout.clone())
            .or_else(|| anyone_can_spend_payout(network))
            .ok_or(MiningFailure::NoPayout)?;
        let threads = threads.or(config.threads).unwrap_or_else(default_threads);
        let request = to_miner::StartMining { threads, payout };
        match ask(&self.links()?.miner, request).await {
            Ok(started) => Ok(started?),
            Err(gone) => Err(self.dead_miner().map_or(gone.into(), MiningFailure::Dead)),
        }
    }

    /// Mines no more. Blocks on demand are not affected.
    ///
    /// # Errors
    /// [`MiningFailure::Gone`] or [`MiningFailure::Dead`].
    pub async fn stop_mining(&self) -> Result<Arc<MiningState>, MiningFailure> {
        match ask(&self.links()?.miner, to_miner::StopMining).await {
            Ok(state) => Ok(state),
            Err(gone) => Err(self.dead_miner().map_or(gone.into(), MiningFailure::Dead)),
        }
    }

    /// Makes blocks on top of the tip; `request.ticket` is not looked at. When it answers, the
    /// view shows them.
    ///
    /// # Errors
    /// See [`GenerateError`].
    ///
    /// # Cancel safety
    /// Dropping the future ends the order after the search that is under way.
    pub async fn generate(&self, request: GenerateRequest) -> Result<Generated, GenerateError> {
        self.accepts_writes()?;
        let (answer, wait) = tokio::sync::oneshot::channel();
        let miner = &self.links()?.miner;
        post(miner, to_miner::GenerateBlocks { request, answer });
        match wait.await {
            Ok(result) => Ok(result?),
            Err(_) => Err(self
                .dead_miner()
                .map_or(Gone::Stopping.into(), GenerateError::Dead)),
        }
    }

    fn dead_miner(&self) -> Option<String> {
        match &self.mining().why {
            Why::Dead(how) => Some(how.clone()),
            _ => None,
        }
    }
}
