//! The two threads: `decode` turns bytes into blocks (which hashes every
//! transaction) and does the context-free checks; only `kernel` changes the chain.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bitcoin::BlockHash;
use bitcoin::block::Header;
use bitcoin::consensus::encode::deserialize_partial;
use bitcoinkernel::notifications::types::{BlockValidationStateExt, Warning};
use bitcoinkernel::{Block, ProcessBlockHeaderResult};
use bytes::Bytes;

use crate::block_journal::{BlockJournal, StoredBlock};
use crate::branches::Branches;
use crate::disk_space::DiskSpace;
use crate::follow::{Followers, Moves, tip_after};
use crate::kernel::{Kernel, Manager};
use crate::queue::{Decoded, Job, Queue, RawBlock};
use crate::recent::Recent;
use crate::record::{self, Record};
use crate::replay::RunningMarker;
use crate::skipped::Skipped;
use crate::{
    BlockOutcome, Change, CloseError, ConnId, Durability, Event, KernelEvent, Reject, RejectKind,
};
use crate::{convert, kernel_log, layout, mutated, stored, verdict};

/// The reason for bytes that are no block, as in Bitcoin Core's `submitblock`.
const UNDECODABLE: &str = "block-decode-failed";
/// Core's reason for a block that builds on an invalid one.
const BAD_PARENT: &str = "bad-prevblk";
/// The reason for a block that was refused because the queue is full.
const QUEUE_FULL: &str = "too many blocks wait for the consensus engine; try again";

/// Reports of short jobs are batched for this long: each single report wakes the
/// receiver's thread, which costs this one several microseconds, a tenth of an empty
/// block. An idle thread reports at once.
const REPORT_EVERY: Duration = Duration::from_millis(1);

/// How often a full disk is checked while no block comes.
const CHECK_DISK_EVERY: Duration = Duration::from_secs(1);

/// State that both threads share with the handle and the readers.
pub(crate) struct Shared {
    pub(crate) kernel: Kernel,
    pub(crate) queue: Queue,
    pub(crate) recent: Recent,
    pub(crate) followers: Followers,
    pub(crate) on_events: Box<dyn Fn(Vec<Event>) + Send + Sync>,
    pub(crate) dir: PathBuf,
    /// Whether the decode thread does the context-free checks.
    pub(crate) precheck: bool,
}

/// Runs a thread's body. A panic closes the queue, is reported as `Fatal` and
/// becomes the thread's result.
pub(crate) fn guarded(
    shared: &Shared,
    thread: &'static str,
    body: impl FnOnce() -> Result<(), CloseError>,
) -> Result<(), CloseError> {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
        shared.queue.close();
        let error = CloseError::Panicked {
            thread,
            message: message(&*panic),
        };
        tracing::error!("{error}");
        // The callback may be what panicked.
        let fatal = || (shared.on_events)(vec![Event::Fatal(error.to_string())]);
        let _ = catch_unwind(AssertUnwindSafe(fatal));
        Err(error)
    })
}

/// The text of a panic.
fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".into())
}

/// Body of the decode thread.
pub(crate) fn decode(shared: &Shared) -> Result<(), CloseError> {
    while let Some(mut raw) = shared.queue.take_raw() {
        let block = decode_one(shared, &mut raw);
        shared.queue.push_ready(raw, block);
    }
    Ok(())
}

/// Decodes a block, drops the bytes after it from `raw`, and checks that its data matches its
/// header.
fn decode_one(shared: &Shared, raw: &mut RawBlock) -> Decoded {
    let kernel = &shared.kernel;
    if raw.refused {
        return Err(BlockOutcome::Failed(QUEUE_FULL.into()));
    }
    let block = Block::new(&raw.bytes).map_err(|_| {
        BlockOutcome::Rejected(Reject {
            kind: RejectKind::Mutated,
            reason: UNDECODABLE.into(),
        })
    })?;
    let hash = convert::hash(&block.hash());
    assert_eq!(hash, raw.hash, "callers name a block by its hash");
    let checked = kernel.check(&block, !shared.precheck);
    let Some(layout) = layout::scan(&raw.bytes) else {
        // The kernel has decoded it, so this is our bug, and the kernel's verdict counts.
        tracing::error!(%hash, "the scan of a decoded block failed");
        if let Ok(encoding) = block.consensus_encode() {
            raw.bytes = encoding.into();
        }
        return Ok(block);
    };
    if layout.length < raw.bytes.len() {
        // Core ignores bytes after the block; they are neither stored nor held in memory.
        raw.bytes = Bytes::copy_from_slice(&raw.bytes[..layout.length]);
    }
    match mutated::find(&raw.bytes, &layout, checked, raw.height, kernel.rules) {
        Some(reject) => Err(BlockOutcome::Rejected(reject)),
        None => Ok(block),
    }
}

/// Body of the kernel thread: jobs until the queue is closed, then flush.
pub(crate) fn validate(shared: &Arc<Shared>, start: Start) -> Result<(), CloseError> {
    let Start {
        unconnected,
        block_journal,
        branches,
        disk_space,
        marker,
    } = start;
    let mut worker = Worker {
        shared,
        unconnected,
        block_journal,
        branches,
        disk_space,
        skipped: Skipped::default(),
        warnings: BTreeMap::new(),
        failed: false,
        held: vec![],
        moves: vec![],
        reported: Instant::now(),
    };
    let worked = guarded(shared, "kernel", || {
        // Here, since it takes two writes to the disk, for which no caller should wait.
        marker.set();
        worker.run();
        Ok(())
    });
    if worked.is_ok()
        && let Some(manager) = shared.kernel.manager()
    {
        stored::save(&shared.dir, &manager, &worker.unconnected);
        worker.branches.write(&manager);
    }
    let side = match shared.kernel.manager().is_some() {
        true => worker.block_journal.side_records(&shared.kernel),
        false => BTreeSet::new(),
    };
    let flushed = shared.kernel.close();
    worked?;
    flushed.map_err(CloseError::Flush)?;
    // After a fatal error the kernel's report of a flush does not suffice to drop the journal.
    if !worker.failed {
        worker.block_journal.kernel_has_all(&side);
        marker.clear();
    }
    Ok(())
}

/// The initial state of the kernel thread.
pub(crate) struct Start {
    /// Blocks on disk that are not in the active chain.
    pub(crate) unconnected: BTreeSet<BlockHash>,
    pub(crate) block_journal: BlockJournal,
    pub(crate) branches: Branches,
    pub(crate) disk_space: DiskSpace,
    pub(crate) marker: RunningMarker,
}

/// Ids of warnings: the kernel's two, and ours.
const RULES: u8 = 0;
const INVALID_CHAIN: u8 = 1;
const JOURNAL: u8 = 2;
const DISK: u8 = 3;

struct Worker<'a> {
    shared: &'a Shared,
    /// Blocks on disk that are not in the active chain, as far as we know.
    unconnected: BTreeSet<BlockHash>,
    block_journal: BlockJournal,
    branches: Branches,
    disk_space: DiskSpace,
    skipped: Skipped,
    warnings: BTreeMap<u8, String>,
    /// The kernel had a fatal error.
    failed: bool,
    /// Events not reported yet, oldest first.
    held: Vec<Event>,
    /// The moves that followers get after those, with the tip.
    moves: Vec<(Moves, BlockHash)>,
    /// When events were last reported.
    reported: Instant,
}

impl Worker<'_> {
    fn run(&mut self) {
        let shared = self.shared;
        while let Some(job) = shared.queue.take_job(|| self.idle()) {
            let started = Instant::now();
            let fatal = match job {
                Job::Headers { headers, origin } => self.headers(headers, origin),
                Job::Block { raw, block } => self.block(raw, block),
            };
            self.end_on(fatal);
            if self.reported.elapsed() >= REPORT_EVERY {
                self.report();
            }
            self.shared.kernel.yield_to_readers(started.elapsed());
        }
        self.report();
    }

    /// No job is queued: reports, and does deferred work. Returns when to call it again.
    fn idle(&mut self) -> Option<Instant> {
        self.report();
        let (durability, again) = match self.block_journal.idle(&self.shared.kernel) {
            Ok(done) => done,
            Err(fatal) => {
                self.end_on(Some(fatal));
                (false, None)
            }
        };
        self.warn(JOURNAL, self.block_journal.warning());
        if durability {
            self.post(Event::Answer(KernelEvent::Durable));
        }
        let again = match self.warnings.contains_key(&DISK) {
            true => {
                let lacking = self.disk_space.lacking().cloned();
                self.warn(DISK, lacking);
                let soon = Instant::now() + CHECK_DISK_EVERY;
                Some(again.map_or(soon, |again| again.min(soon)))
            }
            false => again,
        };
        let write = self.write_branches();
        self.report();
        again.into_iter().chain(write).min()
    }

    fn write_branches(&mut self) -> Option<Instant> {
        let manager = self.shared.kernel.manager()?;
        self.branches.idle(&manager)
    }

    /// Validation cannot go on.
    fn end_on(&mut self, fatal: Option<String>) {
        // During a shutdown an error may come from the interrupted kernel call.
        if let Some(text) = fatal.filter(|_| !self.shared.queue.is_closed()) {
            self.failed = true;
            self.shared.queue.close();
            self.post(Event::Fatal(text));
        }
    }

    fn headers(&mut self, headers: Vec<Header>, origin: Option<ConnId>) -> Option<String> {
        let started = Instant::now();
        let shared = self.shared;
        let manager = shared.kernel.manager().expect("this thread closes it");
        let mut fatal = None;
        let mut last = None;
        let mut rejected = None;
        let mut count_ok = 0;
        for header in &headers {
            // During a shutdown: the answer would not be used.
            if self.shared.queue.is_closed() {
                return None;
            }
            let (reject, record) = check_header(&manager, header);
            fatal = self.notice(record).or(fatal);
            match reject {
                Some(reject) => {
                    rejected = Some((header.block_hash(), reject));
                    break;
                }
                None => {
                    count_ok += 1;
                    last = Some(header);
                }
            }
        }
        let refused = rejected.as_ref().map(|(hash, _)| *hash);
        let last = last.map(Header::block_hash);
        self.branches
            .observe(&manager, last.into_iter().chain(refused));
        self.post(Event::Answer(KernelEvent::HeadersChecked {
            count_ok,
            rejected,
            origin,
            busy: started.elapsed(),
        }));
        fatal
    }

    fn block(&mut self, raw: RawBlock, block: Decoded) -> Option<String> {
        let started = Instant::now();
        let RawBlock {
            hash,
            bytes,
            height: _,
            before,
            origin,
            persist,
            refused: _,
        } = raw;
        let header = deserialize_partial::<Header>(&bytes)
            .ok()
            .map(|(header, _)| header);
        let (refused, fatal_header) = match &block {
            Ok(_) => self.submit_ancestors(header.map(|header| header.prev_blockhash), &before),
            Err(_) => (None, None),
        };
        let (outcome, changes, mut record) = match refused {
            Some(reject) => (BlockOutcome::Rejected(reject), vec![], Record::default()),
            None => self.process_block(hash, block),
        };
        match outcome {
            BlockOutcome::Stored | BlockOutcome::Duplicate => {}
            BlockOutcome::Rejected(_) | BlockOutcome::Failed(_) => {
                self.skipped.add(before.into_iter().chain(header));
            }
        }
        if outcome == BlockOutcome::Stored {
            self.unconnected.insert(hash);
            // While more are queued, this is bulk sync, and peers do not request these soon.
            if self.shared.queue.is_empty() {
                self.shared.recent.insert(hash, &bytes);
            }
        }
        for change in &changes {
            match change {
                Change::Connected(hash, _) => self.unconnected.remove(hash),
                Change::Disconnected(hash, _) => self.unconnected.insert(*hash),
                Change::Invalid(hash, ..) => self.unconnected.remove(hash),
            };
        }
        let moves = record.moves.take().zip(tip_after(&changes));
        if record.flushed {
            let side = self.block_journal.side_records(&self.shared.kernel);
            self.block_journal.kernel_flushed(&side);
        }
        let mut fatal = self.notice(record).or(fatal_header);
        let durability = match outcome {
            BlockOutcome::Stored | BlockOutcome::Duplicate => self.block_journal.stored(
                &self.shared.kernel,
                StoredBlock {
                    hash,
                    bytes: &bytes,
                    new: outcome == BlockOutcome::Stored,
                    persist,
                },
            ),
            BlockOutcome::Rejected(_) | BlockOutcome::Failed(_) => Ok(self.block_journal.now()),
        };
        self.warn(JOURNAL, self.block_journal.warning());
        let durability = durability.unwrap_or_else(|why| {
            fatal = Some(why.clone());
            Durability::Failed(why)
        });
        self.post(Event::Answer(KernelEvent::BlockChecked {
            hash,
            outcome,
            origin,
            changes,
            durability,
            busy: started.elapsed(),
        }));
        self.moves.extend(moves);
        fatal
    }

    /// Submits the ancestors' headers of a block on `prev` to the kernel. Returns the reason if the
    /// block is refused because of them, and the first fatal error.
    fn submit_ancestors(
        &mut self,
        prev: Option<BlockHash>,
        before: &[Header],
    ) -> (Option<Reject>, Option<String>) {
        let first = before.first().map(|first| first.prev_blockhash).or(prev);
        let skipped = first.map(|to| self.skipped.take_ancestors(&to));
        let skipped = skipped.unwrap_or_default();
        if skipped.is_empty() && before.is_empty() {
            return (None, None);
        }
        let manager = self.shared.kernel.manager().expect("this thread closes it");
        let mut fatal = None;
        for header in skipped.iter().chain(before) {
            let (reject, record) = check_header(&manager, header);
            fatal = self.notice(record).or(fatal);
            if let Some(reject) = reject {
                let reject = match reject.kind {
                    // The mark is that of an ancestor.
                    RejectKind::CachedInvalid => Reject {
                        kind: RejectKind::InvalidPrev,
                        reason: BAD_PARENT.into(),
                    },
                    _ => reject,
                };
                return (Some(reject), fatal);
            }
        }
        (None, fatal)
    }

    /// Submits a block to the kernel, if there is free disk space for it.
    fn process_block(
        &mut self,
        hash: BlockHash,
        block: Decoded,
    ) -> (BlockOutcome, Vec<Change>, Record) {
        let block = match block {
            Ok(block) => block,
            Err(outcome) => return (outcome, vec![], Record::default()),
        };
        let lacking = self.disk_space.lacking().cloned();
        self.warn(DISK, lacking.clone());
        if let Some(why) = lacking {
            return (BlockOutcome::Failed(why), vec![], Record::default());
        }
        let shared = self.shared;
        let manager = shared.kernel.manager().expect("this thread closes it");
        let process = || manager.process_block(&block);
        let (result, record) = match shared.followers.is_empty() {
            true => record::during(process),
            false => record::following(process),
        };
        let (outcome, changes) = verdict::block(hash, result, &record, |hash| manager.marked(hash));
        let connected = matches!(&changes[..], [Change::Connected(tip, _)] if *tip == hash);
        if connected {
            self.branches.observe(&manager, []);
        } else {
            let touched = changes.iter().map(Change::hash).chain([hash]);
            self.branches.observe(&manager, touched);
        }
        if record.flushed {
            self.branches.write(&manager);
        }
        (outcome, changes, record)
    }

    /// Reports changed warnings; returns the first fatal error.
    fn notice(&mut self, record: Record) -> Option<String> {
        for (id, text) in record.warnings {
            let id = match id {
                Warning::UnknownNewRulesActivated => RULES,
                Warning::LargeWorkInvalidChain => INVALID_CHAIN,
            };
            self.warn(id, text);
        }
        record.fatal.into_iter().next()
    }

    /// Sets or clears a warning, and reports a change.
    fn warn(&mut self, id: u8, text: Option<String>) {
        if self.warnings.get(&id) == text.as_ref() {
            return;
        }
        match text {
            Some(text) => self.warnings.insert(id, text),
            None => self.warnings.remove(&id),
        };
        self.post(Event::Warnings(self.warnings.values().cloned().collect()));
    }

    fn post(&mut self, event: Event) {
        self.held.push(event);
    }

    /// Reports all pending events.
    fn report(&mut self) {
        if !self.held.is_empty() {
            (self.shared.on_events)(std::mem::take(&mut self.held));
        }
        for (moves, tip) in self.moves.drain(..) {
            self.shared.followers.tell(&moves, tip);
        }
        self.reported = Instant::now();
    }
}

/// Submits one header to the kernel; `None`: accepted.
fn check_header(manager: &Manager<'_>, header: &Header) -> (Option<Reject>, Record) {
    let header = convert::kernel_header(header);
    let (result, record) = record::during(|| manager.process_block_header(&header));
    match result {
        Ok(ProcessBlockHeaderResult::Valid) => return (None, record),
        Ok(ProcessBlockHeaderResult::Invalid(_)) | Err(_) => {}
    }
    // A refused header is not stored, so a second submission gives the same verdict, this
    // time with its reason.
    record::with_validation_log(|| {
        let (result, record) = record::during(|| manager.process_block_header(&header));
        match result {
            Ok(ProcessBlockHeaderResult::Valid) => (None, record),
            Ok(ProcessBlockHeaderResult::Invalid(state)) => {
                (Some(verdict::header(state.result(), &record.log)), record)
            }
            Err(_) => {
                let reject = Reject {
                    kind: RejectKind::Unknown,
                    reason: kernel_log::last_line(&record.log),
                };
                (Some(reject), record)
            }
        }
    })
}
