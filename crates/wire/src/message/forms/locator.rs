//! The payload of `getheaders` and `getblocks`.

use bitcoin::BlockHash;
use bitcoin::hashes::Hash;
use bytes::{BufMut, Bytes, BytesMut};

use super::super::Locator;
use super::super::reader::Reader;
use super::{vec_bytes, write_list};
use crate::compact_size;
use crate::error::DecodeError;
use crate::limits::MAX_LOCATOR;

/// Protocol version in the locators we send. Core `DUMMY_VERSION`; receivers ignore it.
const VERSION: u32 = 70_016;

/// An ignored version, hashes, and the stop hash.
pub(in crate::message) struct LocatorForm;

impl super::Form for LocatorForm {
    type Payload = Locator;

    const LONGEST: usize = 4 + 1 + MAX_LOCATOR * 32 + 32;

    fn read(reader: &mut Reader<'_>, _: &Bytes) -> Result<Option<Locator>, DecodeError> {
        reader.u32("version")?;
        let hashes = reader.list(MAX_LOCATOR, 32, |reader| read_hash(reader, "locator"))?;
        let stop = read_hash(reader, "stop hash")?;
        Ok(Some(Locator { hashes, stop }))
    }

    fn length(locator: &Locator) -> usize {
        let count = locator.hashes.len();
        4 + compact_size::len(count as u64) + count * 32 + 32
    }

    fn write(locator: &Locator, out: &mut BytesMut) {
        out.put_u32_le(VERSION);
        write_list(out, &locator.hashes, write_hash);
        write_hash(out, &locator.stop);
    }

    fn heap_size(locator: &Locator) -> usize {
        vec_bytes(&locator.hashes)
    }
}

fn read_hash(reader: &mut Reader<'_>, field: &'static str) -> Result<BlockHash, DecodeError> {
    Ok(BlockHash::from_byte_array(reader.array(field)?))
}

pub(super) fn write_hash(out: &mut BytesMut, hash: &BlockHash) {
    out.put_slice(hash.as_byte_array());
}
