//! Blocks that come from peers: what they must show before the kernel sees them.

use std::time::Duration;

use bitcoin::BlockHash;
use bitcoin::block::Header;
use bitcoin::p2p::message_blockdata::Inventory;
use handfast_wire::{Message, RawBlock};

use crate::headers::{Status, check_pow};
use crate::lifecycle::{ConnId, DoneReason};

use super::Effect;
use super::download::{Action, BlockDownload, View};
use super::header_batch::is_from_the_future;
use super::manager::{Step, SyncManager};
use super::submit::Pending;

/// An unasked block is taken only up to that many blocks above the tip. Core
/// `MIN_BLOCKS_TO_KEEP`.
const MAX_UNASKED_HEIGHT: u32 = 288;
/// An unasked block is dropped when that many blocks wait for the kernel.
const MAX_UNASKED_BACKLOG: usize = 16;

impl SyncManager {
    /// Has download look at what it needs of the rest.
    pub(super) fn with_download<T>(
        &mut self,
        now: Duration,
        act: impl FnOnce(&mut BlockDownload, &View<'_>) -> T,
    ) -> T {
        let view = View {
            tree: &self.tree,
            peers: &self.peers,
            minimum_work: self.config.minimum_work,
            now,
        };
        act(&mut self.download, &view)
    }

    /// Plans follow what was learnt, and requests go out.
    pub(super) fn settle_downloads(&mut self, step: &mut Step) {
        let mut actions = Vec::new();
        self.with_download(step.now.mono, |download, view| {
            download.settle(view, &mut actions);
        });
        self.perform(step, actions);
    }

    pub(super) fn download_timers(&mut self, step: &mut Step) {
        let mut actions = Vec::new();
        self.with_download(step.now.mono, |download, view| {
            download.run_timers(view, &mut actions);
        });
        self.perform(step, actions);
    }

    fn perform(&mut self, step: &mut Step, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Ask(id, hashes) => {
                    let items = hashes.into_iter().map(Inventory::WitnessBlock).collect();
                    step.send(id, Message::GetData(items));
                }
                Action::Probe(id, block) => self.probe(step, id, block),
                Action::Disconnect(id, hash) => {
                    self.disconnect(step, id, DoneReason::BlockStalled { hash });
                }
            }
        }
    }

    /// A block has come. Whether it was asked of this peer decides what it must show before
    /// the kernel sees it.
    ///
    /// # Security
    ///
    /// Requests to others stay until the kernel has stored the block: what came may be bad
    /// data under the hash of a good block. A copy of a peer that was asked waits for the
    /// verdict about the first, so that bad data cannot make us drop good data.
    pub(super) fn block_received(&mut self, step: &mut Step, id: ConnId, block: RawBlock) {
        let hash = block.hash;
        let asked = self.with_download(step.now.mono, |download, view| {
            download.received(view, id, &hash)
        });
        if asked && let Some(peer) = self.peers.get_mut(&id) {
            peer.known.lacked = 0;
        }
        if self.download.with_kernel().contains_key(&hash) {
            if asked {
                self.download.keep_copy(id, block);
            }
            return;
        }
        match self.tree.get(&hash) {
            Some(entry) if entry.status != Status::Header => return,
            Some(_) if asked => self.download.weigh(block.bytes.len()),
            _ if self.is_worth_looking_at(step, id, &block) => {}
            _ => return,
        }
        self.give_to_kernel(step, block, Some(id));
    }

    /// Whether a block that nobody was asked for is worth looking at. Where it is not now,
    /// its header still announces it. A header without proof of work costs the sender the
    /// connection, like one in `headers`: making it costs nothing, and no honest node has it.
    fn is_worth_looking_at(&mut self, step: &mut Step, id: ConnId, block: &RawBlock) -> bool {
        if let Err(error) = check_pow(&block.header, self.config.pow.limit()) {
            self.disconnect(step, id, DoneReason::InvalidHeader(error.to_string()));
            return false;
        }
        let Some(parent) = self.tree.get(&block.header.prev_blockhash) else {
            let what = format!(
                "block {} was not asked for, and its parent is unknown",
                block.hash
            );
            self.disconnect(step, id, DoneReason::Misbehaving(what));
            return false;
        };
        let tip = self.tree.tip();
        // Its header would be refused: it is no offence, and may come again later.
        let too_new = is_from_the_future(step.now, block.header.time);
        let work = parent.work + block.header.work();
        let worthy = parent.status != Status::Invalid
            && !too_new
            && work > tip.work
            && work >= self.config.minimum_work
            && parent.height < tip.height + MAX_UNASKED_HEIGHT;
        if !worthy {
            return false;
        }
        if let Err(reject) = self.store_headers(step, &[block.header], &[block.hash]) {
            self.punish_for_header(step, id, &reject);
            return false;
        }
        self.learn(id, block.hash);
        self.download.with_kernel().len() < MAX_UNASKED_BACKLOG
    }

    /// Hands a block to the kernel, with the headers that lead to it, and with some of the chain
    /// that its sender has shown behind it.
    pub(super) fn give_to_kernel(
        &mut self,
        step: &mut Step,
        block: RawBlock,
        origin: Option<ConnId>,
    ) {
        let keep = self.is_to_be_kept(step.now, &block.hash, origin);
        let bytes = block.bytes.len();
        let mut pending = Pending::new(origin, block.header, bytes, step.now.mono, keep);
        let prev = block.header.prev_blockhash;
        let parent = self.tree.get(&prev);
        let height = parent.map_or(0, |parent| parent.height + 1);
        let hash = block.hash;
        let before = self.tree.take_unsent(&prev, usize::MAX);
        let own = self.tree.is_unsent(&hash).then_some(hash);
        pending.brings = before.first().map(Header::block_hash).or(own);
        self.tree.mark_sent(&hash);
        self.download.given_to_kernel(height, hash, pending);
        step.effects.push(Effect::CheckBlock {
            block,
            height,
            before,
            origin,
            keep,
        });
        self.give_headers_ahead(step, &hash, origin);
    }

    /// Headers behind a block, of the chain that its sender has shown.
    fn give_headers_ahead(&mut self, step: &mut Step, hash: &BlockHash, origin: Option<ConnId>) {
        if !self.config.assumes_valid {
            return;
        }
        let sender = origin.and_then(|id| self.peers.get(&id));
        let Some(best) = sender.and_then(|peer| peer.known.best) else {
            return;
        };
        if !self.tree.is_unsent(&best.hash) || !self.tree.is_ancestor(hash, &best.hash) {
            return;
        }
        if let Some(headers) = self.engine_headers.ahead(&mut self.tree, &best.hash) {
            step.effects.push(Effect::CheckHeaders { headers, origin });
        }
    }

    /// The peer does not have what it was asked for: others are asked.
    pub(super) fn not_found(&mut self, now: Duration, id: ConnId, items: &[Inventory]) {
        for item in items {
            let (Inventory::WitnessBlock(hash) | Inventory::Block(hash)) = item else {
                continue;
            };
            if self.download.not_found(now, id, hash) {
                self.lacks(now, id, *hash);
            }
        }
    }
}
