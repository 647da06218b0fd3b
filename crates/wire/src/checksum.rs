//! The checksum of frames.

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

/// The checksum of a payload that arrives in pieces.
#[derive(Clone, Debug, Default)]
pub(crate) struct Checksum {
    hasher: Sha256,
    /// Hashed bytes of the payload.
    hashed: usize,
}

impl Checksum {
    /// Hashes the bytes received since the last call; `received`: all bytes from the start.
    pub(crate) fn extend_to(&mut self, received: &[u8]) {
        self.hasher.update(&received[self.hashed..]);
        self.hashed = received.len();
    }

    /// Hashes the next piece of a payload that is discarded.
    pub(crate) fn extend_by(&mut self, piece: &[u8]) {
        self.hasher.update(piece);
    }

    /// The checksum of the hashed bytes.
    pub(crate) fn done(self) -> [u8; 4] {
        let hash = Sha256::digest(self.hasher.finalize());
        [hash[0], hash[1], hash[2], hash[3]]
    }
}
