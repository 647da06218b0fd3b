//! Encoding of messages to payloads, before any transport.

use bytes::{Bytes, BytesMut};

use super::{Kind, Message};
use crate::checksum::checksum;
use crate::limits::{MAX_COMMAND, MAX_PAYLOAD_BYTES};

/// A message in bytes, as it is queued for a peer before a [`Transport`](crate::Transport) frames
/// it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// The command, length and checksum of the payload.
    pub head: PacketHead,
    /// The payload; that of a block or a transaction is not copied from the message.
    pub payload: Bytes,
}

/// What a transport needs of a payload before it is read: the payload may be on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketHead {
    command: [u8; MAX_COMMAND],
    kind: Option<Kind>,
    len: usize,
    checksum: [u8; 4],
}

impl PacketHead {
    /// The command, padded with zeros.
    pub fn command(&self) -> [u8; MAX_COMMAND] {
        self.command
    }

    /// The command, if it is known.
    pub fn kind(&self) -> Option<Kind> {
        self.kind
    }

    /// Length of the payload, bytes.
    pub fn payload_len(&self) -> usize {
        self.len
    }

    /// The first four bytes of the payload's double SHA-256. Computed with the packet, since it takes
    /// long for a block and the writer must not wait for it.
    pub fn checksum(&self) -> [u8; 4] {
        self.checksum
    }
}

impl Packet {
    /// A packet of any bytes and command; `None` when they are too long for a frame.
    pub fn new(command: &str, payload: Bytes) -> Option<Self> {
        let mut padded = [0; MAX_COMMAND];
        padded
            .get_mut(..command.len())?
            .copy_from_slice(command.as_bytes());
        (payload.len() <= MAX_PAYLOAD_BYTES).then(|| Self {
            head: PacketHead {
                command: padded,
                kind: Kind::from_name(command),
                len: payload.len(),
                checksum: checksum(&payload),
            },
            payload,
        })
    }
}

impl Message {
    /// The message as a packet. Blocks and transactions are not copied.
    pub fn packet(&self) -> Packet {
        let payload = self.shared_payload().cloned().unwrap_or_else(|| {
            let mut payload = BytesMut::with_capacity(self.payload_len());
            self.encode_payload(&mut payload);
            payload.freeze()
        });
        Packet::new(self.command(), payload).expect("our messages fit a frame")
    }

    /// Length of the payload, bytes.
    ///
    /// # Panics
    ///
    /// When it is above [`MAX_PAYLOAD_BYTES`]: the caller must bound what it sends.
    pub fn payload_len(&self) -> usize {
        let len = self.length();
        assert!(
            len <= MAX_PAYLOAD_BYTES,
            "{len} bytes are too long for a frame"
        );
        len
    }
}
