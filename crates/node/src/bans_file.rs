//! `bans.dat`: the form of the operator's bans on disk.

use std::net::IpAddr;
use std::path::Path;

use handfast_disk::{Form, state_file};
use handfast_proto::bans::{Ban, BanTarget, Subnet};
use serde::{Deserialize, Serialize};

/// All bans.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SavedBans(Vec<Saved>);

/// One [`Ban`].
#[derive(Debug, Serialize, Deserialize)]
struct Saved {
    /// As `listbanned` shows it.
    target: String,
    created: i64,
    until: i64,
}

/// Version of a list of [`SavedSubnet`].
const SUBNETS: u32 = 1;

/// One ban of the time before anything but IP could be banned.
#[derive(Debug, Serialize, Deserialize)]
struct SavedSubnet {
    network: IpAddr,
    prefix: u8,
    created: i64,
    until: i64,
}

impl Form for SavedBans {
    type State = Vec<Ban>;
    const FILE: &'static str = "bans.dat";
    const VERSION: u32 = 2;
    const LOSS: &'static str = "no ban of setban is in force; set them again, or stop the node \
                                and put an intact copy of the file in its place";

    fn of(bans: &Vec<Ban>) -> Self {
        Self(bans.iter().map(to_saved).collect())
    }

    fn state(self) -> Vec<Ban> {
        self.0.into_iter().filter_map(from_saved).collect()
    }

    fn state_of_earlier(file: &Path) -> Option<Vec<Ban>> {
        let saved: Vec<SavedSubnet> = state_file::read(file, SUBNETS).ok()?;
        Some(saved.into_iter().filter_map(from_subnet).collect())
    }
}

fn to_saved(ban: &Ban) -> Saved {
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
    use handfast_disk::StateFile;

    use super::*;

    #[test]
    fn bans_come_back_as_they_were_saved() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = StateFile::<SavedBans>::of_directory(dir.path());
        assert_eq!(file.load().expect("no file is no error"), []);
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
        file.save(|| bans.to_vec()).expect("writable");
        assert_eq!(file.load().expect("readable"), bans);
    }
}
