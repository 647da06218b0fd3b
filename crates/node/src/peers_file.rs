//! `peers.dat`: the form of the address book on disk.

use std::net::SocketAddr;

use handfast_disk::Form;
use handfast_proto::address_book::{Group, Row, Source};
use serde::{Deserialize, Serialize};

/// All rows.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SavedAddresses(Vec<Saved>);

/// One [`Row`].
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

impl Form for SavedAddresses {
    type State = Vec<Row>;
    const FILE: &'static str = "peers.dat";
    const VERSION: u32 = 1;
    const LOSS: &'static str =
        "seeds and peers are asked for addresses anew; nothing needs to be done";

    fn of(rows: &Vec<Row>) -> Self {
        Self(rows.iter().map(to_saved).collect())
    }

    fn state(self) -> Vec<Row> {
        self.0.into_iter().map(from_saved).collect()
    }
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
    use handfast_disk::StateFile;

    use super::*;

    #[test]
    fn the_address_book_comes_back_as_it_was_saved() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = StateFile::<SavedAddresses>::of_directory(dir.path());
        assert_eq!(file.load().expect("no file is no error"), []);
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
        file.save(|| rows.to_vec()).expect("writable");
        assert_eq!(file.load().expect("readable"), rows);
    }
}
