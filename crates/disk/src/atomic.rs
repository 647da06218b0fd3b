//! Atomic replacement of files.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

/// Replaces the contents of `path`, or creates it. A reader finds the old contents or the
/// new ones, also after a loss of power.
///
/// # Errors
/// The system's. The old file is intact then; only when the directory could not be
/// synced, the last step, it may be either.
pub fn replace(path: &Path, contents: &[u8]) -> io::Result<()> {
    let temporary = with_suffix(path, "new");
    let written = write(&temporary, contents);
    if written.is_err() {
        // The partial file may be what fills the disk.
        let _ = fs::remove_file(&temporary);
    }
    written?;
    rename(&temporary, path)
}

/// Checks that [`replace`] can create its file, for a caller that writes much later. Leaves
/// nothing behind.
///
/// # Errors
/// The system's.
pub fn try_replace(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Err(ErrorKind::IsADirectory.into());
    }
    let temporary = with_suffix(path, "new");
    let mut options = OpenOptions::new();
    match options.write(true).create_new(true).open(&temporary) {
        Ok(_) => fs::remove_file(&temporary),
        // Another's file, which `replace` overwrites, but this check does not.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            match fs::symlink_metadata(&temporary)?.is_dir() {
                true => Err(ErrorKind::IsADirectory.into()),
                false => Ok(access(directory_of(path), Access::WRITE_OK)?),
            }
        }
        Err(error) => Err(error),
    }
}

fn write(path: &Path, contents: &[u8]) -> io::Result<()> {
    let mut file = create_new(path)?;
    file.write_all(contents)?;
    file.sync_all()
}

/// Creates a file at a temporary name. A file of an earlier attempt or a special file there is
/// removed first: a pipe would block, a symbolic link be followed.
pub(crate) fn create_new(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true).open(path)
}

/// Removes `path`, if it exists, durably.
///
/// # Errors
/// The system's.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Ok(()) => sync_directory_of(path),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Renames `from`, over `to` if that exists, durably.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    sync_directory_of(to)
}

pub(crate) fn sync_directory_of(path: &Path) -> io::Result<()> {
    File::open(directory_of(path))?.sync_all()
}

pub(crate) fn directory_of(path: &Path) -> &Path {
    let parent = path.parent();
    let named = parent.filter(|parent| !parent.as_os_str().is_empty());
    named.unwrap_or(Path::new("."))
}

/// `<path>.<suffix>`.
pub(crate) fn with_suffix(path: &Path, suffix: impl AsRef<OsStr>) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".");
    name.push(suffix);
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_replaced_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        replace(&path, b"old").unwrap();
        // A directory has the temporary name, which cannot be overwritten.
        fs::create_dir(dir.path().join("state.new")).unwrap();
        assert!(replace(&path, b"new").is_err());
        assert_eq!(fs::read(&path).unwrap(), b"old");
        fs::remove_dir(dir.path().join("state.new")).unwrap();
        replace(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn whether_a_file_can_be_replaced_is_known_before_and_the_check_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        try_replace(&path).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        fs::write(dir.path().join("state.new"), b"another's").unwrap();
        try_replace(&path).unwrap();
        assert_eq!(
            fs::read(dir.path().join("state.new")).unwrap(),
            b"another's"
        );
        fs::remove_file(dir.path().join("state.new")).unwrap();

        assert!(try_replace(&dir.path().join("nowhere/state")).is_err());
        assert!(try_replace(dir.path()).is_err(), "a directory");
        fs::create_dir(dir.path().join("state.new")).unwrap();
        assert!(try_replace(&path).is_err(), "its name is taken");
    }
}
