//! Conversions between the kernel's handles and `bitcoin`'s plain types.

use bitcoin::block::Header;
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, consensus};
use bitcoinkernel::core::block::BlockHeaderRef;
use bitcoinkernel::prelude::*;
use bitcoinkernel::{BlockHeader, BlockTreeEntry};

pub(crate) fn hash(hash: &impl BlockHashExt) -> BlockHash {
    BlockHash::from_byte_array(hash.to_bytes())
}

pub(crate) fn kernel_hash(hash: &BlockHash) -> bitcoinkernel::BlockHash {
    bitcoinkernel::BlockHash::from(hash.to_byte_array())
}

pub(crate) fn kernel_header(header: &Header) -> BlockHeader {
    BlockHeader::new(&consensus::serialize(header)).expect("a header has 80 bytes")
}

/// The header of an index entry.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that frees what it makes"
)]
pub(crate) fn header(entry: &BlockTreeEntry<'_>) -> Header {
    let bytes = owned(entry.header())
        .consensus_encode()
        .expect("the kernel can serialize a header it holds");
    consensus::deserialize(&bytes).expect("80 bytes are a header")
}

/// Takes ownership of the header that [`BlockTreeEntry::header`] made, so that it is freed.
///
/// `btck_block_tree_entry_get_block_header` returns a new object for the caller
/// to destroy, but `bitcoinkernel` 0.3.2 wraps it as a borrowed one, which never
/// is: 96 bytes lost per call, some 90 MB per start on mainnet. The version is
/// pinned in the workspace for this function; remove it when that is fixed.
#[allow(unsafe_code)]
fn owned(header: BlockHeaderRef<'_>) -> BlockHeader {
    const _: () = assert!(size_of::<BlockHeaderRef<'_>>() == size_of::<*const u8>());
    const _: () = assert!(size_of::<BlockHeader>() == size_of::<*const u8>());
    // SAFETY: both types are one non-null pointer to a C header and nothing else
    // (sizes asserted, so it lies at offset 0). The C function gave ownership to
    // its caller, `BlockHeaderRef` has no `Drop`, and `header` is consumed here,
    // so the pointer gets exactly one owner.
    unsafe { std::mem::transmute::<BlockHeaderRef<'_>, BlockHeader>(header) }
}
