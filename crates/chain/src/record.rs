//! The kernel's callbacks and log lines during a call.
//!
//! Both come synchronously on the thread that called into the kernel, so a
//! thread-local record, opened around each call by [`during`], gets exactly that
//! call's reports, with no lock and for any number of kernels in one process.
//!
//! # Deadlock
//! Callbacks run with the chain lock held, the log callback also with the logger's.
//! They only copy: a call into the kernel from there would deadlock.
//!
//! # Panics
//! A callback is called by C++; a panic there aborts the process. Callbacks contain
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

use crate::follow::{ActiveBlock, Move, Moves};
use crate::progress::{self, Progress};
use crate::{convert, kernel_log};

/// Log lines stored per call: of errors, which have the reasons of refusals, and of
/// all. One call can connect many blocks, and only errors must not be lost.
const MAX_ERRORS: usize = 1_024;
const MAX_LINES: usize = 64;

/// The beginning of the last line of a flush. The coins are written last, after the block
/// files and the block index were synced (Bitcoin Core `FlushStateToDisk`).
const FLUSHED: &str = "Committed ";

/// The kernel's reports during one call.
#[derive(Debug, Default)]
pub(crate) struct Record {
    /// Connections, disconnections and failed checks, in order.
    pub(crate) steps: Vec<Step>,
    /// The blocks that moved, while the chain has followers.
    pub(crate) moves: Option<Moves>,
    /// Log lines that verdicts are read from, in order.
    pub(crate) log: Vec<String>,
    /// Errors after which validation cannot go on.
    pub(crate) fatal: Vec<String>,
    /// The kernel has flushed: all blocks of before this call are on disk, and the block of this
    /// call if it had been stored by then.
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
        /// Whether a rule was broken; otherwise it is an error of the kernel.
        broken_rule: bool,
        /// The class of the rule.
        class: BlockValidationResult,
    },
}

thread_local! {
    static RECORD: RefCell<Option<Record>> = const { RefCell::new(None) };
}

/// Calls `f` and returns the kernel's reports on this thread meanwhile.
pub(crate) fn during<T>(f: impl FnOnce() -> T) -> (T, Record) {
    recorded(Record::default(), f)
}

/// The same, which also gathers the blocks that move, with their bodies.
pub(crate) fn following<T>(f: impl FnOnce() -> T) -> (T, Record) {
    let record = Record {
        moves: Some(Moves::default()),
        ..Record::default()
    };
    recorded(record, f)
}

fn recorded<T>(record: Record, f: impl FnOnce() -> T) -> (T, Record) {
    RECORD.set(Some(record));
    let result = f();
    let record = RECORD.take().unwrap_or_default();
    for line in &record.log {
        // A peer can cause these lines at will, so they are not above debug.
        tracing::debug!(target: "kernel", "{line}");
    }
    (result, record)
}

/// Changes this thread's record; false when there is none.
fn note(f: impl FnOnce(&mut Record)) -> bool {
    RECORD.with_borrow_mut(|record| match record {
        Some(record) => {
            f(record);
            true
        }
        None => false,
    })
}

/// Registers all callbacks.
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

/// Called at every new tip, and once when the databases are opened.
fn new_tip(progress: &Progress, hash: BlockHash, share: f64) {
    let mut reported = None;
    note(|record| reported = record.transactions);
    let transactions = reported
        .filter(|(tip, _)| *tip == hash)
        .map(|(_, count)| count);
    progress.tip(hash, transactions, share);
}

fn connected(block: Block, entry: BlockTreeEntry<'_>) {
    moved(block, &entry, Step::Connected, Move::Connected);
}

fn disconnected(block: Block, entry: BlockTreeEntry<'_>) {
    moved(block, &entry, Step::Disconnected, Move::Disconnected);
}

fn moved(
    block: Block,
    entry: &BlockTreeEntry<'_>,
    step: fn(BlockHash, Header) -> Step,
    to_follow: fn(Arc<ActiveBlock>) -> Move,
) {
    let (hash, header) = (convert::hash(&entry.block_hash()), convert::header(entry));
    note(|record| {
        record.steps.push(step(hash, header));
        if let Some(moves) = &mut record.moves {
            let block = ActiveBlock::new(hash, header, block);
            moves.push(to_follow(Arc::new(block)));
        }
    });
}

fn fatal(text: String) {
    tracing::error!(target: "kernel", "{text}");
    note(|record| record.fatal.push(text));
}

struct Sink;

impl Log for Sink {
    fn log(&self, message: &str) {
        // One line per connected block, which our progress line replaces.
        if message.starts_with("UpdateTip:") {
            let reported = progress::parse_tip_line(message);
            note(|record| record.transactions = reported);
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
/// The kernel formats its unconditional lines even without a connection, and buffers
/// them then; only the time stamp can be switched off.
pub(crate) fn connect_log() -> Result<(), KernelError> {
    static CONNECTED: OnceLock<Result<(), String>> = OnceLock::new();
    CONNECTED
        .get_or_init(|| {
            set_logging_options(LoggingOptions {
                log_timestamps: false,
                ..LoggingOptions::default()
            });
            let logger = Logger::new(Sink).map_err(|e| e.to_string())?;
            // This category logs only flushes, a few lines each.
            logger.set_level_category(LogCategory::CoinDb, LogLevel::Debug);
            logger.enable_category(LogCategory::CoinDb);
            // The connection is leaked, since the library's logger is never destroyed.
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

/// Calls `f` with the kernel's validation log switched on, which alone has the reason of a
/// refused header.
///
/// It is not left on, since it formats several lines for each connected block. Switching is
/// a method of a connection, so this makes a temporary one.
pub(crate) fn with_validation_log<T>(f: impl FnOnce() -> T) -> T {
    // The switch is global: a second kernel must not switch it off meanwhile.
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
