//! Reading files with bounds: a user who can write to the directory can put a directory, a
//! pipe or a device at the path of a file, and a broken file system can report any length.

use std::fs::{self, File, FileType, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;

/// Why a file was not read.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// It is not a regular file.
    #[error("it is {0}, not a file")]
    NotAFile(&'static str),
    /// It is longer than the limit of its kind.
    #[error("it has {got} bytes, at most {limit} are allowed")]
    TooLong {
        /// The file's length, bytes.
        got: u64,
        /// The bound, bytes.
        limit: u64,
    },
    /// It should be text.
    #[error("it is not text in UTF-8")]
    NotText,
    /// The system's, `NotFound` among them.
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl Unreadable {
    /// Whether there is no such file.
    pub fn is_absent(&self) -> bool {
        matches!(self, Unreadable::Io(error) if error.kind() == ErrorKind::NotFound)
    }
}

impl From<Unreadable> for io::Error {
    fn from(error: Unreadable) -> io::Error {
        match error {
            Unreadable::Io(error) => error,
            other => io::Error::new(ErrorKind::InvalidData, other),
        }
    }
}

/// Reads the whole file `path`, which has at most `limit` bytes.
///
/// # Blocking
/// On the disk only: a pipe, a terminal or a device is not waited for.
///
/// # Errors
/// See [`Unreadable`].
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>, Unreadable> {
    // Opening some special files has side effects, so check first.
    check(path)?;
    // The file may have been replaced since: opening a pipe would wait for its writer.
    let mut options = OpenOptions::new();
    let file = options
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(path)?;
    let got = regular(&file)?.len();
    if got > limit {
        return Err(Unreadable::TooLong { got, limit });
    }
    let mut bytes = Vec::with_capacity(usize::try_from(got).unwrap_or(0));
    // It may grow while it is read.
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    let got = bytes.len() as u64;
    match got > limit {
        true => Err(Unreadable::TooLong { got, limit }),
        false => Ok(bytes),
    }
}

/// As [`read`], for text.
///
/// # Errors
/// See [`Unreadable`].
pub fn read_text(path: &Path, limit: u64) -> Result<String, Unreadable> {
    String::from_utf8(read(path, limit)?).map_err(|_| Unreadable::NotText)
}

/// Checks that a regular file, or nothing, is at `path`.
///
/// # Errors
/// [`Unreadable::NotAFile`]; the system's, except `NotFound`.
pub fn check_not_special(path: &Path) -> Result<(), Unreadable> {
    match check(path) {
        Err(error) if error.is_absent() => Ok(()),
        checked => checked,
    }
}

fn check(path: &Path) -> Result<(), Unreadable> {
    match fs::metadata(path) {
        Ok(found) if found.is_file() => Ok(()),
        Ok(found) => Err(Unreadable::NotAFile(name(found.file_type()))),
        Err(error) if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => {
            Err(Unreadable::NotAFile("a symbolic link that leads to itself"))
        }
        Err(error) => Err(error.into()),
    }
}

/// The metadata of an open file, if it is a regular one.
pub(crate) fn regular(file: &File) -> Result<Metadata, Unreadable> {
    let found = file.metadata()?;
    match found.is_file() {
        true => Ok(found),
        false => Err(Unreadable::NotAFile(name(found.file_type()))),
    }
}

fn name(kind: FileType) -> &'static str {
    if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a pipe"
    } else if kind.is_socket() {
        "a socket"
    } else if kind.is_block_device() || kind.is_char_device() {
        "a device"
    } else {
        "something else"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{SpecialFile, put_special_file};

    #[test]
    fn a_special_file_is_an_error_and_never_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        for (at, special) in SpecialFile::ALL.into_iter().enumerate() {
            let path = dir.path().join(format!("file-{at}"));
            put_special_file(&path, special);
            let error = read(&path, 100).expect_err("it is no file");
            match special {
                SpecialFile::Enormous => assert!(matches!(error, Unreadable::TooLong { .. })),
                _ => assert!(
                    matches!(error, Unreadable::NotAFile(_)),
                    "{special:?} {error:?}"
                ),
            }
        }
    }

    #[test]
    fn a_file_is_read_up_to_its_limit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        assert!(read(&path, 5).expect_err("nothing is there").is_absent());
        check_not_special(&path).unwrap();
        fs::write(&path, "12345").unwrap();
        assert_eq!(read_text(&path, 5).unwrap(), "12345");
        let error = read(&path, 4).expect_err("it is longer");
        assert!(matches!(error, Unreadable::TooLong { got: 5, limit: 4 }));
        fs::write(&path, [0xff]).unwrap();
        assert!(matches!(read_text(&path, 5), Err(Unreadable::NotText)));
        // It reports no length, and has no end.
        let endless = Path::new("/proc/self/maps");
        assert!(matches!(
            read(endless, 10),
            Err(Unreadable::TooLong { got: 11, .. })
        ));
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("elsewhere", &path).unwrap();
        assert!(read(&path, 5).expect_err("it leads nowhere").is_absent());
    }
}
