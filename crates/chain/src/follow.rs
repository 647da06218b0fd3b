//! Following the active chain: how it moves, block by block, with the blocks themselves.
//!
//! Any number of followers, each with a queue of its own. They share the blocks, which the
//! kernel has decoded anyway: none is copied, decoded or encoded for a follower that does not
//! ask for its bytes. Without a follower nothing is held.
//!
//! # Bounds
//!
//! The kernel thread waits for no follower. Of blocks that a follower has not taken yet at most
//! [`MAX_WAITING`] are held; when more come, it is told where the chain ends instead
//! ([`ChainNews::Behind`]), and reads back what it needs.
//!
//! # Ordering
//!
//! A follower gets a job's moves after the job's verdict was reported.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

use bitcoin::BlockHash;
use bitcoin::block::Header;
use bitcoinkernel::Block;
use bytes::Bytes;

use crate::{Change, ReadError};

/// Blocks that wait for one follower at most. A decoded block takes two to three times its
/// bytes, and those that several followers have not taken yet are the same.
pub const MAX_WAITING: usize = 16;

/// A block of the active chain, or one that has left it. Followers share it.
pub struct ActiveBlock {
    hash: BlockHash,
    header: Header,
    block: Block,
    encoding: OnceLock<Bytes>,
}

impl std::fmt::Debug for ActiveBlock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ActiveBlock({})", self.hash)
    }
}

impl ActiveBlock {
    pub(crate) fn new(hash: BlockHash, header: Header, block: Block) -> ActiveBlock {
        ActiveBlock {
            hash,
            header,
            block,
            encoding: OnceLock::new(),
        }
    }

    /// The block's hash.
    pub fn hash(&self) -> BlockHash {
        self.hash
    }

    /// The block's header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The block's encoding, with witness data. Made when it is first asked for, once for all
    /// followers.
    ///
    /// # Errors
    /// [`ReadError::Io`] when the kernel cannot encode it: our own bug, or no memory.
    pub fn bytes(&self) -> Result<Bytes, ReadError> {
        if let Some(bytes) = self.encoding.get() {
            return Ok(bytes.clone());
        }
        let encoded = self.block.consensus_encode();
        let bytes = encoded.map_err(|error| ReadError::Io {
            hash: self.hash,
            detail: error.to_string(),
        })?;
        Ok(self.encoding.get_or_init(|| bytes.into()).clone())
    }
}

/// One step of the active chain.
#[derive(Clone, Debug)]
pub enum Move {
    /// The block is the new tip, one above the old one.
    Connected(Arc<ActiveBlock>),
    /// The block was the tip; its parent is now.
    Disconnected(Arc<ActiveBlock>),
}

/// What a follower is told.
#[derive(Clone, Debug)]
pub enum ChainNews {
    /// The chain moved by one block.
    Moved(Move),
    /// It moved by more blocks than wait for a follower, and they were left out.
    Behind {
        /// Where the chain ends, past all that was left out. The blocks between this one and
        /// what the follower knows are on disk.
        tip: BlockHash,
    },
}

/// Moves of one job, gathered while the kernel makes them.
#[derive(Debug, Default)]
pub(crate) struct Moves {
    /// Oldest first; empty if there were more than may wait.
    blocks: Vec<Move>,
    left_out: bool,
}

impl Moves {
    pub(crate) fn push(&mut self, step: Move) {
        self.left_out |= self.blocks.len() == MAX_WAITING;
        match self.left_out {
            true => self.blocks.clear(),
            false => self.blocks.push(step),
        }
    }
}

/// Where the chain ends after these changes, if they moved it.
pub(crate) fn tip_after(changes: &[Change]) -> Option<BlockHash> {
    changes.iter().rev().find_map(|change| match change {
        Change::Connected(hash, _) => Some(*hash),
        Change::Disconnected(_, header) => Some(header.prev_blockhash),
        Change::Invalid(..) => None,
    })
}

/// What waits for one follower.
#[derive(Debug, Default)]
struct Waiting {
    moves: VecDeque<Move>,
    /// Where the chain ends, since moves were left out.
    behind: Option<BlockHash>,
    closed: bool,
    waker: Option<Waker>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    followers: Arc<AtomicUsize>,
}

impl Queue {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, moves: &Moves, tip: BlockHash) {
        let mut waiting = self.waiting();
        let too_many = waiting.moves.len() + moves.blocks.len() > MAX_WAITING;
        if waiting.behind.is_some() || moves.left_out || too_many {
            waiting.moves.clear();
            waiting.behind = Some(tip);
        } else {
            waiting.moves.extend(moves.blocks.iter().cloned());
        }
        let waker = waiting.waker.take();
        drop(waiting);
        waker.into_iter().for_each(Waker::wake);
    }

    fn close(&self) {
        let mut waiting = self.waiting();
        waiting.closed = true;
        let waker = waiting.waker.take();
        drop(waiting);
        waker.into_iter().for_each(Waker::wake);
    }
}

/// All followers of a chain.
#[derive(Debug, Default)]
pub(crate) struct Followers {
    queues: Mutex<Vec<Weak<Queue>>>,
    /// Those that there are; looked at for every block.
    count: Arc<AtomicUsize>,
}

impl Followers {
    fn queues(&self) -> MutexGuard<'_, Vec<Weak<Queue>>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    pub(crate) fn follow(&self) -> Follower {
        let queue = Arc::new(Queue {
            waiting: Mutex::default(),
            followers: self.count.clone(),
        });
        self.count.fetch_add(1, Ordering::AcqRel);
        let mut queues = self.queues();
        queues.retain(|queue| queue.strong_count() > 0);
        queues.push(Arc::downgrade(&queue));
        Follower(queue)
    }

    /// Tells all followers of the moves of one job.
    pub(crate) fn tell(&self, moves: &Moves, tip: BlockHash) {
        for queue in self.queues().iter().filter_map(Weak::upgrade) {
            queue.tell(moves, tip);
        }
    }

    /// The chain is closed: nothing follows what waits.
    pub(crate) fn close(&self) {
        for queue in self.queues().drain(..).filter_map(|queue| queue.upgrade()) {
            queue.close();
        }
    }
}

/// Follows the active chain from the moment at which it was made.
///
/// What was connected before it is in no news: who follows looks at the chain after it has
/// begun to follow, and takes news of blocks that it knows already for what they are.
#[derive(Debug)]
pub struct Follower(Arc<Queue>);

impl Follower {
    /// The next news; `None` once the chain is closed and all was taken.
    ///
    /// # Cancel safety
    /// News are taken when they are returned, and not before.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<ChainNews>> {
        let mut waiting = self.0.waiting();
        if let Some(tip) = waiting.behind.take() {
            return Poll::Ready(Some(ChainNews::Behind { tip }));
        }
        if let Some(step) = waiting.moves.pop_front() {
            return Poll::Ready(Some(ChainNews::Moved(step)));
        }
        if waiting.closed {
            return Poll::Ready(None);
        }
        waiting.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.0.followers.fetch_sub(1, Ordering::AcqRel);
    }
}
