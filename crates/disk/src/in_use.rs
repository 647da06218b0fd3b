//! Whether a node holds a data directory, for programs that are not that node.

use std::fs::{File, TryLockError};
use std::path::Path;

use crate::check_place;

/// The file that a node holds exclusively in its data directory as long as it runs.
pub const LOCK_FILE: &str = ".lock";
/// The file that says of which network the directory beside it is.
pub const MARKER_FILE: &str = "network";
/// Its length at most: the challenge of a signet has 10,000 bytes at most. Bytes.
pub const MAX_MARKER: u64 = 32 << 10;

/// Whether a node holds the data directory `dir` now. Not if that cannot be found out; what
/// prevents it is told when the directory is taken.
pub fn is_in_use(dir: &Path) -> bool {
    let path = dir.join(LOCK_FILE);
    if check_place(&path).is_err() {
        return false;
    }
    let held = |file: File| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock));
    File::open(&path).is_ok_and(held)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_in_use_while_its_lock_is_held() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!is_in_use(dir.path()), "there is no lock");
        let file = File::create(dir.path().join(LOCK_FILE)).unwrap();
        assert!(!is_in_use(dir.path()), "nobody holds it");
        file.lock().unwrap();
        assert!(is_in_use(dir.path()));
        drop(file);
        assert!(!is_in_use(dir.path()));
    }
}
