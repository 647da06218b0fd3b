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
use bitcoinkernel::notifications::types::{BlockValidationStateExt, Warning};
use bitcoinkernel::{Block, ProcessBlockHeaderResult};

use crate::kernel::{Kernel, Manager};
use crate::queue::{Job, Queue, RawBlock};
use crate::recent::Recent;
use crate::record::{self, Record};
use crate::{BlockOutcome, Change, CloseError, Event, Reject, RejectKind};
use crate::{convert, stored, verdict};

/// Reason for bytes that are no block; Bitcoin Core's `submitblock` says so too.
const UNDECODABLE: &str = "block-decode-failed";

/// Reports of short jobs are held back this long, to go out together: each that
/// goes out alone wakes the receiver's thread, which costs this one several
/// microseconds, a tenth of an empty block. Never while there is nothing to do.
const REPORT_EVERY: Duration = Duration::from_millis(1);

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
    while let Some(raw) = shared.queue.take_raw() {
        let block = Block::new(&raw.bytes).ok();
        if let Some(block) = &block {
            let hash = convert::hash(&block.hash());
            assert_eq!(hash, raw.hash, "callers name a block by its hash");
            if shared.precheck {
                shared.kernel.check(block);
            }
        }
        shared.queue.push_ready(raw, block);
    }
    Ok(())
}

/// Body of the kernel thread: jobs until the queue is closed, then flush.
pub(crate) fn validate(
    shared: &Arc<Shared>,
    unconnected: BTreeSet<BlockHash>,
) -> Result<(), CloseError> {
    let mut worker = Worker {
        shared,
        unconnected,
        warnings: BTreeMap::new(),
        held: vec![],
        reported: Instant::now(),
    };
    let worked = guarded(shared, "kernel", || {
        worker.run();
        Ok(())
    });
    if worked.is_ok()
        && let Some(manager) = shared.kernel.manager()
    {
        stored::save(&shared.dir, &manager, &worker.unconnected);
    }
    let flushed = shared.kernel.close();
    worked?;
    match flushed.into_iter().next() {
        Some(error) => Err(CloseError::Flush(error)),
        None => Ok(()),
    }
}

struct Worker<'a> {
    shared: &'a Shared,
    /// Blocks on disk that are not in the active chain, as far as we know.
    unconnected: BTreeSet<BlockHash>,
    warnings: BTreeMap<u8, String>,
    /// Reports not given yet, oldest first.
    held: Vec<Event>,
    /// When reports were given last.
    reported: Instant,
}

impl Worker<'_> {
    fn run(&mut self) {
        let shared = self.shared;
        while let Some(job) = shared.queue.take_job(|| self.report()) {
            let started = Instant::now();
            let manager = shared.kernel.manager().expect("this thread closes it");
            let fatal = match job {
                Job::Headers { headers, tag } => self.headers(&manager, headers, tag),
                Job::Block { raw, block } => self.block(&manager, raw, block),
            };
            drop(manager);
            if let Some(text) = fatal {
                self.shared.queue.close();
                self.post(Event::Fatal(text));
            }
            if self.reported.elapsed() >= REPORT_EVERY {
                self.report();
            }
            self.shared.kernel.yield_to_readers(started.elapsed());
        }
        self.report();
    }

    fn headers(&mut self, manager: &Manager<'_>, headers: Vec<Header>, tag: u64) -> Option<String> {
        let started = Instant::now();
        let mut fatal = None;
        let mut last = None;
        let mut rejected = None;
        let mut count_ok = 0;
        for header in &headers {
            // Stopping: the answer would come too late, the work would not.
            if self.shared.queue.is_closed() {
                return None;
            }
            let (reject, record) = check_header(manager, header);
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
        self.post(Event::Headers {
            tag,
            count_ok,
            rejected,
            last: last.map(Header::block_hash),
            busy: started.elapsed(),
        });
        fatal
    }

    fn block(
        &mut self,
        manager: &Manager<'_>,
        raw: RawBlock,
        block: Option<Block>,
    ) -> Option<String> {
        let started = Instant::now();
        let RawBlock { hash, bytes, tag } = raw;
        let Some(block) = block else {
            self.post(Event::Block {
                tag,
                hash,
                outcome: BlockOutcome::Rejected(Reject {
                    kind: RejectKind::Mutated,
                    reason: UNDECODABLE.into(),
                }),
                changes: vec![],
                busy: started.elapsed(),
            });
            return None;
        };
        let (result, record) = record::during(|| manager.process_block(&block));
        let (outcome, changes) = verdict::block(hash, result, &record);
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
                Change::Disconnected(hash) => self.unconnected.insert(*hash),
                Change::Invalid(hash, _) => self.unconnected.remove(hash),
            };
        }
        let fatal = self.notice(record);
        self.post(Event::Block {
            tag,
            hash,
            outcome,
            changes,
            busy: started.elapsed(),
        });
        fatal
    }

    /// Tells of changed warnings; returns the first fatal error.
    fn notice(&mut self, record: Record) -> Option<String> {
        let before = self.warnings.clone();
        for (id, text) in record.warnings {
            let id = match id {
                Warning::UnknownNewRulesActivated => 0,
                Warning::LargeWorkInvalidChain => 1,
            };
            match text {
                Some(text) => self.warnings.insert(id, text),
                None => self.warnings.remove(&id),
            };
        }
        if self.warnings != before {
            self.post(Event::Warnings(self.warnings.values().cloned().collect()));
        }
        record.fatal.into_iter().next()
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
                    reason: verdict::last_line(&record.log),
                };
                (Some(reject), record)
            }
        }
    })
}
