//! What a remote can do wrong on the wire.

use bitcoin::p2p::Magic;

use crate::Network;

/// The remote broke the wire format. Every variant ends the connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The frame is of another network, or not a frame at all.
    #[error("wrong magic: {} instead of {}", name_of(*got), name_of(*expected))]
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
    /// Before the handshake was complete the frame announced a payload of more than
    /// [`crate::limits::MAX_EARLY_PAYLOAD`], or was one too many
    /// ([`crate::limits::MAX_EARLY_BYTES`]). Nothing of it was buffered.
    #[error("{command}: payload of {got} bytes ({in_all} bytes in all) before the handshake")]
    TooEarly {
        /// The command of the frame.
        command: String,
        /// Announced length, bytes.
        got: usize,
        /// Length of all frames so far with this one, bytes.
        in_all: usize,
    },
    /// A `tx` came to a codec that reads none. Nothing of it was buffered.
    #[error("tx: a transaction, though our version said that we want none (BIP37)")]
    Transaction,
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

impl DecodeError {
    /// Whether the frame is well-formed as far as it was read, and came when it must not.
    #[must_use]
    pub fn is_out_of_place(&self) -> bool {
        match self {
            Self::TooEarly { .. } | Self::Transaction => true,
            Self::WrongMagic { .. }
            | Self::PayloadTooLong { .. }
            | Self::TooManyEntries { .. }
            | Self::Truncated { .. }
            | Self::Invalid { .. } => false,
        }
    }
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

/// The magic, and which network has it: an operator who mixes networks up recognizes those.
fn name_of(magic: Magic) -> String {
    let named = Network::ALL.iter().find(|network| network.magic() == magic);
    named.map_or_else(
        || format!("{magic:x}"),
        |network| format!("{magic:x} ({network})"),
    )
}
