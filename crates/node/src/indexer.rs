//! The threads that update indexes, each a consumer of published views.
//!
//! They read blocks back from disk (recent ones from memory), so validation neither waits for them
//! nor holds blocks for them. A thread whose index is far behind runs at batch priority: it takes
//! its share of a core and no more.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use bitcoin::BlockHash;
use handfast_chain::{BlockReader, ReadError};
use handfast_index::{ActiveChain, Index, IndexError, IndexProgress, Kind, Step};
use handfast_proto::headers::HeaderTree;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::config::NodeConfig;
use crate::indexed::{IndexName, Indexed};
use crate::scheduling::{Policy, schedule_this_thread};
use crate::shared::Shared;
use crate::view::Phase;

/// Pause after a failure.
const RETRY: Duration = Duration::from_secs(10);
/// Between two log lines about progress.
const LOG_EVERY: Duration = Duration::from_secs(30);

/// The indexes that the operator enabled. Touches no file. An index that exists and is not enabled
/// is logged: it takes disk space, and only the operator knows whether the option was left out on
/// purpose.
pub(crate) fn wanted(config: &NodeConfig) -> Vec<Indexed> {
    let mut all = vec![];
    for name in IndexName::ALL {
        let dir = name.directory(&config.datadir);
        if config.indexes.contains(&name) {
            let kind = match name {
                IndexName::Transactions => Kind::Transactions,
                IndexName::Spenders => Kind::Spenders,
            };
            all.push(Indexed {
                name,
                index: Index::new(kind, dir),
                standing: watch::Sender::default(),
            });
        } else if dir.is_dir() {
            let name = name.text();
            tracing::info!(
                directory = %dir.display(),
                "the index {name} exists but is not enabled: --{name} enables it, and it continues where it stopped; remove the directory to free its space"
            );
        }
    }
    all
}

/// The active chain of one view.
struct Active<'a>(&'a HeaderTree);

impl ActiveChain for Active<'_> {
    fn tip_height(&self) -> u32 {
        self.0.tip().height
    }
    fn at_height(&self, height: u32) -> Option<BlockHash> {
        self.0.at_height(height).map(|entry| entry.hash)
    }
    fn contains(&self, hash: &BlockHash) -> bool {
        self.0.in_active_chain(hash)
    }
}

/// Starts a thread for each enabled index. They end when the node stops.
pub(crate) fn start(shared: &Arc<Shared>, reader: &BlockReader) -> Vec<JoinHandle<()>> {
    let mut threads = vec![];
    for (at, indexed) in shared.indexes.iter().enumerate() {
        let name = indexed.name;
        let (with, reader) = (shared.clone(), reader.clone());
        let thread = Builder::new().name(name.text().into()).spawn(move || {
            let keep = || run(&with, &with.indexes[at], &reader);
            // Neither validation nor peers need an index: the node continues without it.
            if catch_unwind(AssertUnwindSafe(keep)).is_err() {
                let why = "an internal error, which is in the log; please report it";
                with.set_index_warning(name, Some(not_kept_up(name, why)));
            }
        });
        match thread {
            Ok(thread) => threads.push(thread),
            Err(error) => {
                let text = not_kept_up(name, &format!("its thread cannot be started: {error}"));
                tracing::error!("{text}");
                shared.set_index_warning(name, Some(text));
            }
        }
    }
    threads
}

fn not_kept_up(name: IndexName, why: &str) -> String {
    format!("the index {} is not updated: {why}", name.text())
}

fn run(shared: &Shared, indexed: &Indexed, reader: &BlockReader) {
    // The database's threads are started by this one and inherit its policy. Without it an index
    // competes with other work.
    if let Err(error) = schedule_this_thread(Policy::Batch) {
        tracing::debug!("an index is scheduled like other work: {error}");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            let text = not_kept_up(indexed.name, &error.to_string());
            tracing::error!("{text}");
            return shared.set_index_warning(indexed.name, Some(text));
        }
    };
    runtime.block_on(follow(shared, indexed, reader));
    indexed.index.close();
}

fn is_stopping(shared: &Shared) -> bool {
    shared.view.load().phase == Phase::Stopping
}

/// Updates the index until the node stops. Blocks its thread.
async fn follow(shared: &Shared, indexed: &Indexed, reader: &BlockReader) {
    let mut news = shared.news.subscribe();
    let mut log = Log::new(indexed.name);
    loop {
        // Marked as seen before the view is taken: a later change wakes it again.
        news.mark_unchanged();
        let view = shared.view.load_full();
        if view.phase == Phase::Stopping {
            return;
        }
        let chain = Active(&view.tree);
        let step = indexed
            .index
            .advance(&chain, reader, &|| is_stopping(shared));
        let standing = indexed.index.progress();
        indexed.standing.send_replace(standing);
        match step {
            Ok(step) => {
                shared.set_index_warning(indexed.name, None);
                log.went_on(&standing, chain.tip_height());
                if step == Step::AtTip && news.changed().await.is_err() {
                    return;
                }
            }
            // The node stops.
            Err(IndexError::Block(ReadError::Closed)) => return,
            Err(error) => {
                let text = not_kept_up(indexed.name, &format!("{error}; it will be tried again"));
                log.failed(&text);
                shared.set_index_warning(indexed.name, Some(text));
                pause(shared, &mut news).await;
            }
        }
    }
}

/// Waits until it is time to try again, or the node stops.
async fn pause(shared: &Shared, news: &mut watch::Receiver<()>) {
    let stopping = async { while !is_stopping(shared) && news.changed().await.is_ok() {} };
    let _ = tokio::time::timeout(RETRY, stopping).await;
}

/// The log lines of one index.
struct Log {
    index: &'static str,
    logged: Option<Instant>,
    synced: bool,
    failure: String,
}

impl Log {
    fn new(name: IndexName) -> Self {
        Self {
            index: name.text(),
            logged: None,
            synced: false,
            failure: String::new(),
        }
    }

    fn went_on(&mut self, standing: &IndexProgress, tip: u32) {
        if !std::mem::take(&mut self.failure).is_empty() {
            tracing::info!(index = self.index, "the index is updated again");
        }
        if standing.synced {
            if !std::mem::replace(&mut self.synced, true) {
                let height = standing.height;
                tracing::info!(index = self.index, height, "the index is at the tip");
            }
            return;
        }
        // The index is rebuilt after it was damaged.
        self.synced = false;
        if self
            .logged
            .is_none_or(|logged| logged.elapsed() >= LOG_EVERY)
        {
            self.logged = Some(Instant::now());
            let height = standing.height;
            tracing::info!(index = self.index, height, of = tip, "building the index");
        }
    }

    /// Logs each failure once, however often it is tried again.
    fn failed(&mut self, text: &str) {
        if self.failure != text {
            tracing::error!("{text}");
            text.clone_into(&mut self.failure);
        }
    }
}
