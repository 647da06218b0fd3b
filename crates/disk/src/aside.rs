//! Damaged files are not deleted: a person may want to look at them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::whole::{beside, directory_of, rename};

/// Damaged files of one name that are kept; the oldest make room, and it is said.
pub const MAX_ASIDE: usize = 8;

const SUFFIX: &str = "damaged-";

/// Renames `path` to `<path>.damaged-<n>`, `n` counting up from 1, and returns the
/// new name. Never overwrites: when there are [`MAX_ASIDE`] already, the oldest is
/// removed with a warning.
///
/// # Errors
/// The system's; nothing was renamed then.
pub fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let mut numbers = numbers(path)?;
    numbers.sort_unstable();
    let next = numbers.last().map_or(1, |last| last.saturating_add(1));
    let keep = MAX_ASIDE - 1;
    let surplus = numbers.len().saturating_sub(keep);
    for number in &numbers[..surplus] {
        let oldest = aside(path, *number);
        tracing::warn!(file = %oldest.display(), "the oldest damaged file of this name makes room for another");
        fs::remove_file(oldest)?;
    }
    let to = aside(path, next);
    rename(path, &to)?;
    Ok(to)
}

fn aside(path: &Path, number: u32) -> PathBuf {
    beside(path, format!("{SUFFIX}{number}"))
}

/// The numbers of those that are there.
fn numbers(path: &Path) -> io::Result<Vec<u32>> {
    let stem = beside(path, SUFFIX);
    let stem = stem.file_name().unwrap_or_default().to_string_lossy();
    let mut numbers = vec![];
    for entry in fs::read_dir(directory_of(path))? {
        let name = entry?.file_name();
        let number: Option<u32> = name
            .to_str()
            .and_then(|name| name.strip_prefix(&*stem))
            .and_then(|number| number.parse().ok());
        numbers.extend(number);
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_files_are_numbered_never_overwritten_and_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("peers.dat");
        for n in 1..=MAX_ASIDE + 2 {
            fs::write(&path, n.to_string()).unwrap();
            let to = set_aside(&path).unwrap();
            assert_eq!(to, dir.path().join(format!("peers.dat.damaged-{n}")));
            assert!(!path.exists());
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), MAX_ASIDE);
        for n in 3..=MAX_ASIDE + 2 {
            let kept = fs::read_to_string(dir.path().join(format!("peers.dat.damaged-{n}")));
            assert_eq!(kept.unwrap(), n.to_string());
        }
    }
}
