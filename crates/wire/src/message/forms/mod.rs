//! Reading and writing of payloads.

mod addresses;
mod chain;
mod inventory;
pub(super) mod locator;
mod numbers;
mod version;

pub(super) use addresses::{AddrEntry, AddrV2Entry};
pub(super) use chain::{Headers, RawBlockForm, TxForm};
pub(super) use inventory::InventoryEntry;
pub(super) use numbers::{FeeRate, Nonce, PongNonce, SendCmpctForm};
pub(super) use version::VersionForm;

use std::marker::PhantomData;

use bytes::{Bytes, BytesMut};

use super::reader::Reader;
use crate::compact_size;
use crate::error::DecodeError;

/// Longest count of a list: all are below 65,536.
const COUNT: usize = 3;

/// The form of a payload.
pub(super) trait Form {
    /// The decoded payload.
    type Payload;

    /// The longest well-formed payload, bytes.
    const LONGEST: usize;

    /// Reads a payload; `bytes` is all that was buffered of it. `None`: it is ignored, like an
    /// unknown command.
    fn read(reader: &mut Reader<'_>, bytes: &Bytes) -> Result<Option<Self::Payload>, DecodeError>;

    /// The length that [`Form::write`] appends, bytes.
    fn length(payload: &Self::Payload) -> usize;

    /// Appends the payload to `out`.
    fn write(payload: &Self::Payload, out: &mut BytesMut);

    /// Memory besides the payload's own size, bytes.
    fn heap_size(_: &Self::Payload) -> usize {
        0
    }

    /// Entries, of a list.
    fn entries(_: &Self::Payload) -> usize {
        0
    }

    /// The payload, if it exists as bytes.
    fn shared(_: &Self::Payload) -> Option<&Bytes> {
        None
    }
}

/// The form of an entry of a list.
pub(super) trait Entry {
    /// The decoded entry.
    type Value;

    /// The lengths of the shortest and the longest entry, bytes.
    const BYTES: (usize, usize);

    /// Reads an entry.
    fn read(reader: &mut Reader<'_>) -> Result<Self::Value, DecodeError>;

    /// The length that [`Entry::write`] appends, bytes.
    fn length(_: &Self::Value) -> usize {
        Self::BYTES.0
    }

    /// Appends the entry to `out`.
    fn write(value: &Self::Value, out: &mut BytesMut);

    /// Memory besides its own size, bytes.
    fn heap_size(_: &Self::Value) -> usize {
        0
    }
}

/// A count and at most `MAX` entries. Core checks the count when all were read.
pub(super) struct List<E, const MAX: usize>(PhantomData<E>);

impl<E: Entry, const MAX: usize> Form for List<E, MAX> {
    type Payload = Vec<E::Value>;

    const LONGEST: usize = COUNT + MAX * E::BYTES.1;

    fn read(reader: &mut Reader<'_>, _: &Bytes) -> Result<Option<Vec<E::Value>>, DecodeError> {
        reader.list(MAX, E::BYTES.0, E::read).map(Some)
    }

    fn length(list: &Vec<E::Value>) -> usize {
        compact_size::len(list.len() as u64) + list.iter().map(E::length).sum::<usize>()
    }

    fn write(list: &Vec<E::Value>, out: &mut BytesMut) {
        write_list(out, list, |out, entry| E::write(entry, out));
    }

    fn heap_size(list: &Vec<E::Value>) -> usize {
        vec_bytes(list) + list.iter().map(E::heap_size).sum::<usize>()
    }

    fn entries(list: &Vec<E::Value>) -> usize {
        list.len()
    }
}

/// The same form, but a list that is too long is ignored, as Core does with a `notfound` that is
/// longer than any of its requests.
pub(super) struct TooManyIgnored<F>(PhantomData<F>);

impl<F: Form> Form for TooManyIgnored<F> {
    type Payload = F::Payload;

    const LONGEST: usize = F::LONGEST;

    fn read(reader: &mut Reader<'_>, bytes: &Bytes) -> Result<Option<F::Payload>, DecodeError> {
        match F::read(reader, bytes) {
            Err(DecodeError::TooManyEntries { .. }) => Ok(None),
            read => read,
        }
    }

    fn length(payload: &F::Payload) -> usize {
        F::length(payload)
    }

    fn write(payload: &F::Payload, out: &mut BytesMut) {
        F::write(payload, out);
    }

    fn heap_size(payload: &F::Payload) -> usize {
        F::heap_size(payload)
    }

    fn entries(payload: &F::Payload) -> usize {
        F::entries(payload)
    }
}

fn write_list<T>(out: &mut BytesMut, list: &[T], mut write: impl FnMut(&mut BytesMut, &T)) {
    compact_size::write(out, list.len() as u64);
    for entry in list {
        write(out, entry);
    }
}

fn vec_bytes<T>(list: &Vec<T>) -> usize {
    list.capacity() * size_of::<T>()
}
