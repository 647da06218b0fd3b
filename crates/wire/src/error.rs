//! Decoding errors of a remote's bytes.

use bitcoin::p2p::Magic;

use crate::Network;

/// An error in a remote's bytes.
///
/// Its consequence for the remote is that of Bitcoin Core: [`DecodeError::fault`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum DecodeError {
    /// The frame is of another network, or not a frame.
    #[error("wrong magic: {} instead of {}", name_of(*got), name_of(*expected))]
    WrongMagic {
        /// The magic of the frame.
        got: Magic,
        /// The magic of our network.
        expected: Magic,
    },
    /// The frame announced a payload longer than
    /// [`crate::limits::MAX_PAYLOAD_BYTES`]. Nothing of it was buffered.
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
    /// [`crate::limits::MAX_EARLY_PAYLOAD`], or exceeded
    /// [`crate::limits::MAX_EARLY_BYTES`]. Nothing of it was buffered.
    #[error("{command}: payload of {got} bytes ({in_all} bytes in all) before the handshake")]
    TooEarly {
        /// The command of the frame.
        command: String,
        /// Announced length, bytes.
        got: usize,
        /// Length of all frames so far with this one, bytes.
        in_all: usize,
    },
    /// A `tx` for a codec that refuses transactions. Nothing of it was buffered.
    #[error("tx: a transaction, though our version said that we want none (BIP37)")]
    Transaction,
    /// A complete list has more entries than the protocol allows. None of them was read.
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
    /// The payload is longer than any well-formed one of its command
    /// ([`crate::message::max_payload`]), and too long to be buffered as if the rest were to be
    /// ignored. It was discarded as it came.
    #[error("{command}: payload of {got} bytes, of which at most {max} are read")]
    Overlong {
        /// The command of the frame.
        command: &'static str,
        /// Announced length, bytes.
        got: usize,
        /// Longest length that is read, bytes.
        max: usize,
    },
    /// A field has a value that its type allows and the protocol forbids.
    #[error("{command}: {field} has a value that the protocol forbids")]
    Forbidden {
        /// The command of the frame.
        command: &'static str,
        /// The field with that value.
        field: &'static str,
    },
}

/// The consequence of a remote's error for its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The message is dropped and the connection stays, as when Core's deserialization throws
    /// in `ProcessMessages`.
    Malformed,
    /// Not a frame of our network: the peer is disconnected, as when Core's `V1Transport`
    /// returns an error.
    Framing,
    /// Well-formed as far as it was read, but not allowed in this state or form: the peer is
    /// disconnected, and the host is not discouraged.
    OutOfPlace,
    /// Bytes that no honest node sends: Core `Misbehaving`.
    Misbehaving,
}

impl DecodeError {
    /// The consequence for the connection.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Truncated { .. } | Self::Invalid { .. } | Self::Overlong { .. } => {
                Fault::Malformed
            }
            Self::WrongMagic { .. } | Self::PayloadTooLong { .. } => Fault::Framing,
            Self::TooEarly { .. } | Self::Transaction => Fault::OutOfPlace,
            // Core only disconnects a peer that sends an oversized locator.
            Self::TooManyEntries {
                command: "getheaders" | "getblocks",
                ..
            } => Fault::OutOfPlace,
            Self::TooManyEntries { .. } | Self::Forbidden { .. } => Fault::Misbehaving,
        }
    }
}

/// Why [`crate::Codec`] yields no more frames.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The remote broke the wire format.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The underlying stream failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// The magic and the network that has it, so that an operator recognizes a mix-up of networks.
fn name_of(magic: Magic) -> String {
    let named = Network::ALL.iter().find(|network| network.magic() == magic);
    named.map_or_else(
        || format!("{magic:x}"),
        |network| format!("{magic:x} ({network})"),
    )
}
