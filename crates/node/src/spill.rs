//! The file for large frames that have no place in memory.
//!
//! How fast a large frame comes or goes is the remote's choice, and memory that one remote
//! holds is memory that another lacks. On disk each has a place of its own instead, so that
//! nobody waits for somebody else's remote ([`handfast_proto::receiving`]).
//!
//! The file has no name, lies in the node's directory and is gone with the process, also
//! when that is killed. Its places are [`PLACE`] long, two for each connection at most (one
//! to receive, one to send), and it is closed when the last of them is given back. It takes
//! no room that the chain needs: below [`LEAST_FREE`] there is no place, and frames wait for
//! memory.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use handfast_wire::limits::MAX_PAYLOAD_BYTES;
use tokio::time::Instant;

/// Length of a place, bytes: the longest payload, and what one batch of blocks may have
/// before its last block.
const PLACE: usize = MAX_PAYLOAD_BYTES + (512 << 10);
/// Bytes moved between a socket and the file at a time; each connection whose frame is
/// spilled holds this much.
pub(crate) const PIECE: usize = 64 << 10;

/// Free space that is left whatever is spilled, bytes: more than what the chain needs to
/// take blocks.
const LEAST_FREE: u64 = 256 << 20;
/// How often it is said that there is no room.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// The file. All clones of its [`Arc`] share it.
#[derive(Debug)]
pub(crate) struct SpillFile {
    directory: PathBuf,
    open: Mutex<Open>,
    /// When it was last said that there is no room.
    said: Mutex<Option<Instant>>,
}

#[derive(Debug, Default)]
struct Open {
    file: Option<Arc<File>>,
    taken: BTreeSet<u64>,
}

impl SpillFile {
    /// A file in this directory, made when the first place of it is wanted.
    pub(crate) fn within(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            open: Mutex::default(),
            said: Mutex::default(),
        }
    }

    /// A place of its own. Blocks its thread.
    ///
    /// # Errors
    /// There is too little room on the disk, or the file cannot be made; it is also logged.
    pub(crate) fn place(self: &Arc<Self>) -> io::Result<Place> {
        let place = self.take();
        if let Err(error) = &place {
            self.say(error);
        }
        place
    }

    fn take(self: &Arc<Self>) -> io::Result<Place> {
        let (made, taken) = {
            let open = self.lock();
            (open.file.clone(), open.taken.len())
        };
        let stat = rustix::fs::statvfs(&self.directory)?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        let wanted = u64::try_from((taken + 1) * PLACE).unwrap_or(u64::MAX);
        if free < wanted.saturating_add(LEAST_FREE) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        // Not while others want the lock: making a file may take its time.
        let file = match made {
            Some(file) => file,
            None => Arc::new(tempfile::tempfile_in(&self.directory)?),
        };
        let mut open = self.lock();
        let file = open.file.get_or_insert(file).clone();
        let free = |index: &u64| !open.taken.contains(index);
        let index = (0..).find(free).unwrap_or(u64::MAX);
        open.taken.insert(index);
        Ok(Place {
            file,
            index,
            all: self.clone(),
        })
    }

    /// Logs that there is no room, now and then.
    fn say(&self, error: &io::Error) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.is_none_or(|at| at.elapsed() >= SAY_EVERY) {
            *said = Some(Instant::now());
            let directory = self.directory.display();
            tracing::warn!(
                "no free disk space for large messages of peers ({error}): they wait for memory; free disk space in {directory}"
            );
        }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file is closed with the last of its places, when nobody holds the lock.
    fn give_back(&self, index: u64) {
        let mut open = self.lock();
        open.taken.remove(&index);
        let unused = match open.taken.is_empty() {
            true => open.file.take(),
            false => None,
        };
        drop(open);
        // To free the space of a large file takes its time.
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || drop(unused))),
            Err(_) => drop(unused),
        }
    }

    /// Places that are in use.
    #[cfg(test)]
    pub(crate) fn taken(&self) -> usize {
        let open = self.open.lock().expect("no panic in a test");
        open.taken.len()
    }
}

/// A place in the file; given back by `Drop`.
#[derive(Debug)]
pub(crate) struct Place {
    file: Arc<File>,
    index: u64,
    all: Arc<SpillFile>,
}

impl Place {
    /// Writes `bytes` at `offset` of the place. Blocks its thread.
    pub(crate) fn write(&self, offset: usize, bytes: &[u8]) -> io::Result<()> {
        let at = self.at(offset, bytes.len())?;
        self.file.write_all_at(bytes, at)
    }

    /// Reads `len` bytes at `offset` of the place. Blocks its thread.
    pub(crate) fn read(&self, offset: usize, len: usize) -> io::Result<Vec<u8>> {
        let at = self.at(offset, len)?;
        let mut bytes = vec![0; len];
        self.file.read_exact_at(&mut bytes, at)?;
        Ok(bytes)
    }

    /// Where that is in the file, unless it is beyond the place.
    fn at(&self, offset: usize, len: usize) -> io::Result<u64> {
        let within = offset.checked_add(len).is_some_and(|end| end <= PLACE);
        let offset = u64::try_from(offset).ok().filter(|_| within);
        let offset = offset.ok_or(io::ErrorKind::FileTooLarge)?;
        let place = u64::try_from(PLACE).map_err(|_| io::ErrorKind::FileTooLarge)?;
        Ok(self.index * place + offset)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.all.give_back(self.index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_place_keeps_its_own_bytes_and_the_file_goes_with_the_last() {
        let directory = tempfile::tempdir().expect("a directory");
        let spill = Arc::new(SpillFile::within(directory.path()));
        let places: Vec<Place> = (0..3).map(|_| spill.place().expect("made")).collect();
        for (at, place) in (1..).zip(&places) {
            place.write(PLACE - 10, &[at; 10]).expect("written");
            place.write(0, &[at; 10]).expect("written");
        }
        for (at, place) in (1..).zip(&places) {
            for offset in [0, PLACE - 10] {
                assert_eq!(place.read(offset, 10).expect("read"), [at; 10]);
            }
        }
        let file = Arc::downgrade(&places[0].file);
        drop(places);
        assert_eq!((spill.taken(), file.strong_count()), (0, 0));
    }

    #[test]
    fn a_place_that_was_given_back_is_used_again_and_none_reaches_into_the_next() {
        let directory = tempfile::tempdir().expect("a directory");
        let spill = Arc::new(SpillFile::within(directory.path()));
        let places: Vec<Place> = (0..3).map(|_| spill.place().expect("made")).collect();
        let [_first, second, third] = places.try_into().expect("three");
        drop(second);
        assert_eq!(spill.place().expect("made").index, 1);
        for (offset, len) in [(PLACE - 9, 10), (PLACE, 1), (usize::MAX, 1)] {
            assert!(third.write(offset, &vec![0; len]).is_err());
            assert!(third.read(offset, len).is_err());
        }
    }

    #[test]
    fn nothing_is_left_in_the_directory() {
        let directory = tempfile::tempdir().expect("a directory");
        let spill = Arc::new(SpillFile::within(directory.path()));
        let place = spill.place().expect("made");
        place.write(0, &[1; 1_000]).expect("written");
        let left = std::fs::read_dir(directory.path()).expect("it is there");
        assert_eq!(left.count(), 0, "the file has no name");
        let missing = Arc::new(SpillFile::within(&directory.path().join("missing")));
        assert!(missing.place().is_err());
    }
}
