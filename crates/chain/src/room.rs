//! Whether there is room on the disk for more blocks.
//!
//! The kernel ends itself when it finds less than 50 MiB while it flushes (Bitcoin Core
//! `CheckDiskSpace`), or no room for the next 16 MiB of a block file. A node without
//! room can still serve, so blocks are held back before it comes to that.

use std::path::Path;
use std::time::{Duration, Instant};

/// Free space below which no block is given to the kernel, bytes: what the kernel
/// wants to be left, two pieces of its block and undo files, and 60 MiB for the blocks
/// and coins until we look again and for the flush at the end.
const LEAST_FREE: u64 = 128 << 20;
/// Between two looks: a system call costs a twentieth of an empty block.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Tells the free bytes; `None` if the system does not.
pub(crate) type FreeSpace = Box<dyn Fn() -> Option<u64> + Send + Sync>;

/// See the module.
pub(crate) struct Room {
    free: FreeSpace,
    looked: Option<Instant>,
    lacking: Option<String>,
}

/// What this user may use of the file system that `dir` is on.
pub(crate) fn of(dir: &Path) -> FreeSpace {
    let dir = dir.to_path_buf();
    Box::new(move || {
        let stat = rustix::fs::statvfs(&dir).ok()?;
        Some(stat.f_bavail.saturating_mul(stat.f_frsize))
    })
}

impl Room {
    pub(crate) fn new(free: FreeSpace) -> Room {
        Room {
            free,
            looked: None,
            lacking: None,
        }
    }

    /// Looks, if it is time to; `Some`: there is too little, with the remedy.
    pub(crate) fn lacking(&mut self) -> Option<&String> {
        let now = Instant::now();
        if self.looked.is_none_or(|at| now - at >= LOOK_EVERY) {
            self.looked = Some(now);
            let free = (self.free)().filter(|free| *free < LEAST_FREE);
            self.lacking = free.map(|free| {
                format!(
                    "the disk is full: {} MiB are free, {} MiB are needed to take more blocks; free disk space",
                    free >> 20,
                    LEAST_FREE >> 20
                )
            });
        }
        self.lacking.as_ref()
    }
}
