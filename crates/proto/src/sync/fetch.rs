//! Blocks that the operator wants of one peer, whatever sync would ask of whom
//! (`getblockfrompeer`).

use bitcoin::BlockHash;

use crate::headers::{HeaderTree, Status};
use crate::lifecycle::ConnId;

use super::download::{BlockDownload, MAX_IN_FLIGHT};
use super::peers::Peers;

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

/// Whether [`Input::Fetch`](super::Input::Fetch) would ask `id` for this block now.
pub(super) fn may_fetch(
    tree: &HeaderTree,
    peers: &Peers,
    download: &BlockDownload,
    id: ConnId,
    hash: &BlockHash,
) -> Result<(), FetchRefusal> {
    let entry = tree.get(hash).ok_or(FetchRefusal::HeaderMissing)?;
    match entry.status {
        Status::Header if download.with_kernel().contains_key(hash) => {
            return Err(FetchRefusal::Downloaded);
        }
        Status::Header => {}
        Status::Stored | Status::Connected => return Err(FetchRefusal::Downloaded),
        Status::Invalid => return Err(FetchRefusal::Invalid),
    }
    let peer = peers.live(id).ok_or(FetchRefusal::NoSuchPeer)?;
    if !peer.serves_witness() {
        return Err(FetchRefusal::NoWitness);
    }
    let asked = download.asked_of(id);
    if asked.iter().any(|asked| asked.hash == *hash) {
        return Err(FetchRefusal::Requested);
    }
    if asked.len() >= MAX_IN_FLIGHT {
        return Err(FetchRefusal::Busy);
    }
    Ok(())
}
