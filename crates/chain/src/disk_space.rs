//! Free disk space for more blocks.
//!
//! The kernel shuts down when it finds less than 50 MiB at a flush (Bitcoin Core
//! `CheckDiskSpace`), or no space for the next 16 MiB of a block file. A node with a full
//! disk can still serve, so it stops submitting blocks before that.

use std::path::Path;
use std::time::{Duration, Instant};

/// Free space below which no block is submitted to the kernel, bytes: the kernel's minimum,
/// two chunks of its block and undo files, and 60 MiB for the blocks and coins until the next
/// check and for the flush at the end.
const LEAST_FREE: u64 = 128 << 20;
/// Interval of the checks: the system call costs a twentieth of an empty block.
const CHECK_EVERY: Duration = Duration::from_millis(100);

/// Returns the free bytes; `None` if the system does not report them.
pub(crate) type FreeSpace = Box<dyn Fn() -> Option<u64> + Send + Sync>;

/// See the module.
pub(crate) struct DiskSpace {
    free: FreeSpace,
    checked: Option<Instant>,
    lacking: Option<String>,
}

/// The space that this user may use on the file system of `dir`.
pub(crate) fn free_space_of(dir: &Path) -> FreeSpace {
    let dir = dir.to_path_buf();
    Box::new(move || {
        let stat = rustix::fs::statvfs(&dir).ok()?;
        Some(stat.f_bavail.saturating_mul(stat.f_frsize))
    })
}

impl DiskSpace {
    pub(crate) fn new(free: FreeSpace) -> DiskSpace {
        DiskSpace {
            free,
            checked: None,
            lacking: None,
        }
    }

    /// Checks, if the last check is old; `Some`: there is too little, with the remedy.
    pub(crate) fn lacking(&mut self) -> Option<&String> {
        let now = Instant::now();
        if self.checked.is_none_or(|at| now - at >= CHECK_EVERY) {
            self.checked = Some(now);
            let free = (self.free)().filter(|free| *free < LEAST_FREE);
            self.lacking = free.map(|free| {
                format!(
                    "the disk is full: {} MiB are free, {} MiB are needed to store more blocks; free disk space",
                    free >> 20,
                    LEAST_FREE >> 20
                )
            });
        }
        self.lacking.as_ref()
    }
}
