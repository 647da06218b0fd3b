//! Bytes to Bitcoin P2P messages and back: frame codec, limits, network parameters.
//!
//! No socket, clock or actor lives here.
//!
//! * [`Codec`] turns a byte stream into [`Frame`]s and messages into bytes.
//! * [`Message`] is one message; [`Message::decode`] and [`Message::encode`] work
//!   without a transport.
//! * [`Network`] knows what differs between the networks.
//! * [`limits`] holds every bound that a remote could want to exceed.

mod checksum;
mod compact_size;
mod error;
pub mod frame;
pub mod limits;
pub mod message;
pub mod network;
#[cfg(test)]
mod testing;

pub use checksum::checksum;
pub use error::{CodecError, DecodeError, Fault};
pub use frame::{Codec, Frame, Garbled, HEADER_BYTES, MAX_READ_AHEAD, MIN_READ_AHEAD, encode_head};
pub use message::{Encoded, Kind, Locator, Message, RawBlock, Version};
pub use network::{Network, UnknownNetwork};
