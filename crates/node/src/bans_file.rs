//! `bans.dat`: the operator's bans, saved.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use handfast_disk::state_file;
use handfast_proto::bans::{Ban, BanTarget, Subnet};
use serde::{Deserialize, Serialize};

/// Raised when [`Saved`] changes its meaning.
const VERSION: u32 = 2;
/// That of [`SavedSubnet`].
const SUBNETS: u32 = 1;

/// One [`Ban`] as it is on disk.
#[derive(Debug, Serialize, Deserialize)]
struct Saved {
    /// As `listbanned` shows it.
    target: String,
    created: i64,
    until: i64,
}

/// The same as it was before anything but IP could be banned.
#[derive(Debug, Serialize, Deserialize)]
struct SavedSubnet {
    network: IpAddr,
    prefix: u8,
    created: i64,
    until: i64,
}

/// Where the bans of `datadir` are.
pub(crate) fn path(datadir: &Path) -> PathBuf {
    datadir.join("bans.dat")
}

/// The saved bans; none when there is no file or a damaged one.
///
/// # Errors
/// The system's, when the file is there and cannot be read.
pub(crate) fn load(datadir: &Path) -> io::Result<Vec<Ban>> {
    if let Ok(saved) = state_file::read::<Vec<SavedSubnet>>(&path(datadir), SUBNETS) {
        return Ok(saved.into_iter().filter_map(from_subnet).collect());
    }
    let saved: Vec<Saved> = state_file::load(&path(datadir), VERSION)?.unwrap_or_default();
    Ok(saved.into_iter().filter_map(from_saved).collect())
}

/// Saves the bans.
///
/// # Errors
/// The system's; the old file is intact then.
pub(crate) fn save(datadir: &Path, bans: impl Iterator<Item = Ban>) -> io::Result<()> {
    let saved: Vec<Saved> = bans.map(to_saved).collect();
    state_file::save(&path(datadir), VERSION, &saved)
}

fn to_saved(ban: Ban) -> Saved {
    Saved {
        target: ban.target.to_string(),
        created: ban.created,
        until: ban.until,
    }
}

/// `None`: no address is written so.
fn from_saved(saved: Saved) -> Option<Ban> {
    Some(Ban {
        target: saved.target.parse().ok()?,
        created: saved.created,
        until: saved.until,
    })
}

/// `None`: no address has so many bits.
fn from_subnet(saved: SavedSubnet) -> Option<Ban> {
    Some(Ban {
        target: BanTarget::Subnet(Subnet::new(saved.network, saved.prefix)?),
        created: saved.created,
        until: saved.until,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bans_come_back_as_they_were_saved() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        assert_eq!(load(dir.path()).expect("no file is no error"), []);
        let ban = |target: &str, until| Ban {
            target: target.parse().expect("an address"),
            created: 1_700_000_000,
            until,
        };
        let bans = [
            ban("203.0.113.7", 1_700_000_060),
            ban("198.51.100.0/24", i64::MAX),
            ban("2001:470::/32", 1_800_000_000),
            ban("0.0.0.0/0", 1_800_000_000),
            ban(
                "aaaqeayeaudaocajbifqydiob4ibceqtcqkrmfyydenbwha5dyp3kead.onion",
                1_800_000_000,
            ),
        ];
        save(dir.path(), bans.into_iter()).expect("writable");
        assert_eq!(load(dir.path()).expect("readable"), bans);
    }
    #[test]
    fn bans_that_an_earlier_version_saved_are_read() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let saved = vec![SavedSubnet {
            network: [198, 51, 100, 0].into(),
            prefix: 24,
            created: 1_700_000_000,
            until: i64::MAX,
        }];
        state_file::save(&path(dir.path()), SUBNETS, &saved).expect("writable");
        let bans = load(dir.path()).expect("readable");
        assert_eq!(bans.len(), 1);
        assert_eq!(bans[0].target.to_string(), "198.51.100.0/24");
        save(dir.path(), bans.clone().into_iter()).expect("writable");
        assert_eq!(load(dir.path()).expect("readable"), bans);
    }
}
