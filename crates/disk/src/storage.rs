//! The storage of a journal: a file, or a test double that fails on demand.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::atomic::{create_new, rename, with_suffix};
use crate::quarantine;
use crate::quarantine::quarantine_copy;
use crate::read::{Unreadable, check_not_special, regular};

/// Storage of one file that can be replaced as a whole.
pub trait Storage: Send {
    /// Opens the file.
    ///
    /// # Errors
    /// The system's.
    fn open(&mut self) -> io::Result<Opened>;

    /// Creates a new, empty file under a temporary name, and removes an earlier one that was not
    /// published.
    ///
    /// # Errors
    /// The system's.
    fn create(&mut self) -> io::Result<Box<dyn StorageFile>>;

    /// Replaces the file by the one that was created last, durably. The contents of that must
    /// have been synced.
    ///
    /// # Errors
    /// The system's; then either file may be there after a loss of power.
    fn publish(&mut self) -> io::Result<()>;

    /// Renames whatever is at the path, and returns the new name.
    ///
    /// # Errors
    /// The system's.
    fn quarantine(&mut self) -> io::Result<PathBuf>;
    /// Gives the file a second name, under which it stays unchanged when another is published,
    /// and returns that.
    ///
    /// # Errors
    /// The system's; nothing has changed then.
    fn quarantine_copy(&mut self) -> io::Result<PathBuf>;

    /// The file's name, for messages.
    fn name(&self) -> &Path;
}

/// The result of [`Storage::open`].
pub enum Opened {
    /// Nothing.
    Absent,
    /// A file.
    File(Box<dyn StorageFile>),
    /// Something that is not a regular file.
    NotAFile,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Opened::Absent => "Absent",
            Opened::File(_) => "File",
            Opened::NotAFile => "NotAFile",
        })
    }
}

/// An open file.
pub trait StorageFile: Send {
    /// Its length in bytes.
    ///
    /// # Errors
    /// The system's.
    fn length(&self) -> io::Result<u64>;

    /// Fills `into` with the bytes at `offset`.
    ///
    /// # Errors
    /// The system's; `UnexpectedEof` when there are fewer.
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes at `offset` as much of `bytes` as the system takes, and returns how much.
    ///
    /// # Errors
    /// The system's.
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<usize>;

    /// Syncs the file.
    ///
    /// # Errors
    /// The system's. The contents on disk are unknown then, and a second call proves
    /// nothing: the system may have dropped what it could not write.
    fn sync(&mut self) -> io::Result<()>;

    /// Truncates the file to `length`.
    ///
    /// # Errors
    /// The system's.
    fn set_length(&mut self, length: u64) -> io::Result<()>;
}

/// A [`Storage`] in a directory.
#[derive(Debug)]
pub struct FileStorage {
    path: PathBuf,
}

impl FileStorage {
    /// The file `path`; a new one is made as `<path>.new` first.
    pub fn new(path: impl Into<PathBuf>) -> FileStorage {
        FileStorage { path: path.into() }
    }
}

impl Storage for FileStorage {
    fn open(&mut self) -> io::Result<Opened> {
        match check_not_special(&self.path) {
            Ok(()) => {}
            Err(Unreadable::NotAFile(_)) => return Ok(Opened::NotAFile),
            Err(error) => return Err(error.into()),
        }
        match OpenOptions::new().read(true).write(true).open(&self.path) {
            Ok(file) if regular(&file).is_err() => Ok(Opened::NotAFile),
            Ok(file) => Ok(Opened::File(Box::new(file))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Opened::Absent),
            Err(error) => Err(error),
        }
    }

    fn create(&mut self) -> io::Result<Box<dyn StorageFile>> {
        Ok(Box::new(create_new(&with_suffix(&self.path, "new"))?))
    }

    fn publish(&mut self) -> io::Result<()> {
        rename(&with_suffix(&self.path, "new"), &self.path)
    }

    fn quarantine(&mut self) -> io::Result<PathBuf> {
        quarantine(&self.path)
    }

    fn quarantine_copy(&mut self) -> io::Result<PathBuf> {
        quarantine_copy(&self.path)
    }

    fn name(&self) -> &Path {
        &self.path
    }
}

impl StorageFile for File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_exact_at(into, offset)
    }

    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        FileExt::write_at(self, bytes, offset)
    }

    fn sync(&mut self) -> io::Result<()> {
        // This syncs the length too, which is needed to read the data.
        self.sync_data()
    }

    fn set_length(&mut self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }
}
