//! Every decision of the Bitcoin P2P protocol, as pure state machines.
//!
//! A machine has `step(now, input) -> effects` and `deadline()`. It owns no
//! socket, no clock and no source of randomness but the seed it was given, so
//! that the same inputs always give the same effects: a failing run is
//! reproduced from its seed. The actors of `node` turn messages into inputs and
//! perform the effects; they decide nothing about Bitcoin.
//!
//! | module | machine or facts |
//! |---|---|
//! | [`lifecycle`] | L1-L6: who may know what of a connection, and when; and the [`lifecycle::Ledger`] that checks it |
//! | [`session`] | one connection: handshake, ping, inactivity |
//! | [`handshake_limiter`] | who may be in the handshake at the same time |
//! | [`self_probe`] | whether a listening socket still accepts |
//! | [`peer_table`] | all connections: admission, dialling, addresses |
//! | [`address_book`] | where other nodes may be found |
//! | [`address_relay`] | which address is relayed to which peers, and when our own is announced |
//! | [`bans`] | addresses that are not welcome |
//! | [`random`] | seeded choices |
//! | [`receiving`] | when a socket is read, and how much memory large frames may take |
//! | [`fair_queue`] | in which order a manager handles what peers sent |
//! | [`headers`] | the header tree and how headers are received and served |
//! | [`sync`] | header and block sync over all peers |
//! | [`mining`] | block templates, and what is mined when |
//! | [`timers`] | when a machine wants to be woken |

pub mod address_book;
pub mod address_relay;
pub mod bans;
pub mod fair_queue;
pub mod handshake_limiter;
pub mod headers;
pub mod lifecycle;
pub mod mining;
pub mod peer_table;
pub mod random;
pub mod receiving;
pub mod self_probe;
pub mod session;
pub mod sync;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod text;
pub mod time;
pub mod timers;

pub use lifecycle::{ConnId, Direction, DoneReason, VersionInfo};
pub use time::Now;
