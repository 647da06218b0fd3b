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

/// Most headers in an announcement (BIP130); a tip further ahead is announced by `inv`. Core
/// `MAX_BLOCKS_TO_ANNOUNCE`.
pub(super) const MAX_BLOCKS_TO_ANNOUNCE: u32 = 8;

/// The announcements of our chain to peers.
///
/// Invariant: the block announced last is, or was, our tip and is not known to be invalid. A
/// tip is announced at most once to a peer.
#[derive(Clone, Debug)]
pub(super) struct Announcer {
    /// The tip that was announced last.
    announced: BlockHash,
    /// The tip has changed, and was not announced yet.
    tip_moved: bool,
    /// Peers that have sent `sendheaders` or were sent headers.
    peers: BTreeMap<ConnId, PeerAnnounce>,
}

/// Announcement state of one peer.
#[derive(Clone, Copy, Debug, Default)]
struct PeerAnnounce {
    /// It sent `sendheaders`.
    wants_headers: bool,
    /// The best header we sent it. Core `pindexBestHeaderSent`.
    sent: Option<BlockHash>,
}

impl Announcer {
    /// The tip at start, which is not announced.
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

    /// The peer was sent headers up to this one.
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

    /// A block became invalid: if it or a descendant was announced, that is undone.
    pub(super) fn marked_invalid(&mut self, tree: &HeaderTree, hash: &BlockHash) {
        if tree.is_ancestor(hash, &self.announced) {
            self.announced = tree.tip().hash;
        }
    }

    /// Announces the tip to each peer that does not have it: by `headers` when the peer sent
    /// `sendheaders` and has the parent of the first one, else by `inv`. `behind`: blocks between
    /// the tip and the end of the chain that is being downloaded.
    ///
    /// Not while we are more than eight blocks behind. Core is silent through all of initial block
    /// download; on a chain of old blocks that never ends, and its peers would not receive new
    /// ones.
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
            // Core `PeerHasHeader`: the peer showed it, or we sent it.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::Direction;
    use crate::sync::header_sync::tests::version_info;
    use crate::testing::chains::Blocks;
    use crate::time::Now;

    const WANTS: ConnId = ConnId(1);
    const OTHER: ConnId = ConnId(2);

    /// Two peers that have our chain; the first wants announcements by `headers`.
    fn peers(chain: &Blocks) -> (Announcer, Peers, KnownWork) {
        let mut announcer = Announcer::new(chain.tip_hash());
        let (mut peers, mut known) = (Peers::default(), KnownWork::default());
        for id in [WANTS, OTHER] {
            peers.added(&version_info(id, Direction::Inbound));
            known.added(id);
            known.learn(&chain.tree(), id, chain.tip_hash());
        }
        announcer.sendheaders(WANTS);
        (announcer, peers, known)
    }

    fn announce(
        (announcer, peers, known): &mut (Announcer, Peers, KnownWork),
        chain: &Blocks,
        behind: u32,
    ) -> Vec<(ConnId, Message)> {
        let mut step = Step::new(Now::default());
        announcer.tip_moved();
        announcer.announce(&mut step, &chain.tree(), peers, known, behind);
        let sent = step.effects.into_iter().map(|effect| match effect {
            super::super::Effect::Send { id, message } => (id, message),
            other => panic!("an announcement is a message: {other:?}"),
        });
        sent.collect()
    }

    #[test]
    fn a_tip_is_announced_once_by_headers_where_these_are_wanted() {
        let chain = Blocks::new(5, 1);
        let mut all = peers(&chain);
        let longer = chain.fork(5, 2, 1);
        let sent = announce(&mut all, &longer, 0);
        let headers = longer.headers()[5..].to_vec();
        let tip = Inventory::Block(longer.tip_hash());
        let expected = [
            (WANTS, Message::Headers(headers)),
            (OTHER, Message::Inv(vec![tip])),
        ];
        assert_eq!(sent, expected);
        assert_eq!(announce(&mut all, &longer, 0), []);
    }

    #[test]
    fn a_distant_tip_and_a_chain_that_is_still_downloaded_are_not_announced_by_headers() {
        let chain = Blocks::new(5, 1);
        let mut all = peers(&chain);
        let longer = chain.fork(5, 9, 1);
        assert_eq!(announce(&mut all, &longer, MAX_BLOCKS_TO_ANNOUNCE + 1), []);
        let sent = announce(&mut all, &longer, MAX_BLOCKS_TO_ANNOUNCE);
        assert_eq!(sent.len(), 2);
        assert!(
            sent.iter()
                .all(|(_, message)| matches!(message, Message::Inv(_)))
        );
    }

    #[test]
    fn a_tip_that_was_announced_and_is_invalid_does_not_keep_its_rival_from_being_announced() {
        let chain = Blocks::new(5, 1);
        let mut all = peers(&chain);
        let longer = chain.fork(5, 2, 1);
        announce(&mut all, &longer, 0);
        all.0.marked_invalid(&longer.tree(), &longer.at(6).hash);
        assert_eq!(
            all.0.announced,
            longer.tip_hash(),
            "the tip of the tree given"
        );
        all.0.removed(WANTS);
        assert!(all.0.peers.is_empty());
    }
}
