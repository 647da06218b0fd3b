//! Small local state: the one user of bincode.
//!
//! A file is magic, schema version, length, payload, checksum. It is written to
//! another name, synced and renamed, so that a crash leaves the old or the new
//! one. One that cannot be read is put into quarantine under another name, never deleted, and
//! the node goes on without it. Nothing that came over the network is decoded here.
//!
//! State that a node holds, loads once and saves again and again is a
//! [`StateFile`](crate::StateFile); the functions here are for files of one use.

use std::io;
use std::path::Path;

use bincode::Options;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use crate::{Unreadable, quarantine, read as read_file, replace};

const MAGIC: [u8; 8] = *b"HANDFAST";
/// Magic, schema version, payload length.
const HEAD_BYTES: usize = 8 + 4 + 8;
const CHECKSUM_BYTES: usize = 32;
/// The checksum of everything before it in a file.
pub(crate) type Checksum = [u8; CHECKSUM_BYTES];
/// Longest payload, bytes. The address book has a bound far below; a caller whose value grows
/// checks it with [`encoded_len`].
pub const MAX_PAYLOAD: u64 = 64 << 20;

/// Longest file, bytes.
const MAX_FILE: u64 = MAX_PAYLOAD + (HEAD_BYTES + CHECKSUM_BYTES) as u64;

/// Why a file that the user gave cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The system's.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It is intact, and of another schema version.
    #[error("it has schema version {got}, not {wanted}")]
    Version {
        /// The file's.
        got: u32,
        /// The one that is read here.
        wanted: u32,
    },
    /// It is damaged, or not a state file.
    #[error("{0}")]
    Damaged(String),
}

/// Reads a file that the user gave and that must exist. It is never renamed.
///
/// # Errors
/// It cannot be read, is no state file, damaged, or of another version.
pub fn read<T: DeserializeOwned>(path: &Path, version: u32) -> Result<T, ReadError> {
    let bytes = match read_file(path, MAX_FILE) {
        Ok(bytes) => bytes,
        Err(Unreadable::Io(error)) => return Err(error.into()),
        Err(other) => return Err(ReadError::Damaged(other.to_string())),
    };
    decode(&bytes, version).map_err(|damage| match damage {
        Damage::Version { got, wanted } => ReadError::Version { got, wanted },
        damage => ReadError::Damaged(damage.to_string()),
    })
}

/// The bytes that `value` takes in a payload.
pub fn encoded_len<T: Serialize>(value: &T) -> u64 {
    encoding().serialized_size(value).unwrap_or(u64::MAX)
}

/// Why a file was not read.
#[derive(Debug, thiserror::Error)]
enum Damage {
    #[error("it is not a state file of Handfast")]
    Magic,
    #[error("it has schema version {got}, not {wanted}")]
    Version { got: u32, wanted: u32 },
    #[error("it is truncated or too long")]
    Length,
    #[error("its checksum is wrong")]
    Checksum,
    #[error("{0}")]
    Unreadable(Unreadable),
    #[error("it is intact, but holds other state")]
    Contents(#[from] bincode::Error),
}

fn encoding() -> impl Options {
    bincode::DefaultOptions::new()
        .with_fixint_encoding()
        .with_limit(MAX_PAYLOAD)
}

/// Reads `path`; `None` when there is no such file, or none that can be read (damaged, of
/// another version, too long, or no file at all). The latter is quarantined ([`quarantine`]) with a
/// warning, and the caller starts with a new one. `loss`: the consequence and the remedy, for the
/// warning.
///
/// # Errors
/// The system's, when a file is there and cannot be opened or renamed.
pub fn load<T: DeserializeOwned>(path: &Path, version: u32, loss: &str) -> io::Result<Option<T>> {
    let decoded = match read_file(path, MAX_FILE) {
        Ok(bytes) => decode(&bytes, version),
        Err(error) if error.is_absent() => return Ok(None),
        Err(Unreadable::Io(error)) => return Err(error),
        Err(other) => Err(Damage::Unreadable(other)),
    };
    match decoded {
        Ok(value) => Ok(Some(value)),
        Err(damage) => {
            let quarantined = quarantine(path)?;
            tracing::warn!(
                file = %path.display(), quarantined = %quarantined.display(), cause = %damage,
                "a state file cannot be read; it was quarantined and a new one is started: {loss}"
            );
            Ok(None)
        }
    }
}

/// Writes `value` to `path`, whole or not at all.
///
/// # Errors
/// The system's, or [`io::ErrorKind::FileTooLarge`] where the payload would be longer than
/// [`MAX_PAYLOAD`]; the old file is intact then.
pub fn save<T: Serialize>(path: &Path, version: u32, value: &T) -> io::Result<()> {
    let (bytes, _) = encode(value, version)?;
    replace(path, &bytes)
}

/// The bytes of a file, and the checksum at their end.
pub(crate) fn encode<T: Serialize>(value: &T, version: u32) -> io::Result<(Vec<u8>, Checksum)> {
    // Plain data can always be encoded, unless it exceeds the limit.
    let payload = encoding().serialize(value).map_err(|error| {
        let text = format!("it does not fit a file of {MAX_PAYLOAD} bytes: {error}");
        io::Error::new(io::ErrorKind::FileTooLarge, text)
    })?;
    let mut bytes = Vec::with_capacity(HEAD_BYTES + payload.len() + CHECKSUM_BYTES);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&version.to_le_bytes());
    bytes.extend_from_slice(&(payload.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&payload);
    let checksum = Checksum::from(Sha256::digest(&bytes));
    bytes.extend_from_slice(&checksum);
    Ok((bytes, checksum))
}

fn decode<T: DeserializeOwned>(bytes: &[u8], wanted: u32) -> Result<T, Damage> {
    let (magic, rest) = bytes.split_first_chunk().ok_or(Damage::Magic)?;
    if *magic != MAGIC {
        return Err(Damage::Magic);
    }
    let (version, rest) = rest.split_first_chunk().ok_or(Damage::Length)?;
    let got = u32::from_le_bytes(*version);
    if got != wanted {
        return Err(Damage::Version { got, wanted });
    }
    let (length, rest) = rest.split_first_chunk().ok_or(Damage::Length)?;
    let (payload, checksum) = rest
        .split_last_chunk::<CHECKSUM_BYTES>()
        .ok_or(Damage::Length)?;
    if u64::from_le_bytes(*length) != payload.len() as u64 {
        return Err(Damage::Length);
    }
    let computed = Sha256::digest(&bytes[..bytes.len() - CHECKSUM_BYTES]);
    if computed[..] != checksum[..] {
        return Err(Damage::Checksum);
    }
    Ok(encoding().deserialize(payload)?)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::testing::{SpecialFile, put_special_file};

    type Rows = Vec<(u32, String)>;
    const LOSS: &str = "rows are counted from the beginning";

    fn rows() -> Rows {
        (0..50).map(|n| (n, format!("row {n}"))).collect()
    }

    #[test]
    fn what_was_saved_is_loaded() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("peers.dat");
        assert!(
            load::<Rows>(&path, 1, LOSS)
                .expect("no file is no error")
                .is_none()
        );
        save(&path, 1, &rows()).expect("writable");
        save(&path, 1, &rows()).expect("replaces the old one");
        assert_eq!(
            load::<Rows>(&path, 1, LOSS).expect("readable"),
            Some(rows())
        );
        assert_eq!(
            fs::read_dir(dir.path()).expect("listable").count(),
            1,
            "no temporary file is left"
        );
    }

    #[test]
    fn every_single_damaged_byte_and_every_cut_is_noticed() {
        let (whole, _) = encode(&rows(), 1).expect("small");
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x20;
            assert!(decode::<Rows>(&damaged, 1).is_err(), "byte {at}");
            assert!(decode::<Rows>(&whole[..at], 1).is_err(), "cut at {at}");
        }
        assert!(matches!(
            decode::<Rows>(&whole, 2),
            Err(Damage::Version { got: 1, wanted: 2 })
        ));
    }

    #[test]
    fn a_damaged_file_is_quarantined_and_not_deleted() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("peers.dat");
        fs::write(&path, b"HANDFAST but not really").expect("writable");
        assert!(
            load::<Rows>(&path, 1, LOSS)
                .expect("no system error")
                .is_none()
        );
        assert!(!path.exists());
        let quarantined = fs::read(dir.path().join("peers.dat.damaged-1")).expect("quarantined");
        assert_eq!(quarantined, b"HANDFAST but not really");
    }

    #[test]
    fn a_special_file_at_the_path_is_quarantined_and_a_new_state_file_is_started() {
        for special in SpecialFile::ALL {
            let dir = tempfile::tempdir().expect("a temporary directory");
            let path = dir.path().join("peers.dat");
            put_special_file(&path, special);
            assert!(read::<Rows>(&path, 1).is_err(), "{special:?}");
            let loaded = load::<Rows>(&path, 1, LOSS);
            assert!(loaded.expect("no system error").is_none(), "{special:?}");
            let quarantined = dir.path().join("peers.dat.damaged-1");
            assert!(fs::symlink_metadata(quarantined).is_ok(), "{special:?}");
            // The temporary name can be taken by the same kind of file.
            put_special_file(&dir.path().join("peers.dat.new"), special);
            let saved = save(&path, 1, &rows());
            assert_eq!(
                saved.is_ok(),
                special != SpecialFile::Directory,
                "{special:?}"
            );
        }
    }

    #[test]
    fn a_value_that_is_too_long_is_an_error_and_the_old_file_stays() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("run.trace");
        save(&path, 1, &rows()).expect("writable");
        let long = vec![0_u64; usize::try_from(MAX_PAYLOAD / 8).expect("64 MiB")];
        let error = save(&path, 1, &long).expect_err("its length field exceeds the limit");
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge, "{error}");
        assert!(
            encoded_len(&long) > MAX_PAYLOAD,
            "encoded_len shows it before"
        );
        assert_eq!(
            load::<Rows>(&path, 1, LOSS).expect("readable"),
            Some(rows())
        );
    }

    #[test]
    fn an_intact_file_with_other_state_is_reported_as_that() {
        // Too short, too long, and of another type: the decoder's message does not help an operator,
        // and the first has none.
        let (long, _) = encode(&rows(), 1).expect("small");
        for wrong in [
            decode::<(Rows, Rows)>(&long, 1).map(drop),
            decode::<u32>(&long, 1).map(drop),
            decode::<Option<u64>>(&long, 1).map(drop),
        ] {
            let error = wrong.expect_err("it is something else").to_string();
            assert_eq!(error, "it is intact, but holds other state");
        }
    }
}
