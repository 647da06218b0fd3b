//! Bytes to Bitcoin P2P messages and back: frame codec, limits, network parameters.
//!
//! No socket, clock or actor lives here.
//!
//! * [`message::table`] has a row for every message: its command, payload, limits, who handles
//!   it and what that costs.
//! * [`Codec`] turns a byte stream into [`Frame`]s, [`Transport`] messages into bytes.
//! * [`Message`] is one message, [`Packet`] the same in bytes before a transport frames it.
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
