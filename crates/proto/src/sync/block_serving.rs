//! Block serving: answers to `getheaders`, `getblocks` and `getdata`.
//!
//! # Bounds
//!
//! A peer may have [`MAX_INV`] blocks queued, and [`FEW_QUEUED`] while [`MANY_QUEUED`] are queued
//! for all peers; [`MAX_SERVING`] of them are read and sent at a time. All of it ends with the
//! connection.

use std::collections::{BTreeMap, VecDeque};

use bitcoin::block::Header;
use bitcoin::p2p::message_blockdata::Inventory;
use bitcoin::{BlockHash, Work};
use handfast_wire::limits::{MAX_HEADERS, MAX_INV};
use handfast_wire::{Locator, Message};

use crate::headers::HeaderTree;
use crate::lifecycle::ConnId;

use super::Effect;
use super::step::Step;

/// Most hashes in the answer to `getblocks`. Core's limit in `ProcessMessage`.
const MAX_GETBLOCKS: usize = 500;
/// Blocks that are read and sent to one peer at a time.
const MAX_SERVING: usize = 4;
/// Blocks queued for all peers, 33 bytes each, above which one may have [`FEW_QUEUED`].
const MANY_QUEUED: usize = 4 * MAX_INV;
/// Blocks that may be queued for a peer while there are many for others: as many as one `getblocks`
/// is answered with.
const FEW_QUEUED: usize = MAX_GETBLOCKS;

/// The requests of peers. See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct BlockServing {
    /// Peers that have requested blocks.
    peers: BTreeMap<ConnId, PeerQueue>,
    next_ticket: u64,
}

/// Requests of one peer.
#[derive(Clone, Debug, Default)]
struct PeerQueue {
    /// Requested blocks, and whether with witness.
    queue: VecDeque<(BlockHash, bool)>,
    /// Being read and sent, by ticket.
    active: BTreeMap<u64, BlockHash>,
    /// When this one was sent, the tip is announced by `inv` (`getblocks`). Core
    /// `m_continuation_block`.
    continuation: Option<BlockHash>,
}

/// The answer to `getheaders`. As Core: while our chain is below the minimum work it is empty, so
/// that the peer neither follows that chain nor treats us as unresponsive.
pub(super) fn headers_after(
    tree: &HeaderTree,
    minimum_work: Work,
    locator: &Locator,
) -> Option<Vec<Header>> {
    if tree.tip().work < minimum_work {
        return Some(Vec::new());
    }
    let headers = tree.headers_after(&locator.hashes, &locator.stop, MAX_HEADERS);
    let answered = !locator.hashes.is_empty() || !headers.is_empty();
    answered.then_some(headers)
}

impl BlockServing {
    /// Answers `getblocks`.
    pub(super) fn getblocks(
        &mut self,
        step: &mut Step,
        tree: &HeaderTree,
        id: ConnId,
        locator: &Locator,
    ) {
        let hashes = tree.hashes_after(&locator.hashes, &locator.stop, MAX_GETBLOCKS);
        if hashes.is_empty() {
            return;
        }
        if hashes.len() == MAX_GETBLOCKS {
            self.peers.entry(id).or_default().continuation = hashes.last().copied();
        }
        let items = hashes.into_iter().map(Inventory::Block).collect();
        step.send(id, Message::Inv(items));
    }

    /// Queues the blocks of a `getdata`; blocks that we do not have are answered with `notfound` at
    /// once, and so are those beyond the bounds.
    pub(super) fn getdata(
        &mut self,
        step: &mut Step,
        tree: &HeaderTree,
        id: ConnId,
        items: &[Inventory],
    ) {
        let queued: usize = self.peers.values().map(|peer| peer.queue.len()).sum();
        let most = if queued < MANY_QUEUED {
            MAX_INV
        } else {
            FEW_QUEUED
        };
        let peer = self.peers.entry(id).or_default();
        let mut lacking = Vec::new();
        for item in items {
            let (hash, witness) = match item {
                Inventory::WitnessBlock(hash) | Inventory::CompactBlock(hash) => (hash, true),
                Inventory::Block(hash) => (hash, false),
                // We have no mempool, hence no transactions to serve.
                Inventory::Transaction(_)
                | Inventory::WTx(_)
                | Inventory::WitnessTransaction(_) => {
                    lacking.push(*item);
                    continue;
                }
                Inventory::Error | Inventory::Unknown { .. } => continue,
            };
            if tree.may_serve(hash) && peer.queue.len() < most {
                peer.queue.push_back((*hash, witness));
            } else {
                lacking.push(*item);
            }
        }
        if !lacking.is_empty() {
            step.send(id, Message::NotFound(lacking));
        }
        self.serve_next(step, id);
    }

    /// Starts as many reads as the limit allows for this peer.
    fn serve_next(&mut self, step: &mut Step, id: ConnId) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        while peer.active.len() < MAX_SERVING {
            let Some((hash, witness)) = peer.queue.pop_front() else {
                break;
            };
            let ticket = self.next_ticket;
            self.next_ticket += 1;
            peer.active.insert(ticket, hash);
            step.effects.push(Effect::ServeBlock {
                id,
                ticket,
                hash,
                witness,
            });
        }
        if peer.queue.is_empty() {
            peer.queue.shrink_to(64);
        }
    }

    /// A block was sent, or could not be.
    pub(super) fn served(&mut self, step: &mut Step, tree: &HeaderTree, id: ConnId, ticket: u64) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let Some(hash) = peer.active.remove(&ticket) else {
            return;
        };
        if peer.continuation == Some(hash) {
            peer.continuation = None;
            let tip = Inventory::Block(tree.tip().hash);
            step.send(id, Message::Inv(vec![tip]));
        }
        self.serve_next(step, id);
    }

    /// The peer disconnected, or is being disconnected: no more blocks are read for it.
    pub(super) fn removed(&mut self, id: ConnId) {
        self.peers.remove(&id);
    }

    /// Blocks queued to be read for this peer.
    #[cfg(test)]
    pub(super) fn queued(&self, id: ConnId) -> usize {
        self.peers.get(&id).map_or(0, |peer| peer.queue.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::chains::Blocks;
    use crate::time::Now;

    const ID: ConnId = ConnId(1);

    fn getdata(serving: &mut BlockServing, chain: &Blocks, id: ConnId, blocks: usize) -> Step {
        let mut step = Step::new(Now::default());
        let items = vec![Inventory::WitnessBlock(chain.tip_hash()); blocks];
        serving.getdata(&mut step, &chain.tree(), id, &items);
        step
    }

    fn tickets(step: &Step) -> Vec<u64> {
        let served = step.effects.iter().filter_map(|effect| match effect {
            Effect::ServeBlock { ticket, .. } => Some(*ticket),
            _ => None,
        });
        served.collect()
    }

    #[test]
    fn four_blocks_are_read_at_a_time_and_the_next_when_one_was_sent() {
        let chain = Blocks::new(2, 1);
        let mut serving = BlockServing::default();
        let step = getdata(&mut serving, &chain, ID, 6);
        assert_eq!(tickets(&step), [0, 1, 2, 3]);
        let mut step = Step::new(Now::default());
        serving.served(&mut step, &chain.tree(), ID, 2);
        assert_eq!(tickets(&step), [4]);
        // A ticket counts once.
        let mut step = Step::new(Now::default());
        serving.served(&mut step, &chain.tree(), ID, 2);
        assert_eq!(tickets(&step), [0; 0]);
    }

    #[test]
    fn many_blocks_queued_for_others_leave_a_peer_a_few() {
        let chain = Blocks::new(2, 1);
        let mut serving = BlockServing::default();
        for other in 2..=6 {
            getdata(&mut serving, &chain, ConnId(other), MAX_INV);
        }
        getdata(&mut serving, &chain, ID, MAX_INV);
        assert_eq!(serving.queued(ID), FEW_QUEUED - MAX_SERVING);
    }

    #[test]
    fn no_state_of_a_disconnected_peer_stays() {
        let chain = Blocks::new(2, 1);
        let mut serving = BlockServing::default();
        getdata(&mut serving, &chain, ID, 6);
        serving.removed(ID);
        assert!(serving.peers.is_empty());
        let mut step = Step::new(Now::default());
        serving.served(&mut step, &chain.tree(), ID, 0);
        assert!(step.effects.is_empty() && serving.peers.is_empty());
    }
}
