//! Where a journal lies: a file, or a stand-in that fails on demand.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::aside::keep_copy;
use crate::read::{Unreadable, check_place, regular};
use crate::set_aside;
use crate::whole::{beside, create_new, rename};

/// A place for one file that can be exchanged as a whole.
pub trait Storage: Send {
    /// What is there.
    ///
    /// # Errors
    /// The system's.
    fn open(&mut self) -> io::Result<Opened>;

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

    /// Gives what is there another name, and returns that.
    ///
    /// # Errors
    /// The system's.
    fn set_aside(&mut self) -> io::Result<PathBuf>;
    /// Gives the file that is there a second name, under which it stays as it is when
    /// another is published in its place, and returns that.
    ///
    /// # Errors
    /// The system's; nothing has changed then.
    fn keep_copy(&mut self) -> io::Result<PathBuf>;

    /// Its name, for messages.
    fn name(&self) -> &Path;
}

/// What a [`Storage`] holds.
pub enum Opened {
    /// Nothing.
    Absent,
    /// A file.
    File(Box<dyn StorageFile>),
    /// Something else, where the file belongs.
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
    fn open(&mut self) -> io::Result<Opened> {
        match check_place(&self.path) {
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
        Ok(Box::new(create_new(&beside(&self.path, "new"))?))
    }

    fn publish(&mut self) -> io::Result<()> {
        rename(&beside(&self.path, "new"), &self.path)
    }

    fn set_aside(&mut self) -> io::Result<PathBuf> {
        set_aside(&self.path)
    }

    fn keep_copy(&mut self) -> io::Result<PathBuf> {
        keep_copy(&self.path)
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
