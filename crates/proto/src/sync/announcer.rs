//! Announcing a new tip to peers.

use std::collections::BTreeMap;

use bitcoin::BlockHash;
use bitcoin::block::Header;
use bitcoin::p2p::message_blockdata::Inventory;
use handfast_wire::Message;

use crate::headers::HeaderTree;
use crate::lifecycle::ConnId;

use super::known_work::KnownWork;
use super::peers::Peers;
use super::step::Step;

/// Most headers in an announcement (BIP130); a longer way to the tip is announced by
/// `inv`. Core `MAX_BLOCKS_TO_ANNOUNCE`.
pub(super) const MAX_BLOCKS_TO_ANNOUNCE: u32 = 8;

/// What peers were told of our chain.
///
/// Invariant: the block announced last is, or was, our tip and is not known to be invalid. A
/// tip is announced at most once to a peer.
#[derive(Clone, Debug)]
pub(super) struct Announcer {
    /// The tip that was announced last.
    announced: BlockHash,
    /// The tip has changed, and was not announced yet.
    tip_moved: bool,
    /// Peers that have sent `sendheaders` or got headers of us.
    peers: BTreeMap<ConnId, PeerAnnounce>,
}

/// Announcing to one peer.
#[derive(Clone, Copy, Debug, Default)]
struct PeerAnnounce {
    /// It sent `sendheaders`.
    wants_headers: bool,
    /// The best header we sent it. Core `pindexBestHeaderSent`.
    sent: Option<BlockHash>,
}

impl Announcer {
    /// Our chain begins with this tip, which is not announced.
    pub(super) fn new(tip: BlockHash) -> Self {
        Self {
            announced: tip,
            tip_moved: false,
            peers: BTreeMap::new(),
        }
    }

    /// The peer wants announcements by `headers`.
    pub(super) fn sendheaders(&mut self, id: ConnId) {
        self.peers.entry(id).or_default().wants_headers = true;
    }

    /// The peer got headers up to this one.
    pub(super) fn headers_sent(&mut self, id: ConnId, last: BlockHash) {
        self.peers.entry(id).or_default().sent = Some(last);
    }

    pub(super) fn removed(&mut self, id: ConnId) {
        self.peers.remove(&id);
    }

    /// There is a new tip.
    pub(super) fn tip_moved(&mut self) {
        self.tip_moved = true;
    }

    /// A block became invalid: if it or what builds on it was announced, that counts no more.
    pub(super) fn marked_invalid(&mut self, tree: &HeaderTree, hash: &BlockHash) {
        if tree.is_ancestor(hash, &self.announced) {
            self.announced = tree.tip().hash;
        }
    }

    /// Announces the tip to each peer that does not have it: by `headers` when it asked
    /// for that and has the block that they start from, else by `inv`. `behind`: blocks between
    /// the tip and the end of the chain that is being downloaded.
    ///
    /// Not while we are still catching up with more than eight blocks. Core is silent
    /// through all of initial block download; on a chain of old blocks that never
    /// ends, and its peers would not hear of new ones.
    pub(super) fn announce(
        &mut self,
        step: &mut Step,
        tree: &HeaderTree,
        peers: &Peers,
        known: &KnownWork,
        behind: u32,
    ) {
        if !std::mem::take(&mut self.tip_moved) {
            return;
        }
        let tip = tree.tip();
        if tip.hash == self.announced || behind > MAX_BLOCKS_TO_ANNOUNCE {
            return;
        }
        self.announced = tip.hash;
        let first = (tip.height + 1)
            .saturating_sub(MAX_BLOCKS_TO_ANNOUNCE)
            .max(1);
        let latest: Vec<(BlockHash, Header)> = (first..=tip.height)
            .filter_map(|height| tree.at_height(height))
            .map(|entry| (entry.hash, entry.header))
            .collect();
        for (id, _) in peers.iter_live() {
            let peer = self.peers.get(&id).copied().unwrap_or_default();
            let shown = known.best(id).map(|best| best.hash);
            // Core `PeerHasHeader`: it showed it, or we sent it.
            let has = |hash: &BlockHash| {
                let mut ends = [shown, peer.sent].into_iter().flatten();
                ends.any(|end| end == *hash || tree.is_ancestor(hash, &end))
            };
            if has(&tip.hash) {
                continue;
            }
            let start = latest
                .iter()
                .rposition(|(_, header)| peer.wants_headers && has(&header.prev_blockhash));
            match start {
                Some(start) => {
                    let headers = latest[start..].iter().map(|(_, header)| *header);
                    step.send(id, Message::Headers(headers.collect()));
                    self.headers_sent(id, tip.hash);
                }
                None => step.send(id, Message::Inv(vec![Inventory::Block(tip.hash)])),
            }
        }
    }
}
