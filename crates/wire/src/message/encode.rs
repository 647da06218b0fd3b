//! Messages to payloads, before any transport.

use bytes::{Bytes, BytesMut};

use super::{Kind, Message};
use crate::checksum::checksum;
use crate::limits::{MAX_COMMAND, MAX_PAYLOAD_BYTES};

/// A message in bytes that a [`Transport`](crate::Transport) is still to frame: what is queued
/// for a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// What there is to say of the payload.
    pub head: PacketHead,
    /// The payload; that of a block or a transaction is the message's own, uncopied.
    pub payload: Bytes,
}

/// What a transport needs to know of a payload before it is there: it may lie on disk.
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

    /// The command, if it is one that we know.
    pub fn kind(&self) -> Option<Kind> {
        self.kind
    }

    /// Length of the payload, bytes.
    pub fn payload_len(&self) -> usize {
        self.len
    }

    /// The first four bytes of the payload's double SHA-256. Computed with the packet, since
    /// that takes long for a block, and packets are made where it keeps nobody waiting.
    pub fn checksum(&self) -> [u8; 4] {
        self.checksum
    }
}

impl Packet {
    /// Any bytes under any command; `None` when no frame carries them.
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
        Packet::new(self.command(), payload).expect("a message that we send fits a frame")
    }

    /// Length of the payload, bytes.
    ///
    /// # Panics
    ///
    /// When it is more than any frame may carry: what we send is ours to bound.
    pub fn payload_len(&self) -> usize {
        let len = self.length();
        assert!(len <= MAX_PAYLOAD_BYTES, "no frame carries {len} bytes");
        len
    }
}
