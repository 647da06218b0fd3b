//! What a remote can do wrong on the wire.

use bitcoin::p2p::Magic;

use crate::Network;

/// What is wrong with the bytes of a remote.
///
/// What it costs the remote is Bitcoin Core's answer to the same bytes: [`DecodeError::fault`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum DecodeError {
    /// The frame is of another network, or not a frame at all.
    #[error("wrong magic: {} instead of {}", name_of(*got), name_of(*expected))]
    WrongMagic {
        /// What the frame began with.
        got: Magic,
        /// The magic of our network.
        expected: Magic,
    },
    /// The frame announced a payload longer than any may be
    /// ([`crate::limits::MAX_PAYLOAD_BYTES`]). Nothing of it was buffered.
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
    /// A list that is there whole has more entries than the protocol allows. None of them
    /// was read.
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
    /// ([`crate::message::max_payload`]), and too long to be kept on the chance that the rest
    /// is to be ignored. It was discarded as it came.
    #[error("{command}: payload of {got} bytes, of which at most {max} mean something")]
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

/// What a remote's error means for its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The message is dropped and the connection goes on, as where Core's deserialization
    /// throws in `ProcessMessages`.
    Malformed,
    /// No frame of our network: the connection ends, as where Core's `V1Transport` returns
    /// an error.
    Framing,
    /// Well-formed as far as it was read, and not to be sent there or so: the connection
    /// ends, and nothing is held against the host.
    OutOfPlace,
    /// What no honest node sends: Core `Misbehaving`.
    Misbehaving,
}

impl DecodeError {
    /// What it means for the connection.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Truncated { .. } | Self::Invalid { .. } | Self::Overlong { .. } => {
                Fault::Malformed
            }
            Self::WrongMagic { .. } | Self::PayloadTooLong { .. } => Fault::Framing,
            Self::TooEarly { .. } | Self::Transaction => Fault::OutOfPlace,
            // Core ends the connection of who sends a long locator, and no more.
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
