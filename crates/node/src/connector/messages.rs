//! The messages of `Connector`; `Listener` receives [`StopAccepting`] too.

use std::net::SocketAddr;

use handfast_proto::lifecycle::Direction;

use crate::post::{asked, posted};

/// Connect to `addr`.
#[derive(Debug)]
pub(crate) struct Dial {
    /// The address.
    pub(crate) addr: SocketAddr,
    /// [`Direction::Outbound`] or [`Direction::Manual`].
    pub(crate) direction: Direction,
    /// The name by which the operator added it.
    pub(crate) name: Option<String>,
}

/// Resolve a name.
#[derive(Debug)]
pub(crate) struct Resolve {
    /// Returned in [`Resolved`].
    pub(crate) name: String,
    /// The host to look up.
    pub(crate) host: String,
    /// The port of the resulting addresses.
    pub(crate) port: u16,
    /// Whether it is a DNS seed.
    pub(crate) seeds: bool,
}

/// Phase "accepting": stop accepting and dialling.
#[derive(Debug)]
pub(crate) struct StopAccepting;

posted!(by request: Dial, Resolve);

asked! {
    StopAccepting => (),
}
