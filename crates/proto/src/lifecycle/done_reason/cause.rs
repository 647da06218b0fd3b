//! What a reason holds beyond its kind.

use std::fmt;
use std::io;

use bitcoin::BlockHash;
use handfast_wire::DecodeError;

use crate::text::system_words;

/// An error of a socket, as far as it is a value. Its `Display` is the system's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IoFailure {
    /// The class of the error.
    pub kind: io::ErrorKind,
    /// The operating system's number, where the error came from there.
    pub os: Option<i32>,
}

impl From<&io::Error> for IoFailure {
    fn from(error: &io::Error) -> Self {
        Self {
            kind: error.kind(),
            os: error.raw_os_error(),
        }
    }
}

impl From<io::ErrorKind> for IoFailure {
    fn from(kind: io::ErrorKind) -> Self {
        Self { kind, os: None }
    }
}

impl fmt::Display for IoFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&match self.os {
            Some(os) => system_words(&io::Error::from_raw_os_error(os)),
            None => system_words(&self.kind),
        })
    }
}

/// What no honest node does.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Misbehavior {
    /// It sent a message with a value or a length that the protocol forbids.
    #[error(transparent)]
    Message(DecodeError),
    /// It sent a block that was not asked for and whose parent we do not know.
    #[error("block {block} was not asked for, and its parent is unknown")]
    UnaskedOrphan {
        /// The block.
        block: BlockHash,
    },
}

/// A well-formed message at a time, or of a kind, that the protocol does not allow.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum OutOfPlace {
    /// The decoder refused the frame.
    #[error(transparent)]
    Frame(DecodeError),
    /// A feature is negotiated before `verack`.
    #[error("a feature message after verack (BIP155, BIP339)")]
    FeatureAfterVerack,
    /// A transaction came or was announced.
    #[error("a transaction, though our version said that we want none (BIP37)")]
    Transaction,
}

/// Why there is no slot for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum SlotRefusal {
    /// No inbound peer may be evicted for it.
    #[error("all {slots} inbound slots are taken")]
    InboundFull {
        /// Slots for inbound peers.
        slots: usize,
    },
    /// The peer that would be evicted for it has just come.
    #[error("all inbound slots are taken, one by a peer that was just admitted")]
    JustCame,
    /// We dialled more than there are slots for.
    #[error("all {slots} outbound slots are taken")]
    OutboundFull {
        /// Slots for peers that are dialled automatically.
        slots: usize,
    },
}
