//! Blocks that the operator wants of one peer, whatever sync would ask of whom
//! (`getblockfrompeer`).

use bitcoin::BlockHash;
use bitcoin::p2p::message_blockdata::Inventory;
use handfast_wire::Message;

use crate::headers::Status;
use crate::lifecycle::ConnId;

use super::download::MAX_IN_FLIGHT;
use super::manager::{Step, SyncManager};

/// Why a block is not asked of a peer. The texts are Core's, where it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum FetchRefusal {
    /// Its header is not known.
    #[error("Block header missing")]
    HeaderMissing,
    /// Its data is on disk, or with the kernel.
    #[error("Block already downloaded")]
    Downloaded,
    /// It was found invalid; Core would download it all the same.
    #[error("Block is known to be invalid")]
    Invalid,
    /// No such peer, or it is leaving.
    #[error("Peer does not exist")]
    NoSuchPeer,
    /// It cannot send witness data.
    #[error("Pre-SegWit peer")]
    NoWitness,
    /// It was asked and has not answered yet.
    #[error("Already requested from this peer")]
    Requested,
    /// It has been asked for as many blocks as anybody ever is at a time.
    #[error("Peer has been asked for 16 blocks and has sent none of them yet")]
    Busy,
}

impl SyncManager {
    /// Whether [`Input::Fetch`](super::Input::Fetch) would ask `id` for this block now.
    ///
    /// # Errors
    /// Why not.
    pub fn may_fetch(&self, id: ConnId, hash: &BlockHash) -> Result<(), FetchRefusal> {
        let entry = self.tree.get(hash).ok_or(FetchRefusal::HeaderMissing)?;
        match entry.status {
            Status::Header if self.download.with_kernel().contains_key(hash) => {
                return Err(FetchRefusal::Downloaded);
            }
            Status::Header => {}
            Status::Stored | Status::Connected => return Err(FetchRefusal::Downloaded),
            Status::Invalid => return Err(FetchRefusal::Invalid),
        }
        let peer = self.peers.get(&id).filter(|peer| !peer.leaving);
        let peer = peer.ok_or(FetchRefusal::NoSuchPeer)?;
        if !peer.witness {
            return Err(FetchRefusal::NoWitness);
        }
        let asked = self.download.asked_of(id);
        if asked.iter().any(|asked| asked.hash == *hash) {
            return Err(FetchRefusal::Requested);
        }
        if asked.len() >= MAX_IN_FLIGHT {
            return Err(FetchRefusal::Busy);
        }
        Ok(())
    }

    /// Asks `id` for a block, and nobody else any more. From there on it is a block like
    /// any other: a peer that does not send it is late.
    pub(super) fn fetch(&mut self, step: &mut Step, id: ConnId, hash: BlockHash) {
        if self.may_fetch(id, &hash).is_err() {
            return;
        }
        let height = self.tree.get(&hash).map_or(0, |entry| entry.height);
        self.with_download(step.now.mono, |download, view| {
            download.fetch(view, id, height, hash);
        });
        tracing::debug!(%id, %hash, "asked for a block that the operator wants");
        step.send(id, Message::GetData(vec![Inventory::WitnessBlock(hash)]));
    }
}
