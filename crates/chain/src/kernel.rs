//! The opened kernel, shared by the kernel thread and the readers.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use bitcoin::BlockHash;
use bitcoin::block::Header;
use bitcoinkernel::core::block_check_flags::{BLOCK_CHECK_ALL, BLOCK_CHECK_MERKLE};
use bitcoinkernel::prelude::*;
use bitcoinkernel::{
    Block, BlockCheckFlags, BlockCheckResult, BlockValidationResult, ChainParams, ChainType,
    ChainstateManager, Context, ContextBuilder, KernelError, ProcessBlockHeaderResult,
};
use handfast_wire::Network;

use crate::mutated::{Checked, Rules};
use crate::progress::Progress;
use crate::record::{self, Record, Step};
use crate::{convert, kernel_log};

/// Bitcoin Core's `MAX_SCRIPTCHECK_THREADS`.
const MAX_SCRIPT_THREADS: i32 = 15;

/// Longest wait for readers between two jobs, and the part of the job's own time
/// which that may cost.
const YIELD_MAX: Duration = Duration::from_millis(2);
const YIELD_PART: u32 = 16;
/// Jobs shorter than this release the chain lock often enough.
const YIELD_ABOVE: Duration = Duration::from_millis(1);

pub(crate) struct Kernel {
    /// `None` once closed. Readers and jobs lock it for reading, closing for writing: so closing
    /// waits for them, and no handle keeps it open.
    manager: RwLock<Option<ChainstateManager>>,
    /// Whether the last close flushed everything.
    flushed: AtomicBool,
    /// Written by the callbacks of `context`.
    pub(crate) progress: Arc<Progress>,
    context: Context,
    params: ChainParams,
    pub(crate) rules: Rules,
    dir: String,
    blocks: String,
    script_threads: i32,
    readers: AtomicUsize,
    turn: Mutex<()>,
    reader_left: Condvar,
}

impl Kernel {
    /// Opens the databases under `dir`, creating them when missing.
    ///
    /// Also returns the blocks that left the active chain meanwhile.
    ///
    /// The kernel keeps `chainstate/` and `blocks/index/` in its data directory
    /// and `blk*.dat`, `rev*.dat` in its blocks directory.
    pub(crate) fn open(
        dir: &str,
        network: &Network,
        script_threads: i32,
    ) -> Result<(Kernel, Vec<BlockHash>), String> {
        let (params, builder) = match network {
            Network::Mainnet => builtin(ChainType::Mainnet),
            Network::Testnet3 => builtin(ChainType::Testnet),
            Network::Testnet4 => builtin(ChainType::Testnet4),
            Network::Signet => builtin(ChainType::Signet),
            Network::Regtest => builtin(ChainType::Regtest),
            Network::CustomSignet { challenge } => (
                ChainParams::new_signet(challenge),
                ContextBuilder::new().signet(challenge),
            ),
        };
        let blocks = Path::new(dir).join("blocks");
        let blocks = blocks.to_string_lossy();
        let progress = Arc::<Progress>::default();
        let context = record::listen(builder, progress.clone())
            .build()
            .map_err(|e| e.to_string())?;
        let kernel = Kernel {
            manager: RwLock::new(None),
            flushed: AtomicBool::new(false),
            progress,
            context,
            params,
            rules: rules(network),
            dir: dir.into(),
            blocks: blocks.into(),
            script_threads,
            readers: AtomicUsize::new(0),
            turn: Mutex::new(()),
            reader_left: Condvar::new(),
        };
        let (manager, opening) = kernel.build()?;
        *kernel.writing() = Some(manager);
        let left = opening.steps.iter().filter_map(|step| match step {
            Step::Disconnected(hash, _) => Some(*hash),
            Step::Connected(..) | Step::Failed { .. } => None,
        });
        Ok((kernel, left.collect()))
    }

    /// Opens the databases.
    fn build(&self) -> Result<(ChainstateManager, Record), String> {
        let build = || -> Result<ChainstateManager, KernelError> {
            let manager = ChainstateManager::builder(&self.context, &self.dir, &self.blocks)?
                .worker_threads(self.script_threads)
                .build()?;
            manager.import_blocks()?;
            Ok(manager)
        };
        let (manager, record) = record::during(build);
        match manager {
            Ok(manager) => Ok((manager, record)),
            Err(_) => Err(kernel_log::errors(&record.log)),
        }
    }

    /// Makes the kernel flush, for which it has no call: closes the databases and opens them
    /// again. Readers wait meanwhile.
    ///
    /// Takes the flush and some 30 ms; on mainnet, whose block index has to be read
    /// again, several seconds. Only on the kernel thread, between two jobs.
    ///
    /// # Errors
    /// The databases could not be written, or not be opened again; validation cannot go on.
    pub(crate) fn reopen(&self) -> Result<(), String> {
        let mut manager = self.writing();
        self.shut(manager.take())?;
        let (opened, opening) = self.build()?;
        if !opening.steps.is_empty() {
            return Err("the chain changed while it was flushed; start again".into());
        }
        *manager = Some(opened);
        Ok(())
    }

    fn writing(&self) -> RwLockWriteGuard<'_, Option<ChainstateManager>> {
        self.manager.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The manager, unless closed.
    pub(crate) fn manager(&self) -> Option<Manager<'_>> {
        let guard = self.manager.read().unwrap_or_else(PoisonError::into_inner);
        guard.is_some().then_some(Manager(guard))
    }

    /// The context-free checks, or only that of the merkle root. The kernel caches their success
    /// in the block (`CBlock::fChecked`, `m_checked_merkle_root`), and does not repeat them while
    /// it holds the chain lock. A failure is not cached: `process_block` finds it again and gives
    /// the verdict.
    ///
    /// The cache is plain memory, so this must have returned before another thread sees the
    /// block; the queue between the threads ensures that.
    pub(crate) fn check(&self, block: &Block, merkle_root_alone: bool) -> Checked {
        let merkle_root = || self.failure(block, BLOCK_CHECK_MERKLE);
        let failure = match merkle_root_alone {
            true => merkle_root(),
            false => self.failure(block, BLOCK_CHECK_ALL),
        };
        match failure {
            None => Checked::Valid,
            Some(BlockValidationResult::Mutated) => Checked::MerkleRoot { first: true },
            // Only the check of the proof of work gives this class.
            Some(BlockValidationResult::InvalidHeader) => Checked::Header,
            // A check before that of the merkle root may have failed: signet's solution.
            Some(_) => match merkle_root() {
                Some(BlockValidationResult::Mutated) => Checked::MerkleRoot { first: false },
                Some(_) | None => Checked::Other,
            },
        }
    }

    /// The class of the first check that fails.
    fn failure(&self, block: &Block, checks: BlockCheckFlags) -> Option<BlockValidationResult> {
        match block.check(&self.params, checks) {
            BlockCheckResult::Valid => None,
            BlockCheckResult::Invalid(state) => Some(state.result()),
        }
    }

    /// Makes the kernel return soon from its present call, permanently.
    pub(crate) fn interrupt(&self) {
        if let Err(e) = self.context.interrupt() {
            tracing::warn!("cannot interrupt validation: {e}");
        }
    }

    /// Waits for readers, flushes and closes.
    ///
    /// # Errors
    /// The kernel's error. `Ok`: everything that the kernel had is on disk.
    pub(crate) fn close(&self) -> Result<(), String> {
        match self.writing().take() {
            // An interrupted reopening: the kernel was flushed before, and got no block since.
            None if self.flushed.load(Ordering::SeqCst) => Ok(()),
            manager => self.shut(manager),
        }
    }

    /// Closes, and checks that the kernel has logged a flush and no error.
    fn shut(&self, manager: Option<ChainstateManager>) -> Result<(), String> {
        let ((), closing) = record::during(|| drop(manager));
        let result = match closing.fatal.into_iter().next() {
            Some(error) => Err(error),
            None if !closing.flushed => Err("it closed without having flushed".into()),
            None => Ok(()),
        };
        self.flushed.store(result.is_ok(), Ordering::SeqCst);
        result
    }

    /// Counts a reader as long as the guard lives.
    pub(crate) fn reading(&self) -> Reading<'_> {
        self.readers.fetch_add(1, Ordering::SeqCst);
        Reading(self)
    }

    /// Lets waiting readers run after a job that took `busy`.
    ///
    /// The chain lock (`cs_main`) is not fair: this thread takes it again within
    /// microseconds, before a reader that just woke up gets it, so a reader could
    /// wait for many long blocks: measured with blocks of 3,000 inputs on two
    /// overloaded cores, the slowest of 200 reads took 0.6 to 2.8 s without this and
    /// 0.1 to 0.5 s with it. The wait is bounded, so that readers cannot stop validation.
    pub(crate) fn yield_to_readers(&self, busy: Duration) {
        if busy < YIELD_ABOVE || self.readers.load(Ordering::SeqCst) == 0 {
            return;
        }
        let until = Instant::now() + YIELD_MAX.min(busy / YIELD_PART);
        let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        while self.readers.load(Ordering::SeqCst) > 0 {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            turn = self
                .reader_left
                .wait_timeout(turn, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

/// The manager, which cannot be closed while this exists. Hold it only briefly.
pub(crate) struct Manager<'a>(RwLockReadGuard<'a, Option<ChainstateManager>>);

impl std::ops::Deref for Manager<'_> {
    type Target = ChainstateManager;

    fn deref(&self) -> &ChainstateManager {
        self.0.as_ref().expect("checked when the guard was made")
    }
}

impl Manager<'_> {
    /// The header of `hash`, if the kernel's block index has it marked invalid.
    ///
    /// The interface does not tell the mark, but the kernel refuses the header of such a block
    /// with a class of its own. Only asked of a header that is in the index: another would
    /// enter it.
    pub(crate) fn marked(&self, hash: &BlockHash) -> Option<Header> {
        let (header, _) = record::during(|| {
            let entry = self.get_block_tree_entry(&convert::kernel_hash(hash))?;
            let header = convert::header(&entry);
            let asked = self.process_block_header(&convert::kernel_header(&header));
            match asked {
                Ok(ProcessBlockHeaderResult::Invalid(state))
                    if state.result() == BlockValidationResult::CachedInvalid =>
                {
                    Some(header)
                }
                _ => None,
            }
        });
        header
    }
}

/// A read in progress.
pub(crate) struct Reading<'a>(&'a Kernel);

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        if self.0.readers.fetch_sub(1, Ordering::SeqCst) == 1 {
            // Under the lock, or the wake-up could come between check and wait.
            let _turn = self.0.turn.lock().unwrap_or_else(PoisonError::into_inner);
            self.0.reader_left.notify_all();
        }
    }
}

fn rules(network: &Network) -> Rules {
    let [.., segwit] = network.buried_deployments();
    Rules {
        signet: matches!(network, Network::Signet | Network::CustomSignet { .. }),
        segwit_height: segwit.height,
    }
}

fn builtin(chain: ChainType) -> (ChainParams, ContextBuilder) {
    (
        ChainParams::new(chain),
        ContextBuilder::new().chain_type(chain),
    )
}

/// Threads that check scripts besides the kernel thread, which checks scripts too: as with
/// Bitcoin Core's `-par`, all cores are used.
pub(crate) fn script_threads(wanted: Option<i32>) -> i32 {
    let spare = || available_parallelism().map_or(0, |n| n.get() as i32 - 1);
    wanted.unwrap_or_else(spare).clamp(0, MAX_SCRIPT_THREADS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_logs_that_it_has_flushed() {
        let dir = tempfile::tempdir().unwrap();
        record::connect_log().unwrap();
        let path = dir.path().to_str().unwrap();
        let (kernel, _) = Kernel::open(path, &Network::Regtest, 0).unwrap();
        // The journal's records are dropped upon this line: if this fails with a new version of
        // the kernel, look for the line in `CCoinsViewDB::BatchWrite`.
        assert_eq!(kernel.reopen(), Ok(()));
        assert_eq!(kernel.close(), Ok(()));
    }
}
