//! The managers' way to one connection.

use std::sync::Arc;

use crate::outbox::Outbox;
use crate::peer::messages::ToPeer;
use crate::stats::Counters;

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct PeerLink {
    pub(crate) actor: ToPeer,
    pub(crate) outbox: Outbox,
    pub(crate) counters: Arc<Counters>,
}
