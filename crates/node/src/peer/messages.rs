//! What a connection's `Peer` is sent.

use actix::Recipient;
use bitcoin::BlockHash;
use handfast_proto::lifecycle::{ConnId, DoneReason, Role};

use crate::post::posted;

/// End this connection.
#[derive(Debug)]
pub(crate) struct Disconnect(pub(crate) DoneReason);

/// Send a `ping`.
#[derive(Debug)]
pub(crate) struct Ping;

/// A subscriber wants a block sent to a connection.
#[derive(Debug)]
pub(crate) struct ServeBlock {
    /// Whose order it is.
    pub(crate) from: Role,
    /// The connection.
    pub(crate) id: ConnId,
    /// Comes back with [`Served`].
    pub(crate) ticket: u64,
    /// The block.
    pub(crate) hash: BlockHash,
    /// With witness data.
    pub(crate) witness: bool,
}

posted!(by request: Disconnect, ServeBlock);
posted!(rare: Ping);

/// The way to a connection's actor.
#[derive(Clone, Debug)]
pub(crate) struct ToPeer {
    pub(crate) disconnect: Recipient<Disconnect>,
    pub(crate) ping: Recipient<Ping>,
    pub(crate) serve: Recipient<ServeBlock>,
}
