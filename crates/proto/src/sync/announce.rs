//! Telling peers about a new tip, and hearing of one.

use bitcoin::BlockHash;
use bitcoin::block::Header;
use bitcoin::p2p::message_blockdata::Inventory;
use handfast_wire::Message;

use crate::lifecycle::ConnId;

use super::manager::{Step, SyncManager};

/// Most headers in an announcement (BIP130); a longer way to the tip is announced by
/// `inv`. Core `MAX_BLOCKS_TO_ANNOUNCE`.
pub(super) const MAX_BLOCKS_TO_ANNOUNCE: u32 = 8;

impl SyncManager {
    /// Announces the tip to each peer that does not have it: by `headers` when it asked
    /// for that and has the block that they start from, else by `inv`.
    ///
    /// Not while we are still catching up with more than eight blocks. Core is silent
    /// through all of initial block download; on a chain of old blocks that never
    /// ends, and its peers would not hear of new ones.
    pub(super) fn announce(&mut self, step: &mut Step) {
        // What peers hear of must not be forgotten: the tip waits until it is kept.
        if !self.kept || !std::mem::take(&mut self.tip_moved) {
            return;
        }
        let tip = self.tree.tip();
        if tip.hash == self.announced || self.blocks_behind() > MAX_BLOCKS_TO_ANNOUNCE {
            return;
        }
        self.announced = tip.hash;
        let first = (tip.height + 1)
            .saturating_sub(MAX_BLOCKS_TO_ANNOUNCE)
            .max(1);
        let latest: Vec<(BlockHash, Header)> = (first..=tip.height)
            .filter_map(|height| self.tree.at_height(height))
            .map(|entry| (entry.hash, entry.header))
            .collect();
        let to: Vec<ConnId> = self
            .peers
            .iter()
            .filter(|(_, peer)| !peer.leaving && !self.peer_has(peer, &tip.hash))
            .map(|(id, _)| *id)
            .collect();
        for id in to {
            let peer = &self.peers[&id];
            let start = latest.iter().rposition(|(_, header)| {
                peer.headers.wants_headers && self.peer_has(peer, &header.prev_blockhash)
            });
            match start {
                Some(start) => {
                    let headers = latest[start..].iter().map(|(_, header)| *header).collect();
                    self.live(id).known.sent = Some(tip.hash);
                    step.send(id, Message::Headers(headers));
                }
                None => step.send(id, Message::Inv(vec![Inventory::Block(tip.hash)])),
            }
        }
    }

    /// Blocks between the tip and the end of the chain that is being downloaded. One whose
    /// blocks nobody gives does not count, or its headers would keep us silent.
    pub(super) fn blocks_behind(&self) -> u32 {
        let tip = self.tree.tip();
        self.download
            .proven_plan()
            .filter(|plan| plan.target.work > tip.work)
            .map_or(0, |plan| {
                plan.target.height.saturating_sub(tip.height).max(1)
            })
    }

    /// The peer announces blocks. Headers lead to unknown ones, whatever else it
    /// announced with them: the last is the highest.
    pub(super) fn inv_received(&mut self, step: &mut Step, id: ConnId, items: &[Inventory]) {
        let mut unknown = false;
        for item in items {
            let (Inventory::Block(hash) | Inventory::WitnessBlock(hash)) = item else {
                continue;
            };
            unknown = !self.tree.contains(hash);
            self.learn(id, *hash);
        }
        if !unknown {
            return;
        }
        // Whatever the source does: it may be one that brings nothing new.
        self.live(id).headers.ended = false;
        self.ask_for_announced(step, id);
    }
}
