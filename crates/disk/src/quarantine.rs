//! Quarantine: damaged files are renamed, not deleted, so that the operator can examine them.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::atomic::{directory_of, rename, sync_directory_of, with_suffix};

/// Quarantined files of one name at most; the oldest is removed with a warning.
pub const MAX_QUARANTINED: usize = 8;

const SUFFIX: &str = "damaged-";

/// Renames `path` to `<path>.damaged-<n>`, `n` counting up from 1, and returns the
/// new name. Never overwrites: when there are [`MAX_QUARANTINED`] already, the oldest is
/// removed with a warning.
///
/// # Errors
/// The system's; nothing was renamed then.
pub fn quarantine(path: &Path) -> io::Result<PathBuf> {
    let to = quarantine_path(path, next(path)?);
    rename(path, &to)?;
    Ok(to)
}

/// Gives the file `path` a quarantine name besides its own, and returns that, before the caller
/// replaces the file. A file that has such a name already gets no second.
///
/// # Errors
/// The system's.
pub(crate) fn quarantine_copy(path: &Path) -> io::Result<PathBuf> {
    let original = fs::metadata(path)?;
    let same = |other: &Path| {
        fs::symlink_metadata(other)
            .is_ok_and(|other| (other.dev(), other.ino()) == (original.dev(), original.ino()))
    };
    let mut names = numbers(path)?
        .into_iter()
        .map(|number| quarantine_path(path, number));
    if let Some(name) = names.find(|name| same(name)) {
        return Ok(name);
    }
    let to = quarantine_path(path, next(path)?);
    if fs::hard_link(path, &to).is_err() {
        // Not every file system has hard links.
        let part = with_suffix(&to, "new");
        fs::copy(path, &part)?;
        fs::File::open(&part)?.sync_all()?;
        fs::rename(&part, &to)?;
    }
    sync_directory_of(&to)?;
    Ok(to)
}

/// The next number. Removes the oldest files above the bound.
fn next(path: &Path) -> io::Result<u32> {
    let mut numbers = numbers(path)?;
    numbers.sort_unstable();
    let next = numbers.last().map_or(Some(1), |last| last.checked_add(1));
    let next = next.ok_or_else(|| io::Error::other("no number is left for a damaged file"))?;
    let keep = MAX_QUARANTINED - 1;
    let surplus = numbers.len().saturating_sub(keep);
    for number in &numbers[..surplus] {
        let oldest = quarantine_path(path, *number);
        if fs::symlink_metadata(&oldest)?.is_dir() {
            // Its contents are unknown, and may be of value.
            continue;
        }
        tracing::warn!(file = %oldest.display(), "the oldest quarantined file of this name is removed for another");
        match fs::remove_file(oldest) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(next)
}

fn quarantine_path(path: &Path, number: u32) -> PathBuf {
    with_suffix(path, format!("{SUFFIX}{number}"))
}

/// The numbers of the quarantined files of this name.
fn numbers(path: &Path) -> io::Result<Vec<u32>> {
    let stem = with_suffix(path, SUFFIX);
    let stem = stem.file_name().unwrap_or_default().to_string_lossy();
    let mut numbers = vec![];
    for entry in fs::read_dir(directory_of(path))? {
        let name = entry?.file_name();
        let digits = name.to_str().and_then(|name| name.strip_prefix(&*stem));
        let number: Option<u32> = digits.and_then(|digits| digits.parse().ok());
        // Not "007" or "+7": we do not write those.
        numbers.extend(number.filter(|number| digits == Some(number.to_string().as_str())));
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{SpecialFile, put_special_file};

    #[test]
    fn damaged_files_are_numbered_never_overwritten_and_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("peers.dat");
        for n in 1..=MAX_QUARANTINED + 2 {
            fs::write(&path, n.to_string()).unwrap();
            let to = quarantine(&path).unwrap();
            assert_eq!(to, dir.path().join(format!("peers.dat.damaged-{n}")));
            assert!(!path.exists());
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), MAX_QUARANTINED);
        for n in 3..=MAX_QUARANTINED + 2 {
            let kept = fs::read_to_string(dir.path().join(format!("peers.dat.damaged-{n}")));
            assert_eq!(kept.unwrap(), n.to_string());
        }
    }

    #[test]
    fn a_copy_stays_as_it_is_when_the_file_is_replaced_and_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("blocks.journal");
        fs::write(&path, "old").unwrap();
        let copy = quarantine_copy(&path).unwrap();
        assert_eq!(quarantine_copy(&path).unwrap(), copy);
        crate::replace(&path, b"new").unwrap();
        assert_eq!(fs::read(&copy).unwrap(), b"old");
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_ne!(quarantine_copy(&path).unwrap(), copy);
    }

    #[test]
    fn a_directory_at_the_path_of_a_file_is_quarantined_and_never_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("peers.dat");
        for _ in 0..=MAX_QUARANTINED {
            put_special_file(&path, SpecialFile::Directory);
            let to = quarantine(&path).unwrap();
            assert_eq!(fs::read(to.join("precious")).unwrap(), b"data");
        }
        assert_eq!(
            fs::read_dir(dir.path()).unwrap().count(),
            MAX_QUARANTINED + 1
        );
    }
}
