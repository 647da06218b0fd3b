//! What a remote can do wrong on the wire.

use bitcoin::p2p::Magic;

/// The remote broke the wire format. Every variant ends the connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The frame is of another network, or not a frame at all.
    #[error("wrong magic: {got:x} instead of {expected:x}")]
    WrongMagic {
        /// What the frame began with.
        got: Magic,
        /// The magic of our network.
        expected: Magic,
    },
    /// The frame announced a payload longer than its command allows
    /// ([`crate::limits::max_payload`]). Nothing of it was buffered.
    #[error("{command}: payload of {got} bytes, at most {max}")]
    PayloadTooLong {
        /// The command of the frame.
        command: String,
        /// Announced length, bytes.
        got: usize,
        /// Longest length allowed, bytes.
        max: usize,
    },
    /// A list has more entries than the protocol allows. None of them was read.
    #[error("{command}: {got} entries, at most {max}")]
    TooManyEntries {
        /// The command of the frame.
        command: &'static str,
        /// Announced entries.
        got: u64,
        /// Entries allowed.
        max: usize,
    },
    /// The payload ended inside a field that is not optional.
    #[error("{command}: payload ends inside {field}")]
    Truncated {
        /// The command of the frame.
        command: &'static str,
        /// The field that could not be read.
        field: &'static str,
    },
    /// A field has a value that its type forbids.
    #[error("{command}: invalid {field}")]
    Invalid {
        /// The command of the frame.
        command: &'static str,
        /// The field with that value.
        field: &'static str,
    },
}

/// Why [`crate::Codec`] yields no more frames.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The remote broke the wire format.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The stream below failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}
