//! Records that are durable when [`Journal::append`] returns.
//!
//! ```text
//! file    magic 8 | version 4 | checksum of these 4 | record…
//! record  length 4 | checksum of length and offset 4 | payload | SHA-256 of the payload 32
//! ```
//!
//! Numbers are little endian. The small checksums are the first bytes of a SHA-256. A
//! record's head commits to its offset in the file too, so that bytes of an older file
//! that a file system left behind the end are not taken for records.
//!
//! # Damage
//! A process or system that ends within an append leaves a part of it behind the last
//! whole record, and a drive can damage any byte. The two look the same, so opening does not
//! distinguish them: it searches the whole file for whole records, behind damage too, and
//! leaves out the rest. The damaged file gets a second name, under which it stays
//! unchanged, before the first append writes the records to a new one.
//!
//! # After a failure
//! A failed write is undone by truncating the file to its last good record. When
//! that fails, or when `fsync` failed, the contents on disk are unknown: Linux
//! drops the pages that it could not write and reports that once, so that a second
//! `fsync` succeeds without anything being written. The journal is marked then, and the
//! next append first writes all good records to a new file. The same applies after opening an
//! existing file: the previous process may have ended after such a failure, and the contents,
//! even the file's name, may be in the system's memory only.

mod record;

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

pub use record::{Format, MAX_RECORD};

use crate::storage::{Opened, Storage, StorageFile};
use record::{Entry, HEAD_BYTES, Scan, Scanned};

/// Copied at once when records move to a new file, bytes.
const COPY_BYTES: usize = 1 << 20;

/// What opening a journal found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Records that can be read.
    pub records: usize,
    /// Bytes behind the last record that can be read: an interrupted write, or damage.
    pub unread: u64,
    /// Damaged ranges before it: a record, several, or the head.
    pub damaged: usize,
    /// The quarantine name of the unchanged file, if one of these is not zero.
    pub copy: Option<PathBuf>,
    /// The quarantine name of the file, if it was not a journal of this format.
    pub quarantined: Option<PathBuf>,
}

/// An append-only list of records. See the module.
///
/// No file is made before the first append.
pub struct Journal {
    storage: Box<dyn Storage>,
    format: Format,
    file: Option<Box<dyn StorageFile>>,
    entries: Vec<Entry>,
    /// Offset of the next record.
    end: u64,
    /// The contents on disk are unknown.
    doubtful: bool,
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal")
            .field("path", &self.storage.name())
            .field("records", &self.entries.len())
            .field("bytes", &self.end)
            .field("doubtful", &self.doubtful)
            .finish_non_exhaustive()
    }
}

impl Journal {
    /// Reads the journal in `storage`, from the first record to the last. No file is an
    /// empty journal. A damaged file gets a second name, under which it stays unchanged.
    ///
    /// # Errors
    /// The system's, when the file cannot be read, quarantined or given that name: the
    /// acknowledged records are unknown then, and nothing has changed.
    pub fn open(mut storage: Box<dyn Storage>, format: Format) -> io::Result<(Journal, Found)> {
        let mut found = Found::default();
        let mut scanned = Scanned::default();
        let mut file = None;
        match storage.open()? {
            Opened::Absent => {}
            Opened::NotAFile => found.quarantined = Some(storage.quarantine()?),
            Opened::File(open) => match record::scan(&*open, format)? {
                Scan::Journal(journal) => {
                    found.unread = open.length()?.saturating_sub(journal.end);
                    found.damaged = journal.damaged;
                    if found.unread > 0 || found.damaged > 0 {
                        found.copy = Some(storage.quarantine_copy()?);
                    }
                    scanned = journal;
                    file = Some(open);
                }
                Scan::Foreign => found.quarantined = Some(storage.quarantine()?),
            },
        }
        found.records = scanned.entries.len();
        let journal = Journal {
            storage,
            format,
            doubtful: file.is_some(),
            file,
            entries: scanned.entries,
            end: scanned.end,
        };
        Ok((journal, found))
    }

    /// The number of records.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Length of the file, bytes.
    pub fn bytes(&self) -> u64 {
        self.end
    }

    /// The file's name, for messages.
    pub fn path(&self) -> &Path {
        self.storage.name()
    }

    /// The length of the payload of record `index`, bytes.
    ///
    /// # Panics
    /// If there is no such record.
    pub fn payload_length(&self, index: usize) -> usize {
        self.entries[index].length
    }

    /// The payload of record `index`, oldest first.
    ///
    /// # Errors
    /// The system's; `InvalidData` when it was damaged since it was written.
    ///
    /// # Panics
    /// If there is no such record.
    pub fn read(&self, index: usize) -> io::Result<Vec<u8>> {
        let entry = self.entries[index];
        let file = self.file.as_deref().ok_or(ErrorKind::NotFound)?;
        record::payload(file, entry)?.ok_or_else(|| {
            io::Error::new(
                ErrorKind::InvalidData,
                format!("record {index} is damaged: its checksum is wrong"),
            )
        })
    }

    /// Appends records, all or none, and returns when they are durable.
    ///
    /// # Errors
    /// The system's; `InvalidInput` if one is empty or longer than [`MAX_RECORD`]. None of
    /// them is in the journal then, and it is as good as before: the same call can be made
    /// again when the cause has gone.
    pub fn append(&mut self, payloads: &[impl AsRef<[u8]>]) -> io::Result<()> {
        if self.doubtful || self.file.is_none() {
            self.rewrite()?;
        }
        let mut bytes = vec![];
        let mut entries = vec![];
        for payload in payloads {
            let offset = self.end + bytes.len() as u64;
            entries.push(record::encode(payload.as_ref(), offset, &mut bytes)?);
        }
        let file = self.file.as_mut().ok_or(ErrorKind::NotFound)?;
        if let Err(error) = write_all(&mut **file, &bytes, self.end) {
            // The partial write may be what fills the disk, and later records would follow it.
            self.doubtful = file.set_length(self.end).is_err();
            return Err(error);
        }
        if let Err(error) = file.sync() {
            self.doubtful = true;
            return Err(error);
        }
        self.end += bytes.len() as u64;
        self.entries.extend(entries);
        Ok(())
    }

    /// Keeps the records `keep`, in this order, and drops the others: they are written to
    /// a new file, which takes the place of this one.
    ///
    /// # Errors
    /// The system's. No record of `keep` is lost then; the others may be in the file that
    /// the next opening finds, or not.
    ///
    /// # Panics
    /// If there is no such record.
    pub fn retain(&mut self, keep: &[usize]) -> io::Result<()> {
        let mut file = self.storage.create()?;
        let head = self.format.head();
        write_all(&mut *file, &head, 0)?;
        let mut end = HEAD_BYTES as u64;
        let mut entries = vec![];
        let mut bytes = vec![];
        for index in keep {
            let payload = self.read(*index)?;
            let offset = end + bytes.len() as u64;
            entries.push(record::encode(&payload, offset, &mut bytes)?);
            if bytes.len() >= COPY_BYTES {
                write_all(&mut *file, &bytes, end)?;
                end += bytes.len() as u64;
                bytes.clear();
            }
        }
        write_all(&mut *file, &bytes, end)?;
        end += bytes.len() as u64;
        file.sync()?;
        // If only the last step of this fails, the new file may have the name, or after a
        // loss of power the old one. Both are whole, but neither may be appended to.
        self.doubtful = true;
        self.storage.publish()?;
        self.doubtful = false;
        self.file = Some(file);
        self.entries = entries;
        self.end = end;
        Ok(())
    }

    /// Writes all records to a new file: proves that this can be written.
    ///
    /// # Errors
    /// As [`Journal::retain`].
    pub fn rewrite(&mut self) -> io::Result<()> {
        let all: Vec<usize> = (0..self.len()).collect();
        self.retain(&all)
    }

    /// Drops all records.
    ///
    /// # Errors
    /// As [`Journal::retain`].
    pub fn clear(&mut self) -> io::Result<()> {
        self.retain(&[])
    }
}

/// Writes all of `bytes`. A write of zero bytes means that the disk is full.
fn write_all(file: &mut dyn StorageFile, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write_at(bytes, offset) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => {
                bytes = &bytes[written..];
                offset += written as u64;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
