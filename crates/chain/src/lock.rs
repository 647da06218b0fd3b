//! The lock of a data directory: one node per directory, and only Handfast's directories.
//!
//! Two files: `.lock`, locked exclusively while the node runs, and `network`, the marker
//! with format and network. A directory without the marker that has other files is
//! foreign (it may be Bitcoin Core's, which has a `.lock`, `blocks` and `chainstate`
//! too) and is not changed.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bitcoin::hashes::{Hash, sha256};
use handfast_disk::{
    LOCK_FILE, MARKER_FILE, MAX_MARKER, Unreadable, check_not_special, is_in_use, read_text,
};
use handfast_wire::Network;

use crate::OpenError;

const MARKER_TEMP: &str = "network.new";

/// First line of the marker: format 1 of the directory layout.
pub(crate) const MARKER_HEAD: &str = "handfast data directory, format 1";
const MARKER_HEAD_FRONT: &str = "handfast data directory, format ";
const FORMAT: u32 = 1;

/// Entries that may be in a directory without a marker: those of an interrupted first
/// start, a log or configuration file, and `lost+found` of a new file system.
const HARMLESS: [&str; 5] = [
    LOCK_FILE,
    MARKER_TEMP,
    "handfast.log",
    "handfast.toml",
    "lost+found",
];

/// Pause before a held lock is tried once more: another start's check ([`check_lockable`]) holds
/// it for a moment.
const RETRY_AFTER: Duration = Duration::from_millis(50);

/// The exclusive lock of a data directory. Released when dropped, and by the operating system
/// when the process ends.
#[derive(Debug)]
pub struct DirLock {
    dir: PathBuf,
    _file: File,
}

impl DirLock {
    /// The locked directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

/// Locks the data directory `dir` (`…/<network>`) for a node on `network`, and creates it
/// when it is missing.
///
/// # Errors
/// A foreign directory, one of another network or one in use is refused, and
/// nothing in it has changed then.
pub fn lock(dir: &Path, network: &Network) -> Result<DirLock, OpenError> {
    let wanted = network.label();
    let io = |path: &Path| {
        let path = path.to_path_buf();
        move |source| OpenError::Io { path, source }
    };
    // Check before changing anything: a refused directory stays unchanged.
    inspect(dir, &wanted)?;
    fs::create_dir_all(dir).map_err(io(dir))?;

    let path = dir.join(LOCK_FILE);
    check_not_special(&path).map_err(|found| unreadable(path.clone(), found))?;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(io(&path))?;
    let mut locked = file.try_lock();
    if matches!(locked, Err(TryLockError::WouldBlock)) {
        #[expect(clippy::disallowed_methods, reason = "another process gives no signal")]
        std::thread::sleep(RETRY_AFTER);
        locked = file.try_lock();
    }
    match locked {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(OpenError::InUse(dir.to_path_buf())),
        Err(TryLockError::Error(source)) => return Err(OpenError::Io { path, source }),
    }
    // Again under the lock: two first starts may have raced.
    if !inspect(dir, &wanted)? {
        write_marker(dir, &wanted).map_err(io(&dir.join(MARKER_FILE)))?;
    }
    Ok(DirLock {
        dir: dir.to_path_buf(),
        _file: file,
    })
}

/// Checks that the data directory `dir` could be locked now, without locking it. A start calls
/// it first, to report the cause before its consequences: a node that uses the directory also
/// uses the ports.
///
/// # Errors
/// As [`lock`]. Nothing is created or changed, whatever the result.
pub fn check_lockable(dir: &Path, network: &Network) -> Result<(), OpenError> {
    inspect(dir, &network.label())?;
    let path = dir.join(LOCK_FILE);
    if let Err(found) = check_not_special(&path) {
        return Err(unreadable(path, found));
    }
    match is_in_use(dir) {
        true => Err(OpenError::InUse(dir.to_path_buf())),
        false => Ok(()),
    }
}

/// Whether `dir` has the marker of the wanted network. Reads only.
fn inspect(dir: &Path, wanted: &str) -> Result<bool, OpenError> {
    let marker = dir.join(MARKER_FILE);
    match read_text(&marker, MAX_MARKER) {
        Ok(text) => check_marker(dir, marker, &text, wanted).map(|()| true),
        Err(error) if error.is_absent() => check_empty(dir).map(|()| false),
        Err(Unreadable::NotText) => Err(damaged(marker, wanted, "bytes that are no text")),
        Err(found @ Unreadable::TooLong { .. }) => Err(damaged(marker, wanted, &found.to_string())),
        Err(found) => Err(unreadable(marker, found)),
    }
}

fn unreadable(path: PathBuf, found: Unreadable) -> OpenError {
    match found {
        Unreadable::Io(source) => OpenError::Io { path, source },
        found => OpenError::NotAFile {
            path,
            found: found.to_string(),
        },
    }
}

fn damaged(file: PathBuf, wanted: &str, found: &str) -> OpenError {
    OpenError::DamagedMarker {
        file,
        found: found.chars().take(80).collect(),
        wanted: wanted.into(),
    }
}

/// # Errors
/// Another network is reported only if the marker is intact: a flipped bit must not hide an
/// operator's data.
fn check_marker(dir: &Path, file: PathBuf, text: &str, wanted: &str) -> Result<(), OpenError> {
    let mut lines = text.lines();
    let head = lines.next().unwrap_or_default();
    if head != MARKER_HEAD {
        let version = head.strip_prefix(MARKER_HEAD_FRONT);
        let later = version.and_then(|version| version.parse().ok()) > Some(FORMAT);
        let of_this_format = lines.next().map(checksum).as_deref() == lines.next();
        return Err(match later && !of_this_format {
            true => OpenError::Marker {
                file,
                found: head.into(),
            },
            false => damaged(file, wanted, head),
        });
    }
    let found = lines.next().unwrap_or_default();
    // Earlier versions wrote no checksum.
    let sound = lines.next().is_none_or(|line| line == checksum(found));
    if found == wanted && sound {
        return Ok(());
    }
    match sound && Network::from_label(found).is_some() {
        true => Err(OpenError::WrongNetwork {
            dir: dir.to_path_buf(),
            found: found.into(),
            wanted: wanted.into(),
        }),
        false => Err(damaged(file, wanted, found)),
    }
}

/// The last line of the marker: the first bytes of the SHA-256 of the others.
fn checksum(label: &str) -> String {
    let hash = sha256::Hash::hash(format!("{MARKER_HEAD}\n{label}\n").as_bytes());
    let [a, b, c, d, ..] = hash.to_byte_array();
    format!("checksum {a:02x}{b:02x}{c:02x}{d:02x}")
}

fn check_empty(dir: &Path) -> Result<(), OpenError> {
    let io = |source| OpenError::Io {
        path: dir.to_path_buf(),
        source,
    };
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => {
            return match fs::read_link(dir) {
                Ok(target) => Err(OpenError::NotAFile {
                    path: dir.to_path_buf(),
                    found: format!(
                        "it is a link to {}, which does not exist; mount the disk that it is on",
                        target.display()
                    ),
                }),
                Err(_) => Ok(()),
            };
        }
        Err(e) => return Err(io(e)),
    };
    for entry in entries {
        let name = entry.map_err(io)?.file_name();
        if !HARMLESS.iter().any(|harmless| name == **harmless) {
            return Err(OpenError::Foreign {
                dir: dir.to_path_buf(),
                found: name.to_string_lossy().into_owned(),
            });
        }
    }
    Ok(())
}

/// Writes the marker atomically.
fn write_marker(dir: &Path, wanted: &str) -> io::Result<()> {
    let text = format!("{MARKER_HEAD}\n{wanted}\n{}\n", checksum(wanted));
    handfast_disk::replace(&dir.join(MARKER_FILE), text.as_bytes())
}

#[cfg(test)]
mod tests {
    use handfast_disk::testing::{SpecialFile, put_special_file};

    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_missing_directory_is_made_and_marked() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("handfast/regtest");
        let held = lock(&dir, &Network::Regtest).unwrap();
        assert_eq!(held.dir(), dir);
        assert_eq!(names(&dir), [LOCK_FILE, MARKER_FILE]);
    }

    #[test]
    fn a_directory_has_one_holder_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let first = lock(dir.path(), &Network::Regtest).unwrap();
        let second = lock(dir.path(), &Network::Regtest);
        assert!(matches!(second, Err(OpenError::InUse(_))));
        drop(first);
        lock(dir.path(), &Network::Regtest).unwrap();
    }

    #[test]
    fn networks_that_differ_only_in_their_challenge_are_distinguished() {
        let dir = tempfile::tempdir().unwrap();
        let signet = |challenge: &[u8]| Network::CustomSignet {
            challenge: challenge.to_vec(),
        };
        lock(dir.path(), &signet(&[0x51])).unwrap();
        for other in [signet(&[0x52]), Network::Signet, Network::Mainnet] {
            let refused = lock(dir.path(), &other);
            assert!(matches!(refused, Err(OpenError::WrongNetwork { .. })));
        }
        lock(dir.path(), &signet(&[0x51])).unwrap();
    }

    #[test]
    fn the_network_of_a_directory_is_read_from_its_marker() {
        let signet = Network::CustomSignet {
            challenge: vec![0x51],
        };
        for network in Network::ALL.into_iter().chain([signet]) {
            let dir = tempfile::tempdir().unwrap();
            lock(dir.path(), &network).unwrap();
            let marker = fs::read_to_string(dir.path().join(MARKER_FILE)).unwrap();
            let label = marker.lines().nth(1).unwrap();
            assert_eq!(Network::from_label(label), Some(network));
        }
    }

    #[test]
    fn a_broken_link_is_named_as_the_cause() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("regtest");
        std::os::unix::fs::symlink(home.path().join("unmounted"), &dir).unwrap();
        let text = check_lockable(&dir, &Network::Regtest)
            .unwrap_err()
            .to_string();
        assert!(text.contains("unmounted, which does not exist"), "{text}");
    }

    #[test]
    fn a_refused_directory_gets_no_file_from_us() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("thesis.txt"), "do not delete").unwrap();
        let refused = lock(dir.path(), &Network::Regtest);
        assert!(matches!(refused, Err(OpenError::Foreign { found, .. }) if found == "thesis.txt"));
        assert_eq!(names(dir.path()), ["thesis.txt"]);
    }

    #[test]
    fn an_interrupted_first_start_can_be_repeated() {
        let dir = tempfile::tempdir().unwrap();
        for name in [LOCK_FILE, MARKER_TEMP, "handfast.log"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        lock(dir.path(), &Network::Regtest).unwrap();
    }

    #[test]
    fn a_marker_of_a_later_format_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let later = "handfast data directory, format 2\nregtest\n";
        fs::write(dir.path().join(MARKER_FILE), later).unwrap();
        let refused = lock(dir.path(), &Network::Regtest);
        assert!(matches!(refused, Err(OpenError::Marker { .. })));
        assert_eq!(names(dir.path()), [MARKER_FILE]);
    }

    #[test]
    fn a_marker_of_an_earlier_version_without_a_checksum_is_accepted() {
        let dir = tempfile::tempdir().unwrap();
        let earlier = format!("{MARKER_HEAD}\nregtest\n");
        fs::write(dir.path().join(MARKER_FILE), earlier).unwrap();
        lock(dir.path(), &Network::Regtest).unwrap();
        let refused = lock(dir.path(), &Network::Signet);
        assert!(matches!(refused, Err(OpenError::WrongNetwork { .. })));
    }

    #[test]
    fn every_flipped_bit_of_the_marker_is_reported_as_damage_with_its_remedy() {
        let signet = Network::CustomSignet {
            challenge: vec![0x51],
        };
        for network in [Network::Regtest, signet] {
            let dir = tempfile::tempdir().unwrap();
            lock(dir.path(), &network).unwrap();
            let marker = dir.path().join(MARKER_FILE);
            let whole = fs::read(&marker).unwrap();
            for bit in 0..whole.len() * 8 {
                let mut flipped = whole.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                fs::write(&marker, &flipped).unwrap();
                let error = lock(dir.path(), &network).expect_err("it is damaged");
                let text = error.to_string();
                let remedy = format!("{MARKER_HEAD:?} and {:?}", network.label());
                assert!(text.contains(&remedy), "bit {bit}: {text}");
                assert_eq!(fs::read(&marker).unwrap(), flipped);
            }
            // The remedy works.
            let remedy = format!("{MARKER_HEAD}\n{}\n", network.label());
            fs::write(&marker, remedy).unwrap();
            lock(dir.path(), &network).unwrap();
        }
    }

    #[test]
    fn a_special_file_is_refused_by_name_and_never_waited_for() {
        for name in [MARKER_FILE, LOCK_FILE] {
            for special in SpecialFile::ALL {
                let dir = tempfile::tempdir().unwrap();
                let path = dir.path().join(name);
                put_special_file(&path, special);
                let refused = lock(dir.path(), &Network::Regtest);
                if special == SpecialFile::Enormous {
                    // The contents of a lock file are not read.
                    assert_eq!(refused.is_ok(), name == LOCK_FILE);
                    continue;
                }
                let error = refused.expect_err("it is no file");
                assert!(matches!(error, OpenError::NotAFile { .. }), "{error}");
                let text = error.to_string();
                assert!(text.starts_with(path.to_str().unwrap()), "{text}");
            }
        }
    }
}
