//! Reads the fields of a payload, exactly as tolerant as Bitcoin Core.
//!
//! Tolerated: bytes after the last field, payloads of commands that have none, a
//! `version` that ends after any of its optional parts, a `ping` without nonce
//! (BIP31), transaction counts other than zero in `headers`, a `notfound` of any length.
//!
//! This fails where Core does: exceptions of its deserialization are [`DecodeError::Truncated`]
//! or [`DecodeError::Invalid`], misbehavior is another error.
//!
//! # Security
//!
//! A count is compared with its limit, and with what the payload can hold, before
//! anything is allocated for it.

use crate::error::DecodeError;
use crate::limits::MAX_COUNT;

/// Reads the fields of a payload; an error names the command and the field.
pub(super) struct Reader<'a> {
    command: &'static str,
    rest: &'a [u8],
    /// Bytes that came after `rest` and were discarded.
    ignored: usize,
}

impl<'a> Reader<'a> {
    /// `ignored`: bytes of the payload that came after `rest` and were discarded.
    pub(super) fn new(command: &'static str, rest: &'a [u8], ignored: usize) -> Self {
        Reader {
            command,
            rest,
            ignored,
        }
    }

    /// A field has a value that no node sends: misbehaving.
    pub(super) fn forbidden(&self, field: &'static str) -> DecodeError {
        DecodeError::Forbidden {
            command: self.command,
            field,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn truncated(&self, field: &'static str) -> DecodeError {
        DecodeError::Truncated {
            command: self.command,
            field,
        }
    }

    pub(super) fn invalid(&self, field: &'static str) -> DecodeError {
        DecodeError::Invalid {
            command: self.command,
            field,
        }
    }

    pub(super) fn take(
        &mut self,
        len: usize,
        field: &'static str,
    ) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(len)
            .ok_or_else(|| self.truncated(field))?;
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(
        &mut self,
        field: &'static str,
    ) -> Result<[u8; N], DecodeError> {
        let taken = self.take(N, field)?;
        Ok(taken.try_into().expect("take returns N bytes"))
    }

    pub(super) fn u8(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        Ok(self.array::<1>(field)?[0])
    }

    pub(super) fn u32(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        Ok(u32::from_le_bytes(self.array(field)?))
    }

    pub(super) fn i32(&mut self, field: &'static str) -> Result<i32, DecodeError> {
        Ok(i32::from_le_bytes(self.array(field)?))
    }

    pub(super) fn u64(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        Ok(u64::from_le_bytes(self.array(field)?))
    }

    pub(super) fn i64(&mut self, field: &'static str) -> Result<i64, DecodeError> {
        Ok(i64::from_le_bytes(self.array(field)?))
    }

    /// A variable-length number; only its shortest form is valid, as in Core.
    pub(super) fn compact_size(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        let (value, least) = match self.u8(field)? {
            0xfd => (u64::from(u16::from_le_bytes(self.array(field)?)), 0xfd),
            0xfe => (u64::from(self.u32(field)?), 0x1_0000),
            0xff => (self.u64(field)?, 0x1_0000_0000),
            small => (u64::from(small), 0),
        };
        if value < least {
            return Err(self.invalid(field));
        }
        Ok(value)
    }

    /// A count, at most Core's `MAX_SIZE`.
    pub(super) fn count(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        let got = self.compact_size(field)?;
        if got > MAX_COUNT {
            return Err(self.invalid(field));
        }
        Ok(got)
    }

    /// The length of a field that has at most `max` bytes.
    pub(super) fn length(&mut self, field: &'static str, max: usize) -> Result<usize, DecodeError> {
        let got = self.count(field)?;
        match usize::try_from(got) {
            Ok(length) if length <= max => Ok(length),
            _ => Err(self.invalid(field)),
        }
    }

    pub(super) fn too_many(&self, got: u64, max: usize) -> DecodeError {
        DecodeError::TooManyEntries {
            command: self.command,
            got,
            max,
        }
    }

    /// A counted list. `least` is the length of the shortest entry, bytes.
    pub(super) fn list<T>(
        &mut self,
        max: usize,
        least: usize,
        entry: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let got = self.count("count")?;
        self.entries(got, max, least, entry)
    }

    /// The entries of a list: the allocation is never larger than the payload can fill.
    pub(super) fn entries<T>(
        &mut self,
        got: u64,
        max: usize,
        least: usize,
        mut entry: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let there = self.rest.len().saturating_add(self.ignored) / least;
        let count = usize::try_from(got).unwrap_or(usize::MAX);
        if count > there {
            return Err(self.truncated("entries"));
        }
        if count > max {
            return Err(self.too_many(got, max));
        }
        let mut list = Vec::with_capacity(count.min(self.rest.len() / least));
        for _ in 0..count {
            list.push(entry(self)?);
        }
        Ok(list)
    }
}
