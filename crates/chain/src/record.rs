//! What the kernel says while it works: its callbacks and its log.
//!
//! Both run synchronously on the thread that called into the kernel, so a
//! thread-local record, opened around each call by [`during`], gathers exactly
//! that call's words, with no lock and however many kernels one process holds.
//!
//! # Deadlock
//! Callbacks run with the chain lock held, the log callback also with the
//! logger's own. They copy and return; calling back into the kernel from there
//! would wait for ourselves.
//!
//! # Panics
//! A callback is called by C++; a panic there aborts the process. They contain
//! nothing that panics.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bitcoin::BlockHash;
use bitcoin::block::Header;
use bitcoinkernel::log::logging::{LoggingOptions, set_logging_options};
use bitcoinkernel::notifications::types::{SynchronizationState, Warning};
use bitcoinkernel::prelude::*;
use bitcoinkernel::{
    Block, BlockTreeEntry, BlockValidationResult, BlockValidationStateRef, ContextBuilder,
    KernelError, Log, LogCategory, LogLevel, Logger, ValidationMode,
};

use crate::progress::{self, Progress};
use crate::{convert, kernel_log};

/// Log lines kept per call: of errors, which hold the reasons of refusals, and of
/// all. One call can connect many blocks, and only an error must not be missed.
const MAX_ERRORS: usize = 1_024;
const MAX_LINES: usize = 64;

/// How the last line of a flush begins. The coins are written last, after the block
/// files and the block index were synced (Bitcoin Core `FlushStateToDisk`).
const FLUSHED: &str = "Committed ";

/// Everything the kernel said during one call.
#[derive(Debug, Default)]
pub(crate) struct Record {
    /// Connections, disconnections and failed checks, in order.
    pub(crate) steps: Vec<Step>,
    /// Log lines worth looking at, in order.
    pub(crate) log: Vec<String>,
    /// Errors after which validation cannot go on.
    pub(crate) fatal: Vec<String>,
    /// The kernel has flushed: what it had before this call, and the block of this call
    /// if that had been stored by then, is on disk.
    pub(crate) flushed: bool,
    /// Warnings raised (`Some` text) and withdrawn (`None`), in order.
    pub(crate) warnings: Vec<(Warning, Option<String>)>,
    /// The last tip of this call, and the number of transactions of its chain.
    pub(crate) transactions: Option<(BlockHash, u64)>,
}

/// One callback of the validation interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The block became the tip.
    Connected(BlockHash, Header),
    /// The block was the tip.
    Disconnected(BlockHash, Header),
    /// The block failed a check.
    Failed {
        /// The block.
        hash: BlockHash,
        /// Whether a rule was broken; otherwise the kernel had trouble of its own.
        broken_rule: bool,
        /// The class of the rule.
        class: BlockValidationResult,
    },
}

thread_local! {
    static RECORD: RefCell<Option<Record>> = const { RefCell::new(None) };
}

/// Calls `f` and returns what the kernel said on this thread meanwhile.
pub(crate) fn during<T>(f: impl FnOnce() -> T) -> (T, Record) {
    RECORD.set(Some(Record::default()));
    let result = f();
    let record = RECORD.take().unwrap_or_default();
    for line in &record.log {
        // A peer can provoke these lines at will, hence not above debug.
        tracing::debug!(target: "kernel", "{line}");
    }
    (result, record)
}

/// Adds to this thread's record; false when there is none.
fn note(f: impl FnOnce(&mut Record)) -> bool {
    RECORD.with_borrow_mut(|record| match record {
        Some(record) => {
            f(record);
            true
        }
        None => false,
    })
}

/// Registers every callback we listen to.
pub(crate) fn listen(builder: ContextBuilder, progress: Arc<Progress>) -> ContextBuilder {
    builder
        .with_block_tip_notification(move |_: SynchronizationState, hash, share: f64| {
            new_tip(&progress, convert::hash(&hash), share);
        })
        .with_block_checked_validation(|block: Block, state: BlockValidationStateRef<'_>| {
            if state.mode() == ValidationMode::Valid {
                return;
            }
            let step = Step::Failed {
                hash: convert::hash(&block.hash()),
                broken_rule: state.mode() == ValidationMode::Invalid,
                class: state.result(),
            };
            note(|record| record.steps.push(step));
        })
        .with_block_connected_validation(connected)
        .with_block_disconnected_validation(disconnected)
        .with_warning_set_notification(|id: Warning, text: String| {
            note(|record| record.warnings.push((id, Some(text))));
        })
        .with_warning_unset_notification(|id: Warning| {
            note(|record| record.warnings.push((id, None)));
        })
        .with_flush_error_notification(fatal)
        .with_fatal_error_notification(fatal)
}

/// Told at every new tip, and once when the databases are opened.
fn new_tip(progress: &Progress, hash: BlockHash, share: f64) {
    let mut told = None;
    note(|record| told = record.transactions);
    let transactions = told.filter(|(tip, _)| *tip == hash).map(|(_, count)| count);
    progress.tip(hash, transactions, share);
}

fn connected(_: Block, entry: BlockTreeEntry<'_>) {
    let step = Step::Connected(convert::hash(&entry.block_hash()), convert::header(&entry));
    note(|record| record.steps.push(step));
}

fn disconnected(_: Block, entry: BlockTreeEntry<'_>) {
    let step = Step::Disconnected(convert::hash(&entry.block_hash()), convert::header(&entry));
    note(|record| record.steps.push(step));
}

fn fatal(text: String) {
    tracing::error!(target: "kernel", "{text}");
    note(|record| record.fatal.push(text));
}

struct Sink;

impl Log for Sink {
    fn log(&self, message: &str) {
        // One per connected block, and told better by our own progress line.
        if message.starts_with("UpdateTip:") {
            let told = progress::of_log_line(message);
            note(|record| record.transactions = told);
            return;
        }
        let line = message.trim_end();
        if kernel_log::body(line).starts_with(FLUSHED) {
            note(|record| record.flushed = true);
        }
        let kept = note(|record| {
            let bound = match line.starts_with("[error]") {
                true => MAX_ERRORS,
                false => MAX_LINES,
            };
            if record.log.len() < bound {
                record.log.push(line.to_owned());
            }
        });
        if kept {
            return;
        }
        if line.starts_with("[error]") || line.starts_with("[warning]") {
            tracing::warn!(target: "kernel", "{line}");
        } else {
            tracing::debug!(target: "kernel", "{line}");
        }
    }
}

/// Connects the kernel's log, once per process: its logger is a global of the
/// C++ library, and every connection would get every line of every kernel.
///
/// The kernel formats its unconditional lines whether or not anybody listens, and
/// buffers them when nobody does; what we can save is the time stamp.
pub(crate) fn connect_log() -> Result<(), KernelError> {
    static CONNECTED: OnceLock<Result<(), String>> = OnceLock::new();
    CONNECTED
        .get_or_init(|| {
            set_logging_options(LoggingOptions {
                log_timestamps: false,
                ..LoggingOptions::default()
            });
            let logger = Logger::new(Sink).map_err(|e| e.to_string())?;
            // Tells of flushes, a few lines each, and of nothing else.
            logger.set_level_category(LogCategory::CoinDb, LogLevel::Debug);
            logger.enable_category(LogCategory::CoinDb);
            // Lives as long as the process, since the library's logger does.
            Box::leak(Box::new(logger));
            Ok(())
        })
        .clone()
        .map_err(KernelError::Internal)
}

struct Silent;

impl Log for Silent {
    fn log(&self, _: &str) {}
}

/// Calls `f` with the kernel's validation log switched on, the only place where
/// it says why it refuses a header.
///
/// Not left on: it formats several lines for each connected block. Switching is
/// a method of a connection, so this makes one for the moment.
pub(crate) fn with_validation_log<T>(f: impl FnOnce() -> T) -> T {
    // The switch is global; a second kernel must not turn it off under us.
    static SWITCH: Mutex<()> = Mutex::new(());
    let _guard = SWITCH.lock().unwrap_or_else(PoisonError::into_inner);
    let Ok(switch) = Logger::new(Silent) else {
        return f();
    };
    switch.set_level_category(LogCategory::Validation, LogLevel::Debug);
    switch.enable_category(LogCategory::Validation);
    let result = f();
    switch.disable_category(LogCategory::Validation);
    result
}
