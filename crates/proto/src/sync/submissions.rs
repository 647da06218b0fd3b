//! Blocks and headers that RPC and the miner offer, and which blocks survive the end of the
//! process.
//!
//! What is offered takes the same way as what peers send; the engine's verdict is the answer.
//!
//! # Durability
//!
//! The engine forgets what it stored since its last flush, up to 70 minutes, when the
//! process is killed. So a block that others may rely on is *to be made durable*: written to
//! the journal before its verdict is reported. That is
//!
//! * a block that we offer ourselves (RPC, miner): its answer acknowledges it;
//! * a block near the tip: initial block download is over, or the block is among the
//!   last [`MAX_BLOCKS_TO_ANNOUNCE`] of the chain that is being downloaded, so that it
//!   may be announced when it becomes our tip.
//!
//! Blocks of initial sync can be had again, and are not. What follows:
//!
//! * No tip is announced unless everything that the engine has stored is durable. The
//!   engine's thread tells with every verdict, and when that changes without one.
//! * No submission is answered with success before its block is durable.

use std::collections::BTreeMap;

use bitcoin::BlockHash;
use bitcoin::block::Header;
use handfast_wire::RawBlock;

use crate::headers::{HeaderTree, PowParams, Status, check_pow};
use crate::lifecycle::ConnId;
use crate::time::Now;

use super::announcer::MAX_BLOCKS_TO_ANNOUNCE;
use super::chain::Chain;
use super::download::BlockDownload;
use super::step::Step;
use super::{BlockOutcome, Durability, Effect, Persist, Reject, RejectKind, SubmitResult};

/// Who waits for the verdict about a block that is with the engine.
#[derive(Clone, Debug, Default)]
struct Waiting {
    /// The engine was given the block by the first of those who wait, not by a peer.
    own: bool,
    tickets: Vec<u64>,
    /// Submitted while the engine has it as one that is not to be made durable.
    again: Option<RawBlock>,
}

/// Submissions that are not answered. See the module.
///
/// Invariant: each block that is waited for is with the engine, so that every ticket is
/// answered with its verdict.
#[derive(Clone, Debug)]
pub(super) struct Submissions {
    waiting: BTreeMap<BlockHash, Waiting>,
    /// Everything that the engine has stored survives the end of the process.
    durable: bool,
}

impl Default for Submissions {
    fn default() -> Self {
        Self {
            waiting: BTreeMap::new(),
            durable: true,
        }
    }
}

fn refused(kind: RejectKind, reason: &str) -> SubmitResult {
    SubmitResult::Rejected(Reject {
        kind,
        reason: reason.to_owned(),
    })
}

/// Answers a submission. Those who asked must see in the snapshot what the answer says.
pub(super) fn answer(step: &mut Step, chain: &mut Chain, ticket: u64, result: SubmitResult) {
    if chain.take_changed() {
        step.effects.push(Effect::TreeChanged);
    }
    step.effects.push(Effect::Answer { ticket, result });
}

/// What can be said of a header without the engine: `None` when it must judge.
fn judge_header(
    tree: &HeaderTree,
    pow: &PowParams,
    hash: &BlockHash,
    header: &Header,
) -> Option<SubmitResult> {
    let Some(parent) = tree.get(&header.prev_blockhash) else {
        return Some(refused(RejectKind::MissingPrev, "prev-blk-not-found"));
    };
    if tree.contains(hash) {
        return None;
    }
    if check_pow(header, pow.limit()).is_err() {
        return Some(refused(RejectKind::InvalidHeader, "high-hash"));
    }
    let invalid = parent.status == Status::Invalid;
    invalid.then(|| refused(RejectKind::InvalidPrev, "bad-prevblk"))
}

/// What can be said of a submitted header before it is stored.
pub(super) fn known_header(
    tree: &HeaderTree,
    pow: &PowParams,
    hash: &BlockHash,
    header: &Header,
) -> Option<SubmitResult> {
    match tree.get(hash).map(|entry| entry.status) {
        Some(Status::Invalid) => Some(SubmitResult::DuplicateInvalid),
        Some(Status::Header | Status::Stored | Status::Connected) => Some(SubmitResult::Accepted),
        None => judge_header(tree, pow, hash, header),
    }
}

/// Durability.
impl Submissions {
    /// Whether a block that is given to the engine now is to be made durable. See the module.
    pub(super) fn persist(
        chain: &Chain,
        download: &BlockDownload,
        now: Now,
        hash: &BlockHash,
        origin: Option<ConnId>,
    ) -> Persist {
        if origin.is_none() {
            return Persist::Now;
        }
        if !chain.is_initial_download(now) {
            return Persist::Soon;
        }
        let height = chain.tree().get(hash).map_or(0, |entry| entry.height);
        let plan = download.main_plan();
        match plan.is_none_or(|plan| plan.target().height <= height + MAX_BLOCKS_TO_ANNOUNCE) {
            true => Persist::Soon,
            false => Persist::No,
        }
    }

    /// The engine reported whether everything that it has stored is durable.
    pub(super) fn set_durable(&mut self, durability: &Durability) {
        self.durable = *durability == Durability::Yes;
    }

    /// Whether everything that the engine has stored survives the end of the process.
    pub(super) fn is_durable(&self) -> bool {
        self.durable
    }
}

/// Blocks.
impl Submissions {
    /// Offers a block. What is known of it already is answered at once, as Core does:
    /// on disk is `duplicate`, whether it was ever connected or not. But that answer too
    /// acknowledges it: while not all blocks are durable the engine is asked first. Returns the
    /// block when it is to be given to the engine, whose verdict is waited for.
    pub(super) fn submit(
        &mut self,
        step: &mut Step,
        chain: &mut Chain,
        download: &BlockDownload,
        pow: &PowParams,
        (ticket, block): (u64, RawBlock),
    ) -> Option<RawBlock> {
        let hash = block.hash;
        if let Some(pending) = download.with_kernel().get(&hash) {
            let waiting = self.waiting.entry(hash).or_default();
            waiting.tickets.push(ticket);
            if !pending.is_to_be_kept() {
                waiting.again = Some(block);
            }
            return None;
        }
        let known = match chain.tree().get(&hash).map(|entry| entry.status) {
            Some(Status::Connected | Status::Stored) => {
                self.durable.then_some(SubmitResult::Duplicate)
            }
            Some(Status::Invalid) => Some(SubmitResult::DuplicateInvalid),
            Some(Status::Header) | None => judge_header(chain.tree(), pow, &hash, &block.header),
        };
        if let Some(result) = known {
            answer(step, chain, ticket, result);
            return None;
        }
        self.wait(hash, vec![ticket]);
        Some(block)
    }

    /// These wait for the verdict about a block that the engine is given for them.
    fn wait(&mut self, hash: BlockHash, tickets: Vec<u64>) {
        let waiting = Waiting {
            own: true,
            tickets,
            again: None,
        };
        self.waiting.insert(hash, waiting);
    }

    /// The engine's verdict about a block has come: those who wait for it are answered. One
    /// that was submitted while the engine had it as a block of initial sync is returned, to be
    /// given to the engine once more and to be made durable.
    pub(super) fn judged(
        &mut self,
        step: &mut Step,
        chain: &mut Chain,
        hash: BlockHash,
        outcome: &BlockOutcome,
        durability: &Durability,
    ) -> Option<RawBlock> {
        let mut waiting = self.waiting.remove(&hash)?;
        let has_it = matches!(outcome, BlockOutcome::Stored | BlockOutcome::Duplicate);
        let again = waiting.again.take();
        if let Some(block) = again.filter(|_| has_it && *durability != Durability::Yes) {
            self.wait(hash, waiting.tickets);
            return Some(block);
        }
        let connected = chain.tree().in_active_chain(&hash);
        for (at, ticket) in waiting.tickets.iter().enumerate() {
            let first = waiting.own && at == 0;
            let result = result_of(outcome, durability, connected, first);
            answer(step, chain, *ticket, result);
        }
        None
    }
}

/// The answer to one who submitted a block. Core `submitblock`. `first`: the engine got the
/// block of them.
fn result_of(
    outcome: &BlockOutcome,
    durability: &Durability,
    connected: bool,
    first: bool,
) -> SubmitResult {
    match outcome {
        BlockOutcome::Stored | BlockOutcome::Duplicate
            if let Durability::Failed(why) = durability =>
        {
            SubmitResult::Failed(why.clone())
        }
        BlockOutcome::Stored if connected && first => SubmitResult::Accepted,
        BlockOutcome::Stored if first => SubmitResult::Inconclusive,
        // Another brought it at the same time.
        BlockOutcome::Stored if !connected => SubmitResult::DuplicateInconclusive,
        BlockOutcome::Stored | BlockOutcome::Duplicate => SubmitResult::Duplicate,
        BlockOutcome::Rejected(reject) => match reject.kind {
            RejectKind::CachedInvalid => SubmitResult::DuplicateInvalid,
            _ => SubmitResult::Rejected(reject.clone()),
        },
        BlockOutcome::Failed(why) => SubmitResult::Failed(why.clone()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use handfast_wire::Network;

    use super::*;
    use crate::sync::SyncConfig;
    use crate::sync::download::Pending;
    use crate::testing::chains::Blocks;

    struct Alone {
        submissions: Submissions,
        chain: Chain,
        download: BlockDownload,
        pow: PowParams,
    }

    impl Alone {
        fn with(chain: &Blocks) -> Self {
            let config = SyncConfig::new(&Network::Regtest, None, 1);
            Self {
                submissions: Submissions::default(),
                chain: Chain::new(chain.tree(), config.minimum_work),
                download: BlockDownload::default(),
                pow: config.pow,
            }
        }

        /// Whether the engine is given the block, and what is answered.
        fn submit(&mut self, ticket: u64, block: &RawBlock) -> (bool, Vec<(u64, SubmitResult)>) {
            let mut step = Step::new(Now::default());
            let offer = (ticket, block.clone());
            let (chain, download) = (&mut self.chain, &self.download);
            let given = self
                .submissions
                .submit(&mut step, chain, download, &self.pow, offer);
            (given.is_some(), answers(step))
        }

        fn given(&mut self, height: u32, block: &RawBlock, persist: bool) {
            let pending = Pending::new(block, Duration::ZERO, persist, None);
            self.download.given_to_kernel(height, block.hash, pending);
        }

        fn judged(
            &mut self,
            hash: BlockHash,
            durability: &Durability,
        ) -> (bool, Vec<(u64, SubmitResult)>) {
            let mut step = Step::new(Now::default());
            self.download.judged(&hash);
            let (chain, outcome) = (&mut self.chain, &BlockOutcome::Stored);
            let again = self
                .submissions
                .judged(&mut step, chain, hash, outcome, durability);
            (again.is_some(), answers(step))
        }
    }

    fn answers(step: Step) -> Vec<(u64, SubmitResult)> {
        let answers = step.effects.into_iter().filter_map(|effect| match effect {
            Effect::Answer { ticket, result } => Some((ticket, result)),
            _ => None,
        });
        answers.collect()
    }

    #[test]
    fn all_who_wait_for_a_block_are_answered_once_and_the_first_as_who_brought_it() {
        let chain = Blocks::new(5, 1);
        let next = chain.fork(5, 1, 1);
        let mut alone = Alone::with(&chain);
        let block = next.at(6);
        assert_eq!(alone.submit(1, block), (true, vec![]));
        alone.given(6, block, true);
        assert_eq!(alone.submit(2, block), (false, vec![]));
        let (again, answers) = alone.judged(block.hash, &Durability::Yes);
        let expected = [
            (1, SubmitResult::Inconclusive),
            (2, SubmitResult::DuplicateInconclusive),
        ];
        assert_eq!((again, &answers[..]), (false, &expected[..]));
        assert_eq!(alone.judged(block.hash, &Durability::Yes), (false, vec![]));
        assert!(alone.submissions.waiting.is_empty());
    }

    #[test]
    fn a_block_that_the_engine_has_as_one_of_initial_sync_is_given_again_before_the_answer() {
        let chain = Blocks::new(5, 1);
        let next = chain.fork(5, 1, 1);
        let mut alone = Alone::with(&chain);
        let block = next.at(6);
        // A peer sent it.
        alone.given(6, block, false);
        assert_eq!(alone.submit(1, block), (false, vec![]));
        assert_eq!(alone.judged(block.hash, &Durability::Later), (true, vec![]));
        let (again, answers) = alone.judged(block.hash, &Durability::Yes);
        assert_eq!((again, answers.len()), (false, 1));
    }

    #[test]
    fn a_block_on_disk_is_a_duplicate_once_that_is_durable() {
        let chain = Blocks::new(5, 1);
        let mut alone = Alone::with(&chain);
        let duplicate = vec![(1, SubmitResult::Duplicate)];
        assert_eq!(alone.submit(1, chain.at(5)), (false, duplicate));
        alone.submissions.set_durable(&Durability::Later);
        assert_eq!(alone.submit(2, chain.at(5)), (true, vec![]));
    }
}
