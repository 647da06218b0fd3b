//! Mistakes at the border of the sync machine: inputs that it does not get, and requests that are
//! never sent. They disable what a rule inside the machine provides.

use std::time::Duration;

use bitcoin::p2p::message_blockdata::Inventory;
use handfast_proto::lifecycle::{ConnId, Direction};
use handfast_wire::Message;

use super::Running;
use crate::sim::Mutant;
use crate::sim::engine::Engine;

/// A peer is stalling for long.
const LONG: Duration = Duration::from_millis(1_500);

impl Running {
    /// Whether this message of a peer does not reach SyncManager.
    pub(super) fn loses_announcement(
        &self,
        engine: &Engine,
        id: ConnId,
        message: &Message,
    ) -> bool {
        let announces = match message {
            Message::Inv(_) | Message::Block(_) => true,
            // The answer to a request is no announcement.
            Message::Headers(headers) => headers.len() < 3 && !self.watch.awaits_headers(id),
            _ => false,
        };
        engine.is_mutant(Mutant::AnnouncementIsLost)
            && announces
            && self.sync.sync_peer() != Some(id)
            && !self.watch.has_getdata_outstanding(id)
    }

    /// Whether this request of SyncManager is never sent.
    pub(super) fn loses_request(&self, engine: &Engine, id: ConnId, message: &Message) -> bool {
        let headers = matches!(message, Message::GetHeaders(_));
        let hashes = match message {
            Message::GetData(items) => items.as_slice(),
            _ => &[],
        };
        let mut blocks = hashes.iter().filter_map(|item| match item {
            Inventory::WitnessBlock(hash) | Inventory::Block(hash) => Some(*hash),
            _ => None,
        });
        let asks = headers || !hashes.is_empty();
        match engine.mutant {
            Some(Mutant::OnlySourceIsAsked) => headers && self.sync.sync_peer() != Some(id),
            Some(Mutant::OnlyBestChainIsFetched) => {
                let tree = self.sync.tree();
                let best = tree.best_header().hash;
                blocks.any(|hash| !tree.is_ancestor(&hash, &best))
            }
            Some(Mutant::OneIsWaitedFor) => {
                !hashes.is_empty() && self.watch.another_stalls(id, engine.now, LONG)
            }
            Some(Mutant::LateIsNotReplaced) => {
                blocks.any(|hash| self.watch.another_was_asked(id, &hash))
            }
            Some(Mutant::InboundIsNotAsked) => {
                let inbound = |id: ConnId| {
                    let peer = self.peers.get(&id);
                    peer.is_some_and(|peer| peer.direction == Direction::Inbound)
                };
                asks && inbound(id) && self.links.iter().any(|other| !inbound(*other))
            }
            _ => false,
        }
    }
}
