//! Bytes to Bitcoin P2P messages and back: frame codec, limits, network parameters.
//!
//! No socket, clock or actor lives here.

pub mod limits;
pub mod message;
pub mod network;

pub use message::{Message, RawBlock};
pub use network::Network;
