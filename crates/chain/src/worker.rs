//! The two threads: `decode` turns bytes into blocks (which hashes every
//! transaction) and does the checks that need no context; `kernel` is the one
//! place that changes the chain.

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

use crate::branches::Branches;
use crate::keeper::{Keeper, Stored};
use crate::kernel::{Kernel, Manager};
use crate::queue::{Decoded, Job, Queue, RawBlock};
use crate::recent::Recent;
use crate::record::{self, Record};
use crate::replay::Marker;
use crate::room::Room;
use crate::skipped::Skipped;
use crate::{
    BlockOutcome, Change, CloseError, ConnId, Event, Kept, KernelEvent, Reject, RejectKind,
};
use crate::{convert, kernel_log, layout, mutated, stored, verdict};

/// Reason for bytes that are no block; Bitcoin Core's `submitblock` says so too.
const UNDECODABLE: &str = "block-decode-failed";
/// Core's reason for a block that builds on an invalid one.
const BAD_PARENT: &str = "bad-prevblk";
/// Why a block was not looked at.
const CROWDED: &str = "too many blocks wait for the consensus engine; try again";

/// Reports of short jobs are held back this long, to go out together: each that
/// goes out alone wakes the receiver's thread, which costs this one several
/// microseconds, a tenth of an empty block. Never while there is nothing to do.
const REPORT_EVERY: Duration = Duration::from_millis(1);

/// How often room on a full disk is looked for while no block comes.
const LOOK_FOR_ROOM: Duration = Duration::from_secs(1);

/// What both threads share with the handle and the readers.
pub(crate) struct Shared {
    pub(crate) kernel: Kernel,
    pub(crate) queue: Queue,
    pub(crate) recent: Recent,
    pub(crate) on_events: Box<dyn Fn(Vec<Event>) + Send + Sync>,
    pub(crate) dir: PathBuf,
    /// Whether the decode thread does the context-free checks.
    pub(crate) precheck: bool,
}

/// Runs a thread's body. A panic closes the queue, is reported as `Fatal` and
/// becomes the thread's result: never silence.
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

/// Decodes a block, leaves nothing but it in `raw`, and finds out whether its data belongs
/// to its header.
fn decode_one(shared: &Shared, raw: &mut RawBlock) -> Decoded {
    let kernel = &shared.kernel;
    if raw.refused {
        return Err(BlockOutcome::Failed(CROWDED.into()));
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
        // The kernel has decoded it, so that the fault is ours, and its word goes.
        tracing::error!(%hash, "a block's parts were not found");
        if let Ok(encoding) = block.consensus_encode() {
            raw.bytes = encoding.into();
        }
        return Ok(block);
    };
    if layout.length < raw.bytes.len() {
        // Core tolerates what follows; it is not to be stored, and not to be held either.
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
        keeper,
        branches,
        room,
        marker,
    } = start;
    let mut worker = Worker {
        shared,
        unconnected,
        keeper,
        branches,
        room,
        skipped: Skipped::default(),
        warnings: BTreeMap::new(),
        failed: false,
        held: vec![],
        reported: Instant::now(),
    };
    let worked = guarded(shared, "kernel", || {
        // Here, since it takes two writes to the disk, for which nobody has to wait.
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
    let beside = match shared.kernel.manager().is_some() {
        true => worker.keeper.beside(&shared.kernel),
        false => BTreeSet::new(),
    };
    let flushed = shared.kernel.close();
    worked?;
    flushed.map_err(CloseError::Flush)?;
    // After an error of its own the kernel's word is not enough to throw the journal away.
    if !worker.failed {
        worker.keeper.kernel_has_all(&beside);
        marker.clear();
    }
    Ok(())
}

/// What the kernel thread begins with.
pub(crate) struct Start {
    /// Blocks on disk that are not in the active chain.
    pub(crate) unconnected: BTreeSet<BlockHash>,
    pub(crate) keeper: Keeper,
    pub(crate) branches: Branches,
    pub(crate) room: Room,
    pub(crate) marker: Marker,
}

/// Warnings by number: the kernel's two, and ours.
const RULES: u8 = 0;
const INVALID_CHAIN: u8 = 1;
const JOURNAL: u8 = 2;
const DISK: u8 = 3;

struct Worker<'a> {
    shared: &'a Shared,
    /// Blocks on disk that are not in the active chain, as far as we know.
    unconnected: BTreeSet<BlockHash>,
    keeper: Keeper,
    branches: Branches,
    room: Room,
    skipped: Skipped,
    warnings: BTreeMap<u8, String>,
    /// The kernel had trouble after which it cannot go on.
    failed: bool,
    /// Reports not given yet, oldest first.
    held: Vec<Event>,
    /// When reports were given last.
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

    /// Nothing waits: reports, and does what nobody waits for. Returns when it wants to be
    /// called again.
    fn idle(&mut self) -> Option<Instant> {
        self.report();
        let (kept, again) = match self.keeper.idle(&self.shared.kernel) {
            Ok(done) => done,
            Err(fatal) => {
                self.end_on(Some(fatal));
                (false, None)
            }
        };
        self.warn(JOURNAL, self.keeper.warning());
        if kept {
            self.post(Event::Answer(KernelEvent::Kept));
        }
        let again = match self.warnings.contains_key(&DISK) {
            true => {
                let lacking = self.room.lacking().cloned();
                self.warn(DISK, lacking);
                let soon = Instant::now() + LOOK_FOR_ROOM;
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
        // When we are told to stop, the kernel may well be interrupted in what it did.
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
            // Stopping: the answer would come too late, the work would not.
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
            .looked(&manager, last.into_iter().chain(refused));
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
            keep,
            refused: _,
        } = raw;
        let header = deserialize_partial::<Header>(&bytes)
            .ok()
            .map(|(header, _)| header);
        let (refused, fatal_header) = match &block {
            Ok(_) => self.give_before(header.map(|header| header.prev_blockhash), &before),
            Err(_) => (None, None),
        };
        let (outcome, changes, record) = match refused {
            Some(reject) => (BlockOutcome::Rejected(reject), vec![], Record::default()),
            None => self.judge(hash, block),
        };
        match outcome {
            BlockOutcome::Stored | BlockOutcome::Duplicate => {}
            BlockOutcome::Rejected(_) | BlockOutcome::Failed(_) => {
                self.skipped.remember(before.into_iter().chain(header));
            }
        }
        if outcome == BlockOutcome::Stored {
            self.unconnected.insert(hash);
            // While more wait, this is bulk sync: nobody asks for these so soon.
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
        if record.flushed {
            let beside = self.keeper.beside(&self.shared.kernel);
            self.keeper.kernel_flushed(&beside);
        }
        let mut fatal = self.notice(record).or(fatal_header);
        let kept = match outcome {
            BlockOutcome::Stored | BlockOutcome::Duplicate => self.keeper.stored(
                &self.shared.kernel,
                Stored {
                    hash,
                    bytes: &bytes,
                    new: outcome == BlockOutcome::Stored,
                    keep,
                },
            ),
            BlockOutcome::Rejected(_) | BlockOutcome::Failed(_) => Ok(self.keeper.now()),
        };
        self.warn(JOURNAL, self.keeper.warning());
        let kept = kept.unwrap_or_else(|why| {
            fatal = Some(why.clone());
            Kept::Failed(why)
        });
        self.post(Event::Answer(KernelEvent::BlockChecked {
            hash,
            outcome,
            origin,
            changes,
            kept,
            busy: started.elapsed(),
        }));
        fatal
    }

    /// Gives the kernel the headers that lead to a block on `prev`. Returns why the block is
    /// refused because of them, and the first fatal error.
    fn give_before(
        &mut self,
        prev: Option<BlockHash>,
        before: &[Header],
    ) -> (Option<Reject>, Option<String>) {
        let first = before.first().map(|first| first.prev_blockhash).or(prev);
        let skipped = first.map(|to| self.skipped.take_way_to(&to));
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
                    // The mark is one of what the block builds on.
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

    /// Has the kernel judge and store a block, if there is room for it.
    fn judge(&mut self, hash: BlockHash, block: Decoded) -> (BlockOutcome, Vec<Change>, Record) {
        let block = match block {
            Ok(block) => block,
            Err(outcome) => return (outcome, vec![], Record::default()),
        };
        let lacking = self.room.lacking().cloned();
        self.warn(DISK, lacking.clone());
        if let Some(why) = lacking {
            return (BlockOutcome::Failed(why), vec![], Record::default());
        }
        let shared = self.shared;
        let manager = shared.kernel.manager().expect("this thread closes it");
        let (result, record) = record::during(|| manager.process_block(&block));
        let (outcome, changes) = verdict::block(hash, result, &record, |hash| manager.marked(hash));
        let connected = matches!(&changes[..], [Change::Connected(tip, _)] if *tip == hash);
        if connected {
            self.branches.looked(&manager, []);
        } else {
            let touched = changes.iter().map(Change::hash).chain([hash]);
            self.branches.looked(&manager, touched);
        }
        if record.flushed {
            self.branches.write(&manager);
        }
        (outcome, changes, record)
    }

    /// Tells of changed warnings; returns the first fatal error.
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

    /// Raises or withdraws a warning; told when that changes something.
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

    /// Gives all reports that are held.
    fn report(&mut self) {
        if !self.held.is_empty() {
            (self.shared.on_events)(std::mem::take(&mut self.held));
        }
        self.reported = Instant::now();
    }
}

/// Lets the kernel judge one header; `None`: accepted.
fn check_header(manager: &Manager<'_>, header: &Header) -> (Option<Reject>, Record) {
    let header = convert::kernel_header(header);
    let (result, record) = record::during(|| manager.process_block_header(&header));
    match result {
        Ok(ProcessBlockHeaderResult::Valid) => return (None, record),
        Ok(ProcessBlockHeaderResult::Invalid(_)) | Err(_) => {}
    }
    // A refused header leaves no trace, so asking again gives the same answer,
    // this time with its reason.
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
