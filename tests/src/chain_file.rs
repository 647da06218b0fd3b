//! Files of blocks: magic (4 bytes), length (4, little-endian), block; repeated.
//!
//! The format of Bitcoin Core's `blk*.dat` and of `-loadblock`.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::Path;

use bitcoin::block::Header;
use bitcoin::consensus::deserialize;
use bytes::Bytes;
use handfast_wire::RawBlock;

/// Longest block we read, bytes. Core `MAX_BLOCK_SERIALIZED_SIZE`.
const MAX_BLOCK_BYTES: usize = 4_000_000;

/// The blocks of a file, one after another, so that 160 MB need not be held at once.
pub struct Blocks {
    input: Box<dyn Read>,
}

impl Blocks {
    /// Opens a plain file, or a bzip2 one when its name ends in `.bz2`.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = BufReader::with_capacity(1 << 20, File::open(path)?);
        let input: Box<dyn Read> = match path.extension() {
            Some(extension) if extension == "bz2" => Box::new(bzip2::read::BzDecoder::new(file)),
            _ => Box::new(file),
        };
        Ok(Self { input })
    }

    fn read_one(&mut self) -> io::Result<Option<RawBlock>> {
        let mut magic = [0; 4];
        match self.input.read(&mut magic[..1])? {
            0 => return Ok(None),
            _ => self.input.read_exact(&mut magic[1..])?,
        }
        let mut length = [0; 4];
        self.input.read_exact(&mut length)?;
        let length = u32::from_le_bytes(length) as usize;
        if !(Header::SIZE..=MAX_BLOCK_BYTES).contains(&length) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!(
                    "a block of {length} bytes; between {} and {MAX_BLOCK_BYTES} expected",
                    Header::SIZE
                ),
            ));
        }
        let mut bytes = vec![0; length];
        self.input.read_exact(&mut bytes)?;
        RawBlock::new(Bytes::from(bytes))
            .map(Some)
            .map_err(io::Error::other)
    }
}

impl Iterator for Blocks {
    type Item = io::Result<RawBlock>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read_one().transpose()
    }
}

/// All blocks of a file.
pub fn read_all(path: &Path) -> io::Result<Vec<RawBlock>> {
    Blocks::open(path)?.collect()
}

/// The headers of a file that is nothing but headers, 80 bytes each.
pub fn read_headers(path: &Path) -> io::Result<Vec<Header>> {
    let bytes = std::fs::read(path)?;
    if !bytes.len().is_multiple_of(Header::SIZE) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "not a whole number of headers",
        ));
    }
    Ok(bytes
        .chunks_exact(Header::SIZE)
        .map(|chunk| deserialize(chunk).expect("80 bytes are a header"))
        .collect())
}

/// Appends one block.
pub fn write_block(out: &mut impl Write, magic: [u8; 4], block: &[u8]) -> io::Result<()> {
    let length = u32::try_from(block.len()).expect("a block is shorter than 4 GB");
    out.write_all(&magic)?;
    out.write_all(&length.to_le_bytes())?;
    out.write_all(block)
}
