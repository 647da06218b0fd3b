//! A block's way through the parts: from a peer or from RPC to the engine, and what follows
//! from its verdict.

use std::time::Duration;

use bitcoin::BlockHash;
use bitcoin::block::Header;
use bitcoin::p2p::message_blockdata::Inventory;
use handfast_wire::RawBlock;

use crate::headers::Status;
use crate::lifecycle::ConnId;

use super::super::download::Pending;
use super::super::submissions::{self, Submissions};
use super::super::unasked::{self, MAX_UNASKED_BACKLOG};
use super::super::verdicts::{self, Verdicts};
use super::super::{BlockOutcome, Change, Durability, Effect, Persist, Reject, SubmitResult};
use super::{Step, SyncManager, ask_for_blocks};

/// From peers.
impl SyncManager {
    /// A block has come. Whether it was asked of this peer decides what it must show before
    /// the engine sees it.
    ///
    /// # Security
    ///
    /// Requests to others stay until the engine has stored the block: what came may be bad
    /// data under the hash of a good block. A copy of a peer that was asked waits for the
    /// verdict about the first, so that bad data cannot make us drop good data.
    pub(super) fn block_received(&mut self, step: &mut Step, id: ConnId, block: RawBlock) {
        let hash = block.hash;
        let asked = self.with_download(step.now.mono, |download, view, _| {
            download.received(view, id, &hash)
        });
        let parts = &mut self.parts;
        if asked {
            parts.known.delivered(id);
        }
        if parts.download.with_kernel().contains_key(&hash) {
            if asked {
                parts.download.keep_copy(id, block);
            }
            return;
        }
        match parts.tree().get(&hash) {
            Some(entry) if entry.status != Status::Header => return,
            Some(_) if asked => parts.download.weigh(block.bytes.len()),
            _ if self.take_unasked(step, id, &block) => {}
            _ => return,
        }
        self.give_to_engine(step, block, Some(id));
    }

    /// Whether the engine is to look at a block that no peer was asked for. Where not now, its
    /// header still announces it.
    fn take_unasked(&mut self, step: &mut Step, id: ConnId, block: &RawBlock) -> bool {
        let (config, tree) = (&self.parts.config, self.parts.tree());
        match unasked::is_worth_looking_at(config, tree, step.now, block) {
            Ok(true) => {}
            Ok(false) => return false,
            Err(reason) => {
                self.disconnect(step, id, reason);
                return false;
            }
        }
        let stored = self.with_headers(step, |headers, cx| {
            let stored = headers.store(cx, &[block.header], &[block.hash]);
            stored.map_err(|reject| headers.punish(cx, id, &reject))
        });
        if stored.is_err() {
            return false;
        }
        let parts = &mut self.parts;
        parts.known.learn(parts.chain.tree(), id, block.hash);
        parts.download.with_kernel().len() < MAX_UNASKED_BACKLOG
    }

    /// The peer does not have what it was asked for: others are asked.
    pub(super) fn not_found(&mut self, now: Duration, id: ConnId, items: &[Inventory]) {
        let parts = &mut self.parts;
        for item in items {
            let (Inventory::WitnessBlock(hash) | Inventory::Block(hash)) = item else {
                continue;
            };
            let (timers, tree) = (&mut parts.timers, parts.chain.tree());
            if parts.download.not_found(timers, now, id, hash) {
                parts.known.lacks(timers, tree, now, id, *hash);
            }
        }
    }

    /// Asks `id` for a block that the operator wants, and no other peer any more. From there on
    /// it is a block like any other: a peer that does not send it is late.
    pub(super) fn fetch(&mut self, step: &mut Step, id: ConnId, hash: BlockHash) {
        if self.may_fetch(id, &hash).is_err() {
            return;
        }
        let height = self.tree().get(&hash).map_or(0, |entry| entry.height);
        self.with_download(step.now.mono, |download, view, timers| {
            download.fetch(view, timers, id, height, hash);
        });
        tracing::debug!(%id, %hash, "asked for a block that the operator wants");
        ask_for_blocks(step, id, vec![hash]);
    }
}

/// From RPC and the miner.
impl SyncManager {
    pub(super) fn submit(&mut self, step: &mut Step, ticket: u64, block: RawBlock) {
        let parts = &mut self.parts;
        let (chain, pow) = (&mut parts.chain, &parts.config.pow);
        let offer = (ticket, block);
        let block = parts
            .submissions
            .submit(step, chain, &parts.download, pow, offer);
        if let Some(block) = block {
            self.give_to_engine(step, block, None);
        }
    }

    pub(super) fn submit_header(&mut self, step: &mut Step, ticket: u64, header: Header) {
        let hash = header.block_hash();
        let (tree, pow) = (self.parts.tree(), &self.parts.config.pow);
        let known = submissions::known_header(tree, pow, &hash, &header);
        let result = known.unwrap_or_else(|| {
            let stored =
                self.with_headers(step, |headers, cx| headers.store(cx, &[header], &[hash]));
            match stored {
                Ok(_) => SubmitResult::Accepted,
                Err(reject) => SubmitResult::Rejected(reject),
            }
        });
        submissions::answer(step, &mut self.parts.chain, ticket, result);
    }
}

/// To the engine, and back.
impl SyncManager {
    /// Hands a block to the engine, with the headers that lead to it, and with some of the chain
    /// that its sender has shown behind it.
    ///
    /// Of a block that RPC or the miner submits the engine alone tells whether the witness data
    /// fits, so that a caller gets the answer in the order of Core's checks.
    fn give_to_engine(&mut self, step: &mut Step, block: RawBlock, origin: Option<ConnId>) {
        let (hash, prev) = (block.hash, block.header.prev_blockhash);
        let parts = &mut self.parts;
        let (chain, download) = (&mut parts.chain, &mut parts.download);
        let persist = Submissions::persist(chain, download, step.now, &hash, origin);
        let parent = chain.tree().get(&prev);
        let known_height = parent.map(|parent| parent.height + 1);
        let height = known_height.unwrap_or(0);
        let before = chain.take_unsent(&prev, usize::MAX);
        let own = chain.tree().is_unsent(&hash).then_some(hash);
        let brings = before.first().map(Header::block_hash).or(own);
        chain.mark_sent(&hash);
        let pending = Pending::new(&block, step.now.mono, persist != Persist::No, brings);
        download.given_to_kernel(height, hash, pending);
        step.effects.push(Effect::CheckBlock {
            block,
            height: known_height.filter(|_| origin.is_some()),
            before,
            origin,
            persist,
        });
        self.give_headers_ahead(step, &hash, origin);
    }

    /// Headers behind a block, of the chain that its sender has shown.
    fn give_headers_ahead(&mut self, step: &mut Step, hash: &BlockHash, origin: Option<ConnId>) {
        let parts = &mut self.parts;
        if !parts.config.assumes_valid {
            return;
        }
        let Some(best) = origin.and_then(|id| parts.known.best(id)) else {
            return;
        };
        let tree = parts.chain.tree();
        if !tree.is_unsent(&best.hash) || !tree.is_ancestor(hash, &best.hash) {
            return;
        }
        if let Some(headers) = parts.engine_headers.ahead(&mut parts.chain, &best.hash) {
            step.effects.push(Effect::CheckHeaders { headers, origin });
        }
    }

    /// The engine has looked at a batch of headers.
    pub(super) fn headers_checked(
        &mut self,
        step: &mut Step,
        rejected: Option<(BlockHash, Reject)>,
        origin: Option<ConnId>,
    ) {
        self.parts.engine_headers.answered();
        let Some((hash, reject)) = rejected else {
            return;
        };
        let punished = self.with_verdicts(step, |verdicts, cx| {
            verdicts.header_refused(cx, hash, &reject)
        });
        if let Some(origin) = origin.filter(|_| punished) {
            self.with_headers(step, |headers, cx| headers.punish(cx, origin, &reject));
        }
    }

    /// The engine has looked at a block.
    pub(super) fn block_checked(
        &mut self,
        step: &mut Step,
        hash: BlockHash,
        (outcome, changes): (&BlockOutcome, Vec<Change>),
        origin: Option<ConnId>,
        durability: &Durability,
    ) {
        let mut pending = self.parts.download.judged(&hash);
        let copy = pending.as_mut().and_then(Pending::take_copy);
        let offences = self.with_verdicts(step, |verdicts, cx| {
            verdicts.block(cx, hash, (outcome, changes), pending.as_ref(), origin)
        });
        for (id, reason) in offences {
            self.disconnect(step, id, reason);
        }
        let parts = &mut self.parts;
        let chain = &mut parts.chain;
        let again = parts
            .submissions
            .judged(step, chain, hash, outcome, durability);
        if let Some(block) = again {
            self.give_to_engine(step, block, None);
        }
        let parts = &mut self.parts;
        parts.download.advance(parts.chain.tree(), &hash);
        self.try_copy(step, hash, copy);
    }

    /// Looks at a second copy of a block whose first was bad data.
    fn try_copy(&mut self, step: &mut Step, hash: BlockHash, copy: Option<(ConnId, RawBlock)>) {
        let entry = self.tree().get(&hash);
        let wanted = entry.is_some_and(|entry| entry.status == Status::Header);
        let busy = self.parts.download.with_kernel().contains_key(&hash);
        if let Some((origin, block)) = copy.filter(|_| wanted && !busy) {
            self.give_to_engine(step, block, Some(origin));
        }
    }

    /// Has a verdict change what it has to.
    fn with_verdicts<T>(
        &mut self,
        step: &mut Step,
        act: impl FnOnce(&mut Verdicts, &mut verdicts::Context<'_>) -> T,
    ) -> T {
        let parts = &mut self.parts;
        let mut context = verdicts::Context {
            step,
            chain: &mut parts.chain,
            peers: &parts.peers,
            known: &mut parts.known,
            download: &mut parts.download,
            announcer: &mut parts.announcer,
            timers: &mut parts.timers,
        };
        act(&mut parts.verdicts, &mut context)
    }
}
