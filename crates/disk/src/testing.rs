//! A disk for tests: in memory, fails on demand, and can lose power.
//!
//! Written data is in the system's cache until it is synced; [`FaultyDisk::crash`] keeps
//! what is on the platter and any part of the rest. A failed sync drops what it should
//! have written, while reads still return it, as on Linux. Later syncs of that file write
//! nothing, though they succeed: the worst case of "unknown".

use std::collections::VecDeque;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::storage::{Opened, Storage, StorageFile};

/// What can be at the path of a file instead of a regular file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpecialFile {
    /// A directory with something in it.
    Directory,
    /// A named pipe without a writer.
    Pipe,
    /// A socket.
    Socket,
    /// A device that has no end.
    Device,
    /// A symbolic link to itself.
    Loop,
    /// A file of a terabyte, of which nothing was ever written.
    Enormous,
}

impl SpecialFile {
    /// All of them.
    pub const ALL: [SpecialFile; 6] = [
        SpecialFile::Directory,
        SpecialFile::Pipe,
        SpecialFile::Socket,
        SpecialFile::Device,
        SpecialFile::Loop,
        SpecialFile::Enormous,
    ];
}

/// Creates it at `path`, where nothing is.
///
/// # Panics
/// When the file system does not allow it.
pub fn put_special_file(path: &Path, special: SpecialFile) {
    let made = match special {
        SpecialFile::Directory => {
            fs::create_dir(path).and_then(|()| fs::write(path.join("precious"), "data"))
        }
        SpecialFile::Pipe => {
            mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).map_err(io::Error::from)
        }
        SpecialFile::Socket => std::os::unix::net::UnixListener::bind(path).map(drop),
        SpecialFile::Device => std::os::unix::fs::symlink("/dev/zero", path),
        SpecialFile::Loop => std::os::unix::fs::symlink(path, path),
        SpecialFile::Enormous => fs::File::create(path).and_then(|file| file.set_len(1 << 40)),
    };
    made.unwrap_or_else(|error| panic!("{special:?} at {}: {error}", path.display()));
}

/// The result of an operation that changes something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It works.
    None,
    /// It fails with this error and does nothing (a sync: drops what is not written).
    Fails(ErrorKind),
    /// A write takes only so many bytes; anything else works.
    Takes(usize),
}

/// A change that is not on the platter yet.
#[derive(Clone, Debug)]
enum Change {
    Write(u64, Vec<u8>),
    Length(u64),
}

/// One file.
#[derive(Debug, Default)]
struct Inode {
    /// The contents as the system returns them.
    cache: Vec<u8>,
    /// The contents after a loss of power that loses the most.
    platter: Vec<u8>,
    /// The changes from the platter to the cache, if no sync failed.
    unwritten: Vec<Change>,
    /// A sync failed.
    lost: bool,
}

type Shared<T> = Arc<Mutex<T>>;

#[derive(Debug, Default)]
struct Disk {
    current: Option<Shared<Inode>>,
    /// What `current` may be after a loss of power: a rename whose sync failed.
    before: Option<Option<Shared<Inode>>>,
    created: Option<Shared<Inode>>,
    faults: VecDeque<Fault>,
    /// The fault of every operation after the list.
    rest: Option<ErrorKind>,
    /// Quarantined copies of damaged files.
    quarantined: Vec<Vec<u8>>,
    changes: usize,
}

/// A disk with one [`Storage`] on it. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct FaultyDisk {
    disk: Shared<Disk>,
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write(at, written) => {
            let at = *at as usize;
            let end = at + written.len();
            bytes.resize(bytes.len().max(end), 0);
            bytes[at..end].copy_from_slice(written);
        }
        Change::Length(length) => bytes.resize(*length as usize, 0),
    }
}

impl FaultyDisk {
    /// The results of the next operations, in order; those after them work.
    pub fn plan(&self, faults: impl IntoIterator<Item = Fault>) {
        lock(&self.disk).faults = faults.into_iter().collect();
    }

    /// All operations fail with this error from now on; `None`: none does.
    pub fn fail_all(&self, error: Option<ErrorKind>) {
        lock(&self.disk).rest = error;
    }

    /// Operations that would have changed something, so far.
    pub fn changes(&self) -> usize {
        lock(&self.disk).changes
    }

    /// A storage on this disk.
    pub fn storage(&self) -> Box<dyn Storage> {
        Box::new(self.clone())
    }

    /// The bytes of the file as the system returns them.
    pub fn contents(&self) -> Option<Vec<u8>> {
        let disk = lock(&self.disk);
        disk.current.as_ref().map(|inode| lock(inode).cache.clone())
    }

    /// The damaged files that were quarantined or copied, oldest first.
    pub fn quarantined(&self) -> Vec<Vec<u8>> {
        lock(&self.disk).quarantined.clone()
    }

    /// Replaces the file by one that is on the platter.
    pub fn put(&self, bytes: &[u8]) {
        let inode = Inode {
            cache: bytes.to_vec(),
            platter: bytes.to_vec(),
            unwritten: vec![],
            lost: false,
        };
        lock(&self.disk).current = Some(Arc::new(Mutex::new(inode)));
    }

    /// The disk after a loss of power. Of the changes that were not synced, the first
    /// `changes` are there, and `bytes` of the one after. A rename that was not synced
    /// happened if `renamed`.
    pub fn crash(&self, changes: usize, bytes: usize, renamed: bool) -> FaultyDisk {
        let disk = lock(&self.disk);
        let current = match &disk.before {
            Some(before) if !renamed => before,
            Some(_) | None => &disk.current,
        };
        let after = FaultyDisk::default();
        if let Some(inode) = current {
            let inode = lock(inode);
            let mut platter = inode.platter.clone();
            for change in inode.unwritten.iter().take(changes) {
                apply(&mut platter, change);
            }
            if let Some(Change::Write(at, written)) = inode.unwritten.get(changes) {
                let part = written[..bytes.min(written.len())].to_vec();
                apply(&mut platter, &Change::Write(*at, part));
            }
            after.put(&platter);
        }
        after
    }

    fn quarantine_file(&self, moved: bool) -> io::Result<PathBuf> {
        let mut disk = lock(&self.disk);
        let inode = match moved {
            true => disk.current.take(),
            false => disk.current.clone(),
        };
        let inode = inode.ok_or(ErrorKind::NotFound)?;
        let bytes = lock(&inode).cache.clone();
        disk.quarantined.push(bytes);
        Ok(PathBuf::from(format!(
            "memory.damaged-{}",
            disk.quarantined.len()
        )))
    }

    /// The fault of the present operation.
    fn fault(&self) -> Fault {
        let mut disk = lock(&self.disk);
        disk.changes += 1;
        let rest = disk.rest.map_or(Fault::None, Fault::Fails);
        disk.faults.pop_front().unwrap_or(rest)
    }

    fn works(&self) -> io::Result<()> {
        match self.fault() {
            Fault::None | Fault::Takes(_) => Ok(()),
            Fault::Fails(kind) => Err(kind.into()),
        }
    }

    fn file(&self, inode: &Shared<Inode>) -> Box<dyn StorageFile> {
        Box::new(FaultyFile {
            disk: self.clone(),
            inode: Arc::clone(inode),
        })
    }
}

impl Storage for FaultyDisk {
    fn open(&mut self) -> io::Result<Opened> {
        let inode = lock(&self.disk).current.clone();
        Ok(match inode {
            Some(inode) => Opened::File(self.file(&inode)),
            None => Opened::Absent,
        })
    }

    fn create(&mut self) -> io::Result<Box<dyn StorageFile>> {
        self.works()?;
        let inode = Shared::<Inode>::default();
        lock(&self.disk).created = Some(Arc::clone(&inode));
        Ok(self.file(&inode))
    }

    fn publish(&mut self) -> io::Result<()> {
        self.works()?;
        let mut disk = lock(&self.disk);
        let created = disk.created.take();
        assert!(created.is_some(), "a file was created before");
        let before = std::mem::replace(&mut disk.current, created);
        disk.before.get_or_insert(before);
        drop(disk);
        // The directory's own sync.
        self.works()?;
        lock(&self.disk).before = None;
        Ok(())
    }

    fn quarantine(&mut self) -> io::Result<PathBuf> {
        self.works()?;
        self.quarantine_file(true)
    }

    fn quarantine_copy(&mut self) -> io::Result<PathBuf> {
        self.works()?;
        self.quarantine_file(false)
    }

    fn name(&self) -> &Path {
        Path::new("memory")
    }
}

struct FaultyFile {
    disk: FaultyDisk,
    inode: Shared<Inode>,
}

impl FaultyFile {
    fn change(&self, change: Change) {
        let mut inode = lock(&self.inode);
        apply(&mut inode.cache, &change);
        inode.unwritten.push(change);
    }
}

impl StorageFile for FaultyFile {
    fn length(&self) -> io::Result<u64> {
        Ok(lock(&self.inode).cache.len() as u64)
    }

    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        let inode = lock(&self.inode);
        let start = offset as usize;
        let bytes = inode.cache.get(start..start + into.len());
        into.copy_from_slice(bytes.ok_or(ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let taken = match self.disk.fault() {
            Fault::None => bytes.len(),
            Fault::Takes(count) => count.min(bytes.len()),
            Fault::Fails(kind) => return Err(kind.into()),
        };
        self.change(Change::Write(offset, bytes[..taken].to_vec()));
        Ok(taken)
    }

    fn sync(&mut self) -> io::Result<()> {
        let works = self.disk.works();
        let mut inode = lock(&self.inode);
        let changes = std::mem::take(&mut inode.unwritten);
        inode.lost |= works.is_err();
        if !inode.lost {
            for change in &changes {
                apply(&mut inode.platter, change);
            }
        }
        works
    }

    fn set_length(&mut self, length: u64) -> io::Result<()> {
        self.disk.works()?;
        self.change(Change::Length(length));
        Ok(())
    }
}
