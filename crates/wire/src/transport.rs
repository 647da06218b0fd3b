//! Framing of a connection's messages, which only the writer does, so that queued messages fit
//! every transport.

use bitcoin::p2p::Magic;
use bytes::{BufMut, Bytes, BytesMut};

use crate::checksum::checksum;
use crate::frame::{HEADER_BYTES, encode_head, head};
use crate::message::{Message, Packet, PacketHead};

/// The sending half of a connection's transport.
#[derive(Debug)]
pub enum Transport {
    /// Unencrypted frames.
    V1(V1),
}

/// The original transport: magic, command, length and checksum before each payload.
#[derive(Debug)]
pub struct V1 {
    magic: Magic,
}

impl Transport {
    /// Unencrypted frames of the network with this magic.
    pub fn v1(magic: Magic) -> Self {
        Self::V1(V1 { magic })
    }

    /// Appends the frame of `message` to `out`, its payload copied.
    pub fn frame(&mut self, message: &Message, out: &mut BytesMut) {
        match self {
            Self::V1(v1) => v1.frame(message, out),
        }
    }

    /// Appends the bytes before the payload of `packet` to `out`, and returns the rest: the
    /// payload, if this transport does not transform it.
    pub fn frame_packet(&mut self, packet: Packet, out: &mut BytesMut) -> Bytes {
        self.frame_head(&packet.head, out);
        packet.payload
    }

    /// Appends the bytes before a payload to `out`; the caller writes the payload afterwards.
    pub fn frame_head(&mut self, head: &PacketHead, out: &mut BytesMut) {
        match self {
            Self::V1(v1) => v1.frame_head(head, out),
        }
    }

    /// Bytes on the wire of a payload with its frame.
    pub fn wire_bytes(&self, payload_len: usize) -> usize {
        match self {
            Self::V1(_) => HEADER_BYTES + payload_len,
        }
    }
}

impl V1 {
    fn frame_head(&self, of: &PacketHead, out: &mut BytesMut) {
        let header = head(self.magic, of.command(), of.payload_len(), of.checksum());
        out.put_slice(&header);
    }

    fn frame(&self, message: &Message, out: &mut BytesMut) {
        let len = message.payload_len();
        out.reserve(HEADER_BYTES + len);
        let start = out.len();
        out.put_bytes(0, HEADER_BYTES);
        message.encode_payload(out);
        let (header, payload) = out[start..].split_at_mut(HEADER_BYTES);
        assert_eq!(
            payload.len(),
            len,
            "Form::length is what Form::write appends"
        );
        header.copy_from_slice(&encode_head(
            self.magic,
            message.command(),
            len,
            checksum(payload),
        ));
    }
}

impl Message {
    /// The message as one v1 frame, its payload copied.
    pub fn encode(&self, magic: Magic) -> Bytes {
        let mut frame = BytesMut::new();
        self.encode_into(magic, &mut frame);
        frame.freeze()
    }

    /// Appends the message to `out` as one v1 frame, its payload copied.
    ///
    /// Reserves exactly what the frame needs.
    pub fn encode_into(&self, magic: Magic, out: &mut BytesMut) {
        V1 { magic }.frame(self, out);
    }
}
