//! What `Connector`, and of [`StopIntake`] `Listener` is sent.

use std::net::SocketAddr;

use handfast_proto::lifecycle::Direction;

use crate::post::{asked, posted};

/// Connect to `addr`.
#[derive(Debug)]
pub(crate) struct Dial {
    /// Where to.
    pub(crate) addr: SocketAddr,
    /// [`Direction::Outbound`] or [`Direction::Manual`].
    pub(crate) direction: Direction,
    /// The operator's name for it.
    pub(crate) name: Option<String>,
}

/// Find the addresses of a name.
#[derive(Debug)]
pub(crate) struct Resolve {
    /// Comes back in [`Resolved`].
    pub(crate) name: String,
    /// What to look up.
    pub(crate) host: String,
    /// The port that the addresses get.
    pub(crate) port: u16,
    /// Whether it is a DNS seed.
    pub(crate) seeds: bool,
}

/// Phase "intake": accept and dial no more.
#[derive(Debug)]
pub(crate) struct StopIntake;

posted!(by request: Dial, Resolve);

asked! {
    StopIntake => (),
}
