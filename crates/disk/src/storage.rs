//! Where a journal lies: a file, or a stand-in that fails on demand.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::set_aside;
use crate::whole::{beside, rename};

/// A place for one file that can be exchanged as a whole.
pub trait Storage: Send {
    /// The file that is there, if there is one.
    ///
    /// # Errors
    /// The system's.
    fn open(&mut self) -> io::Result<Option<Box<dyn StorageFile>>>;

    /// A new, empty file beside it. An earlier one that was not published is gone.
    ///
    /// # Errors
    /// The system's.
    fn create(&mut self) -> io::Result<Box<dyn StorageFile>>;

    /// Puts the file that was created last in the place of the one that is there, so
    /// that it survives a loss of power. Its contents must have been synced.
    ///
    /// # Errors
    /// The system's; then either file may be there after a loss of power.
    fn publish(&mut self) -> io::Result<()>;

    /// Gives the file that is there another name, and returns that.
    ///
    /// # Errors
    /// The system's.
    fn set_aside(&mut self) -> io::Result<PathBuf>;

    /// Its name, for messages.
    fn name(&self) -> &Path;
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

    /// Writes at `offset` as much of `bytes` as the system takes, and says how much.
    ///
    /// # Errors
    /// The system's.
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<usize>;

    /// Writes through what was written.
    ///
    /// # Errors
    /// The system's. What of the file is on disk is unknown then, and calling this
    /// again proves nothing: the system may have dropped what it could not write.
    fn sync(&mut self) -> io::Result<()>;

    /// Cuts the file to `length`.
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
    fn open(&mut self) -> io::Result<Option<Box<dyn StorageFile>>> {
        match OpenOptions::new().read(true).write(true).open(&self.path) {
            Ok(file) => Ok(Some(Box::new(file))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn create(&mut self) -> io::Result<Box<dyn StorageFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        Ok(Box::new(options.open(beside(&self.path, "new"))?))
    }

    fn publish(&mut self) -> io::Result<()> {
        rename(&beside(&self.path, "new"), &self.path)
    }

    fn set_aside(&mut self) -> io::Result<PathBuf> {
        set_aside(&self.path)
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
        // The length is written through too: it is needed to read the data.
        self.sync_data()
    }

    fn set_length(&mut self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }
}
