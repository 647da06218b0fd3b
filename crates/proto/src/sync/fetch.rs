//! Blocks that the operator wants of one peer, whatever sync would request
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bitcoin::p2p::ServiceFlags;

    use super::*;
    use crate::lifecycle::{Direction, DoneReason};
    use crate::sync::download::{Pending, View};
    use crate::sync::header_sync::tests::version_info;
    use crate::sync::known_work::KnownWork;
    use crate::sync::step::Step;
    use crate::sync::timers::Timers;
    use crate::testing::chains::Blocks;
    use crate::time::Now;

    const PEER: ConnId = ConnId(1);

    /// A peer beside a chain of forty blocks, of which we have ten.
    struct Alone {
        blocks: Blocks,
        tree: HeaderTree,
        peers: Peers,
        download: BlockDownload,
    }

    impl Alone {
        fn new() -> Self {
            let ours = Blocks::new(10, 1);
            let blocks = ours.fork(10, 30, 1);
            let mut tree = ours.tree();
            for header in &blocks.headers()[10..] {
                tree.insert(*header).expect("its parent is known");
            }
            let (mut peers, mut download) = (Peers::default(), BlockDownload::default());
            peers.added(&version_info(PEER, Direction::Outbound));
            download.added(PEER);
            Self {
                blocks,
                tree,
                peers,
                download,
            }
        }

        fn ask(&mut self, height: u32) {
            let view = View {
                tree: &self.tree,
                peers: &self.peers,
                known: &KnownWork::default(),
                minimum_work: self.tree.tip().work,
                now: Duration::ZERO,
            };
            let hash = self.blocks.at(height).hash;
            let timers = &mut Timers::default();
            self.download.fetch(&view, timers, PEER, height, hash);
        }

        fn may_fetch(&self, id: ConnId, height: u32) -> Result<(), FetchRefusal> {
            let hash = self.blocks.at(height).hash;
            may_fetch(&self.tree, &self.peers, &self.download, id, &hash)
        }
    }

    #[test]
    fn a_block_is_fetched_only_while_its_header_is_known_and_its_data_is_not_here() {
        let mut alone = Alone::new();
        assert_eq!(alone.may_fetch(PEER, 11), Ok(()));
        assert_eq!(alone.may_fetch(PEER, 10), Err(FetchRefusal::Downloaded));
        alone.tree.mark_stored(&alone.blocks.at(12).hash);
        assert_eq!(alone.may_fetch(PEER, 12), Err(FetchRefusal::Downloaded));
        let block = alone.blocks.at(11);
        let pending = Pending::new(block, Duration::ZERO, false, None);
        alone.download.given_to_kernel(11, block.hash, pending);
        assert_eq!(alone.may_fetch(PEER, 11), Err(FetchRefusal::Downloaded));
        alone.tree.mark_invalid(&alone.blocks.at(40).hash);
        assert_eq!(alone.may_fetch(PEER, 40), Err(FetchRefusal::Invalid));
        alone.blocks.grow(1, 1);
        assert_eq!(alone.may_fetch(PEER, 41), Err(FetchRefusal::HeaderMissing));
    }

    #[test]
    fn a_block_is_fetched_of_a_live_peer_with_witness_data_alone() {
        let mut alone = Alone::new();
        let (old, unknown) = (ConnId(2), ConnId(3));
        let mut intro = version_info(old, Direction::Inbound);
        intro.services = ServiceFlags::NETWORK;
        alone.peers.added(&intro);
        assert_eq!(alone.may_fetch(old, 11), Err(FetchRefusal::NoWitness));
        assert_eq!(alone.may_fetch(unknown, 11), Err(FetchRefusal::NoSuchPeer));
        let mut step = Step::new(Now::default());
        let why = DoneReason::Requested;
        assert!(alone.peers.disconnect(&mut step, PEER, why));
        assert_eq!(alone.may_fetch(PEER, 11), Err(FetchRefusal::NoSuchPeer));
    }

    #[test]
    fn a_peer_is_asked_for_a_block_once_and_for_sixteen_at_a_time() {
        let mut alone = Alone::new();
        for height in 11..=26 {
            assert_eq!(alone.may_fetch(PEER, height), Ok(()));
            alone.ask(height);
            assert_eq!(alone.may_fetch(PEER, height), Err(FetchRefusal::Requested));
        }
        assert_eq!(alone.may_fetch(PEER, 27), Err(FetchRefusal::Busy));
    }
}
