//! [`Chain`], the handle of the crate.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use bitcoin::BlockHash;
use bitcoin::block::Header;
use bytes::Bytes;
use handfast_disk::{FileStorage, Storage};
use handfast_wire::Network;

use crate::block_journal::BlockJournal;
use crate::block_key::wrong_key;
use crate::branches::{self, Branches};
use crate::cause_on_disk::{lacks_blocks, special_file};
use crate::disk_space::DiskSpace;
use crate::follow::{Follower, Followers};
use crate::kernel::{self, Kernel};
use crate::progress::Progress;
use crate::queue::{Queue, RawBlock};
use crate::recent::Recent;
use crate::replay::RunningMarker;
use crate::worker::{self, Shared, Start};
use crate::{
    BlockReader, CloseError, ConnId, DirLock, Event, InitialChain, OpenError, Persist, Replay,
};
use crate::{block_journal, convert, disk_space, lock, record, replay};

/// How to open the chain.
pub struct ChainOptions {
    /// The network; its rules are the kernel's.
    pub network: Network,
    /// `…/<network>`; created when missing.
    pub datadir: PathBuf,
    /// Threads that check scripts besides the kernel thread, 0 to 15. Default: one
    /// less than there are cores, as Bitcoin Core's `-par`.
    pub script_threads: Option<i32>,
    /// The directory's lock, if the caller holds it already ([`lock`]).
    pub lock: Option<DirLock>,
    /// Whether the decode thread does the context-free checks, so that the kernel thread
    /// need not. On, except to measure.
    pub precheck: bool,
    /// Called with the progress of the journal's replay, now and then while the chain opens.
    pub on_replay: Option<Box<dyn Fn(Replay) + Send>>,
    /// The storage of the journal. A file in `datadir`, except to test failures.
    pub journal: Option<Box<dyn Storage>>,
    /// Length of the journal above which the kernel is made to flush, bytes. 256 MiB,
    /// except in tests of that.
    pub journal_limit: Option<u64>,
    /// Returns the free space on the disk, bytes. That of the file system of `datadir`,
    /// except to test a full disk.
    pub free_space: Option<Box<dyn Fn() -> Option<u64> + Send + Sync>>,
}

impl std::fmt::Debug for ChainOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChainOptions")
            .field("network", &self.network)
            .field("datadir", &self.datadir)
            .finish_non_exhaustive()
    }
}

impl ChainOptions {
    /// The defaults for `network` in `datadir`.
    pub fn new(network: Network, datadir: impl Into<PathBuf>) -> ChainOptions {
        ChainOptions {
            network,
            datadir: datadir.into(),
            script_threads: None,
            lock: None,
            precheck: true,
            on_replay: None,
            journal: None,
            journal_limit: None,
            free_space: None,
        }
    }
}

/// Queued jobs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queued {
    /// Header batches.
    pub header_batches: usize,
    /// Blocks.
    pub blocks: usize,
    /// Bytes of those blocks.
    pub bytes: usize,
}

/// The open chain: owns the two threads and the directory's lock.
///
/// Dropping it closes it too, but errors are only logged.
pub struct Chain {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Result<(), CloseError>>>,
    _lock: DirLock,
}

impl std::fmt::Debug for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chain")
            .field("dir", &self.shared.dir)
            .field("queued", &self.queued())
            .finish_non_exhaustive()
    }
}

impl Chain {
    /// Opens the databases, reads the chain and starts the threads.
    ///
    /// `on_event` is called on the kernel thread, so it must only copy and post. It must not
    /// drop or close the chain, which joins this thread.
    ///
    /// # Blocking
    /// Usually 25 to 60 ms. Longer when the kernel has to connect blocks that are on disk
    /// since an earlier stop: it does that before it returns.
    ///
    /// # Errors
    /// See [`OpenError`]; a refused directory has not been changed.
    pub fn open(
        options: ChainOptions,
        on_event: impl Fn(Event) + Send + Sync + 'static,
    ) -> Result<(Chain, InitialChain), OpenError> {
        Chain::open_batched(options, move |events| {
            events.into_iter().for_each(&on_event)
        })
    }

    /// As [`Chain::open`], but reports the events of short jobs in batches, oldest
    /// first; never an empty list. An event is delayed for at most about a
    /// millisecond, and only while more jobs are queued.
    ///
    /// Posting each event alone wakes the receiver's thread each time, and with two cores
    /// often preempts the kernel thread: measured, three context switches per empty block
    /// instead of one in five. So post the list as *one* message.
    ///
    /// # Errors
    /// As [`Chain::open`].
    pub fn open_batched(
        options: ChainOptions,
        on_events: impl Fn(Vec<Event>) + Send + Sync + 'static,
    ) -> Result<(Chain, InitialChain), OpenError> {
        let dir = options.datadir;
        let utf8 = dir.to_str().ok_or_else(|| OpenError::Path(dir.clone()))?;
        let held = match options.lock {
            Some(held) => held,
            None => lock(&dir, &options.network)?,
        };
        assert_eq!(held.dir(), dir, "the lock is that of the data directory");
        let failed = |detail: String| OpenError::Kernel {
            dir: dir.clone(),
            detail,
        };
        // Before the kernel creates a new chain in a directory over which a disk is mounted later.
        if lacks_blocks(&dir) {
            return Err(OpenError::NoBlocks { dir });
        }
        let magic = options.network.magic().to_bytes();
        if let Some(cause) = wrong_key(&dir.join("blocks"), magic) {
            return Err(OpenError::BlockKey(cause));
        }
        if let Some((path, found)) = special_file(&dir) {
            let found = found.to_string();
            return Err(OpenError::NotAFile { path, found });
        }
        record::connect_log().map_err(|e| failed(e.to_string()))?;
        let script_threads = kernel::script_threads(options.script_threads);
        let (kernel, left) =
            Kernel::open(utf8, &options.network, script_threads).map_err(failed)?;
        let marker = RunningMarker::new(&dir);
        let unclean = marker.was_left().map_err(|source| OpenError::Io {
            path: dir.clone(),
            source,
        })?;
        let file = dir.join(block_journal::FILE);
        let storage = options
            .journal
            .unwrap_or_else(|| Box::new(FileStorage::new(&file)));
        let (mut block_journal, found) = BlockJournal::open(
            storage,
            options.journal_limit.unwrap_or(block_journal::MAX_BYTES),
        )
        .map_err(|source| OpenError::Io { path: file, source })?;
        replay::report(block_journal::FILE, &dir, &found);
        let mut branches = open_branches(&dir)?;
        let mut before = left;
        if let Some(manager) = kernel.manager() {
            before.push(convert::hash(&manager.active_chain().tip().block_hash()));
            branches.observe(&manager, []);
        }
        let report = |how: Replay| options.on_replay.iter().for_each(|report| report(how));
        replay::replay(&kernel, &mut block_journal, unclean, &report).map_err(failed)?;
        let initial = {
            let manager = kernel
                .manager()
                .ok_or_else(|| failed("it is closed".into()))?;
            branches.observe(&manager, before);
            InitialChain::read(&dir, &manager, block_journal.blocks(), branches.tips())
        };
        let start_with = Start {
            unconnected: initial.on_disk().collect(),
            block_journal,
            branches,
            disk_space: DiskSpace::new(
                options
                    .free_space
                    .unwrap_or_else(|| disk_space::free_space_of(&dir)),
            ),
            marker,
        };
        let shared = Arc::new(Shared {
            kernel,
            queue: Queue::default(),
            recent: Recent::default(),
            followers: Followers::default(),
            on_events: Box::new(on_events),
            dir: dir.clone(),
            precheck: options.precheck,
        });
        let threads = start(&shared, start_with).map_err(|source| OpenError::Io {
            path: dir.clone(),
            source,
        })?;
        let chain = Chain {
            shared,
            threads,
            _lock: held,
        };
        Ok((chain, initial))
    }

    /// Validates a batch of headers, each the parent of the next. Answered by
    /// [`KernelEvent::HeadersChecked`](crate::KernelEvent) with this `origin`. Never blocks.
    ///
    /// # Security
    /// The kernel stores every header with a known parent, however little work it has. The
    /// caller must refuse low-work chains before.
    pub fn check_headers(&self, headers: Vec<Header>, origin: Option<ConnId>) {
        self.shared.queue.push_headers(headers, origin);
    }

    /// Validates and stores the block `hash`, encoded at the front of `bytes`, and journals it if
    /// `persist` says so. Answered by [`KernelEvent::BlockChecked`](crate::KernelEvent) with this `origin`. Never blocks.
    ///
    /// Bytes after the block are dropped. `height` is the block's, if known: with it, mutated
    /// data is refused before the kernel gets it ([`RejectKind::Mutated`](crate::RejectKind));
    /// without it, mutated witness data is found by the kernel.
    ///
    /// `before`: ancestors' headers that the kernel does not have yet, oldest first. The kernel
    /// gets them after the block's data was found to match its header, so that mutated data
    /// costs no kernel time; if one is refused, so is the block.
    ///
    /// While 16,384 blocks or 4 GB are queued ([`Chain::queued`]), more are answered by
    /// [`BlockOutcome::Failed`](crate::BlockOutcome::Failed).
    ///
    /// # Panics
    /// The decode thread panics, and the node stops, if `hash` is not the hash of the first 80
    /// bytes: a bug of the caller.
    pub fn check_block(
        &self,
        hash: BlockHash,
        bytes: Bytes,
        height: Option<u32>,
        before: Vec<Header>,
        origin: Option<ConnId>,
        persist: Persist,
    ) {
        let raw = RawBlock {
            hash,
            bytes,
            height,
            before,
            origin,
            persist,
            refused: false,
        };
        self.shared.queue.push_block(raw);
    }

    /// The progress of validation.
    pub fn progress(&self) -> Arc<Progress> {
        self.shared.kernel.progress.clone()
    }

    /// The queued jobs, for callers that limit themselves and for operators.
    pub fn queued(&self) -> Queued {
        let (header_batches, blocks, bytes) = self.shared.queue.lengths();
        Queued {
            header_batches,
            blocks,
            bytes,
        }
    }

    /// A handle that reads blocks.
    pub fn reader(&self) -> BlockReader {
        BlockReader {
            shared: self.shared.clone(),
        }
    }

    /// Follows the active chain from now on.
    pub fn follow(&self) -> Follower {
        self.shared.followers.follow()
    }

    /// Stops validation permanently: accepts no more jobs, drops the queued ones, makes the
    /// kernel return after the present block. Returns at once; the job in progress may still
    /// be reported, none after it.
    pub fn interrupt(&self) {
        self.shared.queue.close();
        self.shared.kernel.interrupt();
    }

    /// Interrupts, waits for the threads and for reads in progress, flushes and closes the
    /// databases. Takes as long as the present block and the flush.
    ///
    /// # Errors
    /// When a thread had panicked or the kernel could not write its state.
    pub fn close(mut self) -> Result<(), CloseError> {
        self.shut()
    }

    fn shut(&mut self) -> Result<(), CloseError> {
        self.interrupt();
        let mut result = Ok(());
        for thread in self.threads.drain(..) {
            let ended = thread.join().expect("threads catch their panics");
            result = result.and(ended);
        }
        self.shared.followers.close();
        result
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        if let Err(error) = self.shut() {
            tracing::error!("the chain did not close cleanly: {error}");
        }
    }
}

fn open_branches(dir: &Path) -> Result<Branches, OpenError> {
    let path = dir.join(branches::FILE);
    let storage = Box::new(FileStorage::new(&path));
    let (branches, found) =
        Branches::open(storage).map_err(|source| OpenError::Io { path, source })?;
    replay::report(branches::FILE, dir, &found);
    Ok(branches)
}

/// Starts both threads; when one cannot be started, neither runs.
fn start(
    shared: &Arc<Shared>,
    start: Start,
) -> std::io::Result<Vec<JoinHandle<Result<(), CloseError>>>> {
    let for_kernel = shared.clone();
    let kernel = Builder::new()
        .name("kernel".into())
        .spawn(move || worker::validate(&for_kernel, start))?;
    let for_decode = shared.clone();
    let decode = Builder::new()
        .name("decode".into())
        .spawn(move || worker::guarded(&for_decode, "decode", || worker::decode(&for_decode)));
    match decode {
        Ok(decode) => Ok(vec![decode, kernel]),
        Err(e) => {
            shared.queue.close();
            let _ = kernel.join();
            Err(e)
        }
    }
}
