//! Headers, blocks and transactions.

use bitcoin::block::Header;
use bitcoin::hashes::Hash;
use bytes::{BufMut, Bytes, BytesMut};

use super::super::reader::Reader;
use super::super::{Kind, RawBlock};
use super::locator::write_hash;
use super::{COUNT, Form, vec_bytes, write_list};
use crate::compact_size;
use crate::error::DecodeError;
use crate::limits::{MAX_HEADERS, MAX_PAYLOAD_BYTES};

/// A header and the count of no transactions, bytes.
const ENTRY: usize = Header::SIZE + 1;

/// A list of headers, of which Core checks the count before it reads any.
pub(in crate::message) struct Headers;

impl Form for Headers {
    type Payload = Vec<Header>;

    const LONGEST: usize = COUNT + MAX_HEADERS * ENTRY;

    fn read(reader: &mut Reader<'_>, _: &Bytes) -> Result<Option<Vec<Header>>, DecodeError> {
        let got = reader.count("count")?;
        if got > MAX_HEADERS as u64 {
            return Err(reader.too_many(got, MAX_HEADERS));
        }
        let list = reader.entries(got, MAX_HEADERS, ENTRY, |reader| {
            let header = read_header(reader)?;
            // Always zero, for no transactions follow. Core reads and ignores it.
            reader.compact_size("transaction count")?;
            Ok(header)
        });
        list.map(Some)
    }

    fn length(list: &Vec<Header>) -> usize {
        compact_size::len(list.len() as u64) + list.len() * ENTRY
    }

    fn write(list: &Vec<Header>, out: &mut BytesMut) {
        write_list(out, list, |out, header| {
            write_header(out, header);
            out.put_u8(0);
        });
    }

    fn heap_size(list: &Vec<Header>) -> usize {
        vec_bytes(list)
    }

    fn entries(list: &Vec<Header>) -> usize {
        list.len()
    }
}

/// A block, of which only the header is decoded.
pub(in crate::message) struct RawBlockForm;

impl Form for RawBlockForm {
    type Payload = RawBlock;

    const LONGEST: usize = MAX_PAYLOAD_BYTES;

    fn read(_: &mut Reader<'_>, bytes: &Bytes) -> Result<Option<RawBlock>, DecodeError> {
        RawBlock::new(bytes.clone()).map(Some)
    }

    fn length(block: &RawBlock) -> usize {
        block.bytes.len()
    }

    fn write(block: &RawBlock, out: &mut BytesMut) {
        out.put_slice(&block.bytes);
    }

    fn heap_size(block: &RawBlock) -> usize {
        block.bytes.len()
    }

    fn shared(block: &RawBlock) -> Option<&Bytes> {
        Some(&block.bytes)
    }
}

impl RawBlock {
    /// Wraps a serialized block. Only the header is decoded.
    pub fn new(bytes: Bytes) -> Result<RawBlock, DecodeError> {
        let reader = &mut Reader::new(Kind::Block.name(), &bytes, 0);
        let header = read_header(reader)?;
        if reader.is_empty() {
            return Err(reader.truncated("transactions"));
        }
        Ok(RawBlock {
            hash: header.block_hash(),
            header,
            bytes,
        })
    }
}

/// A transaction, which is not decoded.
pub(in crate::message) struct TxForm;

impl Form for TxForm {
    type Payload = Bytes;

    const LONGEST: usize = MAX_PAYLOAD_BYTES;

    fn read(_: &mut Reader<'_>, bytes: &Bytes) -> Result<Option<Bytes>, DecodeError> {
        Ok(Some(bytes.clone()))
    }

    fn length(bytes: &Bytes) -> usize {
        bytes.len()
    }

    fn write(bytes: &Bytes, out: &mut BytesMut) {
        out.put_slice(bytes);
    }

    fn heap_size(bytes: &Bytes) -> usize {
        bytes.len()
    }

    fn shared(bytes: &Bytes) -> Option<&Bytes> {
        Some(bytes)
    }
}

fn read_header(reader: &mut Reader<'_>) -> Result<Header, DecodeError> {
    let bytes = reader.take(Header::SIZE, "header")?;
    Ok(bitcoin::consensus::deserialize(bytes).expect("every 80 bytes are a header"))
}

fn write_header(out: &mut BytesMut, header: &Header) {
    out.put_i32_le(header.version.to_consensus());
    write_hash(out, &header.prev_blockhash);
    out.put_slice(header.merkle_root.as_byte_array());
    out.put_u32_le(header.time);
    out.put_u32_le(header.bits.to_consensus());
    out.put_u32_le(header.nonce);
}
