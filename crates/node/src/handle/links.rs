//! The actors that answer a [`NodeHandle`](super::NodeHandle).

use std::sync::{Arc, OnceLock};

use actix::Addr;
use handfast_chain::BlockReader;

use crate::miner::Miner;
use crate::peer_manager::PeerManager;
use crate::sync_manager::SyncManager;

/// Where they are, once they run. Clones are one.
pub(crate) type LinksCell = Arc<OnceLock<Links>>;

/// See the module.
#[derive(Debug)]
pub(crate) struct Links {
    pub(crate) peers: Addr<PeerManager>,
    pub(crate) sync: Addr<SyncManager>,
    pub(crate) miner: Addr<Miner>,
    pub(crate) reader: BlockReader,
}
