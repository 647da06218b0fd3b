//! The parts of the machine, side by side.

use super::SyncConfig;
use super::announcer::Announcer;
use super::block_serving::BlockServing;
use super::chain::Chain;
use super::chain_sync::ChainSync;
use super::download::BlockDownload;
use super::engine_headers::EngineHeaders;
use super::header_sync::HeaderSync;
use super::known_work::KnownWork;
use super::peers::Peers;
use super::submissions::Submissions;
use super::timers::Timers;
use super::verdicts::Verdicts;
use crate::headers::HeaderTree;

/// All parts but the watchdog, which only reads these. Each has private fields and its own
/// invariant; what one tells another passes through [`SyncManager`](super::SyncManager).
#[derive(Clone, Debug)]
pub(super) struct Parts {
    pub(super) config: SyncConfig,
    pub(super) chain: Chain,
    pub(super) peers: Peers,
    pub(super) known: KnownWork,
    pub(super) headers: HeaderSync,
    pub(super) engine_headers: EngineHeaders,
    pub(super) download: BlockDownload,
    pub(super) chain_sync: ChainSync,
    pub(super) serving: BlockServing,
    pub(super) announcer: Announcer,
    pub(super) submissions: Submissions,
    pub(super) verdicts: Verdicts,
    pub(super) timers: Timers,
}

impl Parts {
    pub(super) fn new(config: SyncConfig, tree: HeaderTree) -> Self {
        Self {
            announcer: Announcer::new(tree.tip().hash),
            chain: Chain::new(tree, config.minimum_work),
            headers: HeaderSync::new(config.seed),
            peers: Peers::default(),
            known: KnownWork::default(),
            engine_headers: EngineHeaders::default(),
            download: BlockDownload::default(),
            chain_sync: ChainSync::default(),
            serving: BlockServing::default(),
            submissions: Submissions::default(),
            verdicts: Verdicts::default(),
            timers: Timers::default(),
            config,
        }
    }

    /// The header tree, with the active chain.
    pub(super) fn tree(&self) -> &HeaderTree {
        self.chain.tree()
    }
}
