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
/// Read at once in the search for records behind damage, bytes.
const SEARCH_BYTES: u64 = 1 << 20;
/// Bytes of a file that are scanned at most: no journal grows to that, but a broken file system
/// can report any length.
const MAX_SCAN: u64 = 1 << 30;

/// The format of a journal.
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

/// The location of a record.
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

/// The contents of a file.
#[derive(Debug, Default)]
pub(super) struct Scanned {
    pub(super) entries: Vec<Entry>,
    /// Damaged ranges before the last good record.
    pub(super) damaged: usize,
    /// Offset behind the last good record.
    pub(super) end: u64,
}

fn short_checksum(bytes: &[u8]) -> [u8; 4] {
    let [a, b, c, d, ..]: [u8; 32] = Sha256::digest(bytes).into();
    [a, b, c, d]
}

fn head(length: u32, offset: u64) -> [u8; RECORD_HEAD_BYTES] {
    let mut covered = [0; 12];
    covered[..4].copy_from_slice(&length.to_le_bytes());
    covered[4..].copy_from_slice(&offset.to_le_bytes());
    let mut head = [0; RECORD_HEAD_BYTES];
    head[..4].copy_from_slice(&length.to_le_bytes());
    head[4..].copy_from_slice(&short_checksum(&covered));
    head
}

/// Appends the record of `payload` to `bytes`, whose first byte is at `offset` of the file.
///
/// # Errors
/// `InvalidInput`: the payload is empty or longer than [`MAX_RECORD`].
pub(super) fn encode(payload: &[u8], offset: u64, bytes: &mut Vec<u8>) -> io::Result<Entry> {
    let length = payload.len();
    if !(1..=MAX_RECORD).contains(&length) {
        return Err(io::Error::new(
            ErrorKind::InvalidInput,
            format!("a record has 1 to {MAX_RECORD} bytes, not {length}"),
        ));
    }
    bytes.reserve(RECORD_HEAD_BYTES + length + CHECKSUM_BYTES);
    bytes.extend_from_slice(&head(length as u32, offset));
    bytes.extend_from_slice(payload);
    bytes.extend_from_slice(&Sha256::digest(payload));
    Ok(Entry {
        at: offset + RECORD_HEAD_BYTES as u64,
        length,
    })
}

/// The payload of a record; `None` when its checksum is wrong.
pub(super) fn payload(file: &dyn StorageFile, entry: Entry) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = vec![0; entry.length + CHECKSUM_BYTES];
    file.read_at(&mut bytes, entry.at)?;
    let checksum = bytes.split_off(entry.length);
    Ok((Sha256::digest(&bytes)[..] == checksum[..]).then_some(bytes))
}

/// The result of a scan.
#[derive(Debug)]
pub(super) enum Scan {
    /// Records, or the head of a file without any.
    Journal(Scanned),
    /// Neither.
    Foreign,
}

/// Searches a whole file for records, behind damage too.
///
/// A head commits to its length and its offset, and the payload has a checksum too. So a record
/// is recognized whatever damage is before it, and other bytes are not taken for a record.
pub(super) fn scan(file: &dyn StorageFile, format: Format) -> io::Result<Scan> {
    let length = file.length()?.min(MAX_SCAN);
    let mut scanned = Scanned {
        end: HEAD_BYTES as u64,
        ..Scanned::default()
    };
    let whole_head = match head_of(file, length)? {
        FileHead::Whole(head) if head == format.head() => true,
        // A head of another kind or version: so are its records.
        FileHead::Whole(_) => return Ok(Scan::Foreign),
        FileHead::Damaged => false,
    };
    let mut offset = scanned.end;
    let mut damaged = usize::from(!whole_head);
    while offset < length {
        let found = match record_at(file, offset, length)? {
            At::Record(entry) => Some(entry),
            At::Damaged(entry) => {
                damaged += 1;
                // The head is intact, so the next record is most likely behind this one.
                match record_at(file, entry.end(), length)? {
                    At::Record(next) => Some(next),
                    At::Damaged(_) | At::Nothing => next_record(file, offset + 1, length)?,
                }
            }
            At::Nothing => {
                damaged += 1;
                next_record(file, offset + 1, length)?
            }
        };
        let Some(entry) = found else { break };
        scanned.entries.push(entry);
        scanned.damaged = damaged;
        scanned.end = entry.end();
        offset = entry.end();
    }
    match whole_head || !scanned.entries.is_empty() {
        true => Ok(Scan::Journal(scanned)),
        false => Ok(Scan::Foreign),
    }
}

/// The head of a file.
enum FileHead {
    /// The head of some journal.
    Whole(Vec<u8>),
    Damaged,
}

fn head_of(file: &dyn StorageFile, length: u64) -> io::Result<FileHead> {
    let mut head = vec![0; HEAD_BYTES];
    if length < HEAD_BYTES as u64 {
        return Ok(FileHead::Damaged);
    }
    file.read_at(&mut head, 0)?;
    let (covered, checksum) = head.split_at(HEAD_BYTES - 4);
    Ok(match short_checksum(covered) == checksum {
        true => FileHead::Whole(head),
        false => FileHead::Damaged,
    })
}

/// What is at an offset of a file.
enum At {
    Record(Entry),
    /// An intact head whose payload is damaged.
    Damaged(Entry),
    Nothing,
}

fn record_at(file: &dyn StorageFile, offset: u64, length: u64) -> io::Result<At> {
    let mut found = [0; RECORD_HEAD_BYTES];
    if offset + RECORD_HEAD_BYTES as u64 > length {
        return Ok(At::Nothing);
    }
    file.read_at(&mut found, offset)?;
    let Some(entry) = entry(found, offset, length) else {
        return Ok(At::Nothing);
    };
    Ok(match payload(file, entry)? {
        Some(_) => At::Record(entry),
        None => At::Damaged(entry),
    })
}

/// The first whole record at `from` or behind.
fn next_record(file: &dyn StorageFile, from: u64, length: u64) -> io::Result<Option<Entry>> {
    let mut buffer = vec![];
    let mut start = from;
    while start + (RECORD_HEAD_BYTES as u64) <= length {
        let wanted = SEARCH_BYTES.min(length - start);
        buffer.resize(usize::try_from(wanted).unwrap_or(0), 0);
        file.read_at(&mut buffer, start)?;
        for (at, head) in buffer.windows(RECORD_HEAD_BYTES).enumerate() {
            let offset = start + at as u64;
            let Some(head) = head.first_chunk() else {
                break;
            };
            if let Some(entry) = entry(*head, offset, length)
                && payload(file, entry)?.is_some()
            {
                return Ok(Some(entry));
            }
        }
        // The last bytes may be the beginning of a head.
        start += wanted - (RECORD_HEAD_BYTES as u64 - 1);
    }
    Ok(None)
}

/// The record with this head, if it is one and the file has all of it.
fn entry(found: [u8; RECORD_HEAD_BYTES], offset: u64, file_length: u64) -> Option<Entry> {
    let (length, _) = found.split_first_chunk()?;
    let length = u32::from_le_bytes(*length);
    let entry = Entry {
        at: offset + RECORD_HEAD_BYTES as u64,
        length: length as usize,
    };
    // The cheap checks first: nearly every offset of a file fails them.
    let whole = (1..=MAX_RECORD).contains(&entry.length)
        && entry.end() <= file_length
        && found == head(length, offset);
    whole.then_some(entry)
}
