//! A disk for tests: in memory, fails on demand, and can lose power.
//!
//! What was written lies in the system's cache until it is synced; [`FaultyDisk::crash`]
//! keeps what is on the platter and any part of the rest. A sync that fails drops what
//! it should have written, while reads go on giving it: what Linux does. And it is the
//! last that writes anything of that file, though later ones say that they did: the
//! worst that "unknown" can mean.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::storage::{Storage, StorageFile};

/// What becomes of an operation that changes something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It works.
    None,
    /// It fails with this error and does nothing (a sync: drops what was unwritten).
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
    /// As the system gives it.
    cache: Vec<u8>,
    /// As it would be after a loss of power that loses the most.
    platter: Vec<u8>,
    /// Made of the platter the cache, if no sync failed.
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
    /// What applies when the list is at its end.
    rest: Option<ErrorKind>,
    asides: usize,
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
    /// The next operations end like this, in order; those after them work.
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

    /// The bytes of the file as the system gives them.
    pub fn contents(&self) -> Option<Vec<u8>> {
        let disk = lock(&self.disk);
        disk.current.as_ref().map(|inode| lock(inode).cache.clone())
    }

    /// Puts a file there that is on the platter.
    pub fn put(&self, bytes: &[u8]) {
        let inode = Inode {
            cache: bytes.to_vec(),
            platter: bytes.to_vec(),
            unwritten: vec![],
            lost: false,
        };
        lock(&self.disk).current = Some(Arc::new(Mutex::new(inode)));
    }

    /// The disk after a loss of power. Of what was not written through, the first
    /// `changes` are there, and `bytes` of the one after. A rename that was not written
    /// through happened if `renamed`.
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

    /// What becomes of the operation that is being done.
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
    fn open(&mut self) -> io::Result<Option<Box<dyn StorageFile>>> {
        let inode = lock(&self.disk).current.clone();
        Ok(inode.map(|inode| self.file(&inode)))
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

    fn set_aside(&mut self) -> io::Result<PathBuf> {
        self.works()?;
        let mut disk = lock(&self.disk);
        disk.current = None;
        disk.asides += 1;
        Ok(PathBuf::from(format!("memory.damaged-{}", disk.asides)))
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
