//! What `Node` is sent.

use actix::Recipient;
use handfast_chain::{Chain, OpenError};
use handfast_proto::address_book::Row;
use handfast_proto::bans::BanList;
use handfast_proto::headers::HeaderTree;
use handfast_proto::mining::Totals;

use crate::post::posted;

/// Shut the node down.
#[derive(Debug)]
pub(crate) struct Shutdown {
    /// Who wants it, or why.
    pub(crate) why: String,
}

/// An actor or thread that the node cannot run without has ended on its own.
#[derive(Debug)]
pub(crate) struct ActorDied {
    /// Which.
    pub(crate) who: &'static str,
    /// How.
    pub(crate) how: String,
}

/// The kernel was opened, or cannot be.
#[derive(Debug)]
pub(crate) struct Opened(pub(crate) Result<Box<Open>, OpenError>);

posted!(rare: Shutdown, ActorDied, Opened);

/// The way to `Node`.
#[derive(Clone, Debug)]
pub(crate) struct ToNode {
    pub(crate) shutdown: Recipient<Shutdown>,
    pub(crate) died: Recipient<ActorDied>,
    pub(crate) opened: Recipient<Opened>,
}

/// What an open chain begins with.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) chain: Chain,
    pub(crate) tree: HeaderTree,
    pub(crate) addresses: Vec<Row>,
    pub(crate) bans: BanList,
    /// Of the runs before.
    pub(crate) mined: Totals,
}
