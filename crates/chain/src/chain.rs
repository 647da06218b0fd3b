//! The handle.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use bitcoin::BlockHash;
use bitcoin::block::Header;
use bytes::Bytes;
use handfast_disk::{FileStorage, Storage};
use handfast_wire::Network;

use crate::branches::{self, Branches};
use crate::cause_on_disk::lacks_blocks;
use crate::keeper::Keeper;
use crate::kernel::{self, Kernel};
use crate::progress::Progress;
use crate::queue::{Queue, RawBlock};
use crate::recent::Recent;
use crate::replay::Marker;
use crate::room::Room;
use crate::worker::{self, Shared, Start};
use crate::{
    BlockReader, CloseError, ConnId, DirLock, Event, InitialChain, Keep, OpenError, Replay,
};
use crate::{convert, keeper, lock, record, replay, room};

/// How to open the chain.
pub struct ChainOptions {
    /// The network; its rules are the kernel's.
    pub network: Network,
    /// `…/<network>`; created when missing.
    pub datadir: PathBuf,
    /// Threads that check scripts beside the kernel thread, 0 to 15. Default: one
    /// less than there are cores, as Bitcoin Core's `-par`.
    pub script_threads: Option<i32>,
    /// The directory's lock, if the caller has taken it already ([`lock`]).
    pub lock: Option<DirLock>,
    /// Whether the decode thread does the checks that need no context, so that the
    /// kernel thread need not. On, except to measure.
    pub precheck: bool,
    /// Told how far the replay of the journal is, now and then while the chain opens.
    pub on_replay: Option<Box<dyn Fn(Replay) + Send>>,
    /// Where the journal lies. A file in `datadir`, except to test what fails.
    pub journal: Option<Box<dyn Storage>>,
    /// Length of the journal above which the kernel is made to flush, bytes. 256 MiB,
    /// except to test that.
    pub journal_limit: Option<u64>,
    /// Tells the free space on the disk, bytes. What the file system of `datadir` tells,
    /// except to test a full one.
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

/// Jobs that wait at a moment.
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
/// Dropping it closes it too, only without telling what went wrong.
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
    /// `on_event` is called on the kernel thread: it copies and posts, nothing
    /// slow. It must not drop or close the chain (that joins its own thread).
    ///
    /// # Blocking
    /// Usually 25 to 60 ms. Longer when a start has to connect blocks that an
    /// earlier stop left on disk: the kernel does that before it returns.
    ///
    /// # Errors
    /// See [`OpenError`]; a directory that is refused has not been changed.
    pub fn open(
        options: ChainOptions,
        on_event: impl Fn(Event) + Send + Sync + 'static,
    ) -> Result<(Chain, InitialChain), OpenError> {
        Chain::open_batched(options, move |events| {
            events.into_iter().for_each(&on_event)
        })
    }

    /// As [`Chain::open`], but gives the events of short jobs together, oldest
    /// first; never an empty list. An event is held for at most about a
    /// millisecond, and only while there is more to do.
    ///
    /// Posting each event for itself wakes the receiver's thread each time, and
    /// with two cores often in place of the kernel thread: measured, three context
    /// switches per empty block instead of one in five. So post the list as *one*
    /// message.
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
        // Before the kernel makes files of a new chain, in a directory that a disk hides later.
        if lacks_blocks(&dir) {
            return Err(OpenError::NoBlocks { dir });
        }
        record::connect_log().map_err(|e| failed(e.to_string()))?;
        let script_threads = kernel::script_threads(options.script_threads);
        let (kernel, left) =
            Kernel::open(utf8, &options.network, script_threads).map_err(failed)?;
        let marker = Marker::new(&dir);
        let unclean = marker.was_left().map_err(|source| OpenError::Io {
            path: dir.clone(),
            source,
        })?;
        let file = dir.join(keeper::FILE);
        let storage = options
            .journal
            .unwrap_or_else(|| Box::new(FileStorage::new(&file)));
        let (mut keeper, found) =
            Keeper::open(storage, options.journal_limit.unwrap_or(keeper::MAX_BYTES))
                .map_err(|source| OpenError::Io { path: file, source })?;
        replay::report(keeper::FILE, &dir, &found);
        let mut branches = open_branches(&dir)?;
        let mut before = left;
        if let Some(manager) = kernel.manager() {
            before.push(convert::hash(&manager.active_chain().tip().block_hash()));
            branches.looked(&manager, []);
        }
        let tell = |how: Replay| options.on_replay.iter().for_each(|tell| tell(how));
        replay::replay(&kernel, &mut keeper, unclean, &tell).map_err(failed)?;
        let initial = {
            let manager = kernel
                .manager()
                .ok_or_else(|| failed("it is closed".into()))?;
            branches.looked(&manager, before);
            InitialChain::read(&dir, &manager, keeper.blocks(), branches.tips())
        };
        let start_with = Start {
            unconnected: initial.on_disk().collect(),
            keeper,
            branches,
            room: Room::new(options.free_space.unwrap_or_else(|| room::of(&dir))),
            marker,
        };
        let shared = Arc::new(Shared {
            kernel,
            queue: Queue::default(),
            recent: Recent::default(),
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

    /// Has a run of headers judged, each following the one before. Answered by
    /// [`KernelEvent::HeadersChecked`](crate::KernelEvent) with this `origin`. Never blocks.
    ///
    /// # Security
    /// The kernel keeps every header that follows a known one, however little work
    /// it shows. Low-work chains must be kept out before.
    pub fn check_headers(&self, headers: Vec<Header>, origin: Option<ConnId>) {
        self.shared.queue.push_headers(headers, origin);
    }

    /// Has the block `hash`, encoded at the front of `bytes`, judged and stored, and kept if
    /// `keep` says so. Answered by [`KernelEvent::BlockChecked`](crate::KernelEvent) with this `origin`.
    /// Never blocks.
    ///
    /// What follows the block in `bytes` is dropped. `height` is the block's, where it is
    /// known: with it, data that does not belong to the header is told from a block that
    /// breaks a rule before the kernel has it ([`RejectKind::Mutated`](crate::RejectKind));
    /// without it that is so but for witness data, which the kernel is left to tell.
    ///
    /// `before`: headers that lead to the block and that the kernel was not given yet, oldest
    /// first. It is given them once the block's data was found to belong to its header, so
    /// that they cost nothing where it does not; if one is refused, so is the block.
    ///
    /// While 16,384 blocks or 4 GB wait ([`Chain::queued`]), others are answered by
    /// [`BlockOutcome::Failed`](crate::BlockOutcome::Failed).
    ///
    /// # Panics
    /// The decode thread does, and the node ends, if `hash` is not the hash of the first 80
    /// bytes: our own bug.
    pub fn check_block(
        &self,
        hash: BlockHash,
        bytes: Bytes,
        height: Option<u32>,
        before: Vec<Header>,
        origin: Option<ConnId>,
        keep: Keep,
    ) {
        let raw = RawBlock {
            hash,
            bytes,
            height,
            before,
            origin,
            keep,
            refused: false,
        };
        self.shared.queue.push_block(raw);
    }

    /// How far validation is.
    pub fn progress(&self) -> Arc<Progress> {
        self.shared.kernel.progress.clone()
    }

    /// What waits now; for callers that bound themselves, and for operators.
    pub fn queued(&self) -> Queued {
        let (header_batches, blocks, bytes) = self.shared.queue.lengths();
        Queued {
            header_batches,
            blocks,
            bytes,
        }
    }

    /// A handle to read blocks with.
    pub fn reader(&self) -> BlockReader {
        BlockReader {
            shared: self.shared.clone(),
        }
    }

    /// Stops validation: takes no more jobs, drops those that wait, makes the
    /// kernel return after the block it is at. For good. Returns at once; the job
    /// in progress may still be reported, none after it.
    pub fn interrupt(&self) {
        self.shared.queue.close();
        self.shared.kernel.interrupt();
    }

    /// Interrupts, waits for the threads and for reads in progress, flushes and
    /// closes the databases. Takes as long as the block in progress and the flush.
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

/// Starts both threads; none is left behind when one cannot be started.
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
