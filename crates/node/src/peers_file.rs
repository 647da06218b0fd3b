//! `peers.dat`: the address book, saved.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use handfast_disk::state_file;
use handfast_proto::address_book::{Group, Row, Source};
use serde::{Deserialize, Serialize};

/// Raised when [`Saved`] changes its meaning.
const VERSION: u32 = 1;

/// One [`Row`] as it is on disk.
#[derive(Debug, Serialize, Deserialize)]
struct Saved {
    addr: SocketAddr,
    services: u64,
    last_seen: u32,
    last_success: Option<u32>,
    failures: u32,
    /// `None`: ourselves.
    told_by: Option<SavedGroup>,
}

#[derive(Debug, Serialize, Deserialize)]
enum SavedGroup {
    V4([u8; 2]),
    V6([u8; 4]),
}

fn path(datadir: &Path) -> PathBuf {
    datadir.join("peers.dat")
}

/// The saved rows; none when there is no file or a damaged one.
///
/// # Errors
/// The system's, when the file is there and cannot be read.
pub(crate) fn load(datadir: &Path) -> io::Result<Vec<Row>> {
    let saved: Vec<Saved> = state_file::load(&path(datadir), VERSION)?.unwrap_or_default();
    Ok(saved.into_iter().map(from_saved).collect())
}

/// Saves the rows.
///
/// # Errors
/// The system's; the old file is intact then.
pub(crate) fn save(datadir: &Path, rows: &[Row]) -> io::Result<()> {
    let saved: Vec<Saved> = rows.iter().map(to_saved).collect();
    state_file::save(&path(datadir), VERSION, &saved)
}

fn to_saved(row: &Row) -> Saved {
    let told_by = match row.source {
        Source::Own => None,
        Source::Gossip(Group::V4(group)) => Some(SavedGroup::V4(group)),
        Source::Gossip(Group::V6(group)) => Some(SavedGroup::V6(group)),
    };
    Saved {
        addr: row.addr,
        services: row.services,
        last_seen: row.last_seen,
        last_success: row.last_success,
        failures: row.failures,
        told_by,
    }
}

fn from_saved(saved: Saved) -> Row {
    let source = match saved.told_by {
        None => Source::Own,
        Some(SavedGroup::V4(group)) => Source::Gossip(Group::V4(group)),
        Some(SavedGroup::V6(group)) => Source::Gossip(Group::V6(group)),
    };
    Row {
        addr: saved.addr,
        services: saved.services,
        last_seen: saved.last_seen,
        last_success: saved.last_success,
        failures: saved.failures,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_book_comes_back_as_it_was_saved() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        assert_eq!(load(dir.path()).expect("no file is no error"), []);
        let row = |addr: &str, source| Row {
            addr: addr.parse().expect("an address"),
            services: 9,
            last_seen: 1_700_000_000,
            last_success: (source == Source::Own).then_some(1_700_000_001),
            failures: 3,
            source,
        };
        let rows = [
            row("203.0.113.7:8333", Source::Own),
            row("198.51.100.1:18444", Source::Gossip(Group::V4([192, 0]))),
            row("[2001:db8::1]:1", Source::Gossip(Group::V6([1, 2, 3, 4]))),
        ];
        save(dir.path(), &rows).expect("writable");
        assert_eq!(load(dir.path()).expect("readable"), rows);
    }
}
