//! Whether a node is using a data directory, for other programs.

use std::fs::{File, TryLockError};
use std::path::Path;

use crate::check_not_special;

/// The file in the data directory that a node locks exclusively while it runs.
pub const LOCK_FILE: &str = ".lock";
/// The marker file of the network that the directory belongs to.
pub const MARKER_FILE: &str = "network";
/// Its length at most: the challenge of a signet has 10,000 bytes at most. Bytes.
pub const MAX_MARKER: u64 = 32 << 10;

/// Whether a node is using the data directory `dir` now. `false` if that is unknown; the cause
/// is an error when the directory is locked.
pub fn is_in_use(dir: &Path) -> bool {
    let path = dir.join(LOCK_FILE);
    if check_not_special(&path).is_err() {
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
        assert!(!is_in_use(dir.path()), "the lock is free");
        file.lock().unwrap();
        assert!(is_in_use(dir.path()));
        drop(file);
        assert!(!is_in_use(dir.path()));
    }
}
