//! State that outlives a run of the node: what it is, and where it lies.

use std::path::Path;

use handfast_disk::StateFile;

use crate::bans_file::SavedBans;
use crate::mining_file::SavedTotals;
use crate::peers_file::SavedAddresses;

/// One file each.
#[derive(Debug)]
pub(crate) struct StateFiles {
    /// The address book.
    pub(crate) addresses: StateFile<SavedAddresses>,
    /// The operator's bans.
    pub(crate) bans: StateFile<SavedBans>,
    /// What became of blocks of ours.
    pub(crate) mined: StateFile<SavedTotals>,
}

impl StateFiles {
    /// Those of this directory. Touches nothing.
    pub(crate) fn of_directory(dir: &Path) -> Self {
        Self {
            addresses: StateFile::of_directory(dir),
            bans: StateFile::of_directory(dir),
            mined: StateFile::of_directory(dir),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use bitcoin::hex::{DisplayHex, FromHex};
    use handfast_disk::Form;
    use handfast_proto::address_book::{Group, Row, Source};
    use handfast_proto::bans::Ban;
    use handfast_proto::mining::Totals;

    use super::*;

    // Files as nodes before this one wrote them.
    const BANS: &str = "48414e4446415354020000002c0000000000000001000000000000000c000000000000003139\
        322e302e322e302f323400f15365000000003cf153650000000099623f0f1668bf3fddc4ed3c\
        fa0dfecd218a0b93a44c2ac7597f74711b4cdb68";
    const BANS_OF_VERSION_1: &str = "48414e4446415354010000002100000000000000010000000000000000000000c00002001800\
        f15365000000003cf15365000000001ba47579beb4de90907b3eea5db2eb667c5837e2389342\
        3ba28448f341fd829e";
    const ADDRESSES: &str = "48414e4446415354010000005800000000000000020000000000000000000000cb0071078d20\
        090000000000000000f153650101f1536503000000000100000020010db80000000000000000\
        000000010c48010000000000000002f1536500000000000101000000010203043db0c5ac728c\
        52e2d94a6f6b7815ab24c3af3c3f2c451a5af57fca2b0a2a501b";
    const MINED: &str = "48414e4446415354010000002000000000000000010000000000000002000000000000000300\
        0000000000000400000000000000e5c175304d1213c71e69ada68f409b5914d4d928be1bff1a\
        538222b3a094637b";

    /// What the file says; a file that says the same has the same bytes.
    fn reread<F: Form<State: Clone>>(file: &str) -> F::State {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let [there, anew] = [(); 2].map(|()| StateFile::<F>::of_directory(dir.path()));
        let bytes = Vec::from_hex(file).expect("it is hex");
        fs::write(there.path(), bytes).expect("writable");
        let state = there.load().expect("readable");
        fs::remove_file(there.path()).expect("it is where it was");
        anew.save(|| state.clone()).expect("writable");
        let written = fs::read(anew.path()).expect("it was written");
        assert_eq!(written.to_lower_hex_string(), file, "{}", F::FILE);
        state
    }

    fn ban() -> Ban {
        Ban {
            target: "192.0.2.0/24".parse().expect("a subnet"),
            created: 1_700_000_000,
            until: 1_700_000_060,
        }
    }

    #[test]
    fn files_keep_their_bytes_from_one_version_of_the_node_to_the_next() {
        assert_eq!(reread::<SavedBans>(BANS), [ban()]);
        let own = Row {
            addr: "203.0.113.7:8333".parse().expect("an address"),
            services: 9,
            last_seen: 1_700_000_000,
            last_success: Some(1_700_000_001),
            failures: 3,
            source: Source::Own,
        };
        let heard = Row {
            addr: "[2001:db8::1]:18444".parse().expect("an address"),
            services: 1,
            last_seen: 1_700_000_002,
            last_success: None,
            failures: 0,
            source: Source::Gossip(Group::V6([1, 2, 3, 4])),
        };
        assert_eq!(reread::<SavedAddresses>(ADDRESSES), [own, heard]);
        let totals = Totals {
            found: 1,
            generated: 2,
            stale: 3,
            refused: 4,
        };
        assert_eq!(reread::<SavedTotals>(MINED), totals);
    }

    #[test]
    fn bans_of_the_first_version_are_read() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let bans = StateFiles::of_directory(dir.path()).bans;
        let bytes = Vec::from_hex(BANS_OF_VERSION_1).expect("it is hex");
        fs::write(bans.path(), bytes).expect("writable");
        assert_eq!(bans.load().expect("readable"), [ban()]);
    }
}
