//! The hash of frames.

use sha2::{Digest, Sha256};

/// Double SHA-256.
pub(crate) fn sha256d(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(Sha256::digest(bytes)).into()
}

/// The checksum of a frame: the first four bytes of the double SHA-256 of its payload.
pub fn checksum(payload: &[u8]) -> [u8; 4] {
    let hash = sha256d(payload);
    [hash[0], hash[1], hash[2], hash[3]]
}
