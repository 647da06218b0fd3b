//! `mining.dat`: what became of the blocks that were mined here, saved.

use std::io;
use std::path::{Path, PathBuf};

use handfast_disk::state_file;
use handfast_proto::mining::Totals;
use serde::{Deserialize, Serialize};

/// Raised when [`Saved`] changes its meaning.
const VERSION: u32 = 1;

/// [`Totals`] as they are on disk.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Saved {
    found: u64,
    generated: u64,
    stale: u64,
    refused: u64,
}

/// Where the counts of `datadir` are.
pub(crate) fn path(datadir: &Path) -> PathBuf {
    datadir.join("mining.dat")
}

/// The saved counts; zero when there is no file or a damaged one.
///
/// # Errors
/// The system's, when the file is there and cannot be read.
pub(crate) fn load(datadir: &Path) -> io::Result<Totals> {
    let saved: Saved = state_file::load(&path(datadir), VERSION)?.unwrap_or_default();
    let Saved {
        found,
        generated,
        stale,
        refused,
    } = saved;
    Ok(Totals {
        found,
        generated,
        stale,
        refused,
    })
}

/// Saves the counts.
///
/// # Errors
/// The system's; the old file is intact then.
pub(crate) fn save(datadir: &Path, totals: Totals) -> io::Result<()> {
    let Totals {
        found,
        generated,
        stale,
        refused,
    } = totals;
    let saved = Saved {
        found,
        generated,
        stale,
        refused,
    };
    state_file::save(&path(datadir), VERSION, &saved)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_loaded_as_they_were_saved_and_begin_at_zero() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(load(dir.path()).expect("no file"), Totals::default());
        let totals = Totals {
            found: 1,
            generated: 2,
            stale: 3,
            refused: 4,
        };
        save(dir.path(), totals).expect("it can be written");
        assert_eq!(load(dir.path()).expect("it can be read"), totals);
    }
}
