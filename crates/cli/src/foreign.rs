//! Whether a data directory belongs to another program. Its contents decide, not the names of
//! directories: Bitcoin Core, lnd and others use the same names.

use std::fs::{self, DirEntry, File, Metadata};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use handfast_disk::MARKER_FILE;
use handfast_wire::Network;

/// Entries that an interrupted first start leaves in the directory of its network.
const LEFT_BY_A_START: [&str; 5] = [
    ".lock",
    "network.new",
    "handfast.log",
    "handfast.toml",
    "lost+found",
];

/// An entry that is not Handfast's in a directory that Handfast has not used. A directory with
/// the marker of a network is Handfast's, whatever else it holds; the marker is read when the
/// directory is locked. `config`: the configuration file in use.
pub(super) fn in_datadir(dir: &Path, config: Option<&Path>) -> Option<String> {
    // Bitcoin Core keeps these at the top, Handfast one level below.
    let core = ["bitcoin.conf", "chainstate", "blocks"]
        .into_iter()
        .find(|name| dir.join(name).exists());
    if let Some(core) = core {
        return Some(core.to_owned());
    }
    let entries: Vec<DirEntry> = fs::read_dir(dir).ok()?.flatten().collect();
    let is_network = |entry: &&DirEntry| is_network_directory(&name(entry));
    if entries
        .iter()
        .filter(is_network)
        .any(|it| is_marked(&it.path()))
    {
        return None;
    }
    let found = |entry: &DirEntry| match is_network_directory(&name(entry)) {
        true => in_network_dir(&entry.path()),
        false if is_harmless(entry, config) => None,
        false => Some(name(entry)),
    };
    entries.iter().find_map(found)
}

/// The same for the directory of `handfast testnet`, in which each node has a data directory,
/// called one of `nodes`, and a log file next to that.
pub(super) fn in_testnet_dir(dir: &Path, nodes: &[String]) -> Option<String> {
    let regtest = |node: &String| dir.join(node).join(Network::Regtest.directory());
    if nodes.iter().any(|node| is_marked(&regtest(node))) {
        return None;
    }
    let found = |entry: DirEntry| {
        let name = name(&entry);
        let is_log = |node: &String| name.strip_prefix(node.as_str()) == Some(".log");
        match nodes.contains(&name) && entry.path().is_dir() {
            true => in_datadir(&entry.path(), None).map(|found| format!("{name}/{found}")),
            false if nodes.iter().any(is_log) || is_harmless(&entry, None) => None,
            false => Some(name),
        }
    };
    fs::read_dir(dir).ok()?.flatten().find_map(found)
}

/// An entry that is not Handfast's in the directory of a network that has no marker.
fn in_network_dir(dir: &Path) -> Option<String> {
    let network = dir.file_name()?.to_string_lossy().into_owned();
    // A path that is no directory, or cannot be read, is an error when it is locked.
    let entries = fs::read_dir(dir).ok()?.flatten();
    let mut names = entries.map(|entry| name(&entry));
    let found = names.find(|name| !LEFT_BY_A_START.contains(&name.as_str()))?;
    Some(format!("{network}/{found}"))
}

fn name(entry: &DirEntry) -> String {
    entry.file_name().to_string_lossy().into_owned()
}

fn is_network_directory(name: &str) -> bool {
    let plain = Network::ALL.iter().any(|network| network.name() == name);
    plain || name.starts_with("signet-")
}

fn is_marked(network_dir: &Path) -> bool {
    network_dir.join(MARKER_FILE).exists()
}

/// Whether the entry may be there before the first start: the configuration, the output, and
/// what a new file system contains.
fn is_harmless(entry: &DirEntry, config: Option<&Path>) -> bool {
    let name = name(entry);
    let ours = name.starts_with("handfast");
    let path = entry.path();
    let is_output = |name: &str| {
        let found = fs::metadata(&path);
        name.ends_with(".log") && found.is_ok_and(|it| it.len() == 0 || is_our_output(&it))
    };
    name == "lost+found"
        || ours && [".toml", ".log"].iter().any(|end| name.ends_with(end))
        || config.is_some_and(|config| is_same(config, &path))
        || is_output(&name)
}

fn is_same(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().ok();
    real(one).is_some_and(|path: PathBuf| Some(path) == real(other))
}

/// Whether standard output or standard error is this file, as in `handfast run > first.log`.
fn is_our_output(file: &Metadata) -> bool {
    let is_it = |output: BorrowedFd<'_>| {
        let output = output.try_clone_to_owned().map(File::from);
        let output = output.and_then(|output| output.metadata());
        output.is_ok_and(|it| (it.dev(), it.ino()) == (file.dev(), file.ino()))
    };
    is_it(std::io::stdout().as_fd()) || is_it(std::io::stderr().as_fd())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holding(paths: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a temporary directory");
        for path in paths {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().expect("it has one")).expect("made");
            fs::write(path, "something").expect("written");
        }
        dir
    }

    #[test]
    fn a_directory_of_another_program_is_foreign_though_it_has_the_name_of_a_network() {
        for (paths, found) in [
            (&["regtest/blocks/blk00000.dat"][..], "regtest/blocks"),
            (&["mainnet/wallet.db"], "mainnet/wallet.db"),
            (&["signet-1/keys"], "signet-1/keys"),
            (&["app.log"], "app.log"),
            (&["Cargo.toml"], "Cargo.toml"),
        ] {
            let dir = holding(paths);
            let foreign = in_datadir(dir.path(), None);
            assert_eq!(foreign.as_deref(), Some(found), "{paths:?}");
        }
    }

    #[test]
    fn a_directory_is_handfasts_when_its_contents_are() {
        for paths in [
            &["regtest/network", "diary.txt", "mainnet/wallet.db"][..],
            &["regtest/.lock", "regtest/handfast.log"],
            &["handfast.toml", "handfast-out.log"],
            &[],
        ] {
            assert_eq!(in_datadir(holding(paths).path(), None), None, "{paths:?}");
        }
        let dir = holding(&["my.toml"]);
        let config = dir.path().join("my.toml");
        assert_eq!(in_datadir(dir.path(), Some(&config)), None);
    }

    #[test]
    fn a_testnet_accepts_its_own_directory_again_and_no_other() {
        let nodes = ["node1".to_owned(), "node2".to_owned()];
        for (paths, found) in [
            (&["node1/regtest/network", "node1.log", "notes"][..], None),
            (&["node1.log"], None),
            (&["passwd"], Some("passwd")),
            (&["node1/wallet.db"], Some("node1/wallet.db")),
            (&["regtest/network"], Some("regtest")),
        ] {
            let dir = holding(paths);
            let foreign = in_testnet_dir(dir.path(), &nodes);
            assert_eq!(foreign.as_deref(), found, "{paths:?}");
        }
    }
}
