//! The bytes of a journal.

use std::io::{self, ErrorKind};

use sha2::{Digest, Sha256};

use crate::storage::StorageFile;

/// Longest payload of a record, bytes: the longest message of the Bitcoin protocol.
pub const MAX_RECORD: usize = 4_000_000;

/// Magic, version, checksum.
pub(super) const HEAD_BYTES: usize = 8 + 4 + 4;
/// Length, checksum.
const RECORD_HEAD_BYTES: usize = 4 + 4;
const CHECKSUM_BYTES: usize = 32;

/// What a journal holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// Names the kind of records.
    pub magic: [u8; 8],
    /// Raised when the payload changes its meaning.
    pub version: u32,
}

impl Format {
    pub(super) fn head(self) -> Vec<u8> {
        let mut head = Vec::with_capacity(HEAD_BYTES);
        head.extend_from_slice(&self.magic);
        head.extend_from_slice(&self.version.to_le_bytes());
        let checksum = short_checksum(&head);
        head.extend_from_slice(&checksum);
        head
    }
}

/// Where a record is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    /// Offset of the payload.
    at: u64,
    /// Its length, bytes.
    pub(super) length: usize,
}

impl Entry {
    /// Offset behind the record.
    fn end(self) -> u64 {
        self.at + (self.length + CHECKSUM_BYTES) as u64
    }
}

/// What is in a file.
#[derive(Debug, Default)]
pub(super) struct Scanned {
    pub(super) entries: Vec<Entry>,
    /// Damaged records before the last good one.
    pub(super) damaged: usize,
    /// Behind the last good record.
    pub(super) end: u64,
}

fn short_checksum(bytes: &[u8]) -> [u8; 4] {
    *Sha256::digest(bytes)
        .first_chunk()
        .expect("it has 32 bytes")
}

fn head(length: u32, place: u64) -> [u8; RECORD_HEAD_BYTES] {
    let mut covered = [0; 12];
    covered[..4].copy_from_slice(&length.to_le_bytes());
    covered[4..].copy_from_slice(&place.to_le_bytes());
    let mut head = [0; RECORD_HEAD_BYTES];
    head[..4].copy_from_slice(&length.to_le_bytes());
    head[4..].copy_from_slice(&short_checksum(&covered));
    head
}

/// Adds the record of `payload` to `bytes`; its first byte has the offset `place`.
pub(super) fn encode(payload: &[u8], place: u64, bytes: &mut Vec<u8>) -> Entry {
    let length = payload.len();
    assert!(
        (1..=MAX_RECORD).contains(&length),
        "a record has 1 to {MAX_RECORD} bytes, not {length}"
    );
    bytes.reserve(RECORD_HEAD_BYTES + length + CHECKSUM_BYTES);
    bytes.extend_from_slice(&head(length as u32, place));
    bytes.extend_from_slice(payload);
    bytes.extend_from_slice(&Sha256::digest(payload));
    Entry {
        at: place + RECORD_HEAD_BYTES as u64,
        length,
    }
}

/// The payload of a record; `None` when it is not the one that was written.
pub(super) fn payload(file: &dyn StorageFile, entry: Entry) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = vec![0; entry.length + CHECKSUM_BYTES];
    file.read_at(&mut bytes, entry.at)?;
    let checksum = bytes.split_off(entry.length);
    Ok((Sha256::digest(&bytes)[..] == checksum[..]).then_some(bytes))
}

/// Reads a whole file; `None` when it is not of this format.
pub(super) fn scan(file: &dyn StorageFile, format: Format) -> io::Result<Option<Scanned>> {
    let length = file.length()?;
    let mut start = [0; HEAD_BYTES];
    if length < HEAD_BYTES as u64 {
        return Ok(None);
    }
    file.read_at(&mut start, 0)?;
    if start[..] != format.head()[..] {
        return Ok(None);
    }
    let mut scanned = Scanned {
        end: HEAD_BYTES as u64,
        ..Scanned::default()
    };
    let mut place = scanned.end;
    let mut damaged = 0;
    while let Some(entry) = entry_at(file, place, length)? {
        place = entry.end();
        match payload(file, entry)? {
            Some(_) => {
                scanned.entries.push(entry);
                scanned.damaged = damaged;
                scanned.end = place;
            }
            // Counted when a good one follows; else it is the torn tail.
            None => damaged += 1,
        }
    }
    Ok(Some(scanned))
}

/// The record that begins at `place`, if there is one that is not cut short.
fn entry_at(file: &dyn StorageFile, place: u64, file_length: u64) -> io::Result<Option<Entry>> {
    let at = place + RECORD_HEAD_BYTES as u64;
    if at > file_length {
        return Ok(None);
    }
    let mut found = [0; RECORD_HEAD_BYTES];
    match file.read_at(&mut found, place) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let (length, _) = found.split_first_chunk().expect("it has eight bytes");
    let length = u32::from_le_bytes(*length);
    let entry = Entry {
        at,
        length: length as usize,
    };
    let whole = found == head(length, place)
        && (1..=MAX_RECORD).contains(&entry.length)
        && entry.end() <= file_length;
    Ok(whole.then_some(entry))
}
