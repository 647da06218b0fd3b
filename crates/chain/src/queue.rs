//! The jobs between callers, the decode thread and the kernel thread.
//!
//! # Bounds
//! The raw queue is bounded by the callers: they request blocks of peers, so they know
//! how many can come. Blocks above [`MAX_BLOCKS`] or [`MAX_BYTES`] are answered without
//! being decoded, their bytes dropped. The queue of decoded blocks, which take two to
//! three times the bytes, is bounded here.
//!
//! # Ordering
//! Jobs are done in the order of their submission, also while the next block is still being
//! decoded: headers may build on the header of a block submitted before them.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bitcoin::BlockHash;
use bitcoin::block::Header;
use bitcoinkernel::Block;
use bytes::Bytes;

use crate::{BlockOutcome, ConnId, Persist};

/// Blocks in the raw queue at most: sixteen download windows of 1,024.
pub(crate) const MAX_BLOCKS: usize = 16_384;
/// Bytes in the raw queue at most: one download window of the largest blocks.
pub(crate) const MAX_BYTES: usize = 1_024 * 4_000_000;

/// Blocks decoded ahead of the kernel at most, in number and in bytes; always one.
const AHEAD_BLOCKS: usize = 64;
const AHEAD_BYTES: usize = 1_000_000;

/// A block as it was submitted.
pub(crate) struct RawBlock {
    pub(crate) hash: BlockHash,
    pub(crate) bytes: Bytes,
    pub(crate) height: Option<u32>,
    /// Ancestors' headers that the kernel does not have yet, oldest first.
    pub(crate) before: Vec<Header>,
    pub(crate) origin: Option<ConnId>,
    pub(crate) persist: Persist,
    /// The queue was full, and its bytes were dropped.
    pub(crate) refused: bool,
}

/// A decoded block, or the outcome without the kernel.
pub(crate) type Decoded = Result<Block, BlockOutcome>;

/// Work for the kernel thread.
pub(crate) enum Job {
    Headers {
        headers: Vec<Header>,
        origin: Option<ConnId>,
    },
    Block {
        raw: RawBlock,
        block: Decoded,
    },
}

/// The number of a job in the order of submission.
type Turn = u64;

#[derive(Default)]
struct State {
    /// The number of the next job.
    turn: Turn,
    headers: VecDeque<(Turn, Vec<Header>, Option<ConnId>)>,
    raw: VecDeque<(Turn, RawBlock)>,
    raw_bytes: usize,
    /// Number and bytes of the block that the decode thread has, between the two queues.
    decoding: Option<(Turn, usize)>,
    ready: VecDeque<(Turn, RawBlock, Decoded)>,
    ready_bytes: usize,
    closed: bool,
    decoder_waits: bool,
    kernel_waits: bool,
}

/// Two stages of a pipeline; see the crate's diagram.
#[derive(Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    decoder: Condvar,
    kernel: Condvar,
}

impl Queue {
    /// Adds headers. After [`Queue::close`] they are dropped.
    pub(crate) fn push_headers(&self, headers: Vec<Header>, origin: Option<ConnId>) {
        let mut state = self.state();
        if state.closed {
            return;
        }
        let turn = state.next_turn();
        state.headers.push_back((turn, headers, origin));
        self.wake_kernel(&mut state);
    }

    /// Adds a block. After [`Queue::close`] it is dropped.
    pub(crate) fn push_block(&self, mut raw: RawBlock) {
        let mut state = self.state();
        if state.closed {
            return;
        }
        if state.raw.len() >= MAX_BLOCKS || state.raw_bytes + raw.bytes.len() > MAX_BYTES {
            raw.bytes = Bytes::new();
            raw.refused = true;
        }
        state.raw_bytes += raw.bytes.len();
        let turn = state.next_turn();
        state.raw.push_back((turn, raw));
        // With more than this one, the decoder waits for the ready queue, which wakes it.
        if state.raw.len() == 1 && state.has_capacity() {
            self.wake_decoder(&mut state);
        }
    }

    /// The next block to decode; waits for one, and for capacity in the ready queue. `None`
    /// when closed.
    pub(crate) fn take_raw(&self) -> Option<RawBlock> {
        let mut state = self.state();
        loop {
            if state.closed {
                return None;
            }
            if state.has_capacity()
                && let Some((turn, raw)) = state.raw.pop_front()
            {
                state.raw_bytes -= raw.bytes.len();
                state.decoding = Some((turn, raw.bytes.len()));
                return Some(raw);
            }
            state.decoder_waits = true;
            state = wait(&self.decoder, state);
        }
    }

    /// Adds a decoded block. Only the decode thread calls this, after [`Queue::take_raw`] found
    /// capacity, so it never waits.
    pub(crate) fn push_ready(&self, raw: RawBlock, block: Decoded) {
        let mut state = self.state();
        if state.closed {
            return;
        }
        let Some((turn, _)) = state.decoding.take() else {
            return;
        };
        state.ready_bytes += raw.bytes.len();
        state.ready.push_back((turn, raw, block));
        self.wake_kernel(&mut state);
    }

    /// The next job, in the order of submission. When there is none, calls `idle` and waits, at
    /// most until the time that `idle` returned, then calls it again. `None` when closed.
    pub(crate) fn take_job(&self, mut idle: impl FnMut() -> Option<Instant>) -> Option<Job> {
        let mut state = self.state();
        loop {
            if state.closed {
                return None;
            }
            if let Some(job) = self.pop(&mut state) {
                return Some(job);
            }
            drop(state);
            let again = idle();
            state = self.state();
            if state.closed || state.has_job() {
                continue;
            }
            state.kernel_waits = true;
            state = match again {
                None => wait(&self.kernel, state),
                Some(again) => wait_until(&self.kernel, state, again),
            };
        }
    }

    fn pop(&self, state: &mut State) -> Option<Job> {
        if state.headers_are_next() {
            let (_, headers, origin) = state.headers.pop_front()?;
            return Some(Job::Headers { headers, origin });
        }
        let (_, raw, block) = state.ready.pop_front()?;
        state.ready_bytes -= raw.bytes.len();
        // The decoder is woken when the queue is half empty, so that the two threads do not wake
        // each other for every block.
        if state.is_half_empty() && !state.raw.is_empty() {
            self.wake_decoder(state);
        }
        Some(Job::Block { raw, block })
    }

    /// Wakes the decode thread if it waits; once, since each wake-up is a syscall.
    fn wake_decoder(&self, state: &mut State) {
        if std::mem::take(&mut state.decoder_waits) {
            self.decoder.notify_one();
        }
    }

    fn wake_kernel(&self, state: &mut State) {
        if std::mem::take(&mut state.kernel_waits) {
            self.kernel.notify_one();
        }
    }

    /// Accepts no more jobs, drops the queued ones, and ends both threads.
    pub(crate) fn close(&self) {
        let dropped = {
            let mut state = self.state();
            std::mem::replace(
                &mut *state,
                State {
                    closed: true,
                    ..State::default()
                },
            )
        };
        self.decoder.notify_all();
        self.kernel.notify_all();
        drop(dropped); // outside the lock: it can be a lot
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state().closed
    }

    /// Whether no block is queued.
    pub(crate) fn is_empty(&self) -> bool {
        let state = self.state();
        state.raw.is_empty() && state.decoding.is_none() && state.ready.is_empty()
    }

    /// The queued header batches, blocks (decoded or not) and their bytes.
    pub(crate) fn lengths(&self) -> (usize, usize, usize) {
        let state = self.state();
        let decoding = state.decoding.map_or(0, |(_, bytes)| bytes);
        let blocks = state.raw.len() + usize::from(state.decoding.is_some()) + state.ready.len();
        let bytes = state.raw_bytes + decoding + state.ready_bytes;
        (state.headers.len(), blocks, bytes)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The number of the oldest block, decoded or not.
    fn oldest_block(&self) -> Option<Turn> {
        let ready = self.ready.front().map(|(turn, ..)| *turn);
        let decoding = self.decoding.map(|(turn, _)| turn);
        let raw = self.raw.front().map(|(turn, _)| *turn);
        ready.or(decoding).or(raw)
    }

    /// Whether headers were submitted before all queued blocks.
    fn headers_are_next(&self) -> bool {
        let headers = self.headers.front().map(|(turn, ..)| *turn);
        headers.is_some_and(|headers| self.oldest_block().is_none_or(|block| headers < block))
    }

    fn has_job(&self) -> bool {
        self.headers_are_next() || !self.ready.is_empty()
    }

    fn next_turn(&mut self) -> Turn {
        self.turn += 1;
        self.turn
    }

    fn has_capacity(&self) -> bool {
        self.ready.is_empty() || (self.ready.len() < AHEAD_BLOCKS && self.ready_bytes < AHEAD_BYTES)
    }

    fn is_half_empty(&self) -> bool {
        self.ready.len() <= AHEAD_BLOCKS / 2 && self.ready_bytes <= AHEAD_BYTES / 2
    }
}

fn wait<'a>(condvar: &Condvar, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
    condvar.wait(state).unwrap_or_else(PoisonError::into_inner)
}

fn wait_until<'a>(
    condvar: &Condvar,
    state: MutexGuard<'a, State>,
    until: Instant,
) -> MutexGuard<'a, State> {
    let left = until.saturating_duration_since(Instant::now());
    let waited = condvar.wait_timeout(state, left);
    waited.unwrap_or_else(PoisonError::into_inner).0
}

#[cfg(test)]
mod tests {
    use bitcoin::hashes::Hash;

    use super::*;

    fn raw(id: u8, length: usize) -> RawBlock {
        RawBlock {
            hash: BlockHash::from_byte_array([id; 32]),
            bytes: vec![id; length].into(),
            height: None,
            before: vec![],
            origin: Some(ConnId(u64::from(id))),
            persist: Persist::No,
            refused: false,
        }
    }

    fn no_block() -> Decoded {
        Err(BlockOutcome::Failed("no block".into()))
    }

    fn origin(job: Option<Job>) -> u64 {
        let origin = match job.expect("a job") {
            Job::Headers { origin, .. } => origin,
            Job::Block { raw, .. } => raw.origin,
        };
        origin.expect("all of these have one").0
    }

    #[test]
    fn jobs_are_done_in_the_order_of_their_submission() {
        let queue = Queue::default();
        for id in 1..=3 {
            queue.push_block(raw(id, 100));
        }
        for _ in 0..3 {
            let raw = queue.take_raw().unwrap();
            queue.push_ready(raw, no_block());
        }
        assert_eq!(origin(queue.take_job(|| None)), 1);
        queue.push_headers(vec![], Some(ConnId(10)));
        queue.push_block(raw(4, 100));
        queue.push_headers(vec![], Some(ConnId(11)));
        let last = queue.take_raw().unwrap();
        queue.push_ready(last, no_block());
        let order: Vec<u64> = (0..5).map(|_| origin(queue.take_job(|| None))).collect();
        assert_eq!(order, [2, 3, 10, 4, 11]);
        assert_eq!(queue.lengths(), (0, 0, 0));
    }

    #[test]
    fn headers_wait_for_a_block_before_them_that_is_not_decoded_yet() {
        let queue = Queue::default();
        queue.push_headers(vec![], Some(ConnId(10)));
        queue.push_block(raw(1, 100));
        queue.push_headers(vec![], Some(ConnId(11)));
        assert_eq!(origin(queue.take_job(|| None)), 10);
        let waits = || {
            let state = queue.state();
            assert!(!state.headers_are_next() && !state.has_job());
        };
        waits();
        let decoding = queue.take_raw().unwrap();
        waits();
        queue.push_ready(decoding, no_block());
        assert_eq!(origin(queue.take_job(|| None)), 1);
        assert_eq!(origin(queue.take_job(|| None)), 11);
    }

    #[test]
    fn no_more_than_the_bound_is_decoded_ahead() {
        for (length, bound) in [(100, AHEAD_BLOCKS), (AHEAD_BYTES / 2, 2), (AHEAD_BYTES, 1)] {
            let queue = Queue::default();
            for _ in 0..AHEAD_BLOCKS + 9 {
                queue.push_block(raw(0, length));
            }
            let mut ahead = 0;
            while queue.state().has_capacity() {
                queue.push_ready(queue.take_raw().unwrap(), no_block());
                ahead += 1;
            }
            assert_eq!(ahead, bound, "blocks of {length} bytes");
        }
    }

    #[test]
    fn the_decoder_resumes_when_the_kernel_has_caught_up() {
        let queue = Queue::default();
        let total = AHEAD_BLOCKS * 5;
        for _ in 0..total {
            queue.push_block(raw(1, 10));
        }
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while let Some(raw) = queue.take_raw() {
                    queue.push_ready(raw, no_block());
                }
            });
            for _ in 0..total {
                queue.take_job(|| None).expect("the decoder did not stop");
            }
            queue.close();
        });
    }

    #[test]
    fn closing_drops_the_queued_jobs_and_ends_both_stages() {
        let queue = Queue::default();
        queue.push_block(raw(1, 10));
        queue.push_headers(vec![], Some(ConnId(2)));
        let (decoding, _) = (queue.take_raw().unwrap(), queue.push_block(raw(3, 10)));
        queue.close();
        queue.push_ready(decoding, no_block());
        queue.push_block(raw(4, 10));
        queue.push_headers(vec![], Some(ConnId(5)));
        assert!(queue.take_raw().is_none());
        assert!(queue.take_job(|| None).is_none());
        assert_eq!(queue.lengths(), (0, 0, 0));
        assert!(queue.is_closed());
    }

    #[test]
    fn a_block_above_the_bound_is_refused_and_takes_no_memory() {
        let queue = Queue::default();
        for _ in 0..=MAX_BLOCKS {
            queue.push_block(raw(1, 1));
        }
        assert_eq!(queue.lengths(), (0, MAX_BLOCKS + 1, MAX_BLOCKS));
        let taken = || queue.take_raw().expect("one waits");
        assert!((0..MAX_BLOCKS).all(|_| !taken().refused));
        assert!(taken().refused);
        // A single block is accepted, as long as it is within the bound itself.
        queue.push_block(raw(1, 1));
        assert!(!taken().refused);
    }

    #[test]
    fn a_block_that_is_being_decoded_still_counts_as_queued() {
        let queue = Queue::default();
        queue.push_block(RawBlock {
            hash: BlockHash::all_zeros(),
            bytes: Bytes::from_static(&[0; 300]),
            height: None,
            before: vec![],
            origin: None,
            persist: Persist::No,
            refused: false,
        });
        let raw = queue.take_raw().expect("one waits");
        assert_eq!(queue.lengths(), (0, 1, 300));
        assert!(!queue.is_empty());
        queue.push_ready(raw, no_block());
        assert_eq!(queue.lengths(), (0, 1, 300));
        assert!(queue.take_job(|| None).is_some());
        assert_eq!(queue.lengths(), (0, 0, 0));
        assert!(queue.is_empty());
    }
}
