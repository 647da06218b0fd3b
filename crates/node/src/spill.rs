//! The file for large frames that do not fit in memory.
//!
//! How fast a large frame arrives or leaves is the remote's choice, and memory that one remote
//! holds is memory that another lacks. On disk each frame has a separate slot, so that no peer
//! waits for another peer's remote ([`handfast_proto::receiving`]).
//!
//! The file has no name, is in the node's directory and is gone with the process, also when that is
//! killed. Its slots are [`SLOT_BYTES`] long, two for each connection at most (one to receive, one to
//! send), and it is closed when the last of them is released. It takes no disk space that the chain
//! needs: below [`LEAST_FREE`] no slot is given, and frames wait for memory.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use handfast_wire::limits::MAX_PAYLOAD_BYTES;
use tokio::time::Instant;

/// Length of a slot, bytes: the longest payload, and the most that a batch of blocks may have
/// before its last block.
const SLOT_BYTES: usize = MAX_PAYLOAD_BYTES + (512 << 10);
/// Bytes moved between a socket and the file at a time; each connection whose frame is
/// spilled holds this much.
pub(crate) const PIECE: usize = 64 << 10;

/// Free disk space that is never used, bytes: more than the chain needs to take blocks.
const LEAST_FREE: u64 = 256 << 20;
/// How often a full disk is logged.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// The file. All clones of its [`Arc`] share it.
#[derive(Debug)]
pub(crate) struct SpillFile {
    directory: PathBuf,
    open: Mutex<Open>,
    /// When a full disk was last logged.
    last_logged: Mutex<Option<Instant>>,
}

#[derive(Debug, Default)]
struct Open {
    file: Option<Arc<File>>,
    taken: BTreeSet<u64>,
}

impl SpillFile {
    /// A file in this directory, created with its first slot.
    pub(crate) fn within(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            open: Mutex::default(),
            last_logged: Mutex::default(),
        }
    }

    /// Takes a slot. Blocks its thread.
    ///
    /// # Errors
    /// There is too little free disk space, or the file cannot be created; it is also logged.
    pub(crate) fn slot(self: &Arc<Self>) -> io::Result<SpillSlot> {
        let slot = self.take();
        if let Err(error) = &slot {
            self.log_full(error);
        }
        slot
    }

    fn take(self: &Arc<Self>) -> io::Result<SpillSlot> {
        let (made, taken) = {
            let open = self.lock();
            (open.file.clone(), open.taken.len())
        };
        let stat = rustix::fs::statvfs(&self.directory)?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        let wanted = u64::try_from((taken + 1) * SLOT_BYTES).unwrap_or(u64::MAX);
        if free < wanted.saturating_add(LEAST_FREE) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        // Without the lock: creating a file may take time.
        let file = match made {
            Some(file) => file,
            None => Arc::new(tempfile::tempfile_in(&self.directory)?),
        };
        let mut open = self.lock();
        let file = open.file.get_or_insert(file).clone();
        let free = |index: &u64| !open.taken.contains(index);
        let index = (0..).find(free).unwrap_or(u64::MAX);
        open.taken.insert(index);
        Ok(SpillSlot {
            file,
            index,
            all: self.clone(),
        })
    }

    /// Logs a full disk, at most once in a while.
    fn log_full(&self, error: &io::Error) {
        let mut last_logged = self
            .last_logged
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if last_logged.is_none_or(|at| at.elapsed() >= LOG_EVERY) {
            *last_logged = Some(Instant::now());
            let directory = self.directory.display();
            tracing::warn!(
                "no free disk space for large messages of peers ({error}): they wait for memory; free disk space in {directory}"
            );
        }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file is closed with its last slot, outside the lock.
    fn give_back(&self, index: u64) {
        let mut open = self.lock();
        open.taken.remove(&index);
        let unused = match open.taken.is_empty() {
            true => open.file.take(),
            false => None,
        };
        drop(open);
        // Freeing the space of a large file takes time.
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || drop(unused))),
            Err(_) => drop(unused),
        }
    }

    /// Slots in use.
    #[cfg(test)]
    pub(crate) fn taken(&self) -> usize {
        let open = self.open.lock().expect("no panic in a test");
        open.taken.len()
    }
}

/// A slot of the file; released by `Drop`.
#[derive(Debug)]
pub(crate) struct SpillSlot {
    file: Arc<File>,
    index: u64,
    all: Arc<SpillFile>,
}

impl SpillSlot {
    /// Writes `bytes` at `offset` of the slot. Blocks its thread.
    pub(crate) fn write(&self, offset: usize, bytes: &[u8]) -> io::Result<()> {
        let at = self.at(offset, bytes.len())?;
        self.file.write_all_at(bytes, at)
    }

    /// Reads `len` bytes at `offset` of the slot. Blocks its thread.
    pub(crate) fn read(&self, offset: usize, len: usize) -> io::Result<Vec<u8>> {
        let at = self.at(offset, len)?;
        let mut bytes = vec![0; len];
        self.file.read_exact_at(&mut bytes, at)?;
        Ok(bytes)
    }

    /// The offset in the file, unless it is beyond the slot.
    fn at(&self, offset: usize, len: usize) -> io::Result<u64> {
        let within = offset.checked_add(len).is_some_and(|end| end <= SLOT_BYTES);
        let offset = u64::try_from(offset).ok().filter(|_| within);
        let offset = offset.ok_or(io::ErrorKind::FileTooLarge)?;
        let slot = u64::try_from(SLOT_BYTES).map_err(|_| io::ErrorKind::FileTooLarge)?;
        Ok(self.index * slot + offset)
    }
}

impl Drop for SpillSlot {
    fn drop(&mut self) {
        self.all.give_back(self.index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_slot_holds_separate_bytes_and_the_file_is_closed_with_the_last() {
        let directory = tempfile::tempdir().expect("a directory");
        let spill = Arc::new(SpillFile::within(directory.path()));
        let slots: Vec<SpillSlot> = (0..3).map(|_| spill.slot().expect("made")).collect();
        for (at, slot) in (1..).zip(&slots) {
            slot.write(SLOT_BYTES - 10, &[at; 10]).expect("written");
            slot.write(0, &[at; 10]).expect("written");
        }
        for (at, slot) in (1..).zip(&slots) {
            for offset in [0, SLOT_BYTES - 10] {
                assert_eq!(slot.read(offset, 10).expect("read"), [at; 10]);
            }
        }
        let file = Arc::downgrade(&slots[0].file);
        drop(slots);
        assert_eq!((spill.taken(), file.strong_count()), (0, 0));
    }

    #[test]
    fn a_released_slot_is_used_again_and_none_reaches_into_the_next() {
        let directory = tempfile::tempdir().expect("a directory");
        let spill = Arc::new(SpillFile::within(directory.path()));
        let slots: Vec<SpillSlot> = (0..3).map(|_| spill.slot().expect("made")).collect();
        let [_first, second, third] = slots.try_into().expect("three");
        drop(second);
        assert_eq!(spill.slot().expect("made").index, 1);
        for (offset, len) in [(SLOT_BYTES - 9, 10), (SLOT_BYTES, 1), (usize::MAX, 1)] {
            assert!(third.write(offset, &vec![0; len]).is_err());
            assert!(third.read(offset, len).is_err());
        }
    }

    #[test]
    fn nothing_is_left_in_the_directory() {
        let directory = tempfile::tempdir().expect("a directory");
        let spill = Arc::new(SpillFile::within(directory.path()));
        let slot = spill.slot().expect("made");
        slot.write(0, &[1; 1_000]).expect("written");
        let left = std::fs::read_dir(directory.path()).expect("it is there");
        assert_eq!(left.count(), 0, "the file has no name");
        let missing = Arc::new(SpillFile::within(&directory.path().join("missing")));
        assert!(missing.slot().is_err());
    }
}
