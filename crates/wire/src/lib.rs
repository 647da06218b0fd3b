//! Bytes to Bitcoin P2P messages and back: frame codec, limits, network parameters.
//!
//! This crate has no socket, clock or actor.
//!
//! * `message::table` has a row for every message: its command, payload, limits, handler and
//!   cost.
//! * [`Codec`] turns a byte stream into [`Frame`]s, [`Transport`] messages into bytes.
//! * [`Message`] is one message, [`Packet`] its bytes before a transport frames them.
//! * [`Network`] has the parameters of each network.
//! * [`limits`] has the bounds of everything that a remote sends, [`constants`] the other numbers of
//!   the protocol.

mod checksum;
mod compact_size;
pub mod constants;
mod error;
pub mod frame;
pub mod limits;
pub mod message;
pub mod network;
#[cfg(test)]
mod testing;
mod transport;

pub use checksum::checksum;
pub use error::{CodecError, DecodeError, Fault};
pub use frame::{Codec, Frame, Garbled, HEADER_BYTES, MAX_READ_AHEAD, MIN_READ_AHEAD, encode_head};
pub use message::{
    Cost, Exchange, HandledBy, Kind, Locator, Message, Packet, PacketHead, RawBlock, SendCmpct,
    Version, When, service_not_offered,
};
pub use network::{Network, UnknownNetwork};
pub use transport::{Transport, V1};
