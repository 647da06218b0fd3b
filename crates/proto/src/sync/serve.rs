//! Answering `getheaders`, `getblocks` and `getdata`.

use bitcoin::BlockHash;
use bitcoin::p2p::message_blockdata::Inventory;
use handfast_wire::limits::{MAX_HEADERS, MAX_INV};
use handfast_wire::{Locator, Message};

use crate::lifecycle::ConnId;

use super::Effect;
use super::manager::{Step, SyncManager};

/// Most hashes in the answer to `getblocks`. Core's limit in `ProcessMessage`.
const MAX_GETBLOCKS: usize = 500;
/// Blocks that are read and sent to one peer at a time.
const MAX_SERVING: usize = 4;
/// Blocks queued for all peers, 33 bytes each, above which one may have [`FEW_QUEUED`].
const MANY_QUEUED: usize = 4 * MAX_INV;
/// Blocks that may be queued for a peer while there are many for others: as many as it
/// learns of by one `getblocks`.
const FEW_QUEUED: usize = MAX_GETBLOCKS;

impl SyncManager {
    /// As Core: while our chain is below the minimum work the answer is empty, so that
    /// the peer neither follows it nor takes us for dead.
    pub(super) fn serve_headers(&mut self, step: &mut Step, id: ConnId, locator: &Locator) {
        let tip = self.tree.tip();
        if tip.work < self.config.minimum_work {
            return step.send(id, Message::Headers(Vec::new()));
        }
        let headers = self
            .tree
            .headers_after(&locator.hashes, &locator.stop, MAX_HEADERS);
        if locator.hashes.is_empty() && headers.is_empty() {
            return;
        }
        let last = headers
            .last()
            .map_or(tip.hash, bitcoin::block::Header::block_hash);
        self.live(id).known.sent = Some(last);
        step.send(id, Message::Headers(headers));
    }

    pub(super) fn serve_inventory(&mut self, step: &mut Step, id: ConnId, locator: &Locator) {
        let hashes = self
            .tree
            .hashes_after(&locator.hashes, &locator.stop, MAX_GETBLOCKS);
        if hashes.is_empty() {
            return;
        }
        if hashes.len() == MAX_GETBLOCKS {
            self.live(id).serving.continuation = hashes.last().copied();
        }
        step.send(
            id,
            Message::Inv(hashes.into_iter().map(Inventory::Block).collect()),
        );
    }

    /// Queues the blocks asked for; what we do not have is said at once. The queue is
    /// bounded by what one `getdata` may hold, and by less while others have much queued;
    /// what goes beyond is not found either.
    pub(super) fn serve_data(&mut self, step: &mut Step, id: ConnId, items: &[Inventory]) {
        let queued: usize = self
            .peers
            .values()
            .map(|peer| peer.serving.queue.len())
            .sum();
        let most = if queued < MANY_QUEUED {
            MAX_INV
        } else {
            FEW_QUEUED
        };
        let mut lacking = Vec::new();
        for item in items {
            let (hash, witness) = match item {
                Inventory::WitnessBlock(hash) | Inventory::CompactBlock(hash) => (hash, true),
                Inventory::Block(hash) => (hash, false),
                // We have no mempool, hence no transactions to give.
                Inventory::Transaction(_)
                | Inventory::WTx(_)
                | Inventory::WitnessTransaction(_) => {
                    lacking.push(*item);
                    continue;
                }
                Inventory::Error | Inventory::Unknown { .. } => continue,
            };
            let served = self.tree.may_serve(hash);
            let serving = &mut self.live(id).serving;
            if served && serving.queue.len() < most {
                serving.queue.push_back((*hash, witness));
            } else {
                lacking.push(*item);
            }
        }
        if !lacking.is_empty() {
            step.send(id, Message::NotFound(lacking));
        }
        self.serve_next(step, id);
    }

    /// Starts as many reads as may run for this peer.
    fn serve_next(&mut self, step: &mut Step, id: ConnId) {
        let serving = &mut self
            .peers
            .get_mut(&id)
            .expect("the caller looked it up")
            .serving;
        while serving.active.len() < MAX_SERVING {
            let Some((hash, witness)) = serving.queue.pop_front() else {
                break;
            };
            let ticket = self.next_ticket;
            self.next_ticket += 1;
            serving.active.insert(ticket, hash);
            step.effects.push(Effect::ServeBlock {
                id,
                ticket,
                hash,
                witness,
            });
        }
        if serving.queue.is_empty() {
            serving.queue.shrink_to(64);
        }
    }

    /// A block was sent, or could not be.
    pub(super) fn served(&mut self, step: &mut Step, id: ConnId, ticket: u64) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let Some(hash) = peer.serving.active.remove(&ticket) else {
            return;
        };
        if peer.leaving {
            return;
        }
        if peer.serving.continuation == Some(hash) {
            peer.serving.continuation = None;
            let tip: BlockHash = self.tree.tip().hash;
            step.send(id, Message::Inv(vec![Inventory::Block(tip)]));
        }
        self.serve_next(step, id);
    }
}
